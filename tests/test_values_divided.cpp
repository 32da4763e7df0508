// [values] mod and floor_div of float_dtypes against exact arithmetic: C's fmod is exact, and a quotient of 113 bits is enough.
#include <cmath>
#include <limits>

#include "base/threefry.h"
#include "graph/functions/functions.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/dtypes.h"
#include "tests/everywhere.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

__extension__ typedef __float128 Quad;
__extension__ typedef __int128 Wide;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Python's %: the exact remainder, moved to the divisor's sign.
double remainder_of(double x, double y) {
  const double r = std::fmod(x, y);
  if (std::isnan(r)) return r;
  if (r == 0) return std::copysign(0.0, y);
  return (r < 0) != (y < 0) ? r + y : r;
}

double floor_of(double x, double y) {
  if (std::isinf(y) && std::isfinite(x)) return x == 0 || (x < 0) == (y < 0) ? x / y : -1;
  const double plain = x / y;
  if (!std::isfinite(plain) || x == 0) return plain;
  const Quad q = static_cast<Quad>(x) / static_cast<Quad>(y);
  if (q >= 0x1p100 || q <= -0x1p100) return static_cast<double>(q);
  const Wide cut = static_cast<Wide>(q);
  const Quad whole = static_cast<Quad>(cut) - (static_cast<Quad>(cut) > q ? 1 : 0);
  return whole == 0 ? std::copysign(0.0, plain) : static_cast<double>(whole);
}

struct Pairs {
  std::vector<double> x, y;
  void add(double a, double b) {
    x.push_back(a);
    y.push_back(b);
  }
};

/// The cases, everything special with everything special, and random bits: every magnitude.
Pairs pairs_of(DType dtype) {
  Pairs p;
  p.add(-526.647644, 1.00135803e-4);
  p.add(1, 0.1);
  p.add(1e10, 3);
  p.add(1e20, 3);
  p.add(-1e-45, 1e10);
  p.add(-5, infinity);
  const double most = to_double(dtype, {from_double(dtype, infinity).bits - 1});
  const double least = to_double(dtype, {1});
  const double special[] = {0.0,  -0.0,  1,     -1,     3,         -3,       0.1,       -0.1,
                            most, -most, least, -least, 5 * least, infinity, -infinity, not_a_number};
  for (double a : special)
    for (double b : special) p.add(a, b);
  const int bits = row(dtype).bits;
  for (uint64_t i = 0; i < 3000; i++) {
    uint64_t a = random_bits64(7, 2 * i), b = random_bits64(7, 2 * i + 1);
    if (i % 2) b = (a & ~uint64_t{0xff}) ^ (b & (bits == 8 ? 0xff : 0x1ff));  // near to one another
    p.add(to_double(dtype, {a >> (64 - bits)}), to_double(dtype, {b >> (64 - bits)}));
  }
  for (double& v : p.x) v = to_double(dtype, from_double(dtype, v));
  for (double& v : p.y) v = to_double(dtype, from_double(dtype, v));
  return p;
}

using Binary = Ref (*)(const Input&, const Input&);

void check(DType dtype, Binary function, double (*wanted)(double, double)) {
  const Pairs p = pairs_of(dtype);
  const int64_t n = static_cast<int64_t>(p.x.size());
  const auto found = everywhere([&](const std::vector<Ref>& in) { return function(in[0], in[1]); },
                                {array_of(dtype, {n}, p.x), array_of(dtype, {n}, p.y)});
  for (const Found& f : found) {
    INFO(f.where << " " << name(dtype));
    REQUIRE(f.error == "");
    for (int64_t i = 0; i < n; i++) {
      const size_t k = static_cast<size_t>(i);
      const double right = wanted(p.x[k], p.y[k]);
      const Value w = from_double(dtype, right), got = f.value.get(i);
      if (std::isnan(to_double(dtype, w)) && std::isnan(to_double(dtype, got))) continue;
      INFO(p.x[k] << " by " << p.y[k] << ": " << to_double(dtype, got) << " instead of " << right);
      REQUIRE(got == w);
    }
  }
}

}  // namespace

TEST_CASE("[values] mod of float_dtypes is the exact remainder, of the divisor's sign") {
  for (DType dtype : float_dtypes)
    check(dtype, [](const Input& a, const Input& b) { return fn::mod(a, b); }, remainder_of);
}

TEST_CASE("[values] floor_div of float_dtypes is the floor of the exact quotient") {
  for (DType dtype : float_dtypes)
    check(dtype, [](const Input& a, const Input& b) { return fn::floor_div(a, b); }, floor_of);
}

TEST_CASE("[values] mod has the gradient of x - y * floor(x / y)") {
  const auto found = everywhere(
      [](const std::vector<Ref>& in) {
        const std::vector<Ref> g = gradient(fn::sum(fn::mod(in[0], in[1]), {}, false), in);
        return fn::stack(g, 0);
      },
      {array_of(DType::F32, {3}, {7, -7, 5.5}), array_of(DType::F32, {3}, {3, 3, -2})});
  for (const Found& f : found) {
    INFO(f.where);
    CHECK(doubles(f.value) == std::vector<double>{1, 1, 1, -2, 3, 3});
  }
}
