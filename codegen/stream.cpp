// stream: which kernels run several times over, each time for a piece of an axis, so that the temporaries between them fit the
// memory budget. A decision over the groups that fuse() made; then their loops, places and indexes are cut to pieces.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "codegen/axis.h"
#include "codegen/memory_plan.h"
#include "codegen/moves.h"
#include "graph/index.h"

namespace kontor::inline v0 {

namespace {

constexpr double launch_work = 1 << 17;  // operations that a launch costs
constexpr double narrower =
    0.25;  // share of a dot's time that half the columns cost, which repeat what it loads
constexpr double most_extra = 0.1;  // of the work, that a budget nobody asked for may cost

/// Groups in launch order, with the streams over them.
struct Order {
  std::vector<int> groups;
  std::vector<ScheduledStream> streams;
  std::vector<size_t> axis;  // of each stream
  bool possible = true;      // false: streams wait for each other
};

// Nests streams by their groups; between them kernels stay in the order they had as far as they can.
class Arrangement {
 public:
  Arrangement(const Flow& flow, const std::vector<Axis>& axes) : flow_(flow), axes_(axes) {}

  Order run() {
    std::vector<int> groups(flow_.before.size());
    std::iota(groups.begin(), groups.end(), 0);
    std::vector<size_t> axes(axes_.size());
    std::iota(axes.begin(), axes.end(), size_t{0});
    std::stable_sort(axes.begin(), axes.end(),
                     [&](size_t a, size_t b) { return axes_[a].groups.size() > axes_[b].groups.size(); });
    place(groups, axes);
    return std::move(order_);
  }

 private:
  const Flow& flow_;
  const std::vector<Axis>& axes_;
  Order order_;

  struct Item {
    std::vector<int> groups;
    int axis = -1;
    std::vector<size_t> axes = {};  // that nest inside
    bool done = false;
  };

  void place(const std::vector<int>& groups, const std::vector<size_t>& axes) {
    std::vector<Item> items = items_of(groups, axes);
    std::vector<int> item(flow_.before.size(), -1);
    for (size_t i = 0; i < items.size(); i++)
      for (int g : items[i].groups) item[static_cast<size_t>(g)] = static_cast<int>(i);
    auto ready = [&](size_t i) {
      for (int g : items[i].groups)
        for (int p : flow_.before[static_cast<size_t>(g)]) {
          const int from = item[static_cast<size_t>(p)];
          if (from >= 0 && from != static_cast<int>(i) && !items[static_cast<size_t>(from)].done)
            return false;
        }
      return true;
    };
    for (size_t n = 0; n < items.size(); n++) {
      size_t next = 0;
      while (next < items.size() && (items[next].done || !ready(next))) next++;
      if (next == items.size()) return void(order_.possible = false);
      items[next].done = true;
      emit(items[next]);
    }
  }

  // Ordered by their first group.
  std::vector<Item> items_of(const std::vector<int>& groups, const std::vector<size_t>& axes) const {
    std::vector<Item> items;
    std::vector<int> owner(flow_.before.size(), -1);
    for (size_t a : axes) {
      const int around = owner[static_cast<size_t>(axes_[a].groups[0])];
      if (around >= 0) {
        items[static_cast<size_t>(around)].axes.push_back(a);
        continue;
      }
      for (int g : axes_[a].groups) owner[static_cast<size_t>(g)] = static_cast<int>(items.size());
      items.push_back({axes_[a].groups, static_cast<int>(a)});
    }
    for (int g : groups)
      if (owner[static_cast<size_t>(g)] < 0) items.push_back({{g}});
    std::stable_sort(items.begin(), items.end(),
                     [](const Item& a, const Item& b) { return a.groups[0] < b.groups[0]; });
    return items;
  }

