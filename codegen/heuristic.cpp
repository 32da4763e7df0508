// The heuristic. A dot gets a register tile (vectors along the dimension in which one operand is contiguous, repeats along
// one that the other alone depends on); rows get their lanes; maps get wide vectors over merged loops.
#include "codegen/heuristic.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/index.h"

namespace kontor::inline v0 {

namespace {

constexpr double parallel_work = 1 << 16;  // below this a kernel stays on one thread
constexpr int64_t widest = 64;             // lanes of a vector loop that every renderer takes
constexpr int64_t grain = 1 << 14;         // elements of a map that one share takes

class Planner {
 public:
  Planner(const ProgramTree& program, const Group& group, const Ref& tree, const Limits& limits)
      : program_(program), group_(group), limits_(limits), kernel_(tree) {}

  Moved run() {
    if (limits_.gpu) gpu();
    else if (limits_.vector_bytes > 0) cpu();
    return {std::move(moves_), std::move(kernel_)};
  }

 private:
  const ProgramTree& program_;
  const Group& group_;
  const Limits& limits_;
  Ref kernel_;
  std::vector<Move> moves_;

  const Stage& stage(int i) const { return program_.stages[static_cast<size_t>(i)]; }
  const Stage& root() const { return stage(group_.stages.back()); }

  void move(MoveKind kind, const std::string& loop, int64_t factor = 0, const std::string& other = "",
            std::vector<std::string> through = {}) {
    Move m{kind, loop, factor, other, std::move(through)};
    kernel_ = apply(kernel_, m);
    moves_.push_back(std::move(m));
  }

  const Node* find(const std::string& loop) const {
    for (const Node* l : loops_in(kernel_))
      if (l->src[0]->arg.text == loop) return l;
    return nullptr;
  }
  bool has(const std::string& loop) const { return find(loop) != nullptr; }
  // The largest extent of the loops of this name; 0: it varies.
  int64_t size(const std::string& loop) const {
    int64_t largest = 0;
    for (const Node* l : loops_in(kernel_)) {
      if (l->src[0]->arg.text != loop) continue;
      if (!l->src[0]->src[0]->is_const()) return 0;
      largest = std::max(largest, extent(l->src[0]->src[0]));
    }
    return largest;
  }
  static const std::string& name_of(const Ref& range) { return range->arg.text; }

  int64_t lanes(const Stage& s) const {
    return std::max<int64_t>(1, limits_.vector_bytes / item_size(s.place->dtype));
  }

  int least_depth() const {
    int least = INT32_MAX;
    for (int i : group_.stages) least = std::min(least, stage(i).depth);
    return least;
  }

  // ---- GPU: the loops that all stages share become one global range

  void gpu() {
    const Stage* dot = nullptr;
    for (int i : group_.stages)
      if (is_dot(stage(i))) dot = &stage(i);
    const bool whole = least_depth() == static_cast<int>(group_.spine.size());
    const bool tiled = dot && whole && limits_.lanes == warp && attempt([&] {
                         thread_tile(*dot);
                         share_out_globally();
                       });
    if (!tiled) share_out_globally();
    if (limits_.lanes != warp) return;
    if (is_map()) attempt([&] { several_in_flight(); });
    spread_lanes();
  }

  // Moves that a nest may refuse as a whole: then it stays as it was.
  template <class F>
  bool attempt(const F& moves) {
    const Ref before = kernel_;
    const size_t known = moves_.size();
    try {
      moves();
      return true;
    } catch (const Error&) {
      kernel_ = before;
      moves_.resize(known);
      return false;
    }
  }

  // A thread of a large map has four elements, a quarter of all apart: neighbours read side by side, and a thread's loads are
  // under way together.
  void several_in_flight() {
    constexpr int64_t count = 4, large = int64_t{1} << 20;
    const std::string loop = outermost(), inner = loop + "t";
    const int64_t items = size(loop);
    if (items < large || items % count != 0) return;
    move(MoveKind::Split, loop, items / count, inner);
    move(MoveKind::Unroll, loop);
    move(MoveKind::Reorder, loop);
    move(MoveKind::Global, inner);
  }

