// Scalar semantics: rounding, saturation, floor division, NaN, in every dtype.
#include <bit>
#include <cmath>

#include "graph/scalar.h"
#include "tests/catch.h"
#include "tests/dtypes.h"

using namespace kontor;

static Value f(DType d, double x) { return from_double(d, x); }
static Value i(DType d, int64_t x) { return from_int(d, x); }
static Value one(Op op, DType d, Value a) { return apply(op, d, d, &a); }
static Value two(Op op, DType d, Value a, Value b) {
  Value v[] = {a, b};
  return apply(op, has(op, Comparison) ? DType::Bool : d, d, v);
}
static Value cast(DType to, DType from, Value a) { return apply(Op::Cast, to, from, &a); }

TEST_CASE("[scalar] every narrow float reads back what it wrote") {
  for (DType d : narrow_dtypes) {
    for (uint64_t bits = 0; bits < uint64_t{1} << row(d).bits; bits++) {
      double x = to_double(d, {bits});
      if (std::isnan(x)) REQUIRE(std::isnan(to_double(d, f(d, x))));
      else if (f(d, x).bits != bits) FAIL(name(d) << " " << bits);
    }
  }
}

TEST_CASE("[scalar] narrow floats round to the nearest, ties to even") {
  for (DType d : narrow_dtypes) {
    uint64_t sign = uint64_t{1} << (row(d).bits - 1);
    for (uint64_t bits = 0; bits + 1 < sign; bits++) {
      double a = to_double(d, {bits}), b = to_double(d, {bits + 1});
      if (!std::isfinite(a) || !std::isfinite(b)) continue;
      double half = (a + b) / 2;
      uint64_t even = bits & 1 ? bits + 1 : bits;
      const uint64_t minus = even == 0 && !row(d).format.has_minus_zero() ? 0 : even | sign;
      if (f(d, half).bits != even || f(d, -half).bits != minus) FAIL(name(d) << " tie above " << bits);
      if (f(d, std::nextafter(half, b)).bits != bits + 1) FAIL(name(d) << " above the tie of " << bits);
      if (f(d, std::nextafter(half, a)).bits != bits) FAIL(name(d) << " below the tie of " << bits);
    }
  }
}

TEST_CASE("[scalar] what lies beyond the largest") {
  REQUIRE(to_double(DType::F8E4M3, f(DType::F8E4M3, 464)) == 448);  // the tie to what would be 480
  REQUIRE(std::isnan(to_double(DType::F8E4M3, f(DType::F8E4M3, 465))));
  REQUIRE(std::isnan(to_double(DType::F8E4M3, f(DType::F8E4M3, INFINITY))));
  REQUIRE(to_double(DType::F8E5M2, f(DType::F8E5M2, 1e9)) == INFINITY);
  REQUIRE(to_double(DType::F8E4M3FNUZ, f(DType::F8E4M3FNUZ, -247.99)) == -240);
  REQUIRE(f(DType::F8E4M3FNUZ, 248).bits == 0x80);  // the tie to what would be 256: its one NaN
  REQUIRE(f(DType::F8E4M3FNUZ, -0.0).bits == 0);
  REQUIRE(to_double(DType::F16, f(DType::F16, 65519.9)) == 65504);
  REQUIRE(to_double(DType::F16, f(DType::F16, 65520)) == INFINITY);
}

TEST_CASE("[scalar] a cast rounds once") {
  // 2^24 + 1 + a little: f32 first would round to the tie of bf16 or lose the little.
  int64_t x = (int64_t{1} << 62) + (int64_t{1} << 38) + 1;  // just above the tie between two f32
  REQUIRE(to_double(DType::F32, cast(DType::F32, DType::I64, i(DType::I64, x))) ==
          std::ldexp(1, 62) + std::ldexp(1, 39));
  REQUIRE(cast(DType::F32, DType::I64, i(DType::I64, INT64_MIN)) == f(DType::F32, -std::ldexp(1, 63)));
  REQUIRE(cast(DType::F64, DType::U64, {~uint64_t{0}}) == f(DType::F64, std::ldexp(1, 64)));
  double y =
      1 + std::ldexp(1, -11) + std::ldexp(1, -40);  // above a tie of f16; f32 would round it to the tie
  REQUIRE(to_double(DType::F16, cast(DType::F16, DType::F64, f(DType::F64, y))) == 1 + std::ldexp(1, -10));
}

