// See random_graph.h.
#include "tests/random_graph.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "graph/functions/random.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/transforms/gradient.h"
#include "tests/random_arguments.h"

namespace kontor {

namespace {

/// Draws of a case: key and counters are Scalars of their own.
class Draws final : public RandomSource {
 public:
  explicit Draws(Dice& dice) : dice_(dice), before_(set_random_source(this)) {}
  ~Draws() override { set_random_source(before_); }
  Draws(const Draws&) = delete;
  Ref key() override {
    if (!key_) key_ = fresh();
    return key_;
  }
  Ref counter(const Ref&) override { return fresh(); }

 private:
  Dice& dice_;
  RandomSource* before_;
  Ref key_;

  Ref fresh() {
    auto state = std::make_shared<ScalarState>();
    state->id = fresh_id();
    state->dtype = DType::U64;
    state->bits = dice_.below(UINT64_MAX);
    return scalar_leaf(state);
  }
};

/// Functions that have no place in a smooth case: where its gradient is wanted to differ from the slope.
bool cuts_gradient(const FunctionRow& row) { return row.name == "detach" || row.name == "bitcast"; }

using Rows = std::vector<const FunctionRow*>;

/// The functions of each class, in the table's order.
const std::vector<std::pair<std::string_view, Rows>>& classes() {
  static const auto made = [] {
    std::vector<std::pair<std::string_view, Rows>> out;
    for (const FunctionRow& f : functions()) {
      auto at = std::find_if(out.begin(), out.end(), [&](auto& c) { return c.first == class_of(f); });
      if (at == out.end()) at = out.insert(out.end(), {class_of(f), {}});
      at->second.push_back(&f);
    }
    return out;
  }();
  return made;
}

const Rows& rows_of(std::string_view name) {
  for (const auto& [own, rows] : classes())
    if (own == name) return rows;
  broken("no class of functions {}", name);
}

class Maker {
 public:
  Maker(uint64_t seed, const CaseOptions& options)
      : seed_(seed), options_(options), dice_(seed), draws_(dice_), leaves_(dice_, options.smooth) {
    uint64_t scale = dice_.below(20);
    budget_ = scale == 0 ? 40000 : scale < 5 ? 9000 : 2500;
    leaves_.cap = scale == 0 ? 2000 : scale < 5 ? 400 : 100;
  }

  Case make_case() {
    static const std::vector<Cell> cells = all_cells();
    for (uint64_t pair = 0; pair < 2; pair++) add_pair(cells[(2 * seed_ + pair) % cells.size()]);
    for (uint64_t more = dice_.below(4); more > 0; more--) {
      left_ = budget_;
      const FunctionRow& row = any_row();
      invoke(row, any_value());
    }
    return finished();
  }

 private:
  uint64_t seed_;
  CaseOptions options_;
  Dice dice_;
  Draws draws_;
  Leaves leaves_;
  int64_t budget_, left_ = 0;  // elements that the nodes of a pair may have, all together
  std::vector<Ref> pool_;      // values that may be read
  std::vector<Step> steps_;
  struct Made {
    std::string_view function;
    Link link;
  };
  std::multimap<const Node*, Made> made_;  // one node may be what two functions gave
  std::set<const Node*> counted_;
  std::vector<Ref> alive_;  // so that no address in made_ and counted_ is another node's

  bool allowed(const FunctionRow& row) const {
    if (options_.smooth && cuts_gradient(row)) return false;
    return options_.draws ||
           (row.group != "draw" && row.name != "uniform" && row.name != "normal" && row.name != "randint" &&
            row.name != "permutation" && row.name != "truncated_normal");
  }
  bool may_hold(DType dtype) const {
    if (!is_float(dtype)) return true;
    return !options_.smooth || dtype == DType::F64;
  }
  const FunctionRow& any_row() {
    while (true) {
      const FunctionRow& row = *dice_.any_of(dice_.any_of(classes()).second);
      if (allowed(row)) return row;
    }
  }
  Ref any_value() {
    if (pool_.empty() || dice_.once_in(6)) return leaves_.leaf({leaves_.dtype(), leaves_.dims()});
    return dice_.any_of(pool_);
  }

