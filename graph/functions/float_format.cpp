// See float_format.h.
#include "graph/functions/float_format.h"

namespace kontor {

namespace {

constexpr double ln2 = 0.693147180559945309417232121458176568;

// clang-format off
const WorkFormat format32 = {
  .integer = DType::I32, .mantissa = 23, .bias = 127, .magic = 12582912.0, .exp_low = -104, .exp_high = 89,
  .ln2_hi = 0x1.62e4p-1, .ln2_lo = 0x1.7f7d1cf79abcap-20,
  .two_ln2_hi = static_cast<float>(2 * ln2), .two_ln2_lo = 2 * ln2 - static_cast<double>(static_cast<float>(2 * ln2)),
  .half_pi = {0x1.921fb6p+0, -0x1.777a5cp-25, -0x1.ee59dap-50},
  .smallest_normal = 0x1p-126, .sqrt_half = 0x3f3504f3, .erf_end = 4};
const WorkFormat format64 = {
  .integer = DType::I64, .mantissa = 52, .bias = 1023, .magic = 6755399441055744.0, .exp_low = -746, .exp_high = 710,
  .ln2_hi = 0x1.62e42fefa3p-1, .ln2_lo = 0x1.3de6af278ece6p-42,
  .two_ln2_hi = 0x1.62e42fefa39efp+0, .two_ln2_lo = 0x1.abc9e3b39803fp-55,
  .half_pi = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54, -0x1.f1976b7ed8fbcp-110},
  .smallest_normal = 0x1p-1022, .sqrt_half = 0x3fe6a09e667f3bcd, .erf_end = 6};
// clang-format on

}  // namespace

const WorkFormat& format_of(const Term& x) { return x.node->dtype == DType::F64 ? format64 : format32; }

Term sign_bit(const Term& x) {
  const WorkFormat& f = format_of(x);
  Term bits = x.bits(f.integer);
  return bits & bits.integer(f.integer == DType::I32 ? INT32_MIN : INT64_MIN);
}

Term is_negative(const Term& x) { return x.bits(format_of(x).integer) < 0.0; }

Term with_sign(const Term& x, const Term& sign_bit) {
  return (x.bits(sign_bit.node->dtype) ^ sign_bit).bits(x.node->dtype);
}

Term power_of_two(const Term& shifted) {
  const WorkFormat& f = format_of(shifted);
  Term bits = shifted.bits(f.integer) << f.mantissa;
  return (bits + bits.integer(f.bias << f.mantissa)).bits(shifted.node->dtype);
}

}  // namespace kontor
