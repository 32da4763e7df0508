// Which values of a graph are stored; all others are computed where they are read.
#pragma once
#include <span>

#include "graph/graph.h"

namespace kontor {

/// Follows Calls and Marks to the value they wrap.
const Node* see_through(const Node* node);
/// The node whose stage an output is: itself, or the fold or scatter that it is a reshape of, since memory is the same.
const Node* stored_for(const Node* output);
/// Which values come from a random draw by elementwise steps, none of them `stored`: made where they are read, never kept.
/// `order` has sources before users.
NodeSet random_values(std::span<const Node* const> order, const NodeSet& stored);
/// Nodes that get a stage of their own (see-through form): outputs, reductions, scatters, copies; operands of a dot that
/// are more than a load; padded operands of a dot; what two stages read and is dear to compute twice; and a value of a
/// long chain here and there, so that no stage's expression is longer than 512 nodes or has more than some 2,000.
NodeSet select_stored(const Graph& graph);

/// Nodes in whose expressions, down to what is stored, an index is checked or a divisor.
NodeSet checked_values(std::span<const Node* const> order, const NodeSet& stored);

}  // namespace kontor
