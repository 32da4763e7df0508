// The table of unary float functions. To add one: a row here, a method in include/kontor/tensor.h, a row in
// tests/op_table.cpp (docs/adding-an-op.md).
#include "graph/functions/unary.h"

#include <numbers>

namespace kontor {

namespace {

Term exp(const Term& x) { return Term(fn::exp(x.node)); }
Term erf(const Term& x) { return Term(fn::erf(x.node)); }

Term gelu_slope(const Term& x, const Term&) {
  Term cdf = fma(erf(x * (0.5 * std::numbers::sqrt2)), 0.5, 0.5);
  Term pdf = exp(x * x * -0.5) * (0.5 * std::numbers::inv_sqrtpi * std::numbers::sqrt2);
  return fma(x, pdf, cdf);
}

// clang-format off
constexpr UnaryRow table[] = {
    {"rsqrt",   "1 / sqrt(x).",
     [](const Term& x) { return 1.0 / sqrt(x); },
     [](const Term&, const Term& y) { return y * y * y * -0.5; }},
    {"sigmoid", "1 / (1 + exp(-x)).",
     [](const Term& x) { return 1.0 / (exp(-x) + 1.0); },
     [](const Term&, const Term& y) { return y * (1.0 - y); }},
    {"gelu",    "x * (1 + erf(x / sqrt(2))) / 2.",
     [](const Term& x) { return x * 0.5 * (erf(x * std::numbers::sqrt2 * 0.5) + 1.0); },
     gelu_slope},
    {"silu",    "x / (1 + exp(-x)).",
     [](const Term& x) { return x / (exp(-x) + 1.0); },
     [](const Term& x, const Term& y) { Term s = 1.0 / (exp(-x) + 1.0); return fma(s, x.constant(1) - y, y); }},
};
// clang-format on

}  // namespace

std::span<const UnaryRow> unary_table() { return table; }

const UnaryRow* find_unary(std::string_view name) {
  for (const UnaryRow& row : table)
    if (row.name == name) return &row;
  return nullptr;
}

Ref record_unary(const UnaryRow& row, const Ref& given) {
  Ref x = fn::as_float(given);
  return fn::call(row.name, row.formula(Term(fn::in_accumulator(x))).as(x->dtype).node, {x});
}

}  // namespace kontor
