// Grouping stages into kernels. Consumers first: a stage joins the kernel of its readers, inside as many of that kernel's
// outer loops as index it, if what is left of it fits on chip; else it is a kernel of its own.
#include <algorithm>

#include "base/error.h"
#include "codegen/cost.h"
#include "codegen/stages/fuse.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

class Fusion {
 public:
  Fusion(ProgramTree& program, const Target& target) : program_(program), target_(target), reads_(program) {}

  void run() {
    for (Stage& s : program_.stages) {
      s.level.nodes = topological(expressions(s)).size();
      for (const Ref& loop : s.loops) s.level.loops.push_back(loop->arg.text);
    }
    for (size_t i = program_.stages.size(); i-- > 0;)
      if (!join(i, readers(i))) found_group(i);
    for (Group& g : program_.groups) std::reverse(g.stages.begin(), g.stages.end());
    std::reverse(program_.groups.begin(), program_.groups.end());
    merge_siblings(program_, reads_);
    find_leaving();
    for (const Stage& s : program_.stages)
      if (!target_.gpu && !stands_alone(s)) program_.decided.add(layout_of(s));
    for (const Stage& s : program_.stages) program_.decided.add(level_of(s));
  }

 private:
  ProgramTree& program_;
  const Target& target_;

  Stage& stage(int i) { return program_.stages[static_cast<size_t>(i)]; }
  Group& group(int i) { return program_.groups[static_cast<size_t>(i)]; }

  Reads reads_;
  struct Facts {  // of a group's stages
    bool fold = false, dot = false, scan = false;
    size_t loads = 0;
    double iterations = 0;  // of the largest
  };
  std::vector<Facts> facts_;  // by number of the group as it is founded

  const std::vector<int>& readers(size_t i) const { return reads_.readers[i]; }

  void find_leaving() {
    std::vector<const Group*> home(program_.stages.size());
    for (const Group& g : program_.groups)
      for (int i : g.stages) home[static_cast<size_t>(i)] = &g;
    for (size_t i = 0; i < program_.stages.size(); i++) {
      bool& leaves = program_.stages[i].level.leaves_kernel;
      leaves = program_.stages[i].output >= 0;
      for (int r : readers(i)) leaves = leaves || home[static_cast<size_t>(r)] != home[i];
    }
  }

  // Order of the loops of a kernel made of stage i alone: memory order, but a fold's vectors innermost.
  static std::vector<int> loop_order(const Stage& s) {
    std::vector<int> order = s.layout.order;
    if (is_fold(s) && s.layout.vector_dim >= 0) {
      order.erase(std::find(order.begin(), order.end(), s.layout.vector_dim));
      order.push_back(s.layout.vector_dim);
    }
    return order;
  }

  void found_group(size_t i) {
    Stage& s = program_.stages[i];
    s.level.group = static_cast<int>(program_.groups.size());
    s.level.where.clear();
    Group g;
    g.founder = static_cast<int>(i);
    s.level.outer.assign(s.loops.size(), -1);
    adopt_tile(s);
    if (!stands_alone(s))
      for (int d : loop_order(s)) {
        if (d == s.scan) continue;
        s.level.outer[static_cast<size_t>(d)] = static_cast<int>(g.outer_loops.size());
        g.outer_loops.push_back(s.loops[static_cast<size_t>(d)]);
      }
    s.level.depth = static_cast<int>(g.outer_loops.size());
    g.nodes = s.level.nodes;
    g.stages.push_back(static_cast<int>(i));
    program_.groups.push_back(std::move(g));
    facts_.push_back({is_fold(s), is_dot(s), s.scan >= 0, reads_.loads[i].size(), iterations(s)});
  }

