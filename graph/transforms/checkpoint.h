// Recomputation: the gradient of a Call "checkpoint" makes the Call's body anew, from its arguments, when its turn comes.
#pragma once
#include "graph/transforms/tape.h"

namespace kontor {

/// The queries alone are held, and so the scores are computed again: keys and values lie as they are.
void attention_back(Tape& to, const Node& n, const Term& g);
void checkpoint_back(Tape& to, const Node& n, const Term& g);

}  // namespace kontor
