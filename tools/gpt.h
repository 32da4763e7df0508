// A GPT in the public API: the graph of a training step, for the cases of `kontor bench` and `kontor dump`.
#pragma once
#include "graph/graph.h"

namespace kontor::tools {

struct GptShape {
  int64_t layers, width, heads;
  int64_t context = 256, vocabulary = 65, batch = 8;
  const char* recipe =
      nullptr;  ///< of its products' and layers' formats, for the pass; null: there is no pass
};

/// Loss and gradients of one batch, and Adam's update of every parameter. The parameters have no memory: the graph is to
/// be scheduled, not run.
Graph gpt_step(const GptShape& shape);

}  // namespace kontor::tools