  // A map that ends a dot (bias, activation) runs in the dot's tile.
  void adopt_tile(Stage& s) {
    if (is_fold(s) || program_.given_of(Matter::Layout, s)) return;
    for (const Ref& load : loads_in(s.values)) {
      const Stage* from = stage_of(program_, load->src[0]);
      if (!from || !is_dot(*from) || from->layout.unroll_dim < 0) continue;
      for (size_t d = 0; d < from->loops.size(); d++)
        for (size_t e = 0; e < s.loops.size(); e++) {
          if (tree::at(*load)[d] != s.loops[e]) continue;
          if (static_cast<int>(d) == from->layout.unroll_dim) s.layout.unroll_dim = static_cast<int>(e);
          if (static_cast<int>(d) == from->layout.vector_dim) s.layout.vector_dim = static_cast<int>(e);
        }
    }
    if (s.layout.unroll_dim < 0 || s.layout.vector_dim < 0 || s.output >= 0 || s.layout.fixed) return;
    s.layout.order.erase(std::find(s.layout.order.begin(), s.layout.order.end(), s.layout.vector_dim));
    s.layout.order.push_back(s.layout.vector_dim);
  }

  void note(const Stage& s, const std::string& why) {
    program_.notes += fmt::format("{} is a kernel of its own: {}\n", s.name, why);
  }

  // Joins the kernel of its first reader. Others read it from memory: each kernel reads only of kernels whose last stage
  // comes before its own last stage, so no two can wait for each other.
  bool join(size_t i, const std::vector<int>& all_readers) {
    Stage& s = program_.stages[i];
    const Decision* given = program_.given_of(Matter::Level, s);
    if (all_readers.empty()) return false;
    if (given && given->verb == Verb::Store) return note(s, "it was decided"), false;
    if (s.must_store || stands_alone(s)) return note(s, "it has to be in memory"), false;
    auto last_stage = [&](int reader) { return group(stage(reader).level.group).stages.front(); };
    int g = stage(*std::min_element(all_readers.begin(), all_readers.end(), [&](int x, int y) {
              return last_stage(x) < last_stage(y);
            })).level.group;
    int limit = INT32_MAX;
    std::vector<int> readers;
    for (int r : all_readers) {
      if (stage(r).level.group != g) continue;
      if (stands_alone(stage(r)))
        return note(s, stage(r).given.empty() ? "a scatter reads it" : "a given tree reads it"), false;
      limit = std::min(limit, stage(r).level.depth);
      readers.push_back(r);
    }
    if (given) {
      // Of a kernel that none of its readers is in: merge_siblings() follows it.
      return has_loops_of(g, given->words[0]) && follow(static_cast<int>(i), readers, g, limit, *given);
    }
    bind(static_cast<int>(i), readers, group(g), limit);
    const bool elsewhere = s.output >= 0 || readers.size() < all_readers.size();
    if (std::string why = refuse(s, g, elsewhere); !why.empty()) {
      note(s, why);
      return false;
    }
    enter(static_cast<int>(i), g);
    return true;
  }

  // ---- decisions as text

  const std::string& founder_of(const Group& g) const {
    return program_.stages[static_cast<size_t>(g.founder)].name;
  }

  // How many of the group's outer loops are around what stands at `where`; -1: none of it has that name.
  int depth_at(int g, const std::string& where) {
    const std::vector<Ref>& outer = group(g).outer_loops;
    for (size_t k = outer.size(); k-- > 0;)
      if (outer[k]->arg.text == where) return static_cast<int>(k) + 1;
    return founder_of(group(g)) == where ? 0 : -1;
  }
  bool has_loops_of(int g, const std::string& where) { return depth_at(g, where) >= 0; }

  bool follow(int i, const std::vector<int>& readers, int g, int limit, const Decision& given) {
    Stage& s = stage(i);
    const int wanted = depth_at(g, given.words[0]);
    bind(i, readers, group(g), std::min(limit, wanted));
    if (s.level.depth < wanted)
      reject(given, fmt::format("its readers read it at {} of the loops around there alone", s.level.depth));
    const auto [left, whole] = left_inside(s);
    if (!whole && left > static_cast<double>(target_.place_bytes))
      reject(given, fmt::format("{} bytes of it would be kept on chip, where {} have room", left,
                                target_.place_bytes));
    enter(i, g);
    return true;
  }

