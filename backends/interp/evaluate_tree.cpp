// A kernel is first turned into numbered values and flat lists of steps, so that running it looks up no nodes.
#include "backends/interp/evaluate_tree.h"

#include <algorithm>
#include <unordered_map>

#include "backends/interp/element.h"
#include "backends/interp/reduce.h"
#include "base/error.h"
#include "codegen/tree/text.h"
#include "codegen/tree/tree.h"
#include "graph/scalar.h"

namespace kontor {

namespace {

/// One value computed from others, all by number.
struct Step {
  const Node* node;
  int to;
  std::vector<int> from = {};  // of a Load or Merge: its indexes, then the guard
  int place = -1;
};

struct Statement {
  const Node* node;
  std::vector<Step> steps = {};  // what its values need, in order
  std::vector<int> values = {};  // their numbers
  int target = -1;               // place written or declared, or the number of the range
  std::vector<Statement> body = {}, other = {};
};

struct PlaceMemory {
  const Node* node = nullptr;
  std::byte* data = nullptr;
  std::vector<int64_t> dims = {};
  std::vector<std::byte> own = {};
  std::vector<size_t> part_at = {0};  // where in its memory each part of a fold's state begins

  State state(int64_t at) const {
    State out;
    for (size_t i = 0; i < part_at.size(); i++)
      out[i] = load_element(data + part_at[i], at, tree::part_dtype(*node, i));
    return out;
  }
  void set_state(int64_t at, const State& s) {
    for (size_t i = 0; i < part_at.size(); i++)
      store_element(data + part_at[i], at, tree::part_dtype(*node, i), s[i]);
  }
};

class Machine {
 public:
  Machine(const Ref& kernel, std::span<const int64_t> scalars) : kernel_(kernel), scalars_(scalars) {
    for (const Ref& p : tree::params(*kernel)) param_dims_.push_back(values_of(p->src, p.get()));
    body_ = compile(tree::body(*kernel));
  }

  int64_t run(std::span<void* const> buffers) {
    std::span<const Ref> params = tree::params(*kernel_);
    if (buffers.size() != params.size())
      broken("kernel {} has {} parameters, {} buffers were given", kernel_->arg.text, params.size(),
             buffers.size());
    for (size_t i = 0; i < params.size(); i++) {
      PlaceMemory& memory = places_[static_cast<size_t>(place_number(params[i].get()))];
      run_steps(param_dims_[i].steps);
      memory.dims = extents(param_dims_[i].values);
      memory.data = static_cast<std::byte*>(buffers[i]);
    }
    run(body_);
    return error_;
  }

 private:
  Ref kernel_;
  std::span<const int64_t> scalars_;
  std::unordered_map<const Node*, int> numbers_, place_numbers_;
  std::vector<Value> values_;
  std::vector<PlaceMemory> places_;
  std::vector<Statement> param_dims_, body_;
  std::unordered_map<const Node*, StateFormula> steps_, merges_;  // of places
  std::vector<Value> arguments_;
  int64_t error_ = 0;

  // ---- compiling --------------------------------------------------------------------------------------------------

  int place_number(const Node* place) {
    auto [it, fresh] = place_numbers_.try_emplace(place, static_cast<int>(places_.size()));
    if (fresh) places_.push_back({place});
    return it->second;
  }

  int number(const Node* value) {
    auto [it, fresh] = numbers_.try_emplace(value, static_cast<int>(values_.size()));
    if (!fresh) return it->second;
    values_.push_back({});
    if (value->is_const()) values_.back() = value_of(*value);
    if (value->op == Op::Slot) {
      if (static_cast<size_t>(value->at(0)) >= scalars_.size())
        broken("kernel {} reads slot {}, {} were given", kernel_->arg.text, value->at(0), scalars_.size());
      values_.back() =
          cut_to(value->dtype, static_cast<uint64_t>(scalars_[static_cast<size_t>(value->at(0))]));
    }
    return it->second;
  }

