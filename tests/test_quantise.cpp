// [quantise] narrow formats and scales of blocks against what their definitions say, computed here number by number in doubles.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/threefry.h"
#include "graph/functions/quantise.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/everywhere.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

/// All sizes of a format in the order of their codes, written down from its definition (OCP OFP8 v1.0, OCP MX v1.0).
std::vector<double> sizes_of(const std::string& format) {
  if (format == "f4e2m1") return {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const int mantissa = format == "f8e4m3" ? 3 : 2, bias = format == "f8e4m3" ? 7 : 15;
  const int last = format == "f8e4m3" ? 0x7E : 0x7B;
  std::vector<double> out;
  for (int code = 0; code <= last; code++) {
    const int e = code >> mantissa, m = code & ((1 << mantissa) - 1);
    out.push_back(e ? std::ldexp((1 << mantissa) + m, e - bias - mantissa)
                    : std::ldexp(m, 1 - bias - mantissa));
  }
  return out;
}

/// The place among `sizes` of the one next to a >= 0; of two, that with the even code.
size_t nearest(const std::vector<double>& sizes, double a) {
  if (a >= sizes.back()) return sizes.size() - 1;
  const auto up = static_cast<size_t>(std::lower_bound(sizes.begin(), sizes.end(), a) - sizes.begin());
  if (sizes[up] == a) return up;
  const double above = sizes[up] - a, below = a - sizes[up - 1];
  return above < below || (above == below && up % 2 == 0) ? up : up - 1;
}

double rounded(const std::string& format, double x) {
  static std::map<std::string, std::vector<double>> known;
  std::vector<double>& sizes = known[format];
  if (sizes.empty()) sizes = sizes_of(format);
  return std::isnan(x) ? x : std::copysign(sizes[nearest(sizes, std::fabs(x))], x);
}

bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

/// How many differ, and the first of them.
std::string differing(const std::vector<double>& got, const std::vector<double>& wanted) {
  if (got.size() != wanted.size()) return "sizes differ";
  size_t count = 0;
  std::string first;
  for (size_t i = 0; i < got.size(); i++) {
    if (same(got[i], wanted[i])) continue;
    if (!count++)
      first =
          "at " + std::to_string(i) + ": " + std::to_string(got[i]) + ", not " + std::to_string(wanted[i]);
  }
  return count ? std::to_string(count) + " differ, first " + first : "";
}

void check_everywhere(const Body& body, const std::vector<Array>& inputs, const std::vector<double>& wanted) {
  for (const Found& f : everywhere(body, inputs)) {
    INFO(f.where);
    CHECK(f.error == "");
    CHECK(differing(doubles(f.value), wanted) == "");
  }
}

Array all_codes(DType dtype) {
  Array a = Array::make(dtype, {1 << 16});
  for (int64_t i = 0; i < 1 << 16; i++) a.set(i, {static_cast<uint64_t>(i)});
  return a;
}

/// Numbers of many sizes, some of which are 0.
Array many(std::vector<int64_t> shape, uint64_t seed, int widest = 12) {
  Array a = Array::make(DType::F32, std::move(shape));
  for (int64_t i = 0; i < a.size(); i++) {
    const uint64_t bits = random_bits64(seed, static_cast<uint64_t>(i));
    const double unit = static_cast<double>(bits >> 40) / 0x1p23 - 1;
    a.set(i, from_double(DType::F32, bits % 17 ? std::ldexp(unit, static_cast<int>(bits % 29) % widest) : 0));
  }
  return a;
}

float as_float(double x) { return static_cast<float>(x); }

/// The scale of a block as its kind defines it; `whole`: of NVFP4, the tensor's.
double scale_of(double amax, const std::string& format, const std::string& kind, float whole) {
  const double greatest = sizes_of(format).back();
  const int emax = static_cast<int>(std::floor(std::log2(greatest)));
  if (kind == "none") return 1;
  if (std::isnan(amax)) return amax;
  const float finite = as_float(std::min(amax, double{std::numeric_limits<float>::max()}));
  const float plain = finite / as_float(greatest);
  if (kind == "f32") return plain == 0 ? 1 : plain;
  if (kind == "e4m3") return as_float(rounded("f8e4m3", plain / whole)) * whole;
  double e = -127;
  if (std::isinf(amax)) e = 128 - emax;
  else if (amax > 0) {
    int power = 0;
    const double part = std::frexp(amax, &power) * 2;  // 1 <= part < 2
    e = power - 1 - emax;
    if (kind == "pow2" && part > std::ldexp(greatest, -emax)) e += 1;
  }
  if (std::isinf(amax)) e = 128 - emax;
  return std::ldexp(1, static_cast<int>(std::clamp(e, -127.0, 127.0)));
}

struct Case {
  std::string format, kind;
  Ints shape, block;
};

/// Row-major numbers of blocks: for [rows, columns] only.
struct Direct {
  std::vector<double> scales, data;
  float whole = 1;
};

Direct directly(const Case& c, const std::vector<double>& x) {
  const int64_t rows = c.shape[0], columns = c.shape[1];
  const auto extent_of = [&](size_t i) {
    if (c.block.empty()) return c.shape[i];
    if (c.block.size() == 1) return i == 0 ? int64_t{1} : c.block[0] ? c.block[0] : columns;
    return c.block[i] ? c.block[i] : c.shape[i];
  };
  const int64_t high = extent_of(0), wide = extent_of(1);
  const int64_t across = (columns + wide - 1) / wide;
  Direct d;
  double all = 0;
  for (double v : x) all = std::max(all, std::fabs(v));
  const double greatest = sizes_of(c.format).back();
  if (all > 0)
    d.whole = as_float(std::min(all, double{std::numeric_limits<float>::max()})) / as_float(greatest * 448);
  if (d.whole == 0) d.whole = 1;
  std::vector<double> amax(static_cast<size_t>((rows + high - 1) / high * across));
  const auto block_at = [&](int64_t i, int64_t j) {
    return static_cast<size_t>(i / high * across + j / wide);
  };
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) {
      double& a = amax[block_at(i, j)];
      const double v = std::fabs(x[static_cast<size_t>(i * columns + j)]);
      a = std::isnan(a) || std::isnan(v) ? NAN : std::max(a, v);
    }
  for (double a : amax) d.scales.push_back(scale_of(a, c.format, c.kind, d.whole));
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) {
      const double by = d.scales[block_at(i, j)];
      const float v = as_float(x[static_cast<size_t>(i * columns + j)]);
      d.data.push_back(by == 0 ? 0 : rounded(c.format, v / as_float(by)));
    }
  return d;
}

