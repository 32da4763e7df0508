// What the two halves of fuse() share: who reads what, and the merging of kernels that stand side by side.
#pragma once
#include <span>
#include <vector>

#include "codegen/stages/stage.h"

namespace kontor {

/// The loads of each stage, sorted by what they read, and the stages that read each.
struct Reads {
  struct Read {
    int from;  ///< number of the stage, or -1 for an input
    Ref load;
  };
  explicit Reads(const ProgramTree& of);
  /// The loads of stage `from` in stage `reader`.
  std::span<const Read> of(int reader, int from) const;
  /// After the loops of a stage were renamed.
  void renew(int stage);

  const ProgramTree& program;
  std::vector<std::vector<Read>> loads;   ///< by stage
  std::vector<std::vector<int>> readers;  ///< by stage, in program order
};

/// Replaces loops of a stage in all that it evaluates.
void rename(Stage& stage, const Substitution& loops);

/// Kernels over equal loops that read something in common and do not need each other become one. Sorts the groups into an
/// order in which they may run.
void merge_siblings(ProgramTree& program, Reads& reads);

}  // namespace kontor
