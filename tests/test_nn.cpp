// [nn] layers and their walk, optimisers against plain arithmetic, kernel counts, weights files, checkpoints.
#include <kontor/kontor.h>

#include <cmath>

#include "nn/dataset.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/temporary_folder.h"

using namespace kontor;

namespace {

struct Block {
  nn::Linear up{3, 4}, down{4, 3, false};
  template <class V>
  void walk(V& visit) {
    visit("up", up), visit("down", down);
  }
};

struct Net {
  nn::Linear first{2, 3};
  std::vector<Block> blocks{2};
  nn::LayerNorm norm{3};
  nn::Linear last{3, 3};
  Tensor operator()(const Tensor& x) const {
    Tensor h = first(x).relu();
    for (const Block& b : blocks) h = h + b.down(b.up(h).relu());
    return last(norm(h));
  }
  template <class V>
  void walk(V& visit) {
    visit("first", first), visit("blocks", blocks), visit("norm", norm), visit("last", last);
  }
};

std::vector<std::string> names(const std::vector<nn::Parameter>& parameters) {
  std::vector<std::string> out;
  for (const auto& p : parameters) out.push_back(p.name);
  return out;
}

std::vector<float> flat(std::vector<nn::Parameter> parameters) {
  std::vector<float> out;
  for (const auto& p : parameters)
    for (float v : p.tensor->to_vector<float>()) out.push_back(v);
  return out;
}

// 32 points in the plane, labelled by the third of the circle they lie in.
struct Points {
  Tensor x, labels;
  Points() {
    std::vector<float> at;
    std::vector<uint8_t> of;
    for (int i = 0; i < 32; ++i) {
      const double angle = i * 2.399963, radius = 0.5 + i / 32.0;
      at.push_back(static_cast<float>(radius * std::cos(angle)));
      at.push_back(static_cast<float>(radius * std::sin(angle)));
      of.push_back(static_cast<uint8_t>((angle - 6.283185 * std::floor(angle / 6.283185)) / 2.0943952));
    }
    x = Tensor::from(at, {32, 2});
    labels = Tensor::from(of, {32});
  }
};

}  // namespace

TEST_CASE("[nn] parameters: names by place, vectors by number, absent biases left out") {
  OnDevice on("interp");
  Net net;
  CHECK(names(nn::parameters(net)) ==
        std::vector<std::string>{"first.weight", "first.bias", "blocks.0.up.weight", "blocks.0.up.bias",
                                 "blocks.0.down.weight", "blocks.1.up.weight", "blocks.1.up.bias",
                                 "blocks.1.down.weight", "norm.weight", "norm.bias", "last.weight",
                                 "last.bias"});
  int64_t count = 0;
  nn::MnistCnn cnn;
  for (const auto& p : nn::parameters(cnn)) count += p.tensor->elements();
  CHECK(count == 87850);
}

TEST_CASE("[nn] initial values: within their bound, reach it nearly, follow the Context's seed") {
  const auto made = [](uint64_t seed) {
    OnDevice on("interp", 1, seed);
    return nn::Conv2d(4, 16, 5).weight.to_vector<float>();
  };
  const std::vector<float> a = made(1);
  float most = 0;
  for (float v : a) most = std::max(most, std::abs(v));
  CHECK(most <= 0.1f);
  CHECK(most > 0.095f);
  CHECK(a == made(1));
  CHECK(a != made(2));
}

TEST_CASE("[nn] layers compute what their formula says") {
  OnDevice on;
  nn::Linear linear(2, 2);
  linear.weight = Tensor::from({1, 2, 3, 4}, {2, 2});
  linear.bias = Tensor::from({10, 20}, {2});
  CHECK(linear(Tensor::from({1, 1}, {1, 2})).to_vector<float>() == std::vector<float>{13, 27});
  nn::LayerNorm norm(4);
  norm.weight = Tensor::full({4}, 2);
  const std::vector<float> out = norm(Tensor::from({1, 2, 3, 4}, {1, 4})).to_vector<float>();
  CHECK(out[3] == Approx(2 * 1.5 / std::sqrt(1.25 + 1e-5)));
  nn::Conv2d conv(1, 1, 3, 2, 1);
  conv.weight = Tensor::ones({1, 1, 3, 3});
  conv.bias = Tensor::zeros({1});
  CHECK(conv(Tensor::ones({1, 1, 4, 4})).to_vector<float>() == std::vector<float>{4, 6, 6, 9});
}

