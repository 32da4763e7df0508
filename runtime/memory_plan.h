// Memory plan: temporaries of one schedule get places in one arena, so that those alive at the same time never overlap.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace kontor::inline v0 {

/// A temporary: its size and the first and last kernel that touch it.
struct Lifetime {
  int64_t bytes = 0;
  int first = 0, last = 0;
};

struct MemoryPlan {
  std::vector<int64_t> offset;  ///< of each temporary; a multiple of 64
  int64_t bytes = 0;            ///< of the arena
};

/// Largest first, each into the smallest gap that fits between those alive with it.
MemoryPlan plan_memory(std::span<const Lifetime> temporaries);

}  // namespace kontor::inline v0