  /// Sources that are values: not the place of an access, nor the extent of a range.
  static std::span<const Ref> operands(const Node& n) {
    if (n.op == Op::Range || n.op == Op::Place) return {};
    return std::span(n.src).subspan(n.op == Op::Load || n.op == Op::Merge ? 1 : 0);
  }

  Statement values_of(std::span<const Ref> roots, const Node* node) {
    Statement s{node};
    std::vector<const Node*> order = topological(roots);
    std::unordered_map<const Node*, bool> needed;
    for (const Ref& r : roots) needed[r.get()] = true;
    for (auto it = order.rbegin(); it != order.rend(); ++it)
      if (needed[*it])
        for (const Ref& o : operands(**it)) needed[o.get()] = true;
    for (const Node* n : order) {
      if (!needed[n] || n->src.empty() || n->op == Op::Range) continue;
      if (is_elementwise(n->op) || n->op == Op::Load || n->op == Op::Merge) {
        Step step{n, number(n)};
        for (const Ref& o : operands(*n)) step.from.push_back(number(o.get()));
        if (!is_elementwise(n->op)) step.place = place_number(n->src[0].get());
        s.steps.push_back(std::move(step));
      } else {
        broken("kernel {}: {} is no value of a loop tree", kernel_->arg.text, row(n->op).name);
      }
    }
    for (const Ref& r : roots) s.values.push_back(number(r.get()));
    return s;
  }

  std::vector<Statement> compile(std::span<const Ref> list) {
    std::vector<Statement> out;
    for (const Ref& s : list) out.push_back(compile(*s));
    return out;
  }

  Statement compile(const Node& n) {
    std::span<const Ref> src = n.src;
    Statement s{&n};
    switch (n.op) {
      case Op::Place:
        s = values_of(src, &n);
        s.target = place_number(&n);
        return s;
      case Op::Loop:
        s = values_of(src[0]->src, &n);
        s.target = number(src[0].get());
        s.body = compile(tree::body(n));
        return s;
      case Op::If:
        s = values_of(src.first(1), &n);
        s.body = compile(tree::then_body(n));
        s.other = compile(tree::else_body(n));
        return s;
      case Op::Store:
      case Op::FoldStep:
        s = values_of(src.subspan(1), &n);
        s.target = place_number(src[0].get());
        return s;
      case Op::Check: return values_of(src, &n);
      default:        broken("kernel {}: {} is no statement", kernel_->arg.text, row(n.op).name);
    }
  }

  // ---- running ----------------------------------------------------------------------------------------------------

  Value& value(int number) { return values_[static_cast<size_t>(number)]; }
  int64_t integer(int number) { return static_cast<int64_t>(value(number).bits); }

  std::vector<int64_t> extents(const std::vector<int>& numbers) {
    std::vector<int64_t> out;
    for (int n : numbers) out.push_back(integer(n));
    return out;
  }

  /// Position of the element at the first indexes of `at`; throws where it is outside. Missing indexes are 0.
  int64_t position(const PlaceMemory& p, const std::vector<int>& at, const Node& access) {
    if (!p.data) broken("{} is used before it is declared", here(access));
    int64_t out = 0;
    for (size_t i = 0; i < p.dims.size(); i++) {
      int64_t index = i < tree::at(access).size() ? integer(at[i]) : 0;
      if (index < 0 || index >= p.dims[i])
        broken("{}: index {} of axis {} is outside 0..{}", here(access), index, i, p.dims[i] - 1);
      out = out * p.dims[i] + index;
    }
    return out;
  }

  std::string here(const Node& access) const {
    return fmt::format("kernel {}: {}", kernel_->arg.text, tree::print(Ref(&access)));
  }

  void run_steps(const std::vector<Step>& steps) {
    for (const Step& s : steps) {
      const Node& n = *s.node;
      if (n.op == Op::Load) {
        value(s.to) = load(s);
      } else if (n.op == Op::Merge) {
        value(s.to) = merge(s);
      } else {
        arguments_.clear();
        for (int f : s.from) arguments_.push_back(value(f));
        value(s.to) = apply(n.op, n.dtype, n[n.op == Op::Where ? 1 : 0]->dtype, arguments_.data());
      }
    }
  }

