// Lanes as a warp has them: thread t of 32 has lanes 2 t and 2 t + 1 of each 64, which lie side by side in memory.
#pragma once
#include "codegen/tree/tree.h"
#include "graph/node_map.h"

namespace kontor::clike {

/// A kernel whose Lane loops are what one thread does of them:
///   lane l 128: s[l] <- x[l]     ->     lane k 2 { unroll u 2: s[k * 2 + u] <- x[k * 64 + t * 2 + u] }
struct Turns {
  Ref kernel, thread;  // t, a Range of `warp`; null where there are no lanes
  NodeSet spread;      ///< places of which each thread has its lanes' elements alone, in the last dimension
};
Turns lanes_as_turns(const Ref& kernel);

}  // namespace kontor::clike
