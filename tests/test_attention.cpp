// [attention] against plain loops, whatever it may see; its gradient, its draws, what it says of mistakes.
#include <kontor/kontor.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"

using namespace kontor;

namespace {

struct Sizes {
  int64_t batch, heads, key_heads, queries, keys, size, values;
};

// May query i see key j, and what is added to their score.
using Sees = std::function<bool(int64_t i, int64_t j)>;

struct Given {
  Sizes s;
  Tensor q, k, v;
  std::vector<float> of_q, of_k, of_v;
  explicit Given(const Sizes& sizes) : s(sizes) {
    q = Tensor::normal({s.batch, s.heads, s.queries, s.size}).realize();
    k = Tensor::normal({s.batch, s.key_heads, s.keys, s.size}).realize();
    v = Tensor::normal({s.batch, s.key_heads, s.keys, s.values}).realize();
    of_q = q.to_vector<float>(), of_k = k.to_vector<float>(), of_v = v.to_vector<float>();
  }
  double score(int64_t b, int64_t h, int64_t i, int64_t j, double scale) const {
    const int64_t kh = h / (s.heads / s.key_heads);
    double sum = 0;
    for (int64_t d = 0; d < s.size; ++d)
      sum +=
          static_cast<double>(of_q[static_cast<size_t>(((b * s.heads + h) * s.queries + i) * s.size + d)]) *
          static_cast<double>(of_k[static_cast<size_t>(((b * s.key_heads + kh) * s.keys + j) * s.size + d)]);
    return sum * scale;
  }
  std::vector<double> expected(const Sees& sees, double scale) const {
    std::vector<double> out;
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t h = 0; h < s.heads; ++h)
        for (int64_t i = 0; i < s.queries; ++i) row(out, b, h, i, sees, scale);
    return out;
  }
  void row(std::vector<double>& out, int64_t b, int64_t h, int64_t i, const Sees& sees, double scale) const {
    std::vector<double> sums(static_cast<size_t>(s.values));
    double total = 0;
    for (int64_t j = 0; j < s.keys; ++j) {
      if (!sees(i, j)) continue;
      const double weight = std::exp(score(b, h, i, j, scale));
      const int64_t at = ((b * s.key_heads + h / (s.heads / s.key_heads)) * s.keys + j) * s.values;
      total += weight;
      for (int64_t e = 0; e < s.values; ++e)
        sums[static_cast<size_t>(e)] += weight * static_cast<double>(of_v[static_cast<size_t>(at + e)]);
    }
    for (double sum : sums) out.push_back(total > 0 ? sum / total : 0);
  }
};

/// All rows but the first `without` of each head.
void compare(const Tensor& got, const std::vector<double>& expected, int64_t without = 0) {
  const std::vector<float> values = got.to_vector<float>();
  const size_t row = static_cast<size_t>(got.size(-1));
  const size_t rows = static_cast<size_t>(got.size(-2)), skipped = static_cast<size_t>(without);
  REQUIRE(values.size() / rows * (rows + skipped) == expected.size());
  double most = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t at = i + (i / (rows * row) + 1) * skipped * row;
    most = std::max(most, std::abs(static_cast<double>(values[i]) - expected[at]));
  }
  CHECK(most < 1e-5);
}

}  // namespace

TEST_CASE("[attention] what each query may see, heads in groups, against plain loops") {
  OnDevice on;
  const Sizes all[] = {
      {2, 3, 3, 5, 5, 8, 6}, {1, 4, 2, 7, 9, 8, 8}, {2, 6, 1, 9, 4, 5, 3}, {1, 1, 1, 1, 11, 4, 4}};
  for (const Sizes& s : all) {
    const Given given(s);
    const double scale = 1 / std::sqrt(static_cast<double>(s.size));
    const int64_t ahead = s.keys - s.queries;
    const auto run = [&](const nn::AttentionOptions& o) {
      return nn::attention(given.q, given.k, given.v, o);
    };
    compare(run({}), given.expected([](int64_t, int64_t) { return true; }, scale));
    compare(run({.scale = 0.25}), given.expected([](int64_t, int64_t) { return true; }, 0.25));
    compare(run({.causal = true}),
            given.expected([&](int64_t i, int64_t j) { return j <= i + ahead; }, scale));
    compare(run({.window = 2}),
            given.expected([&](int64_t i, int64_t j) { return std::abs(i + ahead - j) < 2; }, scale));
    compare(run({.causal = true, .window = 3}),
            given.expected([&](int64_t i, int64_t j) { return j <= i + ahead && j > i + ahead - 3; }, scale));
    const Tensor odd = (Tensor::arange(s.queries).unsqueeze(1) + Tensor::arange(s.keys)) % 3 == 1;
    const Sees sees = [](int64_t i, int64_t j) { return (i + j) % 3 == 1; };
    compare(run({.mask = odd}), given.expected(sees, scale));
    if (s.keys < 5) continue;  // else a row has nothing else than what is far below
    compare(run({.mask = where(odd, 0.0, -1e4)}), given.expected(sees, scale));
  }
}

