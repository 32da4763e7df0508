// [marketplace] both plans against plain C++, decays, losses without variance, equal bits, resume, mistakes.
#include <kontor/kontor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/threefry.h"
#include "nn/dataset.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;
namespace mp = kontor::marketplace;

namespace {

struct OnDevice {
  explicit OnDevice(const std::string& device = "llvm", int threads = 2, uint64_t seed = 3)
      : context({.device = device, .threads = threads, .seed = seed}), use(context) {}
  Context context;
  Context::Use use;
};

struct Net {
  nn::Linear first{2, 5}, last{5, 3};
  Tensor operator()(const Tensor& x) const { return last(first(x).tanh()); }
  template <class V>
  void walk(V& visit) {
    visit("first", first), visit("last", last);
  }
};

using Values = std::vector<std::vector<double>>;  // of first.weight, first.bias, last.weight, last.bias

Values values_of(Net& net) {
  Values out;
  for (const auto& p : nn::parameters(net)) out.push_back(p.tensor->to_vector<double>());
  return out;
}

std::vector<float> flat(Net& net) {
  std::vector<float> out;
  for (const auto& p : nn::parameters(net))
    for (float v : p.tensor->to_vector<float>()) out.push_back(v);
  return out;
}

constexpr int kPoints = 16;

struct Data {
  std::vector<float> at;
  std::vector<uint8_t> of;
  Data() {
    for (int i = 0; i < kPoints; ++i) {
      const double angle = i * 2.399963, radius = 0.5 + i / 16.0;
      at.push_back(static_cast<float>(radius * std::cos(angle)));
      at.push_back(static_cast<float>(radius * std::sin(angle)));
      of.push_back(static_cast<uint8_t>((angle - 6.283185 * std::floor(angle / 6.283185)) / 2.0943952));
    }
  }
  Tensor x() const { return Tensor::from(at, {kPoints, 2}); }
  Tensor labels() const { return Tensor::from(of, {kPoints}); }

