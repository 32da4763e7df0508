// [values] Exact values, known by hand or from integer arithmetic, everywhere: comparisons and numbers across kinds,
// indices, moments, sums of narrow floats, draws, and what is computed only where it counts.
#include <cmath>
#include <limits>

#include <kontor/kontor.h>
#include <kontor/nn.h>

#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/dtypes.h"
#include "tests/errors.h"
#include "tests/everywhere.h"
#include "tests/on_device.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
using Nodes = const std::vector<Ref>&;

std::vector<const char*> devices() {
  std::vector<const char*> out = {"interp", "llvm"};
  if (device("opencl")) out.push_back("opencl");
  return out;
}

/// Bits at the ends of a dtype, around 0 and where floats stop holding integers.
std::vector<Value> ends(DType dtype) {
  std::vector<Value> out;
  if (dtype == DType::Bool) return {{0}, {1}};
  if (is_float(dtype)) {
    for (double v : {0.0,          -0.0,     1.0,       -1.0,         0.5,
                     2.0,          255.0,    256.0,     16777216.0,   -16777216.0,
                     2147483648.0, 0x1p63,   -0x1p63,   0x1p64,       9007199254740992.0,
                     127.5,        infinity, -infinity, not_a_number, 4294967296.0})
      out.push_back(from_double(dtype, v));
    return out;
  }
  const uint64_t mask = ~uint64_t{0} >> (64 - row(dtype).bits);
  for (uint64_t v : {uint64_t{0}, uint64_t{1}, uint64_t{2}, mask, mask - 1, mask >> 1, (mask >> 1) + 1,
                     uint64_t{255}, uint64_t{16777217}, uint64_t{9007199254740993}, (mask >> 1) - 1})
    out.push_back({v & mask});
  return out;
}

/// Holds every value of every dtype (its significand has 64 bits).
long double exact(DType dtype, Value v) {
  if (dtype == DType::U64) return static_cast<long double>(v.bits);
  if (is_float(dtype)) return static_cast<long double>(to_double(dtype, v));
  return static_cast<long double>(to_int(dtype, v));
}

struct Comparison {
  const char* name;
  Ref (*function)(const Input&, const Input&);
  bool (*right)(long double, long double);
};
constexpr Comparison comparisons[] = {
    {"eq", fn::eq, [](long double a, long double b) { return a == b; }},
    {"ne", fn::ne, [](long double a, long double b) { return a != b; }},
    {"lt", fn::lt, [](long double a, long double b) { return a < b; }},
    {"le", fn::le, [](long double a, long double b) { return a <= b; }},
    {"gt", fn::gt, [](long double a, long double b) { return a > b; }},
    {"ge", fn::ge, [](long double a, long double b) { return a >= b; }},
};

/// All six comparisons of each element, as bits.
Ref six(const Input& a, const Input& b) {
  Ref out;
  for (size_t c = 0; c < 6; c++) {
    Ref bit = fn::mul(fn::cast(comparisons[c].function(a, b), DType::U8), int64_t{1} << c);
    out = out ? fn::add(out, bit) : bit;
  }
  return out;
}
uint64_t right_six(long double a, long double b) {
  uint64_t out = 0;
  for (size_t c = 0; c < 6; c++) out |= uint64_t{comparisons[c].right(a, b)} << c;
  return out;
}

/// One pair of dtypes for each way in which they are compared.
bool is_compiled(DType x, DType y) {
  constexpr DType pairs[][2] = {{DType::I64, DType::U64}, {DType::U64, DType::I8},
                                {DType::I64, DType::F32}, {DType::F32, DType::U64},
                                {DType::I32, DType::F32}, {DType::BF16, DType::U32},
                                {DType::F64, DType::I64}, {DType::F16, DType::BF16},
                                {DType::U8, DType::F64},  {DType::Bool, DType::I16}};
  return std::any_of(std::begin(pairs), std::end(pairs), [&](auto& p) { return p[0] == x && p[1] == y; });
}

template <class T>
void expect_operand(T number, Number::Kind kind) {
  const Input in = Recording::input(Operand(number));
  CHECK(in.number.kind == kind);
  CHECK(in.number.f == static_cast<double>(number));
}

void check_number(const Number& n, long double exact_number) {
  for (DType dtype : every_dtype) {
    std::vector<Value> values = ends(dtype);
    Array a = Array::make(dtype, {static_cast<int64_t>(values.size())});
    for (size_t i = 0; i < values.size(); i++) a.set(static_cast<int64_t>(i), values[i]);
    for (bool swapped : {false, true}) {
      const bool compiled = dtype == DType::U64 || dtype == DType::F32;
      const auto found =
          everywhere([&](Nodes in) { return swapped ? six(n, in[0]) : six(in[0], n); }, {a}, compiled);
      for (const Found& f : found)
        for (size_t i = 0; i < values.size(); i++) {
          const long double v = exact(dtype, values[i]);
          INFO(f.where << " " << name(dtype) << " " << static_cast<double>(v) << " with " << n.f << swapped);
          REQUIRE(f.value.get(static_cast<int64_t>(i)).bits ==
                  (swapped ? right_six(exact_number, v) : right_six(v, exact_number)));
        }
    }
  }
}

}  // namespace

// ---- numbers and kinds

