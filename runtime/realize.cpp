// From Tensors to one graph, its run, and the values put in their place.
#include "runtime/realize.h"

#include <algorithm>

#include "base/error.h"
#include "base/guard.h"
#include "graph/graph.h"
#include "graph/shape.h"
#include "runtime/repro.h"

namespace kontor {
namespace {

using State = std::shared_ptr<TensorState>;

/// The part of the graph that must be computed, as recorded: pending leaves lead on to their definitions, values
/// computed before end it.
class Needed {
 public:
  Needed(ContextState& context, const std::vector<Ref>& wanted) : context_(context) {
    for (const Ref& root : wanted) visit(root.get());
    for (size_t i = 0; i < assigned_.size(); ++i) visit(assigned_[i].get());  // grows meanwhile
  }

  const std::vector<const Node*>& order() const { return order_; }  // sources before users
  /// Leaves of the latest pending version of each Storage that is read.
  const std::vector<Ref>& assigned() const { return assigned_; }
  /// The leaf of the value that was computed for this node before; null if there is none.
  Ref known(const Node* node) const {
    auto it = known_.find(node);
    return it == known_.end() ? Ref() : it->second;
  }
  const NodeMap<Ref>& all_known() const { return known_; }
  /// Where the order continues below a node.
  std::span<const Ref> below(const Node* node) const {
    if (known_.contains(node)) return {};
    if (node->op != Op::Buffer) return node->src;
    const Version& version = version_of(*node);
    return version.pending() ? std::span(&version.definition, 1) : std::span<const Ref>();
  }

 private:
  void visit(const Node* root) {
    std::vector<std::pair<const Node*, size_t>> stack;
    enter(root, stack);
    while (!stack.empty()) {
      auto& [node, next] = stack.back();
      const std::span<const Ref> sources = below(node);
      if (next == sources.size()) {
        order_.push_back(node);
        stack.pop_back();
      } else {
        enter(sources[next++].get(), stack);
      }
    }
  }

  void enter(const Node* node, std::vector<std::pair<const Node*, size_t>>& stack) {
    if (!seen_.insert(node)) return;
    if (node->op == Op::Buffer) {
      note_assign(*node);
    } else if (node->depth > 1) {
      look_up(node);
    }
    stack.emplace_back(node, 0);
  }

  void note_assign(const Node& leaf) {
    const std::shared_ptr<Version> latest = version_of(leaf).storage->latest.lock();
    if (latest && latest->pending()) assigned_.push_back(leaf_of(latest, leaf.dtype, leaf.src));
  }

  void look_up(const Node* node) {
    auto it = context_.realized.find(node);
    if (it == context_.realized.end()) return;
    const std::shared_ptr<Version> version = it->second.version.lock();
    if (it->second.hash == node->hash && version && version->memory) {
      known_.emplace(node, leaf_of(version, node->dtype, frozen(node->shape)));
    } else {
      context_.realized.erase(it);
    }
  }

  ContextState& context_;
  std::vector<const Node*> order_;
  NodeSet seen_;
  std::vector<Ref> assigned_;
  NodeMap<Ref> known_;
};

/// One value that the graph's run leaves in memory.
struct Output {
  Ref node;  // as the scheduler gets it
  DType dtype;
  std::vector<Ref> dims;
  std::shared_ptr<Version> version;  // that it becomes
  std::shared_ptr<Version> target;   // whose memory it may take; null
  Ref target_leaf;
  std::shared_ptr<Memory> memory;
  bool in_place = false, settled = false;
};

[[noreturn]] void refuse_placeholder(const Node& leaf) {
  fail(
      "a value recorded by a jit function from its input {} is used outside of it; return it from the function",
      describe(leaf));
}

class Realization {
 public:
  Realization(ContextState& context, std::span<const State> states) : context_(context), states_(states) {
    for (const State& s : states) {
      std::lock_guard lock(s->mutex);
      wanted_.push_back(s->node);
    }
  }