void check_case(const Case& c, const Array& x) {
  INFO(c.format << " " << c.kind << " of " << c.shape[0] << " x " << c.shape[1]);
  const Direct wanted = directly(c, doubles(x));
  const auto scales = [&](const Ref& v) { return fn::block_scales(v, c.format, c.kind, c.block); };
  check_everywhere([&](auto& in) { return scales(in[0]); }, {x}, wanted.scales);
  check_everywhere(
      [&](auto& in) {
        return fn::cast(fn::quantise(in[0], scales(in[0]), c.format, c.block, {}), DType::F32);
      },
      {x}, wanted.data);
}

const Case cases[] = {
    {"f8e4m3", "f32", {33, 70}, {}},        // per tensor
    {"f8e5m2", "f32", {33, 70}, {0}},       // per row
    {"f8e4m3", "f32", {3, 300}, {1, 128}},  // fp8-block, activations
    {"f8e4m3", "f32", {150, 200}, {128, 128}},
    {"f8e4m3", "pow2", {150, 200}, {128, 128}},
    {"f8e4m3", "e8m0", {6, 100}, {32}},  // mxfp8
    {"f8e5m2", "e8m0", {6, 100}, {32}},
    {"f8e4m3", "e8m0", {70, 5}, {32, 1}},  // along the other axis
    {"f4e2m1", "e8m0", {6, 100}, {32}},    // mxfp4
    {"f4e2m1", "pow2", {6, 100}, {32}},
    {"f4e2m1", "e4m3", {6, 100}, {16}},      // nvfp4
    {"f4e2m1", "e4m3", {40, 50}, {16, 16}},  // its weights
    {"f8e4m3", "none", {4, 9}, {}},
};

}  // namespace

TEST_CASE("[quantise] every f16 and bf16 number goes to the nearest of each narrow format") {
  for (const std::string format : {"f4e2m1", "f8e4m3", "f8e5m2"})
    for (const DType source : {DType::F16, DType::BF16}) {
      INFO(format << " of " << name(source));
      const Array x = all_codes(source);
      std::vector<double> wanted;
      for (double v : doubles(x)) wanted.push_back(rounded(format, v));
      check_everywhere([&](auto& in) { return fn::cast(fn::round_to(in[0], format, {}, true), DType::F32); },
                       {x}, wanted);
    }
}

