// [training] what training is made of beside layers, against plain arithmetic: losses, optimisers, batches in parts, recomputation,
// masks, draws by weights.
#include <kontor/kontor.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/catch.h"
#include "tests/close.h"
#include "tests/errors.h"
#include "tests/on_device.h"

using namespace kontor;

TEST_CASE(
    "[training] losses by their formulas: smoothing, labels that are ignored, probabilities at their ends") {
  OnDevice on("llvm", 1, 10);
  const Tensor logits = normal({5, 4}, 2);
  const Longs labels{0, 3, -100, 1, -100};
  const Doubles x = values(logits);
  Doubles wanted, plain;
  for (size_t r = 0; r < 5; ++r) {
    double total = 0, mean = 0;
    for (size_t k = 0; k < 4; ++k) total += std::exp(x[4 * r + k]), mean += x[4 * r + k] / 4;
    const auto right = static_cast<size_t>(std::max<int64_t>(labels[r], 0));
    const double log = std::log(total);
    wanted.push_back(labels[r] < 0 ? 0 : 0.9 * (log - x[4 * r + right]) + 0.1 * (log - mean));
    plain.push_back(labels[r] < 0 ? 0 : log - x[4 * r + right]);
  }
  const Tensor of = Tensor::from(labels);
  check_close(values(cross_entropy(logits, of, {.smoothing = 0.1, .ignored = -100})), wanted);
  check_close(values(cross_entropy(logits, of, {.ignored = -100})), plain);
  check_close(values(nll(logits.log_softmax(), of, -100)), plain);
  double sum = 0;
  for (const double v : wanted) sum += v / 3;
  CHECK(mean_cross_entropy(logits, of, {0.1, -100}).item<double>() == Approx(sum));
  const Tensor g = gradient(mean_cross_entropy(logits, of, {0.1, -100}), {logits})[0];
  for (size_t i = 8; i < 12; ++i) CHECK(values(g)[i] == 0);
  CHECK(error_of([&] { cross_entropy(logits, of, {.smoothing = 2}); }) == "cross_entropy: a smoothing of 2");
  CHECK(error_of([&] {
          cross_entropy(logits, of, {.smoothing = 0.5}).realize(), Context::current().synchronise();
        }) == "pick: index -100 is out of range for axis 1 of size 4");

  const Tensor p = Tensor::from({0, 1, 0.25f, 0.5f, 0, 1}, {6}).realize(),
               t = Tensor::from({0, 1, 1, 0.5f, 1, 0}, {6});
  check_close(values(binary_cross_entropy(p, t)), {0, 0, std::log(4), std::log(2), 100, 100});
  for (const double v : values(gradient(binary_cross_entropy(p, t).sum(), {p})[0])) CHECK(std::isfinite(v));
  const Tensor z = Tensor::from({-200, 0, 3, 200}, {4}), one = Tensor::from({0, 1, 0.25f, 0}, {4});
  check_close(values(binary_cross_entropy_with_logits(z, one)),
              {0, std::log(2), std::log1p(std::exp(3)) - 0.75, 200});
  CHECK(mse(Tensor::from({1, 2}, {2}), Tensor::from({3, 5}, {2})).item<float>() == 6.5f);
}

namespace {

struct ByHand {
  double x, m = 0, b = 0;
  void lion(double g, double lr, double decay) {
    const double way = 0.9 * m + 0.1 * g;
    x -= lr * ((way > 0) - (way < 0) + decay * x);
    m = 0.99 * m + 0.01 * g;
  }
  void rmsprop(double g, double lr) {
    m = 0.95 * m + 0.05 * g * g;
    b = 0.5 * b + g / (std::sqrt(m) + 1e-6);
    x -= lr * b;
  }
  void nesterov(double g, double lr) {
    m = 0.9 * m + g;
    x -= lr * (g + 0.9 * m);
  }
};

}  // namespace

