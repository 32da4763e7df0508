// Checkpoints and settings: written as the options that they are, read and checked as those are.
#include "tools/resume.h"

#include "base/error.h"

namespace kontor::tools {

namespace {

// Counts whose default depends on the plan: as texts they may differ and mean the same, so the trainer compares them.
bool compared_by_trainer(const SettingRow& row, const std::string& a, const std::string& b) {
  const std::string_view name = row.name;
  return (name == "groups" || name == "vendors" || name == "upstream") && (a.empty() || b.empty());
}

struct Saved {
  Arguments settings;
  std::string preset;
};

Saved read_saved(const std::string& checkpoint) {
  const nn::Metadata metadata = nn::load_metadata(checkpoint);
  Saved out;
  if (const auto it = metadata.find("preset"); it != metadata.end()) out.preset = it->second;
  out.settings = saved_arguments(checkpoint);
  return out;
}

// The saved preset, which a later version may not have any more, with what must be equal over it.
Settings settings_of_saved(const Saved& saved, const std::string& checkpoint) {
  Settings s;
  try {
    for (const Preset& preset : presets())
      if (saved.preset == preset.name)
        put_rows_over<Settings>(setting_table(), s, split_arguments(preset.arguments));
    put_rows_over<Settings>(setting_table(), s, saved.settings);
  } catch (const CLI::ParseError& error) {
    fail("{}: its settings: {}", checkpoint, error.what());
  }
  s.preset = saved.preset;
  return s;
}

}  // namespace

nn::Metadata about_run(const Settings& settings, const std::string& preset) {
  return {{"settings", equal_text(setting_table(), settings)}, {"preset", preset}};
}

Settings settings_to_resume(const std::string& checkpoint, const std::string& preset,
                            const Arguments& given) {
  const Saved saved = read_saved(checkpoint);
  if (saved.settings.empty()) return settings_of(preset, given);
  const Settings was = settings_of_saved(saved, checkpoint);
  Settings wanted = was;
  if (!preset.empty()) {
    wanted = settings_of(preset, given);
  } else {
    const std::string other = was.method == "backprop" ? "marketplace" : "backprop";
    for (const std::string& argument : given)
      if (is_foreign<Settings>(setting_table(), argument, was.method))
        fail("{}: was trained with --method={}; {} is of {}", checkpoint, was.method, argument, other);
    put_rows_over<Settings>(setting_table(), wanted, given);
  }
  check_equal(setting_table(), was, wanted, checkpoint, compared_by_trainer);
  return wanted;
}

}  // namespace kontor::tools
