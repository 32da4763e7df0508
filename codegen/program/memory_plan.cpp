// Greedy placement by size (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
#include "codegen/program/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "codegen/cost.h"

namespace kontor {
namespace {

struct Placed {
  int64_t begin, end;
  Lifetime life;
};

// The begin of the smallest gap of at least `bytes` between `placed` (sorted by begin) that are alive with `life`.
int64_t best_gap(const std::vector<Placed>& placed, const Lifetime& life, int64_t bytes) {
  int64_t best = -1, best_size = INT64_MAX, top = 0;
  for (const Placed& p : placed) {
    if (p.life.last < life.first || life.last < p.life.first) continue;
    const int64_t gap = p.begin - top;
    if (gap >= bytes && gap < best_size) {
      best = top;
      best_size = gap;
    }
    top = std::max(top, p.end);
  }
  return best >= 0 ? best : top;
}

int64_t most_bytes(const ScheduledBuffer& buffer) {
  int64_t bytes = item_size(buffer.dtype);
  for (const Ref& d : buffer.dims) {
    if (d->bounds.hi == INT64_MAX) broken("a temporary has a dimension without an upper bound");
    bytes *= std::max<int64_t>(d->bounds.hi, 0);
  }
  if (bytes > cost::beyond_memory) fail("out of memory: a temporary of {} bytes", bytes);
  return bytes;
}

}  // namespace

MemoryPlan plan_temporaries(const Schedule& schedule) {
  std::vector<Lifetime> lives = lifetimes(schedule), temporaries;
  for (size_t b = 0; b < lives.size(); ++b) {
    if (schedule.buffers[b].role != ScheduledBuffer::Temporary) continue;
    lives[b].bytes = most_bytes(schedule.buffers[b]);
    temporaries.push_back(lives[b]);
  }
  const MemoryPlan plan = plan_memory(temporaries);
  MemoryPlan all{std::vector<int64_t>(lives.size(), -1), plan.bytes};
  auto offset = plan.offset.begin();
  for (size_t b = 0; b < lives.size(); ++b) {
    if (schedule.buffers[b].role == ScheduledBuffer::Temporary) all.offset[b] = *offset++;
  }
  return all;
}

MemoryPlan plan_memory(std::span<const Lifetime> temporaries) {
  std::vector<size_t> order(temporaries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return temporaries[a].bytes > temporaries[b].bytes; });
  MemoryPlan plan;
  plan.offset.resize(temporaries.size());
  std::vector<Placed> placed;
  for (size_t i : order) {
    const Lifetime& life = temporaries[i];
    const int64_t bytes = std::max<int64_t>((life.bytes + arena_unit - 1) / arena_unit, 1) * arena_unit;
    const int64_t begin = best_gap(placed, life, bytes);
    plan.offset[i] = begin;
    plan.bytes = std::max(plan.bytes, begin + bytes);
    const Placed entry{begin, begin + bytes, life};
    placed.insert(std::upper_bound(placed.begin(), placed.end(), entry,
                                   [](const Placed& a, const Placed& b) { return a.begin < b.begin; }),
                  entry);
  }
  return plan;
}

}  // namespace kontor
