// Memory order and vector dimension of each stage, producers first. A dot wants one operand contiguous along a dimension
// that the other does not depend on; where memory is not so, a temporary is laid out anew, or a packed copy is made.
#include <algorithm>

#include "base/error.h"
#include "codegen/cost.h"
#include "codegen/stages/stage.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

// At most, where it varies: what is usual is less than the steps of a cut chain, which lanes and panels are chosen for.
int64_t size_of(const Ref& range) { return range->src[0]->bounds.hi; }

// Whether the fold takes steps of another number along it: then no tile of one body holds several of its iterations.
bool varies_along(const Stage& s, const Ref& range) {
  return std::any_of(s.folds.begin(), s.folds.end(),
                     [&](const Ref& f) { return ix::depends_on(f->src[0], range); });
}

class Layouts {
 public:
  Layouts(ProgramTree& program, const Target& target) : program_(program), target_(target) {}

  void run() {
    for (const Stage& s : program_.stages) count_reads(s, 1);
    for (size_t i = 0; i < program_.stages.size(); i++) {
      if (!target_.gpu) choose(i);
      else if (is_dot(program_.stages[i])) compute_operands(i);
      if (const Decision* d = target_.gpu ? program_.given_of(Matter::Layout, program_.stages[i]) : nullptr)
        reject(*d, "on a GPU layouts are no decision");
      Stage& s = program_.stages[i];
      if (s.layout.order.empty()) set_layout(s);
    }
  }

 private:
  ProgramTree& program_;
  const Target& target_;
  NodeMap<int> readers_;  // how many stages read a place

  int64_t lanes(const Stage& s) const { return cost::lanes(s.place->dtype, target_); }

  void set_layout(Stage& s) {
    const Decision* d = program_.given_of(Matter::Layout, s);
    s.layout.order = d ? given_order(s, *d) : usual_order(s);
  }

  void choose(size_t& i) {
    if (is_dot(program_.stages[i])) return choose_dot(i);
    Stage& s = program_.stages[i];
    if (stands_alone(s)) return;
    if (const Decision* d = program_.given_of(Matter::Layout, s)) {
      s.layout.vector_dim = named_dim(s, *d, 0);
      s.layout.unroll_dim = named_dim(s, *d, 1);
      return;
    }
    double best = 0;
    for (size_t d = 0; d < s.loops.size(); d++) {
      if (static_cast<int>(d) == s.scan) continue;
      double score = score_of(s, s.loops[d], static_cast<int>(d));
      if (score >= best) best = score, s.layout.vector_dim = static_cast<int>(d);
    }
    if (s.lane && score_of(s, s.lane, -1) >= best) s.layout.vector_dim = -1;
  }

  // A fold reads for each of its steps, and writes once: an output, as its caller wants it.
  double score_of(const Stage& s, const Ref& range, int dim) const {
    double gain = 0;
    for (const Ref& load : loads_in(s.values)) gain += cost::gain_of_lanes(stride(program_, load, range));
    const bool along_rows = dim + 1 == static_cast<int>(s.loops.size());
    if (dim >= 0 && s.output >= 0)
      gain += cost::gain_of_lanes(along_rows ? 1 : cost::far_apart) / cost::iterations(s.folds);
    return cost::score_of_lanes(gain, static_cast<double>(size_of(range)), static_cast<double>(lanes(s)));
  }

  // ---- decisions as text: lanes, tile, how an operand is read; behind `in` the order in memory

  // The word in that place; "-" where there is none.
  static std::string_view word(const Decision& d, size_t k) {
    const auto end = std::find(d.words.begin(), d.words.end(), "in");
    return k < static_cast<size_t>(end - d.words.begin()) ? std::string_view(d.words[k]) : "-";
  }

  static int dim_called(const Stage& s, const Decision& d, std::string_view name, std::string_view what) {
    std::vector<std::string> names;
    for (size_t i = 0; i < s.loops.size(); i++) {
      names.push_back(s.loops[i]->arg.text);
      if (names.back() == name) return static_cast<int>(i);
    }
    reject(d, fmt::format("{} '{}'; its loops are {}", what, name, fmt::join(names, ", ")));
  }

  // The dimension that word number `k` of a decision names; -1 for none.
  static int named_dim(const Stage& s, const Decision& d, size_t k) {
    if (word(d, k) == "-") return -1;
    const int dim = dim_called(s, d, word(d, k), "no vectors can run along");
    if (dim == s.scan) reject(d, "a scan's steps wait for each other: no vectors can run along them");
    return dim;
  }