TEST_CASE("[training] Lion, RMSprop and Nesterov's momentum against plain arithmetic, with and without jit") {
  for (const bool jitted : {false, true}) {
    OnDevice on;
    Tensor l = Tensor::from({1, -2, 3}, {3}), r = Tensor::from({1, -2, 3}, {3}),
           n = Tensor::from({1, -2, 3}, {3});
    const nn::ParameterGroup groups[] = {{{{"l", &l}}, 0.1}};
    nn::Lion lion(groups, 0.01);
    nn::RMSprop rmsprop({{"r", &r}}, 0.01, 0.95, 1e-6, 0.5);
    nn::SGD sgd({{"n", &n}}, 0.01, 0.9, true);
    const auto step = [&](const Tensor& c) {
      lion.step((l * l * c).sum());
      rmsprop.step((r * r * c).sum());
      sgd.step((n * n * c).sum());
    };
    auto fast = jit(step);
    ByHand a[3] = {{1}, {-2}, {3}}, b[3] = {{1}, {-2}, {3}}, c[3] = {{1}, {-2}, {3}};
    for (int t = 1; t <= 12; ++t) {
      const Tensor by = Tensor::from({1.0f, 0.5f, static_cast<float>(t) / 4}, {3});
      jitted ? fast(by) : step(by);
      for (int i = 0; i < 3; ++i) {
        const double k = i == 0 ? 1 : i == 1 ? 0.5 : t / 4.0;
        a[i].lion(2 * a[i].x * k, 0.01, 0.1);
        b[i].rmsprop(2 * b[i].x * k, 0.01);
        c[i].nesterov(2 * c[i].x * k, 0.01);
      }
    }
    check_close(values(l), {a[0].x, a[1].x, a[2].x}, 1e-4);
    check_close(values(r), {b[0].x, b[1].x, b[2].x}, 1e-4);
    check_close(values(n), {c[0].x, c[1].x, c[2].x}, 1e-4);
    CHECK(rmsprop.state().size() == 2);
    CHECK(lion.state()[0].name == "l.m");
  }
  OnDevice on("interp");
  Tensor x = Tensor::ones({1});
  CHECK(error_of([&] { nn::SGD({{"x", &x}}, 1, 0, true); }) == "sgd: Nesterov's form needs a momentum");
}

namespace {

struct TwoLayers {
  nn::Linear up{3, 8}, down{8, 2};
  template <class V>
  void walk(V& visit) {
    visit("up", up), visit("down", down);
  }
};

}  // namespace

TEST_CASE("[training] a batch in parts is trained on as the whole batch is") {
  Doubles results[2];
  for (const int64_t parts : {1, 4}) {
    OnDevice on("llvm", 1, 11);
    TwoLayers both;
    const nn::Linear &up = both.up, &down = both.down;
    const Tensor x = normal({16, 3}), labels = (x.sum(1) > 0).cast(DType::I64).realize();
    auto adam = std::make_unique<nn::Adam>(nn::parameters(both), 0.05);
    adam->clip(0.5);
    nn::BackpropTrainer trainer(
        [&](const Tensor& in, const Tensor& of) -> nn::Score {
          const Tensor out = down(up(in).relu());
          return {cross_entropy(out, of).mean(), nn::accuracy(out, of)};
        },
        std::move(adam), 0, parts);
    nn::Metrics last;
    Counters before = {};
    for (int t = 0; t < 8; ++t) {
      if (t == 3) before = on.context.counters();
      last = trainer.step(x, labels);
    }
    CHECK(on.context.counters().compiles == before.compiles);
    CHECK(on.context.counters().schedules == before.schedules);
    Doubles& out = results[parts > 1];
    for (const auto& p : nn::parameters(both))
      for (const double v : values(*p.tensor)) out.push_back(v);
    out.insert(out.end(), {last.loss, last.accuracy, last.operations});
    if (parts == 1) continue;
    CHECK(error_of([&] { trainer.step(x.slice(0, 0, 6), labels.slice(0, 0, 6)); }) ==
          "backprop: 4 parts of a batch of 6 and 6 labels");
    Tensor bad = x.put(0, 5, Tensor::full({3}, NAN)).realize();
    const Doubles kept = values(up.weight);
    CHECK(error_of([&] { trainer.step(bad, labels); }).find("is nan") != std::string::npos);
    CHECK(values(up.weight) == kept);
    CHECK(trainer.step(x, labels).loss < 1);
  }
  check_close(results[1], results[0], 1e-4);
}