TEST_CASE("[attention] blocks of queries, each with the keys that it may see, against plain loops") {
  OnDevice on;
  for (const Sizes& s : {Sizes{1, 2, 1, 600, 600, 4, 3}, Sizes{1, 1, 1, 513, 700, 4, 4}}) {
    const Given given(s);
    const int64_t ahead = s.keys - s.queries;
    for (const int64_t window : {int64_t{0}, int64_t{40}}) {
      const Sees before = [&](int64_t i, int64_t j) {
        return j <= i + ahead && (window == 0 || j > i + ahead - window);
      };
      const auto run = [&](const Tensor& mask) {
        return nn::attention(given.q, given.k, given.v, {.mask = mask, .causal = true, .window = window});
      };
      compare(run({}), given.expected(before, 0.5));
      const Tensor odd = (Tensor::arange(s.queries).unsqueeze(1) + Tensor::arange(s.keys)) % 3 == 1;
      compare(run(odd),
              given.expected([&](int64_t i, int64_t j) { return before(i, j) && (i + j) % 3 == 1; }, 0.5));
      const Tensor even = where(Tensor::arange(s.keys).unsqueeze(0) % 2 == 0, 0.0, -1e4);
      compare(run(even).slice(-2, 1, s.queries),
              given.expected([&](int64_t i, int64_t j) { return before(i, j) && j % 2 == 0; }, 0.5), 1);
    }
  }
}

TEST_CASE("[attention] slopes of blocks of queries against those of the formula") {
  OnDevice on;
  const auto drawn = [](const Shape& shape) { return Tensor::normal(shape, 0, 1, DType::F64).realize(); };
  const Tensor q = drawn({2, 530, 4}), k = drawn({2, 530, 4}), v = drawn({2, 530, 4}),
               out = drawn({2, 530, 4});
  for (const int64_t window : {int64_t{0}, int64_t{30}}) {
    const Tensor i = Tensor::arange(530).unsqueeze(1), j = Tensor::arange(530);
    const Tensor seen = window == 0 ? j <= i : (j <= i) & (j > i - window);
    const Tensor plain = where(seen, q.matmul(k.transpose(-1, -2)) * 0.5, -1e30).softmax().matmul(v);
    const Tensor blocks = nn::attention(q, k, v, {.causal = true, .window = window});
    const std::vector<Tensor> expected = gradient((plain * out).sum(), {q, k, v});
    const std::vector<Tensor> got = gradient((blocks * out).sum(), {q, k, v});
    for (size_t n = 0; n < 3; ++n) CHECK((got[n] - expected[n]).abs().max().item<double>() < 1e-12);
  }
}

TEST_CASE("[attention] long sequences: the scores are never all in memory") {
  OnDevice on("llvm", 2);
  const Tensor q = Tensor::normal({1, 8192, 4}).realize();
  for (const bool causal : {false, true}) {
    nn::attention(q, q, q, {.causal = causal}).realize();
    CHECK(on.context.counters().temporary_bytes <= uint64_t{32} << 20);  // of 8192 x 8192 scores: 256 MiB
    std::vector<Tensor> gradients = gradient((nn::attention(q, q, q, {.causal = causal}) * q).sum(), {q});
    realize_all(gradients);
    CHECK(on.context.counters().temporary_bytes <= uint64_t{32} << 20);
  }
}

