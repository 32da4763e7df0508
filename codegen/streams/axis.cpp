// Finding an axis: from a dimension along reads in both directions, then the kernels that can run piece by piece over it.
#include "codegen/streams/axis.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "codegen/cost.h"
#include "graph/index/index.h"

namespace kontor {

Flow::Flow(const ProgramTree& program) {
  const size_t n = program.stages.size();
  NodeMap<int> number;
  for (size_t i = 0; i < n; i++) number.emplace(program.stages[i].place.get(), static_cast<int>(i));
  home.resize(n, -1);
  reads.resize(n);
  readers.resize(n);
  before.resize(program.groups.size());
  after.resize(program.groups.size());
  for (size_t g = 0; g < program.groups.size(); g++)
    for (int i : program.groups[g].stages) home[static_cast<size_t>(i)] = static_cast<int>(g);
  for (const Stage& s : program.stages) work.push_back(work_of(s));
  for (size_t t = 0; t < n; t++)
    for (const Ref& l : loads_in(expressions(program.stages[t]))) {
      auto it = number.find(l->src[0].get());
      if (it == number.end()) continue;
      reads[t].push_back({it->second, l});
      std::vector<int>& list = readers[static_cast<size_t>(it->second)];
      if (list.empty() || list.back() != static_cast<int>(t)) list.push_back(static_cast<int>(t));
      const int from = home[static_cast<size_t>(it->second)], to = home[t];
      std::vector<int>& earlier = before[static_cast<size_t>(to)];
      if (from != to && std::find(earlier.begin(), earlier.end(), from) == earlier.end())
        earlier.push_back(from), after[static_cast<size_t>(from)].push_back(to);
    }
}

const Carried* Axis::of(int stage) const {
  auto it = carried.find(stage);
  return it == carried.end() ? nullptr : &it->second;
}

// What divides n, falling: all up to cost::divisors, and what is left of n by these.
static std::vector<int64_t> divisors(int64_t n) {
  std::vector<int64_t> large, small;
  for (int64_t d = 1; d <= std::min(cost::divisors, n / d); d++) {
    if (n % d != 0) continue;
    large.push_back(n / d);
    if (d < n / d) small.push_back(d);
  }
  large.insert(large.end(), small.rbegin(), small.rend());
  return large;
}

std::vector<int64_t> Axis::sizes() const {
  const int64_t units = extent / granule;
  std::vector<int64_t> out;
  if (folds) out = divisors(units);
  else
    for (int64_t pieces = 1; pieces <= units; pieces *= 2) out.push_back((units + pieces - 1) / pieces);
  if (out.back() != 1) out.push_back(1);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  for (int64_t& size : out) size *= granule;
  return out;
}

namespace {

/// x = granule * range + a rest within one granule: pieces of x are then pieces of `range`.
bool covers(const Ref& x, const Ref& range, int64_t& granule) {
  if (!ix::affine(x, range, granule) || granule < 1) return false;
  const Ref rest = ix::simplify(substitute(x, {{range.get(), index(0)}}));
  return rest->bounds.lo >= 0 && rest->bounds.hi < granule;
}

class Search {
 public:
  Search(const ProgramTree& program, const Flow& flow, const Wanted& wanted, std::vector<Axis>& others)
      : program_(program), flow_(flow), wanted_(wanted), others_(others) {}

  Axis run() {
    const int seed = wanted_.stage, dim = wanted_.dim;
    const Ref& range = stage(seed).loops[static_cast<size_t>(dim)];
    if (!range->src[0]->is_const()) return refuse("its extent varies");
    if (dim == stage(seed).scan) return refuse("it runs through it step by step");
    axis_.extent = kontor::extent(range->src[0]);
    axis_.name = range->arg.text;
    if (axis_.extent < 2) return refuse("it has one element");
    put(seed, {range, 1, dim});
    while (!work_.empty()) {
      const int t = work_.back();
      work_.pop_back();
      follow_producers(t);
      follow_consumers(t);
    }
    if (wanted_.around) std::erase_if(others_, [&](const Axis& other) { return part(other); });
    if (wanted_.exactly.empty()) choose_groups(wanted_.inside);
    else take_groups();
    if (axis_.groups.empty()) return refuse(why_.empty() ? "its kernel can't run in pieces" : why_);
    settle();
    return std::move(axis_);
  }

 private:
  const ProgramTree& program_;
  const Flow& flow_;
  const Wanted& wanted_;
  std::vector<Axis>& others_;
  Axis axis_;
  std::vector<int> work_;
  std::vector<char> late_ = std::vector<char>(program_.stages.size());  // by stage
  std::string why_;

  const Stage& stage(int i) const { return program_.stages[static_cast<size_t>(i)]; }
  const Group& group(int g) const { return program_.groups[static_cast<size_t>(g)]; }
  int home(int i) const { return flow_.home[static_cast<size_t>(i)]; }

