// The float formats in which elementary functions are computed, and how their numbers are taken apart and put together.
#pragma once
#include "graph/functions/formula.h"

namespace kontor {

/// What decompositions need to know of f32 or f64. Constants named hi and lo are a value split so that hi + lo holds twice
/// the bits.
struct WorkFormat {
  DType integer;
  int mantissa;              // stored bits
  int64_t bias;              // of the exponent
  double magic;              // 1.5 * 2^mantissa: adding it rounds to an integer, which its low bits then hold
  double exp_low, exp_high;  // beyond these exp is 0 or infinite
  double ln2_hi, ln2_lo;     // hi has trailing zeros: k * ln2_hi is exact for every exponent k
  double two_ln2_hi, two_ln2_lo;
  double half_pi[3];
  double smallest_normal;
  int64_t sqrt_half;  // bits of sqrt(1/2)
  double erf_end;     // from here on erf is 1
};

const WorkFormat& format_of(const Term& x);

/// Coefficients of a polynomial for each format, the constant term first.
struct Series {
  std::span<const double> f32, f64;
};
inline Term polynomial(const Term& x, const Series& s) {
  return polynomial(x, x.node->dtype == DType::F64 ? s.f64 : s.f32);
}

/// The sign bit alone, as an integer; whether it is set.
Term sign_bit(const Term& x);
Term is_negative(const Term& x);
/// x, its sign turned where the sign bit is set.
Term with_sign(const Term& x, const Term& sign_bit);
/// 2^n of the whole number n that `shifted` is beyond `magic`, for normal results.
Term power_of_two(const Term& shifted);

}  // namespace kontor
