// dx = g w sums over the outputs, dw = g^T x over all rows; each operand is rounded for the product that it is in. Before dw's product both
// are turned by the same orthogonal matrix along the rows (NVFP4: arXiv 2509.25149), which changes only what rounding does.
#include "graph/transforms/scaled_gradient.h"

#include "graph/functions/scaled_product.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

constexpr int64_t group = 16, signs_seed = 0;  // one choice of signs for all layers and steps, as published

/// [.., n] as rows [all others, n].
Ref as_rows(const Ref& x) {
  const Dims before(x->shape.begin(), x->shape.end() - 1);
  return fn::reshape(x, {ix::product(before), x->shape.back()});
}

/// Rows turned in groups; zeros behind the last row fill its group.
Ref turned(const Ref& rows) {
  const int64_t n = extent(rows->shape[0]), more = (group - n % group) % group;
  return fn::hadamard(fn::pad(rows, {0, more, 0, 0}, 0), 0, signs_seed, false);
}

}  // namespace

void scaled_product_back(Tape& to, const Node& n, const Term& g) {
  const Ref &x = n[1], &weight = n[2];
  const ProductRoundings r = roundings_of(n);
  if (to.wants(x)) {
    const Ref up = fn::for_product(g.node, r.gradient, true), by = fn::for_product(weight, r.weight, false);
    to.add(x, fn::matmul(up, by));
  }
  if (!to.wants(weight)) return;
  Ref up = as_rows(g.node), rows = as_rows(x);
  if (r.hadamard) up = turned(up), rows = turned(rows);
  up = fn::for_product(up, r.gradient, false), rows = fn::for_product(rows, r.input, false);
  to.add(weight, fn::cast(fn::matmul(fn::transpose(up, 0, 1), rows), weight->dtype));
}

}  // namespace kontor
