// The order of groups and streams, lifetimes of what is kept, cost.
#include "codegen/streams/plan.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>

#include "codegen/cost.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

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
    std::vector<size_t> axes = {};    // that nest inside
    std::vector<size_t> before = {};  // items that wait for it, each as often as it does
    size_t waits = 0;
  };

  // Again and again the first item that waits for none.
  void place(const std::vector<int>& groups, const std::vector<size_t>& axes) {
    std::vector<Item> items = items_of(groups, axes);
    std::vector<int> item(flow_.before.size(), -1);
    for (size_t i = 0; i < items.size(); i++)
      for (int g : items[i].groups) item[static_cast<size_t>(g)] = static_cast<int>(i);
    std::priority_queue<size_t, std::vector<size_t>, std::greater<>> ready;
    for (size_t i = 0; i < items.size(); i++) {
      for (int g : items[i].groups)
        for (int p : flow_.before[static_cast<size_t>(g)]) {
          const int from = item[static_cast<size_t>(p)];
          if (from < 0 || from == static_cast<int>(i)) continue;
          items[static_cast<size_t>(from)].before.push_back(i);
          items[i].waits++;
        }
      if (items[i].waits == 0) ready.push(i);
    }
    size_t placed = 0;
    for (; !ready.empty(); placed++) {
      const size_t next = ready.top();
      ready.pop();
      emit(items[next]);
      for (size_t i : items[next].before)
        if (--items[i].waits == 0) ready.push(i);
    }
    if (placed < items.size()) order_.possible = false;
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
    order_.streams.push_back(
        {order_.groups.size(), 0, axes_[a].extent, axes_[a].chunk, {}, axes_[a].name, axes_[a].block});
    order_.axis.push_back(a);
    place(item.groups, item.axes);
    order_.streams[number].last = order_.groups.size() - 1;
  }
};

}  // namespace

StreamPlan::StreamPlan(const ProgramTree& program, const Flow& flow, std::vector<Axis> chosen)
    : axes(std::move(chosen)), program_(&program), flow_(&flow) {
  order = Arrangement(flow, axes).run();
  for (size_t i = 0; order.possible && i < program.stages.size(); i++)
    order.possible = !adds_twice(static_cast<int>(i));
  if (!order.possible) return;
  position_.resize(order.groups.size());
  for (size_t k = 0; k < order.groups.size(); k++)
    position_[static_cast<size_t>(order.groups[k])] = static_cast<int>(k);
  for (size_t i = 0; i < program.stages.size(); i++) add(static_cast<int>(i));
  find_peak();
  peak = plan_memory(lives_).bytes;
  find_cost();
}

int64_t StreamPlan::alive_at(int group) const {
  const int k = position_[static_cast<size_t>(group)];
  int64_t sum = 0;
  for (const Lifetime& l : lives_) sum += l.first <= k && k <= l.last ? l.bytes : 0;
  return sum;
}

bool StreamPlan::needs_less_than(const StreamPlan& other) const {
  return peak != other.peak ? peak < other.peak : alive_ < other.alive_;
}

