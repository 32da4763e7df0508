// All that a training run on a text depends on.
#pragma once
#include "tools/setting_table.h"

namespace kontor::tools {

struct TextSettings {
  int64_t layers = 2, width = 128, heads = 4, kv_heads = 0, context = 64;
  bool rotary = false;
  int64_t batch = 12, steps = 2000, warmup = 100;
  double seconds = 0, tflop = 0, lr = 2e-3, least_lr = 2e-4, decay = 0.1, beta2 = 0.99, clip = 1, dropout = 0;
  uint64_t seed = 1;
  std::string vocabulary = "chars", init = "gpt2", dtype = "f32", recipe = "none", method = "backprop",
              plan = "low-rank";
  double probe_scale = 0.25;
  int64_t test_every = 0, checkpoint_every = 0, telemetry_every = 0, sample = 200;

  /// What the steps depend on is only known when some are done.
  bool open() const { return seconds > 0 || tflop > 0; }
};

TableOf<TextSettings> text_setting_table();
std::span<const Preset> text_presets();
/// The preset of this name, or ("") the first one of the method and plan in `words`, with `words` over it. Throws Error if there is
/// none, or if settings do not fit each other.
TextSettings text_settings_of(const std::string& preset, const Arguments& words);
/// The settings of a checkpoint with `words` over them. Throws Error that names each that must be equal and is not.
TextSettings text_settings_to_resume(const std::string& checkpoint, const Arguments& words);

/// How many tokens a vocabulary is to have: N of "bpe:N"; 0: "chars", a token for each byte that occurs.
int64_t vocabulary_tokens(const std::string& text);

}  // namespace kontor::tools
