// Recording a function into a JitProgram, and calling it.
#include "runtime/replay.h"

#include <algorithm>

#include "base/error.h"
#include "graph/shape.h"
#include "runtime/owners.h"
#include "runtime/realize.h"
#include "runtime/trace.h"

namespace kontor {
namespace {

// The nodes with each leaf that the trace assigned replaced by what defines it.
Substitution resolve(std::span<const Ref> roots) {
  NodeSet met;
  std::vector<const Node*> order;
  for (const Ref& r : roots) append_topological(r.get(), met, order, recorded_below);
  Substitution done;
  map_nodes(order, done, [&](const Node& n) { return resolved(n, done); });
  return done;
}

Ref placeholder_like(const Ref& leaf) {
  std::shared_ptr<Version> version = make_version();
  version->placeholder = true;
  return leaf_of(version, leaf->dtype, leaf->src);
}

constexpr int kAttempts = 4;

}  // namespace

JitProgram::JitProgram(ContextState& context, std::span<const Tensor> arguments, void* function,
                       Jit::Trace run)
    : context_id_(context.id) {
  std::vector<Ref> placeholders;
  for (const Tensor& t : arguments) {
    const Ref leaf = node_of(t);
    argument_dtypes_.push_back(leaf->dtype);
    argument_dims_.push_back(leaf->src);
    placeholders.push_back(placeholder_like(leaf));
  }
  for (int attempt = 0; !record_once(context, placeholders, function, run); ++attempt) {
    if (attempt == kAttempts)
      fail("jit: the function makes new Tensors that it assigns and keeps at every call");
  }
  once_ |= shared_states();
}

bool JitProgram::record_once(ContextState& context, const std::vector<Ref>& placeholders, void* function,
                             Jit::Trace run) {
  const int64_t first_new_id = fresh_id();
  std::vector<std::shared_ptr<TensorState>> kept;
  {
    Trace trace(context);
    std::vector<Ref> results;
    {
      std::vector<Tensor> inputs;
      for (const Ref& p : placeholders) inputs.push_back(tensor_of(p));
      for (const Tensor& t : run(function, inputs)) results.push_back(node_of(t));
    }
    // A Tensor made by the function that outlives it (an optimiser's state at its first step) becomes state: it is
    // computed as it was when first assigned, and the function is recorded again.
    for (const Trace::Assigned& a : trace.assigned()) {
      if (a.local && !sole_owner(a.state)) kept.push_back(a.state);
    }
    trace.undo();
    if (kept.empty()) {
      trace.check_left_behind();
      for (const auto& watch : trace.watches()) watches_.emplace_back(watch, watch->changes.load());
      for (const auto& [leaf, states] : trace.captured()) {
        once_ |= std::count_if(states.begin(), states.end(), [](const auto& s) { return !s.expired(); }) > 1;
      }
      build(context, trace, placeholders, results, first_new_id);
      for (auto& [state, advance] : trace.host_steps()) host_steps_.emplace_back(std::move(state), advance);
      return true;
    }
  }
  realize(context, kept);
  return false;
}

void JitProgram::build(ContextState& context, Trace& trace, const std::vector<Ref>& placeholders,
                       const std::vector<Ref>& results, int64_t first_new_id) {
  std::erase_if(trace.assigned(), [](const Trace::Assigned& a) { return a.local; });
  std::vector<Ref> roots = results;
  for (const Trace::Assigned& a : trace.assigned()) roots.push_back(a.after);
  const Substitution resolved = resolve(roots);
  std::vector<Ref> nodes, targets;
  add_states(trace, resolved, nodes, targets);
  add_results(trace, results, resolved, nodes);
  Graph graph = make_graph(std::move(nodes), targets);
  find_returned_leaves(graph, results, resolved);
  check_scalars(graph, trace);
  for (const Ref& leaf : graph.inputs) inputs_.push_back(input_of(leaf, placeholders, trace, first_new_id));
  for (const Result& r : results_) {
    if (r.kind == Result::Leaf) inputs_[r.index].is_result = true;
  }
  for (const Ref& leaf : graph.scalars) {
    scalars_.push_back(std::static_pointer_cast<const ScalarState>(leaf->arg.payload));
  }
  targets_ = graph.target;
  random_base_ = trace.random_base();
  random_blocks_ = trace.random_blocks();
  if (graph.outputs.empty()) return;
  std::lock_guard lock(context.mutex);
  passes_ = context.passes.size();
  compiled_ = compiled_for(context, graph);
}

// New values of what the function assigns: the first outputs.
void JitProgram::add_states(Trace& trace, const Substitution& resolved, std::vector<Ref>& nodes,
                            std::vector<Ref>& targets) {
  for (const Trace::Assigned& a : trace.assigned()) {
    const Ref& value = resolved.at(a.after.get());
    const bool taken = std::find(targets.begin(), targets.end(), a.before) != targets.end();
    states_.push_back({a.state, nodes.size()});
    outputs_.push_back(
        {.dtype = a.before->dtype, .dims = a.before->src, .state = static_cast<int>(states_.size()) - 1});
    nodes.push_back(value->op == Op::Buffer ? make(Op::Copy, {value}) : value);
    targets.push_back(taken ? Ref() : a.before);
  }
}

void JitProgram::add_results(Trace& trace, const std::vector<Ref>& results, const Substitution& resolved,
                             std::vector<Ref>& nodes) {
  NodeMap<size_t> output_of;
  for (const Ref& r : results) {
    const auto& assigned = trace.assigned();
    const auto state = std::find_if(assigned.begin(), assigned.end(), [&](auto& a) { return a.after == r; });
    const Ref& value = resolved.at(r.get());
    if (state != assigned.end()) {
      results_.push_back({Result::NewState, static_cast<size_t>(state - assigned.begin())});
    } else if (value->op == Op::Buffer) {
      results_.push_back({Result::Leaf, 0});  // find_returned_leaves() says which
    } else {
      const auto [it, fresh] = output_of.emplace(value.get(), nodes.size());
      if (fresh) {
        nodes.push_back(value);
        outputs_.push_back({.dtype = value->dtype, .dims = value->shape});
      }
      results_.push_back({Result::Value, it->second});
    }
  }
}

// Leaves that are returned as they are count as inputs, and are not written over.
void JitProgram::find_returned_leaves(Graph& graph, const std::vector<Ref>& results,
                                      const Substitution& resolved) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (results_[i].kind != Result::Leaf) continue;
    const Ref& leaf = resolved.at(results[i].get());
    auto it = std::find(graph.inputs.begin(), graph.inputs.end(), leaf);
    if (it == graph.inputs.end()) it = graph.inputs.insert(graph.inputs.end(), leaf);
    results_[i].index = static_cast<size_t>(it - graph.inputs.begin());
    for (size_t k = 0; k < outputs_.size(); ++k) {
      if (graph.target[k] == static_cast<int>(results_[i].index)) outputs_[k].old_is_result = true;
    }
  }
}

