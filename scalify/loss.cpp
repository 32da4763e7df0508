// Controls put around what a loss was recorded from.
#include "scalify/loss.h"

#include <cmath>

#include <kontor/functions.h>

#include "graph/folds.h"
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

/// Whether it is a - mean(a), and which source a is: what a normalisation begins with.
static bool is_centred(const Node& n) {
  if (!n.is(Op::Sub)) return false;
  const Node* mean = n[1].get();
  while (mean->is(Op::Expand) || mean->is(Op::Reshape)) mean = (*mean)[0].get();
  if (!mean->is(Op::Div)) return false;
  const Node* sum = (*mean)[0].get();
  while (sum->is(Op::Reshape)) sum = (*sum)[0].get();
  return sum->is(Op::Reduce) && fold_in(*sum) == Fold::Sum && (*sum)[0] == n[0];
}

Tensor with_fitted_norms(const Tensor& value) {
  const Ref root = node_of(value);
  const std::vector<const Node*> order = topological(std::span(&root, 1));
  NodeSet inputs;
  for (const Node* n : order)
    if (is_centred(*n)) inputs.insert((*n)[0].get());
  Substitution made;
  map_nodes(order, made, [&](const Node& n) {
    Ref now = with_sources(n, sources_in(made, n));
    return inputs.contains(&n) ? fn::dynamic_rescale(now, "l2", true) : now;
  });
  return tensor_of(made.at(root.get()));
}

Tensor scaled_loss(const Tensor& loss, std::span<const LeafScale> leaves, const Casting& casting) {
  return scalify_loss(with_scales(loss, leaves), casting.forward, casting.gradient, casting.values,
                      casting.scales);
}

}  // namespace kontor::scalify
