// [feedback] learned feedback: where slopes are exact it is backprop; what it finds in a GPT; that predictions come to point where
// gradients do; the same bits; losses that are not finite.
#include "marketplace/feedback_parts.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/marketplace_net.h"
#include "tests/temporary_folder.h"

#include <kontor/transformer.h>

using namespace market_test;
using Catch::Matchers::Contains;

namespace {

/// 2 -> 6 -> 3: behind the hidden layer there is only the head, so that no slope is predicted.
struct Shallow {
  nn::Linear first{2, 6}, last{6, 3};
  Tensor operator()(const Tensor& x) const { return last(first(x).tanh()); }
  template <class V>
  void walk(V& visit) {
    visit("first", first), visit("last", last);
  }
};

template <class Model>
nn::Objective losses_of(const Model& model) {
  return [&model](const Tensor& x, const Tensor& labels) -> nn::Score {
    return cross_entropy(model(x), labels).mean();
  };
}

nn::GptOptions small() { return {.vocabulary = 11, .context = 8, .layers = 2, .width = 16, .heads = 2}; }

/// Tokens of which each follows from the one before: (3 t + 1) mod 11.
struct Sequences {
  std::vector<int32_t> ids, next;
  explicit Sequences(int64_t first) {
    for (int64_t b = 0; b < 8; ++b)
      for (int64_t t = 0, token = (first + b) % 11; t < 8; ++t) {
        ids.push_back(static_cast<int32_t>(token));
        token = (3 * token + 1) % 11;
        next.push_back(static_cast<int32_t>(token));
      }
  }
  Tensor x() const { return Tensor::from(ids, {8, 8}); }
  Tensor labels() const { return Tensor::from(next, {8, 8}); }
};

double cosine(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t k = 0; k < a[i].size(); ++k)
      ab += a[i][k] * b[i][k], aa += a[i][k] * a[i][k], bb += b[i][k] * b[i][k];
  return ab / std::sqrt(aa * bb);
}

std::vector<std::vector<float>> weights_of(nn::Gpt& model) {
  std::vector<std::vector<float>> out;
  for (const nn::Parameter& p : nn::parameters(model)) out.push_back(p.tensor->to_vector<float>());
  return out;
}

}  // namespace

TEST_CASE("[feedback] where only the head follows, a step is one of backprop") {
  const Data data;
  std::vector<std::vector<float>> results;
  for (const bool backprop : {true, false}) {
    OnDevice on("llvm", 2);
    Shallow net;
    const std::vector<nn::Parameter> p = nn::parameters(net);
    std::unique_ptr<nn::Trainer> trainer;
    if (backprop)
      trainer = std::make_unique<nn::BackpropTrainer>(losses_of(net),
                                                      std::make_unique<nn::Adam>(p, 0.05, 0.9, 0.99));
    else trainer = std::make_unique<mp::FeedbackTrainer>(p, losses_of(net), mp::FeedbackOptions{.lr = 0.05});
    for (int step = 0; step < 10; ++step) trainer->step(data.x(), data.labels());
    results.push_back(flat(p));
  }
  for (size_t i = 0; i < results[0].size(); ++i) CHECK(results[1][i] == Approx(results[0][i]).margin(1e-4));
}

TEST_CASE("[feedback] groups of a GPT: the embedding, then what attention makes and each layer") {
  OnDevice on("llvm", 1);
  nn::Gpt model(small());
  mp::FeedbackTrainer trainer(nn::parameters(model), nn::language_model(model));
  const Sequences data(0);
  trainer.step(data.x(), data.labels());
  std::vector<std::string> expected{"embedding"};
  for (const std::string block : {"blocks.0.", "blocks.1."})
    for (const char* layer :
         {"attention.joint.weight attended", "attention.project.weight", "up.weight", "down.weight"})
      expected.push_back(block + layer);
  CHECK(trainer.groups() == expected);
}

// The first update of Adam is lr * sign(gradient), so the step shows which way each weight's gradient points.
TEST_CASE("[feedback] learned slopes come to point where gradients do, and losses fall") {
  OnDevice on("llvm", 2);
  nn::Gpt model(small());
  const std::vector<nn::Parameter> p = nn::parameters(model);
  mp::FeedbackTrainer trainer(p, nn::language_model(model), {.lr = 3e-3, .seed = 4});
  double first = 0, last = 0;
  for (int step = 0; step < 250; ++step) {
    const Sequences data(step);
    last = trainer.step(data.x(), data.labels()).loss;
    if (step == 0) first = last;
  }
  CHECK(first > 2.2);
  CHECK(last < 0.6 * first);
  // What a step with a fresh Adam would do, beside the gradient itself.
  const std::vector<std::vector<float>> before = weights_of(model);
  const Sequences data(7);
  std::vector<Tensor> wrt;
  for (const nn::Parameter& q : p) wrt.push_back(*q.tensor);
  const nn::Score score = nn::language_model(model)(data.x(), data.labels());
  std::vector<std::vector<float>> slopes, moved;
  for (const Tensor& g : gradient(score.loss, wrt)) slopes.push_back(g.to_vector<float>());
  trainer.step(data.x(), data.labels());
  const std::vector<std::vector<float>> after = weights_of(model);
  for (size_t i = 0; i < before.size(); ++i) {
    moved.emplace_back();
    for (size_t k = 0; k < before[i].size(); ++k) moved[i].push_back(before[i][k] - after[i][k]);
  }
  CHECK(cosine(moved, slopes) > 0.1);
}

