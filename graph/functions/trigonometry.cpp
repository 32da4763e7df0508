// sin, cos, tan, asin, acos, atan and atan2. Polynomials are minimax (Remez, in 45 digits).
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
// tan(r) = r + r z p(z), z = r^2, for |r| <= 1.06 pi/4
constexpr double tan32[] = {0.3333337676135521, 0.1333175921651484, 0.054159374398204896, 0.02078435939089338,
  0.012085250798382973, -0.0014427305426835335, 0.005107000412475067};
constexpr double tan64[] = {0.33333333333333687, 0.13333333333280822, 0.05396825399552243, 0.02186948781999163,
  0.008863246699891232, 0.0035920149720512326, 0.0014566181673983623, 0.0005861811469843593, 0.00025274462510887607,
  6.190192064158731e-05, 0.00010438799581294505, -6.998372375472424e-05, 8.360034979185274e-05, -4.064488265428543e-05,
  1.3246062943839087e-05};
// asin(x) = x + x z p(z), z = x^2, for |x| <= 1/2
constexpr double asin32[] = {0.16666752481435362, 0.0749529764822372, 0.045470376570903186, 0.024179508218579043,
  0.042166322800719414};
constexpr double asin64[] = {0.16666666666665408, 0.07500000000337008, 0.044642856828332814, 0.030381959136790256,
  0.02237175805462829, 0.01735970469895747, 0.013885236127879036, 0.012169207076001, 0.006527995894972252,
  0.019528206905752, -0.016224159334531984, 0.03191220492841283};
// atan(x) = x + x z p(z), z = x^2, for |x| <= 1
constexpr double atan32[] = {-0.33333299089262086, 0.199985482884708, -0.14264241724699409, 0.10952186004855768,
  -0.08403450987100507, 0.0579576046188682, -0.031177856639924867, 0.010914611429990954, -0.001793622955976112};
constexpr double atan64[] = {-0.3333333333333307, 0.1999999999995146, -0.14285714282575115, 0.11111111007026275,
  -0.09090907002991588, 0.07692279839274503, -0.0666640405729246, 0.058805278123671284, -0.05253518541382764,
  0.047223221750935886, -0.0421917884322199, 0.036641908609994465, -0.029903854876858434, 0.021984849039166112,
  -0.013900556242732906, 0.007196500670106053, -0.002884917289348486, 0.0008313214867460713, -0.00015216079888037392,
  1.3225070096106782e-05};
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

/// What asin(x) or atan(x) is more than x, z = x^2.
Term more_than(const Term& x, const Term& z, const Series& s) { return x * z * polynomial(z, s); }

/// Of x, or where it is large of sqrt((1 - |x|) / 2), whose angle is half of what is missing.
struct Arc {
  Term large, x, more;  // asin(x) = x + more
};
Arc arc_of(const Term& x, const Term& near) {
  Term a = abs(x), large = a > 0.5, z = where(large, (1.0 - a) * 0.5, a * a);
  Term s = where(large, sqrt(z), near);
  return {large, s, more_than(s, z, Series{asin32, asin64})};
}

}  // namespace

Term sin_of(const Term& x) { return with_sign(sine(reduced(abs(x))), sign_bit(x)); }

Term cos_of(const Term& x) {
  const Angle a = reduced(x);
  return sine({a.r, a.turns + 1.0});
}

/// tan(r + pi/2) = -1 / tan(r)
Term tan_of(const Term& x) {
  const Angle a = reduced(abs(x));
  Term z = a.r * a.r, t = fma(a.r * z, polynomial(z, Series{tan32, tan64}), a.r);
  return with_sign(where(is_odd(a.turns), -1.0 / t, t), sign_bit(x));
}

Term sin_turns_of(const Term& t) {
  const WorkFormat& f = format_of(t);
  Term shifted = fma(t, 4.0, f.magic), quarter = shifted - f.magic;
  return sine({fma(quarter, -0.25, t) * (2 * std::numbers::pi), shifted.bits(f.integer)});
}

Term asin_of(const Term& x) {
  const double hi = format_of(x).half_pi[0], lo = format_of(x).half_pi[1];
  const Arc s = arc_of(x, abs(x));
  Term y = where(s.large, fma(s.x, -2.0, hi) + fma(s.more, -2.0, lo), s.x + s.more);
  return with_sign(y, sign_bit(x));
}

Term acos_of(const Term& x) {
  const double hi = format_of(x).half_pi[0], lo = format_of(x).half_pi[1];
  const Arc s = arc_of(x, x);
  Term sum = s.x + s.more, rest = hi - (s.x - (lo - s.more));
  return where(s.large, where(x < 0.0, rest + rest, sum + sum), rest);
}

Term atan_of(const Term& x) {
  const double hi = format_of(x).half_pi[0], lo = format_of(x).half_pi[1];
  Term a = abs(x), far = a > 1.0, t = where(far, 1.0 / a, a);
  Term more = more_than(t, t * t, Series{atan32, atan64});
  return with_sign(where(far, hi - (t + (more - lo)), t + more), sign_bit(x));
}

/// As C's: atan of the lesser of |y| and |x| over the greater, as it stands to the axes.
Term atan2_of(const Term& y, const Term& x) {
  const double hi = format_of(x).half_pi[0], lo = format_of(x).half_pi[1];
  Term a = abs(x), b = abs(y), steep = a < b, left = is_negative(x);
  Term top = where(steep, a, b), bottom = where(steep, b, a);
  Term t = where(top == bottom, where(top == 0.0, top, 1.0), top / bottom);  // also 0 / 0, and infinities
  Term more = more_than(t, t * t, Series{atan32, atan64});
  Term back = steep != left, zero = t.constant(0);
  Term base = where(steep, hi, where(left, 2 * hi, zero)),
       base_low = where(steep, lo, where(left, 2 * lo, zero));
  Term angle = base + (where(back, -t, t) + (where(back, -more, more) + base_low));
  return with_sign(angle, sign_bit(y));
}

}  // namespace kontor