TEST_CASE("[attention] blocks of queries beside keys of any number and masks of one axis") {
  OnDevice on("llvm", 2);
  Variable m("m", 1, 40);
  m.set(24);
  const auto keys = [](const Dim& n) {
    return (Tensor::arange(n, DType::F32).unsqueeze(1) * 1.7 + Tensor::arange(4, DType::F32)).sin();
  };
  const Tensor q = Tensor::normal({4100, 4}).realize(), some = keys(24), seen = keys(m);
  CHECK((nn::attention(q, seen, seen) - nn::attention(q, some, some)).abs().max().item<float>() < 1e-5);
  const Tensor x = Tensor::normal({1, 300, 4}).realize(), mask = Tensor::normal({300}).realize();
  const Tensor one = nn::attention(x, x, x, {.mask = mask, .causal = true});
  const Tensor row = nn::attention(x, x, x, {.mask = mask.unsqueeze(0), .causal = true});
  CHECK((one - row).abs().max().item<float>() == 0);
}

TEST_CASE("[attention] more queries than a chain has steps: the gradients of the formula") {
  OnDevice on("llvm", 2);
  const auto drawn = [](int64_t n) { return Tensor::normal({1, n, 2}, 0, 1, DType::F64).realize(); };
  const Tensor q = drawn(4100), k = drawn(24), v = drawn(24), out = drawn(4100);
  const Tensor mask = (Tensor::arange(4100 * 24).reshape({4100, 24}) % 5) < 3;
  const Tensor plain = where(mask, q.matmul(k.transpose(-1, -2)) * 0.5, -1e30).softmax().matmul(v);
  const Tensor blocks = nn::attention(q, k, v, {.mask = mask, .scale = 0.5});
  CHECK((plain - blocks).abs().max().item<double>() < 1e-12);
  const std::vector<Tensor> expected = gradient((plain * out).sum(), {q, k, v});
  const std::vector<Tensor> got = gradient((blocks * out).sum(), {q, k, v});
  for (size_t n = 0; n < 3; ++n) CHECK((got[n] - expected[n]).abs().max().item<double>() < 1e-10);
}

TEST_CASE("[attention] scores are not kept for the gradients") {
  OnDevice on("llvm", 2);
  const Tensor x = Tensor::normal({1, 1024, 16}).realize();
  Tensor y = x;
  for (int layer = 0; layer < 8; ++layer) y = nn::attention(y, y.exp(), y, {.causal = layer % 2 == 1});
  std::vector<Tensor> gradients = gradient(y.sum(), {x});
  realize_all(gradients);
  CHECK(on.context.counters().temporary_bytes <= uint64_t{16} << 20);  // the scores of a layer: 4 MiB
}

TEST_CASE("[attention] what a query may not see stays unseen beside a mask that is added") {
  OnDevice on;
  const Given given({1, 2, 2, 3, 3, 4, 2});
  const double scale = 0.5;
  for (const float lowest : {-INFINITY, std::numeric_limits<float>::lowest()}) {
    const Tensor mask = Tensor::from({lowest, 0, 0}, {1, 3});
    compare(nn::attention(given.q, given.k, given.v, {.mask = mask, .causal = true, .window = INT64_MAX}),
            given.expected([](int64_t i, int64_t j) { return j <= i && j > 0; }, scale));
  }
}

TEST_CASE("[attention] lengths that are Variables: one schedule for all") {
  OnDevice on;
  // Rows that depend on their place alone, of any number.
  const auto of = [](const Dim& rows, double shift) {
    return (Tensor::arange(rows, DType::F32).unsqueeze(1) * 1.7 + Tensor::arange(8, DType::F32) * 0.9 + shift)
        .sin();
  };
  const auto recorded = [&](const Dim& queries, const Dim& keys) {
    return nn::attention(of(queries, 0), of(keys, 1), of(keys, 2), {.causal = true, .window = 6});
  };
  Variable n("n", 1, 16), m("m", 16, 32);
  auto any = jit([&] { return recorded(n, m); });
  uint64_t schedules = 0;
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{3, 20}, {16, 32}, {1, 17}}) {
    n.set(queries), m.set(keys);
    const std::vector<float> got = any().to_vector<float>();
    if (schedules == 0) schedules = on.context.counters().schedules;
    CHECK(on.context.counters().schedules == schedules);
    OnDevice oracle("interp");
    const std::vector<float> expected = recorded(queries, keys).to_vector<float>();
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-5));
  }
}

