// The functions of <kontor/functions.h>: each forwards to the function of its name.
#include <kontor/functions.h>

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

}  // namespace kontor
