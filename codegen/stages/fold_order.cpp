// The promised order of arithmetic of a reduction.
#include "codegen/stages/fold_order.h"

#include <algorithm>
#include <bit>

#include "graph/index/index.h"

namespace kontor {

static int trailing_block(size_t rank, std::span<const int64_t> axes) {
  int n = 0;
  while (static_cast<size_t>(n) < axes.size() &&
         axes[axes.size() - 1 - static_cast<size_t>(n)] == static_cast<int64_t>(rank) - 1 - n)
    n++;
  return n;
}

static bool all_static(std::span<const Ref> dims) {
  return std::all_of(dims.begin(), dims.end(), [](const Ref& d) { return d->is_const(); });
}

// Iterations in a piece of a loop whose body has a chain of `inner` steps.
static int64_t piece_of(int64_t longest, int64_t inner) {
  const int64_t most =
      static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(1, longest / inner))));
  return inner == 1 ? most : std::min(most, fold_lanes);
}

static void cut_chain(FoldOrder& order, int64_t longest) {
  if (!all_static(order.steps)) return;
  int64_t inner = 1;
  for (size_t q = order.steps.size(); q-- > 0;) {
    int64_t e = extent(order.steps[q]);
    if (inner * e > longest) {
      order.chunk_loop = static_cast<int>(q);
      order.chunk = piece_of(longest, inner);
      return;
    }
    inner *= e;
  }
}

FoldOrder fold_order(Fold fold, std::span<const Ref> shape, std::span<const int64_t> axes) {
  FoldOrder order;
  int block = row(fold).lanes ? trailing_block(shape.size(), axes) : 0;
  Ref length = ix::product(shape.last(static_cast<size_t>(block)));
  bool lanes = block > 0 && all_static(shape) && extent(length) >= fold_lanes;
  if (lanes) {
    order.lanes = fold_lanes;
    order.trailing = block;
  }
  size_t outer = axes.size() - static_cast<size_t>(order.trailing);
  for (size_t i = 0; i < outer; i++) order.steps.push_back(shape[static_cast<size_t>(axes[i])]);
  if (lanes) order.steps.push_back(ix::ceil_div(length, index(fold_lanes)));
  if (row(fold).splits) cut_chain(order, longest_chain(row(fold).is_dot));
  return order;
}

std::vector<Ref> pieces_of(const FoldOrder& order) {
  const size_t cut = static_cast<size_t>(order.chunk_loop);
  std::vector<Ref> counts(order.steps.begin(), order.steps.begin() + order.chunk_loop);
  counts.push_back(ix::ceil_div(order.steps[cut], index(order.chunk)));
  return counts;
}

}  // namespace kontor
