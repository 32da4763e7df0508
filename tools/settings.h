// All that a training run depends on: one table from which the options of `kontor train`, the text of a run's settings
// and the reading of presets and studies are made.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <kontor/nn.h>

#include "tools/setting_table.h"

namespace kontor::tools {

struct Settings {
  std::string method = "marketplace", plan = "star", groups, vendors, unit = "per-spec";
  std::string optimizer = "adam";
  int64_t batch = 32, steps = 1000, test_every = 0, checkpoint_every = 0;
  double tflop = 0;
  double lr = 0.1, lr_decay = 0, probe_scale = 0.01, meta_lr = 0;
  std::string noise = "uniform", update = "unit", upstream, recipe = "none";
  bool antithetic = false;
  std::string one_in, lr_schedule = "decay";
  double beta2 = 0.999;
  int64_t forward_passes = 1;
  uint64_t seed = 1;
  std::string init;
  int64_t withhold = -1, new_label = -1, pool = 0;
  std::string preset;  ///< the name of that which they are put over; not a setting of its own
};

using SettingRow = RowOf<Settings>;
TableOf<Settings> setting_table();

/// The preset of this name, or ("") the first one of the method and plan in `arguments`, with `arguments` put over it.
/// Throws Error if there is no such preset or if settings do not fit each other.
Settings settings_of(const std::string& preset, std::span<const std::string> arguments);
/// The trainer of a model as the settings have it.
std::unique_ptr<nn::Trainer> make_trainer(const Settings& settings, nn::MnistCnn& model);

/// Those of the arguments that are not of the other method.
Arguments of_method(std::span<const std::string> arguments, const std::string& method);

/// Those whose plan the library has.
std::span<const Preset> presets();

}  // namespace kontor::tools
