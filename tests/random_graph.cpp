// See random_graph.h.
#include "tests/random_graph.h"

#include <algorithm>

#include "base/threefry.h"
#include "graph/index.h"
#include "tests/run_graph.h"

namespace kontor::inline v0 {

namespace {

using Dims = std::vector<int64_t>;

constexpr int64_t largest = 6000;  // elements of one value

class Maker {
 public:
  explicit Maker(uint64_t seed) : seed_(seed) {}

  Case make_case() {
    for (uint64_t i = 0, n = 1 + below(3); i < n; i++)
      add_input(any_dims(), below(4) == 0 ? DType::I32 : DType::F32);
    for (uint64_t i = 0, n = 2 + below(12); i < n; i++) step();
    std::vector<Ref> outputs = {pool_.back()}, targets;
    for (uint64_t i = below(3); i > 0; i--) outputs.push_back(any());
    for (const Ref& o : outputs) targets.push_back(below(4) == 0 ? target(o, targets) : Ref());
    Case made{make_graph(outputs, targets), {}};
    for (const Ref& i : made.graph.inputs) made.inputs.push_back(arrays_.at(i.get()));
    return made;
  }

 private:
  uint64_t seed_, counter_ = 0;
  std::vector<Ref> pool_, leaves_;
  std::unordered_map<const Node*, Array> arrays_;

  uint64_t below(uint64_t n) { return random_below(seed_, counter_++, n); }
  bool once_in(uint64_t n) { return below(n) == 0; }
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return list.begin()[below(list.size())];
  }
  Ref any() {
    return pool_[once_in(3) ? below(pool_.size())
                            : pool_.size() - 1 - below(std::min<size_t>(pool_.size(), 4))];
  }

  static std::vector<Ref> refs(const Dims& dims) {
    std::vector<Ref> out;
    for (int64_t d : dims) out.push_back(index(d));
    return out;
  }
  static int64_t size(const Dims& dims) {
    int64_t n = 1;
    for (int64_t d : dims) n *= d;
    return n;
  }

  Dims any_dims() {
    Dims dims;
    for (uint64_t rank = below(5); rank > 0; rank--) {
      int64_t d = one_of<int64_t>({1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 64, 65, 100, 130, 200});
      if (size(dims) * d <= largest / 2) dims.push_back(d);
    }
    if (once_in(30)) dims = {one_of<int64_t>({4097, 5000})};
    return dims;
  }

  Ref add_input(const Dims& dims, DType dtype) {
    Ref leaf = make(Op::Buffer, refs(dims), {.ints = {fresh_id(), 0}}, dtype);
    arrays_[leaf.get()] = random_array(dtype, dims, seed_ + leaves_.size() + 1);
    leaves_.push_back(leaf);
    pool_.push_back(leaf);
    return leaf;
  }

  Ref target(const Ref& output, const std::vector<Ref>& taken) {
    for (const Ref& l : leaves_)
      if (l->dtype == output->dtype && l->shape == output->shape &&
          std::find(taken.begin(), taken.end(), l) == taken.end())
        return l;
    return {};
  }

  // ---- pieces

  static Ref reshape(const Ref& x, const Dims& dims) {
    std::vector<Ref> src = {x};
    for (int64_t d : dims) src.push_back(index(d));
    return make(Op::Reshape, src);
  }
  static Ref expand(const Ref& x, const Dims& dims) {
    std::vector<Ref> src = {x};
    for (int64_t d : dims) src.push_back(index(d));
    return make(Op::Expand, src);
  }
  static Ref filled(const Ref& scalar, const Dims& dims) {
    return dims.empty() ? scalar : expand(reshape(scalar, Dims(dims.size(), 1)), dims);
  }
  Ref number_like(const Ref& x) {
    double v = is_float(x->dtype) ? one_of<double>({0.0, 1.0, -1.0, 0.5, 3.25, 0.1, -0.0})
                                  : one_of<double>({0, 1, 2, 3, 7});
    return filled(constant(x->dtype, v), static_shape(*x));
  }

  /// Another value of x's dtype and shape.
  Ref like(const Ref& x) {
    std::vector<Ref> fitting;
    for (const Ref& p : pool_)
      if (p->dtype == x->dtype && p->shape == x->shape) fitting.push_back(p);
    if (once_in(3)) return number_like(x);
    if (once_in(6)) return with_row(x);
    return fitting[below(fitting.size())];
  }

  /// A reduction of x over some axes, broadcast back: what softmax and norms do.
  Ref with_row(const Ref& x) {
    if (x->rank() == 0 || x->dtype == DType::Bool) return x;
    Dims dims = static_shape(*x), ones = dims;
    std::vector<int64_t> axes = any_axes(dims.size());
    for (int64_t a : axes) ones[static_cast<size_t>(a)] = 1;
    return expand(reshape(reduce(x, axes), ones), dims);
  }

