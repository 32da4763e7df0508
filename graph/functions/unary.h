// Functions of one tensor as rows: name, doc, formula, gradient. A row is all that recording, calls by name, gradients,
// `batch` and the docs need; the renderers see only the formula's operations.
#pragma once
#include "graph/functions/formula.h"

namespace kontor {

struct UnaryRow {
  std::string_view name, doc;
  /// Float: x comes as f32 or f64 (integers and narrower floats as f32), y is rounded to x's float dtype. AsItIs: it is x.
  enum Takes : uint8_t { Float, AsItIs } takes;
  Term (*formula)(const Term& x);
  /// What x gets of g, the cotangent of y = formula(x), all of them as wide as sums are. Null: the formula is differentiated,
  /// and recorded without a Call around it. A formula that goes through bits needs one.
  Term (*gradient)(const Term& x, const Term& y, const Term& g) = nullptr;
};

std::span<const UnaryRow> unary_table();
/// The row of this name, or null.
const UnaryRow* find_unary(std::string_view name);
Ref record_unary(const UnaryRow& row, const Ref& x);

}  // namespace kontor
