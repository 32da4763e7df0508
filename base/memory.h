// How much memory this process may still take, asked before much is taken: afterwards there is nothing left to answer with.
#pragma once
#include <cstdint>
#include <string_view>

namespace kontor {

struct MemoryLeft {
  uint64_t bytes = UINT64_MAX;
  std::string_view limit = "the machine";  ///< what sets it
};

/// The least of what the machine has free (without swap), what the control groups of the process allow, and what its own
/// limits (RLIMIT_AS, RLIMIT_DATA) allow. An estimate: others take memory at the same time.
MemoryLeft memory_left();

/// Throws Error, that begins with `what`, where `bytes` are more than is left. Small sizes are not looked at.
void require_memory(uint64_t bytes, std::string_view what);

}  // namespace kontor
