// From Tensors to one graph, its run, and the values put in their place.
#include "runtime/realize.h"

#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "base/guard.h"
#include "graph/graph.h"
#include "graph/shape.h"
#include "runtime/binding.h"
#include "runtime/owners.h"
#include "runtime/repro.h"

namespace kontor {
namespace {

using State = std::shared_ptr<TensorState>;

/// The part of the graph that must be computed, as recorded: pending leaves lead on to their definitions, values
/// computed before end it.
class Needed {
 public:
  Needed(ContextState& context, std::vector<Ref> wanted) : context_(context), roots_(std::move(wanted)) {
    for (size_t i = 0; i < roots_.size(); ++i) {  // grows meanwhile
      const Ref root = roots_[i];
      append_topological(root.get(), seen_, order_, [this](const Node& n) { return enter(n); });
    }
  }

  const std::vector<const Node*>& order() const { return order_; }  // sources before users
  /// All that this object holds: what is wanted, and leaves of the latest pending version of each Storage that is read.
  std::span<const Ref> roots() const { return roots_; }
  /// The value that was computed for this node before; null if there is none.
  const std::shared_ptr<Version>* known(const Node* node) const {
    const auto it = known_.find(node);
    return it == known_.end() ? nullptr : &it->second;
  }
  /// Where the order continues below a node.
  std::span<const Ref> below(const Node& node) const {
    return known_.contains(&node) ? std::span<const Ref>() : recorded_below(node);
  }

 private:
  std::span<const Ref> enter(const Node& node) {
    if (node.op == Op::Buffer) note_assign(node);
    else if (node.depth > 1) look_up(node);
    return below(node);
  }

  void note_assign(const Node& leaf) {
    const std::shared_ptr<Version> latest = version_of(leaf).storage->latest.lock();
    if (latest && latest->pending()) roots_.push_back(leaf_of(latest, leaf.dtype, leaf.src));
  }

  void look_up(const Node& node) {
    auto it = context_.realized.find(&node);
    if (it == context_.realized.end()) return;
    std::shared_ptr<Version> version = it->second.version.lock();
    if (it->second.hash == node.hash && version && version->memory) known_.emplace(&node, std::move(version));
    else context_.realized.erase(it);
  }

  ContextState& context_;
  std::vector<Ref> roots_;
  std::vector<const Node*> order_;
  NodeSet seen_;
  NodeMap<std::shared_ptr<Version>> known_;
};

/// One value that the graph's run leaves in memory.
struct Output {
  const Node* recorded;  // the node that it is the value of
  DType dtype;
  std::vector<Ref> dims;
  std::shared_ptr<Version> version;      // that it becomes
  std::shared_ptr<Version> target = {};  // whose memory it may take; null
  Ref target_leaf = {};
  Ref node = {};  // as the scheduler gets it
  std::shared_ptr<Memory> memory = {};
  bool in_place = false, settled = false;
};

[[noreturn]] void refuse_placeholder(const Node& leaf) {
  fail(
      "a value recorded by a jit function from its input {} is used outside of it; return it from the function",
      describe(leaf));
}

// Slot values of a graph's scalars. Scalars have the value that was recorded, Variables the present one.
std::vector<int64_t> slot_values(std::span<const Ref> scalars) {
  std::vector<int64_t> values;
  values.reserve(scalars.size());
  for (const Ref& leaf : scalars) {
    values.push_back(leaf->op == Op::Scalar ? leaf->at(1)
                                            : static_cast<int64_t>(scalar_state(*leaf).bits.load()));
  }
  return values;
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
    const Needed needed(context_, wanted_);
    collect_outputs(needed);
    if (!outputs_.empty()) find_live(needed);
    rewrite(needed);
    if (!outputs_.empty()) compute();
    commit();
  }

 private:
  bool all_done() const {
    return std::all_of(wanted_.begin(), wanted_.end(), [](const Ref& n) {
      return n->op == Op::Buffer && !version_of(*n).pending() && !version_of(*n).placeholder;
    });
  }

  void collect_outputs(const Needed& needed) {
    for (const Ref& leaf : needed.roots().subspan(wanted_.size())) add_pending(*leaf, true);
    for (const Ref& node : wanted_) {
      if (node->op == Op::Buffer) {
        if (version_of(*node).placeholder) refuse_placeholder(*node);
        if (version_of(*node).pending()) add_pending(*node, false);
      } else if (!needed.known(node.get())) {
        add_value(*node);
      }
    }
  }