  void emit(const Item& item) {
    if (item.axis < 0) return order_.groups.push_back(item.groups[0]);
    const size_t a = static_cast<size_t>(item.axis), number = order_.streams.size();
    order_.streams.push_back({order_.groups.size(), 0, axes_[a].extent, axes_[a].chunk, {}, axes_[a].name});
    order_.axis.push_back(a);
    place(item.groups, item.axes);
    order_.streams[number].last = order_.groups.size() - 1;
  }
};

/// What a set of streams needs and costs.
class Estimate {
 public:
  Estimate(const ProgramTree& program, const Flow& flow, std::vector<Axis> chosen)
      : axes(std::move(chosen)), program_(&program), flow_(&flow) {
    order = Arrangement(flow, axes).run();
    if (!order.possible) return;
    position_.resize(order.groups.size());
    for (size_t k = 0; k < order.groups.size(); k++)
      position_[static_cast<size_t>(order.groups[k])] = static_cast<int>(k);
    for (size_t i = 0; i < program.stages.size(); i++) add(static_cast<int>(i));
    find_peak();
    peak = plan_memory(lives_).bytes;
    find_cost();
  }

  std::vector<Axis> axes;
  Order order;
  int64_t peak = 0;  // bytes of the memory plan
  int worst = -1;    // group at which most is alive
  double cost = 0;

  int64_t alive_at(int group) const {
    const int k = position_[static_cast<size_t>(group)];
    int64_t sum = 0;
    for (const Lifetime& l : lives_) sum += l.first <= k && k <= l.last ? l.bytes : 0;
    return sum;
  }

  /// Stages alive at the worst group, the largest first.
  std::vector<int> largest() const {
    const int k = position_[static_cast<size_t>(worst)];
    std::vector<size_t> found;
    for (size_t i = 0; i < lives_.size(); i++)
      if (lives_[i].first <= k && k <= lives_[i].last) found.push_back(i);
    std::stable_sort(found.begin(), found.end(),
                     [&](size_t a, size_t b) { return lives_[a].bytes > lives_[b].bytes; });
    std::vector<int> stages;
    for (size_t i : found) stages.push_back(stage_[i]);
    return stages;
  }

  /// Whether memory of a stage's place holds no more than the piece of axis a.
  bool cut(int s, size_t a) const {
    const Stage& stage = program_->stages[static_cast<size_t>(s)];
    const Carried* c = axes[a].of(s);
    if (!c || c->dim < 0 || stage.output >= 0 || !axes[a].has(flow_->home[static_cast<size_t>(s)]))
      return false;
    const std::vector<int>& readers = flow_->readers[static_cast<size_t>(s)];
    return std::all_of(readers.begin(), readers.end(),
                       [&](int r) { return axes[a].has(flow_->home[static_cast<size_t>(r)]); });
  }

  /// Whether axis a is streamed around the stream over axis b.
  bool around(size_t a, size_t b) const {
    auto number = [&](size_t x) {
      return std::find(order.axis.begin(), order.axis.end(), x) - order.axis.begin();
    };
    const auto i = number(a), j = number(b);
    return i < j && order.streams[static_cast<size_t>(j)].last <= order.streams[static_cast<size_t>(i)].last;
  }

  /// The axis over which the fold of a stage goes on, or -1.
  int folded(int s) const {
    for (size_t a = 0; a < axes.size(); a++) {
      const Carried* c = axes[a].of(s);
      if (c && c->dim < 0 && axes[a].has(flow_->home[static_cast<size_t>(s)])) return static_cast<int>(a);
    }
    return -1;
  }

  /// Whether what is kept of that fold holds no more than the piece of axis a.
  bool accumulator_cut(int s, size_t a) const {
    const Carried* c = axes[a].of(s);
    return c && c->dim >= 0 && axes[a].has(flow_->home[static_cast<size_t>(s)]) &&
           around(a, static_cast<size_t>(folded(s)));
  }

 private:
  const ProgramTree* program_;
  const Flow* flow_;
  std::vector<int> position_;  // in the order, by group
  std::vector<Lifetime> lives_;
  std::vector<int> stage_;  // of each lifetime

  template <class Cut>
  int64_t bytes(const Stage& s, int number, const Cut& is_cut) const {
    auto n = static_cast<double>(item_size(s.place->dtype));
    for (const Ref& d : tree::dims(*s.place))
      n *= d->bounds.hi < (1 << 30) ? static_cast<double>(d->bounds.hi) : 1;
    for (size_t a = 0; a < axes.size(); a++)
      if (is_cut(number, a)) n = n / static_cast<double>(axes[a].extent) * static_cast<double>(axes[a].chunk);
    return static_cast<int64_t>(n + 0.5);
  }

