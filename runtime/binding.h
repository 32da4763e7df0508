// What a run reads: values, and where they are on the device that runs it, which may not be theirs.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "runtime/context_state.h"

namespace kontor {

/// The inputs of one run in order. It owns their values, whatever other threads let go of, until it is cleared. All of it
/// needs the context's lock.
class BoundInputs {
 public:
  /// The next input of a run on `device`: the value's memory, or a copy of it where it lives on a device whose memory this one
  /// cannot use.
  void add(Device& device, std::shared_ptr<Version> value);
  /// Whether the input is in the memory of its value, which no other value shares.
  bool has_own_memory(size_t input) const;
  /// Memory with the input's value that kernels write an output over: the value's own if `take`, else a copy of this run.
  std::shared_ptr<Memory> to_write_over(Device& device, size_t input, bool take);
  std::span<void* const> addresses() const { return addresses_; }
  void clear();

 private:
  struct Input {
    std::shared_ptr<Version> value;
    std::shared_ptr<Memory> copy;  // null: the value's own memory
  };
  std::vector<Input> inputs_;
  std::vector<void*> addresses_;
};

/// Counts a run and keeps what a failed check said. Needs the lock.
void run_compiled(ContextState& context, CompiledSchedule& compiled,
                  const CompiledSchedule::Binding& binding);

}  // namespace kontor
