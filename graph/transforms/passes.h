// Passes: transforms over a whole graph, each with its name, that run one after another before it is lowered.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "graph/graph.h"

namespace kontor {

struct GraphPass {
  std::string name;
  std::function<Graph(const Graph&)>
      run;  ///< the same inputs, scalars and targets; outputs of the same dtypes and shapes
};
/// What is told of a pass that ran, and the graph it made.
using PassWatch = std::function<void(const GraphPass&, const Graph&)>;

inline Graph run_passes(Graph graph, std::span<const GraphPass> passes, const PassWatch& after = {}) {
  for (const GraphPass& pass : passes) {
    graph = pass.run(graph);
    if (after) after(pass, graph);
  }
  return graph;
}

}  // namespace kontor