  /// A producer, how it is kept, and a consumer of it.
  void add_pair(const Cell& cell) {
    const auto& [producer, consumer, link] = cell;
    for (int attempt = 0; attempt < 600; attempt++) {
      left_ = budget_;
      const size_t steps = steps_.size(), values = pool_.size();
      const FunctionRow &first = *dice_.any_of(rows_of(producer)), &second = *dice_.any_of(rows_of(consumer));
      if (!allowed(first) || !allowed(second)) continue;
      Ref x = attempt % 2 || pool_.empty() ? fresh_view() : any_value();
      Ref value = invoke(first, x);
      for (int again = 0; value && again < 2; again++) {
        if (invoke(second, kept(value, first.name, link))) return;
      }
      steps_.resize(steps);
      pool_.resize(values);
    }
  }

  /// A leaf, often seen through views of views.
  Ref fresh_view() {
    Ref x = leaves_.leaf({leaves_.dtype(), leaves_.dims()});
    const Rows* views[] = {&rows_of("permute"), &rows_of("flip"), &rows_of("slice"), &rows_of("expand"),
                           &rows_of("pad")};
    while (dice_.once_in(3)) {
      Ref seen = invoke(*(*views[dice_.below(std::size(views))])[0], x);
      if (seen) x = seen;
    }
    return x;
  }

  Ref kept(const Ref& value, std::string_view function, Link link) {
    if (link == Link::Fused) return value;
    Ref out = link == Link::Stored ? make(Op::Copy, {value}) : leaves_.leaf_of(value_of(value));
    made_.insert({out.get(), {function, link}});
    alive_.push_back(out);
    return out;
  }

  Array value_of(const Ref& node) {
    Graph g = make_graph({node});
    return evaluate_graph(g, inputs_of(g), scalars_of(g)).outputs[0];
  }
  std::vector<Array> inputs_of(const Graph& g) {
    std::vector<Array> out;
    for (const Ref& i : g.inputs) out.push_back(leaves_.array(i));
    return out;
  }

  /// The function's value on x and what fits it; null where none of some proposals was taken.
  Ref invoke(const FunctionRow& row, const Ref& x) {
    for (int attempt = 0; attempt < 6; attempt++) {
      try {
        std::vector<Argument> arguments = propose_arguments(row, x, pool_, leaves_, dice_, options_.smooth);
        Ref result = call_function(row, arguments);
        if (!is_new(result, arguments) || !fits(result)) continue;
        keep(row, std::move(arguments), result);
        return result;
      } catch (const Error&) {}
    }
    return {};
  }

  static bool is_new(const Ref& result, const std::vector<Argument>& arguments) {
    if (!has_static_shape(*result)) return false;
    for (const Argument& a : arguments)
      if (std::find(a.tensors.begin(), a.tensors.end(), result) != a.tensors.end()) return false;
    return true;
  }

  /// Whether the work of the new nodes is within what is left of the budget.
  bool fits(const Ref& result) {
    std::vector<const Node*> open{result.get()}, fresh;
    int64_t work = 0;
    while (!open.empty()) {
      const Node* n = open.back();
      open.pop_back();
      if (n->is_const() || !counted_.insert(n).second) continue;
      if (!may_hold(n->dtype)) work = INT64_MAX / 2;
      fresh.push_back(n);
      int64_t size = 1;
      for (int64_t d : static_shape(*n)) size = d > budget_ ? budget_ + 1 : size * d;
      work += size;
      if (work > left_) break;
      for (const Ref& s : n->src) open.push_back(s.get());
    }
    if (work <= left_) return left_ -= work, true;
    for (const Node* n : fresh) counted_.erase(n);
    return false;
  }

  void keep(const FunctionRow& row, std::vector<Argument> arguments, const Ref& result) {
    made_.insert({result.get(), {row.name, Link::Fused}});
    alive_.push_back(result);
    pool_.push_back(result);
    steps_.push_back({&row, std::move(arguments), result});
  }

  // ---- the graph

  /// What no other step reads; a stored value is an output too, now and then.
  std::vector<Ref> outputs() {
    std::set<const Node*> read;
    for (const Step& s : steps_)
      for (const Argument& a : s.arguments)
        for (const Ref& t : a.tensors) read.insert(t->is(Op::Copy) ? t->src[0].get() : t.get());
    std::vector<Ref> out;
    for (const Step& s : steps_)
      if (!read.contains(s.result.get()) || dice_.once_in(8))
        if (std::find(out.begin(), out.end(), s.result) == out.end()) out.push_back(s.result);
    for (const Ref& kept : alive_)
      if (kept->is(Op::Copy) && read.contains(kept->src[0].get()) && dice_.once_in(2)) out.push_back(kept);
    return out;
  }