namespace {

struct Reference {
  double x, m = 0, v = 0;
  void adam(double g, double lr, int t) {
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    x -= lr * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
  }
  void sgd(double g, double lr, double momentum) {
    v = momentum * v + g;
    x -= lr * v;
  }
};

}  // namespace

TEST_CASE("[nn] Adam and SGD against plain arithmetic, with and without jit") {
  for (bool jitted : {false, true}) {
    OnDevice on;
    Tensor a = Tensor::from({1, -2, 3}, {3}), s = Tensor::from({1, -2, 3}, {3});
    nn::Adam adam({{"a", &a}}, 0.1);
    nn::SGD sgd({{"s", &s}}, 0.01, 0.9);
    const auto step = [&](const Tensor& c) {
      adam.step((a * a * c).sum());
      sgd.step((s * s * c).sum());
    };
    auto fast = jit(step);
    Reference ra[3] = {{1}, {-2}, {3}}, rs[3] = {{1}, {-2}, {3}};
    for (int t = 1; t <= 20; ++t) {
      const Tensor c = Tensor::from({1.0f, 0.5f, static_cast<float>(t)}, {3});
      if (t == 10) adam.lr.set(0.05);
      jitted ? fast(c) : step(c);
      for (int i = 0; i < 3; ++i) {
        const double k = i == 0 ? 1 : i == 1 ? 0.5 : t;
        ra[i].adam(2 * ra[i].x * k, t >= 10 ? 0.05 : 0.1, t);
        rs[i].sgd(2 * rs[i].x * k, 0.01, 0.9);
      }
    }
    for (size_t i = 0; i < 3; ++i) {
      CHECK(a.to_vector<float>()[i] == Approx(ra[i].x).epsilon(1e-4));
      CHECK(s.to_vector<float>()[i] == Approx(rs[i].x).epsilon(1e-4));
    }
    CHECK(adam.steps() == 20);
  }
}

TEST_CASE("[nn] Adam: the step of one parameter is one kernel, and compiles nothing after the second") {
  OnDevice on;
  Tensor x = Tensor::ones({1000});
  const Tensor g = Tensor::full({1000}, 0.5).realize();
  nn::Adam adam({{"x", &x}}, 0.1);
  Counters before = {};
  for (int t = 1; t <= 1000; ++t) {
    if (t == 3) before = on.context.counters();
    adam.lr.set(0.1 / t);
    adam.step(std::vector<Tensor>{g});
  }
  const Counters after = on.context.counters();
  CHECK(after.schedules == before.schedules);
  CHECK(after.compiles == before.compiles);
  CHECK(after.launches - before.launches == 998);
}

TEST_CASE("[nn] optimisers: mistakes name the parameter") {
  OnDevice on("interp");
  Tensor x = Tensor::ones({3});
  nn::SGD sgd({{"net.x", &x}}, 0.1);
  CHECK(error_of([&] { sgd.step(std::vector<Tensor>{}); }) == "sgd: 0 gradients for 1 parameters");
  CHECK(error_of([&] { sgd.step(std::vector<Tensor>{Tensor::ones({2})}); }) ==
        "sgd: the gradient of net.x has another shape than it");
  CHECK(error_of([&] { nn::Adam({{"x", &x}}, -1); }) == "optimizer: a learning rate of -1");
  CHECK(error_of([&] { nn::Adam({}, 1); }) == "optimizer: no parameters");
}

