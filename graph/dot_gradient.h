// The gradient of a sum of products as a sum of products: views are transposed through both factors before the sum.
#pragma once
#include "graph/functions.h"

namespace kontor::inline v0 {

/// A tensor of dimensions `dims` whose `base` has 1 where it is broadcast.
struct Factor {
  Ref base;
  Dims dims;
};

/// sum of a * b over the last `pending` axes, which is a cotangent of `of`.
struct DotCotangent {
  Ref of;
  Factor a, b;
  size_t pending;
};

/// The cotangent of operand 0 or 1 of a Reduce Dot whose own cotangent is g.
DotCotangent dot_cotangent(const Node& dot, const Ref& g, size_t operand);
/// Moves the cotangent through the views under `of` (expand, permute, reshape, pad, shrink, flip, window) down to what
/// they are views of.
void through_views(DotCotangent& cotangent);
/// The cotangent as a node: a Reduce Dot over all axes pending.
Ref materialised(const DotCotangent& cotangent);

}  // namespace kontor::inline v0