  Value load(const Step& s) {
    if (tree::guard(*s.node) && !value(s.from.back()).bits) return {};
    PlaceMemory& p = places_[static_cast<size_t>(s.place)];
    const size_t part = tree::part(*s.node), begin = part ? p.part_at[part] : 0;
    return load_element(p.data + begin, position(p, s.from, *s.node), s.node->dtype);
  }

  Value merge(const Step& s) {
    PlaceMemory& p = places_[static_cast<size_t>(s.place)];
    int64_t first = position(p, s.from, *s.node), n = p.dims.back();
    StateFormula& join = formula_of(merges_, *p.node, merge_formulas);
    std::vector<State> lanes;
    for (int64_t i = 0; i < n; i++) lanes.push_back(p.state(first + i));
    for (size_t half = lanes.size() / 2; half > 0; half /= 2)
      for (size_t l = 0; l < half; l++) join(lanes[l], lanes[l + half]);
    return lanes.at(0)[tree::part(*s.node)];
  }

  void run(const std::vector<Statement>& list) {
    for (const Statement& s : list) run(s);
  }

  void run(const Statement& s) {
    run_steps(s.steps);
    switch (s.node->op) {
      case Op::Place: return declare(s);
      case Op::Loop:
        for (int64_t i = 0, n = integer(s.values[0]); i < n; i++) {
          value(s.target) = {static_cast<uint64_t>(i)};
          run(s.body);
        }
        return;
      case Op::If: return run(value(s.values[0]).bits ? s.body : s.other);
      case Op::Check:
        if (!value(s.values[0]).bits && !error_) error_ = integer(s.values[1]);
        return;
      default: return write(s);
    }
  }

  void declare(const Statement& s) {
    PlaceMemory& p = places_[static_cast<size_t>(s.target)];
    p.dims = extents(s.values);
    int64_t count = 1;
    for (int64_t d : p.dims) count *= d;
    size_t bytes = 0;
    p.part_at.clear();
    for (size_t i = 0; i < tree::parts(*s.node); i++) {
      p.part_at.push_back(bytes);
      bytes += static_cast<size_t>(std::max<int64_t>(count, 1) * item_size(tree::part_dtype(*s.node, i)));
    }
    if (tree::space(*s.node) != Space::Param) {  // a parameter has its memory already, and is only cleared
      p.own.assign(bytes, std::byte{0xA5});
      p.data = p.own.data();
    }
    if (!tree::has_fold(*s.node)) return;
    const State identity = identity_of(tree::fold_of(*s.node), s.node->dtype);
    for (int64_t i = 0; i < count; i++) p.set_state(i, identity);
  }

  void write(const Statement& s) {
    PlaceMemory& p = places_[static_cast<size_t>(s.target)];
    int64_t at = position(p, s.values, *s.node);
    if (s.node->op == Op::Store) return store_element(p.data, at, p.node->dtype, value(s.values.back()));
    Value values[most_parts];
    const size_t count = static_cast<size_t>(row(tree::fold_of(*p.node)).arity);
    for (size_t i = 0; i < count; i++) values[i] = value(s.values[s.values.size() - count + i]);
    State state = p.state(at);
    formula_of(steps_, *p.node, step_formulas)(state, std::span(values, count));
    p.set_state(at, state);
  }

  using Formulas = std::unordered_map<const Node*, StateFormula>;
  static StateFormula& formula_of(Formulas& known, const Node& place, FoldState (*make)(Fold, DType)) {
    auto it = known.find(&place);
    if (it == known.end())
      it = known.emplace(&place, StateFormula(make(tree::fold_of(place), place.dtype))).first;
    return it->second;
  }
};

}  // namespace

int64_t evaluate_tree(const Ref& kernel, std::span<void* const> buffers, std::span<const int64_t> scalars) {
  if (kernel->op != Op::Kernel) broken("evaluate_tree of {}", row(kernel->op).name);
  return Machine(kernel, scalars).run(buffers);
}

}  // namespace kontor