TEST_CASE("[values] comparisons are exact across all dtypes") {
  for (DType x : every_dtype)
    for (DType y : every_dtype) {
      const std::vector<Value> a = ends(x), b = ends(y);
      Array left = Array::make(x, {static_cast<int64_t>(a.size()), 1});
      Array right = Array::make(y, {static_cast<int64_t>(b.size())});
      for (size_t i = 0; i < a.size(); i++) left.set(static_cast<int64_t>(i), a[i]);
      for (size_t i = 0; i < b.size(); i++) right.set(static_cast<int64_t>(i), b[i]);
      for (const Found& f :
           everywhere([](Nodes in) { return six(in[0], in[1]); }, {left, right}, is_compiled(x, y)))
        for (size_t i = 0; i < a.size(); i++)
          for (size_t j = 0; j < b.size(); j++) {
            const long double v = exact(x, a[i]), w = exact(y, b[j]);
            INFO(f.where << " " << name(x) << " " << static_cast<double>(v) << " with " << name(y) << " "
                         << static_cast<double>(w));
            REQUIRE(f.value.get(static_cast<int64_t>(i * b.size() + j)).bits == right_six(v, w));
          }
    }
}

TEST_CASE("[values] comparisons with whole numbers and fractions are exact") {
  for (int64_t n : {int64_t{0}, int64_t{-1}, int64_t{300}, int64_t{16777217}, INT64_MAX, INT64_MIN})
    check_number(Number::of(n), static_cast<long double>(n));
  for (uint64_t n : {UINT64_MAX, uint64_t{1} << 63}) check_number(Number::of(n), static_cast<long double>(n));
  // 2.5 and what follows is the same number in every float dtype, so that it being weak changes nothing.
  for (double n : {2.5, -0.5, infinity, -infinity, not_a_number}) check_number(Number::of(n), n);
}

TEST_CASE("[values] operands are numbers of every C++ type") {
  expect_operand(true, Number::Bool);
  expect_operand('a', Number::Int);
  expect_operand(static_cast<signed char>(-3), Number::Int);
  expect_operand(static_cast<unsigned char>(200), Number::Int);
  expect_operand(static_cast<short>(-3), Number::Int);
  expect_operand(static_cast<unsigned short>(3), Number::Int);
  expect_operand(-3, Number::Int);
  expect_operand(3u, Number::Int);
  expect_operand(-3L, Number::Int);
  expect_operand(3ul, Number::Int);
  expect_operand(INT64_MIN, Number::Int);
  expect_operand(9223372036854775807ull, Number::Int);
  expect_operand(9223372036854775808ull, Number::Unsigned);
  expect_operand(~0ull, Number::Unsigned);
  expect_operand(u8'a', Number::Int);
  expect_operand(L'a', Number::Int);
  expect_operand(U'\U0001F600', Number::Int);
  expect_operand(1.5f, Number::Float);
  expect_operand(1e300, Number::Float);
  expect_operand(1.5L, Number::Float);
}

TEST_CASE("[values] numbers beyond int64_t") {
  for (const char* where : devices()) {
    INFO(where);
    OnDevice on(where);
    const Tensor one = Tensor::from(std::vector<uint64_t>{1}, {1});
    CHECK((Tensor::from({5}, {1}) + UINT64_MAX).item<float>() == 18446744073709551616.f);
    CHECK((Tensor::from(std::vector<int64_t>{-1}, {1}) == ~0ull).item<bool>() == false);
    CHECK((one + ~0ull).item<uint64_t>() == 0);
    CHECK((one * ~0ull).item<uint64_t>() == ~0ull);
    CHECK(maximum(one, ~0ull).item<uint64_t>() == ~0ull);
    CHECK((Tensor::from(std::vector<uint64_t>{~0ull}, {1}) == ~0ull).item<bool>());
    CHECK((Tensor::from(std::vector<uint64_t>{~0ull}, {1}) % 10).item<uint64_t>() == 5);
    CHECK(error_of([] { Tensor::zeros({1}, DType::I64) + ~0ull; }) ==
          "add: 18446744073709551615 does not fit in i64");
    CHECK(error_of([] { Tensor::zeros({1}, DType::U8) * ~0ull; }) ==
          "mul: 18446744073709551615 does not fit in u8");
  }
  // An integer that a float dtype rounds is rounded once: 2^63 + 2^39 + 1 is nearer to 2^63 + 2^40 in f32.
  CHECK((Tensor::zeros({1}) + ((1ull << 63) + (1ull << 39) + 1)).item<float>() == 0x1p63f + 0x1p40f);
  CHECK((Tensor::zeros({1}, DType::F64) + 9007199254740993).item<double>() == 9007199254740992.0);
}

