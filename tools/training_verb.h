// What the verbs share that train: options beside the settings, what they print, several ways side by side.
#pragma once
#include "tools/study.h"
#include "tools/verbs.h"

namespace kontor::tools {

struct TrainingOptions {
  std::string preset, device, out, resume;
  std::vector<std::string>
      compare;    ///< names of presets or methods, with settings of their own (CompareEntry)
  int seeds = 1;  ///< of --compare
  int threads = 0;
  int64_t memory_budget = 0;
  uint64_t seed = 1;
};

/// --preset --compare --seeds --device --threads --memory-budget --out --resume; `presets` is said below them.
void add_training_options(CLI::App& verb, TrainingOptions& options, const std::string& presets);
/// The default Context as they say, with signals caught from now on.
void begin_training(const TrainingOptions& options);

struct Line {
  std::string name, value;
};
/// What came of a run: these lines, and those that every run has.
void print_table(std::vector<Line> lines, const Row& last, const std::string& out);

/// The command line that goes on: `words` begin it; the checkpoint has what must be equal, what else was said is said again, but for
/// `done`, which only the beginning of a run reads.
template <class S>
Arguments resume_command(Arguments words, TableOf<S> table, const CLI::App& verb, const std::string& out,
                         const std::vector<std::string>& done) {
  words.insert(words.end(), {"--resume", out + "/checkpoint.safetensors", "--out", out});
  std::vector<std::string> names{"--data", "--device", "--threads", "--memory-budget"};
  for (const RowOf<S>& row : table) {
    if (row.later == Later::Free) names.push_back(fmt::format("--{}", row.name));
  }
  for (const std::string& name : names) {
    const CLI::Option* option = verb.get_option_no_throw(name);
    const bool again =
        option && option->count() > 0 && std::find(done.begin(), done.end(), name) == done.end();
    if (again) words.insert(words.end(), {name, option->results().back()});
  }
  return words;
}

/// If a signal came: says how to go on, and throws Exit.
void stop_if_interrupted(const Arguments& again);

/// An entry of --compare: a preset or method, and settings that it alone has, as `minute:dtype=bf16:lr=1e-3`.
struct CompareEntry {
  std::string preset;
  Arguments own;
};
CompareEntry compare_entry(const std::string& text);
/// `words` without those that say what `own` says, and these behind them.
Arguments with_own(Arguments words, const Arguments& own);

/// Trains each entry of --compare, with what else was given and is of its method.
void compare(const TrainingOptions& options, const std::vector<StudyRun>& runs, const Subject& subject);

}  // namespace kontor::tools
