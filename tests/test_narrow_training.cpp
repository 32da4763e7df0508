// [narrow] moments and weights of optimisers in few bits, and files of scaled weights.
#include <cmath>
#include <cstring>

#include <kontor/kontor.h>

#include "graph/scalar.h"
#include "nn/safetensors.h"
#include "nn/scaled_weights.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

std::vector<float> numbers(int64_t n, int seed) {
  std::vector<float> out;
  for (int64_t i = 0; i < n; i++)
    out.push_back(static_cast<float>(std::sin(static_cast<double>(i * 7 + seed * 13) * 1.7)));
  return out;
}

float in_f16(float x) { return static_cast<float>(to_double(DType::F16, from_double(DType::F16, x))); }

double far_apart(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); i++) most = std::max(most, std::fabs(double{a[i]} - double{b[i]}));
  return most;
}

nn::AdamStates kept_in(const char* format, const char* scale, std::vector<int64_t> block) {
  const Quantisation q{.format = format, .scale = scale, .block = std::move(block)};
  return {.m = q, .v = q};
}

int64_t bytes_of(const std::vector<nn::Parameter>& tensors) {
  int64_t bytes = 0;
  for (const nn::Parameter& p : tensors) bytes += p.tensor->elements() * item_size(p.tensor->dtype());
  return bytes;
}

struct Net {
  nn::Linear layer{32, 16};
  Tensor operator()(const Tensor& in) const { return layer(in); }
  template <class V>
  void walk(V& visit) {
    visit("layer", layer);
  }
};

}  // namespace

TEST_CASE(
    "[narrow] Adam with moments in f16 is its formula with each moment rounded, that of v by its root") {
  OnDevice on;
  constexpr int64_t n = 20;
  Tensor w = Tensor::from(numbers(n, 1), {n});
  nn::Adam adam({{"w", &w}}, 0.01, 0.9, 0.99, 1e-8, kept_in("f16", "none", {}));
  std::vector<float> x = numbers(n, 1), m(n), root(n);
  for (int step = 1; step <= 5; step++) {
    const std::vector<float> g = numbers(n, step + 1);
    const Tensor gradients[] = {Tensor::from(g, {n})};
    adam.step(gradients);
    const auto first = static_cast<float>(1 / (1 - std::pow(0.9, step))),
               second = static_cast<float>(1 / (1 - std::pow(0.99, step)));
    for (size_t i = 0; i < n; i++) {
      const float m1 = m[i] * 0.9F + g[i] * static_cast<float>(1 - 0.9);
      const float v1 = root[i] * root[i] * 0.99F + g[i] * g[i] * static_cast<float>(1 - 0.99);
      x[i] -= m1 * first * 0.01F / (std::sqrt(v1 * second) + 1e-8F);
      m[i] = in_f16(m1), root[i] = in_f16(std::sqrt(v1));
    }
    CHECK(far_apart(w.to_vector<float>(), x) < 1e-6);
  }
  for (const nn::Parameter& p : adam.state()) {
    INFO(p.name);
    if (p.name == "w.m")
      CHECK((p.tensor->dtype() == DType::F16 && far_apart(p.tensor->to_vector<float>(), m) == 0));
    if (p.name == "w.v")
      CHECK((p.tensor->dtype() == DType::F16 && far_apart(p.tensor->to_vector<float>(), root) == 0));
  }
}

TEST_CASE(
    "[narrow] Adam with moments in f8 goes the way of f32, in 2.06 bytes a parameter; with f16 weights 4.06") {
  OnDevice on;
  constexpr int64_t n = 8, width = 256;
  const auto train = [&](const nn::AdamStates& states, DType dtype, int64_t& bytes) {
    Tensor w = Tensor::from(numbers(n * width, 1), {n, width}).cast(dtype);
    nn::Adam adam({{"w", &w}}, 0.02, 0.9, 0.99, 1e-8, states);
    for (int step = 0; step < 60; step++) adam.step((w.cast(DType::F32) - 0.25).square().sum());
    bytes = bytes_of(adam.state()) + (dtype == DType::F32 ? 0 : bytes_of({{"w", &w}}));
    return w.to_vector<float>();
  };
  int64_t plain = 0, narrow = 0, all = 0;
  nn::AdamStates states = kept_in("f8e4m3", "f32", {1, 128});
  const std::vector<float> wanted = train({}, DType::F32, plain), got = train(states, DType::F32, narrow);
  states.stochastic = true;
  const std::vector<float> in_half = train(states, DType::F16, all);
  CHECK(plain == 8 * n * width);
  CHECK(narrow == 2 * n * width + 2 * 4 * n * width / 128);
  CHECK(all == 4 * n * width + 2 * 4 * n * width / 128);
  CHECK(far_apart(got, wanted) < 0.1);
  CHECK(far_apart(in_half, wanted) < 0.1);
  const std::vector<float> first = numbers(n * width, 1);
  CHECK(far_apart(first, wanted) > 0.5);  // all the way, of which a tenth is little
}

