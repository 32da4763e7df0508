// Which values of a graph are stored.
#include "codegen/stages/select.h"

#include <algorithm>

#include "codegen/cost.h"
#include "graph/folds.h"
#include "graph/index/index.h"
#include "graph/transforms/calls.h"

namespace kontor {

const Node* see_through(const Node* node) {
  while (node->op == Op::Call || node->op == Op::Mark) node = node->src[0].get();
  return node;
}

static bool is_fold(const Node* n) { return row(n->op).group == OpClass::Reduce; }
static bool is_stage_op(const Node* n) {
  return is_fold(n) || n->op == Op::Scatter || n->op == Op::Copy || n->op == Op::Sort;
}

const Node* stored_for(const Node* output) {
  const Node* own = see_through(output);
  const Node* n = own;
  while (n->op == Op::Reshape) n = see_through(n->src[0].get());
  return is_fold(n) || n->op == Op::Scatter || n->op == Op::Sort ? n : own;
}

namespace {

bool is_draw(const Node* n) {
  if (n->op != Op::Call) return false;
  const CallRow* known = find_call(n->arg.text);
  return known && known->has(CallRow::Draw);
}

bool is_leaf(const Node* n) { return row(n->op).group == OpClass::Leaf; }

class Selection {
 public:
  explicit Selection(const Graph& graph) : graph_(graph), order_(topological(graph.outputs)) {}

  NodeSet run() {
    for (const Ref& o : graph_.outputs) stored_.insert(stored_for(o.get()));
    for (const Node* n : order_)
      if (is_stage_op(n)) stored_.insert(n);
    for (const Node* n : order_)
      if (const Node* x = n->op == Op::Sort ? see_through(n->src[0].get()) : nullptr; x && !is_leaf(x))
        stored_.insert(x);  // a given tree reads values, and computes none
    store_scattered_into();
    store_narrowed();
    find_data();
    for (const Node* n : order_)
      if (n->op == Op::Reduce && row(fold_in(*n)).is_dot) store_operands(n);
    for (const Node* n : order_)
      if (is_draw(n)) find_drawn(n);
    count_readers();
    for (const Node* n : order_) {
      if (n->op == Op::Expand) store_expanded(n);
      cut(n);
      operations_[n] = operations(n);
    }
    find_conditional();
    store_shared();
    return std::move(stored_);
  }

 private:
  const Graph& graph_;
  std::vector<const Node*> order_;
  NodeSet stored_;
  NodeMap<double> operations_;  // of the expression, of what is repeated in it as often as it is
  NodeSet drawn_;               // inside of draws: made again where it is read
  struct Extent {
    int path = 0;      // nodes one after another down to what is stored
    double nodes = 0;  // nodes of the expression; what has several readers counts a part in each
    int readers = 0;
  };
  NodeMap<Extent> extent_;

  NodeSet conditional_;
  NodeSet data_;

  bool stored(const Node* n) const { return stored_.count(n) != 0; }

  static bool is_narrow_cast(const Node* n) {
    return n->op == Op::Cast && is_float(n->dtype) && item_size(n->dtype) < item_size(n->src[0]->dtype);
  }

  // What is kept of a value that is to be stored: where it is made of a narrower float by a cast and by factors that are the same
  // everywhere, that float, from which those who read the value make it again. (A layer's output that was rounded to f16.)
  static const Node* kept_of(const Node* value) {
    const Node* n = value;
    while (!is_narrow_cast(n)) {
      const bool widens = n->op == Op::Cast && is_float(n->src[0]->dtype);
      if (!widens && !(n->op == Op::Mul && is_everywhere(n->src[1].get()))) return value;
      n = see_through(n->src[0].get());
    }
    return item_size(n->dtype) < item_size(value->dtype) ? n : value;
  }
  static bool is_everywhere(const Node* n) {
    n = see_through(n);
    while (n->op == Op::Expand || n->op == Op::Reshape) n = see_through(n->src[0].get());
    return n->op == Op::Const || n->op == Op::Scalar;
  }