  std::vector<int64_t> any_axes(size_t rank) {
    std::vector<int64_t> axes;
    for (size_t i = 0; i < rank; i++)
      if (once_in(2)) axes.push_back(static_cast<int64_t>(i));
    if (axes.empty()) axes.push_back(static_cast<int64_t>(below(rank)));
    return axes;
  }

  Ref reduce(const Ref& x, const std::vector<int64_t>& axes) {
    Fold fold = one_of({Fold::Sum, Fold::Sum, Fold::Max, Fold::Min, Fold::Prod, Fold::Dot});
    if (fold == Fold::Dot && !is_float(x->dtype)) fold = Fold::Sum;
    std::vector<int64_t> ints = {static_cast<int64_t>(fold)};
    ints.insert(ints.end(), axes.begin(), axes.end());
    return fold == Fold::Dot ? make(Op::Reduce, {x, like_simple(x)}, {.ints = ints})
                             : make(Op::Reduce, {x}, {.ints = ints});
  }
  Ref like_simple(const Ref& x) {
    for (const Ref& p : pool_)
      if (p != x && p->dtype == x->dtype && p->shape == x->shape) return p;
    return x;
  }

  // ---- one step: the new value, which may be of any kind

  void step() {
    Ref x = any(), made;
    switch (below(12)) {
      case 0: made = unary(x); break;
      case 1:
        made = make(
            Op::Cast, {x}, {},
            one_of({DType::F32, DType::F32, DType::I32, DType::F64, DType::I64, DType::Bool, DType::U8}));
        break;
      case 2:
      case 3:
      case 4:  made = binary(x); break;
      case 5:  made = ternary(x); break;
      case 6:
      case 7:  made = moved(x); break;
      case 8:  made = x->rank() && x->dtype != DType::Bool ? reduce(x, any_axes(x->rank())) : x; break;
      case 9:  made = indexed(x); break;
      case 10: made = product(x); break;
      default:
        made = one_of({make(Op::Copy, {x}), make(Op::Call, {x, like_simple(x)}, {.text = "f"}),
                       make(Op::Mark, {x}, {.ints = {fresh_id()}, .text = "m"}), with_row(x)});
    }
    if (made != x) pool_.push_back(made);
  }

  Ref unary(const Ref& x) {
    if (x->dtype == DType::Bool) return make(Op::Not, {x});
    if (is_float(x->dtype)) return make(one_of({Op::Neg, Op::Abs, Op::Sqrt, Op::Floor, Op::Ceil}), {x});
    return make(one_of({Op::Neg, Op::Abs, Op::Not}), {x});
  }

  Ref binary(const Ref& x) {
    Ref y = like(x);
    bool swap = once_in(2);
    const Ref &a = swap ? y : x, &b = swap ? x : y;
    if (x->dtype == DType::Bool) return make(one_of({Op::And, Op::Or, Op::Xor}), {a, b});
    Op any_kind = one_of(
        {Op::Add, Op::Sub, Op::Mul, Op::Max, Op::Min, Op::Add, Op::Mul, Op::Lt, Op::Le, Op::Eq, Op::Ne});
    if (once_in(2)) return make(any_kind, {a, b});
    if (is_float(x->dtype)) return make(Op::Div, {a, b});
    Op op = one_of({Op::IDiv, Op::Mod, Op::And, Op::Or, Op::Xor, Op::Shl, Op::Shr});
    if (op != Op::IDiv && op != Op::Mod) return make(op, {a, b});
    Ref divisor = filled(constant(x->dtype, one_of<int64_t>({1, 2, 3, 5, 8})), static_shape(*x));
    return make(op, {x, once_in(2) ? divisor : make(Op::Max, {y, divisor})});
  }

  Ref ternary(const Ref& x) {
    Ref y = like(x);
    if (is_float(x->dtype) && once_in(2)) return make(Op::Fma, {x, y, like(x)});
    return make(Op::Where, {make(x->dtype == DType::Bool ? Op::Ne : Op::Lt, {x, y}), like(x), y});
  }

  Ref moved(const Ref& x) {
    Dims dims = static_shape(*x);
    switch (below(8)) {
      case 0:  return reshape(x, regrouped(dims));
      case 1:  return permuted_axes(x);
      case 2:  return padded(x);
      case 3:  return shrunk(x);
      case 4:  return x->rank() ? make(Op::Flip, {x}, {.ints = any_axes(dims.size())}) : x;
      case 5:  return windowed(x);
      case 6:  return unwindowed(x);
      default: {
        int64_t d = one_of<int64_t>({2, 3, 16});
        if (size(dims) * d > largest) return x;
        Dims one = dims, many = dims;
        size_t at = below(dims.size() + 1);
        one.insert(one.begin() + static_cast<ptrdiff_t>(at), 1);
        many.insert(many.begin() + static_cast<ptrdiff_t>(at), d);
        return expand(reshape(x, one), many);
      }
    }
  }