TEST_CASE("[values] dtypes are promoted by PyTorch's table") {
  // torch.promote_types of PyTorch 2; where it has none (u64 with signed integers), f64 as NumPy; f8 as other floats.
  const char* table =
      "           bool       u8         i8         u16        i16        u32        i32        u64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "bool       bool       u8         i8         u16        i16        u32        i32        u64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "u8         u8         u8         i16        u16        i16        u32        i32        u64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "i8         i8         i16        i8         i32        i16        i64        i32        f64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "u16        u16        u16        i32        u16        i32        u32        i32        u64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "i16        i16        i16        i16        i32        i16        i64        i32        f64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "u32        u32        u32        i64        u32        i64        u32        i64        u64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "i32        i32        i32        i32        i32        i32        i64        i32        f64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "u64        u64        u64        f64        u64        f64        u64        f64        u64        f64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "i64        i64        i64        i64        i64        i64        i64        i64        f64        i64        f8e4m3     f8e5m2     f8e4m3fnuz f16        bf16       f32        f64        "
      "f8e4m3     f8e4m3     f8e4m3     f8e4m3     f8e4m3     f8e4m3     f8e4m3     f8e4m3     f8e4m3     f8e4m3     f8e4m3     f32        f32        f16        bf16       f32        f64        "
      "f8e5m2     f8e5m2     f8e5m2     f8e5m2     f8e5m2     f8e5m2     f8e5m2     f8e5m2     f8e5m2     f8e5m2     f32        f8e5m2     f32        f16        bf16       f32        f64        "
      "f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f8e4m3fnuz f32        f32        f8e4m3fnuz f16        bf16       f32        f64        "
      "f16        f16        f16        f16        f16        f16        f16        f16        f16        f16        f16        f16        f16        f16        f32        f32        f64        "
      "bf16       bf16       bf16       bf16       bf16       bf16       bf16       bf16       bf16       bf16       bf16       bf16       bf16       f32        bf16       f32        f64        "
      "f32        f32        f32        f32        f32        f32        f32        f32        f32        f32        f32        f32        f32        f32        f32        f32        f64        "
      "f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        f64        ";
  for (size_t i = 0; i < std::size(every_dtype); i++)
    for (size_t j = 0; j < std::size(every_dtype); j++) {
      const size_t width = 11, across = std::size(every_dtype) + 1;
      std::string wanted(table + ((i + 1) * across + j + 1) * width, width);
      wanted.erase(wanted.find_last_not_of(' ') + 1);
      INFO(name(every_dtype[i]) << " with " << name(every_dtype[j]));
      const Ref a = fn::full({}, 1, every_dtype[i]), b = fn::full({}, 1, every_dtype[j]);
      CHECK(name(fn::add(a, b)->dtype) == wanted);
      CHECK(name(fn::maximum(a, b)->dtype) == wanted);
    }
}

// ---- indices

TEST_CASE(
    "[values] put and pick: -1 is the last, and what does not lie inside is an error, not half written") {
  const Array x = array_of(DType::F32, {4}, {0, 1, 2, 3}), two = array_of(DType::F32, {2}, {7, 8});
  struct Row {
    int64_t at;
    std::vector<double> value;
    bool fits;
  };
  const Row rows[] = {{0, {7, 8, 2, 3}, true},          {2, {0, 1, 7, 8}, true},
                      {-2, {0, 1, 7, 8}, true},         {-4, {7, 8, 2, 3}, true},
                      {3, {0, 1, 2, 3}, false},         {-1, {0, 1, 2, 3}, false},
                      {4, {0, 1, 2, 3}, false},         {-5, {0, 1, 2, 3}, false},
                      {INT64_MAX, {0, 1, 2, 3}, false}, {INT64_MIN, {0, 1, 2, 3}, false}};
  for (const Row& r : rows) {
    INFO(r.at);
    for (const Found& f : everywhere([](Nodes in) { return fn::put(in[0], 0, in[1], in[2]); },
                                     {x, whole_numbers(DType::I64, {}, {r.at}), two})) {
      INFO(f.where << ": " << f.error);
      CHECK(doubles(f.value) == r.value);
      CHECK(f.error.empty() == r.fits);
    }
    auto now = [&] {
      return fn::put(fn::full({index(4)}, 0, DType::F32), 0, r.at, fn::full({index(2)}, 1, DType::F32));
    };
    CHECK(error_of(now).empty() == r.fits);
  }
  for (const Found& f : everywhere([](Nodes in) { return fn::put(in[0], 0, int64_t{-1}, in[1]); },
                                   {x, array_of(DType::F32, {}, {9})}))
    CHECK(doubles(f.value) == std::vector<double>{0, 1, 2, 9});
  for (const Found& f : everywhere(
           [](Nodes in) { return fn::pick(in[0], in[1]); },
           {array_of(DType::F32, {3, 2}, {1, 2, 3, 4, 5, 6}), whole_numbers(DType::I8, {3}, {-1, -2, 1})})) {
    INFO(f.where << ": " << f.error);
    CHECK(doubles(f.value) == std::vector<double>{2, 3, 6});
    CHECK(f.error == "");
  }
  for (int64_t bad : {2, -3})
    for (const Found& f :
         everywhere([](Nodes in) { return fn::pick(in[0], in[1]); },
                    {array_of(DType::F32, {1, 2}, {1, 2}), whole_numbers(DType::I32, {1}, {bad})})) {
      CHECK(doubles(f.value) == std::vector<double>{0});
      CHECK(f.error != "");
    }
  CHECK(error_of([] { fn::put(fn::full({index(3)}, 0, DType::F32), 0, 3, fn::full({}, 1, DType::F32)); }) ==
        "put: f32[] into f32[3]: slices from 3 on do not lie inside of axis 0");
}