TEST_CASE("[quantise] f4e2m1 by hand: each number, each middle and its neighbours") {
  const std::vector<std::pair<double, double>> golden = {{0, 0},
                                                         {-0.0, -0.0},
                                                         {0.25, 0},
                                                         {0x1.000002p-2, 0.5},
                                                         {0.5, 0.5},
                                                         {0.75, 1},
                                                         {0x1.7ffffep-1, 0.5},
                                                         {1, 1},
                                                         {1.25, 1},
                                                         {1.5, 1.5},
                                                         {1.75, 2},
                                                         {2, 2},
                                                         {2.5, 2},
                                                         {0x1.400002p1, 3},
                                                         {3, 3},
                                                         {3.5, 4},
                                                         {4, 4},
                                                         {5, 4},
                                                         {-5, -4},
                                                         {6, 6},
                                                         {0x1.400002p2, 6},
                                                         {7, 6},
                                                         {1e30, 6},
                                                         {-1e30, -6},
                                                         {HUGE_VAL, 6},
                                                         {-HUGE_VAL, -6},
                                                         {NAN, NAN},
                                                         {1e-45, 0},
                                                         {-1e-45, -0.0}};
  std::vector<double> x, wanted;
  for (const auto& [from, to] : golden) x.push_back(from), wanted.push_back(to);
  const Array in = array_of(DType::F32, {static_cast<int64_t>(x.size())}, x);
  check_everywhere([](auto& v) { return fn::cast(fn::round_to(v[0], "f4e2m1", {}, true), DType::F32); }, {in},
                   wanted);
}

TEST_CASE("[quantise] without saturation a number beyond the greatest is what a cast makes of it") {
  const Array x = array_of(DType::F32, {4}, {448, 500, -1e9, HUGE_VAL});
  check_everywhere([](auto& v) { return fn::cast(fn::round_to(v[0], "f8e4m3", {}, false), DType::F32); }, {x},
                   {448, NAN, NAN, NAN});
  check_everywhere([](auto& v) { return fn::cast(fn::round_to(v[0], "f8e4m3", {}, true), DType::F32); }, {x},
                   {448, 448, -448, 448});
}

TEST_CASE("[quantise] stochastic rounding goes to a neighbour with the probability of being nearer") {
  for (const std::string format : {"f4e2m1", "f8e4m3", "f8e5m2"}) {
    INFO(format);
    const std::vector<double> sizes = sizes_of(format);
    const int64_t n = 4000;
    Array x = many({n}, 7), noise = Array::make(DType::U32, {n});
    std::vector<double> wanted;
    for (int64_t i = 0; i < n; i++) {
      const auto bits = static_cast<uint32_t>(random_bits64(9, static_cast<uint64_t>(i)));
      noise.set(i, {bits});
      const double v = doubles(x)[static_cast<size_t>(i)], a = std::fabs(v);
      const auto up = static_cast<size_t>(std::lower_bound(sizes.begin(), sizes.end(), a) - sizes.begin());
      double to = sizes.back();
      if (up < sizes.size() && sizes[up] == a) to = a;
      else if (up < sizes.size()) {
        const double part = (a - sizes[up - 1]) / (sizes[up] - sizes[up - 1]);
        to = (bits >> 8) / 0x1p24 < part ? sizes[up] : sizes[up - 1];
      }
      wanted.push_back(std::copysign(to, v));
    }
    check_everywhere([&](auto& in) { return fn::cast(fn::round_to(in[0], format, in[1], true), DType::F32); },
                     {x, noise}, wanted);
  }
}

TEST_CASE("[quantise] stochastic rounding keeps the mean, and what is exact stays") {
  const int64_t n = 20000;
  Array noise = Array::make(DType::U32, {n});
  for (int64_t i = 0; i < n; i++) noise.set(i, {random_bits64(1, static_cast<uint64_t>(i)) & 0xFFFFFFFF});
  for (const double value : {2.3, 0.1, 5.75, 3.0}) {
    const Array x = array_of(DType::F32, {n}, std::vector<double>(static_cast<size_t>(n), value));
    const auto got =
        everywhere([](auto& in) { return fn::cast(fn::round_to(in[0], "f4e2m1", in[1], true), DType::F32); },
                   {x, noise});
    double sum = 0, squares = 0;
    for (double v : doubles(got[0].value)) sum += v, squares += v * v;
    const double mean = sum / n, deviation = std::sqrt(std::max(squares / n - mean * mean, 0.0));
    INFO(value);
    CHECK(std::fabs(mean - value) <= 4 * deviation / std::sqrt(n) + 1e-6);
  }
}

TEST_CASE("[quantise] scales and data of blocks are what their definitions say") {
  uint64_t seed = 1;
  for (const Case& c : cases) check_case(c, many(c.shape, seed++));
}

