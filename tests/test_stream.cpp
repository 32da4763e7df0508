// [stream] pieces of an axis over several launches: the same bits for every memory budget, the memory it was made for, and
// what cannot be streamed.
#include <kontor/functions.h>
#include <kontor/kontor.h>

#include <algorithm>
#include <optional>

#include "codegen/program/launches.h"
#include "codegen/program/memory_plan.h"
#include "codegen/schedule.h"
#include "graph/graph.h"
#include "graph/recording.h"
#include "runtime/inspect.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/random_graph.h"
#include "tests/run_graph.h"
#include "tests/thinned.h"

using namespace kontor;
namespace mp = kontor::marketplace;

namespace {

Target with_memory(int64_t budget) {
  return {.threads = 2, .memory_budget = budget, .budget_is_asked = budget > 0};
}

Tensor placeholder(const Shape& shape, DType dtype = DType::F32) {
  return Tensor::zeros(shape, dtype).realize();
}

Graph graph_of(const std::vector<Tensor>& outputs) {
  std::vector<Ref> nodes;
  for (const Tensor& t : outputs) nodes.push_back(node_of(t));
  return make_graph(nodes);
}

std::vector<Array> inputs_of(const Graph& graph) {
  std::vector<Array> out;
  for (const Ref& input : graph.inputs)
    out.push_back(random_array(input->dtype, static_shape(*input), 11 + out.size()));
  return out;
}

/// Runs a graph as it is, and within a budget: equal bits, and no more memory than that.
Schedule within(const Graph& graph, int64_t budget) {
  const std::vector<Array> inputs = inputs_of(graph);
  const Run whole = run_trees(graph, with_memory(0), inputs);
  const Run pieces = run_trees(graph, with_memory(budget), inputs);
  INFO(inspect::print(pieces.schedule));
  CHECK(whole.schedule.streams.empty());
  REQUIRE(pieces.outputs.size() == whole.outputs.size());
  for (size_t i = 0; i < whole.outputs.size(); i++)
    CHECK(difference(pieces.outputs[i], whole.outputs[i]) == "");
  CHECK(plan_temporaries(pieces.schedule).bytes <= budget);
  if (Backend* llvm = device("llvm")) {
    const Run native = run_graph(graph, *llvm, inputs, {}, budget);
    for (size_t i = 0; i < whole.outputs.size(); i++)
      CHECK(difference(native.outputs[i], whole.outputs[i]) == "");
  }
  return pieces.schedule;
}

Tensor layers(const Tensor& x) {
  return x.matmul(placeholder({32, 48})).tanh().matmul(placeholder({48, 24})).relu();
}

}  // namespace

TEST_CASE("[stream] samples through layers: pieces of them, whole results") {
  const Schedule s = within(graph_of({layers(placeholder({64, 32}))}), 4096);
  REQUIRE(s.streams.size() == 1);
  CHECK(s.streams[0].extent == 64);
  CHECK(s.streams[0].chunk == 16);
  CHECK(count_launches(s.kernels.size(), s.streams) == s.kernels.size() -
                                                           (s.streams[0].last - s.streams[0].first + 1) +
                                                           4 * (s.streams[0].last - s.streams[0].first + 1));
}

TEST_CASE("[stream] what cannot run in pieces is made one after another, and ends where it can") {
  const Tensor along = placeholder({64, 1}), across = placeholder({1, 64});
  Tensor sums = placeholder({1, 64}), products = placeholder({64, 1});
  std::vector<Tensor> large;
  for (int i = 0; i < 6; i++) large.push_back(sort(placeholder({4096})).reshape({64, 64}));  // 16 KiB each
  for (const Tensor& a : large) sums = sums + across.matmul(a);
  for (const Tensor& a : large) products = products + a.matmul(along);
  const Graph graph = graph_of({sums, products});
  CHECK(plan_temporaries(schedule(graph, with_memory(0))).bytes >= 6 * (16 << 10));
  const Schedule s = within(graph, 80 << 10);
  INFO(inspect::print(s));
  const Schedule again = schedule(graph, with_memory(80 << 10), parse_decisions(print(s.decisions)));
  CHECK(print(again.decisions) == print(s.decisions));
  CHECK(plan_temporaries(again).bytes == plan_temporaries(s).bytes);
  CHECK(s.streams.empty());
}

TEST_CASE("[stream] an extent that pieces don't divide: the last one overlaps") {
  const Schedule s = within(graph_of({layers(placeholder({37, 32}))}), 2048);
  REQUIRE(s.streams.size() == 1);
  const ScheduledStream& stream = s.streams[0];
  CHECK(stream.extent % stream.chunk != 0);
  CHECK(stream.begin(stream.pieces() - 1) == stream.extent - stream.chunk);
}

