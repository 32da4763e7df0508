// The functions of <kontor/functions.h>: each forwards to the function of its name.
#include <kontor/functions.h>

#include <algorithm>

#include "base/error.h"
#include "base/guard.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor {

namespace {

template <class F>
Tensor record(F&& f) {
  return guarded("recording", [&] { return tensor_of(f()); });
}
Ref of(const Tensor& t) { return node_of(t); }
Input input(const Operand& o) { return Recording::input(o); }
Ref maybe(const Tensor& t) { return t.empty() ? Ref() : of(t); }
AxisList list(const Axes& a) { return a.all() ? AxisList() : AxisList(a.list()); }

std::vector<Ref> all_of(std::span<const Tensor> tensors) {
  std::vector<Ref> out;
  for (const Tensor& t : tensors) out.push_back(of(t));
  return out;
}

/// Slices of the sizes one after another along an axis.
std::vector<Tensor> parts(std::string_view who, const Ref& x, int64_t which, std::span<const int64_t> sizes) {
  const int64_t axis = fn::axis_of(who, *x, which);
  int64_t begin = 0;
  std::vector<Tensor> out;
  for (const int64_t size : sizes) {
    out.push_back(tensor_of(fn::slice(x, axis, begin, begin + size, 1)));
    begin += size;
  }
  return out;
}

int64_t fixed_size(std::string_view who, const Ref& x, int64_t axis) {
  const Ref& dim = x->shape[static_cast<size_t>(fn::axis_of(who, *x, axis))];
  if (!dim->is_const()) fail("{}: {}: axis {} has no fixed size", who, describe(*x), axis);
  return extent(dim);
}

std::vector<Tensor> parts_of_size(std::string_view who, const Ref& x, int64_t size, int64_t axis) {
  const int64_t n = fixed_size(who, x, axis);
  if (size < 1) fail("{}: {}: parts of {}", who, describe(*x), size);
  std::vector<int64_t> sizes;
  for (int64_t begin = 0; begin < n; begin += size) sizes.push_back(std::min(size, n - begin));
  if (n == 0) sizes.push_back(0);
  return parts(who, x, axis, sizes);
}

std::vector<Tensor> grids(std::span<const Tensor> vectors) {
  std::vector<Ref> given = all_of(vectors);
  Dims shape;
  for (const Ref& v : given) {
    if (v->rank() != 1) fail("meshgrid: {}: takes vectors", describe(*v));
    shape.push_back(v->shape[0]);
  }
  std::vector<Tensor> out;
  for (size_t a = 0; a < given.size(); a++) {
    Dims thin(shape.size(), index(1));
    thin[a] = shape[a];
    out.push_back(tensor_of(fn::broadcast(fn::reshape(given[a], thin), shape)));
  }
  return out;
}

}  // namespace

// clang-format off
Tensor v0::sort(const Tensor& x, int64_t axis, bool descending) { return record([&] { return fn::sort(of(x), axis, descending); }); }
Tensor v0::argsort(const Tensor& x, int64_t axis, bool descending) { return record([&] { return fn::argsort(of(x), axis, descending); }); }
TopK v0::topk(const Tensor& x, int64_t k, int64_t axis, bool largest) {
  return {record([&] { return fn::topk(of(x), k, axis, largest); }), record([&] { return fn::argtopk(of(x), k, axis, largest); })};
}
Tensor v0::median(const Tensor& x) { return record([&] { return fn::median(of(x), {}, false); }); }
Tensor v0::median(const Tensor& x, int64_t axis, bool k) { return record([&] { return fn::median(of(x), axis, k); }); }
Tensor v0::searchsorted(const Tensor& s, const Tensor& v, bool right) { return record([&] { return fn::searchsorted(of(s), of(v), right); }); }

Tensor v0::gather(const Tensor& x, const Tensor& i, int64_t axis) { return record([&] { return fn::gather(of(x), of(i), axis); }); }
Tensor v0::scatter(const Tensor& x, const Tensor& i, const Tensor& v, int64_t axis) { return record([&] { return fn::scatter(of(x), of(i), of(v), axis); }); }
Tensor v0::scatter_add(const Tensor& x, const Tensor& i, const Tensor& v, int64_t axis) { return record([&] { return fn::scatter_add(of(x), of(i), of(v), axis); }); }
Tensor v0::narrow(const Tensor& x, int64_t axis, const Operand& b, int64_t size) { return record([&] { return fn::narrow(of(x), axis, input(b), size); }); }

