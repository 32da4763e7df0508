// f4e2m1 as half bytes: code = sign, two bits of exponent, one of mantissa (OCP MX v1.0, section 5.3.3).
#include "base/error.h"
#include "graph/functions/float_format.h"
#include "graph/functions/quantise.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

// From 1 on a code's last three bits are those of an f32 from its bit 22 on, less two exponents: 1 has code 2 and 254 << 22.
constexpr int shift = 22;
constexpr int64_t difference = 252;

Term code_of(const Term& x) {
  const Term a = abs(x), size = (a.bits(DType::I32) >> shift) - static_cast<double>(difference);
  const Term code = where(a < 1.0, (a * 2.0).as(DType::I32), size);
  return where(x == x, code | where(is_negative(x), code.integer(8), code.integer(0)), 7.0);
}

Term number_of(const Term& code) {
  const Term size = code & int64_t{7}, bits = (size + static_cast<double>(difference)) << shift;
  const Term a = where(size < 2.0, size.as(DType::F32) * 0.5, bits.bits(DType::F32));
  return where((code & int64_t{8}) == 8.0, -a, a);
}

}  // namespace

Ref pack_e2m1(const Ref& given) {
  const Ref x = cast(round_to(given, "f4e2m1", {}, true), DType::F32);
  if (x->rank() == 0 || x->shape.back()->bounds.lo != x->shape.back()->bounds.hi ||
      extent(x->shape.back()) % 2)
    fail("pack_e2m1: {}: needs a last axis of an even size", describe(*given));
  Dims pairs(x->shape.begin(), x->shape.end());
  pairs.back() = index(extent(pairs.back()) / 2);
  pairs.push_back(index(2));
  const Ref codes = reshape(code_of(Term(x)).node, pairs);
  return cast(bit_or(select(codes, -1, 0), shift_left(select(codes, -1, 1), 4)), DType::U8);
}

Ref unpack_e2m1(const Ref& bytes) {
  if (bytes->dtype != DType::U8 || bytes->rank() == 0)
    fail("unpack_e2m1: {}: needs u8 [.., n]", describe(*bytes));
  const Term both(cast(bytes, DType::I32));
  const Ref halves = stack({(both & int64_t{15}).node, (both >> 4).node}, -1);
  Dims shape(bytes->shape.begin(), bytes->shape.end());
  shape.back() = ix::mul(shape.back(), index(2));
  return cast(reshape(number_of(Term(halves)).node, shape), DType::F8E4M3);
}

}  // namespace kontor::fn