  void run() {
    if (all_done()) return;
    Needed needed(context_, wanted_);
    rewrite(needed);
    collect_outputs(needed);
    if (!outputs_.empty()) {
      find_live(needed);
      compute();
    }
    commit();
  }

 private:
  bool all_done() const {
    return std::all_of(wanted_.begin(), wanted_.end(), [](const Ref& n) {
      return n->op == Op::Buffer && !version_of(*n).pending() && !version_of(*n).placeholder;
    });
  }

  // The nodes with pending leaves replaced by what defines them and known values by their leaves.
  void rewrite(const Needed& needed) {
    for (const Node* n : needed.order()) {
      if (Ref leaf = needed.known(n)) {
        rewritten_.emplace(n, std::move(leaf));
      } else if (n->op == Op::Buffer) {
        const Version& v = version_of(*n);
        rewritten_.emplace(n, v.pending() ? rewritten_.at(v.definition.get()) : Ref(n));
      } else {
        rewritten_.emplace(n, with_sources(*n, sources_in(rewritten_, *n)));
      }
    }
  }

  void collect_outputs(const Needed& needed) {
    for (const Ref& leaf : needed.assigned()) add_pending(leaf, true);
    for (const Ref& node : wanted_) {
      if (node->op == Op::Buffer) {
        if (version_of(*node).placeholder) refuse_placeholder(*node);
        if (version_of(*node).pending()) add_pending(node, false);
      } else if (!needed.known(node.get())) {
        add_value(node);
      }
    }
    add_held_versions(needed);
  }

  void add_pending(const Ref& leaf, bool latest) {
    if (!of_node_.emplace(leaf.get(), outputs_.size()).second) return;
    std::shared_ptr<Version> version = share_version(*leaf);
    outputs_.push_back({.node = stored(rewritten_.at(leaf.get())),
                        .dtype = leaf->dtype,
                        .dims = leaf->src,
                        .version = version,
                        .target = {},
                        .target_leaf = {},
                        .memory = {}});
    if (!latest) return;
    std::shared_ptr<Version> before = version->before.lock();
    while (before && before->pending()) before = before->before.lock();
    const auto taken = [&](const Output& o) { return o.target == before; };
    if (!before || !before->memory || std::any_of(outputs_.begin(), outputs_.end(), taken)) return;
    outputs_.back().target_leaf = leaf_of(before, leaf->dtype, leaf->src);
    outputs_.back().target = std::move(before);
  }

  void add_value(const Ref& node) {
    if (!of_node_.emplace(node.get(), outputs_.size()).second) return;
    outputs_.push_back({.node = stored(rewritten_.at(node.get())),
                        .dtype = node->dtype,
                        .dims = frozen(node->shape),
                        .version = make_version(),
                        .target = {},
                        .target_leaf = {},
                        .memory = {}});
  }

  // Earlier pending versions that someone else still holds are computed along, else their work would be done again.
  void add_held_versions(const Needed& needed) {
    NodeMap<uint32_t> inside = references(needed);
    for (const Node* n : needed.order()) {
      if (n->op == Op::Buffer && version_of(*n).pending() && !of_node_.contains(n) && n->uses() > inside[n]) {
        add_pending(Ref(n), false);
      }
    }
  }

  // What is only a leaf has memory of another value; an output needs its own.
  static Ref stored(const Ref& node) { return node->op == Op::Buffer ? make(Op::Copy, {node}) : node; }

  NodeMap<uint32_t> references(const Needed& needed) const {
    NodeMap<uint32_t> inside;
    for (const Node* n : needed.order()) {
      if (needed.known(n)) continue;
      const std::span<const Ref> sources =
          n->op == Op::Buffer ? needed.below(n) : std::span<const Ref>(n->src);
      for (const Ref& s : sources) inside[s.get()]++;
    }
    return inside;
  }