  // A fold of which nothing is read but what one narrower float is made of, element by element, is kept as that float.
  void store_narrowed() {
    NodeMap<std::vector<const Node*>> users;
    for (const Node* n : order_)
      for (size_t i = 0; i < lowered_sources(n); i++) users[see_through(n->src[i].get())].push_back(n);
    const NodeSet folds = stored_;
    for (const Node* fold : order_) {
      if (!folds.count(fold) || !is_fold(fold) || !is_float(fold->dtype)) continue;
      const Node* n = fold;
      while (true) {
        std::vector<const Node*> readers = users[n];
        std::erase_if(readers, [](const Node* r) { return see_through(r) != r; });
        if (readers.empty() || std::ranges::any_of(readers, [&](auto* r) { return r != readers[0]; })) break;
        n = readers[0];
        if (is_narrow_cast(n)) stored_.insert(held_by(n, users));
        const bool goes_on = n->op == Op::Cast || n->op == Op::Mul || n->op == Op::Max || n->op == Op::Min;
        if (is_narrow_cast(n) || !goes_on || (n->src.size() > 1 && !is_everywhere(n->src[1].get()))) break;
      }
    }
  }

  // What holds a narrower float: a wider one that all read in its place (f16 holds all numbers of f8, and is one instruction to widen).
  static const Node* held_by(const Node* n, const NodeMap<std::vector<const Node*>>& users) {
    const auto readers = users.find(n);
    if (readers == users.end() || readers->second.empty()) return n;
    for (const Node* r : readers->second)
      if (r->op != Op::Cast || r->dtype != DType::F16 || r != readers->second[0]) return n;
    return readers->second[0];
  }

  // What is checked within a branch of a where, down to what is stored: it counts where the branch is taken, so it is not
  // computed elsewhere for being read twice.
  void find_conditional() {
    const NodeSet checked = checked_values(order_, stored_);
    for (size_t i = order_.size(); i-- > 0;) {
      const Node* n = order_[i];
      const bool within = conditional_.count(n) && !stored(n);
      const bool logical = n->dtype == DType::Bool && (n->op == Op::And || n->op == Op::Or);
      for (size_t s = 0; s < n->src.size(); s++)
        if ((within || (n->op == Op::Where && s > 0) || logical) && checked.count(n->src[s].get()))
          conditional_.insert(n->src[s].get());
    }
  }

  // How often each element of `base` is read by what runs over all elements of n.
  static double reads(const Node* n, const Node* base) {
    return cost::elements(n->shape) / cost::elements(base->shape);
  }

  // What a scatter begins with is computed in loops of its own, and a stage's checks stand in those of its steps: a value that
  // has checks is a stage before it.
  void store_scattered_into() {
    const NodeSet checked = checked_values(order_, stored_);
    for (const Node* n : order_) {
      if (n->op != Op::Scatter || !checked.count(n->src[0].get())) continue;
      const Node* base = see_through(n->src[0].get());
      if (!is_leaf(base)) stored_.insert(base);
    }
  }

  // What depends on memory: all but counters, constants and scalars.
  void find_data() {
    for (const Node* n : order_)
      if (n->op == Op::Buffer ||
          std::ranges::any_of(n->src, [&](const Ref& s) { return data_.count(s.get()); }))
        data_.insert(n);
  }

  // What is picked by counters stays in the dot that reads it. Picked by data, its elements lie anywhere, each in a place of its
  // own: no tile is loaded so (a product of 1,024 rows of a table took 5.5 s, and 22 ms with the rows stored).
  bool picked_by_data(const Node* gather) const {
    return std::any_of(gather->src.begin() + 1, gather->src.end(),
                       [&](const Ref& index) { return data_.count(index.get()) != 0; });
  }

  void store_operands(const Node* dot) {
    for (const Ref& operand : dot->src) {
      const Node* n = see_through(operand.get());
      while (is_movement(n->op) && n->op != Op::Pad && !stored(n)) n = see_through(n->src[0].get());
      if (is_leaf(n) || stored(n) || (n->op == Op::Gather && !picked_by_data(n))) continue;
      if (reads(dot->src[0].get(), n) > cost::dot_reads) stored_.insert(kept_of(n));
    }
  }

  double operations(const Node* n) const {
    if (is_leaf(n) || stored(n)) return 0;
    double total = cost::operations(n->op);
    size_t sources = n->op == Op::Call || is_movement(n->op) ? 1 : n->src.size();
    for (size_t i = 0; i < sources; i++) total += operations_.at(n->src[i].get());
    return total;
  }

  // Sources that are values of the expression, not sizes or what a body was made for.
  static size_t lowered_sources(const Node* n) {
    if (n->op == Op::Pad) return 2;
    return n->op == Op::Call || n->op == Op::Mark || is_movement(n->op) ? 1 : n->src.size();
  }

  void count_readers() {
    for (const Node* n : order_)
      for (size_t i = 0; i < lowered_sources(n); i++) extent_[n->src[i].get()].readers++;
  }