  // Finds for each outer loop in turn the dimension of s that every reader reads at exactly that loop.
  void bind(int i, const std::vector<int>& readers, const Group& g, int limit) {
    Stage& s = stage(i);
    s.level.outer.assign(s.loops.size(), -1);
    s.level.depth = 0;
    std::vector<Ref> loads;
    for (int r : readers)
      for (const Reads::Read& read : reads_.of(r, i)) loads.push_back(read.load);
    for (int k = 0; k < limit && k < static_cast<int>(g.outer_loops.size()); k++) {
      int dim = matching_dim(s, loads, g.outer_loops[static_cast<size_t>(k)]);
      if (dim < 0) return;
      s.level.outer[static_cast<size_t>(dim)] = k;
      s.level.depth = k + 1;
    }
  }

  int matching_dim(const Stage& s, const std::vector<Ref>& loads, const Ref& range) const {
    for (size_t d = 0; d < s.loops.size(); d++) {
      if (s.level.outer[d] >= 0 || static_cast<int>(d) == s.scan || s.loops[d]->src[0] != range->src[0])
        continue;
      if (std::all_of(loads.begin(), loads.end(), [&](const Ref& l) { return tree::at(*l)[d] == range; }))
        return static_cast<int>(d);
    }
    return -1;
  }

  // Bytes of a stage that an iteration of the loops which it shares would keep, and whether that is one element.
  static std::pair<double, bool> left_inside(const Stage& s) {
    double left = static_cast<double>(item_size(s.place->dtype));
    bool whole = true;
    for (size_t d = 0; d < s.loops.size(); d++)
      if (s.level.outer[d] < 0) whole = false, left *= cost::iterations(std::span(&s.loops[d], 1));
    return {left, whole};
  }

  // Whether an iteration of the loops which s shares has one element of each of its rows.
  static bool runs_across_rows(const Stage& s) {
    for (size_t d = s.loops.size(); d-- > 0;)
      if (!is_int(s.loops[d]->src[0], 1)) return s.level.outer[d] >= 0;
    return false;
  }

  // `elsewhere`: other kernels read it too.
  std::string refuse(const Stage& s, int number, bool elsewhere) {
    const Group& g = group(number);
    if (s.level.depth == 0 && !(g.outer_loops.empty() && s.loops.empty()))
      return "it shares no outer loop with its reader";
    if (g.nodes + s.level.nodes > cost::kernel_nodes(elsewhere)) return "its kernel would be too long";
    const auto [left, whole] = left_inside(s);
    const double room =
        is_row_of_warp(s) ? cost::row_of_warp : static_cast<double>(cost::room_in_loop(s.random, target_));
    if (!whole && left > room) return fmt::format("{} bytes of it would be kept inside the loop", left);
    if (is_dot(s) && !whole) return "a dot is kept whole";
    if (!whole && !s.random && ends_dot(s)) return "it ends a dot";
    if (!whole && elsewhere && runs_across_rows(s)) return "it would be written to memory across its rows";
    const Facts& facts = facts_[static_cast<size_t>(number)];
    if (is_dot(s) && facts.fold) return "its kernel reduces already";
    if (is_fold(s) && facts.dot) return "its kernel has a dot already";
    if (is_fold(s) && facts.scan && !whole)
      return "all of it would be folded before a scan takes its first step";
    if (facts.loads + reads_.loads[static_cast<size_t>(stage_number(program_, s.place))].size() >
        cost::kernel_loads)
      return "its kernel reads enough already";
    const double outer = cost::iterations(std::span(g.outer_loops).first(static_cast<size_t>(s.level.depth)));
    const bool shares_out = whole && s.level.depth == static_cast<int>(g.outer_loops.size());
    if (target_.gpu && !shares_out && cost::too_few_items(outer, std::max(iterations(s), facts.iterations)))
      return fmt::format("{} work items are too few for a GPU", outer);
    if ((whole ? is_fold(s) : !s.random) && cost::too_few_to_share(outer, iterations(s)))
      return "too few outer iterations to share out";
    return "";
  }

