// Random graphs with inputs, and the shrinking of one that fails.
#pragma once
#include <functional>

#include "backends/interp/evaluate_graph.h"

namespace kontor::inline v0 {

struct Case {
  Graph graph;
  std::vector<Array> inputs;
};

/// A graph of elementwise, movement, reduce and indexed ops over small arrays; the same for the same seed.
Case random_case(uint64_t seed);

/// Smaller cases that still fail, as long as there are any: outputs dropped, values in the middle made inputs or outputs.
Case shrink(Case failing, const std::function<bool(const Case&)>& fails);

}  // namespace kontor::inline v0