JitProgram::Input JitProgram::input_of(const Ref& leaf, const std::vector<Ref>& placeholders,
                                       const Trace& trace, int64_t first_new_id) const {
  Input input{.from = From::Fixed,
              .storage = {},
              .version = {},
              .constant = {},
              .dtype = leaf->dtype,
              .dims = leaf->src};
  if (auto it = std::find(placeholders.begin(), placeholders.end(), leaf); it != placeholders.end()) {
    input.from = From::Argument;
    input.index = static_cast<size_t>(it - placeholders.begin());
    return input;
  }
  const auto& assigned = const_cast<Trace&>(trace).assigned();
  const auto state =
      std::find_if(assigned.begin(), assigned.end(), [&](auto& a) { return a.before == leaf; });
  const std::shared_ptr<Version> version = share_version(*leaf);
  if (version->placeholder)
    fail("jit: the function uses {}, an input of another jit function", describe(*leaf));
  if (state != assigned.end()) {
    input.from = From::State;
    input.index = static_cast<size_t>(state - assigned.begin());
  } else if (version->storage->id > first_new_id && !trace.captured().contains(leaf.get())) {
    input.constant = version;
  } else if (version->storage->latest.lock() == version) {
    input.from = From::Latest;
    input.storage = version->storage;
    input.ambiguity = version->storage->ambiguity;
  } else {
    input.version = version;
  }
  return input;
}

