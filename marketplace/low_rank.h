// Vendors of rank 1, one for each part of a batch, and their losses: for the low-rank plan, and for those who draw signs otherwise.
#pragma once
#include <functional>

#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

/// Which axes of a parameter of this rank each factor of its delta runs along: rows, columns, and the taps of a convolution; a vector
/// is its own.
std::vector<Ints> factor_axes(size_t rank);
/// The extents of one factor in the parameter's rank: 1 along all other axes.
Dims factor_shape(const Node& parameter, const Ints& axes);

/// +-1 of factor `factor` of the `k`th of the parameters, for one vendor under a Mark of shape `thin` and for all: f32 [vendors, thin..].
using DrawSigns = std::function<Ref(size_t k, size_t factor, const Dims& thin)>;

struct LowRankVendors {
  Ref losses;    ///< f32 [2, vendors]: of each with its delta, and with the opposite one
  Ref accuracy;  ///< the same, or null
  std::vector<std::vector<Ref>> signs;  ///< of each parameter, of each factor: f32 [vendors, ..]
};
/// The leader's loss for each part of its batch with a delta of `sigma` (f32 of rank 0) times the product of the factors added to each of
/// `parameters` (places in leader.marks). `whole`: each parameter's delta is one factor along all its axes, not of rank 1.
LowRankVendors low_rank_vendors(const Leader& leader, std::span<const size_t> parameters, const Ref& sigma,
                                const DrawSigns& draw, bool whole = false);
/// sum over vendors of weight (f32 [vendors]) times the product of a parameter's factors: of the parameter's shape. The sum is exact,
/// whatever its order, where weights are integers whose magnitudes add up to 2^24 at most.
Ref weighted_signs(const Dims& shape, const std::vector<Ref>& signs, const Ref& weights);

}  // namespace kontor::inline v0::marketplace