TEST_CASE("[quantise] blocks of zeros, infinities, NaN, denormal and huge numbers have defined results") {
  const std::vector<double> odd = {0,      -0.0,    HUGE_VAL, 1,   NAN, 2, 1e-45, -1e-40,
                                   3.4e38, -3.4e38, 1e-38,    448, 449, 0, 0,     0};
  for (const Case& c : cases) {
    Case small = c;
    small.shape = {16, 16};
    for (int64_t& b : small.block) b = b > 1 ? 4 : b;
    Array x = Array::make(DType::F32, small.shape);
    for (int64_t i = 0; i < 256; i++)  // a row with each of them alone, then one with four of them
      x.set(i,
            from_double(DType::F32, i / 16 == i % 16 || i % 16 < 4
                                        ? odd[static_cast<size_t>(i / 16 == i % 16 ? i / 16 : (i * 7) % 16)]
                                        : 0));
    if (c.kind == "e4m3")  // one NaN is in the scale of the whole tensor
      for (int64_t i = 0; i < 256; i++)
        if (std::isnan(to_double(DType::F32, x.get(i)))) x.set(i, from_double(DType::F32, 5));
    check_case(small, x);
  }
}

TEST_CASE(
    "[quantise] what is dequantised is data times scales, and the two levels of nvfp4 are products of both") {
  const Ints block{16};
  const Array x = many({5, 64}, 3);
  const Case c{"f4e2m1", "e4m3", {5, 64}, block};
  const Direct d = directly(c, doubles(x));
  std::vector<double> wanted;
  for (size_t i = 0; i < d.data.size(); i++)
    wanted.push_back(as_float(d.data[i]) * as_float(d.scales[i / 16]));
  const auto all = [&](const Ref& v) {
    return fn::quantised(v, find_element_format("test", c.format), ScaleKind::E4M3, block, {});
  };
  check_everywhere([&](auto& in) { return fn::dequantised(all(in[0]), block); }, {x}, wanted);
  check_everywhere([&](auto& in) { return all(in[0]).whole; }, {x}, {d.whole});
  for (const Found& f : everywhere([&](auto& in) { return all(in[0]).scales; }, {x}))
    CHECK(f.value.dtype == DType::F8E4M3);
}

TEST_CASE("[quantise] what is left is data times scales too, for each kind; of f32 all is") {
  for (const Case& c : cases) {
    INFO(c.format << " " << c.kind);
    const ElementFormat& f = find_element_format("test", c.format);
    const ScaleKind kind = find_scale_kind("test", c.kind);
    const Array x = many(c.shape, 11);
    const std::vector<Found> there = everywhere(
        [&](auto& in) { return fn::dequantised(fn::quantised(in[0], f, kind, c.block, {}), c.block); }, {x});
    check_everywhere([&](auto& in) { return fn::fake_quantised(in[0], f, kind, c.block, {}); }, {x},
                     doubles(there[0].value));
  }
  const Array odd = array_of(DType::F32, {3}, {HUGE_VAL, NAN, 1e-45});
  const ElementFormat& f32 = find_element_format("test", "f32");
  check_everywhere([&](auto& in) { return fn::fake_quantised(in[0], f32, ScaleKind::None, {}, {}); }, {odd},
                   doubles(odd));
}

TEST_CASE("[quantise] the gradient passes rounding, and scales have none") {
  const Array x = array_of(DType::F32, {4}, {3.3, -700, 0, 0.01}),
              w = array_of(DType::F32, {4}, {1, -2.5, 3, 4});
  const Body slope = [](auto& in) {
    const Ref y = fn::fake_quantised(in[0], find_element_format("test", "f4e2m1"), ScaleKind::F32, {2}, {});
    const Ref wrt[] = {in[0]};
    return gradient(fn::sum(fn::mul(y, in[1]), {}, false), wrt)[0];
  };
  for (const Found& f : everywhere(slope, {x, w})) CHECK(differing(doubles(f.value), doubles(w)) == "");
}

TEST_CASE("[quantise] codes of powers of two") {
  const std::vector<double> x = {1, 1.5, 0, -1, HUGE_VAL, NAN, 0x1p-127, 0x1p127, 0x1p-126, 2};
  check_everywhere([](auto& in) { return fn::to_e8m0(in[0]); }, {array_of(DType::F32, {10}, x)},
                   {0x7F, 0x7F, 0, 0x7F, 0xFE, 0xFF, 0, 0xFE, 1, 0x80});
  Array codes = Array::make(DType::U8, {256});
  std::vector<double> powers, back;
  for (int i = 0; i < 256; i++) {
    codes.set(i, {static_cast<uint64_t>(i)});
    powers.push_back(i == 255 ? NAN : std::ldexp(1, i - 127)), back.push_back(i);
  }
  check_everywhere([](auto& in) { return fn::from_e8m0(in[0]); }, {codes}, powers);
  check_everywhere([](auto& in) { return fn::to_e8m0(fn::from_e8m0(in[0])); }, {codes}, back);
}

