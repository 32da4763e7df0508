// The accuracy that docs/numerics.md states for elementary functions and activations, against long double; and their exceptional cases.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "backends/interp/evaluate_graph.h"
#include "base/threefry.h"
#include "graph/functions/functions.h"
#include "tests/catch.h"

using namespace kontor;

namespace {

using Reference = long double (*)(long double);

template <class T>
constexpr DType dtype = std::is_same_v<T, float> ? DType::F32 : DType::F64;

Ref buffer(DType type, size_t n) {
  return make(Op::Buffer, {index(static_cast<int64_t>(n))}, {.ints = {fresh_id(), 0}}, type);
}

template <class T>
Array array_of(const std::vector<T>& values) {
  Array a = Array::make(dtype<T>, {static_cast<int64_t>(values.size())});
  std::memcpy(a.bytes.data(), values.data(), a.bytes.size());
  return a;
}

template <class T>
std::vector<T> values_of(const Array& a) {
  std::vector<T> out(a.bytes.size() / sizeof(T));
  std::memcpy(out.data(), a.bytes.data(), a.bytes.size());
  return out;
}

template <class T>
std::vector<T> evaluate(std::string_view function, const std::vector<T>& x) {
  Ref leaf = buffer(dtype<T>, x.size());
  std::vector<Array> inputs{array_of(x)};
  return values_of<T>(evaluate_graph(make_graph({fn::unary(function, leaf)}), inputs).outputs[0]);
}

template <class T>
T evaluate_one(std::string_view function, T x) {
  return evaluate<T>(function, std::vector<T>{x})[0];
}

/// Distance in units of the last place of the true value; 0 where both are NaN or the same infinity.
template <class T>
double ulps(T got, long double wanted) {
  T rounded = static_cast<T>(wanted);
  if (std::isnan(got) || std::isnan(rounded)) return std::isnan(got) && std::isnan(rounded) ? 0 : INFINITY;
  if (std::isinf(got) || std::isinf(rounded)) return got == rounded ? 0 : INFINITY;
  int exponent = rounded == 0 ? std::numeric_limits<T>::min_exponent : std::ilogb(std::abs(rounded)) + 1;
  exponent = std::max(exponent, std::numeric_limits<T>::min_exponent);
  return static_cast<double>(std::abs(static_cast<long double>(got) - wanted) /
                             std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits));
}

/// Numbers between low and high: half of them evenly spread, half with every exponent alike.
template <class T>
std::vector<T> samples(double low, double high, size_t count) {
  std::vector<T> out;
  for (size_t i = 0; i < count; i++) {
    uint64_t bits = random_bits64(7, i);
    double unit = static_cast<double>(bits >> 11) * 0x1p-53, x = low + (high - low) * unit;
    if (i % 2) {
      int lowest = std::numeric_limits<T>::min_exponent - 3;
      double top = std::log2(std::max(std::abs(low), std::abs(high)));
      x = std::exp2(lowest + (top - lowest) * unit) * (bits & 1 ? 1 : -1);
    }
    if (x >= low && x <= high) out.push_back(static_cast<T>(x));
  }
  return out;
}

template <class T>
double worst(std::string_view function, Reference reference, double low, double high, size_t count = 20000) {
  std::vector<T> x = samples<T>(low, high, count), y = evaluate(function, x);
  double most = 0;
  T at = 0;
  for (size_t i = 0; i < x.size(); i++) {
    double error = ulps(y[i], reference(static_cast<long double>(x[i])));
    if (error > most) most = error, at = x[i];
  }
  UNSCOPED_INFO("at " << at << ": " << most << " ulp");
  return most;
}

struct Row {
  std::string_view function;
  Reference reference;
  double low32, high32, bound32, low64, high64, bound64;
  double most = INFINITY;  // finite arguments beyond have no bound
};

using L = long double;
L softplus(L x) { return std::max(x, L(0)) + std::log1p(std::exp(-std::abs(x))); }
L hardsigmoid(L x) { return std::isnan(x) ? x : std::clamp(x + 3, L(0), L(6)) / 6; }
L elu(L x, L scale, L alpha) { return scale * (x > 0 ? x : alpha * std::expm1(x)); }