TEST_CASE(
    "[narrow] updates below half a step of f16 are lost by rounding to the nearest, not by stochastic rounding") {
  OnDevice on;
  constexpr int64_t n = 4096;
  const auto mean_after = [&](bool stochastic) {
    Tensor w = Tensor::ones({n}, DType::F16);
    nn::Adam adam({{"w", &w}}, 1e-4, 0.9, 0.99, 1e-8, {.m = {}, .v = {}, .stochastic = stochastic});
    const Tensor gradients[] = {Tensor::full({n}, -1.0, DType::F16)};
    for (int step = 0; step < 20; step++) adam.step(gradients);  // each time +1e-4; f16 has 9.8e-4 above 1
    return static_cast<double>(w.cast(DType::F32).mean().item<float>());
  };
  CHECK(mean_after(false) == 1);
  CHECK(std::fabs(mean_after(true) - 1.002) < 4 * 9.8e-4 * std::sqrt(20 * 0.09 / n));
}

TEST_CASE("[narrow] training with rounded products and moments goes on from a file with the same bits") {
  OnDevice on;
  const TemporaryFolder folder;
  const Tensor x = Tensor::from(numbers(24 * 32, 3), {24, 32}),
               y = Tensor::from(numbers(24 * 16, 4), {24, 16});
  const auto trainer_of = [](Net& net) {
    const Quantisation four{.format = "f4e2m1", .scale = "e4m3", .block = {1, 16}};
    Quantisation drawn = four;
    drawn.stochastic = true;
    net.layer.recipe = std::make_shared<const ProductRecipe>(ProductRecipe{four, four, drawn, true});
    nn::Objective objective = [&net](const Tensor& in, const Tensor& wanted) -> nn::Score {
      return {(net(in) - wanted).square().mean(), {}};
    };
    return nn::BackpropTrainer(std::move(objective),
                               std::make_unique<nn::Adam>(nn::parameters(net), 0.01, 0.9, 0.99, 1e-8,
                                                          kept_in("f8e4m3", "f32", {1, 128})));
  };
  const std::string path = folder.path() + "/half.safetensors";
  Net net;
  nn::BackpropTrainer trainer = trainer_of(net);
  const double before = trainer.step(x, y).loss;
  for (int i = 0; i < 3; i++) trainer.step(x, y);
  trainer.save(path);
  std::vector<double> wanted;
  for (int i = 0; i < 4; i++) wanted.push_back(trainer.step(x, y).loss);
  CHECK(wanted.back() < before);
  Net again;
  nn::BackpropTrainer resumed = trainer_of(again);
  resumed.load(path);
  for (const double loss : wanted) CHECK(resumed.step(x, y).loss == loss);
  CHECK(again.layer.weight.to_vector<float>() == net.layer.weight.to_vector<float>());
}

TEST_CASE("[narrow] files of scaled weights keep their bits, in both layouts") {
  OnDevice on;
  const TemporaryFolder folder;
  const Tensor w = Tensor::from(numbers(150 * 200, 5), {150, 200});
  Tensor bias = Tensor::from(numbers(150, 6), {150});
  const std::vector<nn::Parameter> others{{"up.bias", &bias}};
  for (const nn::ScaleLayout layout : {nn::ScaleLayout::Tensor, nn::ScaleLayout::Blocks}) {
    const nn::ScaledWeight scaled = nn::scaled_weight("up.weight", w, layout);
    const std::string first = folder.path() + "/a.safetensors", second = folder.path() + "/b.safetensors";
    nn::save_scaled(first, std::span(&scaled, 1), others, {{"format", "pt"}});
    const nn::ScaledFile read = nn::load_scaled(first);
    REQUIRE(read.weights.size() == 1);
    CHECK(read.weights[0].layout == layout);
    Tensor other = read.others.at(0).second;
    const std::vector<nn::Parameter> again{{read.others[0].first, &other}};
    nn::save_scaled(second, read.weights, again, read.metadata);
    CHECK(read_safetensors(first).arrays == read_safetensors(second).arrays);
    CHECK(read.metadata.at("format") == "pt");
    // Values: codes times scales, as the readers of such files have it.
    const ArrayFile file = read_safetensors(first);
    const bool blocks = layout == nn::ScaleLayout::Blocks;
    const ArrayRecord& codes = file.at("up.weight", first);
    const ArrayRecord& scales = file.at(blocks ? "up.weight_scale_inv" : "up.weight_scale", first);
    CHECK((codes.dtype == DType::F8E4M3 && scales.dtype == DType::F32));
    CHECK(scales.shape == (blocks ? std::vector<int64_t>{2, 2} : std::vector<int64_t>{}));
    const std::vector<float> value = read.weights[0].value().to_vector<float>(), given = w.to_vector<float>();
    const auto* by = reinterpret_cast<const float*>(scales.bytes.data());
    double most = 0;
    for (size_t i = 0; i < 150; i++)
      for (size_t j = 0; j < 200; j++) {
        const auto code = static_cast<uint64_t>(codes.bytes[i * 200 + j]);
        const float scale = blocks ? by[i / 128 * 2 + j / 128] : by[0];
        if (value[i * 200 + j] != static_cast<float>(to_double(DType::F8E4M3, {code})) * scale)
          most = INFINITY;
        most = std::max(most, std::fabs(double{value[i * 200 + j]} - double{given[i * 200 + j]}));
      }
    CHECK(most < 0.04);  // half a step of three bits below 1
    Tensor target = Tensor::zeros({150, 200}), target_bias = Tensor::zeros({150});
    const std::vector<nn::Parameter> model{{"up.weight", &target}, {"up.bias", &target_bias}};
    nn::load_scaled_parameters(first, model);
    CHECK(target.to_vector<float>() == value);
    CHECK(target_bias.to_vector<float>() == bias.to_vector<float>());
  }
}

