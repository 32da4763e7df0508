// Makes a program run by a plan of streams.
#include <algorithm>

#include "codegen/streams/plan.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

// Cuts loops, places and indexes of the groups in streams.
class Cutting {
 public:
  Cutting(ProgramTree& program, const Flow& flow, StreamPlan& plan)
      : program_(program), flow_(flow), plan_(plan) {}

  void run() {
    for (size_t a = 0; a < plan_.axes.size(); a++)
      for (int g : plan_.axes[a].groups)
        for (int t : group(g).stages)
          if (const Carried* c = plan_.axes[a].of(t)) cut_range(a, *c);
    for (size_t i = 0; i < program_.stages.size(); i++) new_place(static_cast<int>(i));
    for (size_t i = 0; i < program_.stages.size(); i++)
      if (in_stream(flow_.home[i])) rewrite_stage(static_cast<int>(i));
    for (Group& g : program_.groups)
      for (Ref& r : g.outer_loops) r = loop(r);
    std::vector<Group> ordered;
    for (int g : plan_.order.groups) ordered.push_back(std::move(group(g)));
    program_.groups = std::move(ordered);
    program_.streams = std::move(plan_.order.streams);
  }

 private:
  ProgramTree& program_;
  const Flow& flow_;
  StreamPlan& plan_;

  struct Cut {
    size_t axis;
    Ref range, begin;  // what is left of it, and where that begins
  };
  NodeMap<Cut> cuts_;
  Substitution wide_;       // ranges as they count in whole values
  Substitution done_;       // rewritten nodes
  std::vector<Ref> kept_;   // what was rewritten stays alive
  NodeMap<int> number_;     // of stages, by their places before
  std::vector<Ref> place_;  // of stages, after

  Stage& stage(int i) { return program_.stages[static_cast<size_t>(i)]; }
  Group& group(int g) { return program_.groups[static_cast<size_t>(g)]; }

  bool in_stream(int g) const {
    return std::any_of(plan_.axes.begin(), plan_.axes.end(), [&](const Axis& a) { return a.has(g); });
  }

  void cut_range(size_t a, const Carried& c) {
    if (cuts_.count(c.range.get())) return;
    const Ref begin = slot(a, c.granule);
    const Ref range = ix::range(plan_.axes[a].chunk / c.granule, c.range->arg.text);
    cuts_.emplace(c.range.get(), Cut{a, range, begin});
    wide_.emplace(c.range.get(), ix::add(begin, range));
    kept_.push_back(c.range);
  }

  // A slot that holds where the piece of axis a begins, in units of `granule`.
  Ref slot(size_t a, int64_t granule) {
    ScheduledStream& stream = plan_.order.streams[static_cast<size_t>(
        std::find(plan_.order.axis.begin(), plan_.order.axis.end(), a) - plan_.order.axis.begin())];
    auto known = std::find_if(stream.slots.begin(), stream.slots.end(),
                              [&](const ScheduledStream::Slot& s) { return s.divisor == granule; });
    if (known == stream.slots.end()) known = stream.slots.insert(known, {program_.slots++, granule});
    return tree::slot(DType::I64, static_cast<int64_t>(known->number),
                      {0, (stream.extent - stream.chunk) / granule});
  }

  // The dimensions of a place, and the axis by which each is cut (-1: none).
  std::vector<int> cut_dims(int i) {
    std::vector<int> by(stage(i).loops.size(), -1);
    for (size_t a = 0; a < plan_.axes.size(); a++)
      if (plan_.cut(i, a)) by[static_cast<size_t>(plan_.axes[a].of(i)->dim)] = static_cast<int>(a);
    return by;
  }

  void new_place(int i) {
    const Ref& place = stage(i).place;
    number_.emplace(place.get(), i);
    kept_.push_back(place);
    std::vector<Ref> dims(tree::dims(*place).begin(), tree::dims(*place).end());
    const std::vector<int> by = cut_dims(i);
    bool changed = false;
    for (size_t d = 0; d < dims.size(); d++)
      if (by[d] >= 0) dims[d] = loop(stage(i).loops[d])->src[0], changed = true;
    place_.push_back(changed ? tree::place(place->dtype, dims, place->arg.text) : place);
  }