Tensor v0::full_like(const Tensor& x, const Operand& value) { return record([&] { return fn::full_like(of(x), input(value)); }); }
Tensor v0::linspace(double b, double e, int64_t n, DType d) { return record([&] { return fn::linspace(b, e, n, d); }); }
Tensor v0::tile(const Tensor& x, const std::vector<int64_t>& repeats) { return record([&] { return fn::tile(of(x), repeats); }); }
Tensor v0::repeat(const Tensor& x, int64_t times, int64_t axis) { return record([&] { return fn::repeat(of(x), times, axis); }); }
Tensor v0::roll(const Tensor& x, int64_t shift, int64_t axis) { return record([&] { return fn::roll(of(x), shift, axis); }); }
Tensor v0::tril(const Tensor& x, int64_t diagonal) { return record([&] { return fn::tril(of(x), diagonal); }); }
Tensor v0::triu(const Tensor& x, int64_t diagonal) { return record([&] { return fn::triu(of(x), diagonal); }); }
Tensor v0::diag(const Tensor& x, int64_t diagonal) { return record([&] { return fn::diag(of(x), diagonal); }); }
Tensor v0::stddev(const Tensor& x, const Axes& a, bool k, int64_t c) { return record([&] { return fn::stddev(of(x), list(a), k, c); }); }
Tensor v0::norm(const Tensor& x, const Axes& a, bool k, double order) { return record([&] { return fn::norm(of(x), list(a), k, order); }); }
Tensor v0::outer(const Tensor& a, const Tensor& b) { return record([&] { return fn::outer(of(a), of(b)); }); }
Tensor v0::tensordot(const Tensor& a, const Tensor& b, int64_t axes) { return record([&] { return fn::tensordot(of(a), of(b), axes); }); }
Tensor v0::einsum(std::string_view formula, std::span<const Tensor> t) { return record([&] { return fn::einsum(std::string(formula), all_of(t)); }); }
// clang-format on

// clang-format off
Tensor v0::nonzero(const Tensor& m, int64_t size, int64_t fill) { return record([&] { return fn::nonzero(of(m), size, fill); }); }
Tensor v0::masked_select(const Tensor& x, const Tensor& m, int64_t size, const Operand& fill) { return record([&] { return fn::masked_select(of(x), of(m), size, input(fill)); }); }

Tensor v0::conv1d(const Tensor& x, const Tensor& w, const Tensor& b, const ConvOptions& o) { return record([&] { return fn::conv1d(of(x), of(w), maybe(b), o.stride, o.padding, o.dilation, o.groups); }); }
Tensor v0::conv3d(const Tensor& x, const Tensor& w, const Tensor& b, const ConvOptions& o) { return record([&] { return fn::conv3d(of(x), of(w), maybe(b), o.stride, o.padding, o.dilation, o.groups); }); }
Tensor v0::conv_transpose(const Tensor& x, const Tensor& w, const Tensor& b, const ConvOptions& o) {
  return record([&] { return fn::conv_transpose(of(x), of(w), maybe(b), o.stride, o.padding, o.output_padding, o.dilation, o.groups); });
}
Tensor v0::max_pool(const Tensor& x, const std::vector<int64_t>& size, const PoolOptions& o) { return record([&] { return fn::max_pool(of(x), size, o.stride, o.padding, o.dilation, o.ceil); }); }
Tensor v0::avg_pool(const Tensor& x, const std::vector<int64_t>& size, const PoolOptions& o) {
  return record([&] {
    if (std::any_of(o.dilation.begin(), o.dilation.end(), [](int64_t d) { return d != 1; }))
      fail("avg_pool: a dilation of ({})", fmt::join(o.dilation, ", "));
    return fn::avg_pool(of(x), size, o.stride, o.padding, o.ceil, o.count_padding);
  });
}
Tensor v0::batch_norm(const Tensor& x, const Tensor& m, const Tensor& v, const Tensor& w, const Tensor& b, double eps) { return record([&] { return fn::batch_norm(of(x), maybe(m), maybe(v), maybe(w), maybe(b), eps); }); }
Tensor v0::group_norm(const Tensor& x, int64_t groups, const Tensor& w, const Tensor& b, double eps) { return record([&] { return fn::group_norm(of(x), groups, maybe(w), maybe(b), eps); }); }

