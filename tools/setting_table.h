// Tables of settings: a row a setting, from which the options of a verb, the text of a run's settings and the reading of presets,
// checkpoints and studies are made, whatever is trained.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <CLI/CLI.hpp>
#include "base/error.h"

namespace kontor::tools {

/// A name for settings: what `--preset` takes.
struct Preset {
  const char* name;
  const char* about;
  const char* arguments;
};
/// The preset of a name, or the first one of a method ("marketplace", "backprop"). Throws Error of `who` that lists them.
const Preset& find_preset(std::span<const Preset> presets, const std::string& name, const std::string& who);
/// A line or two each, for help: `columns` wide are the names.
std::string list_of(std::span<const Preset> presets, int columns);

using Arguments = std::vector<std::string>;  ///< each as --name=value

/// Which method a setting is of, or that it is of the model whatever the method.
enum class Of : uint8_t { All, Marketplace, Backprop, Model };
/// Whether a run that goes on from a checkpoint may have another value than the run that wrote it.
enum class Later : bool { Equal, Free };

/// A row a setting of S: `--name=value` on the command line, in presets and in the text of a run.
template <class S>
struct RowOf {
  const char* name;
  std::variant<std::string S::*, int64_t S::*, uint64_t S::*, double S::*, bool S::*> member;
  Of of;
  Later later;
  CLI::Validator check;
  std::string help;
};
template <class S>
using TableOf = std::span<const RowOf<S>>;

/// "--plan=full --lr=0.1" as Arguments.
Arguments split_arguments(std::string_view text);
/// The words that a checkpoint says were its run's settings; none if it says nothing. Throws Error if they are no options.
Arguments saved_arguments(const std::string& checkpoint);
/// Options as the JSON list that a checkpoint has.
std::string list_text(const Arguments& options);
/// The name of an argument.
std::string_view name_of(std::string_view argument);
/// A command line that sh reads as these words.
std::string shell_text(const Arguments& words);
bool has(std::span<const std::string> arguments, std::string_view name);

template <class S>
std::string argument_of(const RowOf<S>& row, const std::string& value) {
  return fmt::format("--{}={}", row.name, value);
}

/// The value as its option reads it.
template <class S>
std::string value_text(const S& settings, const RowOf<S>& row) {
  return std::visit([&](auto member) { return fmt::format("{}", settings.*member); }, row.member);
}

/// Whether a setting has a meaning for a method.
template <class S>
bool is_of(const RowOf<S>& row, const std::string& method) {
  return row.of != (method == "backprop" ? Of::Marketplace : Of::Backprop);
}

/// Whether an argument is of the other method.
template <class S>
bool is_foreign(TableOf<S> table, const std::string& argument, const std::string& method) {
  const auto row =
      std::find_if(table.begin(), table.end(), [&](auto& r) { return name_of(argument) == r.name; });
  return row != table.end() && !is_of(*row, method);
}

/// Adds the options of the table to a command line.
template <class S>
void add_rows(TableOf<S> table, CLI::App& verb, S& settings) {
  static constexpr const char* groups[] = {"Options", "Options of Marketplace", "Options of backprop",
                                           "Options of the model"};
  for (const RowOf<S>& row : table) {
    const std::string name = fmt::format("--{}", row.name);
    const auto add = [&](auto member) {
      auto& value = settings.*member;
      if constexpr (std::is_same_v<decltype(value), bool&>) return verb.add_flag(name, value, row.help);
      else return verb.add_option(name, value, row.help);
    };
    CLI::Option* option = std::visit(add, row.member);
    option->check(row.check)->take_last()->group(groups[static_cast<size_t>(row.of)]);
  }
}

/// Reads arguments over settings, without a check of how they fit. Throws CLI::ParseError.
template <class S>
void put_rows_over(TableOf<S> table, S& settings, std::span<const std::string> arguments) {
  CLI::App parser;
  parser.allow_extras(false);
  add_rows(table, parser, settings);
  Arguments reversed(arguments.rbegin(), arguments.rend());  // as CLI11 takes them
  parser.parse(std::move(reversed));
}

/// Those that stood on the command line.
template <class S>
Arguments given_rows(TableOf<S> table, const CLI::App& verb) {
  Arguments out;
  for (const RowOf<S>& row : table) {
    const CLI::Option* option = verb.get_option(fmt::format("--{}", row.name));
    if (option->count() > 0) out.push_back(argument_of(row, option->results().back()));
  }
  return out;
}

/// What differs from S(), as Arguments that make it again.
template <class S>
Arguments to_arguments(TableOf<S> table, const S& settings) {
  Arguments out;
  const S usual;
  for (const RowOf<S>& row : table) {
    const std::string value = value_text(settings, row);
    if (value != value_text(usual, row)) out.push_back(argument_of(row, value));
  }
  return out;
}

/// What has to be equal for a run to go on, as a checkpoint has it. What its own check refuses is what it is where nothing is said.
template <class S>
std::string equal_text(TableOf<S> table, const S& settings) {
  Arguments out;
  for (const RowOf<S>& row : table) {
    std::string value = value_text(settings, row);
    const std::string argument = argument_of(row, value);
    if (row.later == Later::Equal && is_of(row, settings.method) && row.check(value).empty())
      out.push_back(argument);
  }
  return list_text(out);
}

/// Throws Error that names each setting in which the run that wrote a checkpoint differs from the one that is wanted, but for those
/// that `skip` (row, a value, the other) says are compared elsewhere. Of another method all else differs too.
template <class S, class Skip>
void check_equal(TableOf<S> table, const S& was, const S& wanted, const std::string& checkpoint,
                 const Skip& skip) {
  std::string old, now;
  for (const RowOf<S>& row : table) {
    if (row.later == Later::Free || !is_of(row, was.method)) continue;
    const std::string a = value_text(was, row), b = value_text(wanted, row);
    if (a == b || skip(row, a, b)) continue;
    old += " " + argument_of(row, a), now += " " + argument_of(row, b);
    if (was.method != wanted.method) break;
  }
  if (!old.empty()) fail("{}: was trained with{}, not with{}", checkpoint, old, now);
}

}  // namespace kontor::tools
