// Star: one group at a time around one leader. Source: spec of the project, "one-at-a-time design".
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

// D = sum over vendors of -3/(sigma^2 n) (loss_v - loss of the leader) delta_v.
Outcome record_star(const Step& step) {
  const std::vector<Vendors> groups = all_vendors(step);
  Outcome out;
  for (size_t g = 0; g < groups.size(); ++g) {
    const Ref losses = with_vendors(step, step.leader.loss, g, groups[g].leaves);
    out.losses.push_back(losses);
    const Ref factor =
        fn::div(-3.0 / static_cast<double>(step.vendors(g)), fn::mul(step.in.sigma, step.in.sigma));
    const Ref difference = fn::sub(losses, fn::splat(step.leader.loss, losses->shape));
    out.directions.push_back(weighted_sum(groups[g], fn::mul(difference, fn::splat(factor, losses->shape))));
  }
  return out;
}

}  // namespace kontor::inline v0::marketplace
