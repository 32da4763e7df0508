// [marketplace] bad losses leave a state that can go on; mistakes say which value.
#include <memory>

#include "base/error.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/marketplace_net.h"

using namespace market_test;

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// The loss, NaN where the first weight of `at` is greater (or, with sign -1, smaller) than it was.
nn::Objective broken(Net& net, Tensor& at, double sign) {
  const Tensor before = at.realize();
  return [&net, &at, before, sign](const Tensor& x, const Tensor& labels) -> nn::Score {
    const Tensor bad = ((at - before).flatten()[0] * sign) > 0;
    return {cross_entropy(net(x), labels).mean() + where(bad, kNone, 0.0).cast(DType::F32)};
  };
}

/// NaN for the leader while `broken` is set.
nn::Objective breakable(Net& net, const Scalar& is_broken) {
  return [&net, &is_broken](const Tensor& x, const Tensor& labels) -> nn::Score {
    return {cross_entropy(net(x), labels).mean() + where(Tensor(is_broken) > 0, kNone, 0.0).cast(DType::F32)};
  };
}

}  // namespace

TEST_CASE("[marketplace] vendors whose loss is not a number have no weight; how many is told") {
  const Data data;
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full, mp::Plan::Greedy, mp::Plan::PerSample}) {
    INFO(mp::name(plan));
    OnDevice on;
    Net net;
    mp::Trainer trainer(nn::parameters(net), broken(net, net.second.bias, 1), options_of(plan));
    const std::vector<float> before = flat(net);
    const nn::Metrics m = trainer.step(data.x(), data.labels());
    CHECK(std::isfinite(m.loss));
    CHECK(m.failed > 0);
    const auto& losses = trainer.losses();
    CHECK(m.failed == std::count_if(losses.begin(), losses.end(), [](float l) { return std::isnan(l); }));
    const auto warnings = trainer.take_warnings();
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find(fmt::format("step 1: {} of {} losses are not finite", m.failed, losses.size())) !=
          std::string::npos);
    CHECK(trainer.take_warnings().empty());
    for (const float v : flat(net)) CHECK(std::isfinite(v));
    CHECK(flat(net) != before);
  }
}

TEST_CASE(
    "[marketplace] the vendors without a loss are those whose delta breaks it; the others move the group") {
  OnDevice on;
  const Data data;
  Net net;
  mp::Options o = options_of(mp::Plan::Star, {1, 2, 1});
  mp::Trainer trainer(nn::parameters(net), broken(net, net.second.bias, 1), o);
  // Vendors of group 1 whose first bias grows.
  const auto grows = [&](int64_t v) {
    const uint64_t counter = (uint64_t{1} << 40) + 8;  // 16 weights take 8 blocks
    return unit_float(random_word(trainer.vendor_seed(0, 1, v), counter, 0)) > 0.5F;
  };
  const auto before = net.second.weight.to_vector<float>();
  trainer.step(data.x(), data.labels());
  for (int64_t v = 0; v < 2; ++v) CHECK(std::isnan(trainer.losses()[static_cast<size_t>(1 + v)]) == grows(v));
  CHECK((net.second.weight.to_vector<float>() != before) == !(grows(0) && grows(1)));
}

TEST_CASE(
    "[marketplace] a leader that is not a number: an Error, the state as before, and training goes on") {
  const Data data;
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full, mp::Plan::Greedy, mp::Plan::PerSample}) {
    for (const auto update : {mp::Update::Unit, mp::Update::Adam}) {
      if (plan == mp::Plan::Greedy && update == mp::Update::Adam) continue;
      INFO(mp::name(plan));
      OnDevice on;
      mp::Options o = options_of(plan);
      o.update = update;
      std::vector<std::vector<float>> results;
      for (const bool fails : {false, true}) {
        on.context.seed(5);
        Net net;
        Scalar bad(0.0);
        mp::Trainer trainer(nn::parameters(net), breakable(net, bad), o);
        trainer.step(data.x(), data.labels());
        if (fails) {
          const std::vector<float> before = flat(net);
          bad.set(1.0);
          const std::string error = error_of([&] { trainer.step(data.x(), data.labels()); });
          INFO(error);
          CHECK(error.find("step 2") != std::string::npos);
          CHECK(error.find(fmt::format("lr {}", trainer.learning_rate())) != std::string::npos);
          if (plan == mp::Plan::PerSample) CHECK(error.find("sample 0") != std::string::npos);
          CHECK(flat(net) == before);
          CHECK(trainer.steps() == 1);
          bad.set(0.0);
        }
        trainer.step(data.x(), data.labels());
        trainer.step(data.x(), data.labels());
        results.push_back(flat(net));
      }
      CHECK(results[0] == results[1]);
    }
  }
}

