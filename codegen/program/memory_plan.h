// Memory plan: temporaries of one schedule get places in one arena, so that those alive at the same time never overlap.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "codegen/schedule.h"

namespace kontor {

/// [bytes] Temporaries begin at multiples of it.
inline constexpr int64_t arena_unit = 64;

struct MemoryPlan {
  std::vector<int64_t> offset;  ///< of each temporary; a multiple of arena_unit
  int64_t bytes = 0;            ///< of the arena
};

/// Where the temporaries of a schedule lie: an offset for each of its buffers, -1 for inputs and outputs. Sizes are the
/// largest that Variables allow.
MemoryPlan plan_temporaries(const Schedule& schedule);

/// Largest first, each into the smallest gap that fits between those alive with it.
MemoryPlan plan_memory(std::span<const Lifetime> temporaries);

}  // namespace kontor
