// Moves for a GPU: the loops that all stages share become one global range; a thread has several elements of a dot; lanes
// go to the threads of a warp.
#include <algorithm>

#include "codegen/cost.h"
#include "codegen/moves/planner.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

void Planner::gpu() {
  const Stage* dot = nullptr;
  for (int i : group_.stages)
    if (is_dot(stage(i))) dot = &stage(i);
  const bool whole = least_depth() == static_cast<int>(group_.outer_loops.size());
  const bool has_lanes =
      std::any_of(group_.stages.begin(), group_.stages.end(), [&](int i) { return !!stage(i).lane; });
  if (dot && whole && !has_lanes && target_.lanes == warp && group_tile(*dot)) return;
  const bool tiled = dot && whole && target_.lanes == warp && attempt([&] {
                       thread_tile(*dot);
                       share_out_globally();
                     });
  if (!tiled) share_out_globally();
  if (target_.lanes != warp) return;
  if (is_map()) attempt([&] { several_in_flight(); });
  spread_lanes();
}

// A thread of a large map has four elements, a quarter of all apart: neighbours read side by side, and a thread's loads are
// under way together.
void Planner::several_in_flight() {
  constexpr int64_t count = cost::in_flight;
  const std::string loop = outermost(), inner = loop + "t";
  const int64_t items = size(loop);
  if (items < cost::large_map || items % count != 0) return;
  move(MoveKind::Split, loop, items / count, inner);
  move(MoveKind::Unroll, loop);
  move(MoveKind::Reorder, loop);
  move(MoveKind::Global, inner);
}

void Planner::share_out_globally() {
  std::vector<std::string> shared;
  for (int k = 0; k < least_depth(); k++)
    if (has(name_of(group_.outer_loops[static_cast<size_t>(k)])))
      shared.push_back(name_of(group_.outer_loops[static_cast<size_t>(k)]));
  for (size_t k = 1; k < shared.size(); k++) move(MoveKind::Merge, shared[0], 0, shared[k]);
  if (!shared.empty()) move(MoveKind::Global, shared[0]);
}

// A thread has several elements of a dot, so that what it loads is used several times: along a loop on which the
// operand that neighbours read side by side does not depend, and side by side. As many as leave the GPU work items.
void Planner::thread_tile(const Stage& dot) {
  if (group_.outer_loops.size() < 2 || dot.values.size() != 2) return;
  const Ref& side = group_.outer_loops.back();
  double items = cost::iterations(group_.outer_loops);
  const auto alone_along = [&](const Ref& range, const Ref& near, const Ref& far) {
    return ix::depends_on(near, side) && !ix::depends_on(near, range) && ix::depends_on(far, range);
  };
  for (size_t k = 0; k + 1 < group_.outer_loops.size(); k++) {
    const Ref& range = group_.outer_loops[k];
    if (!alone_along(range, dot.values[0], dot.values[1]) &&
        !alone_along(range, dot.values[1], dot.values[0]))
      continue;
    items /= static_cast<double>(repeat_in_thread(range, cost::thread_rows, items));
    break;
  }
  if (ix::depends_on(dot.values[0], side) != ix::depends_on(dot.values[1], side))
    repeat_in_thread(side, cost::thread_columns, items);
}

// Splits off the largest part that divides the loop and leaves enough of the items; returns its extent.
int64_t Planner::repeat_in_thread(const Ref& range, int64_t most, double items) {
  if (!range->src[0]->is_const() || varying_along(kernel_, range)) return 1;
  const std::string loop = name_of(range), inner = loop + "t";
  for (int64_t count = most; count > 1; count /= 2) {
    if (size(loop) % count != 0 || size(loop) == count || !cost::leaves_items(items, count)) continue;
    move(MoveKind::Split, loop, count, inner);
    move(MoveKind::Unroll, inner);
    move(MoveKind::Reorder, inner);
    return count;
  }
  return 1;
}

// The lanes of folds go to the threads of a warp, where nothing else in the kernel keeps them from it.
void Planner::spread_lanes() {
  for (int i : group_.stages) {
    if (!stage(i).lane || !has(name_of(stage(i).lane))) continue;
    if (why_no_lanes(kernel_, name_of(stage(i).lane)).empty()) move(MoveKind::Lane, name_of(stage(i).lane));
  }
  for (const std::string& loop : rows_to_memory())
    if (why_no_lanes(kernel_, loop).empty()) move(MoveKind::Lane, loop);
}

// Innermost serial loops that do nothing but store rows, which fill at least half a warp.
std::vector<std::string> Planner::rows_to_memory() const {
  std::vector<std::string> found;
  for (const Node* l : loops_in(kernel_)) {
    if (tree::kind(*l) != LoopKind::Loop || size(name_of(l->src[0])) < warp / 2) continue;
    const auto stores = [&](const Ref& s) {
      return s->op == Op::Store && tree::space(*s->src[0]) == Space::Param && !tree::at(*s).empty() &&
             tree::at(*s).back() == l->src[0];
    };
    const std::span<const Ref> body = tree::body(*l);
    if (std::all_of(body.begin(), body.end(), stores)) found.push_back(name_of(l->src[0]));
  }
  return found;
}

}  // namespace kontor
