// exp, log, sin, cos, tanh, erf, pow and what follows from them: one decomposition each into ops of the table, so that
// every back end yields the same bits. Accuracy is stated in docs/numerics.md and held by tests/test_mathematics.cpp.
// Polynomials are minimax (Remez, in 45 digits); constants named hi and lo are a value split so that hi + lo holds twice
// the bits.
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"
#include "graph/functions/mathematics.h"
#include "graph/shape.h"

namespace kontor {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// What the decompositions need to know of the float format they work in.
struct Format {
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
  std::span<const double> exp, log, pow, sin, cos, tanh, erf, erfc;
  double erf_end;  // from here on erf is 1
};

// clang-format off
// exp(r) = 1 + r + r^2 p(r) on [-ln 2, ln 2]
constexpr double exp32[] = {0.50000001061901225, 0.16666673878691993, 0.041666525329822292, 0.0083325262883204211,
  0.0013893711194924441, 0.00020110125372706399, 2.443980131993324e-5};
constexpr double exp64[] = {0.49999999999999929, 0.16666666666666937, 0.041666666666701865, 0.0083333333332697666,
  0.0013888888883587976, 0.00019841269892956097, 2.4801590829114388e-5, 2.7557300580508834e-6, 2.755615755221106e-7,
  2.5055044605161146e-8, 2.1062409103289384e-9, 1.5935000512868114e-10};
// log((1+s)/(1-s)) = 2s + s z p(z), z = s^2, for m in [sqrt(1/2), sqrt(2)]
constexpr double log32[] = {0.66666754492340755, 0.39979696177174792, 0.29822627550595107};
constexpr double log64[] = {0.66666666666666857, 0.39999999999699839, 0.28571428684830748, 0.22222204024769784,
  0.1818329973371597, 0.15320427276259843, 0.14735448434598392};
// the same with one term more, for pow
constexpr double pow32[] = {0.66666666009864531, 0.40000269258980323, 0.28540862604886945, 0.23522907872258859};
constexpr double pow64[] = {0.66666666666666665, 0.40000000000002813, 0.28571428570014566, 0.22222222525592371, 0.18181784228559392,
  0.15386755381795023, 0.13256969709683726, 0.13194354253483599};
// sin(r) = r + r z p(z), cos(r) = 1 - z/2 + z^2 p(z), z = r^2, for |r| <= 1.06 pi/4
constexpr double sin32[] = {-0.16666650136163968, 0.0083318798986474973, -0.00019477902439409144};
constexpr double sin64[] = {-0.16666666666666598, 0.0083333333333140408, -0.00019841269823163051, 2.755731142255994e-6,
  -2.5050409920385758e-8, 1.5877080154537168e-10};
constexpr double cos32[] = {0.041666638901098022, -0.0013886980793643631, 2.439483732394218e-5};
constexpr double cos64[] = {0.041666666666666546, -0.0013888888888864342, 2.4801587283219414e-5, -2.7557312528257012e-7,
  2.0875475930611837e-9, -1.1346963465581188e-11};
// tanh(x) = x + x z p(z), z = x^2, for |x| <= 0.6
constexpr double tanh32[] = {-0.33333300132135219, 0.13331977619390813, -0.053788132485437829, 0.020809805734450237,
  -0.0059106170121617755};
constexpr double tanh64[] = {-0.33333333333333327, 0.13333333333331968, -0.053968253967313781, 0.021869488504040266,
  -0.0088632348899274673, 0.003592119926177715, -0.0014557657449403977, 0.00058962928097803055, -0.00023753274232162244,
  9.2525712999490501e-5, -3.1216596902950242e-5, 6.5208430184942409e-6};
// erf(x) = x + x p(x^2) for |x| <= 1
constexpr double erf32[] = {0.1283791659138382, -0.37612627136580648, 0.1128360018292346, -0.026854444857453566,
  0.0051895358190171801, -0.00080208452833795518, 7.8891320897265575e-5};
constexpr double erf64[] = {0.12837916709551257, -0.37612638903183748, 0.11283791670954884, -0.026866170645077875,
  0.0052239776248284317, -0.00085483269814258838, 0.00012055331132976754, -1.4925595772854554e-5, 1.6461008490952578e-6,
  -1.6350396383911511e-7, 1.4660329934243189e-8, -1.1374960859212244e-9, 5.9606946687796137e-11};
// -log(erfc(x)) = p(x - 1) for 1 <= x <= erf_end
constexpr double erfc32[] = {1.8496055164799423, 2.6389668159489514, 0.84311833654631459, 0.041500687063005565,
  -0.0098908891897235917, 0.0018261607595092584, -0.00018557322299300622};
constexpr double erfc64[] = {1.8496055099332483, 2.6389675142347595, 0.8431072563607127, 0.041561097989152122,
  -0.010033824714570349, 0.0019778978704583493, -0.00023730152553665514, -2.6340252479472818e-5, 2.7288212138957138e-5,
  -9.7998024959915368e-6, 2.2649545019832365e-6, -3.0463672552242949e-7, -3.8484262773868349e-9, 1.2415080411281567e-8,
  -2.8795654325232652e-9, 3.2144672912435816e-10, -1.5085193556841928e-11};

constexpr double ln2 = 0.693147180559945309417232121458176568;

const Format format32 = {
  .integer = DType::I32, .mantissa = 23, .bias = 127, .magic = 12582912.0, .exp_low = -104, .exp_high = 89,
  .ln2_hi = 0x1.62e4p-1, .ln2_lo = 0x1.7f7d1cf79abcap-20,
  .two_ln2_hi = static_cast<float>(2 * ln2), .two_ln2_lo = 2 * ln2 - static_cast<double>(static_cast<float>(2 * ln2)),
  .half_pi = {0x1.921fb6p+0, -0x1.777a5cp-25, -0x1.ee59dap-50},
  .smallest_normal = 0x1p-126, .sqrt_half = 0x3f3504f3,
  .exp = exp32, .log = log32, .pow = pow32, .sin = sin32, .cos = cos32, .tanh = tanh32, .erf = erf32, .erfc = erfc32,
  .erf_end = 4};
const Format format64 = {
  .integer = DType::I64, .mantissa = 52, .bias = 1023, .magic = 6755399441055744.0, .exp_low = -746, .exp_high = 710,
  .ln2_hi = 0x1.62e42fefa3p-1, .ln2_lo = 0x1.3de6af278ece6p-42,
  .two_ln2_hi = 0x1.62e42fefa39efp+0, .two_ln2_lo = 0x1.abc9e3b39803fp-55,
  .half_pi = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54, -0x1.f1976b7ed8fbcp-110},
  .smallest_normal = 0x1p-1022, .sqrt_half = 0x3fe6a09e667f3bcd,
  .exp = exp64, .log = log64, .pow = pow64, .sin = sin64, .cos = cos64, .tanh = tanh64, .erf = erf64, .erfc = erfc64,
  .erf_end = 6};
