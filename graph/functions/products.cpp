// Sums of products: matmul, conv2d and pooling, recorded as a Dot fold over broadcast views.
#include <algorithm>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

/// Sum of products, by fma; of integers, which have none, by multiplication and addition. Operands are in their
/// accumulator already: cast before they are broadcast, they are cast once for each of their own elements.
static Ref dot(const Ref& a, const Ref& b, const Ints& axes) {
  if (is_float(a->dtype)) return reduce(Fold::Dot, {a, b}, axes, false);
  return reduce(Fold::Sum, {make(Op::Mul, {a, b})}, axes, false);
}

/// [.., i, k] -> [.., i, 1, k] and [.., k, j] -> [.., 1, j, k], both expanded to [.., i, j, k].
static Ref dot_rows_columns(const Ref& a, const Ref& b, const Dims& batch) {
  Ref rows = unsqueeze(a, -2);
  Ref columns = unsqueeze(transpose(b, -1, -2), -3);
  Dims shape = batch;
  shape.insert(shape.end(), {a->shape[a->rank() - 2], b->shape[b->rank() - 1], a->shape[a->rank() - 1]});
  return dot(broadcast(rows, shape), broadcast(columns, shape), {static_cast<int64_t>(shape.size()) - 1});
}

static Dims batch_of(const Ref& x) { return {x->shape.begin(), x->shape.end() - 2}; }

static Dims broadcast_batches(const Ref& a, const Ref& b) {
  Dims x = batch_of(a), y = batch_of(b);
  if (x.size() < y.size()) x.insert(x.begin(), y.size() - x.size(), index(1));
  if (y.size() < x.size()) y.insert(y.begin(), x.size() - y.size(), index(1));
  for (size_t i = 0; i < x.size(); i++) {
    if (is_int(x[i], 1)) x[i] = y[i];
    if (x[i] != y[i] && !is_int(y[i], 1))
      fail("matmul: {} x {}: leading sizes {} and {} differ", describe(*a), describe(*b), describe_dim(x[i]),
           describe_dim(y[i]));
  }
  return x;
}

Ref matmul(const Ref& x, const Ref& y) {
  if (x->rank() == 0 || y->rank() == 0)
    fail("matmul: {} x {}: needs at least one axis each", describe(*x), describe(*y));
  const Input operands[] = {x, y};
  DType dtype = operand_dtype("matmul", operands);
  if (dtype == DType::Bool) fail("matmul: {} x {}: takes numbers", describe(*x), describe(*y));
  const Ref& inner_a = x->shape.back();
  const Ref& inner_b = y->shape[y->rank() == 1 ? 0 : y->rank() - 2];
  if (inner_a != inner_b)
    fail("matmul: {} x {}: inner sizes {} and {} differ", describe(*x), describe(*y), describe_dim(inner_a),
         describe_dim(inner_b));
  Ref a = cast(x, dtype), b = cast(y, dtype), wide_a = in_accumulator(a), wide_b = in_accumulator(b);
  Ref rows = a->rank() == 1 ? unsqueeze(wide_a, 0) : wide_a;
  Ref columns = b->rank() == 1 ? unsqueeze(wide_b, 1) : wide_b;
  Ref out = dot_rows_columns(rows, columns, broadcast_batches(rows, columns));
  if (b->rank() == 1) out = squeeze(out, Ints{-1});
  if (a->rank() == 1) out = squeeze(out, Ints{b->rank() == 1 ? -1 : -2});
  return call("matmul", cast(out, dtype), {a, b});
}

static std::pair<int64_t, int64_t> pair_of(std::string_view who, const Ints& given) {
  if (given.empty() || given.size() > 2) fail("{}: ({}): one number or two", who, fmt::join(given, ", "));
  return {given[0], given.back()};
}

static void check_conv(const Ref& x, const Ref& weight, const Ref& bias, int64_t groups) {
  if (x->rank() != 4 || weight->rank() != 4)
    fail("conv2d: {} x {}: needs x [n, c, h, w] and weight [o, c/groups, kh, kw]", describe(*x),
         describe(*weight));
  if (!is_float(x->dtype) && x->dtype == DType::Bool) fail("conv2d: {}: takes numbers", describe(*x));
  for (size_t i = 0; i < 4; i++)
    if (!weight->shape[i]->is_const()) fail("conv2d: {}: the weight has no fixed size", describe(*weight));
  int64_t outputs = weight->shape[0]->at(0);
  if (groups < 1 || groups > std::max<int64_t>(outputs, 1) || outputs % groups != 0)
    fail("conv2d: {} outputs in {} groups", outputs, groups);
  if (ix::mul(weight->shape[1], index(groups)) != x->shape[1])
    fail("conv2d: {} x {}: channels {} and {} x {} groups differ", describe(*x), describe(*weight),
         describe_dim(x->shape[1]), weight->shape[1]->at(0), groups);
  if (bias && bias->shape != Dims{weight->shape[0]})
    fail("conv2d: bias {}: needs [{}]", describe(*bias), outputs);
}

