// The table of environment variables and its getters.
#include "base/env.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <numeric>

#include "base/error.h"
#include "base/stages.h"

extern char** environ;

namespace kontor {
namespace {

constexpr auto kDumpDoc = [] {
  std::array<char, 192> text = {};
  size_t end = 0;
  const auto add = [&](std::string_view part) {
    for (char c : part) text.at(end++) = c;
  };
  add("stages written as files: ");
  for (std::string_view stage : dump_stages) add(stage), add(",");
  add(" then :folder (default: kontor-dump)");
  return text;
}();

// clang-format off
constexpr EnvRow kTable[] = {
  {Env::Debug,       "KONTOR_DEBUG",        EnvType::Integer, "0",                "what is printed while running: 1 device, 2 kernels with time and speed, 3 moves, 4 source, 5 graphs"},
  {Env::Dump,        "KONTOR_DUMP",         EnvType::Text,    "nothing",          kDumpDoc.data()},
  {Env::OverrideDir, "KONTOR_OVERRIDE_DIR", EnvType::Path,    "none",             "folder of edited kernels that run in place of the generated ones"},
  {Env::Decisions,   "KONTOR_DECISIONS",    EnvType::Path,    "none",             "file of decisions that are followed in place of the chosen ones: what the stage `decisions` shows, edited"},
  {Env::CacheDir,    "KONTOR_CACHE_DIR",    EnvType::Path,    "~/.cache/kontor",  "folder of the kernel cache (unset: $XDG_CACHE_HOME/kontor, else ~/.cache/kontor)"},
  {Env::NoCache,     "KONTOR_NO_CACHE",     EnvType::Flag,    "cache on",         "compile afresh: neither read nor write the kernel cache on disk"},
  {Env::Threads,     "KONTOR_THREADS",      EnvType::Integer, "all cores",        "threads that a kernel runs on; results do not depend on it"},
  {Env::Device,      "KONTOR_DEVICE",       EnvType::Text,    "first that opens", "default device, of those that `kontor devices` lists"},
  {Env::Cpu,         "KONTOR_CPU",          EnvType::Text,    "native",           "instruction set of the llvm device: avx2, avx512 or native; results do not depend on it"},
  {Env::RuleOff,     "KONTOR_RULE_OFF",     EnvType::List,    "none",             "names of rewrite rules that are not applied, to find a wrong one"},
  {Env::Llvm,        "KONTOR_LLVM",         EnvType::Path,    "searched",         "path of the module libkontor-llvm.so"},
  {Env::Nvrtc,       "KONTOR_NVRTC",        EnvType::Path,    "searched",         "path of libnvrtc.so"},
  {Env::Trace,       "KONTOR_TRACE",        EnvType::Path,    "none",             "file that gets a trace of kernels, for Perfetto"},
  {Env::MemoryBudget, "KONTOR_MEMORY_BUDGET", EnvType::Integer, "32 MiB, no limit", "bytes that the temporaries of one graph may take; what is larger is run in pieces, with the same results"},
  {Env::Numerics,    "KONTOR_NUMERICS",     EnvType::Text,    "strict",           "strict: the promised order of arithmetic; fast: dots in the order of the instructions there are (docs/numerics.md)"},
};
// clang-format on

constexpr bool in_order() {
  for (size_t i = 0; i < std::size(kTable); ++i) {
    if (static_cast<size_t>(kTable[i].id) != i) return false;
  }
  return true;
}
static_assert(in_order(), "the rows stand in the order of Env");

// What tests/run gives to its scripts and the golden tests read; the library reads none of them.
constexpr std::string_view kOfTheSuite[] = {"KONTOR_SOURCE", "KONTOR_BUILD", "KONTOR_UPDATE_GOLDEN",
                                            "KONTOR_TEST_SEED", "KONTOR_TEST_COUNT"};

std::string_view value_of(Env id) {
  const char* value = std::getenv(kTable[static_cast<size_t>(id)].name);
  return value == nullptr || std::string_view(value) == "0" ? std::string_view() : value;
}

// Levenshtein's distance: the fewest letters to insert, remove or change.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t corner = i;
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t change = corner + (a[i] != b[j]);
      corner = row[j + 1];
      row[j + 1] = std::min({change, row[j] + 1, corner + 1});
    }
  }
  return row.back();
}

bool known(std::string_view variable) {
  const auto is_row = [&](const EnvRow& row) { return variable == row.name; };
  return std::any_of(std::begin(kTable), std::end(kTable), is_row) ||
         std::find(std::begin(kOfTheSuite), std::end(kOfTheSuite), variable) != std::end(kOfTheSuite);
}

std::string warning(std::string_view unknown) {
  const EnvRow* nearest = std::min_element(std::begin(kTable), std::end(kTable), [&](auto& a, auto& b) {
    return distance(a.name, unknown) < distance(b.name, unknown);
  });
  if (distance(nearest->name, unknown) > 3) {
    return fmt::format("{} is set but is no variable of Kontor (`kontor env` lists them)", unknown);
  }
  return fmt::format("{} is set but is no variable of Kontor; did you mean {}?", unknown, nearest->name);
}

}  // namespace

std::span<const EnvRow> env_table() { return kTable; }

std::string_view name(EnvType type) {
  constexpr std::string_view names[] = {"flag", "integer", "text", "list", "path"};
  return names[static_cast<size_t>(type)];
}

std::string env_text(Env id) { return std::string(value_of(id)); }

bool env_flag(Env id) { return !value_of(id).empty(); }

int64_t env_int(Env id) {
  const std::string_view text = value_of(id);
  if (text.empty()) return 0;
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) {
    fail("{}={}: a whole number is expected", kTable[static_cast<size_t>(id)].name, text);
  }
  return value;
}

std::vector<std::string> env_list(Env id) {
  std::vector<std::string> parts;
  const std::string_view text = value_of(id);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<std::string> env_warnings() {
  std::vector<std::string> warnings;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view variable = text.substr(0, text.find('='));
    if (variable.starts_with("KONTOR_") && !known(variable)) warnings.push_back(warning(variable));
  }
  std::sort(warnings.begin(), warnings.end());
  return warnings;
}

}  // namespace kontor
