// Where values are rounded to narrow floats: data at the exponent that is predicted for it, so that it lies where the format is finest.
#pragma once
#include <kontor/types.h>

#include "scalify/scaled.h"

namespace kontor::scalify {

/// Formats by role; f32: not rounded.
struct Casting {
  DType forward = DType::F32;   ///< what products of the forward pass read
  DType gradient = DType::F32;  ///< what products read of gradients
  DType values = DType::F32;    ///< what layers and activations make, and products of the backward pass
  bool scales =
      true;  ///< false: rounded as they are, at a scale of 1, which is what scales are compared with
  friend bool operator==(const Casting&, const Casting&) = default;
};

/// x as numbers of `format`, held in x's dtype at the predicted exponent. To the nearest, once, ties to even. Formats of 8 bits
/// saturate, infinities too; f16 overflows as IEEE says; NaN stays. Of f32, and of data of another dtype than f32: x itself.
/// `in_f16`: formats of 8 bits as f16, which holds all their numbers, on the way; where a value is stored, it is stored so.
Scaled rounded(const Scaled& x, DType format, bool in_f16 = false);

}  // namespace kontor::scalify