// clang-format off
const Row rows[] = {
    {"exp",         std::exp,         -105,  89,   1.5, -750,  712,   1.5},
    {"exp2",        std::exp2,        -152,  129,  1.0, -1080, 1025,  1.0},
    {"expm1",       std::expm1,       -105,  89,   1.5, -750,  712,   1.9},
    {"log",         std::log,         0,     3e38, 1.0, 0,     1e308, 1.0},
    {"log2",        std::log2,        0,     3e38, 0.8, 0,     1e308, 0.8},
    {"log10",       std::log10,       0,     3e38, 0.8, 0,     1e308, 0.8},
    {"log1p",       std::log1p,       -1,    3e38, 0.9, -1,    1e308, 0.9},
    {"sin",         std::sin,         -1e6,  1e6,  1.7, -1e9,  1e9,   1.7, 1e6},
    {"cos",         std::cos,         -1e6,  1e6,  1.7, -1e9,  1e9,   1.7, 1e6},
    {"tan",         std::tan,         -1e6,  1e6,  2.8, -1e9,  1e9,   2.6, 1e6},
    {"asin",        std::asin,        -1,    1,    2.2, -1,    1,     2.2},
    {"acos",        std::acos,        -1,    1,    1.3, -1,    1,     1.4},
    {"atan",        std::atan,        -1e9,  1e9,  1.3, -1e9,  1e9,   1.5},
    {"sinh",        std::sinh,        -90,   90,   2.8, -711,  711,   2.8},
    {"cosh",        std::cosh,        -90,   90,   1.8, -711,  711,   2.0},
    {"tanh",        std::tanh,        -20,   20,   1.5, -40,   40,    1.5},
    {"asinh",       std::asinh,       -3e38, 3e38, 1.9, -1e300, 1e300, 1.9},
    {"acosh",       std::acosh,       1,     3e38, 2.1, 1,     1e300, 2.2},
    {"atanh",       std::atanh,       -1,    1,    1.8, -1,    1,     1.9},
    {"erf",         std::erf,         -6,    6,    1.5, -8,    8,     2.0},
    {"sqrt",        std::sqrt,        0,     3e38, 0.51, 0,    1e308, 0.51},
    {"reciprocal",  [](L x) { return 1 / x; }, -1e30, 1e30, 0.51, -1e300, 1e300, 0.51},
    {"round",       std::nearbyint,   -1e7,  1e7,  0,   -1e16, 1e16,  0},
    {"trunc",       std::trunc,       -1e7,  1e7,  0,   -1e16, 1e16,  0},
    {"softplus",    softplus,         -110,  100,  2.5, -750,  800,   2.8},
    {"elu",         [](L x) { return elu(x, 1, 1); }, -110, 100, 1.1, -750, 800, 1.3},
    {"selu",        [](L x) { return elu(x, 1.0507009873554804934193349852946L, 1.6732632423543772848170429916717L); },
                                      -110,  100,  1.9, -750,  800,   2.9},
    {"hardsigmoid", hardsigmoid,      -5,    5,    1.1, -5,    5,     1.1},
    {"hardswish",   [](L x) { return x * hardsigmoid(x); }, -5, 5, 2.0, -5, 5, 2.0},
    {"mish",        [](L x) { return x * std::tanh(softplus(x)); }, -80, 100, 4.2, -700, 800, 4.2},
};
// clang-format on

/// The greatest error of a function of two tensors.
template <class T>
double worst_of_two(Ref (*function)(const Input&, const Input&), L (*reference)(L, L),
                    const std::vector<T>& a, const std::vector<T>& b) {
  Ref x = buffer(dtype<T>, a.size()), y = buffer(dtype<T>, b.size());
  Graph g = make_graph({function(x, y)});
  std::vector<Array> inputs{array_of(g.inputs[0] == x ? a : b), array_of(g.inputs[0] == x ? b : a)};
  std::vector<T> out = values_of<T>(evaluate_graph(g, inputs).outputs[0]);
  double most = 0;
  for (size_t i = 0; i < a.size(); i++) {
    double error = ulps(out[i], reference(static_cast<L>(a[i]), static_cast<L>(b[i])));
    if (error > most) UNSCOPED_INFO("of " << a[i] << ", " << b[i] << ": " << error << " ulp");
    most = std::max(most, error);
  }
  return most;
}

/// pow over pairs whose result is finite.
template <class T>
double worst_pow(double low, double high, double most_log) {
  std::vector<T> a = samples<T>(low, high, 20000), b;
  a.erase(std::remove_if(a.begin(), a.end(), [](T x) { return x <= 0; }), a.end());
  for (size_t i = 0; i < a.size(); i++) {
    double unit = static_cast<double>(random_bits64(11, i) >> 11) * 0x1p-53;
    b.push_back(static_cast<T>((2 * unit - 1) * most_log /
                               std::max(1e-3, std::abs(std::log(static_cast<double>(a[i]))))));
  }
  return worst_of_two<T>(fn::pow, std::pow, a, b);
}