TEST_CASE("[narrow] scales that are none are refused, with the tensor's name") {
  OnDevice on;
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/bad.safetensors";
  const auto bytes = [](const std::vector<float>& values) {
    std::vector<std::byte> out(values.size() * 4);
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  };
  const ArrayRecord weight{"a.weight", DType::F8E4M3, {2, 3}, std::vector<std::byte>(6, std::byte{0x38})};
  const auto said = [&](std::vector<ArrayRecord> arrays) {
    write_safetensors(path, {std::move(arrays), {}});
    return error_of([&] { nn::load_scaled(path); });
  };
  const auto scale = [&](float v) { return ArrayRecord{"a.weight_scale", DType::F32, {}, bytes({v})}; };
  CHECK(said({weight, scale(0.5)}) == "");
  CHECK(said({weight, {"a.weight_scale", DType::F32, {1}, bytes({0.5})}}) == "");
  for (const float bad : {0.F, -1.F, NAN, INFINITY})
    CHECK_THAT(said({weight, scale(bad)}), Contains("a.weight_scale: scale 0 is"));
  CHECK_THAT(said({weight}), Contains("has neither a.weight_scale nor a.weight_scale_inv"));
  CHECK_THAT(said({scale(1)}), Contains("no weight that it is a scale of"));
  CHECK_THAT(said({weight, {"a.weight_scale", DType::F32, {2}, bytes({1, 1})}}), Contains("is one number"));
  CHECK_THAT(said({weight, {"a.weight_scale_inv", DType::F32, {2, 1}, bytes({1, 1})}}),
             Contains("each 128 x 128 is [1, 1]"));
  CHECK_THAT(said({weight, {"a.weight_scale", DType::I32, {}, bytes({1})}}), Contains("scales are f32"));
  CHECK_THAT(said({{"a.weight", DType::F32, {1, 1}, bytes({1})}, scale(1)}), Contains("but has scales"));
  Tensor other = Tensor::zeros({3, 2});
  const std::vector<nn::Parameter> model{{"a.weight", &other}};
  said({weight, scale(1)});
  CHECK_THAT(error_of([&] { nn::load_scaled_parameters(path, model); }),
             Contains("a.weight is [2, 3], not [3, 2]"));
}

TEST_CASE(
    "[narrow] the gradient of weights in f16 that are read as f32 is f32, and so are moments that are to be wide") {
  OnDevice on;
  const auto moved = [](const char* kind, bool wide) {
    Tensor w = Tensor::ones({8}, DType::F16);
    const std::vector<nn::Parameter> parameters{{"w", &w}};
    std::unique_ptr<nn::Optimizer> o;
    if (kind == std::string("sgd")) o = std::make_unique<nn::SGD>(parameters, 1e7);
    else if (kind == std::string("momentum")) o = std::make_unique<nn::SGD>(parameters, 1e7, 0.5);
    else if (kind == std::string("rmsprop")) o = std::make_unique<nn::RMSprop>(parameters, 0.01, 0.99, 1e-12);
    else if (kind == std::string("lion"))
      o = std::make_unique<nn::Lion>(std::vector<nn::ParameterGroup>{{parameters, 0}}, 0.125);
    else o = std::make_unique<nn::Adam>(parameters, 0.125, 0.9, 0.999, 1e-12, nn::AdamStates{.wide = wide});
    const Tensor read = wide ? w.cast(DType::F32) * 1e-9 : w * 1e-9;  // f16 has nothing below 6e-8
    o->step(read.sum());
    CHECK(w.dtype() == DType::F16);
    for (const nn::Parameter& p : o->state())
      if (wide && kind == std::string("adam")) CHECK(p.tensor->dtype() == DType::F32);
    return 1 - w.to_vector<float>()[0];
  };
  CHECK(moved("sgd", true) == Approx(0.01).epsilon(0.05));
  CHECK(moved("sgd", false) == 0);
  CHECK(moved("adam", true) == Approx(0.125).epsilon(0.01));
  CHECK(moved("lion", true) == 0.125F);
  CHECK(moved("momentum", true) == Approx(0.01).epsilon(0.05));
  CHECK(moved("rmsprop", true) == Approx(0.1).epsilon(0.05));
}
