// kontor train: trains the MNIST network (mnist, or a GPT: tools/train_gpt.cpp) with forward passes only, or by backprop; or several ways, to compare them.
#include <cstdio>

#include <kontor/kontor.h>
#include <nlohmann/json.hpp>

#include "backends/backend.h"
#include "base/error.h"
#include "base/file.h"
#include "tools/resume.h"
#include "tools/run.h"
#include "tools/study.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  Settings settings;  // what the command line is read into; which of it was given is what counts
  std::string dataset = "mnist", preset, device, data, out = "out/mnist", resume;
  std::vector<std::string> compare;
  int threads = 0;
  int64_t memory_budget = 0;
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

void print_table(const Row& last, const std::string& out) {
  fmt::print("\n  steps           {}\n  loss            {:.4f}\n  test accuracy   {:.2f} %\n", last.step,
             last.loss, 100 * last.test);
  if (last.old == last.old)
    fmt::print("  of old labels   {:.2f} %\n  of the new one  {:.2f} %\n", 100 * last.old, 100 * last.fresh);
  fmt::print("  training time   {:.1f} s\n  work            {:.2f} TFLOP, {:.1f} GFLOP/s\n", last.seconds,
             last.tflop, last.seconds > 0 ? last.tflop * 1e3 / last.seconds : 0.0);
  fmt::print("  peak memory     {:.0f} MB\n", peak_megabytes());
  fmt::print(
      "  files           {}/: model.safetensors checkpoint.safetensors metrics.csv curve.svg curve.png\n",
      out);
}

// The command line that goes on: the checkpoint has what must be equal, what else was said is said again.
std::string resume_command(const CLI::App& verb, const std::string& out) {
  Arguments words{"kontor", "train", "--resume", out + "/checkpoint.safetensors", "--out", out};
  for (const SettingRow& row : setting_table()) {
    const std::string name = fmt::format("--{}", row.name);
    const CLI::Option* option = verb.get_option(name);
    const bool again = row.later == Later::Free && std::string_view(row.name) != "init";
    if (again && option->count() > 0) words.insert(words.end(), {name, option->results().back()});
  }
  for (const char* name : {"--data", "--device", "--threads", "--memory-budget"}) {
    const CLI::Option* option = verb.get_option(name);
    if (option->count() > 0) words.insert(words.end(), {name, option->results().back()});
  }
  return shell_text(words);
}

void train(const Options& o, const Settings& settings, const Data& data, const CLI::App& verb) {
  announce(settings, data);
  Run run(settings, data, o.out, "", o.resume);
  run.execute();
  print_table(run.rows().back(), o.out);
  if (interrupted == 0) return;
  fmt::print("stopped; go on with: {}\n", resume_command(verb, o.out));
  throw Exit{128 + interrupted};
}

// Each entry with what else was given, from the same weights.
void compare(const Options& o, std::span<const std::string> arguments, const Data& data) {
  if (!o.resume.empty() || !o.preset.empty())
    fail("train: --compare starts {} anew; it takes no --resume or --preset", fmt::join(o.compare, ", "));
  Study study{.name = "compare", .about = "the same weights and data, trained in several ways"};
  for (const std::string& name : o.compare) {
    const std::string method = settings_of(name, {}).method;
    study.runs.push_back({name, name, of_method(arguments, method)});
  }
  study.seeds = {o.settings.seed};
  run_study(study, data, o.out);
}

void run(const Options& o, const CLI::App& verb) {
  const Arguments arguments = given(verb);
  if (o.dataset != "mnist") fail("train: no dataset '{}'; there is: mnist", o.dataset);
  Settings settings;
  if (o.compare.empty() && o.resume.empty()) settings = settings_of(o.preset, arguments);
  else if (o.compare.empty()) settings = settings_to_resume(o.resume, o.preset, arguments);
  catch_interruptions();
  Context::set_default(
      {.device = o.device, .threads = o.threads, .seed = settings.seed, .memory_budget = o.memory_budget});
  const Data data = load_data(o.data);
  if (o.compare.empty()) return train(o, settings, data, verb);
  compare(o, arguments, data);
}

std::string preset_list() {
  std::string out =
      "Presets, of which the first of a method or plan is what it is trained with by default:\n";
  for (const Preset& p : presets())
    out += fmt::format("  {:18} {}\n  {:18} {}\n", p.name, p.about, "", p.arguments);
  return out;
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("train", "Train a network, by default with forward passes only");
  auto o = std::make_shared<Options>();
  verb->add_option("dataset", o->dataset, "mnist")->capture_default_str();
  verb->add_option("--preset", o->preset,
                   "Settings by name, as listed below; options given beside it go first")
      ->check(not_empty());
  verb->add_option("--compare", o->compare,
                   "Train in several ways, as marketplace,backprop or names of presets, and compare them")
      ->delimiter(',')
      ->allow_extra_args(false);
  add_settings(*verb, o->settings);
  verb->add_option("--threads", o->threads, "Threads (0: one a core)")->check(whole(0, 4096));
  verb->add_option(
          "--memory-budget", o->memory_budget,
          "Memory that temporaries may take, as 64MB; what is larger runs in pieces, with the same results")
      ->transform(CLI::AsSizeValue(false));
  verb->add_option("--device", o->device, device_names())->check(not_empty());
  verb->add_option("--data", o->data,
                   "Folder with the four IDX files of MNIST (default: mnist-12k, which comes with Kontor)")
      ->check(not_empty());
  verb->add_option("--out", o->out, "Folder for model, checkpoint, metrics and curve")
      ->capture_default_str()
      ->check(not_empty());
  verb->add_option("--resume", o->resume, "Go on from this checkpoint, with the settings that it has")
      ->check(not_empty());
  verb->footer(preset_list());
  add_train_gpt(*verb);
  verb->callback([o, verb] {
    if (verb->get_subcommands().empty()) return run(*o, *verb);
    for (const CLI::Option* option : verb->get_options())
      if (option->count() > 0) fail("train: {} stands before gpt, and is of mnist", option->get_name());
  });
}

}  // namespace kontor::tools