  // Whether the threads of a warp can have what is left of the stage, a row, as they have lanes: all who read it read what
  // they would have themselves.
  bool is_row_of_warp(const Stage& s) const {
    if (target_.lanes != warp || is_fold(s) || s.random || s.loops.empty() || stands_alone(s)) return false;
    for (size_t d = 0; d < s.loops.size(); d++)
      if ((s.level.outer[d] < 0) != (d + 1 == s.loops.size())) return false;
    const Ref& row = s.loops.back()->src[0];
    if (!row->is_const() || extent(row) % most_lanes != 0) return false;
    const int number = stage_number(program_, s.place);
    bool in_lanes = false;
    for (const int r : readers(static_cast<size_t>(number)))
      for (const Reads::Read& read : reads_.of(r, number)) {
        const Ref& at = tree::at(*read.load).back();
        const Stage& reader = program_.stages[static_cast<size_t>(r)];
        const bool by_lane = reader.lane && ix::mod(at, index(most_lanes)) == reader.lane;
        const bool by_map = !is_fold(reader) && at->op == Op::Range && at->src[0] == row;
        if (!by_lane && !by_map) return false;
        in_lanes = in_lanes || by_lane;
      }
    return in_lanes;
  }

  // Of a fold in lanes, those of one lane.
  static double iterations(const Stage& s) { return cost::iterations(s.loops) * cost::iterations(s.folds); }

  // Whether s is computed element by element from the result of a dot that nothing else reads: the dot will join s.
  bool ends_dot(const Stage& s) {
    if (is_fold(s)) return false;
    for (const Ref& load : loads_in(s.values)) {
      int from = stage_number(program_, load->src[0]);
      std::span<const Ref> at = tree::at(*load);
      if (from < 0 || !is_dot(stage(from)) || readers(static_cast<size_t>(from)).size() != 1) continue;
      if (std::is_permutation(at.begin(), at.end(), s.loops.begin(), s.loops.end())) return true;
    }
    return false;
  }

  void enter(int i, int g) {
    Stage& s = stage(i);
    Substitution map;
    for (size_t d = 0; d < s.loops.size(); d++) {
      if (s.level.outer[d] < 0) continue;
      const Ref& r = group(g).outer_loops[static_cast<size_t>(s.level.outer[d])];
      map.emplace(s.loops[d].get(), r);
      s.loops[d] = r;
    }
    rename(s, map);
    reads_.renew(i);
    s.level.group = g;
    s.level.where = s.level.depth > 0 ? group(g).outer_loops[static_cast<size_t>(s.level.depth) - 1]->arg.text
                                      : founder_of(group(g));
    group(g).nodes += s.level.nodes;
    group(g).stages.push_back(i);
    Facts& facts = facts_[static_cast<size_t>(g)];
    facts.fold = facts.fold || is_fold(s);
    facts.dot = facts.dot || is_dot(s);
    facts.scan = facts.scan || s.scan >= 0;
    facts.iterations = std::max(facts.iterations, iterations(s));
    facts.loads += reads_.loads[static_cast<size_t>(i)].size();
    if (is_dot(s)) retile(s, group(g));
  }

  // The root map of a dot's kernel takes the dot's loop order, as far as nothing else is bound yet: the lanes innermost of
  // the loops that the dot is inside of. The map may have more (a trailing dimension of 1, an expand).
  void retile(const Stage& dot, Group& g) {
    if (g.stages.size() != 2 || dot.layout.vector_dim < 0) return;
    Stage& root = stage(g.stages[0]);
    const Ref r = dot.loops[static_cast<size_t>(dot.layout.vector_dim)];
    if (auto it = std::find(g.outer_loops.begin(), g.outer_loops.end(), r); it != g.outer_loops.end()) {
      const auto last = g.outer_loops.begin() + dot.level.depth - 1;
      std::rotate(it, it + 1, last + 1);
    }
    auto rebind = [&](Stage& s) {
      for (size_t d = 0; d < s.loops.size(); d++) {
        const auto at = std::find(g.outer_loops.begin(), g.outer_loops.end(), s.loops[d]);
        const bool around = at - g.outer_loops.begin() < s.level.depth;
        s.level.outer[d] = around ? static_cast<int>(at - g.outer_loops.begin()) : -1;
      }
    };
    rebind(root);
    rebind(stage(g.stages[1]));
  }
};

}  // namespace

void fuse(ProgramTree& program, const Target& target) { Fusion(program, target).run(); }

}  // namespace kontor