TEST_CASE("[scalar] float to integer truncates, saturates, NaN is 0") {
  auto to = [](DType d, double x) { return to_int(d, cast(d, DType::F64, f(DType::F64, x))); };
  REQUIRE(to(DType::I32, -1.9) == -1);
  REQUIRE(to(DType::I32, 3e9) == INT32_MAX);
  REQUIRE(to(DType::I32, -3e9) == INT32_MIN);
  REQUIRE(to(DType::U8, -1) == 0);
  REQUIRE(to(DType::U8, 256) == 255);
  REQUIRE(to(DType::I64, 1e30) == INT64_MAX);
  REQUIRE(static_cast<uint64_t>(to(DType::U64, 1e30)) == ~uint64_t{0});
  REQUIRE(to(DType::I8, NAN) == 0);
  REQUIRE(to(DType::Bool, NAN) == 1);  // NaN != 0
}

TEST_CASE("[scalar] integers wrap, divide to the floor, shift to nothing") {
  auto r = [](Op op, DType d, int64_t a, int64_t b) { return to_int(d, two(op, d, i(d, a), i(d, b))); };
  REQUIRE(r(Op::Add, DType::I8, 127, 1) == -128);
  REQUIRE(r(Op::Mul, DType::U8, 16, 17) == 16);
  REQUIRE(r(Op::IDiv, DType::I32, -7, 2) == -4);
  REQUIRE(r(Op::Mod, DType::I32, -7, 2) == 1);
  REQUIRE(r(Op::Mod, DType::I32, 7, -2) == -1);
  REQUIRE(r(Op::IDiv, DType::I32, 7, 0) == 0);
  REQUIRE(r(Op::Mod, DType::I32, 7, 0) == 0);
  REQUIRE(r(Op::IDiv, DType::I32, INT32_MIN, -1) == INT32_MIN);
  REQUIRE(r(Op::IDiv, DType::I64, INT64_MIN, -1) == INT64_MIN);
  REQUIRE(r(Op::Shl, DType::I32, 1, 32) == 0);
  REQUIRE(r(Op::Shr, DType::I32, -8, 1) == -4);
  REQUIRE(r(Op::Shr, DType::I32, -8, 99) == -1);
  REQUIRE(r(Op::Shr, DType::U32, 0xffffffff, 31) == 1);
  REQUIRE(r(Op::Lt, DType::U32, -1, 1) == 0);
  REQUIRE(to_int(DType::I16, cast(DType::I16, DType::I32, i(DType::I32, 70000))) == 4464);
  REQUIRE(two(Op::Max, DType::U64, {~uint64_t{0}}, {1}).bits == ~uint64_t{0});
}

TEST_CASE("[scalar] NaN and the sign of zero") {
  for (DType d : float_dtypes) {
    Value nan = f(d, NAN), zero = f(d, 0.0), minus = f(d, -0.0), x = f(d, 2);
    REQUIRE(std::isnan(to_double(d, two(Op::Max, d, nan, x))));
    REQUIRE(std::isnan(to_double(d, two(Op::Min, d, x, nan))));
    REQUIRE(two(Op::Max, d, zero, minus) == minus);  // the second where they are equal
    REQUIRE(one(Op::Neg, d, zero) == minus);
    REQUIRE(one(Op::Abs, d, minus) == zero);
    REQUIRE(two(Op::Eq, d, zero, minus).bits == 1);
    REQUIRE(two(Op::Ne, d, nan, nan).bits == 1);
    REQUIRE(two(Op::Le, d, nan, x).bits == 0);
  }
}

TEST_CASE("[scalar] fma rounds once, in narrow floats too") {
  DType d = DType::F16;
  // 1 + 2^-10 + (2^-11 - 2^-31) is just below a tie; f32 would round it to the tie, and that to 1 + 2^-9.
  Value v[] = {f(d, 1 + std::ldexp(1, -10)), f(d, std::ldexp(1 - std::ldexp(1, -10), -11)),
               f(d, 1 + std::ldexp(1, -10))};
  REQUIRE(to_double(d, apply(Op::Fma, d, d, v)) == 1 + std::ldexp(1, -10));
  Value w[] = {f(DType::F64, 1 + std::ldexp(1, -30)), f(DType::F64, 1 - std::ldexp(1, -30)),
               f(DType::F64, -1)};
  REQUIRE(to_double(DType::F64, apply(Op::Fma, DType::F64, DType::F64, w)) == -std::ldexp(1, -60));
}

TEST_CASE("[scalar] constants carry their bits") {
  for (DType d : float_dtypes) {
    REQUIRE(value_of(*constant_of(d, f(d, -1.5))) == f(d, -1.5));
    REQUIRE(value_of(*constant_of(d, f(d, -0.0))) == f(d, -0.0));
  }
  REQUIRE(value_of(*constant_of(DType::U64, {~uint64_t{0}})).bits == ~uint64_t{0});
  REQUIRE(value_of(*constant_of(DType::I8, i(DType::I8, -3))).bits == 253);
}
