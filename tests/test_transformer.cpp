// [transformer] layers against their formulas, the optimiser's groups and clipping, and generation: one schedule for all tokens.
#include <kontor/kontor.h>

#include <algorithm>
#include <cmath>

#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"

using namespace kontor;

namespace {

nn::GptOptions small() { return {.vocabulary = 11, .context = 8, .layers = 2, .width = 16, .heads = 4}; }

nn::Gpt realized(const nn::GptOptions& options) {
  nn::Gpt model(options);
  for (const nn::Parameter& p : nn::parameters(model)) {
    *p.tensor = Tensor::uniform(p.tensor->dims(), -0.5, 0.5);  // not 0.02: logits that differ
    p.tensor->realize();
  }
  return model;
}

Tensor row(const std::vector<int64_t>& ids) {
  return Tensor::from(ids, {1, static_cast<int64_t>(ids.size())});
}

}  // namespace

TEST_CASE("[transformer] RMSNorm and Embedding compute what their formulas say") {
  OnDevice on;
  nn::RMSNorm norm(4);
  norm.weight = Tensor::full({4}, 3);
  const std::vector<float> out = norm(Tensor::from({1, 2, 3, 4}, {1, 4})).to_vector<float>();
  for (size_t i = 0; i < 4; ++i)
    CHECK(out[i] == Approx(3 * static_cast<double>(i + 1) / std::sqrt(7.5 + 1e-6)));
  nn::Embedding table(3, 2);
  table.weight = Tensor::from({1, 2, 3, 4, 5, 6}, {3, 2}).realize();
  const Tensor ids = Tensor::from(std::vector<int32_t>{2, 0, 2}, {3});
  CHECK(table(ids).to_vector<float>() == std::vector<float>{5, 6, 1, 2, 5, 6});
  const Tensor weights = Tensor::from({1, 2, 3, 4, 5, 6}, {3, 2});
  const Tensor slope = gradient((table(ids) * weights).sum(), {table.weight})[0];
  CHECK(slope.to_vector<float>() == std::vector<float>{3, 4, 0, 0, 6, 8});
}

TEST_CASE("[transformer] dropout drops its part in training and keeps the mean") {
  OnDevice on;
  const Tensor x = Tensor::ones({10000});
  CHECK(nn::dropout(x, 0.25, false).sum().item<float>() == 10000);
  const std::vector<float> out = nn::dropout(x, 0.25, true).to_vector<float>();
  const auto zeros = std::count(out.begin(), out.end(), 0.0F);
  CHECK(zeros > 2300);
  CHECK(zeros < 2700);
  CHECK(*std::max_element(out.begin(), out.end()) == Approx(1 / 0.75));
  CHECK(error_of([&] { nn::dropout(x, 1, true); }) == "dropout: a rate of 1");
}

TEST_CASE("[transformer] rotary: products depend on how far apart places are") {
  OnDevice on;
  const Tensor x = Tensor::normal({1, 6}).realize(), y = Tensor::normal({1, 6}).realize();
  const auto product = [&](int64_t a, int64_t b) {
    return (nn::rotary(x, a) * nn::rotary(y, b)).sum().item<double>();
  };
  CHECK(product(3, 1) == Approx(product(9, 7)).epsilon(1e-4));
  CHECK(product(0, 0) == Approx((x * y).sum().item<double>()).epsilon(1e-5));
  const std::vector<float> v = x.to_vector<float>(), turned = nn::rotary(x, 5).to_vector<float>();
  const double angle = 5 * std::pow(1e4, -2.0 / 6);  // of numbers 1 and 4
  CHECK(turned[1] == Approx(v[1] * std::cos(angle) - v[4] * std::sin(angle)).margin(1e-5));
  CHECK(turned[4] == Approx(v[4] * std::cos(angle) + v[1] * std::sin(angle)).margin(1e-5));
  CHECK(error_of([&] { nn::rotary(Tensor::ones({2, 3}), 0); }) ==
        "rotary: f32[2, 3]: needs [.., n, size] of an even size");
}

TEST_CASE("[transformer] a GPT sees what is before and nothing behind; options that cannot be are named") {
  OnDevice on;
  for (bool rotary : {false, true}) {
    nn::GptOptions options = small();
    options.rotary = rotary, options.kv_heads = 2;
    const nn::Gpt model = realized(options);
    const std::vector<float> a = model(row({1, 2, 3, 4, 5, 6})).to_vector<float>();
    const std::vector<float> b = model(row({1, 2, 3, 9, 5, 6})).to_vector<float>();
    CHECK(std::equal(a.begin(), a.begin() + 33, b.begin()));
    CHECK(!std::equal(a.begin() + 55, a.end(), b.begin() + 55));
  }
  CHECK(error_of([] { nn::Gpt({.vocabulary = 5, .context = 4, .width = 30, .heads = 4}); }) ==
        "attention: 4 heads do not divide a width of 30");
  CHECK(error_of([] { nn::Gpt({.vocabulary = 5, .context = 0}); }) == "gpt: 0 places of context");
  const nn::Gpt model = realized(small());
  CHECK(error_of([&] { model(row({0, 0, 0, 0, 0, 0, 0, 0, 0})); }) == "gpt: 9 tokens for a context of 8");
}

