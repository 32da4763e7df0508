// Options, tables and comparisons of the verbs that train.
#include "tools/training_verb.h"

#include <cstdio>

#include <kontor/kontor.h>

#include "backends/backend.h"
#include "base/error.h"
#include "tools/validators.h"

namespace kontor::tools {

void add_training_options(CLI::App& verb, TrainingOptions& o, const std::string& presets) {
  verb.add_option("--preset", o.preset, "Settings by name, as listed below; options given beside it go first")
      ->check(not_empty());
  verb.add_option("--compare", o.compare,
                  "Train in several ways, as marketplace,backprop or names of presets, and compare them")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb.add_option("--threads", o.threads, "Threads (0: one a core)")->check(whole(0, 4096));
  verb.add_option(
          "--memory-budget", o.memory_budget,
          "Memory that temporaries may take, as 64MB; what is larger runs in pieces, with the same results")
      ->transform(CLI::AsSizeValue(false));
  verb.add_option("--device", o.device, device_names())->check(not_empty());
  verb.add_option("--out", o.out, "Folder for model, checkpoint, metrics and curve")
      ->capture_default_str()
      ->check(not_empty());
  verb.add_option("--resume", o.resume, "Go on from this checkpoint, with the settings that it has")
      ->check(not_empty());
  verb.footer(presets);
}

void begin_training(const TrainingOptions& o) {
  catch_interruptions();
  Context::set_default(
      {.device = o.device, .threads = o.threads, .seed = o.seed, .memory_budget = o.memory_budget});
}

void print_table(std::vector<Line> lines, const Row& last, const std::string& out) {
  lines.insert(lines.begin(),
               {{"steps", std::to_string(last.step)}, {"loss", fmt::format("{:.4f}", last.loss)}});
  const double rate = last.seconds > 0 ? last.tflop * 1e3 / last.seconds : 0.0;
  lines.push_back({"work", fmt::format("{:.2f} TFLOP, {:.1f} GFLOP/s", last.tflop, rate)});
  lines.push_back({"peak memory", fmt::format("{:.0f} MB", peak_megabytes())});
  lines.push_back(
      {"files", out + "/: model.safetensors checkpoint.safetensors metrics.csv curve.svg curve.png"});
  fmt::print("\n");
  for (const Line& line : lines) fmt::print("  {:15} {}\n", line.name, line.value);
}

void stop_if_interrupted(const Arguments& again) {
  if (interrupted == 0) return;
  fmt::print("stopped; go on with: {}\n", shell_text(again));
  throw Exit{128 + interrupted};
}

void compare(const TrainingOptions& o, const std::vector<StudyRun>& runs, const Subject& subject) {
  if (!o.resume.empty() || !o.preset.empty())
    fail("train: --compare starts {} anew; it takes no --resume or --preset", fmt::join(o.compare, ", "));
  Study study{.name = "compare", .about = "The same data, trained in several ways", .runs = runs};
  study.seeds = {o.seed};
  run_study(study, subject, o.out);
}

}  // namespace kontor::tools