// clang-format on

const Format& format_of(const Term& x) { return x.node->dtype == DType::F64 ? format64 : format32; }

Term sign_bit(const Term& x) {
  const Format& f = format_of(x);
  Term bits = x.bits(f.integer);
  return bits & bits.integer(f.integer == DType::I32 ? INT32_MIN : INT64_MIN);
}
/// |magnitude| with the sign of x; magnitude must not be negative.
Term with_sign(const Term& magnitude, const Term& sign) {
  return (magnitude.bits(sign.node->dtype) ^ sign).bits(magnitude.node->dtype);
}

}  // namespace

/// exp(x + tail), where there is one. 2^n is made as the square of 2^(n/2), so that no intermediate over- or underflows.
static Term exponential(const Term& given, const Term* tail) {
  const Format& f = format_of(given);
  Term x = min(max(given, f.exp_low), f.exp_high);
  Term shifted = fma(x, 0.5 / ln2, f.magic);
  Term half_n = shifted - f.magic;
  Term r = fma(half_n, -f.two_ln2_lo, fma(half_n, -f.two_ln2_hi, x));
  if (tail) r = r + *tail;
  Term bits = shifted.bits(f.integer) << f.mantissa;
  Term root = (bits + bits.integer(f.bias << f.mantissa)).bits(x.node->dtype);
  Term p = fma(r * r, polynomial(r, f.exp), r) + 1.0;
  return p * root * root;
}

Term exp_of(const Term& x) { return exponential(x, nullptr); }

