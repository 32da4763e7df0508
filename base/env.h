// The table of environment variables: every KONTOR_* that means something is a row; all are read through these getters.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor {

enum class Env : uint8_t {
  Debug,
  Dump,
  OverrideDir,
  Decisions,
  CacheDir,
  NoCache,
  Threads,
  Device,
  Cpu,
  RuleOff,
  Llvm,
  Nvrtc,
  Trace,
  MemoryBudget,
  Numerics
};

enum class EnvType : uint8_t { Flag, Integer, Text, List, Path };

struct EnvRow {
  Env id;
  const char* name;  ///< KONTOR_DEBUG
  EnvType type;
  const char* meaning_of_unset;
  const char* doc;  ///< one line
};

/// All variables, in the order of Env.
std::span<const EnvRow> env_table();
std::string_view name(EnvType type);

/// The variable's text; "" where it is unset or "0" (unset, 0 and empty all mean off).
std::string env_text(Env id);
/// Whether it is on.
bool env_flag(Env id);
/// Its whole number, 0 where it is off. Throws Error naming variable and value where it is no whole number.
int64_t env_int(Env id);
/// Its comma-separated parts, without empty ones.
std::vector<std::string> env_list(Env id);

/// One line for each KONTOR_* in the environment that no row names, with the row it may have meant.
std::vector<std::string> env_warnings();

}  // namespace kontor
