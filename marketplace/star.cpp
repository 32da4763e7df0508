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
    out.directions.push_back(weighted_sum(groups[g], difference_weights(step, g, losses)));
  }
  return out;
}

}  // namespace kontor::inline v0::marketplace