void JitProgram::check_scalars(const Graph& graph, const Trace& trace) const {
  for (const Ref& leaf : graph.scalars) {
    if (leaf->op != Op::Scalar || &scalar_state(*leaf) == trace.random_base().get()) continue;
    if (scalar_state(*leaf).bits.load() != static_cast<uint64_t>(leaf->at(1))) {
      fail(
          "jit: a Scalar is set inside of the function, after it was used; set it between the calls instead");
    }
  }
}

// Whether another Tensor or an expression holds the value of one that the function assigns: which is which can only be
// told when they have parted, so the function is recorded once more at the next call.
bool JitProgram::shared_states() const {
  for (const State& s : states_) {
    const std::shared_ptr<TensorState> state = s.state.lock();
    if (!state || !sole_owner(state->node)) return true;
  }
  return false;
}

bool JitProgram::fits(const ContextState& context, std::span<const Ref> arguments) const {
  if (context.id != context_id_ || arguments.size() != argument_dtypes_.size()) return false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i]->dtype != argument_dtypes_[i] || arguments[i]->src != argument_dims_[i]) return false;
  }
  return true;
}

// Whether every Tensor that was read or assigned is still there as the same thing.
bool JitProgram::valid(const ContextState& context) const {
  if (compiled_ && passes_ != context.passes.size()) return false;
  if (once_ && called_) return false;
  for (const auto& [watch, changes] : watches_)
    if (watch->changes != changes) return false;
  for (const State& s : states_) {
    const std::shared_ptr<TensorState> state = s.state.lock();
    if (!state || state->node->op != Op::Buffer) return false;
  }
  for (const Input& i : inputs_) {
    if (i.from == From::Latest && (i.storage->ambiguity != i.ambiguity || i.storage->latest.expired()))
      return false;
    if (i.from != From::Fixed || i.constant) continue;
    const std::shared_ptr<Version> version = i.version.lock();
    if (!version || !version->memory) return false;
  }
  return true;
}

// States and leaves with pending values, which are computed before the call.
std::vector<std::shared_ptr<TensorState>> JitProgram::unrealized() const {
  std::vector<std::shared_ptr<TensorState>> pending;
  for (const State& s : states_) {
    std::shared_ptr<TensorState> state = s.state.lock();
    if (state && version_of(*state->node).pending()) pending.push_back(std::move(state));
  }
  for (const Input& i : inputs_) {
    if (i.from != From::Latest) continue;
    const std::shared_ptr<Version> latest = i.storage->latest.lock();
    if (!latest || !latest->pending()) continue;
    pending.push_back(std::make_shared<TensorState>());
    pending.back()->node = leaf_of(latest, i.dtype, i.dims);
  }
  return pending;
}

bool JitProgram::call(ContextState& context, std::span<const Ref> arguments, std::vector<Tensor>& results) {
  while (true) {
    std::vector<std::shared_ptr<TensorState>> pending;
    {
      std::lock_guard lock(context.mutex);
      if (!valid(context)) return false;
      pending = unrealized();
      if (pending.empty()) {
        const Forget forget{*this};
        execute(context, arguments);
        results = collect();
        throw_failure(context);
        return true;
      }
    }
    realize(context, pending);
  }
}

void JitProgram::execute(ContextState& context, std::span<const Ref> arguments) {
  Device& device = *context.device;
  for (const State& s : states_) held_.push_back(s.state.lock());
  for (const Input& i : inputs_) {
    std::shared_ptr<Version> version = version_at(i, arguments);
    returned_.push_back(i.is_result ? leaf_of(version, i.dtype, i.dims) : Ref());
    bound_.add(device, std::move(version));
  }
  draw(context);
  for (const auto& [state, advance] : host_steps_) advance(state.get());
  for (const auto& scalar : scalars_) slots_.push_back(static_cast<int64_t>(scalar->bits.load()));
  for (size_t k = 0; k < outputs_.size(); ++k) bind_output(k);
  if (called_) context.counters.replays++;
  if (compiled_) run_compiled(context, *compiled_, {bound_.addresses(), output_addresses_, slots_});
  const bool called_before = std::exchange(called_, true);
  for (size_t k = 0; k < outputs_.size(); ++k) commit(context, k, called_before);
}

