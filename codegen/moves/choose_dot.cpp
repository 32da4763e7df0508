// Moves for a dot on a CPU: a register tile of vectors along the dimension in which one operand is contiguous, repeated along
// one that the other alone depends on; a packed panel where rows lie far apart.
#include <algorithm>

#include "base/error.h"
#include "codegen/cost.h"
#include "codegen/moves/planner.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

// Whether the rows that the tile repeats are so far apart that their lines share the ways of an L1 cache.
bool Planner::rows_share_ways(const Stage& dot) const {
  if (dot.layout.unroll_dim < 0) return false;
  const Ref& range = dot.loops[static_cast<size_t>(dot.layout.unroll_dim)];
  for (const Ref& load : loads_in(dot.values)) {
    int64_t apart = stride(program_, load, range);
    if (apart != cost::irregular && cost::share_ways(apart * item_size(load->dtype))) return true;
  }
  return false;
}

// The operand that is contiguous along the vector dimension, if it is a parameter.
const Node* Planner::vector_operand(const Stage& dot) const {
  const Ref& range = dot.loops[static_cast<size_t>(dot.layout.vector_dim)];
  for (const Ref& v : dot.values)
    for (const Ref& l : loads_in(std::span(&v, 1)))
      if (ix::depends_on(l, range)) return l.get();
  return nullptr;
}

// Whether its rows lie so far apart, and are read so often, that a packed panel pays.
bool Planner::wants_panel(const Stage& dot, int64_t times) const {
  if (dot.layout.panel >= 0) return true;
  const Node* operand = vector_operand(dot);
  if (!operand || dot.folds.empty() || tree::guard(*operand)) return false;
  int number = tree::space(*operand->src[0]) == Space::Param ? -1 : stage_number(program_, operand->src[0]);
  if (number >= 0 && !stage(number).level.leaves_kernel) return false;
  int64_t steps = 1;
  for (const Ref& fold : dot.folds) {
    if (!fold->src[0]->is_const() || stride(program_, Ref(operand), fold) == cost::irregular) return false;
    steps *= extent(fold->src[0]);
  }
  const int64_t step = stride(program_, Ref(operand), dot.folds.back());
  return cost::pays_panel(times, step * item_size(operand->dtype), steps);
}

bool Planner::tile(const Stage& dot) {
  std::string v = name_of(dot.loops[static_cast<size_t>(dot.layout.vector_dim)]);
  std::string u =
      dot.layout.unroll_dim >= 0 ? name_of(dot.loops[static_cast<size_t>(dot.layout.unroll_dim)]) : "";
  if (few_uneven_shares()) others_outside(outermost(), v);
  repeats_near(dot, u, v);
  v = joined_rows(dot, v);
  int64_t length = size(v), repeats = has(u) ? size(u) : 1;
  if (length < 2 || repeats == 0) return false;
  const int64_t w = lanes(dot);
  const bool turned = dot.layout.way == OperandWay::Turned;
  const cost::Tile t =
      turned ? cost::tile_of(w, w, repeats, rows_share_ways(dot), target_.vector_registers - w)
             : cost::tile_of(length, w, repeats, rows_share_ways(dot), target_.vector_registers);
  if (turned && repeats == 1 && two_turned(dot, v, w)) return true;
  const int64_t block = t.vectors * w, tiles = repeats / t.rows;
  const bool panel = wants_panel(dot, tiles);
  if (has(u) && outermost() == u && !cost::enough_shares(tiles, target_)) others_outside(u, v);
  bool v_outermost = outermost() == v || (panel && outermost() == u);
  std::string inner = v;
  if (length > block) {
    inner = v + "t";
    move(MoveKind::Split, v, v_outermost ? -block : block, inner);
    if (panel) move(MoveKind::Reorder, u, 0, "", {v});
    else keep_vectors_near(dot, u, v);
  }
  if (repeats > 1) repeat(u, t.rows, repeats);
  lanes_of(inner, w);
  if (turned) turn_blocks(dot, w);
  if (panel && length > block) pack_panel(dot, v, inner);
  return true;
}

// Rows that fill vectors badly (24 of 16 lanes) run together with the loop around them, where the result is contiguous
// over both and half a vector never goes across the end of a row. Returns the loop of the lanes.
std::string Planner::joined_rows(const Stage& dot, const std::string& v) {
  const int64_t w = lanes(dot), length = size(v);
  if (length % w == 0 || length % (w / 2) != 0 || w / 2 < cost::least_lanes) return v;
  const Node* around = loop_around(v);
  if (!around || varying_along(Ref(around), around->src[0]) || !around->src[0]->src[0]->is_const()) return v;
  for (const Ref& load : loads_in(dot.values)) {
    const bool of_lanes = stride(program_, load, dot.loops[static_cast<size_t>(dot.layout.vector_dim)]) == 1;
    if (tree::guard(*load) || (!of_lanes && stride(program_, load, around->src[0]) != 0)) return v;
  }
  const std::string outer = name_of(around->src[0]);
  const Ref merged = merge(kernel_, outer, v);
  if (size(outer) * length % w != 0 || stores_divide(merged)) return v;
  move(MoveKind::Merge, outer, 0, v);
  return outer;
}

