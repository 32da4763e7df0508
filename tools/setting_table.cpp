// Arguments as texts: of presets, of checkpoints, of the shell.
#include "tools/setting_table.h"

#include <cctype>

#include <kontor/nn.h>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace kontor::tools {

// "": it says none.
static std::string_view method_of(const Preset& preset) {
  constexpr std::string_view says = "--method=";
  const std::string_view words = preset.arguments;
  const size_t at = words.find(says);
  if (at == std::string_view::npos) return "";
  const size_t begin = at + says.size();
  return words.substr(begin, words.find(' ', begin) - begin);
}

const Preset& find_preset(std::span<const Preset> presets, const std::string& name, const std::string& who) {
  std::string known = "marketplace, backprop";
  for (const Preset& preset : presets) {
    if (name == preset.name) return preset;
    known += fmt::format(", {}", preset.name);
  }
  if (name == "marketplace" || name == "backprop") {
    for (const std::string_view method : {std::string_view(name), std::string_view()})
      for (const Preset& preset : presets)
        if (method_of(preset) == method) return preset;
  }
  fail("{}: no preset '{}'; there are {}", who, name, known);
}

std::string list_of(std::span<const Preset> presets, int columns) {
  std::string out =
      "Presets, of which the first of a method or plan is what it is trained with by default:\n";
  for (const Preset& p : presets)
    out += fmt::format("  {:{}} {}\n  {:{}} {}\n", p.name, columns, p.about, "", columns, p.arguments);
  return out;
}

Arguments split_arguments(std::string_view text) {
  Arguments out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) out.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::string_view name_of(std::string_view argument) { return argument.substr(2, argument.find('=') - 2); }

bool has(std::span<const std::string> arguments, std::string_view name) {
  return std::any_of(arguments.begin(), arguments.end(), [&](auto& a) { return name_of(a) == name; });
}

Arguments saved_arguments(const std::string& checkpoint) {
  const nn::Metadata metadata = nn::load_metadata(checkpoint);
  const auto it = metadata.find("settings");
  Arguments out;
  if (it == metadata.end()) return out;
  const Json list = parse_json(it->second, checkpoint + ": settings");
  if (!list.is_array()) fail("{}: its settings are no list", checkpoint);
  for (const Json& word : list) {
    if (!word.is_string() || !word.get<std::string>().starts_with("--"))
      fail("{}: its settings have {} where an option is to be", checkpoint, word.dump());
    out.push_back(word.get<std::string>());
  }
  return out;
}

std::string list_text(const Arguments& options) { return Json(options).dump(); }

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
