// exp, exp2, expm1, sinh, cosh, tanh and erf. Polynomials are minimax (Remez, in 45 digits).
#include <numbers>

#include "graph/functions/float_format.h"
#include "graph/functions/mathematics.h"

namespace kontor {

namespace {

// clang-format off
// exp(r) = 1 + r + r^2 p(r) on [-ln 2, ln 2]
constexpr double exp32[] = {0.50000001061901225, 0.16666673878691993, 0.041666525329822292, 0.0083325262883204211,
  0.0013893711194924441, 0.00020110125372706399, 2.443980131993324e-5};
constexpr double exp64[] = {0.49999999999999929, 0.16666666666666937, 0.041666666666701865, 0.0083333333332697666,
  0.0013888888883587976, 0.00019841269892956097, 2.4801590829114388e-5, 2.7557300580508834e-6, 2.755615755221106e-7,
  2.5055044605161146e-8, 2.1062409103289384e-9, 1.5935000512868114e-10};
// 2^r = 1 + r p(r) on [-1/2, 1/2]
constexpr double exp2_32[] = {0.6931472028549289, 0.24022647913589523, 0.055503324713844004, 0.009618437364889033,
  0.001339887433541928, 0.00015353359669609005};
constexpr double exp2_64[] = {0.6931471805599453, 0.2402265069591013, 0.055504108664820084, 0.00961812910759412,
  0.001333355814677462, 0.00015403530457111996, 1.5252733493125886e-05, 1.3215435282354249e-06, 1.0178199572806979e-07,
  7.073783240992307e-09, 4.434771118482887e-10};
// exp(r) = 1 + r + r^2 p(r) on [-ln(2) / 2, ln(2) / 2], for exp(r) - 1
constexpr double expm1_32[] = {0.5000000044163364, 0.16666666370463187, 0.04166636091520083, 0.008333389370128154,
  0.0013940627202891946, 0.00019845876867301027};
constexpr double expm1_64[] = {0.5, 0.16666666666666677, 0.04166666666666651, 0.008333333333321691, 0.001388888888896237,
  0.00019841269885966236, 2.4801587172542283e-05, 2.755724437385856e-06, 2.755740263939863e-07, 2.510897900070939e-08,
  2.087533101909589e-09};
// sinh(x) = x + x z p(z), z = x^2, for |x| <= 1
constexpr double sinh32[] = {0.16666666497561067, 0.008333350058179699, 0.0001983615977576505, 2.8169512396215953e-06};
constexpr double sinh64[] = {0.16666666666666669, 0.008333333333333148, 0.00019841269841431873, 2.755731915707185e-06,
  2.505212313672588e-08, 1.605725976860518e-10, 7.758748802158509e-13};
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
// clang-format on

constexpr double ln2 = std::numbers::ln2;

/// e^x = p * root * root: 2^n is the square of 2^(n/2), so that no intermediate over- or underflows.
struct Exponential {
  Term p, root;
};

/// Of x + tail (where there is one), for results from where they are 0 to where they are infinite.
Exponential exponential(const Term& x, const Term* tail) {
  const WorkFormat& f = format_of(x);
  Term shifted = fma(x, 0.5 / ln2, f.magic);
  Term half_n = shifted - f.magic;
  Term r = fma(half_n, -f.two_ln2_lo, fma(half_n, -f.two_ln2_hi, x));
  if (tail) r = r + *tail;
  return {fma(r * r, polynomial(r, Series{exp32, exp64}), r) + 1.0, power_of_two(shifted)};
}

Term exp_with(const Term& x, const Term* tail) {
  const WorkFormat& f = format_of(x);
  const Exponential e = exponential(min(max(x, f.exp_low), f.exp_high), tail);
  return e.p * e.root * e.root;
}

/// e^x / 2 of x >= 0, also where e^x overflows.
Term half_exp(const Term& x) {
  const Exponential e = exponential(min(x, format_of(x).exp_high + 1), nullptr);
  return e.p * e.root * (e.root * 0.5);
}

}  // namespace

Term exp_of(const Term& x) { return exp_with(x, nullptr); }
Term exp_of(const Term& x, const Term& tail) { return exp_with(x, &tail); }

/// 2^n is made in two steps, so that neither over- nor underflows.
Term exp2_of(const Term& given) {
  const WorkFormat& f = format_of(given);
  const double low = -static_cast<double>(f.bias + f.mantissa + 2), high = static_cast<double>(f.bias + 2);
  Term x = min(max(given, low), high);
  Term n = (x + f.magic) - f.magic, r = x - n;
  Term half = fma(n, 0.5, f.magic), rest = (n - (half - f.magic)) + f.magic;
  return fma(r, polynomial(r, Series{exp2_32, exp2_64}), 1.0) * power_of_two(half) * power_of_two(rest);
}

/// As in Sun's fdlibm (s_expm1.c): 2^n (e^r - 1) + (2^n - 1), at half its size, so that 2^n does not overflow.
Term expm1_of(const Term& given) {
  const WorkFormat& f = format_of(given);
  const double low = -static_cast<double>(f.mantissa + 4) * ln2;  // from here on it is -1
  Term x = min(max(given, low), f.exp_high);
  Term shifted = fma(x, 1 / ln2, f.magic), n = shifted - f.magic;
  Term r = fma(n, -f.ln2_lo, fma(n, -f.ln2_hi, x));
  Term near = fma(r * r, polynomial(r, Series{expm1_32, expm1_64}), r);
  Term scale = power_of_two(shifted - 1.0), half = fma(near, scale, scale - 0.5);
  return where(x == 0.0, x, where(n == 0.0, near, half + half));
}

Term sinh_of(const Term& x) {
  Term a = abs(x), z = a * a, half = half_exp(a);
  Term small = fma(a * z, polynomial(z, Series{sinh32, sinh64}), a);
  return with_sign(where(a < 1.0, small, half - 0.25 / half), sign_bit(x));
}

Term cosh_of(const Term& x) {
  Term half = half_exp(abs(x));
  return half + 0.25 / half;
}

Term tanh_of(const Term& x) {
  Term a = abs(x), z = a * a;
  Term small = fma(a * z, polynomial(z, Series{tanh32, tanh64}), a);
  Term large = 1.0 - 2.0 / (exp_of(a + a) + 1.0);
  return with_sign(where(a < 0.6, small, large), sign_bit(x));
}

Term erf_of(const Term& x) {
  const WorkFormat& f = format_of(x);
  Term a = abs(x), z = a * a;
  Term small = fma(a, polynomial(z, Series{erf32, erf64}), a);
  Term large = 1.0 - exp_of(-polynomial(min(a, f.erf_end) - 1.0, Series{erfc32, erfc64}));
  return with_sign(where(a < 1.0, small, large), sign_bit(x));
}

}  // namespace kontor