Tensor v0::cross_entropy(const Tensor& x, const Tensor& l, const LabelOptions& o) { return record([&] { return fn::cross_entropy(of(x), of(l), o.smoothing, o.ignored); }); }
Tensor v0::nll(const Tensor& x, const Tensor& l, std::optional<int64_t> ignored) { return record([&] { return fn::nll(of(x), of(l), ignored); }); }
Tensor v0::mse(const Tensor& a, const Tensor& b) { return record([&] { return fn::mse(of(a), of(b)); }); }
Tensor v0::binary_cross_entropy(const Tensor& x, const Tensor& t) { return record([&] { return fn::binary_cross_entropy(of(x), of(t)); }); }
Tensor v0::binary_cross_entropy_with_logits(const Tensor& x, const Tensor& t) { return record([&] { return fn::binary_cross_entropy_with_logits(of(x), of(t)); }); }

Tensor v0::bernoulli(const Tensor& p) { return record([&] { return fn::bernoulli(of(p)); }); }
Tensor v0::multinomial(const Tensor& w, int64_t count, bool replacement) { return record([&] { return fn::multinomial(of(w), count, replacement); }); }
Tensor v0::truncated_normal(const Shape& s, double m, double dev, double lo, double hi, DType d) { return record([&] { return fn::truncated_normal(Recording::dims(s), m, dev, lo, hi, d); }); }
// clang-format on

Tensor v0::mean_cross_entropy(const Tensor& logits, const Tensor& labels, const LabelOptions& o) {
  const Tensor rows = cross_entropy(logits, labels, o);
  if (!o.ignored) return rows.mean();
  return rows.sum() / (labels != *o.ignored).cast(rows.dtype()).sum();
}

Tensor v0::checkpointed(const Tensor& value, std::span<const Tensor> inputs) {
  return record([&] { return fn::call("checkpoint", of(value), all_of(inputs)); });
}

std::vector<Tensor> v0::split(const Tensor& x, int64_t size, int64_t axis) {
  return guarded("recording", [&] { return parts_of_size("split", of(x), size, axis); });
}

std::vector<Tensor> v0::split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t axis) {
  return guarded("recording", [&] {
    const Ref node = of(x);
    int64_t rest = fixed_size("split", node, axis);
    for (const int64_t size : sizes) {
      if (size < 0 || size > rest)
        fail("split: {}: a part of {} where {} are left", describe(*node), size, rest);
      rest -= size;
    }
    if (rest != 0) fail("split: {}: {} of axis {} are in no part", describe(*node), rest, axis);
    return parts("split", node, axis, sizes);
  });
}

std::vector<Tensor> v0::chunk(const Tensor& x, int64_t count, int64_t axis) {
  return guarded("recording", [&] {
    const Ref node = of(x);
    if (count < 1) fail("chunk: {}: {} parts", describe(*node), count);
    const int64_t n = fixed_size("chunk", node, axis);
    return parts_of_size("chunk", node, std::max<int64_t>(n / count + (n % count != 0), 1), axis);
  });
}

std::vector<Tensor> v0::meshgrid(std::span<const Tensor> vectors) {
  return guarded("recording", [&] { return grids(vectors); });
}

Tensor v0::scalify_loss(const Tensor& loss, DType forward, DType gradient, DType values, bool scales) {
  return record([&] { return fn::scalify(of(loss), forward, gradient, values, scales); });
}
Tensor v0::set_scale(const Tensor& x, int64_t exponent) {
  return record([&] { return fn::set_scale(of(x), exponent); });
}
Tensor v0::rebalance(const Tensor& x, int64_t exponent) {
  return record([&] { return fn::rebalance(of(x), exponent); });
}
Tensor v0::stop_scale(const Tensor& x) {
  return record([&] { return fn::stop_scale(of(x)); });
}
Tensor v0::dynamic_rescale(const Tensor& x, RescaleBy norm, bool backward) {
  constexpr const char* names[] = {"max", "l1", "l2"};
  return record([&] { return fn::dynamic_rescale(of(x), names[static_cast<int>(norm)], backward); });
}
Tensor v0::cast_forward(const Tensor& x, DType dtype) {
  return record([&] { return fn::cast_forward(of(x), dtype); });
}
Tensor v0::cast_backward(const Tensor& x, DType dtype) {
  return record([&] { return fn::cast_backward(of(x), dtype); });
}
Tensor v0::scaled_data(const Tensor& x) {
  return record([&] { return fn::scaled_data(of(x)); });
}
Tensor v0::scale_of(const Tensor& x) {
  return record([&] { return fn::scale_of(of(x)); });
}

}  // namespace kontor
