// sin and cos. Polynomials are minimax (Remez, in 45 digits).
#include <numbers>

#include "graph/functions/float_format.h"
#include "graph/functions/mathematics.h"

namespace kontor {

namespace {

// clang-format off
// sin(r) = r + r z p(z), cos(r) = 1 - z/2 + z^2 p(z), z = r^2, for |r| <= 1.06 pi/4
constexpr double sin32[] = {-0.16666650136163968, 0.0083318798986474973, -0.00019477902439409144};
constexpr double sin64[] = {-0.16666666666666598, 0.0083333333333140408, -0.00019841269823163051, 2.755731142255994e-6,
  -2.5050409920385758e-8, 1.5877080154537168e-10};
constexpr double cos32[] = {0.041666638901098022, -0.0013886980793643631, 2.439483732394218e-5};
constexpr double cos64[] = {0.041666666666666546, -0.0013888888888864342, 2.4801587283219414e-5, -2.7557312528257012e-7,
  2.0875475930611837e-9, -1.1346963465581188e-11};
// clang-format on

/// x as quarter turns, whose low bits `turns` counts, and what is left.
struct Angle {
  Term r, turns;
};

/// Reduction by three parts of pi/2 (Cody and Waite), each step exact by fma while n < 2^(mantissa - 1).
Angle reduced(const Term& x) {
  const WorkFormat& f = format_of(x);
  Term shifted = fma(x, 1 / (std::numbers::pi / 2), f.magic);
  Term n = shifted - f.magic, r = x;
  for (double part : f.half_pi) r = fma(n, -part, r);
  r = min(max(r, -0.83), 0.83);  // beyond the reduction it stays within the series
  return {r, shifted.bits(f.integer)};
}

Term is_odd(const Term& turns) { return (turns & int64_t{1}) == 1.0; }

Term sine(const Angle& a) {
  const Term &r = a.r, z = r * r;
  Term s = fma(r * z, polynomial(z, Series{sin32, sin64}), r);
  Term c = fma(z * z, polynomial(z, Series{cos32, cos64}), fma(z, -0.5, 1.0));
  Term sign = (a.turns & int64_t{2}) << (format_of(r).integer == DType::I32 ? 30 : 62);
  return with_sign(where(is_odd(a.turns), c, s), sign);
}

}  // namespace

Term sin_of(const Term& x) { return with_sign(sine(reduced(abs(x))), sign_bit(x)); }

Term cos_of(const Term& x) {
  const Angle a = reduced(x);
  return sine({a.r, a.turns + 1.0});
}

Term sin_turns_of(const Term& t) {
  const WorkFormat& f = format_of(t);
  Term shifted = fma(t, 4.0, f.magic), quarter = shifted - f.magic;
  return sine({fma(quarter, -0.25, t) * (2 * std::numbers::pi), shifted.bits(f.integer)});
}

}  // namespace kontor