  void share_out_globally() {
    std::vector<std::string> shared;
    for (int k = 0; k < least_depth(); k++)
      if (has(name_of(group_.spine[static_cast<size_t>(k)])))
        shared.push_back(name_of(group_.spine[static_cast<size_t>(k)]));
    for (size_t k = 1; k < shared.size(); k++) move(MoveKind::Merge, shared[0], 0, shared[k]);
    if (!shared.empty()) move(MoveKind::Global, shared[0]);
  }

  // A thread has several elements of a dot, so that what it loads is used several times: up to 8 along a loop on which the
  // operand that neighbours read side by side does not depend, and 4 side by side. As many as leave the GPU work items.
  void thread_tile(const Stage& dot) {
    if (group_.spine.size() < 2 || dot.values.size() != 2) return;
    const Ref& side = group_.spine.back();
    double items = iterations(group_.spine);
    const auto alone_along = [&](const Ref& range, const Ref& near, const Ref& far) {
      return ix::depends_on(near, side) && !ix::depends_on(near, range) && ix::depends_on(far, range);
    };
    for (size_t k = 0; k + 1 < group_.spine.size(); k++) {
      const Ref& range = group_.spine[k];
      if (!alone_along(range, dot.values[0], dot.values[1]) &&
          !alone_along(range, dot.values[1], dot.values[0]))
        continue;
      items /= static_cast<double>(repeat_in_thread(range, 8, items));
      break;
    }
    if (ix::depends_on(dot.values[0], side) != ix::depends_on(dot.values[1], side))
      repeat_in_thread(side, 4, items);
  }

  // Splits off the largest part that divides the loop and leaves `least_items`; returns its extent.
  int64_t repeat_in_thread(const Ref& range, int64_t most, double items) {
    constexpr double least_items = 1 << 15;
    if (!range->src[0]->is_const() || varying_along(kernel_, range)) return 1;
    const std::string loop = name_of(range), inner = loop + "t";
    for (int64_t count = most; count > 1; count /= 2) {
      if (size(loop) % count != 0 || size(loop) == count || items / static_cast<double>(count) < least_items)
        continue;
      move(MoveKind::Split, loop, count, inner);
      move(MoveKind::Unroll, inner);
      move(MoveKind::Reorder, inner);
      return count;
    }
    return 1;
  }

  // The lanes of folds go to the threads of a warp, where nothing else in the kernel keeps them from it.
  void spread_lanes() {
    for (int i : group_.stages) {
      if (!stage(i).lane || !has(name_of(stage(i).lane))) continue;
      if (why_no_lanes(kernel_, name_of(stage(i).lane)).empty()) move(MoveKind::Lane, name_of(stage(i).lane));
    }
    for (const std::string& loop : rows_to_memory())
      if (why_no_lanes(kernel_, loop).empty()) move(MoveKind::Lane, loop);
  }

