// Moves for rows and maps on a CPU: rows get their lanes, maps get wide vectors over merged loops.
#include <algorithm>
#include <cmath>

#include "codegen/cost.h"
#include "codegen/moves/planner.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

int64_t Planner::wide(const Stage& s) const { return cost::lanes_of_map(s.values, s.place->dtype, target_); }

// Whether a loop of this name has lanes, in it or around it: those of a dot run through all nests that have its loop.
bool Planner::meets_lanes(std::span<const Ref> body, const std::string& loop, bool named, bool lanes) {
  for (const Ref& s : body) {
    if (s->op == Op::If) {
      if (meets_lanes(tree::then_body(*s), loop, named, lanes)) return true;
      if (meets_lanes(tree::else_body(*s), loop, named, lanes)) return true;
    }
    if (s->op != Op::Loop) continue;
    const bool here = named || name_of(s->src[0]) == loop;
    const bool vector = lanes || tree::kind(*s) == LoopKind::Vector;
    if ((here && vector) || meets_lanes(tree::body(*s), loop, here, vector)) return true;
  }
  return false;
}

bool Planner::meets_lanes(const std::string& loop) const {
  return meets_lanes(tree::body(*kernel_), loop, false, false);
}

void Planner::vectorise_loop(const std::string& loop, int64_t width) {
  int64_t n = size(loop);
  if (!has(loop) || (n > 0 && n < cost::least_lanes) || varying_along(Ref(find(loop)), find(loop)->src[0]))
    return;
  if (meets_lanes(loop)) return;
  if (n > 0 && n <= width) return move(MoveKind::Vectorise, loop, width);
  move(MoveKind::Split, loop, outermost() == loop ? -width : width, loop + "v");
  move(MoveKind::Vectorise, loop + "v", width);
}

bool Planner::encloses_nests(int outer_loop) const {
  for (int i : group_.stages)
    if (stage(i).level.depth > outer_loop && (stage(i).lane || has_local_loops(stage(i)))) return true;
  return false;
}

bool Planner::has_local_loops(const Stage& s) {
  return std::any_of(s.level.outer.begin(), s.level.outer.end(), [](int b) { return b < 0; });
}

void Planner::vectorise_rows() {
  int dim = root().layout.vector_dim, k = dim >= 0 ? root().level.outer[static_cast<size_t>(dim)] : -1;
  bool any_lane = std::any_of(group_.stages.begin(), group_.stages.end(),
                              [&](int i) { return stage(i).lane && stage(i).layout.vector_dim < 0; });
  if (k >= 0 && k < least_depth() && !any_lane) {
    const std::string& loop = name_of(group_.outer_loops[static_cast<size_t>(k)]);
    return vectorise_loop(loop, cost::lanes_of_row(lanes(root()), size(loop)));
  }
  vectorise_nests();
  if (k >= 0 && !encloses_nests(k))
    vectorise_loop(name_of(group_.outer_loops[static_cast<size_t>(k)]), wide(root()));
}

// Whether the lanes of a fold would be gathered, while another loop of its own nest runs along memory: then each vector
// holds one lane of several results.
bool Planner::lanes_lie_apart(const Stage& s) const {
  if (s.layout.order.empty() || s.level.outer[static_cast<size_t>(s.layout.order.back())] >= 0) return false;
  const Ref& along = s.loops[static_cast<size_t>(s.layout.order.back())];
  int votes = 0;
  for (const Ref& load : loads_in(s.values))
    votes += (stride(program_, load, along) == 1) - (stride(program_, load, s.lane) == 1);
  return votes > 0 && size(name_of(along)) >= lanes(s);
}

void Planner::vectorise_nests() {
  for (int i : group_.stages) {
    const Stage& s = stage(i);
    if (s.lane && lanes_lie_apart(s)) {
      vectorise_loop(name_of(s.loops[static_cast<size_t>(s.layout.order.back())]), wide(s));
    } else if (s.lane) {
      if (has(name_of(s.lane)) && !meets_lanes(name_of(s.lane)))
        move(MoveKind::Vectorise, name_of(s.lane), extent(s.lane->src[0]));
    } else if (!s.layout.order.empty() && s.layout.order.back() != s.scan &&
               s.level.outer[static_cast<size_t>(s.layout.order.back())] < 0 && !stands_alone(s)) {
      vectorise_loop(name_of(s.loops[static_cast<size_t>(s.layout.order.back())]), wide(s));
    }
  }
}

// The steps of a scan along memory wait for each other: those of several rows take turns, some steps of each at a time.
void Planner::chains_side_by_side() {
  if (group_.stages.size() != 1 || root().scan < 0 || root().layout.vector_dim >= 0) return;
  if (group_.outer_loops.empty()) return;
  const std::string& rows = name_of(group_.outer_loops.back());
  const std::string steps = name_of(root().loops[static_cast<size_t>(root().scan)]);
  constexpr int64_t chains = cost::rows_in_turn, together = cost::steps_in_turn;
  if (!has(rows) || chains_in_lanes(rows, steps) || size(rows) < chains) return;
  const std::string side = rows + "t", run = steps + "t";
  if (size(steps) >= 2 * together) {
    move(MoveKind::Split, steps, together, run);
    move(MoveKind::Unroll, run);
  }
  move(MoveKind::Split, rows, outermost() == rows ? -chains : chains, side);
  move(MoveKind::Unroll, side);
  move(MoveKind::Reorder, side, 0, "", {steps});
}

