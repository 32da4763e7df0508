// The members of Tensor that need the runtime: values from and to memory, realize, assign.
#include <algorithm>

#include "base/error.h"
#include "base/guard.h"
#include "graph/functions/functions.h"
#include "graph/shape.h"
#include "runtime/owners.h"
#include "runtime/realize.h"
#include "runtime/trace.h"

namespace kontor {
namespace {

// A state that no other Tensor shares.
std::shared_ptr<TensorState> own_state(Ref node, bool original) {
  auto state = std::make_shared<TensorState>();
  state->node = std::move(node);
  state->assigned = true;
  state->original = original;
  return state;
}

// The version that an assign makes to a Tensor of this state.
std::shared_ptr<Version> version_after(const std::shared_ptr<TensorState>& state, const Ref& old) {
  if (old->op != Op::Buffer) return make_version();
  const std::shared_ptr<Version> base = share_version(*old);
  Storage& storage = *base->storage;
  const bool latest = storage.latest.lock() == base;
  const bool copy = state->assigned && !state->original;
  if (!copy && (!latest || (!state->assigned && !sole_owner(state)))) storage.ambiguity++;
  if (latest && !copy) return next_version(base);
  std::shared_ptr<Version> fork = make_version();
  fork->before = base;
  return fork;
}

// The copy that a jit function takes of a Tensor from outside: it may be given other values there.
std::shared_ptr<TensorState> copy_inside(const Tensor& outside) {
  const Ref node = node_of(outside);  // captures it
  auto copy = std::make_shared<TensorState>();
  copy->node = node;
  copy->trace = current_tracer->id;
  current_tracer->made(copy);
  return copy;
}

void realize_states(std::vector<std::shared_ptr<TensorState>> states) {
  if (Trace::current() != nullptr) return;  // under jit everything is computed at the call
  realize(Context::current().state(), states);
}

}  // namespace

std::shared_ptr<TensorState> Tensor::share(const Tensor& other) {
  const std::shared_ptr<TensorState>& state = other.state_;
  if (state && current_tracer != nullptr && state->trace != current_tracer->id) return copy_inside(other);
  if (!state || !state->assigned) return state;
  std::lock_guard lock(state->mutex);
  std::shared_ptr<TensorState> copy = own_state(state->node, false);
  copy->trace = state->trace;
  return copy;
}

Tensor Tensor::from_memory(const void* data, DType dtype, const Shape& shape) {
  fn::check_dtype("from_memory", dtype);
  const std::vector<Ref> dims = Recording::dims(shape);
  check_dims("from", dims);
  size_t bytes = static_cast<size_t>(item_size(dtype));
  for (const Ref& d : dims) {
    if (!d->is_const())
      fail("from: the shape {} has a dimension without a fixed value", describe_shape(dims));
    bytes *= static_cast<size_t>(d->at(0));
  }
  return guarded("from", [&] {
    ContextState& context = Context::current().state();
    std::shared_ptr<Version> version = make_version();
    {
      std::lock_guard lock(context.mutex);
      version->memory = context.device->allocate(bytes);
      version->memory->copy_in(data);
    }
    return tensor_of(leaf_of(version, dtype, dims));
  });
}

Tensor& Tensor::realize() {
  Recording::node(*this);  // throws if it is empty
  realize_states({state_});
  return *this;
}

void v0::realize_all(std::span<Tensor* const> tensors) {
  std::vector<std::shared_ptr<TensorState>> states;
  for (const Tensor* t : tensors) {
    Recording::node(*t);
    states.push_back(Recording::state(*t));
  }
  realize_states(std::move(states));
}

void v0::realize_all(std::span<Tensor> tensors) {
  std::vector<Tensor*> pointers;
  for (Tensor& t : tensors) pointers.push_back(&t);
  realize_all(std::span<Tensor* const>(pointers));
}

void Tensor::read(void* out, size_t bytes) const {
  if (Trace::current() != nullptr) {
    fail(
        "read: the value of {} is asked for while jit records a function; return it from the function instead",
        describe(*Recording::node(*this)));
  }
  Recording::node(*this);
  ContextState& context = Context::current().state();
  kontor::realize(context, std::span(&state_, 1));
  const Ref leaf = Recording::node(*this);
  std::lock_guard lock(context.mutex);
  throw_failure(context);
  const std::shared_ptr<Memory> memory = version_of(*leaf).memory;
  if (!memory) broken("{} has no memory", describe(*leaf));
  if (memory->bytes() != bytes) {
    fail("read: {} has {} bytes, room for {} was given", describe(*leaf), memory->bytes(), bytes);
  }
  memory->copy_out(out);
}

Tensor& Tensor::assign(const Tensor& value) {
  const Ref old = Recording::node(*this);
  const Ref definition = Recording::node(value.dtype() == dtype() ? value : value.cast(dtype()));
  if (definition->shape != old->shape) {
    fail("assign: {} = {}: shapes differ", describe(*old), describe(*definition));
  }
  if (definition == old) return *this;
  if (Trace* trace = Trace::current()) return trace->assign(*this, old, definition), *this;
  ContextState& context = Context::current().state();
  std::lock_guard lock(context.mutex);
  std::shared_ptr<Version> version = version_after(state_, old);
  version->definition = definition;
  Ref leaf = leaf_of(version, old->dtype, frozen(old->shape));
  if (!state_->assigned) {
    state_ = own_state(std::move(leaf), true);
  } else {
    std::lock_guard state_lock(state_->mutex);
    state_->node = std::move(leaf);
    state_->original = true;
  }
  return *this;
}

}  // namespace kontor