  // Stores n where its expression would grow too large.
  void cut(const Node* n) {
    Extent& e = extent_[n];
    if (is_leaf(n)) return;
    e.path = 1;
    e.nodes = 1;
    for (size_t i = 0; i < lowered_sources(n); i++) {
      const Node* source = n->src[i].get();
      if (stored(source)) continue;
      const Extent& s = extent_.at(source);
      e.path = std::max(e.path, s.path + 1);
      e.nodes += s.nodes / std::max(s.readers, 1);
    }
    const bool fits = e.path < cost::longest_path && e.nodes < cost::most_nodes;
    if (fits || stored(n) || drawn_.count(n) || see_through(n) != n) return;
    stored_.insert(n);
  }

  // A dear value that is repeated (a bias with noise) is computed once for each of its own elements.
  void store_expanded(const Node* expand) {
    const Node* n = see_through(expand->src[0].get());
    while (is_movement(n->op) && n->op != Op::Pad && !stored(n)) n = see_through(n->src[0].get());
    if (stored(n) || !is_elementwise(n->op) || n->rank() == 0 || drawn_.count(n)) return;
    if (!cost::pays_to_store_repeated(operations_[n], reads(expand, n))) return;
    stored_.insert(n);
    for (const Node* x = expand->src[0].get(); x != n; x = x->src[0].get()) operations_[x] = 0;
    operations_[n] = 0;
  }

  // What a draw computes from its key and counter.
  void find_drawn(const Node* draw) {
    std::vector<const Node*> stack = {draw->src[0].get()};
    while (!stack.empty()) {
      const Node* n = stack.back();
      stack.pop_back();
      const bool argument = std::find_if(draw->src.begin() + 1, draw->src.end(), [&](const Ref& a) {
                              return see_through(a.get()) == n;
                            }) != draw->src.end();
      if (argument || stored(n) || !drawn_.insert(n)) continue;
      for (const Ref& s : n->src) stack.push_back(s.get());
    }
  }

  // Consumers before producers: a node that becomes stored is the one reader of what lies below it.
  void store_shared() {
    const NodeSet random = random_values(order_, stored_);
    NodeMap<std::vector<const Node*>> readers;
    auto add = [&](const Node* n, const Node* reader) {
      auto& list = readers[n];
      if (list.size() < 3 && std::find(list.begin(), list.end(), reader) == list.end())
        list.push_back(reader);
    };
    for (size_t i = order_.size(); i-- > 0;) {
      const Node* n = order_[i];
      if (!stored(n) && readers[n].size() >= 2 && is_elementwise(n->op) && operations_[n] >= cost::dear &&
          n->rank() > 0 && !drawn_.count(n) && !conditional_.count(n) && !random.count(n))
        stored_.insert(kept_of(n));
      std::vector<const Node*> own = stored(n) ? std::vector<const Node*>{n} : readers[n];
      size_t sources = n->op == Op::Call ? 1 : n->src.size();
      for (size_t s = 0; s < sources; s++)
        for (const Node* r : own) add(n->src[s].get(), r);
    }
  }
};

}  // namespace

NodeSet random_values(std::span<const Node* const> order, const NodeSet& stored) {
  NodeSet random;
  for (const Node* n : order) {
    if (is_fold(n) || n->op == Op::Buffer) continue;
    const bool drawn = is_draw(n) || std::any_of(n->src.begin(), n->src.end(), [&](const Ref& s) {
                         return random.count(s.get()) && !stored.count(s.get());
                       });
    if (drawn) random.insert(n);
  }
  return random;
}

// Whether an integer division may meet a divisor of 0.
static bool may_divide_by_zero(const Node& n) {
  if (n.op != Op::IDiv && n.op != Op::Mod) return false;
  const Node& divisor = *n.src[1];
  if (divisor.is_const()) return const_int(divisor) == 0;
  return divisor.bounds.lo <= 0 && divisor.bounds.hi >= 0;
}

NodeSet checked_values(std::span<const Node* const> order, const NodeSet& stored) {
  NodeSet checked;
  for (const Node* n : order) {
    const bool own = may_divide_by_zero(*n) || n->op == Op::Gather || n->op == Op::Put;
    const bool below = std::any_of(n->src.begin(), n->src.end(), [&](const Ref& s) {
      return checked.count(s.get()) && !stored.count(see_through(s.get()));
    });
    if (own || below) checked.insert(n);
  }
  return checked;
}

NodeSet select_stored(const Graph& graph) { return Selection(graph).run(); }

}  // namespace kontor
