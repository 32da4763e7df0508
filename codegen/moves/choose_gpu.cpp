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

static bool has_name(std::span<const Node* const> loops, const std::string& name) {
  return std::ranges::any_of(loops, [&](const Node* l) { return l->src[0]->arg.text == name; });
}

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
  attempt([&] { rows_in_registers(); });
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

// Rows that the kernel keeps go to the threads of a warp as lanes do, and so does what it reads several times of a row in memory:
// each row is read once.
void Planner::rows_in_registers() {
  std::vector<std::string> rows;
  int64_t length = 0;
  for (const Ref& kernel = kernel_; const Node* n : topological(std::span(&kernel, 1))) {
    if (n->op != Op::Place || tree::space(*n) != Space::Local || n->src.size() != 1 || tree::has_fold(*n))
      continue;
    if (!n->src[0]->is_const() || extent(n->src[0]) % most_lanes != 0) continue;
    if (extent(n->src[0]) * item_size(n->dtype) <= target_.place_bytes) continue;
    rows.push_back(n->arg.text), length = extent(n->src[0]);
  }
  std::vector<std::string> along, steps;
  for (const int i : group_.stages) {
    const Stage& s = stage(i);
    if (!s.lane || !has(name_of(s.lane)) || s.folds.size() != 1 || size(name_of(s.lane)) != most_lanes)
      continue;
    steps.push_back(name_of(s.folds[0]));
    if (rows.empty()) length = std::max(length, most_lanes * size(steps.back()));
  }
  if (steps.empty() || static_cast<double>(length) * sizeof(float) > cost::row_of_warp) return;
  for (const Node* l : loops_in(kernel_))
    if (tree::kind(*l) == LoopKind::Loop && size(name_of(l->src[0])) == length)
      along.push_back(name_of(l->src[0]));
  for (const std::string& l : along) move(MoveKind::Split, l, most_lanes, l + "l");
  for (const std::string& r : rows) move(MoveKind::Part, r, most_lanes);
  // Who reads a row before who makes it: then the row is of lanes everywhere.
  for (int i : group_.stages)
    if (stage(i).lane && has(name_of(stage(i).lane))) move(MoveKind::Lane, name_of(stage(i).lane));
  for (size_t k = along.size(); k-- > 0;) move(MoveKind::Lane, along[k] + "l");
  const std::string around = outermost();
  const Ref before = kernel_;
  int kept = 0;
  for (const Ref& p : tree::params(*before)) {
    int reads = 0;
    for (const Node* n : topological(std::span(&before, 1)))
      reads += n->op == Op::Load && n->src[0] == p && !tree::at(*n).empty();
    kept += reads > 1 && attempt([&] { keep_row(around, p->arg.text); });
  }
  if (rows.empty() && kept == 0) fail("no row is used twice");
  for (const std::vector<std::string>* list : {&along, &steps})
    for (const std::string& l : *list) move(MoveKind::Unroll, l);
}

// What the loops around lanes read of a parameter is read into a row of its own first.
void Planner::keep_row(const std::string& around, const std::string& param) {
  const std::vector<const Node*> before = loops_in(kernel_);
  move(MoveKind::Pack, around, 0, param);
  std::vector<std::string> fills;
  for (const Node* l : loops_in(kernel_))
    if (name_of(l->src[0])[0] == 'f' && std::ranges::find(before, l) == before.end() &&
        !has_name(before, name_of(l->src[0])))
      fills.push_back(name_of(l->src[0]));
  if (fills.size() != 2 || size(fills[1]) != most_lanes) fail("no row of lanes");
  move(MoveKind::Lane, fills[1]);
  move(MoveKind::Unroll, fills[0]);
}

// The lanes of folds go to the threads of a warp, where nothing else in the kernel keeps them from it.
void Planner::spread_lanes() {
  for (int i : group_.stages) {
    if (!stage(i).lane || !has(name_of(stage(i).lane))) continue;
    const std::string lane = name_of(stage(i).lane);
    if (tree::kind(*find(lane)) != LoopKind::Lane && why_no_lanes(kernel_, lane).empty())
      move(MoveKind::Lane, lane);
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
