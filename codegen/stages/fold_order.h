// The promised order of arithmetic of a reduction (design section 8): a function of what was recorded, of nothing else.
#pragma once
#include "graph/folds.h"

namespace kontor {

/// Folds that may run in lanes (Sum, Prod, Max, ArgMax, ..) whose reduced axes include a trailing block of 64 elements or more run in 64 lanes: with the block
/// flattened, element j belongs to lane j mod 64, and lanes are merged in halving pairs (l with l + 32, then l + 16, ...).
/// Every other fold has one lane. Steps of a lane run in row-major order of (outer reduced axes.., j div 64), or of the
/// reduced axes. A chain of more than `longest_chain` steps is cut if the fold joins partial results: `steps` are the extents of
/// that loop nest, the loop `chunk_loop` is cut into pieces of `chunk`, loops outside it are cut into single iterations. The
/// pieces' results, [pieces.., axes that are kept..], are folded over the pieces by the merge of the fold, in the order that a
/// fold of such an array has. `chunk` is the largest power of two that keeps a piece within the longest chain, and at most 64
/// unless that loop is the innermost: pieces of a stream then hold whole ones.
struct FoldOrder {
  int64_t lanes = 1;
  int trailing = 0;        ///< number of source axes in the flattened block (0 with one lane)
  std::vector<Ref> steps;  ///< extents of the loop nest one lane runs through
  int chunk_loop = -1;     ///< -1: the chain is not cut
  int64_t chunk = 0;
};

inline constexpr int64_t fold_lanes = 64;
/// [steps] of a chain. A dot's stay in registers, of many at once; of the others a GPU wants many, and short ones.
constexpr int64_t longest_chain(bool dot) { return dot ? 4096 : 1024; }

/// `axes` sorted; `shape` is the source's. Symbolic extents: one lane, no cut.
FoldOrder fold_order(Fold fold, std::span<const Ref> shape, std::span<const int64_t> axes);
/// Extents of the loops over the pieces of a chain that is cut, outermost first.
std::vector<Ref> pieces_of(const FoldOrder& order);

}  // namespace kontor
