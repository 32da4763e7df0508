// kontor train gpt: trains a GPT on a text, by backprop or with forward passes only.
#include <cstdio>

#include <kontor/kontor.h>

#include "base/error.h"
#include "tools/models.h"
#include "tools/text_run.h"
#include "tools/training_verb.h"
#include "tools/validators.h"

namespace kontor::tools {

namespace {

struct Options : TrainingOptions {
  TextSettings settings;  // what the command line is read into; which of it was given is what counts
  std::string file;
};

void announce(const TextSettings& s, const Corpus& corpus, const TextRun& run) {
  fmt::print("gpt of {} layers, {} wide, {} heads, context {}: {} parameters\n", s.layers, s.width, s.heads,
             s.context, run.parameters());
  if (corpus.vocabulary().pairs().empty())
    fmt::print("{}: {} bytes of {} kinds to learn from, {} to check by\n", corpus.path(), corpus.training(),
               corpus.vocabulary().size(), corpus.validation());
  else
    fmt::print("{}: {} bytes to learn from, {} to check by; {} tokens of {:.2f} bytes\n", corpus.path(),
               corpus.training(), corpus.validation(), corpus.vocabulary().size(), corpus.bytes_per_token());
  fmt::print("device {}, {} threads; batch {}, {}, lr {:g}, seed {}\n", Context::current().device(),
             Context::current().threads(), s.batch,
             s.seconds > 0 ? fmt::format("{:g} seconds", s.seconds)
             : s.tflop > 0 ? fmt::format("{:g} TFLOP", s.tflop)
                           : fmt::format("{} steps", s.steps),
             s.lr, s.seed);
  std::fflush(stdout);
}

std::vector<Line> lines_of(const TextRun& run) {
  const Row& last = run.rows().back();
  const double rate = last.seconds > 0 ? last.tokens / last.seconds : 0.0;
  std::vector<Line> lines{
      {"validation loss", fmt::format("{:.4f}, {:.3f} bits a byte", last.validation, last.bits)},
      {"training time", fmt::format("{:.1f} s, {:.0f} tokens/s", last.seconds, rate)}};
  if (const std::string kept = run.kept(); !kept.empty()) lines.push_back({"training state", kept});
  return lines;
}

void train(const Options& o, const TextSettings& settings, const std::string& file, const CLI::App& verb) {
  const Corpus corpus = o.resume.empty() ? Corpus(file, vocabulary_tokens(settings.vocabulary))
                                         : Corpus(file, vocabulary_of(o.resume));
  TextRun run(settings, corpus, o.out, o.resume);
  announce(settings, corpus, run);
  run.execute();
  print_table(lines_of(run), run.rows().back(), o.out);
  Arguments again{"kontor", "train", "gpt"};
  if (!o.file.empty()) again.push_back(o.file);
  stop_if_interrupted(resume_command(again, text_setting_table(), verb, o.out, {"--seconds", "--tflop"}));
}

// Each entry with what else was given and is of its method; all of the first one's model, but for what is an entry's own.
std::vector<StudyRun> compared(const Options& o, const Arguments& arguments) {
  const TableOf<TextSettings> table = text_setting_table();
  std::vector<StudyRun> runs;
  Arguments model;
  for (const std::string& text : o.compare) {
    const CompareEntry entry = compare_entry(text);
    const std::string method = text_settings_of(entry.preset, entry.own).method;
    if (runs.empty())
      for (const RowOf<TextSettings>& row : table)
        if (row.of == Of::Model && !has(arguments, row.name))
          model.push_back(argument_of(row, value_text(text_settings_of(entry.preset, {}), row)));
    Arguments words = model;
    for (const std::string& a : arguments)
      if (!is_foreign(table, a, method)) words.push_back(a);
    runs.push_back({text, entry.preset, with_own(words, entry.own)});
  }
  return runs;
}

void run(Options& o, const CLI::App& verb) {
  const Arguments words = given_rows(text_setting_table(), verb);
  const std::string file = o.file.empty() ? shipped_data("tinyshakespeare.txt") : o.file;
  if (!o.compare.empty()) {
    o.seed = o.settings.seed;
    begin_training(o);
    return compare(o, compared(o, words), TextSubject(file));
  }
  if (!o.resume.empty() && !o.preset.empty())
    fail("train gpt: --resume has its settings; it takes no --preset");
  const TextSettings settings =
      o.resume.empty() ? text_settings_of(o.preset, words) : text_settings_to_resume(o.resume, words);
  o.seed = settings.seed;
  begin_training(o);
  train(o, settings, file, verb);
}

}  // namespace

void add_train_gpt(CLI::App& train) {
  CLI::App* verb =
      train.add_subcommand("gpt", "Train a GPT on a text, by backprop or with forward passes only");
  auto o = std::make_shared<Options>();
  o->out = "out/gpt";
  verb->add_option("file", o->file, "A text (default: tinyshakespeare.txt, which comes with Kontor)")
      ->check(not_empty());
  add_rows(text_setting_table(), *verb, o->settings);
  add_training_options(*verb, *o, list_of(text_presets(), 10));
  verb->callback([o, verb] { run(*o, *verb); });
}

}  // namespace kontor::tools
