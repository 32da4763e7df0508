// Narrow formats with a scale for each block of values: how floats become data and scales, and are made of them again.
#pragma once
#include "graph/functions/functions.h"

namespace kontor {

/// A format that elements are rounded to. f4e2m1 has no dtype of its own (no tensor holds half bytes): its eight sizes are all
/// numbers of f8e4m3, which holds them; fn::pack_e2m1() makes two of them one byte.
struct ElementFormat {
  std::string_view name;
  DType held;          // of the results
  FloatFormat format;  // exponent, mantissa and bias
  double greatest;     // finite number
};
std::span<const ElementFormat> element_formats();
/// Throws Error that names the known ones, beginning with `who`.
const ElementFormat& find_element_format(std::string_view who, std::string_view name);

/// How a block's scale follows from the greatest size in it, amax.
enum class ScaleKind : uint8_t {
  None,  // 1
  F32,   // amax / greatest: what is greatest uses the whole format (current scaling)
  E8M0,  // 2^(floor(log2 amax) - emax): OCP MX v1.0, section 6.3, by which up to an eighth of the numbers of a binade saturate
  Pow2,  // the least power of two by which nothing saturates (arXiv 2506.08027; DeepGEMM's UE8M0)
  E4M3,  // amax / greatest as f8e4m3 times one f32 for the whole tensor, which brings the greatest of them to 448 (NVFP4)
};
struct ScaleRow {
  ScaleKind kind;
  std::string_view name;
};
std::span<const ScaleRow> scale_kinds();
ScaleKind find_scale_kind(std::string_view who, std::string_view name);

/// Data and scales: x is about data * scales * whole.
struct Quantised {
  Ref data;    // x's shape, of the format's dtype
  Ref scales;  // one a block: x's shape, each axis divided by its block; f32 (kind E4M3: f8e4m3)
  Ref whole;   // f32 of rank 0; null but for kind E4M3
};

namespace fn {

/// x on the grid of `format` (by name), as f32: to the nearest, ties to even, or, with `noise` (u32 random bits of x's shape), up or down
/// with the probability of being nearer, which leaves its expectation as it is. What is beyond the greatest number is that number
/// (saturate), or what a cast makes of it. NaN stays. The gradient passes as it comes. Takes f32 and narrower.
Ref round_to(const Ref& x, const std::string& format, const Ref& noise, bool saturate);
/// What each block of x is to be divided by. `block`: extents along the last axes, 0 for a whole axis, of which axes before them have
/// blocks of 1; none: one block. A block of zeros has scale 1 (or the least one), one with a NaN has NaN, infinity counts as the greatest
/// number. No gradient. For kind e4m3 these are the products of f8e4m3 numbers with tensor_scale().
Ref block_scales(const Ref& x, const std::string& format, const std::string& scale, const Ints& block);
/// f32 of rank 0: the greatest size in x over (the format's greatest number times 448).
Ref tensor_scale(const Ref& x, const std::string& format);
/// x over the scale of its block, rounded, in the dtype that holds the format; 0 where a scale is 0. What trains takes fake_quantised(),
/// whose gradient is not rounded to that dtype.
Ref quantise(const Ref& x, const Ref& scales, const std::string& format, const Ints& block, const Ref& noise);
/// Data times the scale of its block, in f32.
Ref dequantise(const Ref& data, const Ref& scales, const Ints& block);
/// Codes of powers of two from 2^-127 to 2^127 (u8; 255: NaN), and back. Of a number between, the one below.
Ref to_e8m0(const Ref& scales);
Ref from_e8m0(const Ref& codes);
/// Two numbers of f4e2m1 (rounded to it, NaN as 6) a byte along the last axis, the first in the low half; and back, in f8e4m3.
Ref pack_e2m1(const Ref& x);
Ref unpack_e2m1(const Ref& bytes);
/// Each 16 numbers along an axis times a random orthogonal matrix: signs by `seed`, then Hadamard's over 4 (inverse: undone). f32.
Ref hadamard(const Ref& x, int64_t axis, int64_t seed, bool inverse);

/// All of it at once. Stochastic where `noise` is given.
Quantised quantised(const Ref& x, const ElementFormat& format, ScaleKind kind, const Ints& block,
                    const Ref& noise);
Ref dequantised(const Quantised& q, const Ints& block);
/// What is left of x when it was quantised and dequantised, in its dtype; the gradient passes as it comes.
Ref fake_quantised(const Ref& x, const ElementFormat& format, ScaleKind kind, const Ints& block,
                   const Ref& noise);
/// Random bits for a tensor of this shape, from the thread's source: a draw.
Ref noise_for(const Dims& shape);

}  // namespace fn
}  // namespace kontor
