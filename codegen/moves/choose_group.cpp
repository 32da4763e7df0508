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
cost::GroupTile tile_for(int64_t rows, int64_t columns, double others) {
  cost::GroupTile found = {0, 0};
  for (const cost::GroupTile& t : cost::group_tiles) {
    if (rows % t.rows != 0 || columns % t.columns != 0) continue;
    found = t;
    if (others * static_cast<double>(rows / t.rows * (columns / t.columns)) >= cost::enough_groups) break;
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
    if (!l->src[0]->is_const()) return false;
    if (first != second) sides[second ? 1 : 0].loops.push_back(l);
  }
  for (const Ref& f : dot.folds)
    if (!f->src[0]->is_const()) return false;
  if (sides[0].loops.empty() || sides[1].loops.empty()) return false;
  // The operand that the last loop belongs to has the columns, which lie side by side in the result.
  const bool swapped = sides[0].loops.back() == group_.outer_loops.back();
  Side &a = sides[swapped ? 1 : 0], &b = sides[swapped ? 0 : 1];
  for (Side* s : {&a, &b}) s->loops = last_of(s->loops, cost::group_sides);
  const bool pairs = tree::fold_of(*sum_place(dot)) == Fold::PairDot;
  const std::span<const int64_t> counts =
      pairs ? std::span<const int64_t>(cost::matrix_steps) : cost::scalar_steps;
  const std::vector<Ref> steps = last_of(dot.folds, counts);
  const auto divides = [&](int64_t n) { return product_of(steps) % n == 0; };
  const auto count = std::ranges::find_if(counts, divides);
  const int64_t rows = product_of(a.loops), columns = product_of(b.loops);
  const cost::GroupTile t = tile_for(
      rows, columns,
      cost::iterations(group_.outer_loops) / static_cast<double>(rows) / static_cast<double>(columns));
  if (t.rows == 0 || count == counts.end()) return false;
  a.tile = t.rows, b.tile = t.columns;
  for (Side* s : {&a, &b}) s->along_steps = lies_along(dot, s->operand, steps.back(), s->loops.back());
  return attempt([&] {
    bring_together(a, b);
    for (size_t k = 1; k < steps.size(); k++) move(MoveKind::Merge, name_of(steps[0]), 0, name_of(steps[k]));
    const Ref merged = kernel_;
    for (const Ref& p : tree::params(*merged)) attempt([&] { move(MoveKind::Join, p->arg.text); });
    pairs ? matrix_tile(dot, steps, *count, a, b) : scalar_tile(dot, steps, *count, a, b);
    number_groups();
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

const Node* Planner::sum_place(const Stage& dot) const {
  const std::string name = sum_of(dot);
  for (const Node* n : topological(std::span(&kernel_, 1)))
    if (n->op == Op::FoldStep && n->src[0]->arg.text == name) return n->src[0].get();
  return nullptr;
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
    const int64_t warps = cost::warps_along(s->tile), once = s == &a ? matrix_row.rows : matrix_row.columns;
    cut_tile(*s, s == &a ? "it" : "jt", std::vector<int64_t>{warps, s->tile / warps / once});
  }
  const auto warps = [](const Side& s) { return cost::warps_along(s.tile) > 1 ? s.parts[0] : std::string(); };
  const int64_t threads = warp * cost::warps_along(a.tile) * cost::warps_along(b.tile);
  std::vector<std::string> inner = {steps + "t"};
  move(MoveKind::Split, steps, count, inner[0]);
  if (count > matrix_row.steps) {
    move(MoveKind::Split, inner[0], matrix_row.steps, inner[0] + "x");
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

// A panel's loops, named after the letter and what they fill, go to the threads: `side` elements of a thread lie side by side, in
// the inner of the two dimensions, or, where `across` of them do, in the outer.
void Planner::fill(char letter, const std::vector<std::string>& outer, const std::vector<std::string>& inner,
                   int64_t across, int64_t side, int64_t threads) {
  const auto joined = [&](const std::vector<std::string>& parts) {
    const std::string first = letter + parts[0];
    for (size_t k = 1; k < parts.size(); k++) move(MoveKind::Merge, first, 0, letter + parts[k]);
    return first;
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