namespace {

/// Layers one after another, with or without keeping what is inside of each for the backward pass.
struct Deep {
  std::vector<nn::Linear> layers;
  explicit Deep(int64_t depth, int64_t width) {
    for (int64_t i = 0; i < 2 * depth; ++i) layers.emplace_back(width, width);
  }
  Tensor block(size_t i, const Tensor& x) const {
    const Tensor inner = layers[2 * i](x).gelu();
    return x + layers[2 * i + 1](nn::dropout(inner, 0.125, true)).tanh();
  }
  Tensor operator()(Tensor x, bool again) const {
    for (size_t i = 0; 2 * i < layers.size(); ++i)
      x = again ? checkpoint([&](const Tensor& in) { return block(i, in); }, x) : block(i, x);
    return x;
  }
  template <class V>
  void walk(V& visit) {
    visit("layers", layers);
  }
};

}  // namespace

TEST_CASE("[training] checkpoint: the same bits of values and gradients, and what is inside is not kept") {
  Doubles results[2];
  uint64_t bytes[2];
  for (const bool again : {false, true}) {
    OnDevice on("llvm", 1, 12);
    Deep deep(8, 32);
    const Tensor x = Tensor::normal({256, 32}).realize();
    std::vector<Tensor> leaves;
    for (const auto& p : nn::parameters(deep)) leaves.push_back(p.tensor->realize());
    const Tensor loss = deep(x, again).square().mean();
    std::vector<Tensor> all = gradient(loss, leaves);
    std::reverse(all.begin(),
                 all.end());  // as backwards goes: kernels run in the order in which results are asked for
    all.push_back(loss);
    realize_all(std::span(all));
    bytes[again] = on.context.counters().temporary_bytes;
    for (const Tensor& t : all)
      for (const double v : values(t)) results[again].push_back(v);
  }
  CHECK(results[0] == results[1]);
  INFO(bytes[0] << " bytes, and " << bytes[1]);
  CHECK(static_cast<double>(bytes[1]) < 0.75 * static_cast<double>(bytes[0]));
}

TEST_CASE(
    "[training] checkpoint: in one another, of several inputs, of a mark inside, of what has no elements, twice") {
  OnDevice on("llvm", 1, 13);
  Tensor a = Tensor::normal({3, 4}, 0, 1, DType::F64).realize(),
         b = Tensor::normal({4}, 0, 1, DType::F64).realize();
  const auto inner = [](const Tensor& x, const Tensor& y) { return (x * y).sin() + y.exp(); };
  const auto outer = [&](const Tensor& x, const Tensor& y) { return checkpoint(inner, x.tanh(), y) * x; };
  check_gradients({&a, &b}, [&] { return checkpoint(outer, a, b).square().sum(); });
  check_gradients(
      {&b}, [&] { return checkpoint([&](const Tensor& y) { return (a * y).sin() * b; }, b).square().sum(); });
  check_gradients({&a}, [&] {  // a gradient of a gradient
    const Tensor leaf = a.mark("leaf");
    return gradient(checkpoint([](const Tensor& x) { return x.sin() * x; }, leaf).square().sum(), {leaf})[0]
        .square()
        .sum();
  });
  Tensor inside;
  const Tensor y = checkpoint([&](const Tensor& x) { return (inside = x.sin().mark("inside")) * x; }, a);
  check_close(values(gradient(y.square().sum(), {inside})[0]), values(2 * y * a), 1e-9);
  const Tensor none = Tensor::zeros({0, 3}).realize();
  CHECK(gradient(checkpoint([](const Tensor& x) { return x.sin(); }, none).sum(), {none})[0].shape() ==
        Longs{0, 3});
}

TEST_CASE("[training] nonzero and masked_select: as many as are asked for, whatever the mask holds") {
  OnDevice on;
  const Tensor mask = Tensor::from({0, 1, 0, 2, -1, 0}, {2, 3});
  CHECK(nonzero(mask, 2).to_vector<int64_t>() == Longs{1, 3});
  CHECK(nonzero(mask, 5).to_vector<int64_t>() == Longs{1, 3, 4, -1, -1});
  CHECK(nonzero(mask, 5, 6).to_vector<int64_t>() == Longs{1, 3, 4, 6, 6});
  CHECK(nonzero(Tensor::zeros({0}), 2).to_vector<int64_t>() == Longs{-1, -1});
  CHECK(nonzero(mask, 0).shape() == Longs{0});
  Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3}).realize();
  CHECK(values(masked_select(x, mask, 4, 9)) == Doubles{2, 4, 5, 9});
  CHECK(values(masked_select(x, Tensor::from({1, 0, 1}, {3}) > 0, 4)) == Doubles{1, 3, 4, 6});
  CHECK(values(gradient(masked_select(x, mask, 2).square().sum(), {x})[0]) == Doubles{0, 4, 0, 8, 0, 0});
  CHECK(error_of([&] { nonzero(mask, -1); }) == "nonzero: f32[2, 3]: -1 elements");
  Variable n("n", 0, 6);
  n.set(3);
  CHECK(nonzero(Tensor::ones({n}), 4).to_vector<int64_t>() == Longs{0, 1, 2, -1});
}

