// Options, tables and comparisons of the verbs that train.
#include "tools/training_verb.h"

#include <cstdio>

#include <kontor/kontor.h>

#include "backends/backend.h"
#include "base/error.h"
#include "tools/setting_table.h"
#include "tools/validators.h"

namespace kontor::tools {

void add_training_options(CLI::App& verb, TrainingOptions& o, const std::string& presets) {
  verb.add_option("--preset", o.preset, "Settings by name, as listed below; options given beside it go first")
      ->check(not_empty());
  verb.add_option("--compare", o.compare,
                  "Train in several ways, as marketplace,backprop or names of presets, and compare them; "
                  "nano:dtype=bf16 is a preset with a setting of its own")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb.add_option("--seeds", o.seeds, "With --compare: so many seeds, from --seed on")
      ->capture_default_str()
      ->check(whole(1, 1000));
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

CompareEntry compare_entry(const std::string& text) {
  CompareEntry entry;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(':', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    if (begin == 0) entry.preset = part;
    else if (part.find('=') == std::string::npos)
      fail("train: --compare {}: '{}' is no setting, as dtype=bf16 is", text, part);
    else entry.own.push_back("--" + part);
    begin = end + 1;
  }
  return entry;
}

Arguments with_own(Arguments words, const Arguments& own) {
  std::erase_if(words, [&](const std::string& word) { return has(own, name_of(word)); });
  words.insert(words.end(), own.begin(), own.end());
  return words;
}

void compare(const TrainingOptions& o, const std::vector<StudyRun>& runs, const Subject& subject) {
  if (!o.resume.empty() || !o.preset.empty())
    fail("train: --compare starts {} anew; it takes no --resume or --preset", fmt::join(o.compare, ", "));
  Study study{.name = "compare", .about = "The same data, trained in several ways", .runs = runs};
  for (int i = 0; i < o.seeds; ++i) study.seeds.push_back(o.seed + static_cast<uint64_t>(i));
  run_study(study, subject, o.out);
}

}  // namespace kontor::tools
