// [swarm] what liars cost: D1, D2, D4, D5 in a short form, with hosts of 16 slots, so that fewer signatures are made. Their full forms:
// bench/swarm.py.
#include "swarm/sim.h"
#include "tests/catch.h"
#include "tests/on_device.h"
#include "tests/project_root.h"
#include "tests/thinned.h"

using namespace kontor;
using namespace kontor::swarm;

namespace {

SimOptions hosts(int64_t steps, const std::string& attack, double churn, double liars, int64_t width = 1) {
  SimOptions o;
  o.data = project_root() + "/data/mnist-12k", o.attack = attack;
  o.churn = churn, o.liars = liars, o.slow = 0, o.replicas = 0, o.witnesses = 0;
  o.manifest.workers = 60, o.manifest.slots = 16, o.manifest.samples = 16, o.manifest.width = width;
  o.manifest.steps = steps, o.manifest.lr = 1, o.manifest.spot_rate = 0.02;
  return o;
}

/// Of the test images after all steps, none of which may be lost, and no honest worker banned or refused for its signature.
double loss_of(Simulation& sim, bool forged = false) {
  int64_t lost = 0;
  for (int64_t t = 0; t < sim.manifest().steps; ++t) lost += sim.step().accepted == 0;
  CHECK(lost == 0);
  CHECK(sim.banned_honest() == 0);
  const int64_t refused = sim.counts()[static_cast<size_t>(Answer::BadSignature)];
  CHECK(refused == (forged ? sim.liars() * sim.manifest().steps : 0));
  return sim.test().loss;
}

}  // namespace

TEST_CASE("swarm: churn and liars lose no step, and little of what is learned", "[swarm]") {
  const OnDevice on;
  constexpr int64_t steps = thinned(300);
  Simulation clean(hosts(steps, "mirror", 0, 0));
  const double d1 = loss_of(clean);
  Simulation away(hosts(steps, "mirror", 0.3, 0));
  const double d2 = loss_of(away);
  for (const std::string attack : {"mirror", "huge", "collude", "bad-signature"}) {
    INFO(attack);
    Simulation sim(hosts(steps, attack, 0, 0.2));
    const double d4 = loss_of(sim, attack == "bad-signature");
    if (!sanitized) CHECK(d4 < 1.10 * d1);
  }
  Simulation many(hosts(steps, "mirror", 0, 0.4));
  const double d5 = loss_of(many);
  if (sanitized) return;  // fewer steps learn too little to compare
  CHECK(d1 < 0.6);
  CHECK(d2 < 1.10 * d1);
  CHECK(d5 < 1.15 * d1);
  CHECK(10 * many.banned_liars() > 9 * many.liars());
}

// D4 with values of 24 bits: a liar's number becomes a rank, so that zero and huge differ, and none is more than a vote.
TEST_CASE("swarm: liars' values as ranks cost little", "[swarm]") {
  const OnDevice on;
  constexpr int64_t steps = thinned(300), width = 24;
  Simulation clean(hosts(steps, "mirror", 0, 0, width));
  const double d1 = loss_of(clean);
  if (!sanitized) CHECK(d1 < 0.6);
  for (const std::string attack : {"random", "zero", "huge", "nan"}) {
    INFO(attack);
    Simulation sim(hosts(steps, attack, 0, 0.2, width));
    const double d4 = loss_of(sim);
    if (sanitized) continue;
    CHECK(d4 < 1.10 * d1);
    CHECK(10 * sim.banned_liars() > 9 * sim.liars());
  }
}