// Loops along which the vector operand does not vary run inside of a tile's vectors, while these are in L1.
void Planner::keep_vectors_near(const Stage& dot, const std::string& u, const std::string& v) {
  const Node* operand = vector_operand(dot);
  if (!operand || outermost() == v) return;
  for (const Ref& r : group_.outer_loops) {
    const std::string& loop = name_of(r);
    if (loop == u || loop == v || loop == outermost() || ix::depends_on(Ref(operand), r)) continue;
    const Node* around = find(loop);
    if (around && !varying_along(Ref(around), around->src[0]) && encloses(*around, v))
      move(MoveKind::Reorder, loop, 0, "", {u, v});
  }
}

bool Planner::encloses(const Node& loop, const std::string& inner) {
  const std::vector<const Node*> inside = loops_in(Ref(&loop));
  return std::any_of(inside.begin(), inside.end(),
                     [&](const Node* l) { return name_of(l->src[0]) == inner; });
}

// The loop of which this one is the whole body; null if there is none.
const Node* Planner::loop_around(const std::string& loop) const {
  for (const Node* l : loops_in(kernel_)) {
    std::span<const Ref> body = tree::body(*l);
    if (body.size() == 1 && body[0]->op == Op::Loop && name_of(body[0]->src[0]) == loop) return l;
  }
  return nullptr;
}

bool Planner::stores_divide(const Ref& kernel) {
  std::vector<Ref> positions;
  for (const Node* n : topological(std::span(&kernel, 1)))
    if (n->op == Op::Store && tree::space(*n->src[0]) == Space::Param)
      positions.push_back(ix::flatten(tree::at(*n), tree::dims(*n->src[0])));
  const std::vector<const Node*> nodes = topological(positions);
  return std::any_of(nodes.begin(), nodes.end(),
                     [](const Node* n) { return n->op == Op::IDiv || n->op == Op::Mod; });
}

// The pieces of a chain: the last is shorter, and threads that share out few of them wait for each other.
bool Planner::few_uneven_shares() const {
  const Node* first = find(outermost());
  return first && !cost::enough_shares(size(outermost()), target_) &&
         varying_along(Ref(first), first->src[0]);
}

// Too few tiles to share out: the other outer loops go outside of them.
void Planner::others_outside(const std::string& u, const std::string& v) {
  std::vector<std::string> others;
  for (const Ref& r : group_.outer_loops)
    if (name_of(r) != u && name_of(r) != v && has(name_of(r))) others.push_back(name_of(r));
  if (!others.empty()) move(MoveKind::Reorder, u, 0, "", others);
}

// Loops inside of the tile's rows that both operands vary along (heads of attention) go outside of them: what has the lanes is read
// again for the next rows, while it is in L1.
void Planner::repeats_near(const Stage& dot, const std::string& u, const std::string& v) {
  if (!has(u) || outermost() == u) return;  // the outermost is shared out
  std::vector<std::string> others;
  for (const Ref& r : group_.outer_loops) {
    const std::string& loop = name_of(r);
    const bool of_both = ix::depends_on(dot.values[0], r) && ix::depends_on(dot.values[1], r);
    if (loop == u || loop == v || !has(loop) || !of_both) continue;
    const Node* rows = find(u);
    if (rows && encloses(*rows, loop) && !varying_along(Ref(rows), rows->src[0])) others.push_back(loop);
  }
  if (!others.empty()) move(MoveKind::Reorder, u, 0, "", others);
}

void Planner::repeat(const std::string& u, int64_t count, int64_t of) {
  std::string inner = u;
  if (of > count) {
    inner = u + "t";
    move(MoveKind::Split, u, outermost() == u ? -count : count, inner);
  }
  move(MoveKind::Unroll, inner);
  move(MoveKind::Reorder, inner);
}

void Planner::lanes_of(const std::string& loop, int64_t w) {
  std::string lane = loop;
  if (size(loop) > w) {
    lane = loop + "v";
    move(MoveKind::Split, loop, w, lane);
    if (has(loop)) {
      move(MoveKind::Unroll, loop);
      move(MoveKind::Reorder, loop);
    }
  }
  move(MoveKind::Vectorise, lane, w);
  move(MoveKind::Reorder, lane);
}

// Steps that read a square block of words, as many as there are lanes.
int64_t Planner::steps_of_block(const Stage& dot, int64_t w) const {
  const Node* operand = vector_operand(dot);
  const int64_t words = operand ? w * word_bytes / item_size(operand->dtype) : w;
  return words > w && size(name_of(dot.folds.back())) % words == 0 ? words : w;
}

