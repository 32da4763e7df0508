// Moves for a dot on a GPU whose operands go through shared memory: a group of threads has a tile of the result, and reads what
// some steps need of both operands into panels that all of its threads use. Sums of pairs go by matrix instructions.
#include <algorithm>

#include "codegen/cost.h"
#include "codegen/moves/planner.h"
#include "codegen/tree/groups.h"
#include "graph/index/index.h"

namespace kontor {

/// An operand: the loops that it alone depends on, which become one, and the names of that one's parts within a tile, outer to
/// inner.
struct Planner::Side {
  int operand;
  std::vector<Ref> loops = {};
  int64_t tile = 0;
  std::vector<std::string> parts = {};
  bool along_steps = false;  // it lies in memory along the fold, not along its own loop
  const std::string& name() const { return loops[0]->arg.text; }
};

namespace {

int64_t product_of(std::span<const Ref> loops) {
  int64_t n = 1;
  for (const Ref& l : loops) n *= extent(l->src[0]);
  return n;
}

/// The fewest of the last loops that are a multiple of one of the numbers together, the earlier number if one can be had; all
/// of them if none can.
std::vector<Ref> last_of(std::span<const Ref> loops, std::span<const int64_t> multiples) {
  for (const int64_t m : multiples)
    for (size_t k = loops.size(); k-- > 0;)
      if (product_of(loops.subspan(k)) % m == 0)
        return {loops.begin() + static_cast<std::ptrdiff_t>(k), loops.end()};
  return {loops.begin(), loops.end()};
}

/// The first tile that divides the result and leaves the whole GPU work, else the last that divides it; none: no rows.
cost::GroupTile tile_for(std::span<const cost::GroupTile> tiles, int64_t rows, int64_t columns,
                         double others) {
  cost::GroupTile found = {0, 0};
  for (const cost::GroupTile& t : tiles) {
    if (rows % t.rows != 0 || columns % t.columns != 0) continue;
    found = t;
    if (others * static_cast<double>(rows / t.rows * (columns / t.columns)) >= t.groups) break;
  }
  return found;
}

}  // namespace

// Which loops a tile has, if the dot is one: every other loop, a batch say, is one more number of the group.
bool Planner::group_tile(const Stage& dot) {
  if (dot.values.size() != 2 || dot.folds.empty() || tree::parallel_loop(*kernel_)) return false;
  Side sides[2] = {{.operand = 0}, {.operand = 1}};
  for (const Ref& l : group_.outer_loops) {
    const bool first = ix::depends_on(dot.values[0], l), second = ix::depends_on(dot.values[1], l);
    if (first != second) sides[second ? 1 : 0].loops.push_back(l);
  }
  for (const std::vector<Ref>* loops : {&group_.outer_loops, &dot.folds})
    for (const Ref& l : *loops)
      if (!l->src[0]->is_const()) return false;
  if (sides[0].loops.empty() || sides[1].loops.empty()) return false;
  // The operand that the last loop belongs to has the columns, which lie side by side in the result.
  const bool swapped = sides[0].loops.back() == group_.outer_loops.back();
  Side &a = sides[swapped ? 1 : 0], &b = sides[swapped ? 0 : 1];
  for (Side* s : {&a, &b}) s->loops = last_of(s->loops, cost::group_sides);
  const Node* sum = sum_place(dot);
  if (!sum) return false;
  const bool pairs = tree::fold_of(*sum) == Fold::PairDot;
  const std::span<const int64_t> counts =
      pairs ? std::span<const int64_t>(cost::matrix_steps) : cost::scalar_steps;
  const std::vector<Ref> steps = last_of(dot.folds, counts);
  const auto divides = [&](int64_t n) { return product_of(steps) % n == 0; };
  const auto count = std::ranges::find_if(counts, divides);
  if (count == counts.end()) return false;
  for (Side* s : {&a, &b}) s->along_steps = lies_along(dot, s->operand, steps.back(), s->loops.back());
  const int64_t rows = product_of(a.loops), columns = product_of(b.loops);
  const double others =
      cost::iterations(group_.outer_loops) / static_cast<double>(rows) / static_cast<double>(columns);
  const auto in_tiles = [&](std::span<const cost::GroupTile> tiles, const auto& moves) {
    const cost::GroupTile t = tile_for(tiles, rows, columns, others);
    Side left = a, right = b;
    left.tile = t.rows, right.tile = t.columns;
    return t.rows != 0 && attempt([&] {
             bring_together(left, right);
             for (size_t k = 1; k < steps.size(); k++)
               move(MoveKind::Merge, name_of(steps[0]), 0, name_of(steps[k]));
             const Ref merged = kernel_;
             for (const Ref& p : tree::params(*merged)) attempt([&] { move(MoveKind::Join, p->arg.text); });
             moves(t, left, right);
             number_groups();
           });
  };
  using cost::GroupTile;
  if (!pairs)
    return in_tiles(cost::group_tiles, [&](const GroupTile&, Side& left, Side& right) {
      scalar_tile(dot, steps, *count, left, right);
    });
  return (target_.natives.shared_matrices && in_tiles(cost::shared_matrix_tiles,
                                                      [&](const GroupTile& t, Side& left, Side& right) {
                                                        shared_matrix_tile(dot, steps, *count, t.ahead, left,
                                                                           right);
                                                      })) ||
         in_tiles(cost::group_tiles, [&](const GroupTile&, Side& left, Side& right) {
           matrix_tile(dot, steps, *count, left, right);
         });
}

// The loops of each side become one, the other loops stand outside of both.
void Planner::bring_together(const Side& a, const Side& b) {
  std::vector<std::string> order, wanted, sides[2];
  for (const Side* s : {&a, &b})
    for (const Ref& l : s->loops) sides[s == &b].push_back(name_of(l));
  for (const Ref& l : group_.outer_loops) {
    order.push_back(name_of(l));
    const auto in = [&](const std::vector<std::string>& side) {
      return std::ranges::find(side, name_of(l)) != side.end();
    };
    if (!in(sides[0]) && !in(sides[1])) wanted.push_back(name_of(l));
  }
  for (const auto& side : sides) wanted.insert(wanted.end(), side.begin(), side.end());
  for (size_t k = 0; k < wanted.size(); k++) {
    size_t at = k;
    while (order[at] != wanted[k]) at++;
    for (; at > k; at--) {
      move(MoveKind::Reorder, order[at - 1], 0, "", {order[at]});
      std::swap(order[at - 1], order[at]);
    }
  }
  for (const auto& side : sides)
    for (size_t k = 1; k < side.size(); k++) move(MoveKind::Merge, side[0], 0, side[k]);
}

// All that stands outside of what the groups share out is one loop over groups.
void Planner::number_groups() {
  const std::string first = outermost();
  while (true) {
    const Node* loop = find(first);
    const std::span<const Ref> body = tree::body(*loop);
    if (body.size() != 1 || body[0]->op != Op::Loop || tree::kind(*body[0]) != LoopKind::Loop) break;
    move(MoveKind::Merge, first, 0, name_of(body[0]->src[0]));
  }
  move(MoveKind::Global, first);
}

// Whether an operand's neighbours along the steps are nearer than those along its own loop.
bool Planner::lies_along(const Stage& dot, int operand, const Ref& steps, const Ref& own) const {
  int votes = 0;
  for (const Ref& load : loads_in(std::span(&dot.values[static_cast<size_t>(operand)], 1))) {
    const int64_t along = std::abs(stride(program_, load, steps)),
                  across = std::abs(stride(program_, load, own));
    votes += along == 0 || across == 0 ? 0 : along < across ? 1 : -1;
  }
  return votes > 0;
}

/// Cuts a loop into a tile and its parts of these extents, outer to inner, the last of which is what is left.
void Planner::cut_tile(Side& side, const std::string& name, std::span<const int64_t> parts) {
  int64_t rest = side.tile;
  move(MoveKind::Split, side.name(), rest, name + "0");
  side.parts = {name + "0"};
  for (size_t k = 0; k < parts.size(); k++) {
    if (parts[k] == 1) continue;  // a loop of one iteration is none
    rest /= parts[k];
    if (rest == 1) break;
    const std::string inner = name + std::to_string(k + 1);
    move(MoveKind::Split, side.parts.back(), rest, inner);
    side.parts.push_back(inner);
  }
}

// f32 and all else: a thread has 4 x 4 elements or four times as many, each the sum of its own chain.
void Planner::scalar_tile(const Stage& dot, std::span<const Ref> folds, int64_t count, Side& a, Side& b) {
  const std::string steps = name_of(folds[0]), sum = sum_of(dot);
  const bool is_ahead = cost::reads_ahead(a.tile, b.tile);
  if (is_ahead) count = cost::scalar_steps.back();
  constexpr int64_t own = 4;
  for (Side* s : {&a, &b}) {
    // Parts: halves of the tile that a thread has elements of, threads, elements side by side.
    const int64_t halves =
        s->tile >= 2 * cost::group_threads * own ? s->tile / (cost::group_threads * own) : 1;
    cut_tile(*s, s == &a ? "it" : "jt", std::vector<int64_t>{halves, s->tile / halves / own});
  }
  const auto threads_part = [](const Side& s) { return s.parts[s.parts.size() - 2]; };
  const int64_t threads = size(threads_part(a)) * size(threads_part(b));
  const std::string inner = steps + "t";
  move(MoveKind::Split, steps, count, inner);
  for (const std::string& l : {threads_part(a), threads_part(b)}) move(MoveKind::Reorder, l);
  for (const Side* s : {&a, &b})
    if (s->parts.size() > 2) move(MoveKind::Reorder, s->parts[0]);
  for (const Side* s : {&a, &b}) move(MoveKind::Reorder, s->parts.back());
  char letter = 'f';
  std::vector<std::string> panels;
  for (const Side* s : {&a, &b}) {
    std::vector<std::string> dims = s->parts;
    dims.insert(dims.begin(), inner);
    const std::string panel = fmt::format("{}_{}", static_cast<char>(letter - 'f' + 'p'), sum);
    move(MoveKind::Pack, steps, 0, fmt::format("{}.{}", sum, s->operand), dims);
    move(MoveKind::Share, panel, s->tile, "4");
    fill(letter++, {inner}, s->parts, s->along_steps ? own : 0, own, threads);
    if (is_ahead) panels.push_back(panel);
  }
  for (const Side* s : {&a, &b}) {
    if (s->parts.size() > 2) move(MoveKind::Unroll, s->parts[0]);
    move(MoveKind::Unroll, s->parts.back());
    move(MoveKind::Local, threads_part(*s));
  }
  move(MoveKind::Unroll, inner);
  for (const std::string& p : panels) move(MoveKind::Prefetch, steps, 0, p);
}

// Pairs of bf16: a warp has up to 64 x 64 elements, in matrix instructions.
void Planner::matrix_tile(const Stage& dot, std::span<const Ref> folds, int64_t count, Side& a, Side& b) {
  const std::string steps = name_of(folds[0]), sum = sum_of(dot);
  for (Side* s : {&a, &b}) {
    const int64_t warps = cost::warps_along(s->tile), once = s == &a ? warp_matrix.rows : warp_matrix.columns;
    cut_tile(*s, s == &a ? "it" : "jt", std::vector<int64_t>{warps, s->tile / warps / once});
  }
  const auto warps = [](const Side& s) { return cost::warps_along(s.tile) > 1 ? s.parts[0] : std::string(); };
  const int64_t threads = warp * cost::warps_along(a.tile) * cost::warps_along(b.tile);
  std::vector<std::string> inner = {steps + "t"};
  move(MoveKind::Split, steps, count, inner[0]);
  if (count > warp_matrix.steps) {
    move(MoveKind::Split, inner[0], warp_matrix.steps, inner[0] + "x");
    inner.push_back(inner[0] + "x");
  }
  for (const Side* s : {&a, &b})
    if (!warps(*s).empty()) move(MoveKind::Reorder, warps(*s));
  for (const Side* s : {&a, &b})
    for (size_t k = warps(*s).empty() ? 0 : 1; k + 1 < s->parts.size(); k++)
      move(MoveKind::Reorder, s->parts[k]);
  for (const Side* s : {&a, &b}) move(MoveKind::Reorder, s->parts.back());
  move(MoveKind::Reorder, inner.back());
  char letter = 'f';
  for (const Side* s : {&a, &b}) {
    const std::string panel = fmt::format("{}_{}", static_cast<char>(letter - 'f' + 'p'), sum);
    std::vector<std::string> dims = s->along_steps ? s->parts : inner;
    const std::vector<std::string>& more = s->along_steps ? inner : s->parts;
    dims.insert(dims.end(), more.begin(), more.end());
    move(MoveKind::Pack, steps, 0, fmt::format("{}.{}", sum, s->operand), dims);
    // Of a warp's 32 threads, 8 along the operand and 4 along the steps: so no two read the same bank.
    move(MoveKind::Share, panel, s->along_steps ? count : s->tile, s->along_steps ? "4" : "8");
    s->along_steps ? fill(letter++, s->parts, inner, 0, cost::words_at_once, threads)
                   : fill(letter++, inner, s->parts, 0, cost::pairs_at_once, threads);
  }
  for (const Side* s : {&a, &b}) {
    if (!warps(*s).empty()) move(MoveKind::Local, warps(*s));
    for (size_t k = warps(*s).empty() ? 0 : 1; k + 1 < s->parts.size(); k++)
      move(MoveKind::Unroll, s->parts[k]);
  }
  move(MoveKind::Matrix, a.parts.back(), 0, "", {b.parts.back(), inner.back()});
  if (inner.size() > 1) move(MoveKind::Unroll, inner[0]);
}

// The same where instructions read whole matrices in shared memory: four warps have 64 rows and all columns of the tile. Panels
// hold the numbers as they are, in blocks of 8 x 8, and are filled some iterations ahead.
void Planner::shared_matrix_tile(const Stage& dot, std::span<const Ref> folds, int64_t count, int64_t ahead,
                                 Side& a, Side& b) {
  constexpr int64_t rows = shared_matrix_rows, block = shared_matrix_block;
  const std::string sum = sum_of(dot), loop = name_of(folds[0]);
  cut_tile(a, "it", std::vector<int64_t>{a.tile / rows});
  cut_tile(b, "jt", {});
  std::vector<std::string> steps = {loop + "t"};
  move(MoveKind::Split, loop, count, steps[0]);
  if (count > block) {
    move(MoveKind::Split, steps[0], block, steps[0] + "x");
    steps.push_back(steps[0] + "x");
  }
  for (const std::string& part : a.parts) move(MoveKind::Reorder, part);
  move(MoveKind::Reorder, b.parts[0]);
  move(MoveKind::Reorder, steps.back());
  char letter = 'f';
  std::vector<std::string> panels;
  for (const Side* s : {&a, &b}) {
    panels.push_back(fmt::format("{}_{}", static_cast<char>(letter - 'f' + 'p'), sum));
    std::vector<std::string> dims(steps.begin(), steps.end() - 1), own = s->parts;
    dims.push_back(steps.back() + "/4");
    if (!s->along_steps) own.back() += "/8";
    dims.insert(dims.end(), own.begin(), own.end());
    dims.insert(dims.end(), {steps.back() + "%4", "half"});
    if (!s->along_steps) dims.push_back(s->parts.back() + "%8");
    move(MoveKind::Pack, loop, 0, fmt::format("{}.{}", sum, s->operand), dims);
    move(MoveKind::Share, panels.back(), s->along_steps ? s->tile * block : block * block, "8");
    fill_blocks(letter++, steps, *s, a.tile / rows * 4 * warp);
  }
  if (a.parts.size() > 1) move(MoveKind::Local, a.parts[0]);
  move(MoveKind::Matrix, a.parts.back(), 0, "", {b.parts[0], steps.back()});
  if (steps.size() > 1) move(MoveKind::Unroll, steps[0]);
  ahead = std::min(ahead, size(loop) - 1);
  if (ahead > 0) move(MoveKind::Pipeline, loop, ahead, "", panels);
}

// Each thread copies 8 numbers at a time that lie side by side in memory; next to it the next of these, so that threads read
// lines. Where they lie along the steps these are the steps of a row, else the rows of a step.
void Planner::fill_blocks(char letter, const std::vector<std::string>& steps, const Side& side,
                          int64_t threads) {
  const auto named = [&](const std::string& loop) { return letter + loop; };
  std::vector<std::string> far, own;
  for (size_t k = 0; k + 1 < steps.size(); k++) far.push_back(named(steps[k]));
  const std::string blocks = named(steps.back() + "d"), step = named(steps.back() + "m"),
                    half = named("half");
  far.push_back(blocks);
  for (const std::string& p : side.parts) own.push_back(named(p));
  std::string element;
  if (side.along_steps) {
    for (size_t k = far.size(); k-- > 0;) move(MoveKind::Reorder, far[k], 0, "", own);
    element = merged({step, half});
    own.insert(own.end(), far.begin(), far.end());
    std::swap(own, far);
  } else {
    element = own.back() + "m";
    own.back() += "d";
    for (size_t k = own.size(); k-- > 0;) move(MoveKind::Reorder, own[k], 0, "", {step, half});
    far.insert(far.end(), {step, half});
    far.insert(far.end(), own.begin(), own.end());
  }
  const std::string copies = merged(far), thread = copies + "t";
  if (size(copies) % threads != 0) fail("threads do not divide a panel");
  move(MoveKind::Split, copies, threads, thread);
  move(MoveKind::Unroll, copies);
  move(MoveKind::Local, has(thread) ? thread : copies);
  move(MoveKind::Unroll, element);
}

// Loops that stand directly in one another, outer to inner, become the first.
std::string Planner::merged(const std::vector<std::string>& loops) {
  for (size_t k = 1; k < loops.size(); k++) move(MoveKind::Merge, loops[0], 0, loops[k]);
  return loops[0];
}

// A panel's loops, named after the letter and what they fill, go to the threads: `side` elements of a thread lie side by side, in
// the inner of the two dimensions, or, where `across` of them do, in the outer.
void Planner::fill(char letter, const std::vector<std::string>& outer, const std::vector<std::string>& inner,
                   int64_t across, int64_t side, int64_t threads) {
  const auto joined = [&](std::vector<std::string> parts) {
    for (std::string& p : parts) p.insert(p.begin(), letter);
    return merged(parts);
  };
  std::string x = joined(outer), y = joined(inner);
  if (across > 0) {
    move(MoveKind::Reorder, x, 0, "", {y});
    std::swap(x, y);
  }
  const std::string element = y + "e", thread = x + "t";
  if (size(y) > side) {
    move(MoveKind::Split, y, side, element);
    move(MoveKind::Merge, x, 0, y);
  }
  if (size(x) > threads) {
    if (size(x) % threads != 0) fail("threads do not divide a panel");
    move(MoveKind::Split, x, threads, thread);
    move(MoveKind::Unroll, x);
  }
  move(MoveKind::Local, has(thread) ? thread : x);
  move(MoveKind::Unroll, has(element) ? element : y);
}

}  // namespace kontor