/// x = 2^k * m with m in [sqrt(1/2), sqrt(2)); of positive finite x.
namespace {
struct Parts {
  Term k, m;
};
}  // namespace
static Parts split(const Term& x) {
  const Format& f = format_of(x);
  Term tiny = x < f.smallest_normal;
  double up = f.mantissa + 2;
  Term bits = where(tiny, x * std::ldexp(1.0, f.mantissa + 2), x).bits(f.integer);
  Term k = (bits - bits.integer(f.sqrt_half)) >> f.mantissa;
  Term m = (bits - (k << f.mantissa)).bits(x.node->dtype);
  return {k.as(x.node->dtype) - where(tiny, up, x.constant(0)), m};
}

/// log with its exceptional cases: 0, negative, infinite, NaN.
static Term log_cases(const Term& x, const Term& regular) {
  Term outside = where(x == 0.0, x.constant(-infinity), x.constant(not_a_number));
  return where(x > 0.0, where(x < infinity, regular, x), outside);
}

/// As in Sun's fdlibm (e_log.c): k ln2 + log(m), the small terms first.
Term log_of(const Term& x) {
  const Format& f = format_of(x);
  Parts parts = split(x);
  Term g = parts.m - 1.0, s = g / (g + 2.0), z = s * s, half = g * g * 0.5;
  Term tail = fma(s, fma(z, polynomial(z, f.log), half), parts.k * f.ln2_lo);
  return log_cases(x, fma(parts.k, f.ln2_hi, g - (half - tail)));
}

/// sin (quarters = 0) or cos (1) of r + n pi/2 where the low bits of `n` count quarter turns.
static Term quarter_wave(const Term& r, const Term& n) {
  const Format& f = format_of(r);
  Term z = r * r;
  Term s = fma(r * z, polynomial(z, f.sin), r);
  Term c = fma(z * z, polynomial(z, f.cos), fma(z, -0.5, 1.0));
  Term odd = (n & int64_t{1}) == 1.0;
  Term sign = (n & int64_t{2}) << (f.integer == DType::I32 ? 30 : 62);
  return (where(odd, c, s).bits(f.integer) ^ sign).bits(r.node->dtype);
}

/// Reduction by three parts of pi/2 (Cody and Waite), each step exact by fma while n < 2^(mantissa - 1).
static Term sine(const Term& x, int64_t quarters) {
  const Format& f = format_of(x);
  Term shifted = fma(x, 1 / (std::numbers::pi / 2), f.magic);
  Term n = shifted - f.magic, r = x;
  for (double part : f.half_pi) r = fma(n, -part, r);
  Term turns = shifted.bits(f.integer);
  if (quarters) turns = turns + static_cast<double>(quarters);
  return quarter_wave(min(max(r, -0.83), 0.83),
                      turns);  // the clamp keeps what is beyond the reduction within [-1, 1]
}

Term sin_of(const Term& x) { return with_sign(sine(abs(x), 0), sign_bit(x)); }
Term cos_of(const Term& x) { return sine(x, 1); }

Term tanh_of(const Term& x) {
  const Format& f = format_of(x);
  Term a = abs(x), z = a * a;
  Term small = fma(a * z, polynomial(z, f.tanh), a);
  Term large = 1.0 - 2.0 / (exp_of(a + a) + 1.0);
  return with_sign(where(a < 0.6, small, large), sign_bit(x));
}

Term erf_of(const Term& x) {
  const Format& f = format_of(x);
  Term a = abs(x), z = a * a;
  Term small = fma(a, polynomial(z, f.erf), a);
  Term large = 1.0 - exp_of(-polynomial(min(a, f.erf_end) - 1.0, f.erfc));
  return with_sign(where(a < 1.0, small, large), sign_bit(x));
}

/// log(x) as hi + lo with about 8 bits more than the format, for pow.
static std::pair<Term, Term> log_parts(const Term& x) {
  const Format& f = format_of(x);
  Parts parts = split(x);
  Term g = parts.m - 1.0, d = parts.m + 1.0, d_low = parts.m - (d - 1.0);
  Term s = g / d;
  Term s_low = fma(-s, d_low, fma(-s, d, g)) / d;
  Term z = s * s, twice = s + s;
  Term tail = fma(s * z, polynomial(z, f.pow), s_low + s_low);
  Term big = parts.k * f.ln2_hi, hi = big + twice;  // |big| >= |twice| or big = 0
  Term lo = (twice - (hi - big)) + fma(parts.k, f.ln2_lo, tail);
  Term sum = hi + lo;
  return {sum, lo - (sum - hi)};
}