  double loss(const Values& w) const {
    double total = 0;
    for (size_t i = 0; i < kPoints; ++i) {
      std::array<double, 5> h{};
      for (size_t k = 0; k < 5; ++k)
        h[k] = std::tanh(w[0][2 * k] * at[2 * i] + w[0][2 * k + 1] * at[2 * i + 1] + w[1][k]);
      std::array<double, 3> logit{};
      double sum = 0;
      for (size_t c = 0; c < 3; ++c) {
        logit[c] = w[3][c];
        for (size_t k = 0; k < 5; ++k) logit[c] += w[2][5 * c + k] * h[k];
        sum += std::exp(logit[c]);
      }
      total += std::log(sum) - logit[of[i]];
    }
    return total / kPoints;
  }
};

// A vendor's deltas for the parameters `members`, made on the host.
Values deltas(uint64_t seed, double sigma, const std::vector<size_t>& members, const Values& like) {
  Values out(like.size());
  uint64_t counter = 0;
  for (size_t p : members) {
    for (size_t e = 0; e < like[p].size(); ++e)
      out[p].push_back((2.0 * static_cast<double>(unit_float(random_word(seed, counter, e))) - 1) * sigma);
    counter += (like[p].size() + 1) / 2;
  }
  return out;
}

void add(Values& to, const Values& from, double factor) {
  for (size_t p = 0; p < from.size(); ++p)
    for (size_t e = 0; e < from[p].size(); ++e) to[p][e] += factor * from[p][e];
}

double square(const Values& of) {
  double total = 0;
  for (const auto& list : of)
    for (double v : list) total += v * v;
  return total;
}

Values zeros(const Values& like) {
  Values out;
  for (const auto& list : like) out.emplace_back(list.size(), 0.0);
  return out;
}

void take_step(Values& w, const std::vector<Values>& directions, double lr, mp::Unit unit) {
  double all = 0;
  for (const Values& d : directions) all += square(d);
  for (const Values& d : directions) {
    const double length = std::sqrt(unit == mp::Unit::Whole ? all : square(d));
    if (length > 0) add(w, d, lr / length);
  }
}

// Issue 3, item 7.
void star_step(Values& w, const Data& data, const std::vector<std::vector<size_t>>& groups,
               const std::vector<int64_t>& vendors, const mp::Trainer& trainer, int64_t step, double sigma,
               double lr, mp::Unit unit) {
  const double leader = data.loss(w);
  std::vector<Values> directions;
  for (size_t g = 0; g < groups.size(); ++g) {
    directions.push_back(zeros(w));
    for (int64_t v = 0; v < vendors[g]; ++v) {
      const Values delta = deltas(trainer.vendor_seed(step, g, v), sigma, groups[g], w);
      Values moved = w;
      add(moved, delta, 1);
      const double weight =
          -3 / (sigma * sigma * static_cast<double>(vendors[g])) * (data.loss(moved) - leader);
      add(directions.back(), delta, weight);
    }
  }
  take_step(w, directions, lr, unit);
}

// Spec 1.4, for two groups: the sum over all paths, without marginals.
void full_step(Values& w, const Data& data, const std::vector<std::vector<size_t>>& groups,
               const std::vector<int64_t>& vendors, const mp::Trainer& trainer, int64_t step, double sigma,
               double lr, mp::Unit unit) {
  std::vector<std::vector<Values>> delta(2);
  for (size_t g = 0; g < 2; ++g)
    for (int64_t v = 0; v < vendors[g]; ++v)
      delta[g].push_back(deltas(trainer.vendor_seed(step, g, v), v == 0 ? 0 : sigma, groups[g], w));
  std::vector<double> losses;
  for (const Values& b : delta[1])
    for (const Values& a : delta[0]) {
      Values moved = w;
      add(moved, a, 1), add(moved, b, 1);
      losses.push_back(data.loss(moved));
    }
  double mean = 0, variance = 0;
  for (double l : losses) mean += l / static_cast<double>(losses.size());
  for (double l : losses) variance += (l - mean) * (l - mean) / static_cast<double>(losses.size() - 1);
  std::vector<Values> directions{zeros(w), zeros(w)};
  for (size_t p = 0; p < losses.size(); ++p) {
    const double z = -(losses[p] - mean) / std::sqrt(variance);
    add(directions[0], delta[0][p % delta[0].size()], z);
    add(directions[1], delta[1][p / delta[0].size()], z);
  }
  take_step(w, directions, lr, unit);
}

const std::vector<std::vector<size_t>> kMembers{{0, 1}, {2, 3}};

mp::Options options_of(mp::Plan plan, std::vector<int64_t> vendors, mp::Unit unit = mp::Unit::PerGroup) {
  return {.plan = plan,
          .unit = unit,
          .groups = mp::parse_groups("first|last", vendors),
          .lr = 0.1,
          .lr_decay = 0.05,
          .probe_scale = 0.3,
          .seed = 11};
}

}  // namespace

TEST_CASE("[marketplace] star and full steps are what their formulas say") {
  const Data data;
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full}) {
    for (const auto unit : {mp::Unit::PerGroup, mp::Unit::Whole}) {
      OnDevice on;
      Net net;
      const std::vector<int64_t> vendors{3, 5};
      mp::Trainer trainer(nn::parameters(net), nn::classification(net), options_of(plan, vendors, unit));
      Values w = values_of(net);
      double lr = 0.1;
      for (int64_t step = 0; step < 4; ++step) {
        const double leader = data.loss(w);
        const nn::Metrics metrics = trainer.step(data.x(), data.labels());
        CHECK(metrics.loss == Approx(leader).epsilon(1e-4));
        CHECK(trainer.losses().size() == (plan == mp::Plan::Star ? 8 : 15));
        if (plan == mp::Plan::Star) star_step(w, data, kMembers, vendors, trainer, step, 0.1 * 0.3, lr, unit);
        else full_step(w, data, kMembers, vendors, trainer, step, lr * 0.3, lr, unit);
        lr *= 0.95;
        CHECK(trainer.learning_rate() == Approx(lr));
        const Values got = values_of(net);
        for (size_t p = 0; p < w.size(); ++p)
          for (size_t e = 0; e < w[p].size(); ++e) CHECK(got[p][e] == Approx(w[p][e]).margin(2e-4));
      }
    }
  }
}

