// Binding values to a run, with copies between devices.
#include "runtime/binding.h"

#include "base/error.h"
#include "base/guard.h"
#include "runtime/owners.h"

namespace kontor {

void BoundInputs::add(Device& device, std::shared_ptr<Version> value) {
  if (!value->memory) broken("version {} of storage {} has no memory", value->number, value->storage->id);
  std::shared_ptr<Memory> copy;
  if (!device.shares_memory_with(value->memory->device())) copy = device.copy_of(*value->memory);
  addresses_.push_back(copy ? copy->data() : value->memory->data());
  inputs_.push_back({std::move(value), std::move(copy)});
}

bool BoundInputs::has_own_memory(size_t input) const {
  return !inputs_[input].copy && sole_owner(inputs_[input].value->memory);
}

std::shared_ptr<Memory> BoundInputs::to_write_over(Device& device, size_t input, bool take) {
  const Input& from = inputs_[input];
  std::shared_ptr<Memory> memory = from.copy ? from.copy
                                   : take    ? from.value->memory
                                             : device.copy_of(*from.value->memory);
  addresses_[input] = memory->data();
  return memory;
}

void BoundInputs::clear() {
  inputs_.clear();
  addresses_.clear();
}

void run_compiled(ContextState& context, CompiledSchedule& compiled,
                  const CompiledSchedule::Binding& binding) {
  std::string failed = guarded("run", [&] { return compiled.run(context.parallel, binding); });
  context.counters.launches += compiled.launches();
  if (!failed.empty() && context.failure.empty()) context.failure = std::move(failed);
}

}  // namespace kontor