TEST_CASE("[values] put has a gradient at a place that is computed") {
  for (const Found& f : everywhere(
           [](Nodes in) {
             const Ref y = fn::put(in[0], 0, in[2], in[1]);
             const std::vector<Ref> wrt{in[0], in[1]};
             return fn::cat(gradient(fn::sum(fn::mul(y, fn::cast(fn::iota(index(4), DType::I64), DType::F32)),
                                             {}, false),
                                     wrt),
                            0);
           },
           {array_of(DType::F32, {4}, {0, 1, 2, 3}), array_of(DType::F32, {2}, {7, 8}),
            whole_numbers(DType::I64, {}, {-3})})) {
    INFO(f.where);
    CHECK(doubles(f.value) == std::vector<double>{0, 0, 0, 3, 1, 2});
    CHECK(f.error == "");
  }
}

TEST_CASE("[values] a label is a class: cross_entropy takes none from the end") {
  for (const Found& f :
       everywhere([](Nodes in) { return fn::cross_entropy(in[0], in[1], 0, {}); },
                  {array_of(DType::F32, {1, 2}, {1, 2}), whole_numbers(DType::I64, {1}, {-1})}))
    CHECK(f.error != "");
}

// ---- moments

TEST_CASE("[values] var keeps its digits where numbers are far from 0") {
  std::vector<double> far;
  for (int i = 0; i < 100000; i++) far.push_back(1e6 + i % 2);
  for (const Found& f : everywhere([](Nodes in) { return fn::var(in[0], {}, false, 0); },
                                   {array_of(DType::F32, {100000}, far)})) {
    INFO(f.where);
    CHECK(doubles(f.value)[0] == 0.25);
  }
  // An outlier in front is the worst that can be: 1e6 once, then 0 and 1. Exactly: mean (1e6 + 5e4) / 100001, and so on.
  std::vector<double> outlier{1e6};
  for (int i = 0; i < 100000; i++) outlier.push_back(i % 2);
  const long double n = 100001, mean = (1e6L + 5e4L) / n, right = (1e12L + 5e4L) / n - mean * mean;
  for (const Found& f : everywhere([](Nodes in) { return fn::var(in[0], {}, false, 0); },
                                   {array_of(DType::F32, {100001}, outlier)})) {
    INFO(f.where);
    CHECK(std::abs(doubles(f.value)[0] / static_cast<double>(right) - 1) < 1e-5);
  }
}

TEST_CASE("[values] var and mean of integers are those of the numbers, in f32") {
  struct Row {
    DType dtype;
    std::vector<int64_t> values;
    float mean, var;
  };
  const Row rows[] = {
      {DType::I64, {1000000000, 1000000001, 1000000002}, 1000000001.f, 2.f / 3},
      {DType::I32, {1000000000, 1000000001, 1000000002}, 1000000001.f, 2.f / 3},
      {DType::U32, {4294967293, 4294967294, 4294967295}, 4294967294.f, 2.f / 3},
      {DType::U64, {-3, -2, -1}, 18446744073709551614.f, 2.f / 3},  // near 2^64
      {DType::I64, {1000000001, -1000000000}, 0.5f, 1.000000001e18f},
      {DType::I32, {1000000001, -1000000000}, 0.5f, 1.000000001e18f},
      {DType::I64, {INT64_MAX, INT64_MIN}, 0, 0x1p126f},
      {DType::U8, {255, 253}, 254, 1},
      {DType::I8, {127, -128}, -0.5, 127.5f * 127.5f},
      {DType::Bool, {1, 1, 0, 0}, 0.5, 0.25},
  };
  for (const Row& r : rows) {
    const Array x = whole_numbers(r.dtype, {static_cast<int64_t>(r.values.size())}, r.values);
    for (const Found& f : everywhere(
             [](Nodes in) {
               return fn::stack({fn::mean(in[0], {}, false), fn::var(in[0], {}, false, 0)}, 0);
             },
             {x})) {
      INFO(f.where << " " << name(r.dtype) << " " << r.values[0]);
      CHECK(f.value.dtype == DType::F32);
      CHECK(doubles(f.value)[0] == static_cast<double>(r.mean));
      CHECK(std::abs(doubles(f.value)[1] / static_cast<double>(r.var) - 1) < 2e-7);
    }
  }
}

TEST_CASE("[values] var: a correction that leaves nothing is refused with its numbers") {
  auto var_of = [](Dims shape, int64_t correction) {
    return error_of([&] { fn::var(fn::full(shape, 1, DType::F32), Ints{0}, false, correction); });
  };
  CHECK(var_of({index(3)}, 2) == "");
  CHECK(var_of({index(3)}, 3) == "var: f32[3] over axes (0): 3 values with a correction of 3");
  CHECK(var_of({index(3)}, INT64_MAX) != "");
  CHECK(var_of({index(0), index(2)}, 0) == "var: f32[0, 2] over axes (0): 0 values with a correction of 0");
}

TEST_CASE("[values] layer_norm keeps its digits where numbers are far from 0") {
  std::vector<double> far;
  for (int i = 0; i < 512; i++) far.push_back(1e6 + i % 2);
  for (const Found& f : everywhere([](Nodes in) { return fn::layer_norm(in[0], 1, {}, {}, 0); },
                                   {array_of(DType::F32, {2, 256}, far)})) {
    INFO(f.where);
    for (int64_t i = 0; i < 512; i++)
      REQUIRE(std::abs(doubles(f.value)[static_cast<size_t>(i)] - (i % 2 ? 1 : -1)) < 1e-6);
  }
}

