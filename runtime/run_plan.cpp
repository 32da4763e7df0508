// A RunPlan of a schedule, and whether one that was read is of a graph.
#include "runtime/run_plan.h"

#include <algorithm>

#include "base/error.h"
#include "codegen/cost.h"
#include "codegen/program/memory_plan.h"
#include "runtime/inspect.h"
#include "runtime/kernels.h"

namespace kontor {

namespace {

bool has_check(const Ref& tree) {
  const std::vector<const Node*> nodes = topological(std::span(&tree, 1));
  return std::any_of(nodes.begin(), nodes.end(), [](const Node* n) { return n->op == Op::Check; });
}

class Requirements {
 public:
  Requirements(const RunPlan& plan, const Graph& graph)
      : plan_(plan), graph_(graph), scalars_(static_cast<int64_t>(graph.scalars.size())) {
    for (const ScheduledStream& s : plan.streams)
      for (const ScheduledStream::Slot& slot : s.slots)
        all_slots_ = std::max(all_slots_, static_cast<int64_t>(slot.number) + 1);
    all_slots_ = std::max(all_slots_, scalars_);
  }

  void check() const {
    std::vector<int> written(graph_.outputs.size());
    for (const RunPlan::Buffer& b : plan_.buffers) buffer(b, written);
    need(std::ranges::count(written, 1) == std::ssize(written), "each output is one buffer");
    streams();
    for (const RunPlan::Launch& l : plan_.launches) launch(l);
  }

 private:
  const RunPlan& plan_;
  const Graph& graph_;
  int64_t scalars_, all_slots_ = 0;

  static void need(bool holds, std::string_view what) {
    if (!holds) fail("the plan is not of this graph: {}", what);
  }

  void expression(const Ref& e, int64_t slots) const {
    for (const Node* n : topological(std::span(&e, 1)))
      need(n->op != Op::Slot || (n->at(0) >= 0 && n->at(0) < slots), "a size has slots that there are");
  }

  void buffer(const RunPlan::Buffer& b, std::vector<int>& written) const {
    for (const Ref& d : b.dims) expression(d, scalars_);
    if (b.role == ScheduledBuffer::Temporary) return temporary(b);
    const std::vector<Ref>& leaves = b.role == ScheduledBuffer::Input ? graph_.inputs : graph_.outputs;
    need(b.number >= 0 && b.number < std::ssize(leaves), "an input or output is one of the graph's");
    const size_t number = static_cast<size_t>(b.number);
    need(leaves[number]->dtype == b.dtype, "inputs and outputs are of the graph's dtypes");
    if (b.role == ScheduledBuffer::Output) written[number]++;
    need(!b.in_place || (b.role == ScheduledBuffer::Output && graph_.target[number] >= 0),
         "what is written in place is an output and has a target");
  }

  void temporary(const RunPlan::Buffer& b) const {
    int64_t bytes = item_size(b.dtype);
    bool fits = b.number >= 0 && b.number % arena_unit == 0;
    for (const Ref& d : b.dims)
      fits = fits && !__builtin_mul_overflow(bytes, std::max<int64_t>(d->bounds.hi, 0), &bytes);
    need(fits && bytes <= plan_.arena_bytes && b.number <= plan_.arena_bytes - bytes,
         "temporaries lie in the arena");
  }

  void streams() const {
    constexpr int64_t most_slots = 1 << 16;
    need(all_slots_ < most_slots, "streams have slots behind the scalars");
    for (size_t i = 0; i < plan_.streams.size(); ++i) {
      const ScheduledStream& s = plan_.streams[i];
      need(s.first <= s.last && s.last < plan_.launches.size(), "streams are of kernels that there are");
      need(s.chunk > 0 && s.chunk <= s.extent, "pieces are of the axis");
      for (size_t k = 0; k < i; ++k) {
        const ScheduledStream& outer = plan_.streams[k];
        const bool within = outer.first <= s.first && s.last <= outer.last;
        need(within || outer.last < s.first, "streams nest, outer ones first");
      }
      for (const ScheduledStream::Slot& slot : s.slots)
        need(slot.divisor > 0 && static_cast<int64_t>(slot.number) >= scalars_,
             "streams have slots of their own");
    }
  }

  void launch(const RunPlan::Launch& l) const {
    expression(l.shares, all_slots_);
    for (int b : l.buffers)
      need(b >= 0 && b < std::ssize(plan_.buffers), "kernels have buffers that there are");
    for (const SlotSource& s : l.slots) need(s.scalar < all_slots_, "kernels have slots that there are");
  }
};

}  // namespace

RunPlan plan_of(const Schedule& schedule, std::span<const BoundKernel> kernels) {
  RunPlan plan;
  const MemoryPlan memory = plan_temporaries(schedule);
  plan.arena_bytes = memory.bytes;
  for (size_t i = 0; i < schedule.buffers.size(); ++i) {
    const ScheduledBuffer& b = schedule.buffers[i];
    const bool temporary = b.role == ScheduledBuffer::Temporary;
    plan.buffers.push_back({b.role, temporary ? memory.offset[i] : b.number, b.dtype, b.dims, b.in_place});
  }
  plan.streams = schedule.streams;
  if (!schedule.kernels.empty()) plan.checks = schedule.kernels[0].checks;
  for (size_t k = 0; k < schedule.kernels.size(); ++k) {
    const ScheduledKernel& kernel = schedule.kernels[k];
    plan.launches.push_back({.kernel = kernels[k].kernel->key,
                             .shares = kernel.shares,
                             .buffers = kernel.buffers,
                             .slots = kernels[k].slots,
                             .operations = inspect::operations_in(kernel.tree),
                             .threads = cost::pays_threads(kernel.work),
                             .checked = has_check(kernel.tree)});
  }
  return plan;
}

void require_fits(const RunPlan& plan, const Graph& graph) { Requirements(plan, graph).check(); }

}  // namespace kontor