  std::vector<int> given_order(const Stage& s, const Decision& d) const {
    auto at = std::find(d.words.begin(), d.words.end(), "in");
    if (at == d.words.end()) return usual_order(s);
    std::vector<int> order;
    for (++at; at != d.words.end(); ++at) order.push_back(dim_called(s, d, *at, "no dimension in memory is"));
    std::vector<int> sorted = order, all = usual_order(s);
    std::sort(sorted.begin(), sorted.end());
    std::sort(all.begin(), all.end());
    if (sorted != all) reject(d, "behind 'in' stands each of its loops once");
    if (s.output >= 0 && !std::is_sorted(order.begin(), order.end()))
      reject(d, "an output lies in memory as its caller wants it");
    return order;
  }

  // ---- dot

  static Ref load_under(const Ref& value) {
    std::vector<Ref> loads = loads_in(std::span(&value, 1));
    return loads.size() == 1 ? loads[0] : Ref();
  }

  /// Along which of its dimensions a dot runs in lanes and is tiled, and how it reads the operand that has the lanes.
  struct Tiling {
    int dim = -1, operand = -1, unroll = -1;
    OperandWay way = OperandWay::Any;
  };

  void choose_dot(size_t& i) {
    const Stage& s = program_.stages[i];
    const Ref loads[] = {load_under(s.values[0]), load_under(s.values[1])};
    const Decision* d = program_.given_of(Matter::Layout, s);
    if (!loads[0] || !loads[1]) {
      if (d && word(*d, 0) != "-") reject(*d, "an operand is no value in memory, or several");
      return;
    }
    const Tiling t = d ? given_tiling(s, loads, *d) : best_tiling(s, loads);
    if (t.dim < 0) return;
    const Ref& load = loads[static_cast<size_t>(t.operand)];
    if (d)
      if (std::string why = why_not(s, load, t); !why.empty()) reject(*d, why);
    switch (t.way) {
      case OperandWay::Any:
      case OperandWay::AsStored:
      case OperandWay::Turned:   pin(load); break;
      case OperandWay::Computed: inline_operand(i, load, t.operand); break;
      case OperandWay::Panel:    program_.stages[i].layout.panel = t.operand; break;
      case OperandWay::Copied:
        if (is_contiguous(s, load, t.dim)) {
          pin(load);
          break;
        }
        if (make_contiguous(i, load, Ref(s.loops[static_cast<size_t>(t.dim)]))) break;
        if (d) reject(*d, "the operand is not read at that loop alone");
        return;
    }
    Layout& layout = program_.stages[i].layout;
    layout.vector_dim = t.dim;
    layout.unroll_dim = t.unroll;
    layout.way = t.way;
    turn_rows(i);
  }

  // The operand without the lanes, where it lies across the steps: each step reads the tile's rows side by side and the next step
  // far away. A copy has the steps side by side.
  void turn_rows(size_t& i) {
    const Stage& s = program_.stages[i];
    if (s.layout.unroll_dim < 0 || s.folds.empty()) return;
    const Ref& rows = s.loops[static_cast<size_t>(s.layout.unroll_dim)];
    const Ref& lanes_loop = s.loops[static_cast<size_t>(s.layout.vector_dim)];
    for (const Ref& value : s.values) {
      const Ref load = load_under(value);
      if (!load || tree::guard(*load) || stride(program_, load, rows) != 1 || value != load) continue;
      const int64_t apart = stride(program_, load, s.folds.back());
      if (apart == cost::irregular ||
          !cost::pays_turned_rows(size_of(lanes_loop), apart * item_size(load->dtype),
                                  size_of(s.folds.back())))
        continue;
      if (make_contiguous(i, load, Ref(s.folds.back()))) return;
    }
  }