// ---- sums of narrow floats

TEST_CASE("[values] narrow floats are summed up in f32 and rounded once") {
  const int64_t n = 4096;
  for (DType dtype : narrow_dtypes) {
    const double most = to_double(dtype, {from_double(dtype, infinity).bits - 1});
    auto rounded = [&](double v) { return to_double(dtype, from_double(dtype, v)); };
    const Array ones = array_of(dtype, {n}, std::vector<double>(static_cast<size_t>(n), 1));
    const double total = most > 4096 ? 4096 : rounded(4096);
    struct Row {
      const char* what;
      Body body;
      double right;
    };
    const Row rows[] = {
        {"sum", [](Nodes in) { return fn::sum(in[0], {}, false); }, total},
        {"dot", [](Nodes in) { return fn::matmul(in[0], in[0]); }, total},
        {"mean", [](Nodes in) { return fn::mean(in[0], {}, false); }, 1},
        {"norm", [](Nodes in) { return fn::mul(fn::mean(fn::square(in[0]), {}, false), 1); }, 1},
        {"softmax", [](Nodes in) { return fn::select(fn::softmax(in[0], 0), 0, 5); }, rounded(1.0 / 4096)},
        {"log_softmax", [](Nodes in) { return fn::select(fn::log_softmax(in[0], 0), 0, 5); },
         rounded(-std::log(4096.0))},
        {"var", [](Nodes in) { return fn::var(in[0], {}, false, 0); }, 0},
        {"conv2d",
         [](Nodes in) {
           Ref x = fn::reshape(in[0], {index(1), index(1), index(64), index(64)});
           return fn::reshape(fn::conv2d(x, x, {}, {1}, {0}, {1}, 1), {});
         },
         total},
        {"avg_pool2d",
         [](Nodes in) {
           Ref x = fn::reshape(in[0], {index(1), index(1), index(64), index(64)});
           return fn::reshape(fn::avg_pool2d(x, {64}, {0}), {});
         },
         1},
        {"gradient of a bias",
         [](Nodes in) {
           Ref b = fn::mark(fn::select(in[0], 0, 0), "b");
           return gradient(
               fn::sum(fn::mul(fn::cast(fn::add(fn::mul(in[0], 0), b), DType::F32), 1), {}, false),
               std::vector<Ref>{b})[0];
         },
         total},
        {"gradient of a row taken often",
         [](Nodes in) {
           Ref t = fn::mark(fn::slice(in[0], 0, 0, 1, 1), "t");
           return fn::reshape(
               gradient(fn::sum(fn::cast(fn::take(t, fn::full({index(4096)}, 0, DType::I32), 0), DType::F32),
                                {}, false),
                        std::vector<Ref>{t})[0],
               {});
         },
         total},
    };
    for (const Row& r : rows)
      for (const Found& f : everywhere(r.body, {ones})) {
        INFO(f.where << " " << name(dtype) << " " << r.what);
        CHECK(f.value.dtype == dtype);
        const double got = doubles(f.value)[0];
        CHECK((got == r.right || (std::isnan(got) && std::isnan(r.right))));
      }
  }
}

TEST_CASE("[values] a matmul of narrow floats, and its gradients, round each element once") {
  const int64_t m = 5, k = 300, n = 7;
  for (DType dtype : {DType::F16, DType::BF16}) {
    std::vector<double> a, b;
    for (int64_t i = 0; i < m * k; i++) a.push_back(static_cast<double>((i * 7 + i / 11) % 5 - 2));
    for (int64_t i = 0; i < k * n; i++) b.push_back(static_cast<double>((i * 3 + i / 13) % 7 - 3));
    // Sums of small integers are exact in f32, so that there is one right answer.
    std::vector<double> c, da, db;
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t p = 0; p < k; p++)
          sum += a[static_cast<size_t>(i * k + p)] * b[static_cast<size_t>(p * n + j)];
        c.push_back(sum);
      }
    for (int64_t i = 0; i < m; i++)
      for (int64_t p = 0; p < k; p++) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++) sum += b[static_cast<size_t>(p * n + j)];
        da.push_back(sum);
      }
    const Array x = array_of(dtype, {m, k}, a), y = array_of(dtype, {k, n}, b);
    auto expect = [&](const Body& body, const std::vector<double>& right, const char* what) {
      for (const Found& f : everywhere(body, {x, y})) {
        INFO(f.where << " " << name(dtype) << " " << what);
        REQUIRE(f.value.dtype == dtype);
        for (size_t i = 0; i < right.size(); i++)
          REQUIRE(f.value.get(static_cast<int64_t>(i)) == from_double(dtype, right[i]));
      }
    };
    expect([](Nodes in) { return fn::matmul(in[0], in[1]); }, c, "value");
    expect(
        [](Nodes in) {
          return gradient(fn::sum(fn::cast(fn::matmul(in[0], in[1]), DType::F32), {}, false), in)[0];
        },
        da, "gradient");
  }
}

// ---- draws

