// Graph: what is to be computed, as a value. jit traces one, transforms take and return one, the scheduler reads one.
#pragma once
#include "graph/node.h"

namespace kontor {

struct Graph {
  std::vector<Ref> inputs;   ///< Buffer leaves in order of first use
  std::vector<Ref> scalars;  ///< Scalar and Variable leaves in order of first use: their slot numbers
  std::vector<Ref> outputs;  ///< values wanted
  std::vector<int>
      target;  ///< output k goes to the memory of inputs[target[k]] (an assign), or to its own: -1
};

/// Collects the leaves of `outputs`. `target` names for each output the Buffer leaf it is assigned to, or null.
Graph make_graph(std::vector<Ref> outputs, const std::vector<Ref>& target = {});
/// Words that are equal exactly for graphs of equal structure: ops, dtypes, shapes, which leaves coincide, targets;
/// never the value of a Scalar or Variable, nor which Buffer it is. The same words in every process.
std::vector<uint64_t> graph_key(const Graph& graph);

}  // namespace kontor
