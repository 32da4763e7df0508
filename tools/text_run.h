// One training of a GPT on a text: its settings, its steps and the files it leaves.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>

#include "tools/own_folder.h"
#include "tools/run.h"
#include "tools/text_model.h"

namespace kontor::tools {

struct TextSettings {
  int64_t layers = 2, width = 128, heads = 4, kv_heads = 0, context = 64;
  bool rotary = false;
  int64_t batch = 12, steps = 2000, warmup = 100;
  double seconds = 0, lr = 2e-3, least_lr = 2e-4, decay = 0.1, beta2 = 0.99, clip = 1, dropout = 0;
  uint64_t seed = 1;
  std::string vocabulary = "chars", dtype = "f32", method = "backprop", plan = "low-rank";
  double probe_scale = 0.25;
  int64_t test_every = 0, checkpoint_every = 0, sample = 200;
};

/// A row a setting, as in tools/settings.h: its option, the text of a checkpoint, and whether a run that goes on may differ.
struct TextSettingRow {
  const char* name;
  std::variant<int64_t TextSettings::*, uint64_t TextSettings::*, double TextSettings::*,
               bool TextSettings::*, std::string TextSettings::*>
      member;
  Later later;
  CLI::Validator check;
  std::string help;
};
std::span<const TextSettingRow> text_setting_table();
void add_text_settings(CLI::App& verb, TextSettings& settings);
/// Reads "--name=value" words over settings. Throws CLI::ParseError.
void put_over(TextSettings& settings, Arguments words);
/// Those that stood on the command line.
Arguments given_text_settings(const CLI::App& verb);

struct TextPreset {
  const char* name;
  const char* about;
  const char* arguments;
};
/// The first one is what is trained with if nothing else is said.
std::span<const TextPreset> text_presets();
/// The preset of this name ("": the first) with `words` over it. Throws Error if there is none.
TextSettings text_settings_of(const std::string& preset, const Arguments& words);
/// The settings of a checkpoint with `words` over them. Throws Error that names each that must be equal and is not.
TextSettings text_settings_to_resume(const std::string& checkpoint, const Arguments& words);

/// For a checkpoint: the settings that must be equal to go on, as a JSON list of options.
std::string text_settings_text(const TextSettings& settings);

/// How many tokens a vocabulary is to have: N of "bpe:N"; 0: "chars", a token for each byte that occurs.
int64_t vocabulary_tokens(const std::string& text);

class TextRun {
 public:
  /// Of the default Context, whose random numbers begin anew. With a `checkpoint` it goes on from that. Throws Error if another
  /// run has the folder, or the text is too short.
  TextRun(const TextSettings& settings, const Corpus& corpus, const std::string& folder,
          const std::string& checkpoint);
  /// Trains until the steps are done or a signal comes, and writes the files.
  void execute();
  const std::vector<Row>& rows() const { return rows_; }
  int64_t parameters() const;

 private:
  TextSettings settings_;
  const Corpus& corpus_;
  OwnFolder own_;
  std::string folder_;
  std::unique_ptr<nn::Gpt> model_;
  std::unique_ptr<nn::Trainer> trainer_;
  std::unique_ptr<TextEvaluation> evaluation_;
  std::unique_ptr<nn::Generator> generator_;
  std::vector<Row> rows_;
  double tflop_ = 0;

  void resume(const std::string& checkpoint);
  void plan(int64_t done, double seconds);
  void record(const nn::Metrics& metrics);
  void validate(int64_t most_windows);
  void checkpoint();
  void write_files();
};

}  // namespace kontor::tools