TEST_CASE("[values] draws lie inside of their interval") {
  struct Row {
    DType dtype;
    double low, high;
  };
  const double most = std::numeric_limits<float>::max(), f64_most = std::numeric_limits<double>::max();
  const Row rows[] = {
      {DType::F32, 0, 1},
      {DType::F32, 0.7, 0.70001},
      {DType::F32, -most, most},
      {DType::F32, 1e-45, 1e-44},
      {DType::F32, 16777215, 16777217},
      {DType::F32, -1e-30, 1e30},
      {DType::F32, 3, 3},
      {DType::F64, 0, 1},
      {DType::F64, -f64_most, f64_most},
      {DType::F64, 1, 1.0000000000000004},
      {DType::F16, 0, 1},
      {DType::F16, 0.1, 0.3},
      {DType::F16, -65504, 65504},
      {DType::F16, 2047, 2049},
      {DType::BF16, 0, 1},
      {DType::BF16, 0.1, 0.3},
      {DType::BF16, -3e38, 3e38},
      {DType::BF16, 255, 257},
      {DType::F8E4M3, 0, 1},
      {DType::F8E4M3, -448, 448},
      {DType::F8E5M2, 0, 1},
      {DType::F8E5M2, -57344, 57344},
      {DType::F8E4M3FNUZ, -0.0007, 1},
  };
  for (const Row& r : rows)
    for (const char* where : devices()) {
      OnDevice on(where);
      INFO(where << " " << name(r.dtype) << " " << r.low << " .. " << r.high);
      double least = infinity, greatest = -infinity;
      for (double v : Tensor::uniform({20000}, r.low, r.high, r.dtype).to_vector<double>()) {
        REQUIRE(v >= (r.low == r.high ? static_cast<double>(static_cast<float>(r.low)) : r.low));
        REQUIRE((v < r.high || r.low == r.high));
        least = std::min(least, v), greatest = std::max(greatest, v);
      }
      if (r.high - r.low > 100) CHECK(greatest / 2 - least / 2 > (r.high / 2 - r.low / 2) * 0.9);
    }
}

TEST_CASE("[values] normal draws are finite") {
  for (DType dtype : float_dtypes)
    for (double part : {1.0, 0.5, 0.25})
      for (const char* where : devices()) {
        OnDevice on(where);
        INFO(where << " " << name(dtype));
        const double most = to_double(dtype, {from_double(dtype, infinity).bits - 1});
        for (double v : Tensor::normal({20000}, -most * part, most * part, dtype).to_vector<double>())
          REQUIRE(std::isfinite(v));
      }
}

TEST_CASE("[values] randint at the ends of its types") {
  struct Row {
    DType dtype;
    int64_t low, high;
  };
  const Row rows[] = {{DType::I64, INT64_MIN, INT64_MAX},
                      {DType::I64, INT64_MIN, INT64_MIN + 1},
                      {DType::I64, INT64_MAX - 2, INT64_MAX},
                      {DType::U64, 0, INT64_MAX},
                      {DType::I8, -128, 128},
                      {DType::U8, 0, 256},
                      {DType::U8, 255, 256},
                      {DType::I32, INT32_MIN, INT64_C(0x80000000)},
                      {DType::U32, 0, INT64_C(0x100000000)},
                      {DType::I16, -32768, 32768}};
  for (const Row& r : rows)
    for (const char* where : devices()) {
      OnDevice on(where);
      INFO(where << " " << name(r.dtype) << " " << r.low << " .. " << r.high);
      bool below = false, above = false;
      for (int64_t v : Tensor::randint({5000}, r.low, r.high, r.dtype).to_vector<int64_t>()) {
        REQUIRE(v >= r.low);
        REQUIRE(v < r.high);
        const double place = (static_cast<double>(v) - static_cast<double>(r.low)) /
                             (static_cast<double>(r.high) - static_cast<double>(r.low));
        below = below || place < 0.2, above = above || place > 0.7;
      }
      if (static_cast<uint64_t>(r.high) - static_cast<uint64_t>(r.low) > 16) CHECK((below && above));
    }
  CHECK(error_of([] { Tensor::randint({1}, 0, 257, DType::U8); }) == "randint: 256 does not fit in u8");
}

TEST_CASE("[values] draws whose bounds the dtype cannot hold are refused") {
  CHECK(error_of([] { Tensor::uniform({1}, 0, 1e6, DType::F16); }) ==
        "uniform: 1000000 is not a number that f16 holds (-65504 .. 65504)");
  CHECK(error_of([] { Tensor::uniform({1}, -infinity, 0); }) != "");
  CHECK(error_of([] { Tensor::uniform({1}, 0, not_a_number); }) != "");
  CHECK(error_of([] { Tensor::uniform({1}, 0.1, 0.10001, DType::BF16); }) ==
        "uniform: no bf16 is in 0.1 <= x < 0.10001");
  CHECK(error_of([] { Tensor::normal({1}, 0, infinity); }) != "");
  CHECK(error_of([] { Tensor::normal({1}, not_a_number, 1); }) != "");
  CHECK(error_of([] { Tensor::permutation(200, DType::I8); }) == "permutation: 199 does not fit in i8");
}

// ---- what is computed only where it counts