TEST_CASE(
    "[feedback] equal bits for 1, 2, 3 threads, and stopped and resumed; nothing compiled once all groups had noise") {
  TemporaryFolder folder;
  std::vector<std::vector<std::vector<float>>> results;
  const mp::FeedbackOptions options{.all_in_first = 3, .seed = 9};
  for (const int threads : {1, 2, 3}) {
    OnDevice on("llvm", threads);
    nn::Gpt model(small());
    mp::FeedbackTrainer trainer(nn::parameters(model), nn::language_model(model), options);
    Counters before = {};
    for (int step = 1; step <= 12; ++step) {
      if (step == 4) before = on.context.counters();
      const Sequences data(step);
      trainer.step(data.x(), data.labels());
      if (step == 2 + threads) trainer.save(folder / "checkpoint.safetensors");
    }
    CHECK(on.context.counters().compiles == before.compiles);
    results.push_back(weights_of(model));
    nn::Gpt again(small());
    mp::FeedbackTrainer resumed(nn::parameters(again), nn::language_model(again), options);
    resumed.load(folder / "checkpoint.safetensors");
    for (int step = 3 + threads; step <= 12; ++step) {
      const Sequences data(step);
      resumed.step(data.x(), data.labels());
    }
    CHECK(weights_of(again) == results.back());
    mp::FeedbackTrainer other(nn::parameters(again), nn::language_model(again), {.sigma = 0.5, .seed = 9});
    CHECK_THAT(error_of([&] { other.load(folder / "checkpoint.safetensors"); }),
               Contains("was trained with noise"));
  }
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}

TEST_CASE("[feedback] a loss that is not finite changes nothing; noise whose losses are not, has no weight") {
  OnDevice on("llvm", 2);
  nn::Gpt model(small());
  mp::FeedbackTrainer trainer(nn::parameters(model), nn::language_model(model), {.sigma = 1e38});
  const Sequences data(0);
  trainer.step(data.x(), data.labels());
  trainer.step(data.x(), data.labels());
  for (const auto& values : weights_of(model))
    for (const float v : values) REQUIRE(std::isfinite(v));
  Tensor& some = *nn::parameters(model)[0].tensor;
  const Tensor good = Tensor::from(some.to_vector<float>(), some.dims());
  some.assign(good * std::numeric_limits<double>::quiet_NaN()), some.realize();
  const std::vector<std::vector<float>> before = weights_of(model);
  CHECK_THAT(error_of([&] { trainer.step(data.x(), data.labels()); }), Contains("the loss of step 3 is nan"));
  const std::vector<std::vector<float>> after = weights_of(model);
  for (size_t i = 1; i < before.size(); ++i) CHECK(before[i] == after[i]);
  CHECK(trainer.steps() == 2);
}

TEST_CASE("[feedback] what it cannot train is said") {
  OnDevice on("llvm", 1);
  const Data data;
  Shallow net;
  const std::vector<nn::Parameter> p = nn::parameters(net);
  const nn::Objective squares = [&](const Tensor& x, const Tensor&) -> nn::Score {
    return net(x).square().mean();
  };
  mp::FeedbackTrainer trainer(p, squares);
  CHECK_THAT(error_of([&] { trainer.step(data.x(), data.labels()); }),
             Contains("the loss is no mean of a cross_entropy"));
  struct Row {
    mp::FeedbackOptions options;
    const char* part;
  };
  const Row rows[] = {{{.lr = 0}, "a learning rate of 0"}, {{.beta2 = 1}, "a beta2 of 1"},
                      {{.sigma = -1}, "noise of -1"},      {{.memory = 1}, "a memory of 1"},
                      {{.ridge = 0}, "a ridge of 0"},      {{.groups = 0}, "0 groups"}};
  for (const Row& row : rows)
    CHECK_THAT(error_of([&] { mp::FeedbackTrainer(p, losses_of(net), row.options); }), Contains(row.part));
}