TEST_CASE("[marketplace] all vendors lost: an Error that names the first; a smaller rate can be set") {
  OnDevice on;
  const Data data;
  Net net;
  // Every vendor changes a sum of weights that was measured before.
  double sum = 0;
  for (const Tensor& t : {net.first.weight, net.second.weight, net.last.weight})
    sum += t.sum().item<double>();
  const nn::Objective exact = [&](const Tensor& x, const Tensor& labels) -> nn::Score {
    const Tensor changed =
        (net.first.weight.sum() + net.second.weight.sum() + net.last.weight.sum() - sum).abs() > 1e-5;
    return {cross_entropy(net(x), labels).mean() + where(changed, kNone, 0.0).cast(DType::F32)};
  };
  mp::Trainer trainer(nn::parameters(net), exact, options_of(mp::Plan::Star));
  const std::vector<float> start = flat(net);
  CHECK(
      error_of([&] { trainer.step(data.x(), data.labels()); }) ==
      "marketplace: the loss of vendor 0 of group 'first' in step 1 is nan, and so are all 12; lr 0.1, probe scale 0.3");
  CHECK(flat(net) == start);
  trainer.set_learning_rate(0.01);
  CHECK(trainer.learning_rate() == 0.01);
  CHECK(error_of([&] { trainer.set_learning_rate(kNone); }) == "marketplace: a learning rate of nan");
}

TEST_CASE("[marketplace] a rate that is set holds for all groups, with meta-lr too") {
  OnDevice on;
  const Data data;
  Net net;
  mp::Options o = options_of(mp::Plan::Full);
  o.meta_lr = 0.5;
  mp::Trainer trainer(nn::parameters(net), nn::classification(net), o);
  trainer.step(data.x(), data.labels());
  trainer.step(data.x(), data.labels());
  trainer.set_learning_rate(0.001);
  CHECK(trainer.learning_rates() == std::vector<double>(3, 0.001));
  trainer.step(data.x(), data.labels());
  for (const double rate : trainer.learning_rates()) CHECK((rate > 0.0004 && rate < 0.0016));
}

TEST_CASE("[marketplace] a constant loss moves nothing, and says so once") {
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full, mp::Plan::Greedy, mp::Plan::PerSample}) {
    OnDevice on;
    const Data data;
    Net net;
    const nn::Objective constant_loss = [&](const Tensor& x, const Tensor&) -> nn::Score {
      return {net(x).sum() * 0.0 + 1.0};
    };
    mp::Trainer trainer(nn::parameters(net), constant_loss, options_of(plan));
    const std::vector<float> before = flat(net);
    CHECK(trainer.step(data.x(), data.labels()).loss == 1.0);
    CHECK(flat(net) == before);
    CHECK(trainer.take_warnings() ==
          std::vector<std::string>{fmt::format("marketplace: step 1: all {} losses are 1: nothing moves",
                                               trainer.losses().size())});
    trainer.step(data.x(), data.labels());
    CHECK(trainer.take_warnings().empty());
  }
}

TEST_CASE("[marketplace] backprop: a loss that is not a number destroys nothing") {
  for (const bool adam : {true, false}) {
    OnDevice on;
    const Data data;
    std::vector<std::vector<float>> results;
    for (const bool fails : {false, true}) {
      on.context.seed(5);
      Net net;
      Scalar bad(0.0);
      std::unique_ptr<nn::Optimizer> optimizer;
      if (adam) optimizer = std::make_unique<nn::Adam>(nn::parameters(net), 0.01);
      else optimizer = std::make_unique<nn::SGD>(nn::parameters(net), 0.01, 0.9);
      nn::BackpropTrainer trainer(breakable(net, bad), std::move(optimizer));
      trainer.step(data.x(), data.labels());
      if (fails) {
        const std::vector<float> before = flat(net);
        bad.set(1.0);
        CHECK(error_of([&] { trainer.step(data.x(), data.labels()); }) ==
              "backprop: the loss of step 2 is nan; the learning rate 0.01 may be too high");
        CHECK(flat(net) == before);
        bad.set(0.0);
      }
      trainer.step(data.x(), data.labels());
      results.push_back(flat(net));
    }
    CHECK(results[0] == results[1]);
  }
}

