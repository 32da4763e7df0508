// kontor train gpt: trains a GPT on a text, by backprop or with forward passes only.
#include <cstdio>

#include <kontor/kontor.h>

#include "backends/backend.h"
#include "base/error.h"
#include "tools/models.h"
#include "tools/resume.h"
#include "tools/text_run.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  TextSettings settings;  // what the command line is read into; which of it was given is what counts
  std::string file, preset, device, out = "out/gpt", resume;
  int threads = 0;
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
             s.seconds > 0 ? fmt::format("{:g} seconds", s.seconds) : fmt::format("{} steps", s.steps), s.lr,
             s.seed);
  std::fflush(stdout);
}

void print_table(const Row& last, const std::string& out) {
  fmt::print("\n  steps             {}\n  loss              {:.4f}\n", last.step, last.loss);
  fmt::print("  validation loss   {:.4f}, {:.3f} bits a byte\n", last.validation, last.bits);
  fmt::print("  training time     {:.1f} s, {:.0f} tokens/s\n", last.seconds,
             last.seconds > 0 ? last.tokens / last.seconds : 0.0);
  fmt::print("  work              {:.2f} TFLOP, {:.1f} GFLOP/s\n", last.tflop,
             last.seconds > 0 ? last.tflop * 1e3 / last.seconds : 0.0);
  fmt::print("  peak memory       {:.0f} MB\n", peak_megabytes());
  fmt::print(
      "  files             {}/: model.safetensors checkpoint.safetensors metrics.csv curve.svg curve.png\n",
      out);
}

void run(const Options& o, const CLI::App& verb) {
  const Arguments words = given_text_settings(verb);
  if (!o.resume.empty() && !o.preset.empty())
    fail("train gpt: --resume has its settings; it takes no --preset");
  const TextSettings settings =
      o.resume.empty() ? text_settings_of(o.preset, words) : text_settings_to_resume(o.resume, words);
  catch_interruptions();
  Context::set_default({.device = o.device, .threads = o.threads, .seed = settings.seed});
  const std::string file = o.file.empty() ? shipped_data("tinyshakespeare.txt") : o.file;
  const Corpus corpus = o.resume.empty() ? Corpus(file, vocabulary_tokens(settings.vocabulary))
                                         : Corpus(file, vocabulary_of(o.resume));
  TextRun run(settings, corpus, o.out, o.resume);
  announce(settings, corpus, run);
  run.execute();
  print_table(run.rows().back(), o.out);
  if (interrupted == 0) return;
  Arguments again{"kontor", "train", "gpt"};
  if (!o.file.empty()) again.push_back(o.file);
  again.insert(again.end(), {"--resume", o.out + "/checkpoint.safetensors", "--out", o.out});
  fmt::print("stopped; go on with: {}\n", shell_text(again));
  throw Exit{128 + interrupted};
}

std::string preset_list() {
  std::string out = "Presets, of which the first is what is trained by default:\n";
  for (const TextPreset& p : text_presets())
    out += fmt::format("  {:10} {}\n  {:10} {}\n", p.name, p.about, "", p.arguments);
  return out;
}

}  // namespace

void add_train_gpt(CLI::App& train) {
  CLI::App* verb =
      train.add_subcommand("gpt", "Train a GPT on a text, by backprop or with forward passes only");
  auto o = std::make_shared<Options>();
  verb->add_option("file", o->file, "A text (default: tinyshakespeare.txt, which comes with Kontor)")
      ->check(not_empty());
  verb->add_option("--preset", o->preset,
                   "Settings by name, as listed below; options given beside it go first")
      ->check(not_empty());
  add_text_settings(*verb, o->settings);
  verb->add_option("--threads", o->threads, "Threads (0: one a core)")->check(whole(0, 4096));
  verb->add_option("--device", o->device, device_names())->check(not_empty());
  verb->add_option("--out", o->out, "Folder for model, checkpoint, metrics and curve")
      ->capture_default_str()
      ->check(not_empty());
  verb->add_option("--resume", o->resume, "Go on from this checkpoint, with the settings that it has")
      ->check(not_empty());
  verb->footer(preset_list());
  verb->callback([o, verb] { run(*o, *verb); });
}

}  // namespace kontor::tools