TEST_CASE(
    "[transformer] token by token the logits are those of all at once; nothing is made after the first") {
  OnDevice on;
  for (bool rotary : {false, true}) {
    nn::GptOptions options = small();
    options.rotary = rotary, options.kv_heads = rotary ? 2 : 0;
    const nn::Gpt model = realized(options);
    const std::vector<int64_t> ids{3, 1, 4, 1, 5, 9, 2, 6};
    const std::vector<float> all = model(row(ids)).to_vector<float>();
    std::vector<nn::KeyValues> past = model.no_past();
    Scalar id(int64_t{0}), at(int64_t{0});
    auto step = jit([&] { return model.step(id, at, past); });
    Counters before = {};
    for (size_t i = 0; i < ids.size(); ++i) {
      id.set(ids[i]), at.set(static_cast<int64_t>(i));
      const std::vector<float> out = step().to_vector<float>();
      for (size_t t = 0; t < out.size(); ++t) CHECK(out[t] == Approx(all[11 * i + t]).margin(1e-4));
      if (i == 0) before = on.context.counters();
    }
    CHECK(on.context.counters().schedules == before.schedules);
    CHECK(on.context.counters().compiles == before.compiles);
  }
}

TEST_CASE(
    "[transformer] generation: greedy is the greatest logit, draws follow the seed and not the threads") {
  const auto written = [](int threads, const nn::Choice& choice, int64_t count) {
    OnDevice on("llvm", threads, 5);
    const nn::Gpt model = realized(small());
    nn::Generator generator(model, choice);
    std::vector<int64_t> out;
    generator.read(7);
    Counters before = {};
    for (int64_t i = 0; i < count; ++i) {
      out.push_back(generator.next());
      if (i == 0) before = on.context.counters();
    }
    CHECK(on.context.counters().schedules == before.schedules);
    CHECK(on.context.counters().compiles == before.compiles);
    generator.restart();
    generator.read(7);
    for (int64_t token : out) CHECK(generator.next() == token);
    return out;
  };
  const std::vector<int64_t> drawn = written(1, {.temperature = 2, .seed = 4}, 30);  // far beyond the context
  CHECK(drawn == written(2, {.temperature = 2, .seed = 4}, 30));
  CHECK(drawn != written(2, {.temperature = 2, .seed = 5}, 30));
  const std::vector<int64_t> greedy = written(2, {.temperature = 0}, 6);
  CHECK(greedy == written(2, {.temperature = 1, .top_k = 1}, 6));
  CHECK(greedy == written(2, {.temperature = 1, .top_p = 1e-6}, 6));
  OnDevice on("llvm", 1, 5);
  const nn::Gpt model = realized(small());
  CHECK(greedy[0] == model(row({7})).reshape({11}).argmax().item<int64_t>());
  nn::Generator generator(model, {.repetition_penalty = 1e6, .temperature = 0});
  generator.read(7);
  std::vector<bool> seen(11);
  for (int i = 0; i < 5; ++i) {  // what was written is as good as forbidden
    const auto token = static_cast<size_t>(generator.next());
    CHECK(!seen[token]);
    seen[token] = true;
  }
}

TEST_CASE(
    "[transformer] products in bf16 and f16: logits and gradients of f32 up to the dtype's rounding, token by token too") {
  OnDevice on;
  const nn::Gpt exact = realized(small());
  const std::vector<int64_t> ids{3, 1, 4, 1, 5, 9, 2, 6};
  const Tensor next = row({1, 4, 1, 5, 9, 2, 6, 5});
  const auto slope = [&](const nn::Gpt& model) {
    return gradient(cross_entropy(model(row(ids)), next).mean(), {model.blocks[0].up.weight})[0];
  };
  const Tensor logits = exact(row(ids)), gradients = slope(exact);
  for (const auto& [dtype, allowed] : {std::pair{DType::BF16, 0.02}, {DType::F16, 0.003}}) {
    nn::Gpt narrow = exact;
    narrow.options.dtype = dtype;
    for (nn::TransformerBlock& block : narrow.blocks) block.attention.options.dtype = dtype;
    CHECK(narrow(row(ids)).dtype() == DType::F32);
    CHECK(slope(narrow).dtype() == DType::F32);
    const auto apart = [](const Tensor& a, const Tensor& b) {
      return ((a - b).square().sum().sqrt() / b.square().sum().sqrt()).item<double>();
    };
    CHECK(apart(narrow(row(ids)), logits) < allowed);
    CHECK(apart(narrow(row(ids)), logits) > allowed / 100);
    CHECK(apart(slope(narrow), gradients) < 2 * allowed);
    std::vector<nn::KeyValues> past = narrow.no_past();
    CHECK(past[0].keys.dtype() == dtype);
    const Tensor all = narrow(row(ids)).realize();
    for (int64_t i = 0; i < 8; ++i) {
      const Tensor at = Tensor::from(std::vector<int64_t>{i}, {}),
                   id = Tensor::from(std::vector{ids[static_cast<size_t>(i)]}, {});
      CHECK(apart(narrow.step(id, at, past), all[0][i]) < 2 * allowed);
    }
  }
}

