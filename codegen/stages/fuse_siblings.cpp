// Merging kernels side by side: x * 2 and x + 1, two sums of one tensor. Each pair is decided from what the two read and
// who reads them, never from the whole program, so that a program of n kernels takes O(n).
#include <algorithm>

#include "codegen/cost.h"
#include "codegen/stages/fuse.h"

namespace kontor {

Reads::Reads(const ProgramTree& of) : program(of), loads(of.stages.size()), readers(of.stages.size()) {
  for (size_t j = 0; j < program.stages.size(); j++) {
    renew(static_cast<int>(j));
    int last = -1;
    for (const Read& read : loads[j]) {
      if (read.from != last && read.from >= 0)
        readers[static_cast<size_t>(read.from)].push_back(static_cast<int>(j));
      last = read.from;
    }
  }
}

void Reads::renew(int stage) {
  std::vector<Read>& list = loads[static_cast<size_t>(stage)];
  list.clear();
  for (const Ref& load : loads_in(expressions(program.stages[static_cast<size_t>(stage)])))
    list.push_back({stage_number(program, load->src[0]), load});
  std::stable_sort(list.begin(), list.end(), [](const Read& a, const Read& b) { return a.from < b.from; });
}

std::span<const Reads::Read> Reads::of(int reader, int from) const {
  const std::vector<Read>& list = loads[static_cast<size_t>(reader)];
  const auto begin = std::lower_bound(list.begin(), list.end(), from,
                                      [](const Read& read, int number) { return read.from < number; });
  const auto end = std::upper_bound(begin, list.end(), from,
                                    [](int number, const Read& read) { return number < read.from; });
  return {begin, end};
}

void rename(Stage& s, const Substitution& map) {
  for (Ref& v : s.values) v = substitute(v, map);
  for (Ref& f : s.folds) f = substitute(f, map);
  if (s.start) s.start = substitute(s.start, map);
  for (StageCheck& c : s.checks) c.each([&](Ref& r) { r = substitute(r, map); });
  if (s.lane_begin) s.lane_begin = substitute(s.lane_begin, map);
}

namespace {

class Siblings {
 public:
  Siblings(ProgramTree& program, Reads& reads)
      : program_(program),
        reads_(reads),
        home_(program.stages.size(), -1),
        places_(program.groups.size()),
        seen_(program.groups.size()) {
    for (size_t g = 0; g < program_.groups.size(); g++)
      for (int i : program_.groups[g].stages) {
        home_[static_cast<size_t>(i)] = static_cast<int>(g);
        for (const Reads::Read& read : loads(i)) places_[g].insert(read.load->src[0].get());
      }
  }

  void run() {
    for (size_t a = 0; a < program_.groups.size(); a++) {
      if (!mergeable(program_.groups[a])) continue;
      for (size_t b = a + 1; b < program_.groups.size() && b < a + cost::siblings; b++)
        if (may_merge(a, b)) absorb(a, b);
    }
    require_merged();
    std::erase_if(program_.groups, [](const Group& g) { return g.stages.empty(); });
    std::stable_sort(program_.groups.begin(), program_.groups.end(),
                     [](const Group& a, const Group& b) { return place_of(a) < place_of(b); });
  }

 private:
  ProgramTree& program_;
  Reads& reads_;
  std::vector<int> home_;        // by stage: the group it is in
  std::vector<NodeSet> places_;  // by group: what it reads
  std::vector<uint64_t> seen_;   // by group: the search that saw it last
  uint64_t search_ = 0;

  Stage& stage(int i) { return program_.stages[static_cast<size_t>(i)]; }
  const Group& group(int g) const { return program_.groups[static_cast<size_t>(g)]; }
  const std::vector<Reads::Read>& loads(int i) const { return reads_.loads[static_cast<size_t>(i)]; }

  bool mergeable(const Group& g) {
    if (g.stages.empty() || g.outer_loops.empty()) return false;
    return std::none_of(g.stages.begin(), g.stages.end(), [&](int i) {
      const bool has_parts = is_fold(stage(i)) && parts(static_cast<Fold>(stage(i).fold)) > 1;
      return is_dot(stage(i)) || stands_alone(stage(i)) || (stage(i).must_store && !has_parts);
    });
  }

  bool may_merge(size_t a, size_t b) {
    const Group &x = program_.groups[a], &y = program_.groups[b];
    if (y.stages.empty() || !same_loops(x, y)) return false;
    if (const Decision* given = given_of(y)) {
      if (given->verb == Verb::Store || !stands_in(x, given->words[0])) return false;
    } else if (!shares_input(a, b) || x.nodes + y.nodes > cost::kernel_nodes(false)) {
      return false;
    }
    return mergeable(y) && reads_what_is_there(x, y) && reads_what_is_there(y, x) && !would_cross(x, y);
  }

  const Decision* given_of(const Group& g) { return program_.given_of(Matter::Level, stage(g.founder)); }

  static bool stands_in(const Group& g, const std::string& loop) {
    return g.outer_loops.back()->arg.text == loop;
  }

  // What was decided of a kernel's last stage is that the kernel joins another: else it would have joined its reader.
  void require_merged() {
    for (const Group& g : program_.groups) {
      const Decision* given = g.stages.empty() ? nullptr : given_of(g);
      if (given && given->verb != Verb::Store)
        reject(
            *given,
            fmt::format(
                "its first reader is in no kernel that has '{}', and none beside it with equal loops can take it in",
                given->words[0]));
    }
  }