TEST_CASE("[marketplace] mistakes say which value") {
  OnDevice on("interp");
  const Data data;
  Net net;
  const auto refused = [&](const mp::Options& o) {
    return error_of([&] { mp::Trainer(nn::parameters(net), nn::classification(net), o); });
  };
  const auto error = [&](std::string_view groups, std::vector<int64_t> vendors,
                         mp::Plan plan = mp::Plan::Star) {
    return error_of([&] {
      mp::Options o = options_of(plan);
      o.groups = mp::parse_groups(groups, vendors);
      mp::Trainer(nn::parameters(net), nn::classification(net), o);
    });
  };
  CHECK(error("first|last", {4}) == "groups: 1 vendor counts for 2 groups: first|last");
  CHECK(
      error("first|lost", {4, 4}) ==
      "groups: no parameter or layer 'lost'; there are first.weight, first.bias, second.weight, second.bias, "
      "last.weight, last.bias");
  CHECK(error("first|last+first.bias", {4, 4}) ==
        "groups: first.bias is in 'first' and in 'last+first.bias'");
  CHECK(error("first||last", {4, 4, 4}) == "groups: 'first||last' has an empty part");
  CHECK(error("first|last", {4, 1}, mp::Plan::Full) ==
        "groups: 1 vendors for 'last'; 2 to 1048576 are possible");
  CHECK(error("first|last", {4, 0}) == "groups: 0 vendors for 'last'; 1 to 1048576 are possible");
  mp::Options o = options_of(mp::Plan::Star);
  o.lr = -1;
  CHECK(refused(o) == "marketplace: a learning rate of -1");
  o = options_of(mp::Plan::Star);
  o.groups[1].upstream = 2;
  CHECK(refused(o) == "marketplace: the star plan has no upstream sampling");
  o = options_of(mp::Plan::Greedy);
  o.update = mp::Update::Adam;
  CHECK(refused(o) == "marketplace: the v1 plan has no update by Adam");
  o = options_of(mp::Plan::PerSample);
  o.forward_passes = 2;
  CHECK(refused(o) == "marketplace: the per-sample plan has no forward passes beside one");
  o = options_of(mp::Plan::Star);
  o.antithetic = true;
  CHECK(refused(o) ==
        "groups: 3 perturbed vendors of 'first' are no pairs of opposites; their number must be even");
  o = options_of(mp::Plan::Full, {3, 4, 3});
  o.antithetic = true;
  CHECK(refused(o) ==
        "groups: 3 perturbed vendors of 'second' are no pairs of opposites; their number must be even");
  o = options_of(mp::Plan::Full);
  o.meta_lr = 1.5;
  CHECK(refused(o) == "marketplace: a meta-lr of 1.5; it is a part of lr");
  o.meta_lr = 0.5, o.update = mp::Update::Adam;
  CHECK(refused(o) ==
        "marketplace: meta-lr 0.5 chooses the length of a unit step; Adam's steps have their own");
  CHECK(error_of([] { mp::plan_of("v3"); }) ==
        fmt::format("marketplace: no plan 'v3'; there are: {}", fmt::join(mp::plan_names(), ", ")));
}

TEST_CASE("[marketplace] what only a step shows: a loss without a group, samples that don't divide") {
  OnDevice on("interp");
  const Data data;
  Net net;
  const nn::Objective part = [&](const Tensor& x, const Tensor&) -> nn::Score {
    return {net.first(x).mean()};
  };
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full, mp::Plan::PerSample}) {
    mp::Trainer trainer(nn::parameters(net), part, options_of(plan));
    CHECK(error_of([&] { trainer.step(data.x(), data.labels()); }) ==
          "marketplace: the loss does not depend on group 'second'");
  }
  mp::Options o = options_of(mp::Plan::Full);
  o.forward_passes = 5;
  mp::Trainer passes(nn::parameters(net), nn::classification(net), o);
  CHECK(error_of([&] { passes.step(data.x(), data.labels()); }) ==
        "marketplace: 16 samples can't be divided into 5 parts");
  o = options_of(mp::Plan::Full);
  o.groups[1].upstream = 4;
  mp::Trainer wide(nn::parameters(net), nn::classification(net), o);
  CHECK(error_of([&] { wide.step(data.x(), data.labels()); }) ==
        "groups: 'second' continues 4 paths of the groups before it, which have 3");
}
