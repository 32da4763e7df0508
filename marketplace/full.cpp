// Full (V2): vendors of all groups crossed, z-scores of the paths' losses weigh the deltas; and Greedy (V1), which
// takes over the deltas of the best path. Source: Fang-Pen Lin, "Marketplace V2 is all you need" (2025), and its code.
#include <algorithm>

#include "graph/index/index.h"
#include "marketplace/paths.h"

namespace kontor::inline v0::marketplace {

namespace {

struct Market {
  std::vector<Vendors> vendors;
  Crossing crossing;
  Outcome out;
};

/// Losses of all paths. If no path was left out, the first is the leader's: no forward pass beside it.
Market open_market(const Step& step) {
  Market m{all_vendors(step), {}, {}};
  std::vector<Ref> roots{step.leader.loss};
  if (step.leader.accuracy) roots.push_back(step.leader.accuracy);
  m.crossing = cross(step, roots, leaves_of(m.vendors));
  m.out.losses = {m.crossing.values[0]};
  if (std::any_of(m.crossing.upstream.begin(), m.crossing.upstream.end(),
                  [](const Ref& u) { return bool(u); }))
    return m;
  m.out.loss = fn::select(m.crossing.values[0], 0, 0);
  if (step.leader.accuracy) m.out.accuracy = fn::select(m.crossing.values[1], 0, 0);
  return m;
}

}  // namespace

// The weight of a vendor is the sum of z over the paths that it is on, so that deltas are summed over vendors and not
// over paths.
Outcome record_full(const Step& step) {
  Market m = open_market(step);
  const Ref& losses = m.crossing.values[0];
  const Scores scores = z_scores(losses);
  const std::vector<Ref> sums = sums_over_paths(step, m.crossing, scores.z);
  for (size_t g = 0; g < step.groups(); ++g) {
    Ref weights = sums[g];
    if (step.options.update == Update::Adam)
      weights = fn::mul(
          weights,
          fn::splat(estimate_factor(step, g, scores.deviation, extent(losses->shape[0])), weights->shape));
    m.out.directions.push_back(weighted_sum(m.vendors[g], weights));
  }
  return std::move(m.out);
}

Outcome record_greedy(const Step& step) {
  Market m = open_market(step);
  const std::vector<Ref> best = vendors_of_path(step, m.crossing, least(m.crossing.values[0]));
  for (size_t g = 0; g < step.groups(); ++g) {
    const Ref seed = fn::take(step.seeds[g], fn::unsqueeze(best[g], 0), 0);
    const Ref sigma = fn::take(deviations(step, g), fn::unsqueeze(best[g], 0), 0);
    m.out.directions.emplace_back();
    for (const Ref& delta : make_vendors(step, g, seed, sigma).deltas)
      m.out.directions.back().push_back(fn::select(delta, 0, 0));
  }
  return std::move(m.out);
}

}  // namespace kontor::inline v0::marketplace
