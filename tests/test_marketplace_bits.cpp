// [marketplace] the same bits for any number of threads and after a resume, whatever plan and option; what a checkpoint
// must agree with; nothing compiled after the second step.
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/marketplace_net.h"
#include "tests/temporary_folder.h"

using namespace market_test;

namespace {

// Each plan with as many options at once as it takes.
std::vector<mp::Options> everything() {
  std::vector<mp::Options> out;
  for (const std::string_view plan : mp::plan_names())
    out.push_back(plan == "low-rank" ? options_of(mp::plan_of(plan), {1, 1, 1})
                                     : options_of(mp::plan_of(plan)));
  mp::Options o = options_of(mp::Plan::Star, {4, 6, 4});
  o.noise = mp::Noise::Rademacher, o.antithetic = true, o.update = mp::Update::Adam, o.lr = 0.01,
  o.probe_scale = 3;
  out.push_back(o);
  o = options_of(mp::Plan::Full, {3, 5, 3});
  o.unit = mp::Unit::Whole, o.meta_lr = 0.3, o.forward_passes = 2, o.antithetic = true;
  o.groups[1].upstream = 2, o.groups[2].upstream = 5;
  out.push_back(o);
  o = options_of(mp::Plan::Star);
  o.meta_lr = 0.3, o.forward_passes = 4;
  out.push_back(o);
  o = options_of(mp::Plan::BlockStar);
  o.noise = mp::Noise::Rademacher, o.update = mp::Update::Adam, o.lr = 0.01, o.probe_scale = 3;
  o.groups[0].whole = true;
  out.push_back(o);
  o = options_of(mp::Plan::Greedy);
  o.noise = mp::Noise::Rademacher, o.groups[2].upstream = 4;
  out.push_back(o);
  o = options_of(mp::Plan::PerSample);
  o.update = mp::Update::Adam, o.unit = mp::Unit::Whole, o.lr = 0.01, o.probe_scale = 3;
  out.push_back(o);
  return out;
}

}  // namespace

TEST_CASE(
    "[marketplace] equal bits for 1, 2, 3 threads, and stopped and resumed; nothing compiled from step 3 on") {
  TemporaryFolder folder;
  const Data data;
  for (const mp::Options& options : everything()) {
    INFO(mp::name(options.plan) << " adam " << (options.update == mp::Update::Adam) << " meta "
                                << options.meta_lr);
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      OnDevice on("llvm", threads);
      Net net;
      mp::Trainer trainer(nn::parameters(net), nn::classification(net), options);
      Counters before = {};
      for (int step = 1; step <= 12; ++step) {
        if (step == 3) before = on.context.counters();
        trainer.step(data.x(), data.labels());
        if (step == 2 + threads) trainer.save(folder / "checkpoint.safetensors", {{"note", "kept"}});
      }
      CHECK(on.context.counters().schedules == before.schedules);
      CHECK(on.context.counters().compiles == before.compiles);
      results.push_back(flat(net));

      OnDevice later("llvm", threads, 99);
      Net copy;
      mp::Trainer resumed(nn::parameters(copy), nn::classification(copy), options);
      CHECK(resumed.load(folder / "checkpoint.safetensors").at("note") == "kept");
      CHECK(resumed.steps() == 2 + threads);
      while (resumed.steps() < 12) resumed.step(data.x(), data.labels());
      CHECK(resumed.learning_rates() == trainer.learning_rates());
      results.push_back(flat(copy));
    }
    for (const auto& r : results) CHECK(r == results[0]);
  }
}

TEST_CASE("[marketplace] star and full learn the small task") {
  const Data data;
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full}) {
    OnDevice on;
    Net net;
    mp::Trainer trainer(nn::parameters(net), nn::classification(net), options_of(plan, {6, 6, 6}));
    const double first = trainer.step(data.x(), data.labels()).loss;
    double last = first;
    for (int step = 1; step < 50; ++step) last = trainer.step(data.x(), data.labels()).loss;
    CHECK(last < 0.8 * first);
  }
}

TEST_CASE("[marketplace] a decaying rate: steps 3 to 1000 schedule and compile nothing") {
  OnDevice on;
  const Data data;
  Net net;
  mp::Trainer trainer(nn::parameters(net), nn::classification(net), options_of(mp::Plan::Star));
  const Tensor x = data.x(), labels = data.labels();
  Counters before = {};
  for (int step = 1; step <= 1000; ++step) {
    if (step == 3) before = on.context.counters();
    trainer.step(x, labels);
  }
  CHECK(on.context.counters().schedules == before.schedules);
  CHECK(on.context.counters().compiles == before.compiles);
}

TEST_CASE("[marketplace] a checkpoint of another plan, model or setting is refused, with both values") {
  OnDevice on("interp");
  TemporaryFolder folder;
  Net net;
  const std::string file = folder / "a.safetensors";
  const auto trainer = [&](const mp::Options& o) {
    return mp::Trainer(nn::parameters(net), nn::classification(net), o);
  };
  trainer(options_of(mp::Plan::Star)).save(file);
  const auto error = [&](const mp::Options& o) { return error_of([&] { trainer(o).load(file); }); };
  CHECK(error(options_of(mp::Plan::Star, {3, 5, 6})) ==
        file + ": was trained with vendors '3,5,4', not '3,5,6'");
  CHECK(error(options_of(mp::Plan::Full)) == file + ": was trained with plan 'star', not 'full'");
  mp::Options o = options_of(mp::Plan::Star);
  o.noise = mp::Noise::Rademacher;
  CHECK(error(o) == file + ": was trained with noise 'uniform', not 'rademacher'");
  o = options_of(mp::Plan::Star);
  o.meta_lr = 0.25;
  CHECK(error(o) == file + ": was trained with meta_lr '0', not '0.25'");

  nn::MnistCnn other;
  mp::Trainer digits(nn::parameters(other), nn::classification(other),
                     {.groups = mp::mnist_groups(mp::Plan::Star)});
  CHECK(error_of([&] { digits.load(file); }).find("groups 'first|second|last'") != std::string::npos);
}
