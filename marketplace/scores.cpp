// From losses to scores. A loss that is not finite counts as if its vendor were not there.
#include <limits>

#include "marketplace/paths.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

Ref finite(const Ref& x) { return fn::unary("isfinite", x); }

Scores z_scores(const Ref& losses) {
  const Ref good = finite(losses);
  const Ref count = fn::sum(fn::cast(good, DType::F32), {}, false);
  const auto mean_of = [&](const Ref& x, const Ref& n) {
    return fn::div(fn::sum(fn::where(good, x, 0.0), {}, false), fn::maximum(n, 1.0));
  };
  const Ref mean = mean_of(losses, count);
  const Ref centred = fn::sub(losses, fn::splat(mean, losses->shape));
  const Ref deviation = fn::sqrt(mean_of(fn::square(centred), fn::sub(count, 1.0)));
  const Ref some = fn::gt(deviation, 0.0);
  const Ref z = fn::div(fn::neg(centred), fn::splat(fn::where(some, deviation, 1.0), losses->shape));
  return {fn::where(good, z, 0.0), mean, deviation};
}

Ref least(const Ref& losses) {
  return fn::argmin(fn::where(finite(losses), losses, std::numeric_limits<double>::infinity()), 0, false);
}

// With n vendors, n - 1 of them perturbed, and m_v the mean loss of vendor v: the expectation of
// sum over v of (m_v - mean) delta_v is (n - 1)^2 / n E[delta^2] gradient, and sum of z = -(losses / n) (m_v - mean) /
// deviation.
Ref estimate_factor(const Step& step, size_t g, const Ref& deviation, int64_t losses) {
  const auto n = static_cast<double>(step.vendors(g));
  const double factor =
      n / static_cast<double>(losses) * n / ((n - 1) * (n - 1)) * inverse_variance(step.options.noise);
  return fn::div(fn::mul(deviation, factor), fn::square(step.sigma(g)));
}

std::vector<Ref> best_vendors(const Step& step, std::span<const std::vector<BatchedLeaf>> leaves) {
  if (step.row.crossed) {
    const Crossing crossing = cross(step, std::vector<Ref>{step.leader.loss}, leaves);
    return vendors_of_path(step, crossing, least(crossing.values[0]));
  }
  std::vector<Ref> out;
  for (size_t g = 0; g < step.groups(); ++g)
    out.push_back(least(with_vendors(step, step.leader.loss, g, leaves[g])));
  return out;
}

}  // namespace kontor::inline v0::marketplace