TEST_CASE("[values] a division or an index in the branch that is not taken is not reported") {
  const Array a = whole_numbers(DType::I64, {4}, {7, 8, -9, 5}),
              b = whole_numbers(DType::I64, {4}, {2, 0, 4, 0});
  struct Row {
    const char* what;
    Body body;
    std::vector<double> right;
    bool fine;
  };
  const Row rows[] = {
      {"floor_div",
       [](Nodes in) { return fn::where(fn::ne(in[1], 0), fn::floor_div(in[0], in[1]), -1); },
       {3, -1, -3, -1},
       true},
      {"mod, in the other branch",
       [](Nodes in) { return fn::where(fn::eq(in[1], 0), -1, fn::mod(in[0], in[1])); },
       {1, -1, 3, -1},
       true},
      {"moved",
       [](Nodes in) {
         return fn::where(
             fn::ne(in[1], 0),
             fn::reshape(fn::flip(fn::floor_div(fn::flip(in[0], {}), fn::flip(in[1], {})), {}), {index(4)}),
             -1);
       },
       {3, -1, -3, -1},
       true},
      {"nested",
       [](Nodes in) {
         return fn::where(fn::lt(in[0], 100),
                          fn::where(fn::ne(in[1], 0), fn::add(fn::floor_div(in[0], in[1]), 1), 0),
                          fn::floor_div(in[0], 0));
       },
       {4, 0, -2, 0},
       true},
      {"bools",
       [](Nodes in) {
         return fn::where(fn::ne(in[1], 0), fn::gt(fn::floor_div(in[0], in[1]), 1), Input(Number::of(false)));
       },
       {1, 0, 0, 0},
       true},
      {"and",
       [](Nodes in) { return fn::logical_and(fn::gt(fn::floor_div(in[0], in[1]), 1), fn::ne(in[1], 0)); },
       {1, 0, 0, 0},
       true},
      {"or",
       [](Nodes in) { return fn::logical_or(fn::eq(in[1], 0), fn::gt(fn::floor_div(in[0], in[1]), 1)); },
       {1, 1, 0, 1},
       true},
      {"take",
       [](Nodes in) { return fn::where(fn::lt(in[0], 8), fn::take(in[1], fn::maximum(in[0], 0), 0), 0); },
       {0, 0, 2, 0},
       false},
      {"take within",
       [](Nodes in) { return fn::where(fn::lt(in[1], 4), fn::take(in[0], in[1], 0), 0); },
       {-9, 7, 0, 7},
       true},
      {"wrong condition",
       [](Nodes in) { return fn::where(fn::eq(in[1], 0), fn::floor_div(in[0], in[1]), -1); },
       {-1, 0, -1, 0},
       false},
      {"taken elsewhere",
       [](Nodes in) {
         Ref q = fn::floor_div(in[0], in[1]);
         return fn::add(fn::where(fn::ne(in[1], 0), q, -1), q);
       },
       {6, -1, -6, -1},
       false},
      {"in several branches, none of which is taken where it is wrong",
       [](Nodes in) {
         Ref q = fn::floor_div(in[0], in[1]);
         Ref here = fn::where(fn::gt(in[0], 7), fn::add(q, 1), fn::where(fn::eq(in[1], 2), fn::mul(q, 2), 0));
         return fn::where(fn::ne(in[1], 0), here, fn::where(fn::ne(in[1], 0), q, 9));
       },
       {6, 9, 0, 9},
       true},
      {"in several branches, of which the inner one is taken where it is wrong",
       [](Nodes in) {
         Ref q = fn::floor_div(in[0], in[1]);
         return fn::where(fn::eq(in[1], 2), fn::add(q, 1), fn::where(fn::gt(in[0], 7), fn::mul(q, 2), 0));
       },
       {4, 0, 0, 0},
       false},
      {"dear and read twice",
       [](Nodes in) {
         Ref q = fn::floor_div(in[0], in[1]);
         for (int i = 0; i < 10; i++) q = fn::bit_xor(fn::mul(q, 3), 5);
         Ref some = fn::ne(in[1], 0);
         return fn::sub(fn::where(some, fn::add(q, 1), 0), fn::where(some, q, 0));
       },
       {1, 0, 1, 0},
       true},
  };
  for (const Row& r : rows)
    for (const Found& f : everywhere(r.body, {a, b})) {
      INFO(f.where << " " << r.what << ": " << f.error);
      CHECK(doubles(f.value) == r.right);
      CHECK(f.error.empty() == r.fine);
    }
}

