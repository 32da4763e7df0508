// [swarm] the step as a graph against plain C++ that says what it is, the same bits on every device, and runs with workers that come and
// go. With liars: test_swarm_liars.cpp.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "base/threefry.h"
#include "swarm/fork.h"
#include "swarm/sim.h"
#include "swarm/slots.h"
#include "swarm/votes.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/project_root.h"
#include "tests/temporary_folder.h"
#include "tests/thinned.h"

using namespace kontor;
using namespace kontor::swarm;
using Catch::Matchers::Contains;

namespace {

using Weights = std::vector<std::vector<float>>;

std::string data() { return project_root() + "/data/mnist-12k"; }

/// +-1 of element e of factor f of parameter k.
int sign_of(uint64_t seed, size_t k, size_t f, uint64_t e) {
  const uint64_t counter = static_cast<uint64_t>(4 * k + f) << 32;
  return (random_word(seed, counter, e / 32) >> (e % 32) & 1) != 0 ? 1 : -1;
}

/// What a slot's direction is at each weight of a parameter, by the text of docs/decentralised.md.
std::vector<int> direction_of(uint64_t seed, size_t k, const std::vector<int64_t>& shape, bool whole) {
  uint64_t elements = 1, inner = 1;
  for (const int64_t n : shape) elements *= static_cast<uint64_t>(n);
  for (size_t a = 2; a < shape.size(); ++a) inner *= static_cast<uint64_t>(shape[a]);
  std::vector<int> out;
  for (uint64_t e = 0; e < elements; ++e) {
    if (whole || shape.size() < 2) {
      out.push_back(sign_of(seed, k, 0, e));
      continue;
    }
    const uint64_t columns = static_cast<uint64_t>(shape[1]);
    int s = sign_of(seed, k, 0, e / inner / columns) * sign_of(seed, k, 1, e / inner % columns);
    if (shape.size() > 2) s *= sign_of(seed, k, 2, e % inner);
    out.push_back(s);
  }
  return out;
}

uint64_t root_of(uint64_t s) {
  uint64_t r = 0;
  for (int bit = 31; bit >= 0; --bit) {
    const uint64_t next = r | uint64_t{1} << bit;
    if (next * next <= s) r = next;
  }
  return r;
}

/// The least s for which the sum of so many squares of such sums, each shifted by s, is below 2^62.
int shift_of(double most, double elements) {
  int s = 0;
  while (2 * std::log2(most) + std::log2(elements) - 2 * s > 62) ++s;
  return s;
}

Weights updated(Task& task, const std::vector<uint64_t>& seeds, const std::vector<int32_t>& c, double lr,
                const Manifest& m) {
  Weights out = task.weights();
  std::vector<std::vector<int64_t>> d;
  double elements = 0;
  for (size_t k = 0; k < out.size(); ++k) {
    d.emplace_back(out[k].size()), elements += static_cast<double>(out[k].size());
    for (size_t i = 0; i < seeds.size(); ++i) {
      const std::vector<int> one =
          direction_of(seeds[i], k, task.parameters()[k].tensor->shape(), m.plan == "full");
      for (size_t e = 0; e < one.size(); ++e) d[k][e] += int64_t{c[i]} * one[e];
    }
  }
  const auto n = static_cast<double>(m.workers);
  const int shift = shift_of(m.width == 1 ? n : n * n / 2 + 1, elements);
  uint64_t squares = 0;
  for (const auto& part : d)
    for (const int64_t v : part) squares += static_cast<uint64_t>((v >> shift) * (v >> shift));
  const float length = static_cast<float>(root_of(squares)) * std::ldexp(1.0f, shift);
  const float scale = length > 0 ? static_cast<float>(lr) / length : 0;
  for (size_t k = 0; k < out.size(); ++k)
    for (size_t e = 0; e < out[k].size(); ++e)
      out[k][e] = std::fma(static_cast<float>(d[k][e]), scale, out[k][e]);
  return out;
}

SimOptions options(int64_t workers, int64_t steps, const std::string& attack = "mirror", double liars = 0.2) {
  SimOptions o{.data = data(), .churn = 0.3, .liars = liars, .attack = attack};
  o.manifest.workers = workers, o.manifest.steps = steps;
  o.manifest.samples = 16, o.manifest.lr = 0.6;
  return o;
}

std::vector<std::string> devices() {
  std::vector<std::string> out;
  for (const char* name : {"llvm", "interp", "opencl"}) {
    try {
      const Context here({.device = name});
      out.emplace_back(name);
    } catch (const Error&) {}
  }
  return out;
}

}  // namespace

