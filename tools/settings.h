// All that a training run depends on: one table from which the options of `kontor train`, the text of a run's settings
// and the reading of presets and studies are made.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <kontor/nn.h>
#include <CLI/CLI.hpp>

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

/// Which method a setting is of.
enum class Of : uint8_t { All, Marketplace, Backprop };
/// Whether a run that goes on from a checkpoint may have another value than the run that wrote it.
enum class Later : bool { Equal, Free };

/// A row a setting: `--name=value` on the command line, in presets and in the text of a run.
struct SettingRow {
  const char* name;
  std::variant<std::string Settings::*, int64_t Settings::*, uint64_t Settings::*, double Settings::*,
               bool Settings::*>
      member;
  Of of;
  Later later;
  CLI::Validator check;
  std::string help;
};
std::span<const SettingRow> setting_table();
/// The value as its option reads it.
std::string value_text(const Settings& settings, const SettingRow& row);
/// Whether a setting has a meaning for a method.
bool is_of(const SettingRow& row, const std::string& method);

using Arguments = std::vector<std::string>;  ///< each as --name=value

/// Adds the options of the table to a command line; `given` says which of them stood there.
void add_settings(CLI::App& verb, Settings& settings);
Arguments given(const CLI::App& verb);
/// "--plan=full --lr=0.1" as Arguments.
Arguments split_arguments(std::string_view text);

/// The preset of this name, or ("") the first one of the method and plan in `arguments`, with `arguments` put over it.
/// Throws Error if there is no such preset or if settings do not fit each other.
Settings settings_of(const std::string& preset, std::span<const std::string> arguments);
/// Reads arguments over settings, without a check of how they fit. Throws CLI::ParseError.
void put_over(Settings& settings, std::span<const std::string> arguments);
/// Whether an argument is of the other method.
bool is_foreign(const std::string& argument, const std::string& method);
/// What differs from Settings(), as Arguments that make it again.
Arguments to_arguments(const Settings& settings);

/// The trainer of a model as the settings have it.
std::unique_ptr<nn::Trainer> make_trainer(const Settings& settings, nn::MnistCnn& model);

/// Those of the arguments that are not of the other method.
Arguments of_method(std::span<const std::string> arguments, const std::string& method);

/// A name for settings: what `--preset` takes.
struct Preset {
  const char* name;
  const char* about;
  const char* arguments;
};
/// Those whose plan the library has.
std::span<const Preset> presets();
/// The preset of a name, or the first one of a method ("marketplace", "backprop"). Throws Error that lists them.
const Preset& find_preset(const std::string& name);

}  // namespace kontor::tools
