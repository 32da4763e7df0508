// What Calls of recurrent layers (graph/functions/recurrent.h) hand back, step by step from the last one.
#pragma once
#include "graph/transforms/tape.h"

namespace kontor {

void lstm_back(Tape& to, const Node& n, const Term& g);
void gru_back(Tape& to, const Node& n, const Term& g);

}  // namespace kontor
