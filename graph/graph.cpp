// Collecting the leaves of a graph, and its key.
#include "graph/graph.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "graph/folds.h"

namespace kontor {

Graph make_graph(std::vector<Ref> outputs, const std::vector<Ref>& target) {
  Graph g{.inputs = {}, .scalars = {}, .outputs = std::move(outputs), .target = {}};
  for (const Node* n : topological(g.outputs)) {
    if (n->op == Op::Buffer) g.inputs.emplace_back(n);
    if (n->op == Op::Scalar || n->op == Op::Variable) g.scalars.emplace_back(n);
  }
  for (size_t i = 0; i < g.outputs.size(); i++) {
    Ref t = i < target.size() ? target[i] : Ref();
    auto it = t ? std::find(g.inputs.begin(), g.inputs.end(), t) : g.inputs.end();
    if (t && it == g.inputs.end()) it = g.inputs.insert(g.inputs.end(), t);
    g.target.push_back(t ? static_cast<int>(it - g.inputs.begin()) : -1);
  }
  return g;
}

// Identities and values that do not belong to the structure: ids of Buffers and Marks, values of Scalars.
static size_t structural_ints(const Node& n, size_t& from) {
  from = 0;
  if (n.op == Op::Buffer || n.op == Op::Mark || n.op == Op::Scalar) return 0;
  if (n.op == Op::Variable) from = 1;
  return n.arg.ints.size();
}

std::vector<uint64_t> graph_key(const Graph& graph) {
  std::vector<uint64_t> key;
  NodeMap<uint64_t> number;
  for (const Ref& i : graph.inputs) {  // targets that nothing reads have a number too
    number.emplace(i.get(), number.size());
  }
  NodeMap<uint64_t>
      slots;  // a pass may have left scalars in another order than that of their first use, or without one
  for (const Ref& s : graph.scalars) slots.emplace(s.get(), slots.size());
  key.push_back(graph.scalars.size());
  for (const Node* n : topological(graph.outputs)) {
    key.push_back(static_cast<uint64_t>(n->op) | static_cast<uint64_t>(n->dtype) << 8 | n->src.size() << 16);
    size_t from = 0, count = structural_ints(*n, from);
    if (begins_with_fold(n->op)) {  // those of a program have numbers of this process
      key.push_back(lasting_number(fold_in(*n)));
      key.push_back(part_in(*n));
      from = 1;
    }
    for (size_t i = from; i < count; i++) key.push_back(static_cast<uint64_t>(n->arg.ints[i]));
    if (n->op == Op::Call) key.push_back(hash128(n->arg.text).low);
    if (n->op == Op::Buffer) key.push_back(number.at(n));
    if (const auto slot = slots.find(n); slot != slots.end()) key.push_back(slot->second);
    for (const Ref& s : n->src) key.push_back(number.at(s.get()));
    number.emplace(n, number.size());
  }
  for (const Ref& o : graph.outputs) key.push_back(number.at(o.get()));
  for (int t : graph.target) key.push_back(static_cast<uint64_t>(t) + 1);
  return key;
}

}  // namespace kontor