  // Innermost serial loops that do nothing but store rows, which fill at least half a warp.
  std::vector<std::string> rows_to_memory() const {
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

  // ---- CPU

  void cpu() {
    const Stage* dot = nullptr;
    for (int i : group_.stages)
      if (is_dot(stage(i))) dot = &stage(i);
    bool tiled = dot && dot->vector_dim >= 0 && tile(*dot);
    if (!tiled && is_map()) return plan_map();
    if (!tiled) vectorise_rows();
    else vectorise_nests();
    share_out();
  }

  bool is_map() const {
    for (int i : group_.stages)
      if (is_fold(stage(i)) || stage(i).depth != static_cast<int>(group_.spine.size())) return false;
    return true;
  }

  // ---- dot

  struct Tile {
    int64_t vectors, repeats;
  };

  // Whether the rows that the tile repeats lie a multiple of 4096 bytes apart: lines at that distance share the ways of an L1
  // cache, of which there are 8 to 12.
  bool rows_share_ways(const Stage& dot) const {
    if (dot.unroll_dim < 0) return false;
    const Ref& range = dot.loops[static_cast<size_t>(dot.unroll_dim)];
    for (const Ref& load : loads_in(dot.values)) {
      int64_t apart = stride(program_, load, range);
      if (apart != 0 && apart != irregular && apart * item_size(load->dtype) % 4096 == 0) return true;
    }
    return false;
  }

  Tile tile_of(const Stage& dot, int64_t length, int64_t repeats) const {
    int64_t w = lanes(dot), registers = limits_.vector_registers, need = (length + w - 1) / w;
    Tile best{1, 1};
    int64_t least_waste = INT64_MAX;
    for (int64_t v : {int64_t{4}, int64_t{3}, int64_t{2}, int64_t{1}}) {
      if (v > need || (registers < 32 && v > 3)) continue;
      int64_t waste = (need + v - 1) / v * v - need;
      if (waste * 8 <= need ? least_waste <= 0 : waste >= least_waste) continue;
      least_waste = waste * 8 <= need ? 0 : waste;
      best.vectors = v;
    }
    int64_t most = std::min<int64_t>((registers - best.vectors - 1) / best.vectors, 24 / best.vectors + 2);
    most = std::min<int64_t>(most, rows_share_ways(dot) ? 8 : 14);
    int64_t tiles = (repeats + most - 1) / most;
    best.repeats =
        (repeats + tiles - 1) / tiles;  // tiles of about one size, so that the last is not a sliver
    return best;
  }

  // The operand that is contiguous along the vector dimension, if it is a parameter.
  const Node* vector_operand(const Stage& dot) const {
    const Ref& range = dot.loops[static_cast<size_t>(dot.vector_dim)];
    for (const Ref& v : dot.values)
      for (const Ref& l : loads_in(std::span(&v, 1)))
        if (ix::depends_on(l, range)) return l.get();
    return nullptr;
  }

  // Whether its rows lie so far apart, and are read so often, that a packed panel pays.
  bool wants_panel(const Stage& dot, int64_t times) const {
    if (dot.panel >= 0) return true;
    const Node* operand = vector_operand(dot);
    if (!operand || dot.folds.empty() || times < 4 || tree::guard(*operand)) return false;
    int number = tree::space(*operand->src[0]) == Space::Param ? -1 : stage_number(program_, operand->src[0]);
    if (number >= 0 && !stage(number).leaves_kernel) return false;
    int64_t step = stride(program_, Ref(operand), dot.folds.back());
    return dot.folds.size() == 1 && step != irregular && step * item_size(operand->dtype) >= 1024 &&
           dot.folds[0]->src[0]->is_const() && extent(dot.folds[0]->src[0]) >= 64;
  }

  bool tile(const Stage& dot) {
    std::string v = name_of(dot.loops[static_cast<size_t>(dot.vector_dim)]);
    std::string u = dot.unroll_dim >= 0 ? name_of(dot.loops[static_cast<size_t>(dot.unroll_dim)]) : "";
    if (few_uneven_shares()) sink(outermost(), v);
    v = joined_rows(dot, v);
    int64_t length = size(v), repeats = has(u) ? size(u) : 1;
    if (length < 2 || repeats == 0) return false;
    Tile t = tile_of(dot, length, repeats);
    int64_t w = lanes(dot), block = t.vectors * w;
    bool panel = wants_panel(dot, repeats / t.repeats);
    if (has(u) && outermost() == u && repeats < 4 * limits_.threads * t.repeats) sink(u, v);
    bool v_outermost = outermost() == v || (panel && outermost() == u);
    std::string inner = v;
    if (length > block) {
      inner = v + "t";
      move(MoveKind::Split, v, v_outermost ? -block : block, inner);
      if (panel) move(MoveKind::Reorder, u, 0, "", {v});
      else keep_vectors_near(dot, u, v);
    }
    if (repeats > 1) repeat(u, t.repeats, repeats);
    lanes_of(inner, w);
    if (panel && length > block) stage_panel(dot, v, inner);
    return true;
  }

  // Rows that fill vectors badly (24 of 16 lanes) run together with the loop around them, where the result is contiguous
  // over both and half a vector never goes across the end of a row. Returns the loop of the lanes.
  std::string joined_rows(const Stage& dot, const std::string& v) {
    const int64_t w = lanes(dot), length = size(v);
    if (length % w == 0 || length % (w / 2) != 0 || w < 8) return v;
    const Node* around = loop_around(v);
    if (!around || varying_along(Ref(around), around->src[0]) || !around->src[0]->src[0]->is_const())
      return v;
    for (const Ref& load : loads_in(dot.values)) {
      const bool of_lanes = stride(program_, load, dot.loops[static_cast<size_t>(dot.vector_dim)]) == 1;
      if (tree::guard(*load) || (!of_lanes && stride(program_, load, around->src[0]) != 0)) return v;
    }
    const std::string outer = name_of(around->src[0]);
    const Ref merged = merge(kernel_, outer, v);
    if (size(outer) * length % w != 0 || stores_divide(merged)) return v;
    move(MoveKind::Merge, outer, 0, v);
    return outer;
  }

  // Loops along which the vector operand does not vary run inside of a tile's vectors, while these are in L1.
  void keep_vectors_near(const Stage& dot, const std::string& u, const std::string& v) {
    const Node* operand = vector_operand(dot);
    if (!operand || outermost() == v) return;
    for (const Ref& r : group_.spine) {
      const std::string& loop = name_of(r);
      if (loop == u || loop == v || loop == outermost() || ix::depends_on(Ref(operand), r)) continue;
      const Node* around = find(loop);
      if (around && !varying_along(Ref(around), around->src[0]) && encloses(*around, v))
        move(MoveKind::Reorder, loop, 0, "", {u, v});
    }
  }

  static bool encloses(const Node& loop, const std::string& inner) {
    const std::vector<const Node*> inside = loops_in(Ref(&loop));
    return std::any_of(inside.begin(), inside.end(),
                       [&](const Node* l) { return name_of(l->src[0]) == inner; });
  }

  // The loop of which this one is the whole body; null if there is none.
  const Node* loop_around(const std::string& loop) const {
    for (const Node* l : loops_in(kernel_)) {
      std::span<const Ref> body = tree::body(*l);
      if (body.size() == 1 && body[0]->op == Op::Loop && name_of(body[0]->src[0]) == loop) return l;
    }
    return nullptr;
  }

  static bool stores_divide(const Ref& kernel) {
    std::vector<Ref> positions;
    for (const Node* n : topological(std::span(&kernel, 1)))
      if (n->op == Op::Store && tree::space(*n->src[0]) == Space::Param)
        positions.push_back(ix::flatten(tree::at(*n), tree::dims(*n->src[0])));
    const std::vector<const Node*> nodes = topological(positions);
    return std::any_of(nodes.begin(), nodes.end(),
                       [](const Node* n) { return n->op == Op::IDiv || n->op == Op::Mod; });
  }

  // The pieces of a chain: the last is shorter, and threads that share out few of them wait for each other.
  bool few_uneven_shares() const {
    const Node* first = find(outermost());
    return first && size(outermost()) < 4 * limits_.threads && varying_along(Ref(first), first->src[0]);
  }

  // Too few tiles to share out: other loops of the spine go outside of them.
  void sink(const std::string& u, const std::string& v) {
    std::vector<std::string> others;
    for (const Ref& r : group_.spine)
      if (name_of(r) != u && name_of(r) != v && has(name_of(r))) others.push_back(name_of(r));
    if (!others.empty()) move(MoveKind::Reorder, u, 0, "", others);
  }

  void repeat(const std::string& u, int64_t count, int64_t of) {
    std::string inner = u;
    if (of > count) {
      inner = u + "t";
      move(MoveKind::Split, u, outermost() == u ? -count : count, inner);
    }
    move(MoveKind::Unroll, inner);
    move(MoveKind::Reorder, inner);
  }

  void lanes_of(const std::string& loop, int64_t w) {
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

  // The name of the place that the dot folds into.
  std::string sum_of(const Stage& dot) const {
    for (const Node* n : topological(std::span(&kernel_, 1)))
      if (n->op == Op::FoldStep && tree::fold_of(*n->src[0]) == Fold::Dot &&
          n->src[0]->arg.text.starts_with(dot.name))
        return n->src[0]->arg.text;
    broken("heuristic: no sum of {}", dot.name);
  }

  void stage_panel(const Stage& dot, const std::string& v, const std::string& inner) {
    if (dot.panel >= 0) {
      move(MoveKind::Stage, v, 0, fmt::format("{}.{}", sum_of(dot), dot.panel));
      if (has("f" + inner) && has("f" + inner + "v"))
        move(MoveKind::Merge, "f" + inner, 0, "f" + inner + "v");
      return lies_along_steps(dot) ? fill_across(dot, {"f" + inner, "f" + inner + "v"})
                                   : fill_wide(dot, "f" + inner, "f" + inner + "v");
    }
    move(MoveKind::Stage, v, 0, vector_operand(dot)->src[0]->arg.text);
    std::string lane = has("f" + inner + "v") ? "f" + inner + "v" : "f" + inner;
    if (has(lane) && size(lane) <= lanes(dot)) move(MoveKind::Vectorise, lane, lanes(dot));
  }

  // Whether what the panel is filled from is contiguous along the fold rather than along the vectors.
  bool lies_along_steps(const Stage& dot) const {
    const Ref& range = dot.loops[static_cast<size_t>(dot.vector_dim)];
    int votes = 0;
    for (const Ref& load : loads_in(std::span(&dot.values[static_cast<size_t>(dot.panel)], 1)))
      votes += (stride(program_, load, dot.folds[0]) == 1) - (stride(program_, load, range) == 1);
    return votes > 0;
  }

  // Lanes along the steps of the fold, read side by side and scattered over a few rows of the panel, which stay near.
  void fill_across(const Stage& dot, std::vector<std::string> row) {
    const std::string steps = "f" + name_of(dot.folds[0]);
    std::erase_if(row, [&](const std::string& loop) { return !has(loop); });
    int64_t width = 2 * lanes(dot);
    move(MoveKind::Split, steps, width, steps + "v");
    move(MoveKind::Reorder, steps + "v", 0, "", row);
    move(MoveKind::Vectorise, steps + "v", width);
  }

  // Several vectors of a panel's row at once: what lanes share is computed once (a random block has two words).
  void fill_wide(const Stage& dot, const std::string& vectors, const std::string& lane) {
    int64_t w = lanes(dot), n = has(vectors) ? size(vectors) : 0;
    if (n > 0) {
      int64_t width = n % (4 * w) == 0 ? 4 * w : 2 * w;
      std::string part = vectors;
      if (n > width) move(MoveKind::Split, vectors, width, part = vectors + "w");
      move(MoveKind::Vectorise, part, width);
    }
    if (has(lane)) move(MoveKind::Vectorise, lane, w);
  }

  // ---- rows and other nests

  std::string outermost() const {
    std::span<const Ref> body = tree::body(*kernel_);
    return body.size() == 1 && body[0]->op == Op::Loop ? name_of(body[0]->src[0]) : "";
  }

  static size_t operations(const Stage& s) {
    size_t n = 0;
    for (const Node* node : topological(s.values)) n += is_float(node->dtype) || node->dtype == DType::U32;
    return n;
  }

  // Whether pairs of lanes share what is computed (the two words of a random block).
  static bool pairs_lanes(const Stage& s) {
    for (const Node* n : topological(s.values))
      if (n->op == Op::IDiv && is_int(n->src[1], 2)) return true;
    return false;
  }

  // Several registers' worth of lanes where the expression is short, so that their latencies overlap.
  int64_t wide(const Stage& s) const {
    size_t ops = operations(s);
    return std::min<int64_t>(widest, lanes(s) * (ops <= 24 ? 4 : ops <= 80 || pairs_lanes(s) ? 2 : 1));
  }

  // Whether a loop of this name has lanes, in it or around it: those of a dot run through all nests that have its loop.
  static bool meets_lanes(std::span<const Ref> body, const std::string& loop, bool named, bool lanes) {
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
  bool meets_lanes(const std::string& loop) const {
    return meets_lanes(tree::body(*kernel_), loop, false, false);
  }

  void vectorise_loop(const std::string& loop, int64_t width) {
    int64_t n = size(loop);
    if (!has(loop) || (n > 0 && n < 4) || varying_along(Ref(find(loop)), find(loop)->src[0])) return;
    if (meets_lanes(loop)) return;
    if (n > 0 && n <= width) return move(MoveKind::Vectorise, loop, width);
    move(MoveKind::Split, loop, outermost() == loop ? -width : width, loop + "v");
    move(MoveKind::Vectorise, loop + "v", width);
  }

  bool encloses_nests(int spine_loop) const {
    for (int i : group_.stages)
      if (stage(i).depth > spine_loop && (stage(i).lane || has_local_loops(stage(i)))) return true;
    return false;
  }

  static bool has_local_loops(const Stage& s) {
    return std::any_of(s.bound.begin(), s.bound.end(), [](int b) { return b < 0; });
  }

  void vectorise_rows() {
    int dim = root().vector_dim, k = dim >= 0 ? root().bound[static_cast<size_t>(dim)] : -1;
    bool any_lane = std::any_of(group_.stages.begin(), group_.stages.end(),
                                [&](int i) { return stage(i).lane && stage(i).vector_dim < 0; });
    if (k >= 0 && k < least_depth() && !any_lane) {
      const std::string& loop = name_of(group_.spine[static_cast<size_t>(k)]);
      int64_t w = lanes(root());
      return vectorise_loop(loop, 2 * w <= std::min(size(loop), widest) ? 2 * w : w);
    }
    vectorise_nests();
    if (k >= 0 && !encloses_nests(k))
      vectorise_loop(name_of(group_.spine[static_cast<size_t>(k)]), wide(root()));
  }

  // Whether the lanes of a fold would be gathered, while another loop of its own nest runs along memory: then each vector
  // holds one lane of several results.
  bool lanes_lie_apart(const Stage& s) const {
    if (s.layout.empty() || s.bound[static_cast<size_t>(s.layout.back())] >= 0) return false;
    const Ref& along = s.loops[static_cast<size_t>(s.layout.back())];
    int votes = 0;
    for (const Ref& load : loads_in(s.values))
      votes += (stride(program_, load, along) == 1) - (stride(program_, load, s.lane) == 1);
    return votes > 0 && size(name_of(along)) >= lanes(s);
  }

  void vectorise_nests() {
    for (int i : group_.stages) {
      const Stage& s = stage(i);
      if (s.lane && lanes_lie_apart(s)) {
        vectorise_loop(name_of(s.loops[static_cast<size_t>(s.layout.back())]), wide(s));
      } else if (s.lane) {
        if (has(name_of(s.lane)) && !meets_lanes(name_of(s.lane)))
          move(MoveKind::Vectorise, name_of(s.lane), extent(s.lane->src[0]));
      } else if (!s.layout.empty() && s.bound[static_cast<size_t>(s.layout.back())] < 0 &&
                 s.scatter_at.empty()) {
        vectorise_loop(name_of(s.loops[static_cast<size_t>(s.layout.back())]), wide(s));
      }
    }
  }

  // ---- maps

  // Divisions that a merge leaves in the addresses.
  static size_t divisions(const Ref& kernel) {
    std::vector<Ref> positions;
    for (const Node* n : topological(std::span(&kernel, 1)))
      if (n->op == Op::Load || n->op == Op::Store)
        positions.push_back(ix::flatten(tree::at(*n), tree::dims(*n->src[0])));
    size_t count = 0;
    for (const Node* n : topological(positions)) count += n->op == Op::IDiv || n->op == Op::Mod;
    return count;
  }

  void merge_contiguous() {
    std::vector<std::string> loops;
    for (const Ref& r : group_.spine)
      if (has(name_of(r))) loops.push_back(name_of(r));
    for (size_t k = loops.size(); k-- > 1;) {
      Ref merged = merge(kernel_, loops[k - 1], loops[k]);
      if (divisions(merged) > divisions(kernel_)) continue;
      move(MoveKind::Merge, loops[k - 1], 0, loops[k]);
    }
  }

  void plan_map() {
    merge_contiguous();
    int dim = root().vector_dim >= 0
                  ? root().vector_dim
                  : (root().loops.empty() ? -1 : static_cast<int>(root().loops.size()) - 1);
    std::string last;
    for (const Node* l : loops_in(kernel_)) last = l->src[0]->arg.text;
    std::string wanted = dim >= 0 ? name_of(root().loops[static_cast<size_t>(dim)]) : "";
    std::string loop = has(wanted) ? wanted : last;
    if (loop.empty()) return;
    if (loop == wanted && outermost() != loop && block_lines(loop)) return share_out();
    if (outermost() == loop && size(loop) >= 2 * grain) {
      move(MoveKind::Split, loop, -grain, loop + "s");
      vectorise_loop(loop + "s", wide(root()));
    } else {
      vectorise_loop(loop, wide(root()));
    }
    share_out();
  }

  // Lanes far apart in memory: the lines that they touch hold the next iterations of another loop, a block of which runs
  // while the lines are near. Returns that loop's name, or "".
  std::string loop_of_lines(const std::string& lanes) const {
    for (const Node* n : topological(std::span(&kernel_, 1))) {
      if (n->op != Op::Load || tree::space(*n->src[0]) != Space::Param) continue;
      const Ref position = ix::flatten(tree::at(*n), tree::dims(*n->src[0]));
      int64_t apart = 0;
      if (!ix::affine(position, find(lanes)->src[0], apart) || std::abs(apart) < 16) continue;
      for (const Node* l : loops_in(kernel_))
        if (ix::affine(position, l->src[0], apart) && apart == 1) return name_of(l->src[0]);
    }
    return "";
  }

  // A transpose: true if it is one, and blocks were made. A square one of a few lanes is transposed in registers.
  bool block_lines(const std::string& loop) {
    const std::string other = loop_of_lines(loop);
    const int64_t block = lanes(root());
    if (other.empty() || size(other) < 2 * block || size(loop) < 2 * block) return false;
    move(MoveKind::Split, other, outermost() == other ? -block : block, other + "b");
    move(MoveKind::Split, loop, block, loop + "v");
    move(MoveKind::Reorder, other + "b", 0, "", {loop});
    if (block <= 16) move(MoveKind::Unroll, other + "b");
    move(MoveKind::Vectorise, loop + "v", block);
    return true;
  }

  // ---- threads

  // What the kernel makes for itself before its last loop (the noise of one vendor), each share makes for itself.
  void sink_before_last() {
    std::span<const Ref> body = tree::body(*kernel_);
    if (limits_.threads < 2 || body.size() < 2 || body.back()->op != Op::Loop) return;
    if (tree::kind(*body.back()) != LoopKind::Loop) return;
    for (const Node* n : topological(body.first(body.size() - 1)))
      if ((n->op == Op::Store || n->op == Op::FoldStep) && tree::space(*n->src[0]) == Space::Param) return;
    const std::string last = name_of(body.back()->src[0]);
    const int64_t n = size(last), shares = 2 * limits_.threads;
    if (n < limits_.threads) return;
    if (n > shares) move(MoveKind::Split, last, -((n + shares - 1) / shares), last + "b");
    move(MoveKind::Sink, last);
  }

  void share_out() {
    if (estimate_work(program_, group_) < parallel_work) return;
    if (outermost().empty()) sink_before_last();
    std::string first = outermost();
    if (first.empty()) return;
    const Node* l = find(first);
    while (size(first) > 0 && size(first) < 4 * limits_.threads) {
      std::span<const Ref> body = tree::body(*l);
      if (body.size() != 1 || body[0]->op != Op::Loop || tree::kind(*body[0]) != LoopKind::Loop ||
          tree::kind(*l) != LoopKind::Loop)
        break;
      if (ix::depends_on(body[0]->src[0]->src[0], l->src[0])) break;
      move(MoveKind::Merge, first, 0, name_of(body[0]->src[0]));
      l = find(first);
    }
    if (tree::kind(*l) == LoopKind::Loop && size(first) != 1) move(MoveKind::Thread, first);
  }
};

}  // namespace

double estimate_work(const ProgramTree& program, const Group& group) {
  double work = 0;
  for (int i : group.stages) {
    const Stage& s = program.stages[static_cast<size_t>(i)];
    double n = 1;
    n *= iterations(s.loops) * iterations(s.folds);
    if (s.lane) n *= static_cast<double>(extent(s.lane->src[0]));
    work += n * (1 + 0.25 * static_cast<double>(std::min<size_t>(topological(s.values).size(), 400)));
  }
  return work;
}

Moved choose_moves(const ProgramTree& program, const Group& group, const Ref& tree, const Limits& limits) {
  return Planner(program, group, tree, limits).run();
}

}  // namespace kontor::inline v0
