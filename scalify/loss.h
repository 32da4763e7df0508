// A model's loss with scales: what a training loop says once, with no change to the model.
#pragma once
#include <span>

#include <kontor/tensor.h>

#include "scalify/casting.h"

namespace kontor::scalify {

/// A parameter of the model (a Tensor in memory, or what the loss reads of one), and the exponent that is expected of its values.
struct LeafScale {
  Tensor leaf;
  int64_t exponent = 0;
  DType gradient = DType::F32;  ///< what its gradient is kept in, at the scale that the rules predict
};
/// floor(log2(root mean square)) of its elements; 0 where all are 0 or one is not finite. Computes it.
int64_t exponent_of(const Tensor& values);
/// What was recorded from the leaves, with the leaves at their scales.
Tensor with_scales(const Tensor& value, std::span<const LeafScale> leaves);
/// What was recorded, with gradients fitted anew to their root mean square where a normalisation (x less its mean, along axes) hands
/// them back: two in a transformer layer. They measure when they run.
Tensor with_fitted_norms(const Tensor& value);
/// `loss` [] with the leaves at their scales: graphs that have it, or gradients of it, run with `casting`.
Tensor scaled_loss(const Tensor& loss, std::span<const LeafScale> leaves, const Casting& casting);

}  // namespace kontor::scalify