  static bool same_loops(const Group& a, const Group& b) {
    return std::equal(a.outer_loops.begin(), a.outer_loops.end(), b.outer_loops.begin(), b.outer_loops.end(),
                      [](const Ref& r, const Ref& s) { return r->src[0] == s->src[0]; });
  }

  bool shares_input(size_t a, size_t b) const {
    const bool less = places_[a].size() < places_[b].size();
    const auto &few = places_[less ? a : b], &many = places_[less ? b : a];
    return std::any_of(few.begin(), few.end(), [&](const Node* place) { return many.contains(place); });
  }

  // Whether what g reads of x would, with the loops of both shared, be there: never x's last stage, and of others only
  // what the same iteration of the shared loops has computed.
  bool reads_what_is_there(const Group& g, const Group& x) {
    const int from = home_[static_cast<size_t>(x.stages[0])];
    for (int r : g.stages)
      for (const Reads::Read& read : loads(r)) {
        if (read.from < 0 || home_[static_cast<size_t>(read.from)] != from) continue;
        const Stage& s = stage(read.from);
        if (read.from == x.stages.back() || s.level.depth > stage(r).level.depth) return false;
        for (size_t d = 0; d < s.level.outer.size(); d++)
          if (s.level.outer[d] >= 0 &&
              tree::at(*read.load)[d] != g.outer_loops[static_cast<size_t>(s.level.outer[d])])
            return false;
      }
    return true;
  }

  // Other groups that read of g, and that g reads of.
  template <class F>
  bool any_reader(const Group& g, const F& holds) const {
    const int own = home_[static_cast<size_t>(g.stages[0])];
    for (int i : g.stages)
      for (int r : reads_.readers[static_cast<size_t>(i)])
        if (int c = home_[static_cast<size_t>(r)]; c != own && holds(c)) return true;
    return false;
  }
  template <class F>
  bool any_producer(const Group& g, const F& holds) const {
    const int own = home_[static_cast<size_t>(g.stages[0])];
    for (int i : g.stages)
      for (const Reads::Read& read : loads(i)) {
        if (read.from < 0) continue;
        if (int c = home_[static_cast<size_t>(read.from)]; c != own && holds(c)) return true;
      }
    return false;
  }

  // A kernel that needs one of the two and is needed by the other would be torn. Whoever reads a kernel stands after it, so
  // it stands between them.
  bool would_cross(const Group& x, const Group& y) {
    const Group &earlier = place_of(x) < place_of(y) ? x : y, &later = &earlier == &x ? y : x;
    if (needs_through_others(later, earlier)) return true;
    // Whoever reads the earlier one must come after where the merged kernel stands.
    const int place = merged_place(earlier, later), other = home_[static_cast<size_t>(later.stages[0])];
    return any_reader(earlier, [&](int c) { return c != other && place_of(group(c)) < place; });
  }

  bool needs_through_others(const Group& later, const Group& earlier) {
    const int wanted = home_[static_cast<size_t>(earlier.stages[0])];
    std::vector<int> stack;
    search_++;
    auto enter = [&](int c) {
      if (place_of(group(c)) <= place_of(earlier) || seen_[static_cast<size_t>(c)] == search_) return false;
      seen_[static_cast<size_t>(c)] = search_;
      stack.push_back(c);
      return false;
    };
    any_producer(later, enter);
    while (!stack.empty()) {
      const int c = stack.back();
      stack.pop_back();
      if (any_producer(group(c), [&](int p) { return p == wanted || enter(p); })) return true;
    }
    return false;
  }

  static int place_of(const Group& g) { return g.place >= 0 ? g.place : g.stages.back(); }

  // Where the earlier one stands if all that the later one reads has been computed by then, else where the later one does.
  int merged_place(const Group& earlier, const Group& later) const {
    const int from = home_[static_cast<size_t>(earlier.stages[0])];
    const bool waits =
        any_producer(later, [&](int c) { return c != from && place_of(group(c)) >= place_of(earlier); });
    return place_of(waits ? later : earlier);
  }

  void absorb(size_t a, size_t b) {
    Group &into = program_.groups[a], &from = program_.groups[b];
    stage(from.founder).level.where = into.outer_loops.back()->arg.text;
    const bool first = place_of(into) < place_of(from);
    into.place = first ? merged_place(into, from) : merged_place(from, into);
    Substitution map;
    for (size_t k = 0; k < into.outer_loops.size(); k++)
      map.emplace(from.outer_loops[k].get(), into.outer_loops[k]);
    for (int i : from.stages) {
      for (Ref& l : stage(i).loops) l = substitute(l, map);
      rename(stage(i), map);
      reads_.renew(i);
      home_[static_cast<size_t>(i)] = static_cast<int>(a);
    }
    places_[a].insert(places_[b].begin(), places_[b].end());
    into.nodes += from.nodes;
    const auto middle = static_cast<ptrdiff_t>(into.stages.size());
    into.stages.insert(into.stages.end(), from.stages.begin(), from.stages.end());
    std::inplace_merge(into.stages.begin(), into.stages.begin() + middle, into.stages.end());
    from.stages.clear();
    for (int i : into.stages) stage(i).level.group = -2;
  }
};

}  // namespace

void merge_siblings(ProgramTree& program, Reads& reads) { Siblings(program, reads).run(); }

}  // namespace kontor
