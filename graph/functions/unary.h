// Unary float functions as rows: name, doc, formula, derivative. A row is all that recording, calls by name, gradients,
// `batch` and the docs need; the renderers see only the formula's operations.
#pragma once
#include "graph/functions/formula.h"

namespace kontor {

struct UnaryRow {
  std::string_view name, doc;
  Term (*formula)(const Term& x);  ///< integers come as f32
  Term (*derivative)(const Term& x,
                     const Term& y);  ///< of y = formula(x); null: the formula is differentiated
};

std::span<const UnaryRow> unary_table();
/// The row of this name, or null.
const UnaryRow* find_unary(std::string_view name);
/// A Call of the row's name on x.
Ref record_unary(const UnaryRow& row, const Ref& x);

}  // namespace kontor