  Tiling best_tiling(const Stage& s, std::span<const Ref> loads) const {
    Tiling t;
    best_vector(s, loads[0], loads[1], t.dim, t.operand);
    if (t.dim < 0) return t;
    const Ref& load = loads[static_cast<size_t>(t.operand)];
    t.unroll = best_unroll(s, loads[static_cast<size_t>(1 - t.operand)], load);
    const bool panel = may_have_panel(s, load, t.dim, t.unroll);
    const Ref& range = s.loops[static_cast<size_t>(t.dim)];
    const bool can_be_laid = free_to_change(load) && dimension_along(load, range) >= 0;
    // A narrow float is widened once for each element of a panel, not once for each that is read.
    const bool is_widened =
        item_size(load->dtype) < item_size(s.values[static_cast<size_t>(t.operand)]->dtype);
    t.way = panel && read_by_one(s, load)   ? OperandWay::Computed
            : panel && is_widened           ? OperandWay::Panel
            : is_contiguous(s, load, t.dim) ? OperandWay::AsStored
            : can_be_laid                   ? OperandWay::Copied
            : panel                         ? OperandWay::Panel
            : may_be_turned(s, load, t.dim) ? OperandWay::Turned
                                            : OperandWay::Copied;
    return t;
  }

  Tiling given_tiling(const Stage& s, std::span<const Ref> loads, const Decision& d) const {
    Tiling t{.dim = named_dim(s, d, 0), .unroll = named_dim(s, d, 1)};
    if (t.dim < 0) return t;
    const Ref& range = s.loops[static_cast<size_t>(t.dim)];
    const bool of_first = stride(program_, loads[0], range) != 0;
    if (of_first == (stride(program_, loads[1], range) != 0))
      reject(d, fmt::format("vectors run along a loop that one operand alone depends on; on {} {} does",
                            word(d, 0), of_first ? "each" : "none"));
    t.operand = of_first ? 0 : 1;
    for (const OperandWay way : {OperandWay::AsStored, OperandWay::Computed, OperandWay::Panel,
                                 OperandWay::Copied, OperandWay::Turned})
      if (word(d, 2) == name(way)) t.way = way;
    if (t.way == OperandWay::Any)
      reject(d, "how the operand is read is as_stored, computed, panel, copied or turned");
    return t;
  }

  // Why a dot can't be tiled as a decision says; "" if it can.
  std::string why_not(const Stage& s, const Ref& load, const Tiling& t) const {
    const Ref& range = s.loops[static_cast<size_t>(t.dim)];
    if (varies_along(s, range)) return "its steps vary along that loop";
    if (t.unroll >= 0) {
      const Ref& tile = s.loops[static_cast<size_t>(t.unroll)];
      if (stride(program_, load, tile) != 0 || varies_along(s, tile))
        return "the operand with the lanes depends on the loop of the tile, or the steps do";
    }
    const bool panel = may_have_panel(s, load, t.dim, t.unroll);
    if (t.way == OperandWay::AsStored && !is_contiguous(s, load, t.dim))
      return "the operand does not lie along that loop";
    if (t.way == OperandWay::Turned && !may_be_turned(s, load, t.dim))
      return "the operand does not lie along the steps, or blocks don't divide it";
    if (t.way == OperandWay::Computed && !(panel && read_by_one(s, load)))
      return "the operand is no temporary that this stage alone reads, or a panel of it is too large";
    if (t.way == OperandWay::Panel && !panel) return "a panel of it is too large, or too short to pay";
    return "";
  }

  // Whether the operand lies along the steps of the dot and consists of square blocks, as many of its rows as there are lanes.
  bool may_be_turned(const Stage& s, const Ref& load, int dim) const {
    if (s.folds.empty() || tree::guard(*load)) return false;
    const Ref &steps = s.folds.back(), &range = s.loops[static_cast<size_t>(dim)];
    return steps->src[0]->is_const() && range->src[0]->is_const() && stride(program_, load, steps) == 1 &&
           size_of(steps) % lanes(s) == 0 && size_of(range) % lanes(s) == 0;
  }

  bool is_contiguous(const Stage& s, const Ref& load, int dim) const {
    return stride(program_, load, s.loops[static_cast<size_t>(dim)]) == 1;
  }

  // ---- operands that are read in another order, or computed, while a panel of them is filled (codegen/moves/choose_dot.cpp)

  // Whether the dot can have a panel of this operand, filled once for each element: one fold, long enough tiles, and the
  // loop of the register tile inside all others.
  bool may_have_panel(const Stage& s, const Ref& load, int vector, int unroll) const {
    if (unroll < 0 || s.folds.empty() || tree::guard(*load)) return false;
    int64_t steps = 1;
    for (const Ref& fold : s.folds) {
      if (!fold->src[0]->is_const()) return false;
      steps *= size_of(fold);
    }
    auto length = [&](int dim) { return size_of(s.loops[static_cast<size_t>(dim)]); };
    for (int d = 0; d < static_cast<int>(s.loops.size()); d++)
      if (d != vector && d > unroll) return false;
    return cost::pays_to_fill_panel(steps, length(unroll), length(vector), lanes(s), item_size(load->dtype),
                                    target_);
  }