/// [n, c, h, w] -> [n, c, oh, ow, kh, kw].
static Ref patches(const Ref& x, std::pair<int64_t, int64_t> size, std::pair<int64_t, int64_t> stride,
                   std::pair<int64_t, int64_t> dilation) {
  Ref tall = window(x, 2, size.first, stride.first, dilation.first);        // n c oh kh w
  Ref wide = window(tall, 4, size.second, stride.second, dilation.second);  // n c oh kh ow kw
  return permute(wide, {0, 1, 2, 4, 3, 5});
}

/// Axes of the fold: n, group, o, oh, ow, c, kh, kw (without group where there is one).
static Ref conv_dot(const Ref& taps, const Ref& weight, int64_t groups) {
  const Dims &s = taps->shape, &w = weight->shape;
  Ref one = index(1), g = index(groups), o = index(w[0]->at(0) / groups), c = w[1];
  Ref by_group = permute(reshape(taps, {s[0], g, c, s[2], s[3], s[4], s[5]}), {0, 1, 3, 4, 2, 5, 6});
  if (groups == 1) {
    Dims whole{s[0], w[0], s[2], s[3], c, s[4], s[5]};
    Ref left = reshape(by_group, {s[0], one, s[2], s[3], c, s[4], s[5]});
    Ref right = reshape(weight, {one, w[0], one, one, c, s[4], s[5]});
    return dot(broadcast(left, whole), broadcast(right, whole), {4, 5, 6});
  }
  Dims whole{s[0], g, o, s[2], s[3], c, s[4], s[5]};
  Ref left = reshape(by_group, {s[0], g, one, s[2], s[3], c, s[4], s[5]});
  Ref right = reshape(weight, {one, g, o, one, one, c, s[4], s[5]});
  Ref out = dot(broadcast(left, whole), broadcast(right, whole), {5, 6, 7});
  return reshape(out, {s[0], w[0], s[2], s[3]});
}

Ref conv2d(const Ref& given, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
           const Ints& dilation, int64_t groups) {
  check_conv(given, weight, bias, groups);
  const Input operands[] = {given, weight};
  DType dtype = operand_dtype("conv2d", operands);
  Ref x = cast(given, dtype), w = cast(weight, dtype);
  auto [ph, pw] = pair_of("conv2d: padding", padding);
  Ref padded = pad(in_accumulator(x), {0, 0, 0, 0, ph, ph, pw, pw}, 0);
  std::pair<int64_t, int64_t> size{w->shape[2]->at(0), w->shape[3]->at(0)};
  Ref taps = patches(padded, size, pair_of("conv2d: stride", stride), pair_of("conv2d: dilation", dilation));
  Ref out = conv_dot(taps, in_accumulator(w), groups);
  if (bias) {
    out = add(out, reshape(in_accumulator(bias), {w->shape[0], index(1), index(1)}));
    dtype = promote(dtype, bias->dtype);
  }
  out = cast(out, dtype);
  std::vector<Ref> args{x, w};
  if (bias) args.push_back(bias);
  return call("conv2d", out, args);
}

static Ref pool_patches(std::string_view who, const Ref& x, const Ints& size, const Ints& stride) {
  if (x->rank() != 4) fail("{}: {}: needs [n, c, h, w]", who, describe(*x));
  auto [h, w] = pair_of(who, size);
  auto [sh, sw] = pair_of(who, stride);
  return patches(x, {h, w}, {sh ? sh : h, sw ? sw : w}, {1, 1});
}

Ref max_pool2d(const Ref& x, const Ints& size, const Ints& stride) {
  return max(pool_patches("max_pool2d", x, size, stride), Ints{4, 5}, false);
}

Ref avg_pool2d(const Ref& x, const Ints& size, const Ints& stride) {
  return mean(pool_patches("avg_pool2d", x, size, stride), Ints{4, 5}, false);
}

}  // namespace kontor::fn
