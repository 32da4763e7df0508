// Whom to believe: bans by spot checks, and what a flipped bit gives away.
#pragma once
#include <map>
#include <vector>

#include "swarm/messages.h"

namespace kontor::swarm {

/// Whether a value computed again is another one than what was said: codes of the values within the tolerance do not have what was said
/// among them.
bool contradicts(uint32_t said, int32_t found, int64_t width, int64_t tolerance);

/// The probability of `wrong` flips or more in `checked` bits of which each is flipped with probability p.
double tail(int64_t checked, int64_t wrong, double p);

/// Who was found wrong, and is out. An honest worker is banned with probability 1e-9 at most at each of its checks: without flips one
/// contradiction is enough, since its own computation has the same bits.
class Bans {
 public:
  Bans(int64_t workers, double flip)
      : checked_(static_cast<size_t>(workers)),
        wrong_(checked_.size()),
        banned_(checked_.size()),
        flip_(flip) {}
  /// Returns whether the worker is banned by this.
  bool add(uint32_t worker, bool contradicted);
  bool is_banned(uint32_t worker) const { return banned_[worker]; }
  int64_t count() const;

 private:
  std::vector<int32_t> checked_, wrong_;
  std::vector<bool> banned_;
  double flip_;
};

/// What n bits of one worker give away about its data, if it flips each bit with probability p (Dwork et al. 2010, theorem III.3 for
/// the composition).
struct Privacy {
  double report;    ///< epsilon of one bit: ln((1 - p) / p); infinite for p = 0
  double sum;       ///< of n bits: n times that
  double advanced;  ///< of n bits but for a chance of `delta`
  double delta = 1e-6;
  double bits;  ///< n: no more bits leave the worker, whatever it flips
};
Privacy privacy(double flip, int64_t bits);

}  // namespace kontor::swarm