TEST_CASE("swarm: the update is the sum of integers that the text says, to the bit, on every device",
          "[swarm]") {
  for (const std::string& device : devices()) {
    for (const auto& [model, plan, width, workers] : {std::tuple{"mnist-small", "low-rank", 1, 40},
                                                      {"mnist-small", "low-rank", 24, 40},
                                                      {"mnist-small", "full", 8, 20},
                                                      {"mnist-small", "low-rank", 24, 7000},
                                                      {"mnist-small", "low-rank", 24, 20000},
                                                      {"mnist-cnn", "low-rank", 24, 6}}) {
      if (device != "llvm" && workers > (device == "interp" ? 1000 : 10000))
        continue;  // the same graph, slowly
      INFO(device << " " << model << " " << plan << " " << width << " " << workers);
      const OnDevice on(device, 2);
      const std::unique_ptr<Task> task = make_task(model, 3, data());
      Manifest m{.model = model, .plan = plan, .workers = workers, .width = width, .data = "private"};
      Steps steps(*task, m);
      std::mt19937 random(5);
      std::vector<uint32_t> codes(static_cast<size_t>(workers));
      for (uint32_t& code : codes) code = static_cast<uint32_t>(random()) & ((1u << width) - 1);
      std::vector<int32_t> c = coefficients(codes, width);
      c[1] = 0;  // one that said nothing
      const std::vector<uint64_t> seeds = slot_seeds(77, 4, c.size());
      const Weights want = updated(*task, seeds, c, 0.37, m);
      steps.update(seeds, c, 0.37);
      CHECK(task->weights() == want);
      const Digest root = state_root(*task);
      steps.update(seeds, std::vector<int32_t>(c.size()), 0.37);  // a direction without length moves nothing
      CHECK(state_root(*task) == root);
    }
  }
}

TEST_CASE("swarm: a slot's value is the loss with its direction less that with the opposite", "[swarm]") {
  const OnDevice on;
  for (const auto& [model, plan] :
       {std::pair{"mnist-small", "low-rank"}, {"mnist-small", "full"}, {"mnist-cnn", "low-rank"}}) {
    INFO(model << " " << plan);
    const std::unique_ptr<Task> task = make_task(model, 3, data());
    Manifest m{.model = model,
               .plan = plan,
               .workers = 8,
               .samples = 4,
               .sigma = 0.02,
               .width = 24,
               .data = "private"};
    Steps steps(*task, m);
    const std::vector<uint64_t> seeds = slot_seeds(1, 0, 8);
    const std::vector<int32_t> found = steps.evaluate(seeds);
    const Weights before = task->weights();
    nn::Objective objective = task->objective();
    for (size_t i = 0; i < 3; ++i) {
      double loss[2];
      std::vector<uint64_t> samples;
      for (uint64_t j = 0; j < 4; ++j) samples.push_back(sample_of(seeds[i], j, task->count()));
      const auto [x, labels] = task->batch(samples);
      for (const int side : {0, 1}) {
        Weights moved = before;
        for (size_t k = 0; k < moved.size(); ++k) {
          const std::vector<int> d =
              direction_of(seeds[i], k, task->parameters()[k].tensor->shape(), m.plan == "full");
          for (size_t e = 0; e < d.size(); ++e)
            moved[k][e] += (side == 0 ? 1.0f : -1.0f) * 0.02f * static_cast<float>(d[e]);
        }
        task->set_weights(moved);
        loss[side] = objective(x, labels).loss.item<double>();
      }
      task->set_weights(before);
      CHECK(found[i] / 65536.0 == Approx(loss[0] - loss[1]).margin(1e-3));
    }
    // What a checker finds is what the worker found, whatever else each evaluated.
    CHECK(steps.evaluate(std::span(seeds).subspan(3, 1)) == std::vector<int32_t>{found[3]});
  }
}

