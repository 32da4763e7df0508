// log, log1p, log2, log10, asinh, acosh, atanh and pow. Polynomials are minimax (Remez, in 45 digits).
#include <cmath>
#include <limits>
#include <numbers>

#include "graph/functions/float_format.h"
#include "graph/functions/mathematics.h"

namespace kontor {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// clang-format off
// log((1+s)/(1-s)) = 2s + s z p(z), z = s^2, for m in [sqrt(1/2), sqrt(2)]
constexpr double log32[] = {0.66666754492340755, 0.39979696177174792, 0.29822627550595107};
constexpr double log64[] = {0.66666666666666857, 0.39999999999699839, 0.28571428684830748, 0.22222204024769784,
  0.1818329973371597, 0.15320427276259843, 0.14735448434598392};
// the same with one term more, for pow
constexpr double pow32[] = {0.66666666009864531, 0.40000269258980323, 0.28540862604886945, 0.23522907872258859};
constexpr double pow64[] = {0.66666666666666665, 0.40000000000002813, 0.28571428570014566, 0.22222222525592371, 0.18181784228559392,
  0.15386755381795023, 0.13256969709683726, 0.13194354253483599};
// clang-format on

/// x = 2^k * m with m in [sqrt(1/2), sqrt(2)); of positive finite x.
struct Parts {
  Term k, m;
};
Parts split(const Term& x) {
  const WorkFormat& f = format_of(x);
  Term tiny = x < f.smallest_normal;
  double up = f.mantissa + 2;
  Term bits = where(tiny, x * std::ldexp(1.0, f.mantissa + 2), x).bits(f.integer);
  Term k = (bits - bits.integer(f.sqrt_half)) >> f.mantissa;
  Term m = (bits - (k << f.mantissa)).bits(x.node->dtype);
  return {k.as(x.node->dtype) - where(tiny, up, x.constant(0)), m};
}

/// A logarithm with its exceptional cases: 0, negative, infinite, NaN.
Term log_cases(const Term& x, const Term& regular) {
  Term outside = where(x == 0.0, x.constant(-infinity), x.constant(not_a_number));
  return where(x > 0.0, where(x < infinity, regular, x), outside);
}

/// log(x) + more (where there is any). As in Sun's fdlibm (e_log.c): k ln2 + log(m), the small terms first.
Term log_plus(const Term& x, const Term* more) {
  const WorkFormat& f = format_of(x);
  Parts parts = split(x);
  Term g = parts.m - 1.0, s = g / (g + 2.0), z = s * s, half = g * g * 0.5;
  Term tail = fma(s, fma(z, polynomial(z, Series{log32, log64}), half), parts.k * f.ln2_lo);
  if (more) tail = tail + *more;
  return log_cases(x, fma(parts.k, f.ln2_hi, g - (half - tail)));
}

/// The logarithms of 2 and of e to some base; two_hi has trailing zeros, so that k * two_hi is exact.
struct Base {
  double two_hi, two_lo, e_hi, e_lo;
};
constexpr Base two32{1, 0, 0x1.715476p+0, 0x1.4ae0bf85ddf44p-26};
constexpr Base two64{1, 0, 0x1.71547652b82fep+0, 0x1.777d0ffda0d24p-56};
constexpr Base ten32{0x1.3440p-2, 0x1.3509f79fef312p-18, 0x1.bcb7b2p-2, -0x1.5b235e39ab2a9p-27};
constexpr Base ten64{0x1.34413509f7p-2, 0x1.3fde623e2566bp-43, 0x1.bcb7b1526e50ep-2, 0x1.95355baaafad3p-57};

/// log(m) in two parts, times that of e, and what k makes, of which the largest are summed with their error: whole powers
/// of the base have whole logarithms.
Term log_to(const Base& b32, const Base& b64, const Term& x) {
  const Base& base = x.node->dtype == DType::F64 ? b64 : b32;
  Parts parts = split(x);
  Term g = parts.m - 1.0, s = g / (g + 2.0), z = s * s, half = g * g * 0.5;
  Term high = g - half, low = fma(s, fma(z, polynomial(z, Series{log32, log64}), half), (g - high) - half);
  Term product = high * base.e_hi, lost = fma(high, base.e_hi, -product);
  Term rest = fma(parts.k, base.two_lo, fma(low, base.e_hi, fma(high, base.e_lo, lost)));
  Term big = parts.k * base.two_hi, sum = big + product;  // |big| > |product|, or it is 0
  return log_cases(x, sum + ((product - (sum - big)) + rest));
}

/// log(x) as hi + lo with about 8 bits more than the format, for pow.
std::pair<Term, Term> log_parts(const Term& x) {
  const WorkFormat& f = format_of(x);
  Parts parts = split(x);
  Term g = parts.m - 1.0, d = parts.m + 1.0, d_low = parts.m - (d - 1.0);
  Term s = g / d;
  Term s_low = fma(-s, d_low, fma(-s, d, g)) / d;
  Term z = s * s, twice = s + s;
  Term tail = fma(s * z, polynomial(z, Series{pow32, pow64}), s_low + s_low);
  Term big = parts.k * f.ln2_hi, hi = big + twice;  // |big| >= |twice| or big = 0
  Term lo = (twice - (hi - big)) + fma(parts.k, f.ln2_lo, tail);
  Term sum = hi + lo;
  return {sum, lo - (sum - hi)};
}

/// From here on 1 + x is x, and asinh and acosh are the logarithm of 2x.
Term is_big(const Term& x) { return x > std::ldexp(1.0, format_of(x).mantissa + 2); }

}  // namespace

Term log_of(const Term& x) { return log_plus(x, nullptr); }
Term log2_of(const Term& x) { return log_to(two32, two64, x); }
Term log10_of(const Term& x) { return log_to(ten32, ten64, x); }

/// As in Sun's fdlibm (s_log1p.c): log(u) of u = 1 + x as it is rounded, and what was lost over u.
Term log1p_of(const Term& x) {
  Term u = x + 1.0, t = u - x, lost = (x - (u - t)) - (t - 1.0);
  Term more = lost / u;
  return where(abs(x) < std::ldexp(1.0, -format_of(x).mantissa - 2), x, log_plus(u, &more));
}

Term asinh_of(const Term& x) {
  Term a = abs(x), z = a * a, big = is_big(a);
  Term y = log1p_of(where(big, a, a + z / (sqrt(z + 1.0) + 1.0)));
  return with_sign(y + where(big, std::numbers::ln2, x.constant(0)), sign_bit(x));
}

Term acosh_of(const Term& x) {
  Term t = x - 1.0, big = is_big(x);
  Term y = log1p_of(where(big, x, t + sqrt(t * (t + 2.0)))) + where(big, std::numbers::ln2, x.constant(0));
  return where(x < 1.0, not_a_number, y);
}

/// log(1 + 2a / (1 - a)) / 2, where 2a / (1 - a) = 2a + 2a^2 / (1 - a).
Term atanh_of(const Term& x) {
  Term a = abs(x), twice = a + a, small = a < 0.5;
  Term q = where(small, twice * a, twice) / (1.0 - a);
  return with_sign(log1p_of(where(small, twice + q, q)) * 0.5, sign_bit(x));
}

/// As C's pow: NaN for a negative base unless the exponent is an integer.
Term pow_of(const Term& a, const Term& b) {
  Term base = abs(a);
  auto [hi, lo] = log_parts(base);
  Term top = b * hi;
  Term rest = fma(b, lo, fma(b, hi, -top));
  Term finite = exp_of(top, rest);
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

}  // namespace kontor