  Axis refuse(const std::string& why) {
    axis_.groups.clear();
    axis_.why = why;
    return std::move(axis_);
  }

  // A loop that a kernel shares is carried by all stages in it.
  void put(int t, const Carried& c) {
    if (!axis_.carried.try_emplace(t, c).second) return;
    work_.push_back(t);
    const Group& g = group(home(t));
    if (std::find(g.outer_loops.begin(), g.outer_loops.end(), c.range) == g.outer_loops.end()) return;
    for (int i : g.stages)
      for (size_t d = 0; d < stage(i).loops.size(); d++)
        if (stage(i).loops[d] == c.range &&
            axis_.carried.try_emplace(i, Carried{c.range, c.granule, static_cast<int>(d)}).second)
          work_.push_back(i);
  }

  // The index that all reads of `from` in t have in dimension dim; null if they differ.
  Ref index_in(int t, int from, int dim) const {
    Ref x;
    for (const Flow::Read& r : flow_.reads[static_cast<size_t>(t)]) {
      if (r.from != from) continue;
      const Ref& at = tree::at(*r.load)[static_cast<size_t>(dim)];
      if (x && x != at) return {};
      x = at;
    }
    return x;
  }

  bool long_enough(int from, int dim, int64_t granule, const Ref& range) const {
    const Ref& extent = tree::dims(*stage(from).place)[static_cast<size_t>(dim)];
    return range->src[0]->is_const() && is_int(extent, granule * kontor::extent(range->src[0]));
  }

  void follow_producers(int t) {
    const Carried c = axis_.carried.at(t);
    for (const Flow::Read& r : flow_.reads[static_cast<size_t>(t)]) {
      if (axis_.of(r.from) || stands_alone(stage(r.from))) continue;
      for (size_t d = 0; d < stage(r.from).loops.size(); d++) {
        const Ref x = index_in(t, r.from, static_cast<int>(d));
        int64_t granule = 0;
        if (static_cast<int>(d) == stage(r.from).scan) continue;
        if (!x || !covers(x, c.range, granule) || c.granule % granule != 0) continue;
        if (!long_enough(r.from, static_cast<int>(d), granule, c.range)) continue;
        put(r.from, {stage(r.from).loops[d], c.granule / granule, static_cast<int>(d)});
        break;
      }
    }
  }

  void follow_consumers(int t) {
    const Carried c = axis_.carried.at(t);
    if (c.dim < 0) return;
    for (int u : flow_.readers[static_cast<size_t>(t)])
      if (!axis_.of(u) && !stands_alone(stage(u))) enter_reader(u, t, c);
  }

  void enter_reader(int u, int t, const Carried& c) {
    const Stage& s = stage(u);
    const Ref x = index_in(u, t, c.dim);
    if (!x) return;
    int64_t granule = 0;
    for (size_t d = 0; d < s.loops.size(); d++)
      if (static_cast<int>(d) != s.scan && covers(x, s.loops[d], granule) &&
          long_enough(t, c.dim, granule, s.loops[d]))
        return put(u, {s.loops[d], c.granule * granule, static_cast<int>(d)});
    if (s.folds.empty() || !covers(x, s.folds[0], granule)) return;
    if (!long_enough(t, c.dim, granule, s.folds[0]) || !can_go_on(s)) return;
    put(u, {s.folds[0], c.granule * granule, -1});
  }

  // Whether a fold can be left and taken up again between two iterations of its outermost loop.
  static bool can_go_on(const Stage& s) {
    if (s.lane_begin || s.layout.panel >= 0) return false;
    if (parts(static_cast<Fold>(s.fold)) > 1) return false;  // an accumulator keeps one value
    return !s.lane || s.folds.size() > 1 || s.lane_length % kontor::extent(s.lane->src[0]) == 0;
  }

  // Whether t reads of `from` only what is in the piece that t is at.
  bool aligned(int from, int t) const {
    const Carried *a = axis_.of(from), *b = axis_.of(t);
    if (!a || !b || a->dim < 0) return false;
    const Ref x = index_in(t, from, a->dim);
    int64_t granule = 0;
    return x && covers(x, b->range, granule) && a->granule * granule == b->granule &&
           long_enough(from, a->dim, granule, b->range);
  }

  // ---- kernels

  bool leaves(int g, int t) const {
    if (stage(t).level.leaves_kernel || stage(t).output >= 0 || group(g).stages.back() == t) return true;
    return std::any_of(others_.begin(), others_.end(), [&](const Axis& other) {
      const Carried* c = other.has(g) ? other.of(t) : nullptr;
      return c && c->dim < 0;
    });
  }

