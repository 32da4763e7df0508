// Binding values to a run, with copies between devices.
#include "runtime/binding.h"

#include "base/error.h"
#include "base/guard.h"
#include "runtime/owners.h"

namespace kontor {
namespace {

bool usable_on(const ContextState& context, const Memory& memory) {
  if (&memory.device() == context.device.get()) return true;
  return memory.device().backend().host_visible() && context.device->backend().host_visible();
}

std::shared_ptr<Memory> copy_of(ContextState& context, const Memory& from) {
  std::shared_ptr<Memory> copy = context.device->allocate(from.bytes());
  if (from.device().backend().host_visible()) {
    context.device->backend().copy_in(copy->data(), from.data(), from.bytes());
  } else {
    std::vector<char> host(from.bytes());
    from.device().backend().copy_out(host.data(), from.data(), host.size());
    context.device->backend().copy_in(copy->data(), host.data(), host.size());
  }
  return copy;
}

}  // namespace

void BoundInputs::add(ContextState& context, std::shared_ptr<Version> value) {
  if (!value->memory) broken("version {} of storage {} has no memory", value->number, value->storage->id);
  std::shared_ptr<Memory> copy;
  if (!usable_on(context, *value->memory)) copy = copy_of(context, *value->memory);
  addresses_.push_back(copy ? copy->data() : value->memory->data());
  inputs_.push_back({std::move(value), std::move(copy)});
}

bool BoundInputs::has_own_memory(size_t input) const {
  return !inputs_[input].copy && sole_owner(inputs_[input].value->memory);
}

std::shared_ptr<Memory> BoundInputs::to_write_over(ContextState& context, size_t input, bool take) {
  const Input& from = inputs_[input];
  std::shared_ptr<Memory> memory = from.copy ? from.copy
                                   : take    ? from.value->memory
                                             : copy_of(context, *from.value->memory);
  addresses_[input] = memory->data();
  return memory;
}

void BoundInputs::clear() {
  inputs_.clear();
  addresses_.clear();
}

void run_compiled(ContextState& context, CompiledSchedule& compiled,
                  const CompiledSchedule::Binding& binding) {
  std::string failed =
      guarded("run", [&] { return compiled.run(*context.device, context.parallel, binding); });
  context.counters.launches += compiled.launches();
  if (!failed.empty() && context.failure.empty()) context.failure = std::move(failed);
}

}  // namespace kontor