TEST_CASE("[quantise] half bytes hold every f4e2m1") {
  const std::vector<double> all = {0, .5, 1, 1.5, 2, 3, 4, 6, -0.0, -.5, -1, -1.5, -2, -3, -4, -6};
  const Array x = array_of(DType::F32, {2, 8}, all);
  check_everywhere([](auto& in) { return fn::pack_e2m1(in[0]); }, {x},
                   {0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE});
  check_everywhere([](auto& in) { return fn::unpack_e2m1(fn::pack_e2m1(in[0])); }, {x}, all);
  const Array odd = array_of(DType::F32, {4}, {NAN, -HUGE_VAL, 5, 0.25});
  check_everywhere([](auto& in) { return fn::unpack_e2m1(fn::pack_e2m1(in[0])); }, {odd}, {6, -6, 4, 0});
}

TEST_CASE("[quantise] hadamard is orthogonal, undone by its inverse, and spreads what stands out") {
  const Array x = many({3, 32}, 5, 3);
  for (const int64_t axis : {int64_t{1}, int64_t{0}}) {
    const Array in = axis ? x : many({48, 2}, 6, 3);
    const std::vector<double> before = doubles(in);
    for (const Found& f : everywhere([&](auto& v) { return fn::hadamard(v[0], axis, 4, false); }, {in})) {
      double a = 0, b = 0;
      for (double v : before) a += v * v;
      for (double v : doubles(f.value)) b += v * v;
      CHECK(std::fabs(a - b) < 1e-5 * a);
    }
    const Body there_and_back = [&](auto& v) {
      return fn::hadamard(fn::hadamard(v[0], axis, 4, false), axis, 4, true);
    };
    for (const Found& f : everywhere(there_and_back, {in}))
      for (size_t i = 0; i < before.size(); i++) CHECK(std::fabs(doubles(f.value)[i] - before[i]) < 1e-5);
  }
  std::vector<double> one(16);
  one[5] = 8;
  const auto spread = [&](int64_t seed) {
    return doubles(everywhere([&](auto& v) { return fn::hadamard(v[0], 0, seed, false); },
                              {array_of(DType::F32, {16}, one)})[0]
                       .value);
  };
  for (double v : spread(4)) CHECK(std::fabs(v) == 2);
  bool differ = false;
  for (int64_t seed = 0; seed < 8; seed++) differ = differ || spread(seed) != spread(seed + 1);
  CHECK(differ);
}

TEST_CASE("[quantise] mistakes are named, with what there is") {
  const Ref x = fn::full({index(6), index(5)}, 1.0, DType::F32);
  CHECK(error_of([&] { fn::round_to(x, "f8e3m4", {}, true); }) ==
        "round_to: unknown format 'f8e3m4'; known: f4e2m1 f8e4m3 f8e5m2 f16 bf16 f32");
  CHECK(error_of([&] { fn::block_scales(x, "f8e4m3", "ue8", {}); }) ==
        "block_scales: unknown kind of scale 'ue8'; known: none f32 e8m0 pow2 e4m3");
  CHECK_THAT(error_of([&] { fn::block_scales(x, "f8e4m3", "f32", {1, 2, 3}); }),
             Contains("blocks of 3 axes"));
  CHECK_THAT(error_of([&] { fn::block_scales(x, "f8e4m3", "f32", {-2}); }), Contains("a block of -2"));
  CHECK_THAT(error_of([&] { fn::quantise(x, x, "f8e4m3", {}, {}); }), Contains("has no scale"));
  CHECK_THAT(error_of([&] { fn::round_to(x, "f8e4m3", x, true); }), Contains("needs u32 of that shape"));
  CHECK_THAT(error_of([&] { fn::round_to(fn::cast(x, DType::F64), "f8e4m3", {}, true); }),
             Contains("f32 and narrower"));
  CHECK_THAT(error_of([&] { fn::hadamard(x, 0, 0, false); }), Contains("no multiple of 16"));
  CHECK_THAT(error_of([&] { fn::pack_e2m1(x); }), Contains("even size"));
}
