// realize: computes Tensors, with the pending assigns of what their graph reads, as one graph.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "runtime/context_state.h"

namespace kontor {

/// Each state's node becomes the Buffer leaf of its value, in memory. Takes the context's lock.
void realize(ContextState& context, std::span<const std::shared_ptr<TensorState>> states);

/// Slot values of a graph's scalars. Scalars have the value that was recorded, Variables the present one.
std::vector<int64_t> slot_values(std::span<const Ref> scalars);
/// Dimensions with Variables replaced by their present values.
std::vector<Ref> frozen(const std::vector<Ref>& dims);
/// The memory of a value on this context's device, copied there where it lives elsewhere. Needs the lock.
std::shared_ptr<Memory> memory_on(ContextState& context, const Version& version);
/// Whether memory can be read and written by the context's kernels as it is.
bool usable_on(const ContextState& context, const Memory& memory);
/// Whether memory belongs to one value: held by its Version and by `bound` alone.
bool unshared(std::span<const std::shared_ptr<Memory>> bound, size_t i);
/// Fresh memory with the content of `from`. Needs the lock.
std::shared_ptr<Memory> copy_of(ContextState& context, const Memory& from);
/// Counts a run and keeps what a failed check said.
void run_compiled(ContextState& context, CompiledSchedule& compiled,
                  const CompiledSchedule::Binding& binding);

}  // namespace kontor
