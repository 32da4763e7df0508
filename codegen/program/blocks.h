// Blocks: streams whose pieces are loops of one kernel, in place of launches. What lies between the kernels of a piece becomes
// a place inside the loop, so that each share of the work has its own, in its caches.
//
//   stream j0 128 by 32: k0, k1           kernel k0_k1
//     k0: thread i: s[i, k] = ..            thread j0_block 4
//     k1: thread i: o[$0 + i] = f(s)          s f32[32, 64]
//                                             loop i: s[i, k] = ..
//                                             loop i: o[j0_block * 32 + i] = f(s)
#pragma once
#include <vector>

#include "codegen/schedule.h"
#include "codegen/stages/stage.h"

namespace kontor {

/// A kernel before buffers have numbers.
struct PlannedKernel {
  ScheduledKernel kernel;
  std::vector<BufferRef> buffers;  ///< for each parameter of the tree
};

/// Makes the kernels of each block one kernel, and takes the blocks out of the program's streams. Throws Error where a block
/// can't be a loop: its decision, with why.
void join_blocks(ProgramTree& program, std::vector<PlannedKernel>& kernels, const Target& target);

}  // namespace kontor