  Dims regrouped(const Dims& dims) {
    int64_t rest = size(dims);
    Dims out;
    while (rest > 1 && out.size() < 4) {
      Dims divisors;
      for (int64_t d = 2; d <= rest; d++)
        if (rest % d == 0) divisors.push_back(d);
      out.push_back(divisors[below(divisors.size())]);
      rest /= out.back();
    }
    if (rest > 1) out.push_back(rest);
    return out;
  }

  Ref permuted_axes(const Ref& x) {
    std::vector<int64_t> order;
    for (size_t i = 0; i < x->rank(); i++)
      order.insert(order.begin() + static_cast<ptrdiff_t>(below(i + 1)), static_cast<int64_t>(i));
    return make(Op::Permute, {x}, {.ints = order});
  }

  Ref padded(const Ref& x) {
    std::vector<Ref> src = {x, constant(x->dtype, one_of<double>({0, 0, 1, 2}))};
    Dims dims = static_shape(*x);
    for (int64_t& d : dims) {
      int64_t lo = static_cast<int64_t>(below(3)), hi = static_cast<int64_t>(below(3));
      src.push_back(index(lo));
      src.push_back(index(hi));
      d += lo + hi;
    }
    return size(dims) > largest ? x : make(Op::Pad, src);
  }

  Ref shrunk(const Ref& x) {
    std::vector<Ref> src = {x};
    for (int64_t d : static_shape(*x)) {
      int64_t begin = static_cast<int64_t>(below(static_cast<uint64_t>(d))), most = d - begin;
      src.push_back(index(begin));
      src.push_back(index(once_in(2) ? most : 1 + static_cast<int64_t>(below(static_cast<uint64_t>(most)))));
    }
    return make(Op::Shrink, src);
  }

  Ref windowed(const Ref& x) {
    if (x->rank() == 0) return x;
    Dims dims = static_shape(*x);
    size_t axis = below(dims.size());
    int64_t k = one_of<int64_t>({1, 2, 3, 5}), stride = one_of<int64_t>({1, 1, 2, 3}),
            dilation = one_of<int64_t>({1, 1, 2});
    if (dims[axis] <= (k - 1) * dilation || size(dims) * k > largest) return x;
    return make(Op::Window, {x}, {.ints = {static_cast<int64_t>(axis), stride, dilation, k}});
  }

  Ref unwindowed(const Ref& x) {
    if (x->rank() < 2) return x;
    Dims dims = static_shape(*x);
    size_t axis = below(dims.size() - 1);
    int64_t stride = one_of<int64_t>({1, 2, 3}), dilation = one_of<int64_t>({1, 2});
    int64_t extent =
        (dims[axis] - 1) * stride + (dims[axis + 1] - 1) * dilation + 1 + static_cast<int64_t>(below(2));
    if (size(dims) / dims[axis] * extent > largest) return x;
    return make(Op::Unwindow, {x, index(extent)}, {.ints = {static_cast<int64_t>(axis), stride, dilation}});
  }

  Ref indexes_below(int64_t bound, const Dims& dims) {
    Ref raw = add_input(dims, DType::I32);
    Ref zero = filled(constant(DType::I32, int64_t{0}), dims),
        top = filled(constant(DType::I32, bound - 1), dims);
    return make(Op::Min, {make(Op::Max, {raw, zero}), top});
  }

  Ref indexed(const Ref& x) {
    if (x->rank() == 0) return x;
    Dims dims = static_shape(*x);
    size_t axis = below(dims.size());
    int64_t count = one_of<int64_t>({1, 3, 9});
    if (size(dims) / dims[axis] * count > largest) return x;
    switch (below(3)) {
      case 0:
        return make(Op::Gather, {x, indexes_below(dims[axis], {count})},
                    {.ints = {static_cast<int64_t>(axis)}});
      case 1: {
        if (x->dtype == DType::Bool) return x;
        Dims values = dims;
        values.erase(values.begin() + static_cast<ptrdiff_t>(axis));
        values.insert(values.begin(), count);
        Fold fold = one_of({Fold::Sum, Fold::Max, Fold::Min});
        return make(Op::Scatter, {x, add_input(values, x->dtype), indexes_below(dims[axis], {count})},
                    {.ints = {static_cast<int64_t>(fold), static_cast<int64_t>(axis)}});
      }
      default: {
        Ref part = shrunk(x);
        std::vector<Ref> src = {x, part};
        for (size_t i = 0; i < dims.size(); i++)
          src.push_back(index(
              static_cast<int64_t>(below(static_cast<uint64_t>(dims[i] - extent(part->shape[i]) + 1)))));
        return make(Op::Put, src);
      }
    }
  }

