// The rules: what each op makes of data and exponents, a row an op.
#pragma once
#include "graph/ops.h"
#include "scalify/scaled.h"

namespace kontor::scalify {

/// The node of data whose sources are those of `step`, of which at least one is a float (or the node itself is). Every op of a graph
/// has a row but Call (scalify/calls.h). Throws InternalError for an op that no graph has.
Scaled scaled(const Step& step);
bool has_rule(Op op);

}  // namespace kontor::scalify