TEST_CASE(
    "[transformer] a loss times a power of two: the same update, and what f16 would take for 0 is kept") {
  OnDevice on;
  const std::vector<float> slopes{1e-9F, 3e-6F};
  const auto trained = [&](double factor, DType dtype) {
    Tensor x = Tensor::zeros({2}).realize();
    nn::SGD sgd({{"x", &x}}, 1);
    if (factor != 1) sgd.scale_loss(factor);
    sgd.step((x.cast(dtype).cast(DType::F32) * Tensor::from(slopes)).sum());
    return x.to_vector<float>();
  };
  CHECK(trained(1, DType::F32) == std::vector<float>{-slopes[0], -slopes[1]});
  CHECK(trained(4096, DType::F32) == trained(1, DType::F32));
  CHECK(trained(1, DType::F16)[0] == 0);
  for (size_t i = 0; i < 2; ++i) CHECK(trained(4096, DType::F16)[i] == Approx(-slopes[i]).epsilon(0.02));
  Tensor x = Tensor::zeros({2}).realize();
  nn::SGD sgd({{"x", &x}}, 1);
  CHECK(error_of([&] { sgd.scale_loss(0); }) == "sgd: a loss times 0");
}

TEST_CASE("[transformer] generation: mistakes are named") {
  OnDevice on("interp");
  const nn::Gpt model = realized(small());
  CHECK(error_of([&] { nn::Generator(model, {.temperature = -1}); }) == "generator: a temperature of -1");
  CHECK(error_of([&] { nn::Generator(model, {.top_k = -1}); }) == "generator: the greatest -1 tokens");
  CHECK(error_of([&] { nn::Generator(model, {.top_p = 0}); }) == "generator: tokens of a probability of 0");
  CHECK(error_of([&] { nn::Generator(model, {.repetition_penalty = 0}); }) ==
        "generator: a repetition penalty of 0");
  nn::Generator generator(model, {});
  CHECK(error_of([&] { generator.next(); }) == "generator: nothing was read to go on from");
  CHECK(error_of([&] { generator.read(11); }) == "generator: token 11 of a vocabulary of 11");
}

TEST_CASE("[transformer] AdamW decays its groups apart from the gradient; gradients are clipped together") {
  OnDevice on;
  Tensor a = Tensor::from({1, -2}, {1, 2}), b = Tensor::from({3}, {1});
  const std::vector<nn::Parameter> both{{"a", &a}, {"b", &b}};
  const std::vector<nn::ParameterGroup> groups = nn::decay_groups(both, 0.5);
  REQUIRE(groups.size() == 2);
  CHECK((groups[0].parameters[0].name == "a" && groups[0].decay == 0.5));
  CHECK((groups[1].parameters[0].name == "b" && groups[1].decay == 0));
  nn::AdamW adam(groups, 0.1);
  double x[3] = {1, -2, 3}, m[3] = {}, v[3] = {};
  adam.clip(2);
  for (int t = 1; t <= 10; ++t) {
    adam.step((a * a).sum() + (b * b).sum() * 0.5);
    const double g[3] = {2 * x[0], 2 * x[1], x[2]};
    const double length = std::sqrt(g[0] * g[0] + g[1] * g[1] + g[2] * g[2]),
                 factor = std::min(1.0, 2 / (length + 1e-6));
    for (int i = 0; i < 3; ++i) {
      const double slope = g[i] * factor;
      m[i] = 0.9 * m[i] + 0.1 * slope, v[i] = 0.999 * v[i] + 0.001 * slope * slope;
      x[i] -= 0.1 * (i < 2 ? 0.5 : 0) * x[i];
      x[i] -= 0.1 * (m[i] / (1 - std::pow(0.9, t))) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
    }
  }
  for (size_t i = 0; i < 2; ++i) CHECK(a.to_vector<float>()[i] == Approx(x[i]).epsilon(1e-4));
  CHECK(b.item<float>() == Approx(x[2]).epsilon(1e-4));
  CHECK(error_of([&] { adam.clip(-1); }) == "adamw: gradients of a length of -1");
}

TEST_CASE("[transformer] a rate that warms up and falls along a cosine") {
  const nn::WarmupCosine rate{.peak = 1, .least = 0.1, .warmup = 10, .steps = 111};
  CHECK(rate.at(0) == Approx(0.1));
  CHECK(rate.at(9) == Approx(1));
  CHECK(rate.at(10) == Approx(1));
  CHECK(rate.at(60) == Approx(0.55));
  CHECK(rate.at(110) == Approx(0.1));
  CHECK(rate.at(1000) == Approx(0.1));
}