TEST_CASE("[attention] dropout: the part that was asked for, other weights each time, the mean stays") {
  OnDevice on;
  const Tensor q = Tensor::zeros({64, 64, 4}), v = Tensor::ones({64, 64, 4});
  const Tensor first = nn::attention(q, q, v, {.dropout = 0.25}).realize();
  const Tensor second = nn::attention(q, q, v, {.dropout = 0.25}).realize();
  CHECK(first.mean().item<double>() == Approx(1).epsilon(0.01));
  CHECK(first.to_vector<float>() != second.to_vector<float>());
  // 64 weights of 1/64, each kept with 3/4: what a row comes to has variance 1/64 * 1/3.
  CHECK(first.slice(2, 0, 1).var().item<double>() == Approx(1 / 192.0).epsilon(0.1));
}

TEST_CASE("[attention] slopes against finite differences, with groups, a window and a mask") {
  OnDevice on("interp");
  Tensor leaves[] = {Tensor::normal({4, 3, 2}, 0, 1, DType::F64).realize(),
                     Tensor::normal({2, 4, 2}, 0, 1, DType::F64).realize(),
                     Tensor::normal({2, 4, 2}, 0, 1, DType::F64).realize(),
                     Tensor::normal({3, 4}, 0, 1, DType::F64).realize()};
  const Tensor weights = Tensor::normal({4, 3, 2}, 0, 1, DType::F64).realize();
  const auto loss = [&] {
    return (nn::attention(leaves[0], leaves[1], leaves[2], {.mask = leaves[3], .causal = true, .window = 3}) *
            weights)
        .sum();
  };
  const std::vector<Tensor> slopes = gradient(loss(), std::span<const Tensor>(leaves));
  for (size_t l = 0; l < 4; ++l) {
    const std::vector<double> slope = slopes[l].to_vector<double>();
    const std::vector<double> at = leaves[l].to_vector<double>();
    const Shape shape = leaves[l].dims();
    for (size_t i = 0; i < at.size(); ++i) {
      double both[2];
      for (int side : {0, 1}) {
        std::vector<double> moved = at;
        moved[i] += side == 1 ? 1e-5 : -1e-5;
        leaves[l] = Tensor::from(moved, shape);
        both[side] = loss().item<double>();
      }
      leaves[l] = Tensor::from(at, shape).realize();
      CHECK(slope[i] == Approx((both[1] - both[0]) / 2e-5).margin(1e-7));
    }
  }
}

TEST_CASE("[attention] is one Call, whose body is its formula") {
  OnDevice on;
  const Tensor q = Tensor::zeros({2, 4, 8});
  const Operation op = operation(nn::attention(q, q, q, {.causal = true}));
  CHECK(op.name == "attention");
  CHECK(op.inputs.size() == 4);
}

TEST_CASE("[attention] mistakes name the sizes") {
  OnDevice on;
  const Tensor q = Tensor::zeros({4, 3, 8}), k = Tensor::zeros({4, 5, 8});
  const auto run = [&](const Tensor& a, const Tensor& b, const Tensor& c,
                       const nn::AttentionOptions& o = {}) {
    return error_of([&] { (void)nn::attention(a, b, c, o); });
  };
  CHECK(run(q, Tensor::zeros({4, 5, 7}), k) ==
        "attention: f32[4, 3, 8] x f32[4, 5, 7]: queries and keys of 8 and 7 numbers");
  CHECK(run(q, k, q) == "attention: f32[4, 5, 8] x f32[4, 3, 8]: 5 keys and 3 values");
  CHECK(run(q, Tensor::zeros({3, 5, 8}), Tensor::zeros({3, 5, 8})) ==
        "attention: f32[4, 3, 8] x f32[3, 5, 8]: 4 heads of queries do not share 3 of keys");
  CHECK(run(Tensor::zeros({8}), k, k) ==
        "attention: f32[8] x f32[4, 5, 8] x f32[4, 5, 8]: needs [.., n, d], [.., m, d] and [.., m, e]");
  CHECK(run(q, k, k, {.window = -1}) == "attention: a window of -1");
  CHECK(run(q, k, k, {.dropout = 1}) == "attention: a dropout of 1");
  CHECK(run(q, k, k, {.mask = Tensor::zeros({3, 5}, DType::I32)}) ==
        "attention: mask i32[3, 5]: needs bool (may be seen) or floats (added)");
}