  void add(int i) {
    const Stage& s = program_->stages[static_cast<size_t>(i)];
    const int home = flow_->home[static_cast<size_t>(i)], at = position_[static_cast<size_t>(home)];
    if (const int a = folded(i); a >= 0) {
      const int64_t lanes = s.lane ? extent(s.lane->src[0]) : 1;
      const auto stream = std::find(order.axis.begin(), order.axis.end(), static_cast<size_t>(a));
      keep(i, lifetime(std::span(&at, 1), order.streams, static_cast<int>(stream - order.axis.begin())),
           lanes * bytes(s, i, [&](int n, size_t x) { return accumulator_cut(n, x); }));
    }
    const bool last = program_->groups[static_cast<size_t>(home)].stages.back() == i;
    if (s.output >= 0 || !(s.leaves_kernel || last)) return;
    std::vector<int> touched = {at};
    for (int r : flow_->readers[static_cast<size_t>(i)])
      touched.push_back(position_[static_cast<size_t>(flow_->home[static_cast<size_t>(r)])]);
    keep(i, lifetime(touched, order.streams), bytes(s, i, [&](int n, size_t a) { return cut(n, a); }));
  }

  void keep(int stage, Lifetime life, int64_t bytes) {
    life.bytes = bytes;
    lives_.push_back(life);
    stage_.push_back(stage);
  }

  void find_peak() {
    std::vector<int64_t> change(order.groups.size() + 1);
    for (const Lifetime& l : lives_) {
      change[static_cast<size_t>(l.first)] += l.bytes;
      change[static_cast<size_t>(l.last) + 1] -= l.bytes;
    }
    int64_t sum = 0, most = -1;
    for (size_t k = 0; k < order.groups.size(); k++)
      if ((sum += change[k]) > most) most = sum, worst = order.groups[k];
  }

  // Operations of all launches. What a stage computes that does not run through an axis is computed for each piece anew.
  void find_cost() {
    for (size_t g = 0; g < program_->groups.size(); g++) {
      double launches = 1;
      for (const Axis& a : axes)
        if (a.has(static_cast<int>(g))) launches *= pieces(a);
      cost += launches * launch_work;
      for (int t : program_->groups[g].stages) cost += work(t) * times(static_cast<int>(g), t);
    }
  }

  static double pieces(const Axis& a) {
    return std::ceil(static_cast<double>(a.extent) / static_cast<double>(a.chunk));
  }

  double times(int g, int t) const {
    double n = 1;
    for (const Axis& a : axes) {
      if (!a.has(g)) continue;
      n *= pieces(a);
      const Carried* c = a.of(t);
      if (c) n *= static_cast<double>(a.chunk) / static_cast<double>(a.extent);
      const Stage& s = program_->stages[static_cast<size_t>(t)];
      if (c && is_dot(s) && c->dim >= 0 && c->dim == s.vector_dim) n *= 1 + narrower * std::log2(pieces(a));
    }
    return n;
  }

  double work(int t) const {
    const Stage& s = program_->stages[static_cast<size_t>(t)];
    double n = s.lane ? static_cast<double>(extent(s.lane->src[0])) : 1;
    n *= iterations(s.loops) * iterations(s.folds);
    return n * (1 + 0.25 * static_cast<double>(std::min<size_t>(topological(s.values).size(), 400)));
  }
};

/// Picks streams and the size of their pieces: as long as too much is alive at some kernel, the step that costs least for
/// what it frees there.
class Choice {
 public:
  Choice(ProgramTree& program, const Limits& limits)
      : program_(program), limits_(limits), flow_(program), now_(program, flow_, {}) {}

  Estimate run() {
    const double allowed = limits_.budget_is_asked ? INFINITY : now_.cost * (1 + most_extra);
    const int64_t before = now_.peak;
    if (before <= limits_.memory_budget) return std::move(now_);
    while (now_.peak > limits_.memory_budget && shrink(allowed)) {}
    if (now_.peak <= limits_.memory_budget) grow();
    drop_whole();
    note(before);
    return std::move(now_);
  }

  const Flow& flow() const { return flow_; }

 private:
  ProgramTree& program_;
  const Limits& limits_;
  Flow flow_;
  Estimate now_;
  std::string why_not_;  // of the largest places at the peak