TEST_CASE("[marketplace] operations: one forward pass a vendor, from the first group it changes on") {
  OnDevice on;
  const Data data;
  Net net;
  mp::Trainer star(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Star, {3, 5}));
  const double first = 2 * kPoints * 2 * 5, last = 2 * kPoints * 5 * 3;
  CHECK(star.step(data.x(), data.labels()).operations == (1 + 3) * (first + last) + 5 * last);
  mp::Trainer full(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Full, {3, 5}));
  const double leader = full.step(data.x(), data.labels()).operations - 3 * first - 15 * last;
  CHECK((leader == 0 || leader == first + last));
}

TEST_CASE("[marketplace] no two vendors share a seed; all 64 bits are used") {
  OnDevice on("interp");
  Net net;
  mp::Trainer trainer(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Star, {300, 500}));
  std::vector<uint64_t> seeds;
  uint64_t ones = 0, zeros_seen = 0;
  for (int64_t step : {0, 1, 2, 1000000})
    for (size_t g : {0, 1})
      for (int64_t v = 0; v < (g == 0 ? 300 : 500); ++v) seeds.push_back(trainer.vendor_seed(step, g, v));
  for (uint64_t s : seeds) ones |= s, zeros_seen |= ~s;
  CHECK(ones == ~uint64_t{0});
  CHECK(zeros_seen == ~uint64_t{0});
  std::sort(seeds.begin(), seeds.end());
  CHECK(std::adjacent_find(seeds.begin(), seeds.end()) == seeds.end());
}

TEST_CASE("[marketplace] losses without variance move nothing") {
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full}) {
    OnDevice on;
    const Data data;
    Net net;
    const nn::Objective flat_loss = [&](const Tensor& x, const Tensor&) -> nn::Score {
      return {net(x).sum() * 0.0 + 1.0};
    };
    mp::Trainer trainer(nn::parameters(net), flat_loss, options_of(plan, {3, 4}));
    const std::vector<float> before = flat(net);
    CHECK(trainer.step(data.x(), data.labels()).loss == 1.0);
    CHECK(flat(net) == before);
  }
}

TEST_CASE("[marketplace] a loss that is not a number is named, and the parameters are as before") {
  OnDevice on;
  const Data data;
  Net net;
  // NaN where first.bias[0] has grown.
  const Tensor bias = net.first.bias.realize();
  const nn::Objective broken = [&](const Tensor& x, const Tensor& labels) -> nn::Score {
    const Tensor change = (net.first.bias - bias).abs().sum();
    const Tensor bad = where(change > 0, std::numeric_limits<double>::quiet_NaN(), 0.0);
    return {cross_entropy(net(x), labels).mean() + bad.cast(DType::F32)};
  };
  mp::Trainer trainer(nn::parameters(net), broken, options_of(mp::Plan::Star, {3, 4}));
  const std::vector<double> before = net.first.bias.to_vector<double>();
  CHECK(error_of([&] { trainer.step(data.x(), data.labels()); }) ==
        "marketplace: the loss of vendor 0 of group 'first' in step 1 is nan; lr 0.1, probe scale 0.3");
  CHECK(net.first.bias.to_vector<double>() == before);
}

