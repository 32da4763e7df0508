// Star: one group at a time around one leader, whose activations up to the group serve all its vendors.
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

// D = sum over vendors of -3/(sigma^2 n) (loss_v - loss of the leader) delta_v: an estimate of -gradient (uniform deltas
// have a variance of sigma^2/3).
Outcome record_star(const Step& step) {
  const std::vector<Vendors> groups = all_vendors(step);
  Outcome out;
  for (size_t g = 0; g < step.groups(); ++g) {
    const Ref losses = with_vendors(step, step.leader.loss, g, groups[g].leaves);
    out.losses.push_back(losses);
    const double factor = -inverse_variance(step.options.noise) / static_cast<double>(step.vendors(g));
    const Ref scale = fn::div(factor, fn::square(step.sigma(g)));
    const Ref difference = fn::sub(losses, fn::splat(step.leader.loss, losses->shape));
    const Ref weights = fn::mul(fn::where(finite(losses), difference, 0.0), fn::splat(scale, losses->shape));
    out.directions.push_back(weighted_sum(groups[g], weights));
  }
  return out;
}

}  // namespace kontor::inline v0::marketplace