TEST_CASE("swarm: a text that is as short as it may be is tested on", "[swarm]") {
  const OnDevice on;
  const TemporaryFolder folder;
  std::string text;
  while (text.size() < 6400) text += "The quick brown fox. ";
  write_file(folder / "text", text.substr(0, 6400));
  CHECK(make_task("gpt", 1, folder / "text")->test().loss == Approx(std::log(256)).epsilon(0.2));
  write_file(folder / "less", text.substr(0, 6399));
  CHECK_THAT(error_of([&] { make_task("gpt", 1, folder / "less"); }), Contains("6399 bytes are too few"));
}

TEST_CASE("swarm: a spot check of few slots has the bits of the pass over many", "[swarm]") {
  const OnDevice on;
  const std::unique_ptr<Task> task = make_task("mnist-cnn", 3, data());
  Steps steps(*task, {.model = "mnist-cnn", .workers = 300, .samples = 1, .data = "private"});
  const std::vector<uint64_t> seeds = slot_seeds(1, 0, 40);
  const std::vector<int32_t> all = steps.evaluate(seeds);
  CHECK(steps.evaluate(std::span(seeds).subspan(30, 2)) == std::vector<int32_t>{all[30], all[31]});
}

TEST_CASE("swarm: a run's ledger is replayed to the same root, whatever the device and threads", "[swarm]") {
  const TemporaryFolder folder;
  Digest head, state;
  for (const int64_t width : {1, 8, 24}) {
    const std::string path = folder / fmt::format("ledger{}", width);
    SimOptions o = options(60, 12, "mixed");
    o.manifest.width = width, o.manifest.lag = 2, o.manifest.slots = 3, o.manifest.spot_rate = 0.1,
    o.ledger = path;
    {
      const OnDevice on;
      Simulation sim(o);
      for (int64_t t = 0; t < 12; ++t) sim.step();
      head = sim.head(), state = sim.state();
    }
    CHECK(verify(Ledger::open(path)).head == head);
    CHECK(verify(Ledger::open(path)).final_steps == 12);
    for (const std::string& device : devices()) {
      for (const int threads : {1, 3}) {
        const OnDevice on(device, threads);
        const Ledger ledger = Ledger::open(path);
        const std::unique_ptr<Task> task = make_task(ledger.manifest().model, ledger.manifest().seed, data());
        Replica replica(*task, ledger.manifest());
        for (int64_t t = 0; t < ledger.steps(); ++t) replica.apply(ledger.record(t));
        CHECK(replica.chain().head() == head);
        CHECK(state_root(*task) == state);
      }
    }
  }
}

TEST_CASE("swarm: a fork leaves workers out, and is a ledger as the first", "[swarm]") {
  const OnDevice on;
  const TemporaryFolder folder;
  SimOptions o = options(20, 8, "mixed");
  o.manifest.slots = 2, o.manifest.lag = 1, o.manifest.width = 24, o.ledger = folder / "first";
  Digest state;
  {
    Simulation sim(o);
    for (int64_t t = 0; t < 8; ++t) sim.step();
    state = sim.state();
  }
  const auto states = [&](const std::string& path) {  // after each step, by replay
    const Ledger ledger = Ledger::open(path);
    const std::unique_ptr<Task> task = make_task("mnist-small", ledger.manifest().seed, data());
    Replica replica(*task, ledger.manifest(), ledger.deals());
    std::vector<Digest> out;
    for (int64_t t = 0; t < ledger.steps(); ++t)
      replica.apply(ledger.record(t)), out.push_back(state_root(*task));
    CHECK(verify(ledger).state == out.back());
    return out;
  };
  const auto forked = [&](const std::string& from, const std::string& to, int64_t step,
                          std::vector<uint32_t> without) {
    const std::unique_ptr<Task> task = make_task("mnist-small", 1, data());
    return fork(Ledger::open(from), *task, to, step, without);
  };
  CHECK(forked(o.ledger, folder / "same", 0, {}).left_out == 0);
  const std::vector<Digest> first = states(o.ledger), same = states(folder / "same");
  CHECK(first == same);
  const Forked f = forked(o.ledger, folder / "less", 3, {4, 5, 6, 7, 8});
  const std::vector<Digest> less = states(folder / "less");
  CHECK(f.left_out > 5);
  CHECK(std::equal(less.begin(), less.begin() + 3, first.begin()));
  CHECK(less[3] != first[3]);
  // A fork of a fork without the same workers is the fork: seeds and slots are still those of the first run.
  forked(folder / "less", folder / "again", 3, {4, 5, 6, 7, 8});
  CHECK(states(folder / "again") == less);
  forked(folder / "less", folder / "later", 5, {9});
  CHECK(Ledger::open(folder / "later").manifest().origin->step ==
        3);  // from there on it is not the first run
  {          // a record before that step says another state, and all are signed
    const Ledger good = Ledger::open(o.ledger);
    const Format format(good.manifest());
    Ledger bad = Ledger::create(folder / "bad", good.manifest(), good.members(), Ledger::Sync::Crash);
    Digest before = format.run;
    for (int64_t t = 0; t < 8; ++t) {
      Record r = parse_record(good.record(t), format);
      r.before = before, r.state[0] ^= t == 2;
      const Bytes bytes = sign(r, format, simulation_key(o.seed, "sequencer", 0));
      bad.append(t, bytes), before = head_of(bytes);
    }
  }
  CHECK_THAT(error_of([&] { forked(folder / "bad", folder / "no", 5, {4}); }),
             Contains("bad: step 2: the state has root"));
  CHECK(error_of([&] { forked(folder / "bad", folder / "told otherwise", 2, {4}); }).empty());
  CHECK_THAT(error_of([&] { forked(o.ledger, folder / "none", 8, {}); }),
             Contains("8 records, none of step 8"));
  CHECK_THAT(error_of([&] { forked(o.ledger, folder / "none", 1, {20}); }),
             Contains("there is no worker 20; there are 20"));
}

