// Which values of a graph are stored; all others are computed where they are read.
#pragma once
#include <span>
#include <unordered_set>

#include "graph/graph.h"

namespace kontor {

/// Follows Calls and Marks to the value they wrap.
const Node* see_through(const Node* node);
/// Which values come from a random draw by elementwise steps, none of them `stored`: made where they are read, never kept.
/// `order` has sources before users.
std::unordered_set<const Node*> random_values(std::span<const Node* const> order,
                                              const std::unordered_set<const Node*>& stored);
/// Nodes that get a stage of their own (see-through form): outputs, reductions, scatters, copies; operands of a dot that
/// are more than a load; padded operands of a dot; what two stages read and is dear to compute twice; and a value of a
/// long chain here and there, so that no stage's expression is longer than 512 nodes or has more than some 2,000.
std::unordered_set<const Node*> select_stored(const Graph& graph);

/// Nodes in whose expressions, down to what is stored, an index is checked or a divisor.
std::unordered_set<const Node*> checked_values(std::span<const Node* const> order,
                                               const std::unordered_set<const Node*>& stored);

}  // namespace kontor