  bool shrink(double allowed) {
    std::optional<Estimate> best;
    double best_score = INFINITY;
    auto consider = [&](std::vector<Axis> axes) {
      Estimate trial(program_, flow_, std::move(axes));
      if (!trial.order.possible) return;
      const double before = static_cast<double>(now_.alive_at(now_.worst));
      const double after = static_cast<double>(trial.alive_at(now_.worst));
      if (after >= before || trial.cost > allowed || trial.peak > now_.peak) return;
      const double score = (trial.cost - now_.cost + 1) / std::log(before / std::max(after, 1.0));
      if (score < best_score) best_score = score, best.emplace(std::move(trial));
    };
    for (size_t a = 0; a < now_.axes.size(); a++) {
      if (!now_.axes[a].has(now_.worst)) continue;
      std::vector<Axis> axes = now_.axes;
      if (smaller(axes[a])) consider(std::move(axes));
    }
    for (Trial& t : with_fresh_axis())
      if (smaller(t.axes.back())) consider(std::move(t.axes));
    if (!best) return false;
    now_ = std::move(*best);
    return true;
  }

  static bool smaller(Axis& axis) {
    for (int64_t size : axis.sizes())
      if (size < axis.chunk) return axis.chunk = size, true;
    return false;
  }

  // The axes with one more, along what is alive at the worst kernel and not streamed there yet.
  struct Trial {
    std::vector<Axis> axes;
    bool around;
  };
  std::vector<Trial> with_fresh_axis() {
    std::vector<Trial> found;
    why_not_.clear();
    const std::vector<int> stages = now_.largest();
    for (size_t n = 0; n < stages.size() && n < 6; n++) {
      const Stage& s = program_.stages[static_cast<size_t>(stages[n])];
      for (size_t d = 0; d < s.loops.size(); d++) {
        for (const bool around : {false, true}) {
          if (known(stages[n], static_cast<int>(d), around, found)) continue;
          std::vector<Axis> axes = now_.axes;
          Axis fresh = find_axis(program_, flow_, stages[n], static_cast<int>(d), now_.worst, axes, around,
                                 limits_.memory_budget / 256);
          axes.push_back(std::move(fresh));
          if (!axes.back().groups.empty()) found.push_back({std::move(axes), around});
          else if (n < 2 && !around)
            why_not_ += fmt::format("  dimension {} of {}: {}\n", d, s.name, axes.back().why);
        }
      }
    }
    return found;
  }

  bool known(int stage, int dim, bool around, const std::vector<Trial>& found) const {
    auto runs_along = [&](const Axis& a) { return a.of(stage) && a.of(stage)->dim == dim; };
    auto found_before = [&](const Trial& t) { return t.around == around && runs_along(t.axes.back()); };
    auto streamed = [&](const Axis& a) { return runs_along(a) && a.has(now_.worst); };
    return std::any_of(found.begin(), found.end(), found_before) ||
           (!around && std::any_of(now_.axes.begin(), now_.axes.end(), streamed));
  }

  // Larger pieces where the budget has room for them.
  void grow() {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t a = 0; a < now_.axes.size(); a++) {
        std::vector<Axis> axes = now_.axes;
        if (!larger(axes[a])) continue;
        Estimate trial(program_, flow_, std::move(axes));
        if (!trial.order.possible || trial.peak > limits_.memory_budget || trial.cost >= now_.cost) continue;
        now_ = std::move(trial);
        changed = true;
      }
    }
  }

  static bool larger(Axis& axis) {
    const std::vector<int64_t> sizes = axis.sizes();
    for (size_t i = sizes.size(); i-- > 0;)
      if (sizes[i] > axis.chunk) return axis.chunk = sizes[i], true;
    return false;
  }

  void drop_whole() {
    std::vector<Axis> axes = now_.axes;
    std::erase_if(axes, [](const Axis& a) { return a.chunk == a.extent; });
    if (axes.size() != now_.axes.size()) now_ = Estimate(program_, flow_, std::move(axes));
  }

  const std::string& name_of(int group) const {
    return program_.stages[static_cast<size_t>(program_.groups[static_cast<size_t>(group)].stages.back())]
        .name;
  }