TEST_CASE(
    "[marketplace] equal bits for 1, 2, 3 threads, and stopped and resumed; nothing compiled from step 3 on") {
  TemporaryFolder folder;
  const Data data;
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full}) {
    std::vector<std::vector<float>> results;
    for (int threads : {1, 2, 3}) {
      OnDevice on("llvm", threads);
      Net net;
      mp::Trainer trainer(nn::parameters(net), nn::classification(net), options_of(plan, {6, 6}));
      nn::Metrics first, last;
      Counters before = {};
      for (int step = 1; step <= 50; ++step) {
        if (step == 3) before = on.context.counters();
        last = trainer.step(data.x(), data.labels());
        if (step == 1) first = last;
        if (step == 20) trainer.save(folder / "checkpoint.safetensors", {{"note", "kept"}});
      }
      CHECK(on.context.counters().schedules == before.schedules);
      CHECK(on.context.counters().compiles == before.compiles);
      CHECK(last.loss < 0.8 * first.loss);
      results.push_back(flat(net));

      OnDevice later("llvm", threads, 99);
      Net copy;
      mp::Trainer resumed(nn::parameters(copy), nn::classification(copy), options_of(plan, {6, 6}));
      CHECK(resumed.load(folder / "checkpoint.safetensors").at("note") == "kept");
      while (resumed.steps() < 50) resumed.step(data.x(), data.labels());
      results.push_back(flat(copy));
    }
    for (const auto& r : results) CHECK(r == results[0]);
  }
}

TEST_CASE("[marketplace] a decaying rate: steps 3 to 1000 schedule and compile nothing") {
  OnDevice on;
  const Data data;
  Net net;
  mp::Trainer trainer(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Star, {3, 3}));
  const Tensor x = data.x(), labels = data.labels();
  Counters before = {};
  for (int step = 1; step <= 1000; ++step) {
    if (step == 3) before = on.context.counters();
    trainer.step(x, labels);
  }
  CHECK(on.context.counters().schedules == before.schedules);
  CHECK(on.context.counters().compiles == before.compiles);
}

TEST_CASE("[marketplace] mistakes say which value") {
  OnDevice on("interp");
  const Data data;
  Net net;
  const auto error = [&](std::string_view groups, std::vector<int64_t> vendors,
                         mp::Plan plan = mp::Plan::Star) {
    return error_of([&] {
      mp::Options o = options_of(plan, {3, 3});
      o.groups = mp::parse_groups(groups, vendors);
      mp::Trainer(nn::parameters(net), nn::classification(net), o);
    });
  };
  CHECK(error("first|last", {4}) == "groups: 1 vendor counts for 2 groups: first|last");
  CHECK(error("first|lost", {4, 4}) ==
        "groups: no parameter or layer 'lost'; there are first.weight, first.bias, last.weight, last.bias");
  CHECK(error("first|last+first.bias", {4, 4}) ==
        "groups: first.bias is in 'first' and in 'last+first.bias'");
  CHECK(error("first||last", {4, 4, 4}) == "groups: 'first||last' has an empty part");
  CHECK(error("first|last", {4, 1}, mp::Plan::Full) ==
        "groups: 1 vendors for 'last'; 2 to 1048576 are possible");
  CHECK(error("first|last", {4, 0}) == "groups: 0 vendors for 'last'; 1 to 1048576 are possible");
  mp::Options o = options_of(mp::Plan::Star, {3, 3});
  o.lr = -1;
  CHECK(error_of([&] { mp::Trainer(nn::parameters(net), nn::classification(net), o); }) ==
        "marketplace: a learning rate of -1");
  const nn::Objective part = [&](const Tensor& x, const Tensor&) -> nn::Score {
    return {net.first(x).mean()};
  };
  mp::Trainer trainer(nn::parameters(net), part, options_of(mp::Plan::Star, {3, 3}));
  CHECK(error_of([&] { trainer.step(data.x(), data.labels()); }) ==
        "marketplace: the loss does not depend on group 'last'");
}

TEST_CASE("[marketplace] a checkpoint of other vendors is refused") {
  OnDevice on("interp");
  TemporaryFolder folder;
  Net net;
  mp::Trainer a(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Star, {3, 3}));
  a.save(folder / "a.safetensors");
  mp::Trainer b(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Star, {3, 4}));
  CHECK(error_of([&] { b.load(folder / "a.safetensors"); }) ==
        (folder / "a.safetensors") + ": was trained with vendors '3,3', not '3,4'");
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