TEST_CASE("[stream] folds over the axis go on from piece to piece: lanes, chains, pieces of a cut chain") {
  const Tensor x = placeholder({256, 32});
  SECTION("a mean, in lanes") {
    const Tensor h = layers(x);
    const Schedule s = within(graph_of({(h * h).sum(1).exp().mean()}), 26 * 1024);
    REQUIRE(s.streams.size() == 1);
    CHECK(s.streams[0].chunk % 64 == 0);
    CHECK(s.streams[0].chunk < 256);
  }
  SECTION("sums and maxima, one chain") {
    const Tensor h = layers(x);
    const Schedule s = within(graph_of({h.sum(0), h.max(0), (h + 1).prod(0)}), 8192);
    REQUIRE(s.streams.size() == 1);
    CHECK(s.streams[0].chunk < 256);
  }
  SECTION("folds of the program's own: one that is never cut, and one in lanes, from other numbers than 0") {
    const auto step = [](std::span<const Tensor> s, std::span<const Tensor> v) {
      return std::vector{s[0] * 0.5 + v[0]};
    };
    const auto least = [](std::span<const Tensor> s, std::span<const Tensor> v) {
      return std::vector{minimum(s[0], v[0])};
    };
    const CustomFold decay("decay", {{"s", 3}}, step),
        smallest("smallest", {{"s", 1e30}}, least, least, true);
    const Tensor h = layers(x);
    const Schedule s = within(graph_of({fold(decay, {h}, 0)[0], fold(smallest, {h}, 0)[0]}), 8192);
    REQUIRE(s.streams.size() == 1);
    CHECK(s.streams[0].chunk < 256);
    const Schedule lanes = within(graph_of({fold(smallest, {(h * h).sum(1).exp()})[0]}), 26 * 1024);
    REQUIRE(lanes.streams.size() == 1);
    CHECK(lanes.streams[0].chunk % 64 == 0);
  }
  SECTION("a convolution's weight gradient, whose chain is cut") {
    const Tensor w = placeholder({4, 2, 3, 3});
    const Tensor loss = placeholder({128, 2, 12, 12}).conv2d(w).tanh().sum(1).exp().sum();
    const Schedule s = within(graph_of(gradient(loss, std::vector<Tensor>{w})), 200 * 1024);
    CHECK(s.streams.size() == 1);
  }
}

TEST_CASE("[stream] gradient accumulation: a training step in pieces of the batch") {
  const Tensor x = placeholder({256, 32}), w = placeholder({32, 48}), v = placeholder({48, 8});
  const Tensor loss = (x.matmul(w).tanh().matmul(v) * 0.1).exp().sum(1).mean();
  const std::vector<Tensor> g = gradient(loss, std::vector<Tensor>{w, v});
  const Schedule s = within(graph_of({loss, w - g[0] * 0.1, v - g[1] * 0.1}), 64 * 1024);
  REQUIRE(s.streams.size() == 1);
  CHECK(s.streams[0].chunk < 256);
}

TEST_CASE("[stream] nested: vendors of one layer within those of the other, or within samples") {
  const Tensor x = placeholder({64, 32}), w = placeholder({6, 32, 40}), v = placeholder({4, 40, 12});
  const Tensor h = x.reshape({1, 64, 32}).matmul(w).tanh();                                    // [6, 64, 40]
  const Tensor y = h.reshape({1, 6, 64, 40}).matmul(v.reshape({4, 1, 40, 12})).relu().sum(3);  // [4, 6, 64]
  const Schedule s = within(graph_of({y.exp().mean(2)}), 12 * 1024);
  CHECK(s.streams.size() >= 2);
}

TEST_CASE("[stream] what reads other pieces comes after the stream") {
  const Tensor x = placeholder({64, 32});
  const Tensor h = layers(x);
  const Tensor centred = h - h.sum(0).reshape({1, 24}) * (1.0 / 64);
  within(graph_of({centred.matmul(placeholder({24, 24})).sin().sum(1)}), 12 * 1024);
  within(graph_of({(h - h.flip(0)).matmul(placeholder({24, 24})).sin().sum(1)}), 24 * 1024);
}

TEST_CASE("[stream] nothing is streamed where all fits") {
  const Graph graph = graph_of({layers(placeholder({64, 32}))});
  CHECK(schedule(graph, with_memory(1 << 20)).streams.empty());
  CHECK(schedule(graph, with_memory(0)).streams.empty());
}

