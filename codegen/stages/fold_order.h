// The promised order of arithmetic of a reduction (design section 8): a function of what was recorded, of nothing else.
#pragma once
#include "graph/folds.h"

namespace kontor {

/// Folds that may run in lanes (Sum, Prod, Max, ArgMax, ..) whose reduced axes include a trailing block of 64 elements or more run in 64 lanes: with the block
/// flattened, element j belongs to lane j mod 64, and lanes are merged in halving pairs (l with l + 32, then l + 16, ...).
/// Every other fold has one lane. Steps of a lane run in row-major order of (outer reduced axes.., j div 64), or of the
/// reduced axes. A chain of more than 4096 steps is cut: `steps` are the extents of that loop nest, the loop `chunk_loop`
/// is cut into pieces of `chunk`, loops outside it are cut into single iterations, and the partial results are folded in
/// row-major order of the pieces by the merge of the fold, in one chain. `chunk` is the largest power of two that keeps a
/// piece within 4096 steps, and at most 64 unless that loop is the innermost: pieces of a stream then hold whole ones.
struct FoldOrder {
  int64_t lanes = 1;
  int trailing = 0;        ///< number of source axes in the flattened block (0 with one lane)
  std::vector<Ref> steps;  ///< extents of the loop nest one lane runs through
  int chunk_loop = -1;     ///< -1: the chain is not cut
  int64_t chunk = 0;
};

inline constexpr int64_t fold_lanes = 64;
inline constexpr int64_t longest_chain = 4096;

/// `axes` sorted; `shape` is the source's. Symbolic extents: one lane, no cut.
FoldOrder fold_order(Fold fold, std::span<const Ref> shape, std::span<const int64_t> axes);
/// Only the cutting, for a nest of the given steps.
void cut_chain(FoldOrder& order);

}  // namespace kontor
