// Controls put around what a loss was recorded from.
#include "scalify/loss.h"

#include <cmath>

#include <kontor/functions.h>

#include "graph/functions/functions.h"
#include "graph/recording.h"

namespace kontor::scalify {

int64_t exponent_of(const Tensor& values) {
  const auto size = values.cast(DType::F32).square().mean().sqrt().item<double>();
  return size > 0 && std::isfinite(size) ? std::ilogb(size) : 0;
}

Tensor with_scales(const Tensor& value, std::span<const LeafScale> leaves) {
  Substitution scaled;
  for (const LeafScale& l : leaves) {
    const Ref leaf = node_of(l.leaf);
    const Ref read = l.gradient == DType::F32 ? leaf : fn::cast_backward(leaf, l.gradient);
    scaled.insert_or_assign(leaf.get(), fn::set_scale(read, l.exponent));
  }
  return tensor_of(substitute(node_of(value), scaled));
}

Tensor scaled_loss(const Tensor& loss, std::span<const LeafScale> leaves, const Casting& casting) {
  return scalify_loss(with_scales(loss, leaves), casting.forward, casting.gradient, casting.values,
                      casting.scales);
}

}  // namespace kontor::scalify