  /// A matrix product of x's last axis with a new input.
  Ref product(const Ref& x) {
    if (x->rank() == 0 || !is_float(x->dtype)) return x;
    Dims dims = static_shape(*x);
    int64_t k = dims.back(), m = size(dims) / k, n = one_of<int64_t>({1, 3, 8, 16, 20});
    if (m * n * k > 20 * largest || m * n > largest) return x;
    Ref w = add_input(once_in(2) ? Dims{k, n} : Dims{n, k}, x->dtype);
    if (extent(w->shape[0]) == k && extent(w->shape[1]) == n) w = make(Op::Permute, {w}, {.ints = {1, 0}});
    Ref a = expand(reshape(x, {m, 1, k}), {m, n, k}), b = expand(reshape(w, {1, n, k}), {m, n, k});
    return make(Op::Reduce, {a, b}, {.ints = {static_cast<int64_t>(Fold::Dot), 2}});
  }
};

// ---- shrinking ------------------------------------------------------------------------------------------------------------

Case with_outputs(const Case& c, std::vector<Ref> outputs, const std::vector<Ref>& targets,
                  const std::unordered_map<const Node*, Array>& extra = {}) {
  Case smaller{make_graph(std::move(outputs), targets), {}};
  for (const Ref& i : smaller.graph.inputs) {
    auto found = extra.find(i.get());
    for (size_t k = 0; k < c.graph.inputs.size() && found == extra.end(); k++)
      if (c.graph.inputs[k] == i) smaller.inputs.push_back(c.inputs[k]);
    if (found != extra.end()) smaller.inputs.push_back(found->second);
  }
  return smaller;
}

std::vector<Ref> targets_of(const Graph& g) {
  std::vector<Ref> targets;
  for (int t : g.target) targets.push_back(t < 0 ? Ref() : g.inputs[static_cast<size_t>(t)]);
  return targets;
}

size_t weight(const Case& c) {
  size_t total = c.graph.outputs.size();
  for (int t : c.graph.target) total += t >= 0;
  for (const Node* n : topological(c.graph.outputs)) total += n->op != Op::Const && n->op != Op::Buffer;
  return total;
}

/// Every case that is one step smaller.
std::vector<Case> smaller_cases(const Case& c) {
  std::vector<Case> out;
  std::vector<Ref> outputs = c.graph.outputs, targets = targets_of(c.graph);
  for (size_t i = 0; i < outputs.size(); i++) {
    out.push_back(with_outputs(c, {outputs[i]}, {targets[i]}));
    std::vector<Ref> none = targets;
    none[i] = Ref();
    out.push_back(with_outputs(c, outputs, none));
  }
  std::vector<const Node*> nodes = topological(outputs);
  for (const Node* n : nodes)
    if (!n->is_const()) out.push_back(with_outputs(c, {Ref(n)}, {}));
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {  // the value of a node becomes an input
    const Node* n = *it;
    if (n->op == Op::Buffer || n->is_const() || !has_static_shape(*n)) continue;
    Case whole = with_outputs(c, {Ref(n)}, {});
    Array value = evaluate_graph(whole.graph, whole.inputs).outputs.at(0);
    Ref leaf = make(Op::Buffer, n->shape, {.ints = {fresh_id(), 0}}, n->dtype);
    std::vector<Ref> changed = substitute(outputs, {{n, leaf}});
    out.push_back(with_outputs(c, changed, targets, {{leaf.get(), value}}));
    for (const Ref& s : n->src)  // a node is replaced by a source that looks like it
      if (s->dtype == n->dtype && s->shape == n->shape)
        out.push_back(with_outputs(c, substitute(outputs, {{n, s}}), targets));
  }
  return out;
}

}  // namespace

Case random_case(uint64_t seed) { return Maker(seed).make_case(); }

Case shrink(Case failing, const std::function<bool(const Case&)>& fails) {
  for (int rounds = 0; rounds < 60; rounds++) {
    bool better = false;
    for (Case& candidate : smaller_cases(failing)) {
      if (weight(candidate) >= weight(failing) || !fails(candidate)) continue;
      failing = std::move(candidate);
      better = true;
      break;
    }
    if (!better) break;
  }
  return failing;
}

}  // namespace kontor::inline v0
