// Sites: where a recorded loss multiplies by a group's weights, and what happens to the product until the next one.
#pragma once
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

/// What a value is a view of: the parameter's Mark under transposes, reshapes and broadcasts.
const Node* viewed(const Node* n);
/// What the views that a product reads are views of.
Ref unmoved(Ref n);

/// A layer y = product(x, weight) + bias of a recorded loss of one sample.
struct Site {
  Ref weight, bias;  ///< Marks; bias may be null
  Ref input;         ///< x, before the views that the product reads it through
  Ref product;       ///< the sums of products, before the bias: what is kept of a sample
  Ref output;        ///< y [1, .., channels, ..]
  size_t channel_axis = 0;
  bool rows = false;  ///< the weight's first axis is that of the channels
  bool relu = false;  ///< what follows reads y through a relu alone
  Ref pool_input,
      pool =
          {};  ///< a maximum over windows of pool_input, which has y's shape; null: none before the next site
  bool last = false;  ///< no other site's product depends on y

  int64_t channels() const { return extent(output->shape[channel_axis]); }
  /// Axes of y that are neither the sample's nor the channels': positions.
  Ints position_axes() const;
  int64_t positions() const;
  /// Positions that a perturbation can reach the loss from: those of the pool, if there is one.
  int64_t cells() const;
  /// Its vendors perturb the weights of a channel, as these are fewer than its positions.
  bool by_weights() const { return rows && fan_in() < positions(); }
  /// Weights of one channel, with its bias.
  int64_t fan_in() const;
};

/// The site of each group. Throws Error if a group is not one layer (a weight that is used once, in matmul or conv2d, and a bias).
std::vector<Site> find_sites(const Leader& leader, std::span<const Group> groups,
                             std::span<const std::vector<size_t>> members);

/// Operations of the products that `root` needs, but for those in `but`.
double operations(const Ref& root, const NodeSet& but = {});
/// How many vendors the groups of the activity plan have, and for how many samples: so that those of a layer cost about as
/// much as the forward pass of half a batch.
void choose_activity_vendors(std::span<Group> groups, const Leader& leader,
                             std::span<const std::vector<size_t>> members);

}  // namespace kontor::inline v0::marketplace