// One vector of sums alone waits for each step. Blocks of several elements in a word are turned so much sooner that a second
// vector has its steps meanwhile (bf16 of 384 x 1,536: 37.4 -> 35.3 us, of 1,536 x 384 40.1 -> 35.4; blocks of f32 do not fit the registers).
bool Planner::two_turned(const Stage& dot, const std::string& v, int64_t w) {
  const std::string steps = name_of(dot.folds.back()), side = v + "t", lane = side + "v",
                    together = steps + "u";
  const int64_t block = steps_of_block(dot, w);
  if (block == w || size(v) % (2 * w) != 0 || size(steps) < 2 * block) return false;
  if (!cost::enough_shares(size(v) / (2 * w), target_)) return false;
  return attempt([&] {
    move(MoveKind::Split, v, outermost() == v ? -2 * w : 2 * w, side);
    move(MoveKind::Split, side, w, lane);
    move(MoveKind::Reorder, lane);
    move(MoveKind::Split, steps, block, together);
    move(MoveKind::Reorder, side, 0, "", {steps});
    move(MoveKind::Unroll, side);
    move(MoveKind::Vectorise, lane, w);
    move(MoveKind::Unroll, together);
  });
}

// The steps of a block, one after another.
void Planner::turn_blocks(const Stage& dot, int64_t w) {
  const std::string steps = name_of(dot.folds.back()), together = steps + "u";
  const int64_t block = steps_of_block(dot, w);
  if (size(steps) > block) move(MoveKind::Split, steps, block, together);
  move(MoveKind::Unroll, has(together) ? together : steps);
}

// The name of the place that the dot folds into.
// Where a dot is summed; null where nothing is, since a loop has no iteration.
const Node* Planner::sum_place(const Stage& dot) const {
  for (const Node* n : topological(std::span(&kernel_, 1)))
    if (n->op == Op::FoldStep && row(tree::fold_of(*n->src[0])).is_dot &&
        n->src[0]->arg.text.starts_with(dot.name))
      return n->src[0].get();
  return nullptr;
}

std::string Planner::sum_of(const Stage& dot) const {
  if (const Node* place = sum_place(dot)) return place->arg.text;
  broken("heuristic: no sum of {}", dot.name);
}

void Planner::pack_panel(const Stage& dot, const std::string& v, const std::string& inner) {
  if (dot.layout.panel >= 0) {
    move(MoveKind::Pack, v, 0, fmt::format("{}.{}", sum_of(dot), dot.layout.panel));
    if (has("f" + inner) && has("f" + inner + "v")) move(MoveKind::Merge, "f" + inner, 0, "f" + inner + "v");
    return lies_along_steps(dot) ? fill_across(dot, {"f" + inner, "f" + inner + "v"})
                                 : fill_wide(dot, "f" + inner, "f" + inner + "v");
  }
  move(MoveKind::Pack, v, 0, vector_operand(dot)->src[0]->arg.text);
  std::string lane = has("f" + inner + "v") ? "f" + inner + "v" : "f" + inner;
  if (has(lane) && size(lane) <= lanes(dot)) move(MoveKind::Vectorise, lane, lanes(dot));
}

// Whether what the panel is filled from is contiguous along the fold rather than along the vectors.
bool Planner::lies_along_steps(const Stage& dot) const {
  const Ref& range = dot.loops[static_cast<size_t>(dot.layout.vector_dim)];
  int votes = 0;
  for (const Ref& load : loads_in(std::span(&dot.values[static_cast<size_t>(dot.layout.panel)], 1)))
    votes += (stride(program_, load, dot.folds.back()) == 1) - (stride(program_, load, range) == 1);
  return votes > 0;
}

// Lanes along the steps of the fold, read side by side and scattered over a few rows of the panel, which stay near.
void Planner::fill_across(const Stage& dot, std::vector<std::string> row) {
  const std::string steps = "f" + name_of(dot.folds.back());
  std::erase_if(row, [&](const std::string& loop) { return !has(loop); });
  int64_t width = 2 * lanes(dot);
  move(MoveKind::Split, steps, width, steps + "v");
  move(MoveKind::Reorder, steps + "v", 0, "", row);
  move(MoveKind::Vectorise, steps + "v", width);
}

// Several vectors of a panel's row at once: what lanes share is computed once (a random block has two words).
void Planner::fill_wide(const Stage& dot, const std::string& vectors, const std::string& lane) {
  int64_t w = lanes(dot), n = has(vectors) ? size(vectors) : 0;
  if (n > 0) {
    const int64_t whole = cost::widest_tile * w, width = n % whole == 0 ? whole : 2 * w;
    std::string part = vectors;
    if (n > width) move(MoveKind::Split, vectors, width, part = vectors + "w");
    move(MoveKind::Vectorise, part, width);
  }
  if (has(lane)) move(MoveKind::Vectorise, lane, w);
}

}  // namespace kontor