// A lane a row, as many steps as lanes: square blocks of memory, which the renderer turns in registers on the way in and out.
bool Planner::chains_in_lanes(const std::string& rows, const std::string& steps) {
  const int64_t item = item_size(root().place->dtype);
  double bytes = static_cast<double>(item);
  for (const Ref& loop : root().loops) bytes *= static_cast<double>(extent(loop->src[0]));
  const int64_t w = cost::rows_in_lanes(bytes, item, lanes(root()));
  if (w < cost::least_lanes || size(rows) < w || size(steps) < 2 * w) return false;
  const std::string side = rows + "v", run = steps + "t";
  return attempt([&] {
    move(MoveKind::Split, steps, w, run);
    move(MoveKind::Unroll, run);
    move(MoveKind::Split, rows, outermost() == rows ? -w : w, side);
    move(MoveKind::Vectorise, side, w);
    move(MoveKind::Reorder, side, 0, "", {steps, run});
  });
}

// A fold or scan across long rows: a block of a row that L1 holds takes its step together, so that memory is read along rows
// and not in columns of a few lines.
bool Planner::rows_step_together() {
  const Stage& s = root();
  if (group_.stages.size() != 1 || !is_fold(s) || is_dot(s) || s.lane || s.layout.vector_dim < 0)
    return false;
  const std::string& along = name_of(s.loops[static_cast<size_t>(s.layout.vector_dim)]);
  if (!has(along) || !cost::pays_row_blocks(size(along) * item_size(s.place->dtype)) || stands_alone(s))
    return false;
  std::vector<std::string> steps;
  if (s.scan >= 0) steps.push_back(name_of(s.loops[static_cast<size_t>(s.scan)]));
  for (const Ref& f : s.folds) steps.push_back(name_of(f));
  const bool shared = outermost() == along || !cost::enough_shares(size(outermost()), target_);
  const int64_t block = cost::block_of_row(size(along), shared), width = wide(s);
  return attempt([&] {
    std::string row = along;
    if (size(along) > block) move(MoveKind::Split, along, shared ? -block : block, row = along + "b");
    move(MoveKind::Split, row, width, along + "v");
    move(MoveKind::Vectorise, along + "v", width);
    move(MoveKind::Reorder, along + "v", 0, "", steps);
    move(MoveKind::Reorder, row, 0, "", steps);
  });
}

// Divisions that a merge leaves in the addresses.
size_t Planner::divisions(const Ref& kernel) {
  std::vector<Ref> positions;
  for (const Node* n : topological(std::span(&kernel, 1)))
    if (n->op == Op::Load || n->op == Op::Store)
      positions.push_back(ix::flatten(tree::at(*n), tree::dims(*n->src[0])));
  size_t count = 0;
  for (const Node* n : topological(positions)) count += n->op == Op::IDiv || n->op == Op::Mod;
  return count;
}

void Planner::merge_contiguous() {
  std::vector<std::string> loops;
  for (const Ref& r : group_.outer_loops)
    if (has(name_of(r))) loops.push_back(name_of(r));
  for (size_t k = loops.size(); k-- > 1;) {
    Ref merged = merge(kernel_, loops[k - 1], loops[k]);
    if (divisions(merged) > divisions(kernel_)) continue;
    move(MoveKind::Merge, loops[k - 1], 0, loops[k]);
  }
}

void Planner::plan_map() {
  merge_contiguous();
  int dim = root().layout.vector_dim >= 0
                ? root().layout.vector_dim
                : (root().loops.empty() ? -1 : static_cast<int>(root().loops.size()) - 1);
  std::string last;
  for (const Node* l : loops_in(kernel_)) last = l->src[0]->arg.text;
  std::string wanted = dim >= 0 ? name_of(root().loops[static_cast<size_t>(dim)]) : "";
  std::string loop = has(wanted) ? wanted : last;
  if (loop.empty()) return;
  if (loop == wanted && outermost() != loop && block_lines(loop)) return share_out();
  if (outermost() == loop && size(loop) >= 2 * cost::map_share) {
    move(MoveKind::Split, loop, -cost::map_share, loop + "s");
    vectorise_loop(loop + "s", wide(root()));
  } else {
    vectorise_loop(loop, wide(root()));
  }
  share_out();
}

// Lanes far apart in memory: the lines that they touch hold the next iterations of another loop, a block of which runs
// while the lines are near. Returns that loop's name, or "".
std::string Planner::loop_of_lines(const std::string& lanes) const {
  for (const Node* n : topological(std::span(&kernel_, 1))) {
    if (n->op != Op::Load || tree::space(*n->src[0]) != Space::Param) continue;
    const Ref position = ix::flatten(tree::at(*n), tree::dims(*n->src[0]));
    int64_t apart = 0;
    if (!ix::affine(position, find(lanes)->src[0], apart) || std::abs(apart) < cost::line) continue;
    for (const Node* l : loops_in(kernel_))
      if (ix::affine(position, l->src[0], apart) && apart == 1) return name_of(l->src[0]);
  }
  return "";
}

// A transpose: true if it is one, and blocks were made. A square one of a few lanes is transposed in registers.
bool Planner::block_lines(const std::string& loop) {
  const std::string other = loop_of_lines(loop);
  const int64_t block = lanes(root());
  if (other.empty() || size(other) < 2 * block || size(loop) < 2 * block) return false;
  move(MoveKind::Split, other, outermost() == other ? -block : block, other + "b");
  move(MoveKind::Split, loop, block, loop + "v");
  move(MoveKind::Reorder, other + "b", 0, "", {loop});
  if (block <= cost::turned_lanes) move(MoveKind::Unroll, other + "b");
  move(MoveKind::Vectorise, loop + "v", block);
  return true;
}

}  // namespace kontor