  std::set<Cell> links() const {
    std::set<Cell> out;
    for (const Step& s : steps_)
      for (const Argument& a : s.arguments)
        for (const Ref& t : a.tensors)
          for (auto [from, end] = made_.equal_range(t.get()); from != end; ++from)
            out.insert({from->second.function, s.function->name, from->second.link});
    return out;
  }

  Case finished() {
    std::vector<Ref> wanted = outputs();
    while (wanted.empty())
      if (Ref leaf = fresh_view(); may_hold(leaf->dtype)) wanted.push_back(leaf);
    if (options_.gradients && dice_.once_in(3)) add_gradients(wanted);
    std::vector<Ref> targets;
    Graph plain = make_graph(wanted);
    for (const Ref& o : wanted) targets.push_back(dice_.once_in(4) ? target(o, plain, targets) : Ref());
    Case made{make_graph(wanted, targets), {}};
    made.inputs = inputs_of(made.graph);
    made.scalars = scalars_of(made.graph);
    made.links = links();
    made.steps = std::move(steps_);
    return made;
  }

  static Ref target(const Ref& output, const Graph& graph, const std::vector<Ref>& taken) {
    for (const Ref& l : graph.inputs)
      if (l->dtype == output->dtype && l->shape == output->shape &&
          std::find(taken.begin(), taken.end(), l) == taken.end())
        return l;
    return {};
  }

  void add_gradients(std::vector<Ref>& wanted) {
    const Graph plain = make_graph(wanted);
    std::vector<Ref> leaves;
    for (const Ref& l : plain.inputs)
      if (is_float(l->dtype)) leaves.push_back(l);
    const Ref& of = dice_.any_of(wanted);
    if (!is_float(of->dtype)) return;
    try {
      std::vector<Ref> slopes = gradient(fn::sum(fn::mul(of, 1.5), {}, false), leaves);
      wanted.insert(wanted.end(), slopes.begin(), slopes.end());
    } catch (const Error&) {}
  }
};

}  // namespace

std::string_view class_of(const FunctionRow& row) {
  // One function over windows, whose name says of how many axes.
  for (const std::string_view windows : {"conv_transpose", "conv", "max_pool", "avg_pool"})
    if (row.name.starts_with(windows)) return windows;
  return row.group == "make" || row.group == "elementwise" ? row.group : row.name;
}

std::vector<Cell> all_cells() {
  std::vector<Cell> out;
  for (const auto& [producer, unused] : classes())
    for (const auto& [consumer, rows] : classes())
      for (Link link : {Link::Fused, Link::Stored, Link::Realized})
        if (std::any_of(rows.begin(), rows.end(), [](auto* r) { return reads_tensor(*r); }))
          out.push_back({producer, consumer, link});
  return out;
}

void Coverage::add(const Case& c) {
  static const auto class_by_name = [] {
    std::map<std::string_view, std::string_view> out;
    for (const FunctionRow& f : functions()) out[f.name] = class_of(f);
    return out;
  }();
  for (const auto& [producer, consumer, link] : c.links)
    cells_.insert({class_by_name.at(producer), class_by_name.at(consumer), link});
  for (const Step& s : c.steps) {
    made_.insert({class_of(*s.function), kind(s.result->dtype), s.result->rank()});
    for (const Argument& a : s.arguments)
      for (const Ref& t : a.tensors) read_.insert({class_of(*s.function), kind(t->dtype), t->rank()});
  }
}

std::vector<size_t> Coverage::missing() const {
  const std::vector<Cell> cells = all_cells();
  std::vector<size_t> out;
  for (size_t i = 0; i < cells.size(); i++) {
    const bool can_be = std::any_of(made_.begin(), made_.end(), [&](const auto& made) {
      const auto& [producer, kind, rank] = made;
      return producer == std::get<0>(cells[i]) && read_.contains({std::get<1>(cells[i]), kind, rank});
    });
    if (can_be && !cells_.contains(cells[i])) out.push_back(i);
  }
  return out;
}

std::string describe(const Cell& cell) {
  constexpr const char* links[] = {"fused", "stored", "realized"};
  const auto& [producer, consumer, link] = cell;
  return fmt::format("{} -> {}, {}", producer, consumer, links[static_cast<size_t>(link)]);
}

std::vector<int64_t> scalars_of(const Graph& graph) {
  std::vector<int64_t> out;
  for (const Ref& s : graph.scalars) out.push_back(s->op == Op::Scalar ? s->at(1) : s->at(2));
  return out;
}

Case random_case(uint64_t seed, const CaseOptions& options) { return Maker(seed, options).make_case(); }

}  // namespace kontor
