// PerSample: each sample of the batch runs a path of its own, drawn at random; z-scores of the samples' losses weigh the
// deltas. Source: Fang-Pen Lin, "Continual learning with Marketplace" (2025), and its code.
#include "base/error.h"
#include "graph/index/index.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

/// i64 [samples]: the vendor of group g that each sample goes through. The leader needs no delta, so its seed is free.
Ref drawn_vendors(const Step& step, size_t g, int64_t samples) {
  const Ref words =
      fn::random_words(fn::select(step.seeds[g], 0, 0), constant(DType::U64, int64_t{0}), {index(samples)});
  const Ref below = fn::mul(fn::cast(words, DType::U64), constant(DType::U64, step.vendors(g)));
  return fn::cast(fn::shift_right(below, 32), DType::I64);
}

}  // namespace

Outcome record_per_sample(const Step& step) {
  if (step.leader.parts.empty()) fail("marketplace: the per-sample plan needs two samples or more, not one");
  const int64_t samples = extent(step.leader.parts[0].with->shape[0]);
  const std::vector<Vendors> vendors = all_vendors(step);
  std::vector<BatchedLeaf> leaves = step.leader.parts;
  std::vector<Ref> chosen;
  for (size_t g = 0; g < step.groups(); ++g) {
    with_vendors(step, step.leader.part_loss, g, vendors[g].leaves);  // or an Error
    chosen.push_back(drawn_vendors(step, g, samples));
    const Vendors own = make_vendors(step, g, fn::take(step.seeds[g], chosen[g], 0),
                                     fn::take(deviations(step, g), chosen[g], 0));
    leaves.insert(leaves.end(), own.leaves.begin(), own.leaves.end());
  }
  std::vector<Ref> roots{step.leader.part_loss};
  if (step.leader.part_accuracy) roots.push_back(step.leader.part_accuracy);
  const std::vector<Ref> values = batch(roots, leaves);
  const Scores scores = z_scores(values[0]);
  Outcome out{.losses = {values[0]}, .directions = {}, .loss = scores.mean, .accuracy = {}};
  if (step.leader.part_accuracy) out.accuracy = fn::mean(values[1], {}, false);
  for (size_t g = 0; g < step.groups(); ++g) {
    const Dims both{index(step.vendors(g)), index(samples)};
    const Ref own = fn::eq(fn::broadcast(fn::unsqueeze(chosen[g], 0), both),
                           fn::broadcast(fn::unsqueeze(fn::iota(both[0], DType::I64), 1), both));
    Ref weights =
        fn::sum(fn::where(own, fn::broadcast(fn::unsqueeze(scores.z, 0), both), 0.0), Ints{1}, false);
    if (step.options.update == Update::Adam)
      weights =
          fn::mul(weights, fn::splat(estimate_factor(step, g, scores.deviation, samples), weights->shape));
    out.directions.push_back(weighted_sum(vendors[g], weights));
  }
  return out;
}

}  // namespace kontor::inline v0::marketplace