  // A fold that goes on in this axis must be one result for each element of the streams that it is in already.
  bool carried_elsewhere(int g, int t) const {
    return std::all_of(others_.begin(), others_.end(), [&](const Axis& other) {
      const Carried* c = other.has(g) ? other.of(t) : nullptr;
      return !other.has(g) || (c && c->dim >= 0);
    });
  }

  // Whether a loop that a kernel's stages share is what carries all of them: it is cut for all.
  bool cut_alike(int g, const Ref& range) const {
    const std::vector<Ref>& outer = group(g).outer_loops;
    if (std::find(outer.begin(), outer.end(), range) == outer.end()) return true;
    return std::all_of(group(g).stages.begin(), group(g).stages.end(), [&](int t) {
      const std::vector<Ref>& loops = stage(t).loops;
      const Carried* own = axis_.of(t);
      return std::find(loops.begin(), loops.end(), range) == loops.end() || (own && own->range == range);
    });
  }

  // Whether a kernel can run piece by piece. What it computes from a fold that is not at its end yet ("late") is right
  // after the last piece.
  bool fits(int g) {
    bool any = false;
    auto refuse_for = [&](int t, const char* why) {
      why_ = fmt::format("{} {}", stage(t).name, why);
      return false;
    };
    for (int t : group(g).stages) {
      if (stands_alone(stage(t)))
        return refuse_for(t, stage(t).given.empty() ? "scatters" : "is a tree that is given");
      const Carried* c = axis_.of(t);
      any = any || c;
      if (c && !cut_alike(g, c->range))
        return refuse_for(t, "shares the loop with what runs through it otherwise");
      bool is_late = false;
      for (const Flow::Read& r : flow_.reads[static_cast<size_t>(t)]) {
        if (home(r.from) != g) continue;
        const Carried* from = axis_.of(r.from);
        if ((from && from->dim < 0) || late_[static_cast<size_t>(r.from)]) is_late = true;
        else if (from && !aligned(r.from, t)) return refuse_for(t, "reads other pieces");
      }
      if (is_late && (c || !stage(t).checks.empty())) return refuse_for(t, "reads a fold over all pieces");
      late_[static_cast<size_t>(t)] = is_late;
      if (is_late) continue;
      if (leaves(g, t) && !c) return refuse_for(t, "does not run through it");
      if (c && c->dim < 0 && !carried_elsewhere(g, t)) return refuse_for(t, "folds over it within a stream");
    }
    return any;
  }

  // After the last piece a late stage has read what is right by then, of other kernels too.
  bool reads_its_piece(int g, int from) const {
    for (int t : group(g).stages)
      for (const Flow::Read& r : flow_.reads[static_cast<size_t>(t)]) {
        if (home(r.from) != from || aligned(r.from, t)) continue;
        const Carried* c = axis_.of(r.from);
        const bool ends_late = late_[static_cast<size_t>(r.from)] || (c && c->dim < 0);
        if (!late_[static_cast<size_t>(t)] || !ends_late) return false;
      }
    return true;
  }

  bool allowed(int g, int inside) const {
    return std::all_of(others_.begin(), others_.end(), [&](const Axis& other) {
      return (wanted_.around || !other.has(inside) || other.has(g)) && !(other.has(g) && part(other));
    });
  }

  // Whether it cuts loops that this axis runs through too.
  bool part(const Axis& other) const {
    return std::any_of(other.carried.begin(), other.carried.end(), [&](const auto& entry) {
      const Carried* own = axis_.of(entry.first);
      return own && own->range == entry.second.range && other.has(home(entry.first));
    });
  }

  // Kernels that read other pieces of one in the stream belong to the next stream over the axis: levels count these.
  void choose_groups(int inside) {
    std::vector<char> fit(program_.groups.size());
    for (int g = static_cast<int>(fit.size()); g-- > 0;)
      if (g != inside) fit[static_cast<size_t>(g)] = allowed(g, inside) && fits(g);
    why_.clear();
    fit[static_cast<size_t>(inside)] = fits(inside);
    if (!fit[static_cast<size_t>(inside)]) return;
    do {
      by_level(fit, inside);
      trim(inside);
    } while (drop_parts(fit, inside));
    if (wanted_.around && !holds_all(inside)) axis_.groups.clear(), why_ = "a stream lies across";
  }

  // The groups that were asked for, if they can.
  void take_groups() {
    const std::vector<int>& groups = wanted_.exactly;
    const auto has = [&](int g) { return std::binary_search(groups.begin(), groups.end(), g); };
    const auto name = [&](int g) { return stage(group(g).founder).name; };
    for (int g : groups)
      if (!fits(g)) return;
    for (int g : groups)
      for (int p : flow_.before[static_cast<size_t>(g)])
        if (has(p) && !reads_its_piece(g, p)) {
          why_ = fmt::format("the kernel of {} reads other pieces of that of {}", name(g), name(p));
          return;
        }
    for (const Axis& other : others_) {
      const auto shared = std::count_if(other.groups.begin(), other.groups.end(), has);
      if (shared == 0) continue;
      const auto all = static_cast<ptrdiff_t>(std::min(groups.size(), other.groups.size()));
      if (shared < all || part(other)) {
        why_ = "it lies across another stream";
        return;
      }
    }
    axis_.groups = groups;
    why_.clear();
  }