constexpr float infinity = std::numeric_limits<float>::infinity(),
                nan_ = std::numeric_limits<float>::quiet_NaN();

bool same(float a, float b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

}  // namespace

TEST_CASE("[mathematics] accuracy in f32 is what docs/numerics.md states") {
  for (const Row& r : rows) {
    double most = worst<float>(r.function, r.reference, r.low32, r.high32);
    INFO(r.function);
    CHECK(most <= r.bound32);
  }
}

TEST_CASE("[mathematics] accuracy in f64 is what docs/numerics.md states") {
  for (const Row& r : rows) {
    double most = worst<double>(r.function, r.reference, r.low64, r.high64);
    INFO(r.function);
    CHECK(most <= r.bound64);
  }
}

TEST_CASE(
    "[mathematics] x times a number between 0 and 1 is off by less than 2 units of the last place of x") {
  const std::pair<std::string_view, Reference> functions[] = {
      {"gelu", [](L x) { return x * std::erfc(-x / std::sqrt(L(2))) / 2; }},
      {"gelu_tanh",
       [](L x) {
         return x / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi_v<L>) * (x + 0.044715L * x * x * x)));
       }},
      {"silu", [](L x) { return x / (1 + std::exp(-x)); }},
      {"mish", [](L x) { return x * std::tanh(softplus(x)); }},
  };
  const std::vector<float> x = samples<float>(-1e4, 1e4, 20000);
  for (const auto& [name, reference] : functions) {
    const std::vector<float> y = evaluate(name, x);
    L most = 0;
    for (size_t i = 0; i < x.size(); i++) {
      const float unit = std::nextafter(std::abs(x[i]), infinity) - std::abs(x[i]);
      most = std::max(most, std::abs(y[i] - reference(static_cast<L>(x[i]))) / static_cast<L>(unit));
    }
    INFO(name);
    CHECK(most < 2);
  }
}

TEST_CASE("[mathematics] accuracy of pow") {
  CHECK(worst_pow<float>(1e-30, 1e30, 80) <= 4.0);
  CHECK(worst_pow<float>(0.5, 2, 80) <= 4.0);
  CHECK(worst_pow<double>(1e-200, 1e200, 600) <= 8.0);
}

TEST_CASE("[mathematics] accuracy of atan2") {
  const auto shuffled = [](auto values) {
    for (size_t i = values.size(); i > 1; i--) std::swap(values[i - 1], values[random_bits64(5, i) % i]);
    return values;
  };
  const std::vector<float> y = samples<float>(-4, 4, 20000);
  CHECK(worst_of_two<float>(fn::atan2, std::atan2, y, shuffled(y)) <= 1.7);
  const std::vector<double> wide = samples<double>(-4, 4, 20000);
  CHECK(worst_of_two<double>(fn::atan2, std::atan2, wide, shuffled(wide)) <= 1.9);
}

TEST_CASE("[mathematics] exceptional cases are those of C") {
  struct Case {
    std::string_view function;
    float x, y;
  };
  const Case cases[] = {
      {"exp", infinity, infinity}, {"exp", -infinity, 0.f},     {"exp", nan_, nan_},
      {"exp", 0.f, 1.f},           {"exp", -0.f, 1.f},          {"exp", 89.f, infinity},
      {"exp", -104.f, 0.f},        {"log", 0.f, -infinity},     {"log", -0.f, -infinity},
      {"log", -1.f, nan_},         {"log", infinity, infinity}, {"log", -infinity, nan_},
      {"log", nan_, nan_},         {"log", 1.f, 0.f},           {"sin", 0.f, 0.f},
      {"sin", -0.f, -0.f},         {"sin", infinity, nan_},     {"sin", nan_, nan_},
      {"cos", 0.f, 1.f},           {"cos", -infinity, nan_},    {"tanh", infinity, 1.f},
      {"tanh", -infinity, -1.f},   {"tanh", -0.f, -0.f},        {"tanh", nan_, nan_},
      {"erf", infinity, 1.f},      {"erf", -infinity, -1.f},    {"erf", -0.f, -0.f},
      {"erf", nan_, nan_},         {"sigmoid", -infinity, 0.f}, {"sigmoid", infinity, 1.f},
      {"relu", nan_, nan_},        {"relu", -infinity, 0.f},    {"sqrt", -1.f, nan_},
      {"rsqrt", 0.f, infinity},    {"sign", nan_, nan_},        {"sign", -3.f, -1.f},
  };
  for (const Case& c : cases) {
    float got = evaluate_one(c.function, c.x);
    INFO("case " << &c - cases << ": of " << c.x << " wanted " << c.y << " got " << got);
    CHECK(same(got, c.y));
  }
}

