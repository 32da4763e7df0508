// kontor train: trains the MNIST network (mnist, or a GPT: tools/train_gpt.cpp) with forward passes only, or by backprop; or several ways, to compare them.
#include <cstdio>

#include <kontor/kontor.h>

#include "base/error.h"
#include "tools/resume.h"
#include "tools/training_verb.h"
#include "tools/validators.h"

namespace kontor::tools {

namespace {

struct Options : TrainingOptions {
  Settings settings;  // what the command line is read into; which of it was given is what counts
  std::string dataset = "mnist", data;
};

void announce(const Settings& s, const Data& data) {
  fmt::print("{} {}, {} training and {} test images from {}\n", s.method,
             s.method == "marketplace" ? s.plan : s.optimizer, data.train.count, data.test.count,
             data.folder);
  fmt::print("device {}, {} threads; batch {}, steps {}, lr {:g}, decay {:g}, seed {}\n",
             Context::current().device(), Context::current().threads(), s.batch, s.steps, s.lr, s.lr_decay,
             s.seed);
  std::fflush(stdout);
}

std::vector<Line> lines_of(const Row& last) {
  std::vector<Line> out{{"test accuracy", fmt::format("{:.2f} %", 100 * last.test)}};
  if (last.old == last.old) {
    out.push_back({"of old labels", fmt::format("{:.2f} %", 100 * last.old)});
    out.push_back({"of the new one", fmt::format("{:.2f} %", 100 * last.fresh)});
  }
  out.push_back({"training time", fmt::format("{:.1f} s", last.seconds)});
  return out;
}

void train(const Options& o, const Settings& settings, const Data& data, const CLI::App& verb) {
  announce(settings, data);
  Run run(settings, data, o.out, "", o.resume);
  run.execute();
  print_table(lines_of(run.rows().back()), run.rows().back(), o.out);
  stop_if_interrupted(resume_command({"kontor", "train"}, setting_table(), verb, o.out, {"--init"}));
}

// Each entry with what else was given, from the same weights.
std::vector<StudyRun> compared(const Options& o, std::span<const std::string> arguments) {
  std::vector<StudyRun> runs;
  for (const std::string& text : o.compare) {
    const CompareEntry entry = compare_entry(text);
    const Settings own = settings_of(entry.preset, entry.own);
    runs.push_back({text, entry.preset, with_own(of_method(arguments, own.method), entry.own)});
  }
  return runs;
}

void run(Options& o, const CLI::App& verb) {
  const Arguments arguments = given_rows(setting_table(), verb);
  if (o.dataset != "mnist") fail("train: no dataset '{}'; there is: mnist", o.dataset);
  Settings settings;
  if (o.compare.empty() && o.resume.empty()) settings = settings_of(o.preset, arguments);
  else if (o.compare.empty()) settings = settings_to_resume(o.resume, o.preset, arguments);
  o.seed = o.compare.empty() ? settings.seed : o.settings.seed;
  begin_training(o);
  const Data data = load_data(o.data);
  if (o.compare.empty()) return train(o, settings, data, verb);
  compare(o, compared(o, arguments), ImageSubject(data));
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("train", "Train a network, by default with forward passes only");
  auto o = std::make_shared<Options>();
  o->out = "out/mnist";
  verb->add_option("dataset", o->dataset, "mnist")->capture_default_str();
  add_rows(setting_table(), *verb, o->settings);
  add_training_options(*verb, *o, list_of(presets(), 18));
  verb->add_option("--data", o->data,
                   "Folder with the four IDX files of MNIST (default: mnist-12k, which comes with Kontor)")
      ->check(not_empty());
  add_train_gpt(*verb);
  verb->callback([o, verb] {
    if (verb->get_subcommands().empty()) return run(*o, *verb);
    for (const CLI::Option* option : verb->get_options())
      if (option->count() > 0) fail("train: {} stands before gpt, and is of mnist", option->get_name());
  });
}

}  // namespace kontor::tools