  void by_level(const std::vector<char>& fit, int inside) {
    std::vector<int> level(fit.size());
    for (size_t g = 0; g < fit.size(); g++)
      for (int p : flow_.before[g]) {
        const bool next = fit[static_cast<size_t>(p)] && !(fit[g] && reads_its_piece(static_cast<int>(g), p));
        level[g] = std::max(level[g], level[static_cast<size_t>(p)] + next);
      }
    axis_.groups.clear();
    for (size_t g = 0; g < fit.size(); g++)
      if (fit[g] && level[g] == level[static_cast<size_t>(inside)])
        axis_.groups.push_back(static_cast<int>(g));
  }

  // Bytes that group `to` reads of what group `from` stores, cut by the axis.
  double handed_on(int from, int to) const {
    double bytes = 0;
    for (int s : group(from).stages) {
      const Carried* c = axis_.of(s);
      if (!c || c->dim < 0) continue;
      const std::vector<int>& readers = flow_.readers[static_cast<size_t>(s)];
      if (std::none_of(readers.begin(), readers.end(), [&](int r) { return home(r) == to; })) continue;
      bytes += cost::most_bytes(stage(s).place->dtype, tree::dims(*stage(s).place));
    }
    return bytes;
  }

  // Leaves out kernels that end or begin the stream and would save little. One that goes gives its neighbours fewer reasons to
  // stay, never more: so they are asked again, in any order.
  void trim(int inside) {
    std::vector<char> in(flow_.before.size());
    for (int g : axis_.groups) in[static_cast<size_t>(g)] = true;
    std::vector<int> asked = axis_.groups;
    while (!asked.empty()) {
      const int g = asked.back();
      asked.pop_back();
      if (!in[static_cast<size_t>(g)] || g == inside || stays(g, in)) continue;
      in[static_cast<size_t>(g)] = false;
      for (const auto* near : {&flow_.before[static_cast<size_t>(g)], &flow_.after[static_cast<size_t>(g)]})
        asked.insert(asked.end(), near->begin(), near->end());
    }
    std::erase_if(axis_.groups, [&](int g) { return !in[static_cast<size_t>(g)]; });
  }

  // Whether it stands between groups that are in, or hands on enough.
  bool stays(int g, const std::vector<char>& in) const {
    double bytes = 2 * handed_on(g, g);
    bool reads = false, is_read = false;
    for (int other : flow_.before[static_cast<size_t>(g)])
      if (in[static_cast<size_t>(other)]) bytes += handed_on(other, g), reads = true;
    for (int other : flow_.after[static_cast<size_t>(g)])
      if (in[static_cast<size_t>(other)]) bytes += handed_on(g, other), is_read = true;
    return (reads && is_read) || bytes > static_cast<double>(wanted_.little);
  }

  // Takes out the groups of another stream of which this one would have only a part.
  bool drop_parts(std::vector<char>& fit, int inside) const {
    bool dropped = false;
    for (const Axis& other : others_) {
      if (other.has(inside)) continue;
      const size_t shared = static_cast<size_t>(
          std::count_if(other.groups.begin(), other.groups.end(), [&](int g) { return axis_.has(g); }));
      if (shared == 0 || shared == other.groups.size()) continue;
      for (int g : other.groups) fit[static_cast<size_t>(g)] = false;
      dropped = true;
    }
    return dropped;
  }

  bool holds_all(int inside) const {
    return std::all_of(others_.begin(), others_.end(), [&](const Axis& other) {
      return !other.has(inside) || std::includes(axis_.groups.begin(), axis_.groups.end(),
                                                 other.groups.begin(), other.groups.end());
    });
  }

  void settle() {
    for (int g : axis_.groups)
      for (int t : group(g).stages)
        if (const Carried* c = axis_.of(t)) {
          axis_.granule = std::lcm(axis_.granule, c->granule);
          axis_.folds = axis_.folds || c->dim < 0;
        }
    axis_.chunk = axis_.extent;
  }
};

}  // namespace

Axis find_axis(const ProgramTree& program, const Flow& flow, const Wanted& wanted,
               std::vector<Axis>& others) {
  Axis axis = Search(program, flow, wanted, others).run();
  axis.found_at = wanted.stage;
  axis.dim = wanted.dim;
  return axis;
}

}  // namespace kontor
