// Forks: a ledger told otherwise, which everybody can replay as the first.
#pragma once
#include "swarm/ledger.h"
#include "swarm/task.h"

namespace kontor::swarm {

struct Forked {
  Digest head = {};
  int64_t steps = 0, left_out = 0;  ///< records; reports
};
/// Writes a new ledger at `path`: the records of `from` with those workers' reports left out from step `step` on, and the states that follow
/// from the rest. Slots and seeds are the origin's; the key that signs it is drawn and forgotten. The task is left with the last state.
/// Throws Error if `from` does not hold, has no such step or worker, says another state before that step than there is, or if the file is
/// there.
Forked fork(const Ledger& from, Task& task, const std::string& path, int64_t step,
            std::span<const uint32_t> without);

}  // namespace kontor::swarm