TEST_CASE("swarm: a replica says what differs: model, data, state, order", "[swarm]") {
  const OnDevice on;
  const TemporaryFolder folder;
  SimOptions o = options(20, 4, "mixed");
  o.ledger = folder / "ledger";
  {
    Simulation sim(o);
    for (int64_t t = 0; t < 4; ++t) sim.step();
  }
  const Ledger ledger = Ledger::open(o.ledger);
  const Manifest& m = ledger.manifest();
  const std::unique_ptr<Task> other = make_task("mnist-small", 99, data());
  CHECK_THAT(error_of([&] { Replica(*other, m); }), Contains("the model's initial weights here has hash"));
  const std::unique_ptr<Task> task = make_task("mnist-small", m.seed, data());
  Manifest elsewhere = m;
  elsewhere.data = std::string(64, '1');
  CHECK_THAT(error_of([&] { Replica(*task, elsewhere); }), Contains("the data here has hash"));
  Replica replica(*task, m);
  CHECK_THAT(error_of([&] { replica.apply(ledger.record(1)); }),
             Contains("step 0: the record says that it is of step 1"));
  replica.apply(ledger.record(0));
  task->set_weights(make_task("mnist-small", 99, data())->weights());  // bad memory
  CHECK_THAT(error_of([&] { replica.apply(ledger.record(1)); }), Contains("step 1: the state has root"));
  CHECK_THAT(error_of([&] { replica.apply(ledger.record(1)); }), Contains("replay it"));
}

TEST_CASE("swarm: a sequencer refuses what is late, twice, foreign, of another slot or by another",
          "[swarm]") {
  const OnDevice on;
  Fixed<32> secret{};
  std::vector<SigningKey> keys;
  std::vector<PublicKey> members;
  for (uint8_t w = 0; w < 4; ++w)
    secret[0] = w, keys.emplace_back(secret), members.push_back(keys.back().public_key());
  const std::unique_ptr<Task> task = make_task("mnist-small", 1, data());
  Manifest m{.workers = 4, .steps = 5, .quorum = 3, .lag = 1};
  m.sequencer = keys[0].public_key(), m.members = members_root(members);
  describe(m, *task);
  Replica replica(*task, m);
  secret[0] = 0;
  Sequencer sequencer(replica, SigningKey(secret), members);
  const Format f(m);
  const auto report = [&](uint32_t worker, const SigningKey& key, uint32_t step, uint8_t lag,
                          uint32_t off = 0) {
    Report r{.step = step, .lag = lag, .worker = worker, .codes = {1}};
    r.first_slot = (first_slot(replica.chain().dealing_head(), replica.chain().step(), worker, f) + off) % 4;
    return sign(r, f, key);
  };
  CHECK(sequencer.take(report(1, keys[1], 0, 0)) == Answer::Taken);
  CHECK(sequencer.take(report(1, keys[1], 0, 0)) == Answer::Twice);
  CHECK(sequencer.take(report(2, keys[1], 0, 0)) == Answer::BadSignature);
  CHECK(sequencer.take(report(2, keys[2], 1, 0)) == Answer::OtherStep);
  CHECK(sequencer.take(report(2, keys[2], 0, 0, 1)) == Answer::OtherSlot);
  CHECK(sequencer.take(Bytes(50)) == Answer::Malformed);
  CHECK(sequencer.take(report(2, keys[2], 0, 0)) == Answer::Taken);
  CHECK(sequencer.take(report(0, keys[0], 0, 0)) == Answer::Taken);
  CHECK(sequencer.take(report(3, keys[3], 0, 0)) == Answer::Full);
  const Bytes receipt = sequencer.receipt(report(1, keys[1], 0, 0));
  const Bytes record = sequencer.close(1);
  CHECK_FALSE(proves_omission(parse_receipt(receipt), record, f, m.sequencer));
  sequencer.close(2);  // nobody said anything: the record is empty, the weights stay
  sequencer.close(3);
  CHECK(sequencer.take(report(1, keys[1], 3, 2)) == Answer::TooOld);
  CHECK(sequencer.take(report(1, keys[1], 3, 1)) == Answer::Taken);
  const Digest before = state_root(*task);
  CHECK(parse_record(sequencer.close(4), f).state != before);
}

