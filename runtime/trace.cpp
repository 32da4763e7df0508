// Recording reads, assigns and draws of a function under jit.
#include "runtime/trace.h"

#include <algorithm>

#include "base/error.h"
#include "graph/index/index.h"
#include "graph/shape.h"
#include "runtime/realize.h"

namespace kontor {

Trace::Trace(ContextState& context) : context_(context), random_base_(engine_scalar(0)), blocks_(index(0)) {
  {
    std::lock_guard lock(context.random_mutex);
    random_base_->bits = context.random_counter;
  }
  source_before_ = set_random_source(this);
  current_tracer = this;
}

Trace::~Trace() { undo(); }

void Trace::undo() noexcept {
  if (!recording_) return;
  recording_ = false;
  current_tracer = nullptr;
  set_random_source(source_before_);
  for (Assigned& a : assigned_) {
    std::lock_guard lock(a.state->mutex);
    a.state->node = a.before;
    a.state->trace = 0;
  }
}

void Trace::capture(const Tensor& tensor) {
  const std::shared_ptr<TensorState>& state = Recording::state(tensor);
  current_tracer = nullptr;  // what follows is no part of the function
  try {
    realize(context_, std::span(&state, 1));
  } catch (...) {
    current_tracer = this;
    throw;
  }
  current_tracer = this;
  watch(state, tensor);
  Ref leaf;
  {
    std::lock_guard lock(state->mutex);
    leaf = state->node;
  }
  auto& states = captured_[leaf.get()];
  if (states.empty()) leaves_.push_back(leaf);
  for (const auto& known : states) {
    if (known.lock() == state) return;
  }
  std::erase_if(states, [](const auto& known) { return known.expired(); });
  states.push_back(state);
}

void Trace::watch(const std::shared_ptr<TensorState>& state, const Tensor& handle) {
  std::lock_guard lock(state->mutex);
  if (!state->watch) state->watch = std::make_shared<Watch>();
  state->watched.store(true, std::memory_order_release);
  if (std::find(watches_.begin(), watches_.end(), state->watch) == watches_.end())
    watches_.push_back(state->watch);
  std::lock_guard handles_lock(state->watch->mutex);
  auto& handles = state->watch->handles;
  if (std::find(handles.begin(), handles.end(), &handle) == handles.end()) handles.push_back(&handle);
}

bool Trace::is_outside(const TensorState& state) const {
  if (!recording_) return false;
  return state.trace != id || std::any_of(assigned_.begin(), assigned_.end(), [&](const Assigned& a) {
           return !a.local && a.state.get() == &state;
         });
}

// Whether another call may give it another value: it depends on an input, a Tensor that was read, or a random draw.
bool Trace::is_of_this_call(const Ref& root) const {
  const std::vector<const Node*> nodes = topological(std::span(&root, 1));
  return std::any_of(nodes.begin(), nodes.end(), [&](const Node* n) {
    if (n->op == Op::Scalar) return n->arg.payload == random_base_;
    return n->op == Op::Buffer && (version_of(*n).placeholder || captured_.contains(n));
  });
}

void Trace::check_left_behind() const {
  if (lost_)
    fail("jit: the function moves or destroys a Tensor made outside of it: replays would not repeat that");
  for (const auto& weak : made_) {
    const std::shared_ptr<TensorState> state = weak.lock();
    if (!state) continue;
    std::lock_guard lock(state->mutex);
    if (is_of_this_call(state->node))
      fail(
          "jit: the function leaves {} in a Tensor outside of it, which replays would not renew: return it, or assign() "
          "it to a Tensor made before",
          describe(*state->node));
  }
}

Trace::Assigned& Trace::first_assign(Tensor& tensor, const Ref& old) {
  const std::shared_ptr<TensorState> state = Recording::state(tensor);
  const bool local = state->trace == id;
  std::shared_ptr<TensorState> own = state;
  if (!state->assigned) {
    own = std::make_shared<TensorState>();
    own->node = old;
    own->assigned = own->original = true;
    Recording::set_state(tensor, own);
  }
  own->trace = id;
  if (!local) watch(own, tensor);
  return assigned_.emplace_back(Assigned{own, old, {}, local});
}

void Trace::assign(Tensor& tensor, const Ref& old, Ref definition) {
  Assigned* entry = nullptr;
  for (Assigned& a : assigned_) {
    if (a.state == Recording::state(tensor)) entry = &a;
  }
  if (entry == nullptr) entry = &first_assign(tensor, old);
  if (entry->local) {  // nobody outside can know its identity yet: the value itself will do
    entry->after = std::move(definition);
  } else {
    auto version = std::make_shared<Version>();
    version->storage = version_of(*entry->before).storage;
    version->number = -fresh_id();  // of this trace only
    version->definition = std::move(definition);
    entry->after = leaf_of(version, old->dtype, old->shape);
  }
  std::lock_guard lock(entry->state->mutex);
  entry->state->node = entry->after;
}

Ref Trace::counter(const Ref& blocks) {
  const Ref begin = make(Op::Cast, {blocks_}, {}, DType::U64);
  const Ref base = scalar_leaf(random_base_);
  const bool first = is_int(blocks_, 0);
  const Ref start = first                 ? base
                    : blocks_->is_const() ? make(Op::Add, {base, constant(DType::U64, blocks_->at(0))})
                                          : make(Op::Add, {base, begin});
  blocks_ = ix::add(blocks_, blocks);
  return start;
}

}  // namespace kontor
