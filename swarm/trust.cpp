// Spot checks, bans, privacy.
#include "swarm/trust.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "swarm/votes.h"

namespace kontor::swarm {

bool contradicts(uint32_t said, int32_t found, int64_t width, int64_t tolerance) {
  constexpr int64_t most = (1 << 23) - 1;
  const auto near = [&](int64_t by) {
    return code_of(static_cast<int32_t>(std::clamp<int64_t>(found + by, -most, most)), width);
  };
  const auto [least, greatest] =
      std::minmax({near(-tolerance), near(tolerance)});  // a bit of 1 is the lesser value
  return said < least || said > greatest;
}

double tail(int64_t checked, int64_t wrong, double p) {
  double sum = 0;
  const auto n = static_cast<double>(checked);
  for (int64_t k = wrong; k <= checked; ++k) {
    const auto x = static_cast<double>(k);
    if (p == 0) return wrong > 0 ? 0 : 1;
    sum += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) + x * std::log(p) +
                    (n - x) * std::log1p(-p));
  }
  return std::min(sum, 1.0);
}

bool Bans::add(uint32_t worker, bool contradicted) {
  ++checked_[worker];
  if (contradicted) ++wrong_[worker];
  if (!contradicted || banned_[worker]) return false;
  banned_[worker] = tail(checked_[worker], wrong_[worker], flip_) < 1e-9;
  return banned_[worker];
}

int64_t Bans::count() const { return std::count(banned_.begin(), banned_.end(), true); }

Privacy privacy(double flip, int64_t bits) {
  const auto n = static_cast<double>(bits);
  const double infinite = std::numeric_limits<double>::infinity();
  Privacy out{
      .report = flip > 0 ? std::log((1 - flip) / flip) : infinite, .sum = 0, .advanced = 0, .bits = n};
  if (bits == 0) return out;
  out.sum = n * out.report;
  const double e = out.report;
  out.advanced = flip > 0 ? std::sqrt(2 * n * std::log(1 / out.delta)) * e + n * e * std::expm1(e) : infinite;
  out.advanced = std::min(out.advanced, out.sum);
  return out;
}

}  // namespace kontor::swarm
