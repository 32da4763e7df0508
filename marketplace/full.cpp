// Full (V2): vendors of all groups crossed, z-scores of the paths' losses weigh the deltas.
// Source: Fang-Pen Lin, "Marketplace V2 is all you need" (2025), and its code.
#include "graph/index.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

/// z = -(loss - mean) / std over all paths; 0 where all losses are the same.
Ref z_scores(const Ref& losses) {
  const Ref mean = fn::mean(losses, {}, false);
  const Ref deviation = fn::sqrt(fn::var(losses, {}, false, 1));
  const Ref some = fn::gt(deviation, 0.0);
  return fn::div(fn::neg(fn::sub(losses, fn::splat(mean, losses->shape))),
                 fn::splat(fn::where(some, deviation, 1.0), losses->shape));
}

/// Element 0 of every axis: the path of the first vendors.
Ref first(Ref paths) {
  while (paths->rank() > 0) paths = fn::select(paths, 0, 0);
  return paths;
}

}  // namespace

// The first vendors are the leader: its loss and accuracy are read off their path, not computed a second time. The weight of a vendor is the sum of z over the paths that it is on, so that deltas are summed over vendors and not
// over paths.
Outcome record_full(const Step& step) {
  const std::vector<Vendors> groups = all_vendors(step);
  Ref losses = step.leader.loss, accuracy = step.leader.accuracy;
  for (size_t g = 0; g < groups.size(); ++g) {
    losses = with_vendors(step, losses, g, groups[g].leaves);
    if (accuracy) accuracy = batch(std::vector<Ref>{accuracy}, groups[g].leaves)[0];
  }
  const Ref z = z_scores(losses);
  Outcome out{.loss = first(losses), .accuracy = accuracy ? first(accuracy) : Ref()};
  const auto axes = static_cast<int64_t>(groups.size());
  for (int64_t g = 0; g < axes; ++g) {
    Ints others;
    for (int64_t a = 0; a < axes; ++a)
      if (a != axes - 1 - g) others.push_back(a);
    const Ref weights = others.empty() ? z : fn::sum(z, others, false);
    out.directions.push_back(weighted_sum(groups[static_cast<size_t>(g)], weights));
  }
  out.losses = {fn::reshape(losses, {ix::product(losses->shape)})};
  return out;
}

}  // namespace kontor::inline v0::marketplace