/// As C's pow: NaN for a negative base unless the exponent is an integer.
static Term pow_of(const Term& a, const Term& b) {
  Term base = abs(a);
  auto [hi, lo] = log_parts(base);
  Term top = b * hi;
  Term rest = fma(b, lo, fma(b, hi, -top));
  Term finite = exponential(top, &rest);
  // log of 0 and infinity, and products that overflow: only the sign of b * log(base) matters.
  Term grows = (base < 1.0) != (b > 0.0);
  Term extreme = where(grows, infinity, a.constant(0));
  Term edge = (base == 0.0) | (base == infinity);
  Term wild = where(abs(b) < infinity, edge, (b == b));
  Term p = where(wild, extreme, where(abs(top) < infinity, finite, where(base == base, extreme, base)));
  Term whole = floor(b) == b, odd = (floor(b * 0.5) != b * 0.5) & whole & (abs(b) < infinity);
  Term signed_p = where(odd, with_sign(p, sign_bit(a)), p);
  Term defined = where(a < 0.0, where(whole | (base == infinity), signed_p, not_a_number), signed_p);
  Term nan_in = where(a == a, where(b == b, defined, b), a);
  return where((b == 0.0) | (a == 1.0) | ((a == -1.0) & (abs(b) == infinity)), 1.0, nan_in);
}

namespace fn {

/// b^e by squaring; e is known.
static Ref power_of(const Ref& x, int64_t e) {
  Ref out, square = x;
  for (; e > 0; e >>= 1) {
    if (e & 1) out = out ? mul(out, square) : square;
    if (e > 1) square = mul(square, square);
  }
  return out ? out : fill(x->dtype, 1, x->shape);
}

/// Integers: six squarings reach every exponent below 64, from which on only 0, 1 and -1 have a power that fits.
static Ref integer_pow(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype("pow", operands);
  if (b.node == Ref() && b.number.i < 0)
    fail("pow: an integer to the power {}; cast to a float first", b.number.i);
  if (!b.node) return power_of(cast(a.node, dtype), b.number.i);
  Dims shape = broadcast_shape("pow", std::vector<Ref>{a.node ? a.node : b.node, b.node});
  Term square(broadcast(a.node ? cast(a.node, dtype) : number_constant("pow", a.number, dtype), shape));
  Term rest(broadcast(cast(b.node, dtype), shape)), out = square.constant(1);
  for (int i = 0; i < 6; i++) {
    out = where((rest & int64_t{1}) == 1.0, out * square, out);
    square = square * square;
    rest = rest >> 1;
  }
  return out.node;
}

/// An exponent known when recorded that needs no logarithm; null if it does.
static Ref known_power(const Ref& x, double e) {
  if (e == 0.5) return sqrt(x);
  if (e == -0.5) return unary("rsqrt", x);
  if (e == -1) return (1.0 / Term(x)).node;
  if (e >= 0 && e <= 4 && e == std::floor(e)) return power_of(x, static_cast<int64_t>(e));
  return {};
}

Ref pow(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype("pow", operands);
  if (!is_float(dtype)) return integer_pow(a, b);
  if (a.node && !b.node)
    if (Ref known = known_power(cast(a.node, dtype), b.number.f)) return known;
  std::vector<Ref> tensors;
  for (const Input& v : operands)
    if (v.node) tensors.push_back(v.node);
  Dims shape = broadcast_shape("pow", tensors);
  std::vector<Ref> both;
  for (const Input& v : operands)
    both.push_back(broadcast(v.node ? cast(v.node, dtype) : number_constant("pow", v.number, dtype), shape));
  DType work = dtype == DType::F64 ? dtype : DType::F32;
  Term body = pow_of(Term(cast(both[0], work)), Term(cast(both[1], work)));
  return call("pow", cast(body.node, dtype), both);
}

/// sin of 2 pi t for t in [0, 4): exact reduction, for random numbers.
Ref sin_turns(const Ref& turns) {
  Term t(turns), shifted = fma(t, 4.0, format_of(t).magic), quarter = shifted - format_of(t).magic;
  Term r = fma(quarter, -0.25, t) * (2 * std::numbers::pi);
  return quarter_wave(r, shifted.bits(format_of(t).integer)).node;
}

}  // namespace fn

}  // namespace kontor