  // Which recorded nodes someone outside of this graph can still read: held by more handles than those counted here,
  // or below such a node. What is about to be replaced by its value (wanted nodes, pending leaves) holds nothing.
  void find_live(const Needed& needed) {
    NodeMap<uint32_t> inside = references(needed);
    for (const Ref& n : wanted_) inside[n.get()] += 2;  // this object's, and that of the state
    for (const Ref& leaf : needed.assigned()) inside[leaf.get()]++;
    for (const auto& [node, leaf] : needed.all_known()) inside[leaf.get()]++;
    for (const auto& [node, to] : rewritten_) inside[to.get()]++;
    for (const Output& o : outputs_) {
      inside[o.node.get()]++;
      if (o.target_leaf) inside[o.target_leaf.get()]++;
    }
    for (const Node* copy : copies()) {
      for (const Ref& s : copy->src) inside[s.get()]++;
    }
    const auto& order = needed.order();
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      const Node* n = *it;
      const bool replaced = n->op == Op::Buffer && of_node_.contains(n);
      if (!replaced && n->uses() > inside[n]) live_.insert(n);
      if (!live_.contains(n)) continue;
      for (const Ref& s : needed.below(n)) live_.insert(s.get());
    }
    for (const Output& o : outputs_) {  // a target that the graph does not read is in no order
      if (o.target_leaf && o.target_leaf->uses() > inside[o.target_leaf.get()])
        live_.insert(o.target_leaf.get());
    }
  }

  // Nodes that rewriting made: they hold sources too, and die with this object.
  NodeSet copies() const {
    NodeSet made;
    for (const auto& [node, to] : rewritten_) {
      if (to.get() != node && to->op != Op::Buffer && !rewritten_.contains(to.get())) made.insert(to.get());
    }
    for (const Output& o : outputs_) {
      if (o.node->op == Op::Copy && !rewritten_.contains(o.node.get())) made.insert(o.node.get());
    }
    return made;
  }

  void compute() {
    std::vector<Ref> nodes, targets;
    for (const Output& o : outputs_) {
      nodes.push_back(o.node);
      targets.push_back(o.target_leaf);
    }
    const Graph graph = make_graph(std::move(nodes), targets);
    for (const Ref& input : graph.inputs) {
      if (version_of(*input).placeholder) refuse_placeholder(*input);
    }
    const uint64_t schedules = context_.counters.schedules;
    const std::shared_ptr<CompiledSchedule> compiled = compiled_for(context_, graph);
    if (context_.counters.schedules == schedules) context_.counters.replays++;
    with_repro(graph, [&] { launch(graph, *compiled); });
  }

  void launch(const Graph& graph, CompiledSchedule& compiled) {
    const std::vector<int64_t> slots = slot_values(graph.scalars);
    std::vector<std::shared_ptr<Memory>> held;
    std::vector<void*> inputs, outputs;
    for (const Ref& leaf : graph.inputs) {
      held.push_back(memory_on(context_, version_of(*leaf)));
      inputs.push_back(held.back()->data());
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Output& o = outputs_[i];
      if (compiled.in_place(i)) {
        const size_t input = static_cast<size_t>(graph.target[i]);
        o.in_place =
            !live_.contains(o.target_leaf.get()) && held[input] == o.target->memory && unshared(held, input);
        o.memory = o.in_place ? o.target->memory : copy_of(context_, *held[input]);
        inputs[input] = o.memory->data();
      } else {
        o.memory = context_.device->allocate(static_cast<size_t>(compiled.output_bytes(i, slots)));
      }
      outputs.push_back(o.memory->data());
    }
    run_compiled(context_, compiled, {inputs, outputs, slots});
  }

  void commit() {
    for (Output& o : outputs_) {
      if (o.in_place) o.target->memory.reset();
      o.version->memory = std::move(o.memory);
      dead_.push_back(std::exchange(o.version->definition, Ref()));
    }
    for (size_t i = 0; i < states_.size(); ++i) settle(*states_[i], wanted_[i]);
    rewritten_.clear();
  }

