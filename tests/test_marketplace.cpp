// [marketplace] every plan and option against plain C++ that follows the formulas; work counted; learning.
#include <cstdlib>

#include "nn/dataset.h"
#include "tests/catch.h"
#include "tests/marketplace_net.h"

using namespace market_test;

namespace {

using Change = void (*)(mp::Options&);
struct Case {
  const char* name;
  mp::Plan plan;
  Change change;
};

void plain(mp::Options&) {}
void whole(mp::Options& o) { o.unit = mp::Unit::Whole; }
void rademacher(mp::Options& o) { o.noise = mp::Noise::Rademacher; }
void adam(mp::Options& o) { o.update = mp::Update::Adam, o.lr = 0.01, o.probe_scale = 3; }
void adam_bits(mp::Options& o) { adam(o), rademacher(o); }
void passes(mp::Options& o) { o.forward_passes = 4; }
void meta(mp::Options& o) { o.meta_lr = 0.5; }
void meta_whole(mp::Options& o) { meta(o), whole(o); }
void upstream(mp::Options& o) { o.groups[1].upstream = 2, o.groups[2].upstream = 7; }
void upstream_last(mp::Options& o) { o.groups[2].upstream = 1; }
void upstream_meta(mp::Options& o) { upstream(o), meta(o); }
/// Even numbers of perturbed vendors.
void opposites(mp::Options& o) {
  o.antithetic = true;
  const int64_t leader = o.plan == mp::Plan::Star || o.plan == mp::Plan::BlockStar ? 0 : 1;
  o.groups[0].vendors = 2 + leader, o.groups[1].vendors = 4 + leader, o.groups[2].vendors = 2 + leader;
}
void opposites_bits(mp::Options& o) { opposites(o), rademacher(o); }

void first_whole(mp::Options& o) { o.groups[0].whole = true; }

constexpr mp::Plan star = mp::Plan::Star, block = mp::Plan::BlockStar, full = mp::Plan::Full,
                   greedy = mp::Plan::Greedy, sample = mp::Plan::PerSample;
constexpr Case cases[] = {
    {"star", star, plain},
    {"star, whole", star, whole},
    {"star, rademacher", star, rademacher},
    {"star, adam", star, adam},
    {"star, adam, rademacher", star, adam_bits},
    {"star, passes", star, passes},
    {"star, meta-lr", star, meta},
    {"star, antithetic", star, opposites},
    {"star, antithetic, rademacher", star, opposites_bits},
    {"block-star", block, plain},
    {"block-star, one group whole", block, first_whole},
    {"block-star, whole unit", block, whole},
    {"block-star, rademacher", block, rademacher},
    {"block-star, adam", block, adam},
    {"block-star, antithetic", block, opposites},
    {"full", full, plain},
    {"full, whole", full, whole},
    {"full, rademacher", full, rademacher},
    {"full, adam", full, adam},
    {"full, passes", full, passes},
    {"full, meta-lr", full, meta},
    {"full, meta-lr, whole", full, meta_whole},
    {"full, antithetic", full, opposites},
    {"full, upstream", full, upstream},
    {"full, upstream of the last", full, upstream_last},
    {"full, upstream, meta-lr", full, upstream_meta},
    {"v1", greedy, plain},
    {"v1, passes", greedy, passes},
    {"v1, upstream", greedy, upstream},
    {"v1, antithetic, rademacher", greedy, opposites_bits},
    {"per-sample", sample, plain},
    {"per-sample, whole", sample, whole},
    {"per-sample, adam", sample, adam},
    {"per-sample, rademacher", sample, rademacher},
};

}  // namespace