TEST_CASE("[stream] random graphs do stream") {
  int streamed = 0, folded = 0, nested = 0;
  for (uint64_t seed = 1; seed <= thinned(uint64_t{500}); seed++) {
    const Schedule s = schedule(random_case(seed).graph, with_memory(1));
    streamed += !s.streams.empty();
    folded += std::any_of(s.buffers.begin(), s.buffers.end(),
                          [](const ScheduledBuffer& b) { return b.stream >= 0; });
    for (size_t i = 1; i < s.streams.size(); i++) nested += s.streams[i].last <= s.streams[i - 1].last;
  }
  CHECK(streamed > thinned(20));
  if (sanitized) return;  // too few for these
  CHECK(folded > 3);
  CHECK(nested > 3);
}

TEST_CASE("[stream] a budget that cannot be kept is an error with both numbers") {
  Context context({.device = "interp", .memory_budget = 1000});
  const Context::Use use(context);
  const Tensor x = Tensor::full({64, 64}, 0.5f);
  const std::string error = error_of([&] {
    const Tensor y = x.matmul(x);  // is read by rows and by columns
    y.matmul(y).realize();
  });
  CHECK(error.find("a memory budget of 1000 bytes") != std::string::npos);
  CHECK(error.find("need 16384 bytes") != std::string::npos);
  CHECK(Tensor::full({8, 8}, 0.5f).matmul(Tensor::full({8, 8}, 1.0f)).to_vector<float>()[0] == 4);
  CHECK(error_of([] { Context({.device = "interp", .memory_budget = -1}); }) ==
        "a memory budget of -1 bytes");
}

namespace {

struct Trained {
  std::vector<float> weights;
  uint64_t temporaries;
};

std::vector<int64_t> vendors_of(mp::Plan plan) {
  if (plan == mp::Plan::Star) return {2, 2, 2, 2, 4};
  if (plan == mp::Plan::BlockStar) return {2, 1, 1, 1, 4};
  return {2, 3, 2};
}

/// Two steps of a plan of Marketplace, or of SGD where there is none.
Trained train(std::optional<mp::Plan> plan, int64_t budget, int threads) {
  Context context({.device = "llvm", .threads = threads, .seed = 5, .memory_budget = budget});
  const Context::Use use(context);
  nn::MnistCnn model;
  std::unique_ptr<nn::Trainer> trainer;
  if (plan) {
    mp::Options options;
    options.plan = *plan;
    options.groups = mp::mnist_groups(*plan, vendors_of(*plan));
    trainer = std::make_unique<mp::Trainer>(nn::parameters(model), nn::classification(model), options);
  } else {
    trainer = std::make_unique<nn::BackpropTrainer>(nn::classification(model),
                                                    std::make_unique<nn::SGD>(nn::parameters(model), 0.01));
  }
  const Tensor images = (Tensor::uniform({128, 1, 28, 28}) * 255).cast(DType::U8).realize();
  const Tensor labels = (Tensor::arange(128) % 10).cast(DType::U8).realize();
  for (int step = 0; step < 2; step++) trainer->step(images, labels);
  Trained out{{}, context.counters().temporary_bytes};
  for (const nn::Parameter& p : nn::parameters(model))
    for (float w : p.tensor->to_vector<float>()) out.weights.push_back(w);
  return out;
}

void check_budgets(std::optional<mp::Plan> plan, std::initializer_list<int64_t> budgets) {
  if (!device("llvm")) KONTOR_SKIP("no llvm");
  const Trained whole = train(plan, int64_t{1} << 40, 2);
  for (int64_t budget : budgets) {
    INFO("budget " << budget);
    const Trained pieces = train(plan, budget, budget % 3 == 0 ? 1 : 2);
    CHECK(pieces.weights == whole.weights);
    CHECK(pieces.temporaries <= static_cast<uint64_t>(budget));
    CHECK(pieces.temporaries < whole.temporaries);
  }
}

}  // namespace

TEST_CASE("[stream] marketplace, full plan: the same weights for every budget") {
  check_budgets(mp::Plan::Full, {24'000'000, 9'000'000});
}
TEST_CASE("[stream] marketplace, v1 plan: the same weights for every budget") {
  check_budgets(mp::Plan::Greedy, {24'000'000, 9'000'000});
}
TEST_CASE("[stream] marketplace, star plan: the same weights for every budget") {
  check_budgets(mp::Plan::Star, {24'000'000, 18'000'000});
}
TEST_CASE("[stream] marketplace, block-star plan: the same weights for every budget") {
  check_budgets(mp::Plan::BlockStar, {60'000'000, 45'000'000});
}
TEST_CASE("[stream] marketplace, per-sample plan: the same weights for every budget") {
  check_budgets(mp::Plan::PerSample, {12'000'000, 9'000'000});
}
TEST_CASE("[stream] backprop: the same weights for every budget") {
  check_budgets({}, {40'000'000, 36'000'002});
}