std::vector<int> StreamPlan::largest() const {
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

bool StreamPlan::cut(int s, size_t a) const {
  const Stage& stage = program_->stages[static_cast<size_t>(s)];
  const Carried* c = axes[a].of(s);
  if (!c || c->dim < 0 || stage.output >= 0 || !axes[a].has(flow_->home[static_cast<size_t>(s)]))
    return false;
  const std::vector<int>& readers = flow_->readers[static_cast<size_t>(s)];
  return std::all_of(readers.begin(), readers.end(),
                     [&](int r) { return axes[a].has(flow_->home[static_cast<size_t>(r)]); });
}

bool StreamPlan::around(size_t a, size_t b) const {
  auto number = [&](size_t x) {
    return std::find(order.axis.begin(), order.axis.end(), x) - order.axis.begin();
  };
  const auto i = number(a), j = number(b);
  return i < j && order.streams[static_cast<size_t>(j)].last <= order.streams[static_cast<size_t>(i)].last;
}

int StreamPlan::folded(int s) const {
  for (size_t a = 0; a < axes.size(); a++) {
    const Carried* c = axes[a].of(s);
    if (c && c->dim < 0 && axes[a].has(flow_->home[static_cast<size_t>(s)])) return static_cast<int>(a);
  }
  return -1;
}

bool StreamPlan::adds_twice(int s) const {
  const int fold = folded(s);
  for (size_t a = 0; fold >= 0 && a < axes.size(); a++) {
    if (!axes[a].has(flow_->home[static_cast<size_t>(s)]) || !around(static_cast<size_t>(fold), a)) continue;
    const Carried* c = axes[a].of(s);
    const bool overlaps = axes[a].extent % axes[a].chunk != 0;
    if (!c || (c->dim >= 0 && overlaps)) return true;
  }
  return false;
}

bool StreamPlan::accumulator_cut(int s, size_t a) const {
  const Carried* c = axes[a].of(s);
  return c && c->dim >= 0 && axes[a].has(flow_->home[static_cast<size_t>(s)]) &&
         around(a, static_cast<size_t>(folded(s)));
}

template <class Cut>
int64_t StreamPlan::bytes(const Stage& s, int number, const Cut& is_cut) const {
  double n = cost::most_bytes(s.place->dtype, tree::dims(*s.place));
  for (size_t a = 0; a < axes.size(); a++)
    if (is_cut(number, a)) n = n / static_cast<double>(axes[a].extent) * static_cast<double>(axes[a].chunk);
  return cost::rounded(n);
}

void StreamPlan::add(int i) {
  const Stage& s = program_->stages[static_cast<size_t>(i)];
  const int home = flow_->home[static_cast<size_t>(i)], at = position_[static_cast<size_t>(home)];
  if (const int a = folded(i); a >= 0) {
    const int64_t lanes = s.lane ? extent(s.lane->src[0]) : 1;
    const auto stream = std::find(order.axis.begin(), order.axis.end(), static_cast<size_t>(a));
    keep(i, lifetime(std::span(&at, 1), order.streams, static_cast<int>(stream - order.axis.begin())),
         lanes * bytes(s, i, [&](int n, size_t x) { return accumulator_cut(n, x); }));
  }
  const bool last = program_->groups[static_cast<size_t>(home)].stages.back() == i;
  if (s.output >= 0 || !(s.level.leaves_kernel || last)) return;
  std::vector<int> touched = {at};
  for (int r : flow_->readers[static_cast<size_t>(i)])
    touched.push_back(position_[static_cast<size_t>(flow_->home[static_cast<size_t>(r)])]);
  keep(i, lifetime(touched, order.streams), bytes(s, i, [&](int n, size_t a) { return cut(n, a); }));
}

void StreamPlan::keep(int stage, Lifetime life, int64_t bytes) {
  life.bytes = bytes;
  lives_.push_back(life);
  stage_.push_back(stage);
}

void StreamPlan::find_peak() {
  std::vector<int64_t> change(order.groups.size() + 1);
  for (const Lifetime& l : lives_) {
    change[static_cast<size_t>(l.first)] += l.bytes;
    change[static_cast<size_t>(l.last) + 1] -= l.bytes;
  }
  int64_t sum = 0, most = -1;
  for (size_t k = 0; k < order.groups.size(); k++) {
    if ((sum += change[k]) > most) most = sum, worst = order.groups[k];
    alive_.push_back(sum);
  }
  std::sort(alive_.begin(), alive_.end(), std::greater());
}

static double pieces(const Axis& a) {
  return std::ceil(static_cast<double>(a.extent) / static_cast<double>(a.chunk));
}

// Operations of all launches. What a stage computes that does not run through an axis is computed for each piece anew.
void StreamPlan::find_cost() {
  for (size_t g = 0; g < program_->groups.size(); g++) {
    double launches = 1;
    for (const Axis& a : axes)
      if (a.has(static_cast<int>(g))) launches *= pieces(a);
    cost += launches * cost::launch;
    for (int t : program_->groups[g].stages)
      cost += flow_->work[static_cast<size_t>(t)] * times(static_cast<int>(g), t);
  }
}

double StreamPlan::times(int g, int t) const {
  double n = 1;
  for (const Axis& a : axes) {
    if (!a.has(g)) continue;
    n *= pieces(a);
    const Carried* c = a.of(t);
    if (c) n *= static_cast<double>(a.chunk) / static_cast<double>(a.extent);
    const Stage& s = program_->stages[static_cast<size_t>(t)];
    if (!c || !is_dot(s) || c->dim < 0) continue;
    if (c->dim == s.layout.vector_dim) n *= cost::dot_in_pieces(pieces(a));
    const bool fills = s.layout.way == OperandWay::Panel || s.layout.way == OperandWay::Computed;
    if (fills && c->dim == s.layout.unroll_dim)
      n *= cost::dot_by_rows(static_cast<double>(a.chunk), static_cast<double>(a.extent));
  }
  return n;
}

}  // namespace kontor
