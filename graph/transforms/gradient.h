// Reverse-mode gradient: one table of rules over ops and named Calls, one iterative driver.
#pragma once
#include <vector>

#include "graph/functions/functions.h"

namespace kontor {

/// d loss / d x for each x of `wrt` (Buffers, Marks, or any node the loss is computed from); zeros where the loss does
/// not depend on x. Nothing passes through a Call "detach", integers or comparisons. Throws Error if the loss is not
/// one float.
///
/// Where a maximum (or minimum) is reached more than once, its gradient is shared equally.
std::vector<Ref> gradient(const Ref& loss, std::span<const Ref> wrt);

/// Whether the table has a row for `op` (a rule, or that nothing passes through); every op of a graph must.
bool has_gradient_row(Op op);

}  // namespace kontor
