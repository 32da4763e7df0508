// Jit: a function's recorded programs, one a signature, and the choice among them.
#include <algorithm>

#include "base/error.h"
#include "runtime/realize.h"
#include "runtime/replay.h"
#include "runtime/trace.h"

namespace kontor {

struct Jit::State {
  std::shared_ptr<void> function;
  Trace trace;
  std::mutex mutex;  // guards programs, and that the function is recorded by one thread at a time
  std::vector<std::shared_ptr<JitProgram>> programs;  // the last used first
};

// Signatures that a function keeps; one that comes back after that many others is recorded again.
static constexpr size_t kMostPrograms = 256;

Jit::Jit(std::shared_ptr<void> function, Trace trace) : state_(std::make_shared<State>()) {
  state_->function = std::move(function);
  state_->trace = trace;
}

void v0::at_each_call(std::shared_ptr<void> state, void (*advance)(void* state)) {
  if (Trace* trace = Trace::current()) trace->host_steps().push_back({std::move(state), advance});
  else advance(state.get());
}

std::vector<Tensor> Jit::operator()(std::span<const Tensor> inputs) {
  State& state = *state_;
  if (current_tracer != nullptr)
    return state.trace(state.function.get(), inputs);  // part of the outer function
  ContextState& context = Context::current().state();
  std::vector<std::shared_ptr<TensorState>> pending;
  std::vector<Ref> leaves;
  for (const Tensor& t : inputs) leaves.push_back(node_of(t));
  {
    std::lock_guard lock(context.mutex);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const bool done = leaves[i]->op == Op::Buffer && version_of(*leaves[i]).memory;
      if (!done) pending.push_back(Recording::state(inputs[i]));
    }
  }
  if (!pending.empty()) {
    realize(context, pending);
    for (size_t i = 0; i < inputs.size(); ++i) leaves[i] = node_of(inputs[i]);
  }
  std::vector<Tensor> results;
  std::lock_guard lock(state.mutex);
  auto& programs = state.programs;
  const auto fits = [&](const auto& p) { return p->fits(context, leaves); };
  if (auto it = std::find_if(programs.begin(), programs.end(), fits); it != programs.end()) {
    std::rotate(programs.begin(), it, it + 1);
    if (programs.front()->call(context, leaves, results)) return results;
    programs.erase(programs.begin());
  }
  auto program = std::make_shared<JitProgram>(context, inputs, state.function.get(), state.trace);
  if (!program->call(context, leaves, results)) broken("jit: a function just recorded cannot be called");
  programs.insert(programs.begin(), std::move(program));
  if (programs.size() > kMostPrograms) programs.pop_back();
  return results;
}

}  // namespace kontor
