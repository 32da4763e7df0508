// What learned feedback needs to know of a recorded loss: its layers, where noise goes in, what is kept of a clean pass.
#pragma once
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

/// y = x weight (+ bias): the only matmul with this weight.
struct ProductLayer {
  size_t weight = 0;               ///< of the parameters
  std::vector<size_t> parameters;  ///< the weight, and the bias if there is one
  Ref input, product, output;      ///< x, x weight, y
  size_t mixed = SIZE_MAX;         ///< attention reads y: the noise group of what it makes of it
};

/// A value of each row that noise is added to. Views of views are one view, so what is replaced in a recorded graph is no view:
/// `value` is what attention makes, [batch, heads, n, size], and `seen` how a layer reads it, [.., width].
struct NoiseGroup {
  std::string name;
  Ref value, seen;
  Ref activation =
      {};  ///< a function of the value, element by element, through which alone it is read; or null
  bool exact = false;  ///< only the head follows: its slope needs no noise
};

/// x, of the shape of `seen`, in the places of `value`, of which that is a permutation and reshaping.
Ref in_place_of_value(const NoiseGroup& group, const Ref& x);

struct FeedbackParts {
  Ref rows, logits,
      residual;   ///< losses [..]; [.., classes]; what all groups have gone into, before the head
  Ref embedding;  ///< what all tables have gone into; null: there are none
  size_t embedding_group = SIZE_MAX;
  std::vector<size_t> tables;        ///< parameters that are looked up or added
  std::vector<ProductLayer> layers;  ///< in the order of the forward pass; the last is the head
  std::vector<NoiseGroup> groups;    ///< likewise
  std::vector<Ref> kept;  ///< values of a clean pass from which the others follow without a product
  std::vector<Ref> behind(const Ref& value) const;  ///< those of `kept` that depend on a value, not itself
  const ProductLayer& head() const { return layers.back(); }

  std::vector<const Node*>
      order;  ///< all that the losses need; of a Call its arguments, of a layer its input
};

/// The leader with the bodies of its Calls "checkpoint" in their places: what is kept for gradients is said otherwise here.
Leader without_checkpoints(Leader leader);

/// Throws Error if the loss is no mean over one cross_entropy, or comes from its layers in another way than through a head.
FeedbackParts find_feedback_parts(const Leader& leader, std::span<const nn::Parameter> parameters);

}  // namespace kontor::inline v0::marketplace