  // Tensors that were recorded alike share the memory, but each has a leaf of its own: they may be assigned to later.
  void settle(TensorState& state, const Ref& node) {
    if (node->op == Op::Buffer) return;
    Ref leaf;
    if (auto it = of_node_.find(node.get()); it != of_node_.end()) {
      Output& o = outputs_[it->second];
      leaf = o.settled ? twin(o.version, o.dtype, o.dims) : leaf_of(o.version, o.dtype, o.dims);
      o.settled = true;
      remember(node, o.version);
    } else {
      const Ref& known = rewritten_.at(node.get());
      leaf = twin(share_version(*known), known->dtype, known->src);
    }
    std::lock_guard lock(state.mutex);
    if (state.node == node) state.node = std::move(leaf);
  }

  static Ref twin(const std::shared_ptr<Version>& version, DType dtype, const std::vector<Ref>& dims) {
    std::shared_ptr<Version> second = make_version();
    second->memory = version->memory;
    return leaf_of(second, dtype, dims);
  }

  void remember(const Ref& node, const std::shared_ptr<Version>& version) {
    auto& table = context_.realized;
    if (table.size() >= context_.realized_limit) {
      std::erase_if(table, [](const auto& entry) { return entry.second.version.expired(); });
      context_.realized_limit = std::max<size_t>(64, table.size() * 2);
    }
    table.insert_or_assign(node.get(), ContextState::Realized{node->hash, version});
  }

  ContextState& context_;
  std::span<const State> states_;
  std::vector<Ref> wanted_;
  std::vector<Output> outputs_;
  NodeMap<size_t> of_node_;  // recorded node or pending leaf -> its output
  Substitution rewritten_;
  NodeSet live_;
  std::vector<Ref> dead_;
};

}  // namespace

void realize(ContextState& context, std::span<const std::shared_ptr<TensorState>> states) {
  std::vector<State> distinct(states.begin(), states.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  std::unique_ptr<Realization> realization;
  {
    std::lock_guard lock(context.mutex);
    guarded("realize", [&] {
      realization = std::make_unique<Realization>(context, distinct);
      realization->run();
    });
    throw_failure(context);
  }  // what was recorded is freed without the lock
}

std::vector<int64_t> slot_values(std::span<const Ref> scalars) {
  std::vector<int64_t> values;
  values.reserve(scalars.size());
  for (const Ref& leaf : scalars) {
    values.push_back(leaf->op == Op::Scalar ? leaf->at(1)
                                            : static_cast<int64_t>(scalar_state(*leaf).bits.load()));
  }
  return values;
}

std::vector<Ref> frozen(const std::vector<Ref>& dims) {
  std::vector<Ref> out;
  for (const Ref& d : dims) out.push_back(d->is_const() ? d : index(evaluate_variables(d)));
  return out;
}

bool usable_on(const ContextState& context, const Memory& memory) {
  if (&memory.device() == context.device.get()) return true;
  return memory.device().backend().host_visible() && context.device->backend().host_visible();
}

std::shared_ptr<Memory> memory_on(ContextState& context, const Version& version) {
  const std::shared_ptr<Memory>& memory = version.memory;
  if (!memory) broken("version {} of storage {} has no memory", version.number, version.storage->id);
  return usable_on(context, *memory) ? memory : copy_of(context, *memory);
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

bool unshared(std::span<const std::shared_ptr<Memory>> bound, size_t i) {
  return bound[i].use_count() == 1 + std::count(bound.begin(), bound.end(), bound[i]);
}

void run_compiled(ContextState& context, CompiledSchedule& compiled,
                  const CompiledSchedule::Binding& binding) {
  std::string failed =
      guarded("run", [&] { return compiled.run(*context.device, context.parallel, binding); });
  context.counters.launches += compiled.launches();
  if (!failed.empty() && context.failure.empty()) context.failure = std::move(failed);
}

}  // namespace kontor