TEST_CASE(
    "[mathematics] zeros, infinities, NaN, denormals and the ends of the range are as the C library has them") {
  const std::vector<float> x = {0.f,     -0.f,   1.f,     -1.f,  0.5f,   -0.5f,    2.f,       -2.f, 1e-45f,
                                -1e-45f, 1e-40f, -1e-40f, 3e38f, -3e38f, infinity, -infinity, nan_};
  for (const Row& r : rows) {
    const std::vector<float> y = evaluate(r.function, x);
    for (size_t i = 0; i < x.size(); i++) {
      if (std::isfinite(x[i]) && std::abs(x[i]) > r.most) continue;
      const L wanted = r.reference(static_cast<L>(x[i]));
      INFO(r.function << " of " << x[i] << " wanted " << wanted << " got " << y[i]);
      CHECK(ulps(y[i], wanted) <= std::max(r.bound32, 0.5));
      CHECK((std::isnan(y[i]) || std::signbit(y[i]) == std::signbit(wanted)));
    }
  }
}

template <class T>
static void check_whole_powers(int two_low, int two_high, int ten_high) {
  std::vector<T> twos, exponents, tens, counts;
  for (int k = two_low; k <= two_high; k++)
    twos.push_back(std::ldexp(T(1), k)), exponents.push_back(static_cast<T>(k));
  T ten = 1;
  for (int n = 0; n <= ten_high; n++, ten *= 10) tens.push_back(ten), counts.push_back(static_cast<T>(n));
  CHECK(evaluate("log2", twos) == exponents);
  CHECK(evaluate("exp2", exponents) == twos);
  CHECK(evaluate("log10", tens) == counts);
}

TEST_CASE("[mathematics] whole powers of 2 and 10 have whole logarithms") {
  check_whole_powers<float>(-149, 127, 10);  // as many powers of ten as the format holds
  check_whole_powers<double>(-1074, 1023, 22);
}

TEST_CASE("[mathematics] round takes the even one of two") {
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, 8388607.5f, 16777216.f, 1e30f};
  const std::vector<float> y = evaluate("round", x),
                           wanted = {0, 2, 2, -0.f, -2, 0, 8388608, 16777216, 1e30f};
  for (size_t i = 0; i < x.size(); i++) CHECK(same(y[i], wanted[i]));
}

TEST_CASE("[mathematics] beyond the reduction sine stays within [-1, 1]") {
  for (float x : {1e7f, 1e20f, 3e38f}) CHECK(std::abs(evaluate_one("sin", x)) <= 1);
}

static void check_special_pairs(Ref (*function)(const Input&, const Input&),
                                float (*reference)(float, float)) {
  const float special[] = {0.f,   -0.f, 1.f,  -1.f, 2.f,      -2.f,      0.5f,
                           -0.5f, 3.f,  -3.f, 2.5f, infinity, -infinity, nan_};
  std::vector<float> a, b;
  for (float x : special)
    for (float y : special) a.push_back(x), b.push_back(y);
  Ref x = buffer(DType::F32, a.size()), y = buffer(DType::F32, b.size());
  Graph g = make_graph({function(x, y)});
  std::vector<Array> inputs{array_of(g.inputs[0] == x ? a : b), array_of(g.inputs[0] == x ? b : a)};
  std::vector<float> out = values_of<float>(evaluate_graph(g, inputs).outputs[0]);
  for (size_t i = 0; i < a.size(); i++) {
    const float wanted = reference(a[i], b[i]);
    INFO("of " << a[i] << ", " << b[i] << ": wanted " << wanted << " got " << out[i]);
    CHECK(ulps(out[i], static_cast<long double>(wanted)) <= 2);
    CHECK((std::isnan(out[i]) || std::signbit(out[i]) == std::signbit(wanted)));
  }
}

TEST_CASE("[mathematics] pow, atan2 and copysign of exceptional arguments are those of C") {
  check_special_pairs(fn::pow, std::pow);
  check_special_pairs(fn::atan2, std::atan2);
  check_special_pairs(fn::copysign, std::copysign);
}
