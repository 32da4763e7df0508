// Graphs go to a program's passes as Tensors, and come back checked.
#include "runtime/passes.h"

#include "base/error.h"
#include "graph/folds.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor {
namespace {

std::vector<Tensor> tensors_of(std::span<const Ref> nodes) {
  std::vector<Tensor> out;
  for (const Ref& n : nodes) out.push_back(tensor_of(n));
  return out;
}

Operation operation_of(const Node& node, std::span<const Ref> inputs) {
  std::span<const int64_t> numbers = node.arg.ints;
  Operation op{.op = row(node.op).name, .name = node.arg.text, .numbers = {}, .inputs = tensors_of(inputs)};
  if (begins_with_fold(node.op)) {
    op.name = plain_name(fold_of_code(numbers[0]).fold);
    numbers = numbers.subspan(1);
  }
  op.numbers.assign(numbers.begin(), numbers.end());
  return op;
}

/// Extents and positions, which say where values are.
bool is_index(const Node& node) { return node.dtype == DType::I64 && node.rank() == 0; }

void check_outputs(const Graph& before, std::span<const Ref> after) {
  if (after.size() != before.outputs.size())
    fail("it returns {} values for {} outputs", after.size(), before.outputs.size());
  for (size_t i = 0; i < after.size(); ++i) {
    const Node &was = *before.outputs[i], &is = *after[i];
    if (was.dtype != is.dtype || was.shape != is.shape)
      fail("output {} is {}, and it returns {}", i, describe(was), describe(is));
  }
}

// A finished schedule is bound to the inputs and scalars of the graph that was recorded, and to nothing else.
void check_leaves(const Graph& before, std::span<const Ref> after) {
  NodeSet known;
  for (const Ref& n : before.inputs) known.insert(n.get());
  for (const Ref& n : before.scalars) known.insert(n.get());
  for (const Node* n : topological(after)) {
    const bool leaf = n->op == Op::Buffer || n->op == Op::Scalar || n->op == Op::Variable;
    if (leaf && !known.contains(n))
      fail(
          "it reads a {}, {}, that is none of the graph's: new values can only be computed from those there are",
          row(n->op).name, describe(*n));
  }
}

Graph changed(const Graph& graph, const Pass& function) {
  Graph out = graph;
  out.outputs.clear();
  for (const Tensor& t : function(tensors_of(graph.outputs))) out.outputs.push_back(node_of(t));
  check_outputs(graph, out.outputs);
  check_leaves(graph, out.outputs);
  for (Ref& o : out.outputs)  // what is only a leaf has memory of another value
    if (o->op == Op::Buffer) o = make(Op::Copy, {o});
  return out;
}

}  // namespace

GraphPass pass_of(std::string name, Pass function) {
  const auto run = [name, function = std::move(function)](const Graph& graph) -> Graph {
    try {
      return changed(graph, function);
    } catch (const InternalError&) {
      throw;
    } catch (const std::exception& error) {
      fail("pass '{}': {}", name, error.what());
    } catch (...) {
      fail("pass '{}' throws something that is no std::exception", name);
    }
  };
  return {name, run};
}

Operation v0::operation(const Tensor& value) {
  const Ref node = node_of(value);
  return operation_of(*node, node->src);
}

std::vector<Tensor> v0::map_values(std::span<const Tensor> outputs, const MapValue& change) {
  std::vector<Ref> roots;
  for (const Tensor& t : outputs) roots.push_back(node_of(t));
  return tensors_of(mapped(roots, [&](const Node& n, const std::vector<Ref>& sources) -> Ref {
    if (is_index(n)) return with_sources(n, sources);
    const Tensor now = change(tensor_of(Ref(&n)), operation_of(n, sources));
    if (!Recording::state(now)) return with_sources(n, sources);
    const Ref made = node_of(now);
    if (made->dtype != n.dtype || made->shape != n.shape)
      fail("{} {} becomes {}: a value keeps its dtype and shape", row(n.op).name, describe(n),
           describe(*made));
    return made;
  }));
}

}  // namespace kontor
