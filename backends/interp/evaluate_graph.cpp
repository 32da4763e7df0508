// One function an op class; each walks the elements of its result and looks up where each comes from.
#include "backends/interp/evaluate_graph.h"

#include <algorithm>
#include <unordered_map>

#include "backends/interp/element.h"
#include "backends/interp/reduce.h"
#include "base/error.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor {

Array Array::make(DType dtype, std::vector<int64_t> shape) {
  Array a{dtype, std::move(shape)};
  a.bytes.resize(static_cast<size_t>(a.size() * item_size(dtype)));
  return a;
}

int64_t Array::size() const {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

static void need_within(const Array& a, int64_t position) {
  if (position < 0 || static_cast<size_t>((position + 1) * item_size(a.dtype)) > a.bytes.size())
    broken("element {} of an array of {} bytes", position, a.bytes.size());
}

Value Array::get(int64_t position) const {
  need_within(*this, position);
  return load_element(bytes.data(), position, dtype);
}

void Array::set(int64_t position, Value value) {
  need_within(*this, position);
  store_element(bytes.data(), position, dtype, value);
}

bool Array::any_wrong() const { return std::find(wrong.begin(), wrong.end(), true) != wrong.end(); }
bool Array::is_wrong(int64_t position) const {
  return !wrong.empty() && wrong[static_cast<size_t>(position)];
}

namespace {

using Index = std::vector<int64_t>;

int64_t flat(const Index& at, const Index& shape) {
  int64_t position = 0;
  for (size_t i = 0; i < shape.size(); i++) position = position * shape[i] + at[i];
  return position;
}

Index unflat(int64_t position, const Index& shape) {
  Index at(shape.size());
  for (size_t i = shape.size(); i-- > 0; position /= shape[i]) at[i] = position % shape[i];
  return at;
}

bool inside(const Index& at, const Index& shape) {
  for (size_t i = 0; i < shape.size(); i++)
    if (at[i] < 0 || at[i] >= shape[i]) return false;
  return true;
}

/// Calls body(index, position) for each element in row-major order.
template <class Body>
void for_each(const Index& shape, Body&& body) {
  int64_t count = 1;
  for (int64_t d : shape) count *= d;
  Index at(shape.size());
  for (int64_t position = 0; position < count; position++) {
    body(static_cast<const Index&>(at), position);
    for (size_t i = shape.size(); i-- > 0;) {
      if (++at[i] < shape[i]) break;
      at[i] = 0;
    }
  }
}

class Evaluator {
 public:
  Evaluator(const Graph& graph, std::span<const Array> inputs, std::span<const int64_t> scalars)
      : graph_(graph) {
    if (inputs.size() != graph.inputs.size() || scalars.size() != graph.scalars.size())
      broken("evaluate_graph: {} inputs and {} scalars were given for {} and {}", inputs.size(),
             scalars.size(), graph.inputs.size(), graph.scalars.size());
    for (size_t i = 0; i < scalars.size(); i++)
      if (graph.scalars[i]->op == Op::Variable) variables_[graph.scalars[i].get()] = scalars[i];
    for (size_t i = 0; i < scalars.size(); i++) set_scalar(*graph.scalars[i], scalars[i]);
    for (size_t i = 0; i < inputs.size(); i++) {
      const Node& leaf = *graph.inputs[i];
      if (inputs[i].dtype != leaf.dtype || inputs[i].shape != shape_of(leaf))
        broken("evaluate_graph: input {} is {}", i, describe(leaf));
      arrays_[&leaf] = inputs[i];
    }
  }

  Evaluation run() {
    std::vector<const Node*> order = topological(graph_.outputs);
    std::unordered_map<const Node*, size_t> uses;
    for (const Node* n : order)
      for (const Ref& s : n->src) uses[s.get()]++;
    for (const Ref& o : graph_.outputs) uses[o.get()]++;
    for (const Node* n : order) {
      if (!arrays_.contains(n)) arrays_[n] = evaluate(*n);
      for (const Ref& s : n->src)
        if (--uses[s.get()] == 0) arrays_.erase(s.get());
    }
    Evaluation result;
    for (const Ref& o : graph_.outputs) {
      result.outputs.push_back(arrays_.at(o.get()));
      report(result.outputs.back());
    }
    result.error = error_;
    result.cut_away = cut_away_;
    return result;
  }

 private:
  const Graph& graph_;
  NodeMap<int64_t> variables_;
  std::unordered_map<const Node*, Array> arrays_;
  std::string error_;
  std::string cut_away_;

  void set_scalar(const Node& leaf, int64_t bits) {
    Array a = Array::make(leaf.dtype, {});
    a.set(0, cut_to(leaf.dtype, static_cast<uint64_t>(bits)));
    arrays_[&leaf] = std::move(a);
  }

  void report(const Array& a) {
    if (error_.empty() && a.any_wrong()) error_ = a.why;
  }

  static void wrong(Array& a, int64_t position, const std::string& why) {
    a.wrong.resize(static_cast<size_t>(a.size()));
    a.wrong[static_cast<size_t>(position)] = true;
    if (a.why.empty()) a.why = why;
  }
  static void copy_wrong(Array& to, int64_t position, const Array& from, int64_t at) {
    if (from.is_wrong(at)) wrong(to, position, from.why);
  }

  Index shape_of(const Node& n) const {
    Index shape;
    for (const Ref& d : n.shape) shape.push_back(d->is_const() ? d->at(0) : ix::evaluate(d, variables_));
    return shape;
  }

  const Array& source(const Node& n, size_t i) const { return arrays_.at(n[i].get()); }
  /// Of an index expression (a Pad's) also when its array is gone.
  int64_t integer(const Node& n, size_t i) const {
    auto it = arrays_.find(n[i].get());
    return it != arrays_.end() ? to_int(n[i]->dtype, it->second.get(0)) : ix::evaluate(n[i], variables_);
  }

  Array evaluate(const Node& n) {
    if (is_elementwise(n.op)) return elementwise(n);
    // What is folded or scattered counts, as an output does; other elements may still be left out by a where.
    if (n.op == Op::Reduce || n.op == Op::Scan || n.op == Op::Scatter || n.op == Op::Sort || n.op == Op::Copy)
      for (const Ref& s : n.src) report(arrays_.at(s.get()));
    // Steps of a window, an expansion to nothing, the value of a padding of nothing: views need not read all of a source.
    if (is_movement(n.op) || n.op == Op::Gather || n.op == Op::Put)
      for (const Ref& s : n.src)
        if (const Array& a = arrays_.at(s.get()); cut_away_.empty() && a.any_wrong()) cut_away_ = a.why;
    switch (n.op) {
      case Op::Const: {
        Array out = Array::make(n.dtype, {});
        out.set(0, value_of(n));
        return out;
      }
      case Op::Iota:    return from_index(n, [&](const Index& at) { return from_int(n.dtype, at[0]); });
      case Op::Mark:
      case Op::Call:
      case Op::Copy:    return source(n, 0);
      case Op::Reshape: {
        Array out = source(n, 0);
        out.shape = shape_of(n);
        return out;
      }
      case Op::Reduce:  return reduce(n);
      case Op::Scan:    return scan(n);
      case Op::Gather:  return gather(n);
      case Op::Scatter: return scatter(n);
      case Op::Put:     return put(n);
      case Op::Sort:    return sort(n);
      default:
        if (is_movement(n.op)) return moved(n);
        broken("evaluate_graph: {} has no value", row(n.op).name);
    }
  }

  template <class F>
  Array from_index(const Node& n, F&& value) {
    Array out = Array::make(n.dtype, shape_of(n));
    for_each(out.shape, [&](const Index& at, int64_t position) { out.set(position, value(at)); });
    return out;
  }

  /// Whether one source alone decides an `and` or an `or` of bools.
  static bool decided(const Node& n, std::span<const Array* const> sources, std::span<const Value> args,
                      int64_t i) {
    if (n.dtype != DType::Bool || (n.op != Op::And && n.op != Op::Or)) return false;
    for (size_t k = 0; k < args.size(); k++)
      if (!sources[k]->is_wrong(i) && (args[k].bits != 0) == (n.op == Op::Or)) return true;
    return false;
  }

  Array elementwise(const Node& n) {
    Array out = Array::make(n.dtype, shape_of(n));
    DType dtype = n[n.op == Op::Where ? 1 : 0]->dtype;
    std::vector<Value> args(n.src.size());
    std::vector<const Array*> sources;
    for (size_t k = 0; k < n.src.size(); k++) sources.push_back(&source(n, k));
    for (int64_t i = 0, count = out.size(); i < count; i++) {
      for (size_t k = 0; k < args.size(); k++) args[k] = sources[k]->get(i);
      if (!decided(n, sources, args, i))
        for (size_t k = 0; k < args.size(); k++)
          if (n.op != Op::Where || k == 0 || (k == 1) == (args[0].bits != 0))
            copy_wrong(out, i, *sources[k], i);
      if ((n.op == Op::IDiv || n.op == Op::Mod) && !args[1].bits)
        wrong(out, i, fmt::format("{}: integer division by zero", row(n.op).name));
      out.set(i, apply(n.op, n.dtype, dtype, args.data()));
    }
    return out;
  }

  /// Index of the source's element that lands at `at`; false where none does and the fill stands there.
  bool origin(const Node& n, const Index& at, const Index& from, Index& index) const {
    size_t axis = n.op == Op::Window || n.op == Op::Unwindow ? static_cast<size_t>(n.at(0)) : 0;
    index = at;
    switch (n.op) {
      case Op::Permute:
        for (size_t i = 0; i < at.size(); i++) index[static_cast<size_t>(n.at(i))] = at[i];
        return true;
      case Op::Expand:
        for (size_t i = 0; i < at.size(); i++) index[i] = from[i] == 1 ? 0 : at[i];
        return true;
      case Op::Pad:
        for (size_t i = 0; i < at.size(); i++) index[i] = at[i] - integer(n, 2 + 2 * i);
        return inside(index, from);
      case Op::Shrink:
        for (size_t i = 0; i < at.size(); i++) index[i] = at[i] + integer(n, 1 + 2 * i);
        return true;
      case Op::Flip:
        for (int64_t a : n.arg.ints)
          index[static_cast<size_t>(a)] = from[static_cast<size_t>(a)] - 1 - at[static_cast<size_t>(a)];
        return true;
      case Op::Window:
        index.erase(index.begin() + n.at(0) + 1);
        index[axis] = at[axis] * n.at(1) + at[axis + 1] * n.at(2);
        return true;
      case Op::Unwindow: {
        int64_t t = at[axis] - at[axis + 1] * n.at(2);
        index[axis] = t / n.at(1);
        return t >= 0 && t % n.at(1) == 0 && inside(index, from);
      }
      default: broken("evaluate_graph: movement op {}", row(n.op).name);
    }
  }

  Array moved(const Node& n) {
    const Array& x = source(n, 0);
    Value fill = n.op == Op::Pad ? source(n, 1).get(0) : Value{};
    Array out = Array::make(n.dtype, shape_of(n));
    Index index;
    for_each(out.shape, [&](const Index& at, int64_t position) {
      if (!origin(n, at, x.shape, index)) return out.set(position, fill);
      if (!inside(index, x.shape))
        broken("evaluate_graph: {} reads outside of {}", row(n.op).name, describe(*n[0]));
      const int64_t from = flat(index, x.shape);
      copy_wrong(out, position, x, from);
      out.set(position, x.get(from));
    });
    return out;
  }

  /// Whether a dot has the term whose factor lies at `at`: an unwindow's elements out of range are none.
  bool is_term(const Node* n, Index at) const {
    while (is_movement(n->op) || n->op == Op::Mark || n->op == Op::Call) {
      const Node* from = n->src[0].get();
      if (is_movement(n->op)) {
        Index index, shape = shape_of(*from);
        if (n->op == Op::Reshape) index = unflat(flat(at, shape_of(*n)), shape);
        else if (!origin(*n, at, shape, index)) return n->op == Op::Pad;
        at = std::move(index);
      }
      n = from;
    }
    return true;
  }

  /// Views of an unwindow, if nothing but views lies above it.
  static bool holds_unwindow(const Node* n) {
    while (is_movement(n->op) || n->op == Op::Mark || n->op == Op::Call) {
      if (n->op == Op::Unwindow) return true;
      n = n->src[0].get();
    }
    return false;
  }

  Array reduce(const Node& n) {
    const Array& x = source(n, 0);
    std::span<const int64_t> axes = std::span(n.arg.ints).subspan(1);
    Fold fold = fold_in(n);
    Reduction reduction(fold, part_in(n), state_dtype(fold, n[0]->dtype), n[0]->shape, axes);
    std::vector<const Array*> values_of;
    for (size_t i = 0; i < n.src.size(); i++) values_of.push_back(&source(n, i));
    std::vector<const Node*> partial;
    for (const Ref& s : n.src)
      if (row(fold).is_dot && holds_unwindow(s.get())) partial.push_back(s.get());
    return from_index(n, [&](const Index& kept) {
      return reduction.value(
          [&](const Index& reduced, Value* values) {
            Index at(x.shape.size());
            for (size_t i = 0, k = 0, r = 0; i < at.size(); i++) {
              bool is_reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
              at[i] = is_reduced ? reduced[r++] : kept[k++];
            }
            const int64_t position = flat(at, x.shape);
            for (const Array* a : values_of) *values++ = a->get(position);
            return std::all_of(partial.begin(), partial.end(), [&](const Node* s) { return is_term(s, at); });
          },
          x.shape);
    });
  }

  /// One element after another.
  Array scan(const Node& n) {
    const size_t axis = static_cast<size_t>(n.at(1)), arity = n.src.size() - 1;
    ScalarFormula step(step_formulas(fold_in(n), n.dtype)[0]);
    const Array& start = source(n, arity);
    Array out = Array::make(n.dtype, shape_of(n));
    for_each(start.shape, [&](const Index& chain, int64_t number) {
      Index at = chain;
      at.insert(at.begin() + n.at(1), 0);
      Value so_far = start.get(number);
      for (at[axis] = 0; at[axis] < out.shape[axis]; at[axis]++) {
        const int64_t position = flat(at, out.shape);
        Value slots[1 + most_parts] = {so_far};
        for (size_t i = 0; i < arity; i++) slots[i + 1] = source(n, i).get(position);
        out.set(position, so_far = step(slots));
      }
    });
    return out;
  }

  /// Splits n's index (s.., rest..) over the axes of `shape`: those in `axes` come from the index tensors, source `first`
  /// and on. Returns what is wrong with them, or ""; an index that came out of an error counts as the value that it has.
  std::string indexed(const Node& n, size_t first, std::span<const int64_t> axes, const Index& at,
                      const Index& shape, Index& out, bool& inside) {
    const Index& s = source(n, first).shape;
    int64_t position = flat(Index(at.begin(), at.begin() + static_cast<ptrdiff_t>(s.size())), s);
    out.assign(shape.size(), -1);
    std::string why;
    inside = true;
    for (size_t i = 0; i < axes.size(); i++) {
      size_t axis = static_cast<size_t>(axes[i]);
      int64_t value = to_int(n[first + i]->dtype, source(n, first + i).get(position));
      if (why.empty() && source(n, first + i).is_wrong(position)) why = source(n, first + i).why;
      if (value < 0 || value >= shape[axis]) {
        if (why.empty()) why = out_of_range(n, value, axis, shape[axis]);
        value = 0;
        inside = false;
      }
      out[axis] = value;
    }
    size_t rest = s.size();
    for (int64_t& o : out)
      if (o < 0) o = at[rest++];
    return why;
  }

  static std::string out_of_range(const Node& n, int64_t value, size_t axis, int64_t size) {
    return fmt::format("{}: index {} is out of range for axis {} of size {}", row(n.op).name, value, axis,
                       size);
  }

  Array gather(const Node& n) {
    const Array& x = source(n, 0);
    Array out = Array::make(n.dtype, shape_of(n));
    Index index;
    for_each(out.shape, [&](const Index& at, int64_t position) {
      bool fits = false;
      const std::string why = indexed(n, 1, n.arg.ints, at, x.shape, index, fits);
      if (!why.empty()) wrong(out, position, why);
      if (!fits) return;
      const int64_t from = flat(index, x.shape);
      copy_wrong(out, position, x, from);
      out.set(position, x.get(from));
    });
    return out;
  }

  Array scatter(const Node& n) {
    Array out = source(n, 0);
    const Array& values = source(n, 1);
    ScalarFormula step(step_formulas(fold_in(n), n.dtype)[0]);
    Index index;
    for_each(values.shape, [&](const Index& at, int64_t position) {
      bool fits = false;
      const std::string why = indexed(n, 2, std::span(n.arg.ints).subspan(1), at, out.shape, index, fits);
      if (error_.empty()) error_ = why;
      if (!fits) return;
      int64_t to = flat(index, out.shape);
      Value pair[] = {out.get(to), values.get(position)};
      out.set(to, step(pair));
    });
    return out;
  }

  Array sort(const Node& n) {
    Array out = source(n, 0);
    const int64_t length = out.shape.back(), rows = length ? out.size() / length : 0;
    const int unused = 64 - static_cast<int>(n.at(1));
    const auto digits = [&](Value v) { return v.bits >> n.at(0) << unused >> unused; };
    for (int64_t r = 0; r < rows; r++) {
      std::vector<Value> row;
      for (int64_t i = 0; i < length; i++) row.push_back(out.get(r * length + i));
      std::ranges::stable_sort(row, {}, digits);
      for (int64_t i = 0; i < length; i++) out.set(r * length + i, row[static_cast<size_t>(i)]);
    }
    return out;
  }

  /// A box that does not lie inside altogether is not written at all.
  Array put(const Node& n) {
    Array out = source(n, 0);
    const Array& values = source(n, 1);
    Index begin;
    for (size_t i = 0; i < out.shape.size(); i++) {
      begin.push_back(integer(n, 2 + i));
      if (begin[i] >= 0 && begin[i] <= out.shape[i] - values.shape[i]) continue;
      for (int64_t k = 0, count = out.size(); k < count; k++)
        wrong(out, k, out_of_range(n, begin[i], i, out.shape[i]));
      return out;
    }
    for_each(values.shape, [&](const Index& at, int64_t position) {
      Index index = at;
      for (size_t i = 0; i < at.size(); i++) index[i] += begin[i];
      const int64_t to = flat(index, out.shape);
      if (out.any_wrong()) out.wrong[static_cast<size_t>(to)] = false;
      copy_wrong(out, to, values, position);
      out.set(to, values.get(position));
    });
    return out;
  }
};

}  // namespace

Evaluation evaluate_graph(const Graph& graph, std::span<const Array> inputs,
                          std::span<const int64_t> scalars) {
  return Evaluator(graph, inputs, scalars).run();
}

}  // namespace kontor
