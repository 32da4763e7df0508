// batch: gives chosen values one more leading axis (vendors, samples) and carries it through what depends on them.
#pragma once
#include <span>
#include <utility>
#include <vector>

#include "graph/node.h"

namespace kontor {

/// A node, and what stands in its place: the same dtype and shape with one more leading dimension.
struct BatchedLeaf {
  Ref node, with;
};

/// The roots, computed for each element of the new axis: a root that depends on one of the leaves has the axis in
/// front, the others are as they were. What does not depend on a leaf stays without the axis and is shared; it is
/// broadcast only where it meets something that has one. So a layer whose weights are batched is the same layer.
/// Element v of a result is bit for bit what the graph gives with element v of the leaves, but for the order of
/// reductions over axes that are not the last.
/// Throws Error if the leaves' new dimensions differ, or where an op would need a position that depends on the axis.
std::vector<Ref> batch(std::span<const Ref> roots, std::span<const BatchedLeaf> leaves);

/// Whether the table has a row for `op`; every op of a graph must.
bool has_batch_row(Op op);

}  // namespace kontor
