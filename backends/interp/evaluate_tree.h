// Runs a loop tree in plain C++: every loop is a plain loop, every place an array. The oracle of moves and renderers.
#pragma once
#include <cstdint>
#include <span>

#include "graph/node.h"

namespace kontor {

/// Runs a kernel whose k-th parameter is buffers[k] (row-major) and whose slot i is scalars[i] (8 bytes each).
/// Returns the id of the first Check that failed, or 0. Throws InternalError where the tree reads or writes outside a
/// place or before it is declared: a kernel never may. What is read of a place before it is written is 0xA5 bytes.
int64_t evaluate_tree(const Ref& kernel, std::span<void* const> buffers, std::span<const int64_t> scalars);

}  // namespace kontor
