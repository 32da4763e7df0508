// CompiledSchedule: a plan with its programs for one device, laid out flat, so that running it again only fills in addresses.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/kernels.h"
#include "runtime/run_plan.h"

namespace kontor {

class CompiledSchedule {
 public:
  /// `kernels`: of each launch.
  CompiledSchedule(std::shared_ptr<Device> device, RunPlan plan, std::vector<std::shared_ptr<Kernel>> kernels,
                   size_t inputs, size_t outputs);

  /// On which it runs, and where its inputs and outputs must be.
  Device& device() const { return *device_; }

  /// Addresses of one run, in the order of the graph's inputs and outputs; slots as KernelArgs has them.
  struct Binding {
    std::span<void* const> inputs, outputs;
    std::span<const int64_t> scalars;
  };
  /// Runs all kernels. Returns what the first failed check says, or "".
  std::string run(const ParallelFor& parallel, const Binding& binding);

  /// Kernels launched by a run: those of a stream once for each of its pieces.
  size_t launches() const { return launched_; }
  /// Whether the kernels write an output over the input that is its target: its address is that input's then. If
  /// someone else still needs that value, the input's address must be that of a copy.
  bool in_place(size_t output) const { return outputs_[output].in_place; }
  /// Bytes that an output needs at these slots.
  int64_t output_bytes(size_t output, std::span<const int64_t> scalars) const;
  int64_t arena_bytes() const { return plan_.arena_bytes; }
  const RunPlan& plan() const { return plan_; }

 private:
  struct LaunchPlan {
    Program* program;
    uint32_t first, count;               // its part of pointers_
    int64_t shares;                      // -1: computed from the slots
    uint32_t first_slot = 0, slots = 0;  // its part of own_slots_; none: it reads the scalars as they are
  };
  struct OutputPlan {
    int64_t bytes = 0;  // -1: computed from the slots
    bool in_place = false;
    const RunPlan::Buffer* buffer = nullptr;
  };
  // Where an address comes from: one word, so that binding is one pass over it.
  struct Source {
    uint32_t table;  // 0: inputs, 1: outputs, 2: arena offset (in 64 bytes)
    uint32_t index;
  };
  void plan_launches();
  void plan_slots(LaunchPlan& plan, std::span<const SlotSource> sources);
  std::span<const int64_t> slots_of(const LaunchPlan& plan, std::span<const int64_t> scalars);
  void bind(const Binding& binding);
  int64_t shares(size_t launch, std::span<const int64_t> scalars) const;
  struct Run {
    Backend& backend;
    const ParallelFor& parallel;
    std::span<const int64_t> scalars;
    bool timed;
    std::string failed = {};  // what the first failed check says
  };
  void launch(Run& run, size_t k);
  int64_t traffic(size_t launch, std::span<const int64_t> scalars) const;

  std::shared_ptr<Device> device_;
  RunPlan plan_;
  std::vector<std::shared_ptr<Kernel>> kernels_;
  std::vector<OutputPlan> outputs_;
  std::vector<LaunchPlan> launches_;
  std::vector<Source> sources_;
  std::vector<void*> pointers_;
  std::vector<int64_t> own_slots_;     // of launches one after another, filled in as each starts
  std::vector<int64_t> slot_scalars_;  // the scalar that each of them is, or -1: it stays as it is
  std::vector<int64_t> slots_;         // scalars of a run, and where the pieces of its streams begin
  size_t launched_ = 0;
};

/// Value of an expression over Slots.
int64_t evaluate_slots(const Ref& expression, std::span<const int64_t> scalars);
/// Product of dimensions over Slots, times the dtype's size.
int64_t bytes_of(DType dtype, std::span<const Ref> dims, std::span<const int64_t> scalars);

}  // namespace kontor
