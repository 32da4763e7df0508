// Products of a linear layer whose operands are rounded to narrow formats, forward and backward.
#pragma once
#include <kontor/functions.h>

#include "graph/functions/quantise.h"

namespace kontor {

/// A Quantisation whose words were looked up. A block of one row follows the axis that a product sums over; all others stay.
struct Rounding {
  const ElementFormat* format;
  ScaleKind kind;
  Ints block;
  bool stochastic;

  bool changes_nothing() const { return format->held == DType::F32; }
};
Rounding rounding_of(std::string_view who, const Quantisation& q);

struct ProductRoundings {
  Rounding input, weight, gradient;
  bool hadamard;
};

namespace fn {

/// x as `r` leaves it for a product that sums over its last axis, or the one before it.
Ref for_product(const Ref& x, const Rounding& r, bool over_last);
/// x [.., in] times weight [out, in], transposed: [.., out], in the dtype that both promote to.
Ref scaled_product(const Ref& x, const Ref& weight, const ProductRecipe& recipe);

}  // namespace fn

/// The roundings of a Call "scaled_product", whose sources behind the body are x and weight.
ProductRoundings roundings_of(const Node& call);

}  // namespace kontor
