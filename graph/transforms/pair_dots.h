// pair_dots: sums of products of bf16 in the order in which machines have instructions for them, two at a time.
#pragma once
#include "graph/graph.h"

namespace kontor {

/// The graph with each Dot of f32 whose factors are casts of bf16, along an even axis, as a PairDot of half as many pairs: the
/// products are the same, of each two the second is added first. Not in the promised order (docs/numerics.md): for
/// numerics = fast.
Graph with_pair_dots(const Graph& graph);

}  // namespace kontor
