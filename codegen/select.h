// Which values of a graph are stored; all others are computed where they are read.
#pragma once
#include <unordered_set>

#include "graph/graph.h"

namespace kontor::inline v0 {

/// Follows Calls and Marks to the value they wrap.
const Node* see_through(const Node* node);
/// Whether the value comes from a random draw by elementwise steps, none of them `stored`: made where it is read, never kept.
bool is_random(const Node* node, const std::unordered_set<const Node*>& stored);
/// Nodes that get a stage of their own (see-through form): outputs, reductions, scatters, copies; operands of a dot that
/// are more than a load; padded operands of a dot; what two stages read and is dear to compute twice.
std::unordered_set<const Node*> select_stored(const Graph& graph);

}  // namespace kontor::inline v0
