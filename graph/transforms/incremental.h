// incremental: evaluates a graph in which a few slabs of values changed from what it gave before them.
#pragma once
#include <span>
#include <vector>

#include "graph/node.h"

namespace kontor {

/// New values for a part of a node: those from `begin` (an i64 of rank 0) on along `axis`. `value` has the node's dtype
/// and shape, but for that axis.
struct Slab {
  Ref node;
  int64_t axis = 0;
  Ref begin, value;
};

/// The roots as they are with the slabs put in. What does not depend on a slab is shared with the graph as it was. A slab
/// passes through elementwise ops, movement ops and folds over other axes; a sum (or dot) over its own axis becomes what
/// the sum was plus that of the differences; only what needs more than the slab is computed anew.
/// The result differs from that of a full evaluation by rounding, and where an old value is not finite.
/// Throws Error if a slab does not fit its node, or two slabs are of one node.
std::vector<Ref> incremental(std::span<const Ref> roots, std::span<const Slab> slabs);

/// Whether the table has a row for `op`; every op of a graph must.
bool has_incremental_row(Op op);

}  // namespace kontor