  void note(int64_t before) {
    program_.notes += fmt::format("stream: {} bytes of temporaries, {} in pieces, for a budget of {}\n",
                                  before, now_.peak, limits_.memory_budget);
    for (const ScheduledStream& s : now_.order.streams)
      program_.notes +=
          fmt::format("stream {}: {} by {}, kernels {} to {}\n", s.name, s.extent, s.chunk, s.first, s.last);
    if (now_.peak > limits_.memory_budget)
      program_.notes += fmt::format("stream: no more, since {} needs {} bytes\n{}", name_of(now_.worst),
                                    now_.alive_at(now_.worst), why_not_);
  }
};

/// Cuts loops, places and indexes of the groups in streams.
class Cutting {
 public:
  Cutting(ProgramTree& program, const Flow& flow, Estimate& plan)
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
      for (Ref& r : g.spine) r = loop(r);
    std::vector<Group> ordered;
    for (int g : plan_.order.groups) ordered.push_back(std::move(group(g)));
    program_.groups = std::move(ordered);
    program_.streams = std::move(plan_.order.streams);
  }

 private:
  ProgramTree& program_;
  const Flow& flow_;
  Estimate& plan_;

  struct Cut {
    size_t axis;
    Ref range, begin;  // what is left of it, and where that begins
  };
  std::unordered_map<const Node*, Cut> cuts_;
  Substitution wide_;                            // ranges as they count in whole values
  Substitution done_;                            // rewritten nodes
  std::vector<Ref> kept_;                        // what was rewritten stays alive
  std::unordered_map<const Node*, int> number_;  // of stages, by their places before
  std::vector<Ref> place_;                       // of stages, after

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
    for (const Node* n : topological(std::span(&expression, 1))) {
      if (done_.count(n)) continue;
      if (auto it = wide_.find(n); it != wide_.end()) {
        done_.emplace(n, it->second);
        continue;
      }
      if (n->op == Op::Place) {
        done_.emplace(n, Ref(n));
        continue;
      }
      std::vector<Ref> sources;
      for (const Ref& s : n->src) sources.push_back(done_.at(s.get()));
      done_.emplace(n, n->op == Op::Load ? load(*n, std::move(sources)) : simplified(*n, std::move(sources)));
    }
    return done_.at(expression.get());
  }

  static Ref simplified(const Node& n, std::vector<Ref> sources) {
    if (sources == n.src) return Ref(&n);
    Ref made = with_sources(n, std::move(sources));
    const bool integer = is_elementwise(made->op) &&
                         (made->dtype == DType::I64 || made->dtype == DType::Bool) &&
                         made->src[0]->op != Op::Load && !is_float(made->src[0]->dtype);
    return integer ? ix::simplify_node(made) : made;
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
    s.begin.assign(s.loops.size(), Ref());
    for (size_t d = 0; d < s.loops.size(); d++) {
      auto it = cuts_.find(s.loops[d].get());
      if (it != cuts_.end() && by[d] < 0) s.begin[d] = it->second.begin;
    }
    for (Ref& r : s.loops) r = loop(r);
    for (Ref& r : s.folds) r = loop(r);
    for (Ref& v : s.values) v = rewrite(v);
    for (auto& c : s.checks) c.first = rewrite(c.first);
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
    for (int d : s.layout) {
      const Ref& range = s.loops[static_cast<size_t>(d)];
      auto it = cuts_.find(range.get());
      const bool piece = it != cuts_.end() && plan_.accumulator_cut(i, it->second.axis);
      dims.push_back(piece ? it->second.range->src[0] : range->src[0]);
      s.accumulator.at.push_back(piece ? it->second.range : rewrite(range));
    }
    if (s.lane) dims.push_back(s.lane->src[0]);
    s.accumulator.place = tree::place(s.place->dtype, dims, s.name + "_kept");
    s.accumulator.resumes = ix::lt(index(0), cut.begin);
    s.accumulator.stream = static_cast<int>(
        std::find(plan_.order.axis.begin(), plan_.order.axis.end(), static_cast<size_t>(axis)) -
        plan_.order.axis.begin());
  }
};

}  // namespace

void stream(ProgramTree& program, const Limits& limits) {
  if (limits.memory_budget <= 0 || program.groups.empty()) return;
  Choice choice(program, limits);
  Estimate plan = choice.run();
  if (plan.axes.empty()) return;
  Cutting(program, choice.flow(), plan).run();
}

}  // namespace kontor::inline v0