TEST_CASE("[nn] weights come back, and what does not fit is named") {
  OnDevice on("interp");
  TemporaryFolder folder;
  Net a, b;
  nn::save_parameters(folder / "a.safetensors", nn::parameters(a), {{"epoch", "3"}});
  const nn::Metadata metadata = nn::load_parameters(folder / "a.safetensors", nn::parameters(b));
  CHECK(metadata.at("epoch") == "3");
  CHECK(flat(nn::parameters(a)) == flat(nn::parameters(b)));
  Tensor weight = Tensor::zeros({2, 2}), other = Tensor::zeros({1});
  const std::string error = error_of([&] {
    nn::load_parameters(folder / "a.safetensors",
                        std::vector<nn::Parameter>{{"first.weight", &weight}, {"other", &other}});
  });
  CHECK(error.find("missing: other; not of this model: ") != std::string::npos);
  CHECK(error.find("first.weight is f32[3, 2], not f32[2, 2]") != std::string::npos);
  CHECK(weight.to_vector<float>() == std::vector<float>(4));
}

TEST_CASE(
    "[nn] backprop learns, and goes on from a checkpoint with the same bits for any number of threads") {
  TemporaryFolder folder;
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 3}) {
    OnDevice on("llvm", threads, 5);
    const Points data;
    Net net;
    nn::BackpropTrainer trainer(nn::classification(net),
                                std::make_unique<nn::Adam>(nn::parameters(net), 0.05), 1e-2);
    nn::Metrics first, last;
    Counters before = {};
    for (int t = 1; t <= 50; ++t) {
      if (t == 3) before = on.context.counters();
      last = trainer.step(data.x, data.labels);
      if (t == 1) first = last;
      if (t == 20) trainer.save(folder / "checkpoint.safetensors");
    }
    CHECK(on.context.counters().schedules == before.schedules);
    CHECK(on.context.counters().compiles == before.compiles);
    CHECK(last.loss < 0.5 * first.loss);
    CHECK(last.accuracy > 0.9);
    CHECK(last.operations == 3 * 2 * 32.0 * (2 * 3 + 2 * (3 * 4 + 4 * 3) + 3 * 3));
    results.push_back(flat(nn::parameters(net)));

    OnDevice later("llvm", threads, 77);
    Net copy;
    const Points again;
    nn::BackpropTrainer resumed(nn::classification(copy),
                                std::make_unique<nn::Adam>(nn::parameters(copy), 0.05), 1e-2);
    resumed.load(folder / "checkpoint.safetensors");
    CHECK(resumed.steps() == 20);
    for (int t = 21; t <= 50; ++t) resumed.step(again.x, again.labels);
    results.push_back(flat(nn::parameters(copy)));
  }
  for (const auto& r : results) CHECK(r == results[0]);
}

TEST_CASE("[nn] a checkpoint of another method is refused") {
  OnDevice on("interp");
  TemporaryFolder folder;
  Net net;
  nn::BackpropTrainer sgd(nn::classification(net), std::make_unique<nn::SGD>(nn::parameters(net), 0.05));
  sgd.save(folder / "sgd.safetensors");
  nn::BackpropTrainer adam(nn::classification(net), std::make_unique<nn::Adam>(nn::parameters(net), 0.05));
  CHECK(error_of([&] { adam.load(folder / "sgd.safetensors"); }) ==
        (folder / "sgd.safetensors") + ": was trained with optimizer 'sgd', not 'adam'");
  nn::save_parameters(folder / "plain.safetensors", nn::parameters(net));
  CHECK(error_of([&] { sgd.load(folder / "plain.safetensors"); }) ==
        (folder / "plain.safetensors") + ": is no checkpoint: it says nothing of 'method'");
}

TEST_CASE("[nn] an evaluation weighs its batches by their size") {
  OnDevice on("interp");
  nn::Evaluator evaluator([](const Tensor& x, const Tensor& labels) {
    return nn::Score(x.mean(), (labels == 1).cast(DType::F32).mean());
  });
  evaluator.add(Tensor::from({1, 2, 3}, {3}), Tensor::from({1, 1, 1}, {3}));
  evaluator.add(Tensor::from({6}, {1}), Tensor::from({0}, {1}));
  const nn::Metrics result = evaluator.result();
  CHECK(result.loss == Approx(3));
  CHECK(result.accuracy == Approx(0.75));
  CHECK(error_of([&] { evaluator.result(); }) == "evaluator: no batch was added");
}