std::shared_ptr<Version> JitProgram::version_at(const Input& input, std::span<const Ref> arguments) const {
  switch (input.from) {
    case From::Argument: return share_version(*arguments[input.index]);
    case From::State:    return share_version(*held_[input.index]->node);
    case From::Latest:   return input.storage->latest.lock();
    case From::Fixed:    break;
  }
  return input.constant ? input.constant : input.version.lock();
}

void JitProgram::draw(ContextState& context) {
  const auto blocks = static_cast<uint64_t>(evaluate_variables(random_blocks_));
  random_base_->bits = context.draw(blocks);
}

// Memory of an output: that of the value it replaces, where the Tensor alone owns that.
void JitProgram::bind_output(size_t k) {
  const Output& output = outputs_[k];
  const size_t input = static_cast<size_t>(std::max(targets_[k], 0));
  const bool sole = output.state >= 0 && targets_[k] >= 0 && !output.old_is_result &&
                    inputs_[input].from == From::State && sole_owner(held_[inputs_[input].index]->node) &&
                    bound_.has_own_memory(input);
  std::shared_ptr<Memory> memory =
      compiled_->in_place(k)
          ? bound_.to_write_over(compiled_->device(), input, sole)
          : compiled_->device().allocate(static_cast<size_t>(compiled_->output_bytes(k, slots_)));
  sole_.push_back(sole);
  output_addresses_.push_back(memory->data());
  output_memories_.push_back(std::move(memory));
}

void JitProgram::commit(ContextState& context, size_t k, bool called_before) {
  const Output& output = outputs_[k];
  if (output.state < 0) {
    std::shared_ptr<Version> version = make_version();
    version->memory = std::move(output_memories_[k]);
    output_leaves_.push_back(leaf_of(version, output.dtype, frozen(output.dims)));
    return;
  }
  TensorState& state = *held_[static_cast<size_t>(output.state)];
  if (sole_[k]) {  // the same leaf with a new value: what was remembered of the old one is void
    version_of(*state.node).memory = std::move(output_memories_[k]);
    context.realized.clear();
  } else {
    const std::shared_ptr<Version> old = share_version(*state.node);
    const bool go_on = state.original && old->storage->latest.lock() == old;
    if (!called_before || !go_on)
      old->storage->ambiguity++;  // another Tensor may be what others know by this identity
    const std::shared_ptr<Version> next = go_on ? next_version(old) : make_version();
    state.original = true;
    next->memory = std::move(output_memories_[k]);
    Ref leaf = leaf_of(next, output.dtype, output.dims);
    std::lock_guard lock(state.mutex);
    state.node = std::move(leaf);
  }
  output_leaves_.push_back(state.node);
}

std::vector<Tensor> JitProgram::collect() const {
  std::vector<Tensor> results;
  results.reserve(results_.size());
  for (const Result& r : results_) {
    switch (r.kind) {
      case Result::Value:    results.push_back(tensor_of(output_leaves_[r.index])); break;
      case Result::Leaf:     results.push_back(tensor_of(returned_[r.index])); break;
      case Result::NewState: results.push_back(tensor_of(output_leaves_[states_[r.index].output])); break;
    }
  }
  return results;
}

// Values of a call must not outlive it here: they would count as readers at the next one.
JitProgram::Forget::~Forget() {
  program.returned_.clear();
  program.held_.clear();
  program.bound_.clear();
  program.output_memories_.clear();
  program.sole_.clear();
  program.output_leaves_.clear();
  program.output_addresses_.clear();
  program.slots_.clear();
}

}  // namespace kontor