TEST_CASE("[values] an index out of range is reported by the call that computes it, on its thread") {
  for (const char* where : devices()) {
    INFO(where);
    OnDevice on(where);
    const Tensor x = Tensor::from({1, 2, 3}, {3});
    Tensor bad = x.take(Tensor::from(std::vector<int64_t>{0, 7}, {2}));
    const std::string said = error_of([&] { bad.realize(); });
    CHECK(said == "take: index 7 is out of range for axis 0 of size 3");
    CHECK(error_of([&] { on.context.synchronise(); }) == "");  // it was said
    CHECK(bad.to_vector<float>() == std::vector<float>{1, 0});
    CHECK((x + 1).to_vector<float>() == std::vector<float>{2, 3, 4});
    CHECK(error_of([&] { x.take(Tensor::from(std::vector<int32_t>{-5}, {1})).realize(); }) ==
          "take: index -5 is out of range for axis 0 of size 3");
    CHECK(error_of([&] { x.reshape({1, 3}).pick(Tensor::from(std::vector<int32_t>{3}, {1})).realize(); }) ==
          "pick: index 3 is out of range for axis 1 of size 3");
    CHECK(error_of([&] {
            x.put(0, Tensor::from(std::vector<int64_t>{4}, {1}).reshape({}), Tensor::zeros({1})).realize();
          }) == "put: index 4 is out of range for axis 0 of size 3");
    std::vector<int64_t> many(1000, 1);
    many[777] = INT64_MAX;
    CHECK(error_of([&] {
            (x.take(Tensor::from(many, {1000})) * 2).realize();
          }).starts_with("take: index 8796093022207 or beyond is out of range"));
    many[777] = 1234567;
    CHECK(error_of([&] { (x.take(Tensor::from(many, {1000})) * 2).realize(); }) ==
          "take: index 1234567 is out of range for axis 0 of size 3");
    auto program = jit([](const Tensor& i) { return Tensor::from({1, 2, 3}, {3}).take(i); });
    program(Tensor::from(std::vector<int64_t>{1}, {1}));
    CHECK(error_of([&] { program(Tensor::from(std::vector<int64_t>{9}, {1})); }) ==
          "take: index 9 is out of range for axis 0 of size 3");
  }
}

// ---- mistakes of the caller

TEST_CASE("[values] a dtype of no value, a condition that is none, a name that is no function") {
  CHECK(error_of([] { Tensor::zeros({2}, DType::Void); }) == "full: no value has the dtype void");
  CHECK(error_of([] { Tensor::arange(3, DType::Void); }) == "iota: no value has the dtype void");
  CHECK(error_of([] { Tensor::arange(0, 3, 1, DType::Void); }) == "arange: no value has the dtype void");
  CHECK(error_of([] { Tensor::eye(2, DType::Void); }) == "eye: no value has the dtype void");
  CHECK(error_of([] { Tensor::zeros({2}).cast(DType::Void); }) == "cast: no value has the dtype void");
  CHECK(error_of([] { Tensor::zeros({2}, DType::I64).one_hot(3, DType::Void); }) != "");
  CHECK(error_of([] { Tensor::uniform({2}, 0, 1, DType::Void); }) != "");
  CHECK(error_of([] { Tensor::randint({2}, 0, 1, DType::Void); }) != "");
  CHECK(error_of([] { Tensor::permutation(2, DType::Void); }) != "");
  CHECK(error_of([] { Tensor::zeros({2}).bitcast(DType::Void); }) != "");
  CHECK(error_of([] {
          float v = 0;
          Tensor::from_memory(&v, DType::Void, {1});
        }) != "");
  CHECK(error_of([] { where(Tensor::zeros({2}), 1, 2); }) ==
        "where: the condition is f32[2], not bool; compare it with 0");
  CHECK(error_of([] { Tensor::zeros({2}).unary("add"); }) != "");
  CHECK(error_of([] { Tensor::zeros({2}).unary("softmax"); }) != "");
  CHECK(error_of([] { Tensor::zeros({2}).unary("no"); }) != "");
}

TEST_CASE("[values] unary takes every elementwise function of one tensor by name") {
  for (const FunctionRow& r : functions()) {
    if (r.group != "elementwise" || r.parameters != "x") continue;
    const Tensor x = Tensor::from({0.25f, 2}, {2});
    const Tensor y = r.name == "bit_not" ? x.cast(DType::I32) : x;
    INFO(r.name);
    CHECK(y.unary(r.name).shape() == std::vector<int64_t>{2});
  }
  CHECK(Tensor::from({0, 1}, {2}).unary("exp").to_vector<float>()[0] == 1);
  CHECK(Tensor::from({3, 1, 2, 1}, {2, 2}).argmin().item<int64_t>() == 1);
}

// ---- gradients that are no numbers

TEST_CASE("[values] a gradient that is no number leaves its weights as they are") {
  OnDevice on;
  for (const char* kind : {"sgd", "momentum", "adam"}) {
    INFO(kind);
    Tensor w = Tensor::from({0, 4}, {2});
    std::unique_ptr<nn::Optimizer> optimizer;
    const std::vector<nn::Parameter> parameters{{"w", &w}};
    if (kind == std::string("adam")) optimizer = std::make_unique<nn::Adam>(parameters, 0.5);
    else optimizer = std::make_unique<nn::SGD>(parameters, 0.5, kind == std::string("momentum") ? 0.5 : 0);
    // The loss is 2; at 0 the root's slope is infinite, and 0 of the branch that is not taken times it is NaN.
    auto loss = [&] { return where(w > 0, w.sqrt(), 0).sum(); };
    CHECK(loss().item<float>() == 2);
    for (int i = 0; i < 2; i++) optimizer->step(loss());
    const std::vector<float> now = w.to_vector<float>();
    CHECK(now[0] == 0);
    CHECK(std::isfinite(now[1]));
    CHECK(now[1] < 4);
    for (const nn::Parameter& p : optimizer->state())
      for (float v : p.tensor->to_vector<float>()) CHECK(std::isfinite(v));
  }
}