  void add_pending(const Node& leaf, bool latest) {
    if (!of_node_.emplace(&leaf, outputs_.size()).second) return;
    std::shared_ptr<Version> version = share_version(leaf), before = version->before.lock();
    outputs_.push_back(
        {.recorded = &leaf, .dtype = leaf.dtype, .dims = leaf.src, .version = std::move(version)});
    if (!latest) return;
    while (before && before->pending()) before = before->before.lock();
    const auto taken = [&](const Output& o) { return o.target == before; };
    if (!before || !before->memory || std::any_of(outputs_.begin(), outputs_.end(), taken)) return;
    outputs_.back().target_leaf = leaf_of(before, leaf.dtype, leaf.src);
    outputs_.back().target = std::move(before);
  }

  void add_value(const Node& node) {
    if (!of_node_.emplace(&node, outputs_.size()).second) return;
    outputs_.push_back(
        {.recorded = &node, .dtype = node.dtype, .dims = frozen(node.shape), .version = make_version()});
  }

  // Owners of what was recorded, from before anything is made of it: the Tensors that get their values let go of the nodes.
  Owners owners_of(const Needed& needed) const {
    Owners owners;
    for (const Node* n : needed.order()) owners.disregard(needed.below(*n));
    owners.disregard(wanted_);
    owners.disregard(needed.roots());
    for (size_t i = 0; i < states_.size(); ++i) {
      std::lock_guard lock(states_[i]->mutex);
      if (states_[i]->node == wanted_[i]) owners.disregard(states_[i]->node);
    }
    for (const Output& o : outputs_)
      if (o.target_leaf) owners.disregard(o.target_leaf);
    return owners;
  }

  // Which recorded nodes someone can still read: they have owners, or are below such a node. Not by way of a pending leaf that
  // gets its value: that lets go of what defined it.
  void find_live(const Needed& needed) {
    const Owners owners = owners_of(needed);
    add_owned_versions(needed, owners);
    const auto& order = needed.order();
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      const Node* n = *it;
      const bool replaced = n->op == Op::Buffer && of_node_.contains(n);
      if (replaced) continue;
      if (owners.own(n)) live_.insert(n);
      if (!live_.contains(n)) continue;
      for (const Ref& s : needed.below(*n)) live_.insert(s.get());
    }
    for (const Output& o : outputs_) {  // a target that the graph does not read is in no order
      if (o.target_leaf && owners.own(o.target_leaf.get())) live_.insert(o.target_leaf.get());
    }
  }

  // Earlier pending versions that someone else owns are computed along, else their work would be done again.
  void add_owned_versions(const Needed& needed, const Owners& owners) {
    for (const Node* n : needed.order()) {
      const bool pending = n->op == Op::Buffer && version_of(*n).pending();
      if (pending && !of_node_.contains(n) && owners.own(n)) add_pending(*n, false);
    }
  }

  // The nodes with pending leaves replaced by what defines them and known values by their leaves.
  void rewrite(const Needed& needed) {
    map_nodes(needed.order(), rewritten_, [&](const Node& n) {
      if (const auto* version = needed.known(&n)) return leaf_of(*version, n.dtype, frozen(n.shape));
      return resolved(n, rewritten_);
    });
    for (Output& o : outputs_) {
      const Ref& node = rewritten_.at(o.recorded);
      // What is only a leaf has memory of another value; an output needs its own.
      o.node = node->op == Op::Buffer ? make(Op::Copy, {node}) : node;
    }
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
    BoundInputs inputs;
    std::vector<void*> outputs;
    for (const Ref& leaf : graph.inputs) inputs.add(compiled.device(), share_version(*leaf));
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Output& o = outputs_[i];
      if (compiled.in_place(i)) {
        const size_t input = static_cast<size_t>(graph.target[i]);
        o.in_place = !live_.contains(o.target_leaf.get()) && inputs.has_own_memory(input);
        o.memory = inputs.to_write_over(compiled.device(), input, o.in_place);
      } else {
        o.memory = compiled.device().allocate(static_cast<size_t>(compiled.output_bytes(i, slots)));
      }
      outputs.push_back(o.memory->data());
    }
    run_compiled(context_, compiled, {inputs.addresses(), outputs, slots});
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

  // A node that nobody else owns is about to die: one of its expression, made later, would be found or not as it gets the same
  // address or another, and the next process would have other graphs to schedule.
  void remember(const Ref& node, const std::shared_ptr<Version>& version) {
    if (!live_.contains(node.get())) return;
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
  // In the order in which they are asked for, which kernels follow: not in that of addresses, which differ from run to run.
  std::vector<State> distinct;
  std::unordered_set<const TensorState*> met;
  for (const State& s : states)
    if (met.insert(s.get()).second) distinct.push_back(s);
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

std::vector<Ref> frozen(const std::vector<Ref>& dims) {
  std::vector<Ref> out;
  for (const Ref& d : dims) out.push_back(d->is_const() ? d : index(evaluate_variables(d)));
  return out;
}

}  // namespace kontor