TEST_CASE("[training] draws by weights come as often as they say; what weighs nothing never does") {
  OnDevice on("llvm", 1, 14);
  const int64_t rows = 20000;
  const Doubles weight{3, 0, 1, 4, -2, 2};
  const Tensor w = Tensor::from(weight, {1, 6}).cast(DType::F32).expand({rows, 6});
  for (const bool replaced : {false, true}) {
    INFO("replaced " << replaced);
    const Longs at = multinomial(w, 3, replaced).to_vector<int64_t>();
    std::vector<double> first(6), second(6);
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      ++first[static_cast<size_t>(at[3 * r])], ++second[static_cast<size_t>(at[3 * r + 1])];
      if (!replaced) CHECK(std::set<int64_t>(&at[3 * r], &at[3 * r] + 3).size() == 3);
    }
    for (size_t i = 0; i < 6; ++i) {
      const double p = std::max(weight[i], 0.0) / 10;
      double q = 0;  // that it comes second
      for (size_t j = 0; j < 6; ++j)
        if (j != i) q += std::max(weight[j], 0.0) / 10 * p / (1 - std::max(weight[j], 0.0) / 10);
      if (p == 0) CHECK((first[i] == 0 && second[i] == 0));
      CHECK(first[i] / static_cast<double>(rows) == Approx(p).margin(0.015));
      CHECK(second[i] / static_cast<double>(rows) == Approx(replaced ? p : q).margin(0.015));
    }
  }
  CHECK(multinomial(Tensor::ones({3}), 0).shape() == Longs{0});
  CHECK(error_of([] { multinomial(Tensor::ones({3}), 4); }) ==
        "multinomial: 4 of f32[3]: there are not as many");
  const Doubles coins =
      values(bernoulli(Tensor::from({0, 0.25f, 1}, {3}).expand({rows, 3})).cast(DType::F32).mean(0));
  CHECK(coins[0] == 0);
  CHECK(coins[1] == Approx(0.25).margin(0.015));
  CHECK(coins[2] == 1);
}

TEST_CASE("[training] truncated normal numbers lie within their bounds, as often as the distribution says") {
  struct Row {
    double mean, deviation, low, high;
  };
  OnDevice on("llvm", 1, 15);
  for (const Row& row :
       {Row{0, 1, -2, 2}, {1, 2, 2, 9}, {0, 1, 6, 9}, {0, 1, -9, -6}, {0, 1, -40, 0.5}, {0, 1, 0, 40}}) {
    INFO(row.low << " to " << row.high);
    const int64_t count = 20000;
    Doubles x = values(truncated_normal({count}, row.mean, row.deviation, row.low, row.high));
    std::sort(x.begin(), x.end());
    CHECK(x.front() >= row.low);
    CHECK(x.back() < row.high);
    const auto below = [&](double v) { return std::erfc(-(v - row.mean) / row.deviation / std::sqrt(2.0)); };
    const bool high = row.low > row.mean;  // from above, where digits are
    const auto part = [&](double v) {
      return high ? (below(2 * row.mean - row.low) - below(2 * row.mean - v)) /
                        (below(2 * row.mean - row.low) - below(2 * row.mean - row.high))
                  : (below(v) - below(row.low)) / (below(row.high) - below(row.low));
    };
    double furthest = 0;  // Kolmogorov and Smirnov: 1.95 / sqrt(n) once in a thousand
    for (size_t i = 0; i < x.size(); ++i)
      furthest =
          std::max(furthest, std::abs(part(x[i]) - static_cast<double>(i) / static_cast<double>(count)));
    CHECK(furthest < 1.95 / std::sqrt(static_cast<double>(count)));
  }
  CHECK(error_of([] { truncated_normal({2}, 0, 1, 50, 51); }) ==
        "truncated_normal: of mean 0 and deviation 1 nothing lies in 50 <= x < 51");
}