TEST_CASE("[marketplace] a step of every plan, with every option, is what its formula says") {
  const Data data;
  for (const Case& c : cases) {
    INFO(c.name);
    OnDevice on;
    Net net;
    mp::Options options = options_of(c.plan);
    c.change(options);
    mp::Trainer trainer(nn::parameters(net), nn::classification(net), options);
    Reference reference(trainer, options, values_of(net));
    for (int step = 0; step < 4; ++step) {
      const double leader = data.loss(reference.w);
      const nn::Metrics metrics = trainer.step(data.x(), data.labels());
      if (c.plan != sample) CHECK(metrics.loss == Approx(leader).epsilon(1e-4));
      reference.step(data);
      for (size_t g = 0; g < 3; ++g)
        CHECK(trainer.learning_rates()[g] == Approx(reference.rates[g]).epsilon(1e-5));
      const Values got = values_of(net);
      for (size_t p = 0; p < got.size(); ++p)
        for (size_t e = 0; e < got[p].size(); ++e) {
          INFO("step " << step << ", parameter " << p << ", element " << e);
          CHECK(got[p][e] == Approx(reference.w[p][e]).margin(5e-4));
        }
      reference.w = got;  // differences do not add up
    }
  }
}

TEST_CASE("[marketplace] losses: vendors of each group in turn, or paths, or samples") {
  OnDevice on;
  const Data data;
  const auto count = [&](mp::Options options) {
    Net net;
    mp::Trainer trainer(nn::parameters(net), nn::classification(net), options);
    trainer.step(data.x(), data.labels());
    return trainer.losses().size();
  };
  CHECK(count(options_of(star)) == 3 + 5 + 4);
  CHECK(count(options_of(block)) == 4 * 3 + 4 * 5 + 3 * 4);
  CHECK(count(options_of(full)) == 3 * 5 * 4);
  CHECK(count(options_of(greedy)) == 3 * 5 * 4);
  CHECK(count(options_of(sample)) == kPoints);
  mp::Options sampled = options_of(full);
  upstream(sampled);
  CHECK(count(sampled) == 4 * 7);
}

TEST_CASE("[marketplace] operations: one forward pass a vendor or path, from the first group it changes on") {
  OnDevice on;
  const Data data;
  const double first = 2 * kPoints * 2 * 4, second = 2 * kPoints * 4 * 4, last = 2 * kPoints * 4 * 3;
  const auto operations = [&](mp::Options options) {
    Net net;
    mp::Trainer trainer(nn::parameters(net), nn::classification(net), options);
    return trainer.step(data.x(), data.labels()).operations;
  };
  CHECK(operations(options_of(star)) == (1 + 3) * (first + second + last) + 5 * (second + last) + 4 * last);
  const double crossed = 3 * first + 15 * second + 60 * last;
  CHECK(operations(options_of(full)) == crossed);
  CHECK(operations(options_of(greedy)) == crossed);
  CHECK(operations(options_of(sample)) == first + second + last);
  mp::Options o = options_of(full);
  meta(o);
  CHECK(operations(o) == 2 * crossed);
  o = options_of(full);
  upstream(o);
  // The leader's path is drawn like any other, so that its loss is evaluated beside them.
  CHECK(operations(o) == (1 + 3) * first + (1 + 5 * 2) * second + (1 + 4 * 7) * last);
}

TEST_CASE("[marketplace] a few steps on digits lower the loss") {
  const char* source = std::getenv("KONTOR_SOURCE");
  if (!source) KONTOR_SKIP("KONTOR_SOURCE does not say where data/mnist-12k is");
  OnDevice on;
  nn::MnistCnn net;
  const Dataset data = load_mnist(std::string(source) + "/data/mnist-12k", Split::Train);
  const Sampler sampler{data.count, 32, 1, Sampling::Replacement};
  mp::Trainer trainer(nn::parameters(net), nn::classification(net),
                      {.groups = mp::mnist_groups(mp::Plan::Star, std::vector<int64_t>{1, 2, 4, 8, 64})});
  double early = 0, late = 0;
  for (int step = 0; step < 24; ++step) {
    const Batch batch = gather(data, sampler.samples(step));
    const nn::Metrics m =
        trainer.step(Tensor::from(batch.images, {32, 1, 28, 28}), Tensor::from(batch.labels, {32}));
    if (step < 4) early += m.loss;
    if (step >= 20) late += m.loss;
  }
  CHECK(late < 0.9 * early);
}
