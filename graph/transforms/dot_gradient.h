// The gradient of a sum of products as a sum of products: views are transposed through both factors before the sum.
#pragma once
#include "graph/functions/functions.h"

namespace kontor {

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

/// The cotangent of what the views of operand 0 or 1 of a Reduce Dot are views of; g is the Dot's own. Where the sum would
/// give each value loaded to one element alone (the input of a convolution that has one channel), of the first window.
DotCotangent dot_cotangent(const Node& dot, const Ref& g, size_t operand);
/// The cotangent as a node: a Reduce Dot over all axes pending.
Ref materialised(const DotCotangent& cotangent);

}  // namespace kontor