  // Whether what the load reads is computed for this stage alone, element by element: then it need not be stored.
  bool read_by_one(const Stage& s, const Ref& load) const {
    int number = stage_number(program_, load->src[0]);
    if (number < 0) return false;
    const Stage& from = program_.stages[static_cast<size_t>(number)];
    if (from.output >= 0 || is_fold(from) || from.must_store || !from.checks.empty()) return false;
    const bool by_s = !loads_of(expressions(s), from.place).empty();
    const auto count = readers_.find(from.place.get());
    return (count == readers_.end() ? 0 : count->second) == by_s;
  }

  // Adds `by` to the number of readers of everything that a stage reads.
  void count_reads(const Stage& s, int by) {
    NodeSet read;
    for (const Ref& l : loads_in(expressions(s))) read.insert(l->src[0].get());
    for (const Node* place : read) readers_[place] += by;
  }

  void inline_operand(size_t& i, const Ref& load, int operand) {
    const int number = stage_number(program_, load->src[0]);
    const Stage& from = program_.stages[static_cast<size_t>(number)];
    Substitution at;
    for (size_t d = 0; d < from.loops.size(); d++) at.emplace(from.loops[d].get(), tree::at(*load)[d]);
    count_reads(from, -1);
    read_instead(program_.stages[i], load, replace(from.values[0], at));
    program_.stages[i].layout.panel = operand;
    program_.stages.erase(program_.stages.begin() + number);
    i--;
  }

  static bool has_tile(const Stage& dot) {
    int64_t of[2] = {1, 1}, steps = 1;
    for (const std::vector<Ref>* list : {&dot.loops, &dot.folds})
      for (const Ref& r : *list)
        if (!r->src[0]->is_const()) return false;
    for (const Ref& r : dot.loops)
      for (const int k : {0, 1})
        if (ix::depends_on(dot.values[static_cast<size_t>(k)], r) &&
            !ix::depends_on(dot.values[static_cast<size_t>(1 - k)], r))
          of[k] *= extent(r->src[0]);
    for (const Ref& r : dot.folds) steps *= extent(r->src[0]);
    return cost::tile_divides(of[0], of[1], steps);
  }

  /// On a GPU a tile's operands are computed while shared memory is filled, if that is next to nothing: a cast, a pair.
  void compute_operands(size_t& i) {
    if (target_.lanes != warp || !has_tile(program_.stages[i])) return;
    for (int operand = 0; operand < 2; operand++) {
      const Ref load = load_under(program_.stages[i].values[static_cast<size_t>(operand)]);
      if (!load || tree::guard(*load) || !read_by_one(program_.stages[i], load)) continue;
      const Ref& other = program_.stages[i].values[static_cast<size_t>(1 - operand)];
      if (!loads_of(std::span(&other, 1), load->src[0]).empty()) continue;
      const Stage& from = program_.stages[static_cast<size_t>(stage_number(program_, load->src[0]))];
      if (!from.random && cost::computed_for_each_tile(from.values[0])) inline_operand(i, load, operand);
    }
  }

  static double products(const Stage& s) {
    return cost::iterations(s.loops, INT64_MAX) * cost::iterations(s.folds, INT64_MAX);
  }

  void best_vector(const Stage& s, const Ref& a, const Ref& b, int& dim, int& operand) const {
    double best = 0;
    for (size_t d = 0; d < s.loops.size(); d++) {
      int64_t sa = stride(program_, a, s.loops[d]), sb = stride(program_, b, s.loops[d]);
      if ((sa != 0) == (sb != 0) || varies_along(s, s.loops[d])) continue;
      const double width = static_cast<double>(lanes(s));
      double score = cost::score_of_dot(static_cast<double>(size_of(s.loops[d])), width);
      const Ref& operand_load = sa ? a : b;
      int producer = stage_number(program_, operand_load->src[0]);
      const bool as_wanted = producer >= 0 && program_.stages[static_cast<size_t>(producer)].random;
      const int dimension = static_cast<int>(d);
      const bool panel = may_have_panel(s, operand_load, dimension, best_unroll(s, sa ? b : a, operand_load));
      if ((sa ? sa : sb) != 1 && !as_wanted)
        score *= cost::share_of_repacked(panel, cost::elements(tree::dims(*operand_load->src[0])), width,
                                         products(s));
      if (d + 1 != s.loops.size())
        score *= cost::share_of_scattered(s.output >= 0, cost::iterations(s.folds));
      if (score > best) best = score, dim = dimension, operand = sa ? 0 : 1;
    }
  }

