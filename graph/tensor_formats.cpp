// The recording half of what include/kontor/functions.h has for narrow formats.
#include <kontor/functions.h>

#include "base/error.h"
#include "base/guard.h"
#include "graph/functions/scaled_product.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor {

namespace {

template <class F>
auto recorded(F&& f) {
  return guarded("recording", std::forward<F>(f));
}

Tensor maybe(const Ref& node) { return node ? tensor_of(node) : Tensor(); }

Ref noise_of(const Ref& x, bool stochastic) { return stochastic ? fn::noise_for(x->shape) : Ref(); }

}  // namespace

QuantisedTensor v0::quantise(const Tensor& x, const Quantisation& how) {
  return recorded([&] {
    const Rounding r = rounding_of("quantise", how);
    const Ref node = node_of(x);
    const Quantised q = fn::quantised(node, *r.format, r.kind, how.block, noise_of(node, r.stochastic));
    return QuantisedTensor{tensor_of(q.data), tensor_of(q.scales), maybe(q.whole)};
  });
}

Tensor v0::dequantise(const QuantisedTensor& x, const std::vector<int64_t>& block) {
  return recorded([&] {
    const Ref whole = x.whole.empty() ? Ref() : node_of(x.whole);
    return tensor_of(fn::dequantised({node_of(x.data), node_of(x.scales), whole}, block));
  });
}

Tensor v0::fake_quantise(const Tensor& x, const Quantisation& how) {
  return recorded([&] {
    const Rounding r = rounding_of("fake_quantise", how);
    const Ref node = node_of(x);
    return tensor_of(fn::fake_quantised(node, *r.format, r.kind, how.block, noise_of(node, r.stochastic)));
  });
}

Tensor v0::stochastic_cast(const Tensor& x, DType dtype) {
  return recorded([&] {
    const Ref node = node_of(x);
    if (!is_narrow(dtype))
      fail("stochastic_cast: {} to {}: needs a float narrower than f32", describe(*node), name(dtype));
    const std::string format(name(dtype));
    return tensor_of(fn::cast(fn::round_to(node, format, fn::noise_for(node->shape), true), dtype));
  });
}

Tensor v0::pack_e2m1(const Tensor& x) {
  return recorded([&] { return tensor_of(fn::pack_e2m1(node_of(x))); });
}
Tensor v0::unpack_e2m1(const Tensor& x) {
  return recorded([&] { return tensor_of(fn::unpack_e2m1(node_of(x))); });
}
Tensor v0::to_e8m0(const Tensor& x) {
  return recorded([&] { return tensor_of(fn::to_e8m0(node_of(x))); });
}
Tensor v0::from_e8m0(const Tensor& x) {
  return recorded([&] { return tensor_of(fn::from_e8m0(node_of(x))); });
}
Tensor v0::hadamard(const Tensor& x, int64_t axis, int64_t seed, bool inverse) {
  return recorded([&] { return tensor_of(fn::hadamard(node_of(x), axis, seed, inverse)); });
}

Tensor v0::scaled_product(const Tensor& x, const Tensor& weight, const ProductRecipe& recipe) {
  return recorded([&] { return tensor_of(fn::scaled_product(node_of(x), node_of(weight), recipe)); });
}

}  // namespace kontor
