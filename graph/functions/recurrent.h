// Recurrent layers: what a Call of one computes. Their number of steps is fixed; the graph has each of them.
#pragma once
#include "graph/functions/formula.h"

namespace kontor::fn {

/// gates [batch, n, 4 * size]: what the inputs add to input, forget, cell and output gate, in this order; weight [4 * size, size] of the
/// state; the first hidden and cell state [batch, size] -> [batch, n, 2 * size]: both states after each step (Hochreiter and
/// Schmidhuber 1997; PyTorch's formulas).
Ref lstm(const Ref& gates, const Ref& weight, const Ref& hidden, const Ref& cell);
/// gates [batch, n, 3 * size]: of reset, update and new state; weight [3 * size, size] and bias [3 * size] of the state; the first
/// hidden state [batch, size] -> [batch, n, size] (Cho et al. 2014; PyTorch's formulas).
Ref gru(const Ref& gates, const Ref& weight, const Ref& bias, const Ref& hidden);
/// A value that is kept in memory: what one step hands to the next is not computed again by those that come after.
inline Term stored(const Term& x) { return Term(make(Op::Copy, {x.node})); }
/// [batch, size] of each step -> [batch, n, size], of at least one.
Ref over_time(const std::vector<Ref>& steps);
/// One of so many equal parts of the last axis.
Term gate(const Term& gates, int64_t parts, int64_t which);

}  // namespace kontor::fn