  Ref loop(const Ref& range) {
    auto it = cuts_.find(range.get());
    return it == cuts_.end() ? rewrite(range) : it->second.range;
  }

  Ref rewrite(const Ref& expression) {
    kept_.push_back(expression);
    map_nodes(std::span(&expression, 1), done_, [&](const Node& n, std::vector<Ref> sources) {
      if (auto it = wide_.find(&n); it != wide_.end()) return it->second;
      if (n.op == Op::Place) return Ref(&n);
      return n.op == Op::Load ? load(n, std::move(sources)) : simplified(n, std::move(sources));
    });
    return done_.at(expression.get());
  }

  // What is kept for one piece only is read from the beginning of its memory on.
  Ref load(const Node& n, std::vector<Ref> sources) {
    auto it = number_.find(n.src[0].get());
    if (it == number_.end()) return with_sources(n, std::move(sources));
    const std::vector<int> by = cut_dims(it->second);
    for (size_t d = 0; d < by.size(); d++)
      if (by[d] >= 0) sources[1 + d] = narrow(tree::at(n)[d], static_cast<size_t>(by[d]));
    sources[0] = place_[static_cast<size_t>(it->second)];
    return with_sources(n, std::move(sources));
  }

  Ref narrow(const Ref& index, size_t axis) const {
    Substitution map = wide_;
    for (const auto& [range, cut] : cuts_)
      if (cut.axis == axis) map[range] = cut.range;
    return replace(index, map);
  }

  void rewrite_stage(int i) {
    Stage& s = stage(i);
    keep_fold(i);
    cut_lanes(s);
    const std::vector<int> by = cut_dims(i);
    s.piece.begin.assign(s.loops.size(), Ref());
    for (size_t d = 0; d < s.loops.size(); d++) {
      auto it = cuts_.find(s.loops[d].get());
      if (it != cuts_.end() && by[d] < 0) s.piece.begin[d] = it->second.begin;
    }
    for (Ref& r : s.loops) r = loop(r);
    for (Ref& r : s.folds) r = loop(r);
    for (Ref& v : s.values) v = rewrite(v);
    if (s.start) s.start = rewrite(s.start);
    for (StageCheck& c : s.checks) c.each([&](Ref& r) { r = rewrite(r); });
    if (s.lane_begin) s.lane_begin = rewrite(s.lane_begin);
    s.place = place_[static_cast<size_t>(i)];
  }

  void cut_lanes(Stage& s) {
    if (!s.lane || s.lane_begin) return;
    auto it = cuts_.find(s.folds.back().get());
    if (it != cuts_.end()) s.lane_length = extent(it->second.range->src[0]) * extent(s.lane->src[0]);
  }

  void keep_fold(int i) {
    Stage& s = stage(i);
    const int axis = plan_.folded(i);
    if (axis < 0) return;
    const Cut& cut = cuts_.at(s.folds[0].get());
    std::vector<Ref> dims;
    for (int d : s.layout.order) {
      const Ref& range = s.loops[static_cast<size_t>(d)];
      auto it = cuts_.find(range.get());
      const bool piece = it != cuts_.end() && plan_.accumulator_cut(i, it->second.axis);
      dims.push_back(piece ? it->second.range->src[0] : range->src[0]);
      s.piece.accumulator.at.push_back(piece ? it->second.range : rewrite(range));
    }
    if (s.lane) dims.push_back(s.lane->src[0]);
    s.piece.accumulator.place = tree::place(s.place->dtype, dims, s.name + "_kept");
    s.piece.accumulator.resumes = ix::lt(index(0), cut.begin);
    s.piece.accumulator.stream = static_cast<int>(
        std::find(plan_.order.axis.begin(), plan_.order.axis.end(), static_cast<size_t>(axis)) -
        plan_.order.axis.begin());
  }
};

}  // namespace

void cut_to_pieces(ProgramTree& program, const Flow& flow, StreamPlan& plan) {
  Cutting(program, flow, plan).run();
}

}  // namespace kontor