  // The dimension to repeat in registers: the broadcast operand depends on it, the vector operand does not.
  int best_unroll(const Stage& s, const Ref& broadcast, const Ref& vector) const {
    int best = -1;
    int64_t most = 1;
    for (size_t d = 0; d < s.loops.size(); d++) {
      if (stride(program_, vector, s.loops[d]) != 0) continue;
      if (stride(program_, broadcast, s.loops[d]) == 0 || varies_along(s, s.loops[d])) continue;
      int64_t n = std::min(size_of(s.loops[d]), cost::enough_rows);
      if (n >= most) most = n, best = static_cast<int>(d);
    }
    return best;
  }

  // The dot counts on the layout as it is.
  void pin(const Ref& load) {
    int number = stage_number(program_, load->src[0]);
    if (number >= 0) program_.stages[static_cast<size_t>(number)].layout.fixed = true;
  }

  // The one dimension of the place that the load reads step by step along that loop; -1: none depends on it, -2: it is read otherwise.
  static int dimension_along(const Ref& load, const Ref& range) {
    int dim = -1;
    std::span<const Ref> at = tree::at(*load);
    for (size_t d = 0; d < at.size(); d++) {
      int64_t c = 0;
      if (!ix::depends_on(at[d], range)) continue;
      if (dim >= 0 || !ix::affine(at[d], range, c) || c != 1) return -2;
      dim = static_cast<int>(d);
    }
    return dim;
  }

  // Lays the place that `load` reads out anew, or has stage i read a packed copy of it.
  bool make_contiguous(size_t& i, const Ref& load, const Ref& range) {
    const int dim = dimension_along(load, range);
    if (dim == -2) return false;
    if (free_to_change(load)) {
      Stage& producer = program_.stages[static_cast<size_t>(stage_number(program_, load->src[0]))];
      producer.layout.vector_dim = dim;
      producer.layout.fixed = true;
      set_layout(producer);
      return true;
    }
    pack(i, load, dim);
    return true;
  }

  // Whether it reads a temporary whose layout nothing has asked for yet.
  bool free_to_change(const Ref& load) const {
    int number = stage_number(program_, load->src[0]);
    if (number < 0) return false;
    const Stage& s = program_.stages[static_cast<size_t>(number)];
    return s.output < 0 && !s.layout.fixed && !is_fold(s) && !program_.given_of(Matter::Layout, s);
  }

  void pack(size_t& i, const Ref& load, int dim) {
    const Ref& from = load->src[0];
    Stage copy;
    copy.name = fmt::format("{}_for_{}", from->arg.text, program_.stages[i].name);
    std::span<const Ref> dims = tree::dims(*from);
    for (size_t d = 0; d < dims.size(); d++)
      copy.loops.push_back(ix::range(dims[d], copy.name + letter_of(d)));
    copy.place = tree::place(from->dtype, {dims.begin(), dims.end()}, copy.name);
    copy.values = {tree::load(from, copy.loops)};
    const Decision* given = program_.given_of(Matter::Layout, copy);
    copy.layout.vector_dim = given ? named_dim(copy, *given, 0) : dim;
    copy.layout.fixed = copy.must_store = true;
    set_layout(copy);
    const std::span<const Ref> at = tree::at(*load);
    read_instead(program_.stages[i], load,
                 tree::load(copy.place, {at.begin(), at.end()}, tree::guard(*load)));
    count_reads(copy, 1);
    program_.stages.insert(program_.stages.begin() + static_cast<ptrdiff_t>(i), std::move(copy));
    i++;
  }

  static std::string letter_of(size_t d) {
    return d < 26 ? std::string(1, static_cast<char>('a' + d)) : fmt::format("d{}_", d);
  }

  void read_instead(Stage& s, const Ref& load, const Ref& value) {
    count_reads(s, -1);
    for (Ref& v : s.values) v = substitute(v, {{load.get(), value}});
    count_reads(s, 1);
  }
};

}  // namespace

void choose_layouts(ProgramTree& program, const Target& target) { Layouts(program, target).run(); }

}  // namespace kontor
