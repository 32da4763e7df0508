// Checkpoints and settings: written as the options that they are, read and checked as those are.
#include "tools/resume.h"

#include <algorithm>
#include <cctype>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace kontor::tools {

namespace {

// Counts whose default depends on the plan: as texts they may differ and mean the same, so the trainer compares them.
bool compared_by_trainer(const SettingRow& row, const std::string& a, const std::string& b) {
  const std::string_view name = row.name;
  return (name == "groups" || name == "vendors" || name == "upstream") && (a.empty() || b.empty());
}

std::string option(const SettingRow& row, const std::string& value) {
  return fmt::format("--{}={}", row.name, value);
}

// Each setting in which the run that was differs from the one that is wanted. Of another method all else differs too.
void compare(const Settings& was, const Settings& wanted, const std::string& checkpoint) {
  std::string old, now;
  for (const SettingRow& row : setting_table()) {
    if (row.later == Later::Free || !is_of(row, was.method)) continue;
    const std::string a = value_text(was, row), b = value_text(wanted, row);
    if (a == b || compared_by_trainer(row, a, b)) continue;
    old += " " + option(row, a), now += " " + option(row, b);
    if (was.method != wanted.method) break;
  }
  if (!old.empty()) fail("{}: was trained with{}, not with{}", checkpoint, old, now);
}

struct Saved {
  Arguments settings;
  std::string preset;
};

Saved read_saved(const std::string& checkpoint) {
  const nn::Metadata metadata = nn::load_metadata(checkpoint);
  Saved out;
  if (const auto it = metadata.find("preset"); it != metadata.end()) out.preset = it->second;
  const auto it = metadata.find("settings");
  if (it == metadata.end()) return out;
  const Json list = parse_json(it->second, checkpoint + ": settings");
  if (!list.is_array()) fail("{}: its settings are no list", checkpoint);
  for (const Json& word : list) {
    if (!word.is_string() || !word.get<std::string>().starts_with("--"))
      fail("{}: its settings have {} where an option is to be", checkpoint, word.dump());
    out.settings.push_back(word.get<std::string>());
  }
  return out;
}

// The saved preset, which a later version may not have any more, with what must be equal over it.
Settings settings_of_saved(const Saved& saved, const std::string& checkpoint) {
  Settings s;
  try {
    for (const Preset& preset : presets())
      if (saved.preset == preset.name) put_over(s, split_arguments(preset.arguments));
    put_over(s, saved.settings);
  } catch (const CLI::ParseError& error) {
    fail("{}: its settings: {}", checkpoint, error.what());
  }
  s.preset = saved.preset;
  return s;
}

}  // namespace

nn::Metadata about_run(const Settings& settings, const std::string& preset) {
  Json list = Json::array();
  for (const SettingRow& row : setting_table()) {
    std::string value = value_text(settings, row);
    const bool said = row.check(value).empty();  // else it is what it is where nothing is said
    if (row.later == Later::Equal && is_of(row, settings.method) && said) list.push_back(option(row, value));
  }
  return {{"settings", list.dump()}, {"preset", preset}};
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
      if (is_foreign(argument, was.method))
        fail("{}: was trained with --method={}; {} is of {}", checkpoint, was.method, argument, other);
    put_over(wanted, given);
  }
  compare(was, wanted, checkpoint);
  return wanted;
}

std::string shell_text(const Arguments& words) {
  std::string out;
  for (const std::string& word : words) {
    const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 ||
             std::string_view("_./=,+-:%@").find(static_cast<char>(c)) != std::string_view::npos;
    });
    out += out.empty() ? "" : " ";
    if (plain) {
      out += word;
      continue;
    }
    out += '\'';
    for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    out += '\'';
  }
  return out;
}

}  // namespace kontor::tools