// D15 in a short form.
TEST_CASE("swarm: ten thousand virtual workers", "[swarm]") {
  const OnDevice on;
  SimOptions o = options(thinned(10000), 3, "mixed");
  o.replicas = 0;
  Simulation sim(o);
  for (int64_t t = 0; t < 3; ++t) {
    const SimRow row = sim.step();
    CHECK(row.accepted > thinned(10000) / 2);
    if (!sanitized && t > 0) CHECK(row.seconds - row.forward_seconds < 4);  // 2 on an idle machine
  }
}

namespace {

/// Ten million parameters that nothing is computed with: what an update costs.
class Matrices final : public Task {
 public:
  explicit Matrices(int64_t count) {
    Context::current().seed(1);
    for (int64_t i = 0; i < count; ++i) model_.layers.emplace_back(1000, 1000, false);
    adopt(model_);
  }
  std::pair<Tensor, Tensor> batch(std::span<const uint64_t>) const override { return {}; }
  uint64_t count() const override { return 1; }
  nn::Objective objective() override {
    return [](const Tensor& x, const Tensor&) -> nn::Score { return x; };
  }
  nn::Metrics test() override { return {}; }
  Digest data_root() const override { return {}; }

 private:
  struct Model {
    std::vector<nn::Linear> layers;
    template <class V>
    void walk(V& visit) {
      visit("layers", layers);
    }
  } model_;
};

double steps_a_second(Task& task, const Manifest& m, int64_t steps) {
  Replica sequencing(task, m);
  const Format f(m);
  Fixed<32> secret{};
  const SigningKey key(secret);
  const Weights before = task.weights();
  std::vector<Bytes> records;
  for (int64_t t = 0; t < steps; ++t) {
    Record r{.time = 1,
             .accepted = std::vector<bool>(static_cast<size_t>(m.workers), true),
             .codes = std::vector<uint32_t>(static_cast<size_t>(m.values()), 1)};
    sequencing.propose(r);
    records.push_back(sign(r, f, key));
    sequencing.adopt(records.back());
  }
  task.set_weights(before);
  Replica replica(task, m);
  replica.apply(records[0]);  // compiles
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t t = 1; t < steps; ++t) replica.apply(records[static_cast<size_t>(t)]);
  return static_cast<double>(steps - 1) /
         std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

// Hidden: for bench/swarm.py, on an idle machine.
TEST_CASE("how fast a ledger is replayed", "[.swarm-speed]") {
  const OnDevice on;
  Fixed<32> secret{};
  const SigningKey key(secret);
  for (const bool large : {false, true}) {
    const std::unique_ptr<Task> task =
        large ? std::make_unique<Matrices>(10) : make_task("mnist-small", 1, data());
    Manifest m{.workers = large ? 64 : 1000, .steps = 1000, .data = "private"};
    m.sequencer = key.public_key();
    describe(m, *task);
    const double rate = steps_a_second(*task, m, large ? 12 : 300);
    std::printf("SPEED: %s: %.1f steps/s\n",
                large ? "10M parameters, 64 reports" : "970 parameters, 1000 reports", rate);
    CHECK(rate > (large ? 5 : 500));
  }
}
