// The heuristic: a list of moves for a kernel from what the device is alone, without measuring.
#pragma once
#include "codegen/moves/moves.h"
#include "codegen/stages/stage.h"

namespace kontor {

struct Moved {
  std::vector<Move> moves;
  Ref tree;  ///< after them
};
/// Moves for the tree of `group`, already normalised.
Moved choose_moves(const ProgramTree& program, const Group& group, const Ref& tree, const Target& target);
/// Operations that the group takes, in the unit of codegen/cost.h.
double work_of(const ProgramTree& program, const Group& group);

}  // namespace kontor
