// Transposes of views on a pair of factors. The leading axes of both factors are those of the view's source, the last
// `pending` ones are summed in the end: so a convolution's gradient is one Dot over channels and taps together.
#include "graph/transforms/dot_gradient.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

size_t to_size(int64_t v) { return static_cast<size_t>(v); }

Factor factor_of(const Ref& view) {
  if (view->is(Op::Expand)) return {view->src[0], view->shape};
  return {view, view->shape};
}

bool broadcasts(const Factor& f, size_t axis) { return f.base->shape[axis] != f.dims[axis]; }

Ref expanded(const Factor& f) { return fn::broadcast(f.base, f.dims); }

/// The axis made real, where the base broadcasts it.
void make_real(Factor& f, size_t axis) {
  Dims shape = f.base->shape;
  shape[axis] = f.dims[axis];
  f.base = fn::broadcast(f.base, shape);
}

Factor permuted(const Factor& f, const Ints& order) {
  Dims dims;
  for (int64_t a : order) dims.push_back(f.dims[to_size(a)]);
  return {fn::permute(f.base, order), dims};
}

void insert_one(Factor& f, size_t axis) {
  f.base = fn::unsqueeze(f.base, static_cast<int64_t>(axis));
  f.dims.insert(f.dims.begin() + static_cast<ptrdiff_t>(axis), index(1));
}

/// Makes `axes` (ascending) pending; the leading axes that remain keep their order.
void sum_over(DotCotangent& c, const Ints& axes) {
  Ints order;
  int64_t rank = static_cast<int64_t>(c.a.dims.size()), lead = rank - static_cast<int64_t>(c.pending);
  for (int64_t a = 0; a < lead; a++)
    if (std::find(axes.begin(), axes.end(), a) == axes.end()) order.push_back(a);
  for (int64_t a = lead; a < rank; a++) order.push_back(a);
  order.insert(order.end(), axes.begin(), axes.end());
  c.a = permuted(c.a, order);
  c.b = permuted(c.b, order);
  c.pending += axes.size();
}

void through_expand(DotCotangent& c, const Node& view) {
  Ints axes;
  for (size_t i = 0; i < view.rank(); i++)
    if (view.shape[i] != view.src[0]->shape[i]) axes.push_back(static_cast<int64_t>(i));
  sum_over(c, axes);
  for (int64_t a : axes) {
    insert_one(c.a, to_size(a));
    insert_one(c.b, to_size(a));
  }
}

void through_permute(DotCotangent& c, const Node& view) {
  Ints order(c.a.dims.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = 0; i < view.rank(); i++) order[to_size(view.at(i))] = static_cast<int64_t>(i);
  c.a = permuted(c.a, order);
  c.b = permuted(c.b, order);
}

/// Dimensions from `from` and `to` that have the same product, taken from each as few as possible.
struct Group {
  size_t from_begin, from_end, to_begin, to_end;
};

bool groups_of(std::span<const Ref> from, std::span<const Ref> to, std::vector<Group>& out) {
  size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    Group g{i, i, j, j};
    Ref x = index(1), y = index(1);
    do {
      bool left =
          j == to.size() || (i < from.size() && (g.from_end == g.from_begin || x->bounds.hi < y->bounds.hi));
      if (left) x = ix::mul(x, from[i++]), g.from_end = i;
      else y = ix::mul(y, to[j++]), g.to_end = j;
      if (x == y) break;
    } while (i < from.size() || j < to.size());
    if (x != y) return false;
    out.push_back(g);
  }
  return true;
}

/// The leading axes reshaped; groups that the factor broadcasts as a whole stay broadcast.
void reshape_factor(Factor& f, size_t lead, const Dims& shape) {
  std::vector<Group> groups;
  Dims base;
  if (!groups_of(std::span(f.dims).first(lead), shape, groups)) {
    for (size_t i = 0; i < lead; i++) make_real(f, i);
    groups.clear();  // those before the one that does not fit (a dimension of 0 hides the others)
    base = shape;
  }
  for (const Group& g : groups) {
    bool all = g.from_end > g.from_begin;
    for (size_t i = g.from_begin; i < g.from_end; i++) all = all && is_int(f.base->shape[i], 1);
    for (size_t i = g.from_begin; i < g.from_end && !all; i++) make_real(f, i);
    for (size_t j = g.to_begin; j < g.to_end; j++) base.push_back(all ? index(1) : shape[j]);
  }
  base.insert(base.end(), f.base->shape.begin() + static_cast<ptrdiff_t>(lead), f.base->shape.end());
  f.base = fn::reshape(f.base, base);
  f.dims.erase(f.dims.begin(), f.dims.begin() + static_cast<ptrdiff_t>(lead));
  f.dims.insert(f.dims.begin(), shape.begin(), shape.end());
}

void shrink_factor(Factor& f, const Node& pad) {
  const Dims& wanted = pad.src[0]->shape;
  Dims begin(f.dims.size(), index(0)), size = f.base->shape;
  for (size_t i = 0; i < pad.rank(); i++) {
    if (!broadcasts(f, i) && wanted[i] != f.dims[i]) {
      begin[i] = pad.src[2 + 2 * i];
      size[i] = wanted[i];
    }
    f.dims[i] = wanted[i];
  }
  f.base = fn::shrink(f.base, begin, size);
}

/// Zeros around what was cut out. One factor with zeros is enough; the other may stay broadcast.
void pad_factors(DotCotangent& c, const Node& shrink) {
  const Ref& x = shrink.src[0];
  size_t n = x->rank();
  for (size_t i = 0; i < n; i++)
    if (broadcasts(c.a, i) && broadcasts(c.b, i) && x->shape[i] != shrink.shape[i]) make_real(c.a, i);
  for (Factor* f : {&c.a, &c.b}) {
    std::vector<Ref> src{f->base, constant(f->base->dtype, 0.0)};
    bool any = false;
    for (size_t i = 0; i < f->dims.size(); i++) {
      bool real = i < n && x->shape[i] != shrink.shape[i] && !broadcasts(*f, i);
      Ref low = real ? shrink.src[1 + 2 * i] : index(0);
      src.push_back(low);
      src.push_back(real ? ix::sub(ix::sub(x->shape[i], low), shrink.shape[i]) : index(0));
      any = any || real;
      if (i < n) f->dims[i] = x->shape[i];
    }
    if (any) f->base = make(Op::Pad, src);
  }
}

void flip_factor(Factor& f, const Node& flip) {
  Ints axes;
  for (int64_t a : flip.arg.ints)
    if (!is_int(f.base->shape[to_size(a)], 1)) axes.push_back(a);
  f.base = fn::flip(f.base, axes);
}

/// out[.., i, k, ..] = f[.., (i - k*dilation) / stride, k, ..] where there is such an element: a sum over k has no other
/// terms.
void unwindow_factor(Factor& f, const Node& window, const Ref& extent) {
  size_t o = to_size(window.at(0));
  if (broadcasts(f, o)) make_real(f, o);
  make_real(f, o + 1);
  f.base = make(Op::Unwindow, {f.base, extent}, {.ints = {window.at(0), window.at(1), window.at(2)}});
  f.dims[o] = extent;
}

void through_window(DotCotangent& c, const Node& window) {
  size_t o = to_size(window.at(0));
  const Ref& extent = window.src[0]->shape[o];
  bool a_varies = !is_int(c.a.base->shape[o], 1), b_varies = !is_int(c.b.base->shape[o], 1);
  // The guard sits in each factor that varies along the axis, and in one at least.
  if (a_varies || !b_varies) unwindow_factor(c.a, window, extent);
  else c.a.dims[o] = extent;
  if (b_varies) unwindow_factor(c.b, window, extent);
  else c.b.dims[o] = extent;
  sum_over(c, {window.at(0) + 1});
}

/// The cotangent of operand 0 or 1 of a Reduce Dot whose own cotangent is g.
DotCotangent of_operand(const Node& dot, const Ref& g, size_t operand) {
  Dims kept = dot.src[0]->shape;
  for (size_t i = 1; i < dot.arg.ints.size(); i++) kept[to_size(dot.at(i))] = index(1);
  Factor own = factor_of(g);
  Dims base = own.base->shape;
  for (size_t i = 1; i < dot.arg.ints.size(); i++) base.insert(base.begin() + dot.at(i), index(1));
  return {
      dot.src[operand], {fn::reshape(own.base, base), dot.src[0]->shape}, factor_of(dot.src[1 - operand]), 0};
}

/// Whether each factor varies along an axis that the other does not: else no loaded value is used for several sums.
bool is_outer_product(const DotCotangent& c) {
  const size_t lead = c.a.dims.size() - c.pending;
  auto has_own = [&](const Factor& f, const Factor& other) {
    for (size_t i = 0; i < lead; i++)
      if (!is_int(f.base->shape[i], 1) && is_int(other.base->shape[i], 1)) return true;
    return false;
  };
  return has_own(c.a, c.b) && has_own(c.b, c.a);
}

/// Through the views (expand, permute, reshape, pad, shrink, flip, window) down to what they are views of, to a padding whose
/// value has a gradient of its own, to the first window, to a part that was cut out: sums for what lies around it would all be 0
/// (a third of queries, keys and values that one projection makes), or to axes that were one axis, where one factor varies along
/// each of them: as one they leave no loop that only one factor has (heads and their numbers).
void through_views(DotCotangent& c, bool through_windows) {
  while (is_movement(c.of->op) && !c.of->is(Op::Unwindow)) {
    const Node& view = *c.of;
    if (view.is(Op::Window) && !through_windows) return;
    if (view.is(Op::Pad) && !view.src[1]->is_const()) return;
    if (view.is(Op::Shrink) && c.pending > 0) return;
    size_t lead = view.rank();
    switch (view.op) {
      case Op::Expand:  through_expand(c, view); break;
      case Op::Permute: through_permute(c, view); break;
      case Op::Shrink:  pad_factors(c, view); break;
      case Op::Window:  through_window(c, view); break;
      case Op::Reshape: {
        DotCotangent merged = c;
        reshape_factor(merged.a, lead, view.src[0]->shape);
        reshape_factor(merged.b, lead, view.src[0]->shape);
        if (c.pending > 0 && is_outer_product(c) && !is_outer_product(merged)) return;
        c = std::move(merged);
        break;
      }
      case Op::Pad:
        shrink_factor(c.a, view);
        shrink_factor(c.b, view);
        break;
      case Op::Flip:
        flip_factor(c.a, view);
        flip_factor(c.b, view);
        break;
      default: broken("dot_gradient: {} is not a view", row(view.op).name);
    }
    c.of = Ref(view.src[0]);
  }
}

/// The axes along which the windows of a view lie, in the view's own shape, ascending, each once: a window of windows (a
/// slice with a step) may lie along the same one.
Ints windowed_axes(const Node& view) {
  Ints outer, out;
  for (const Node* n = &view; n->is(Op::Window); n = n->src[0].get()) {
    int64_t axis = n->at(0);
    for (size_t i = outer.size(); i-- > 0;) axis += axis > outer[i];  // one taps before it
    outer.push_back(n->at(0));
    out.push_back(axis);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace

DotCotangent dot_cotangent(const Node& dot, const Ref& g, size_t operand) {
  const DotCotangent start = of_operand(dot, g, operand);
  DotCotangent whole = start, part = start;
  through_views(whole, true);
  if (is_outer_product(whole)) return whole;
  through_views(part, false);
  return part.of->is(Op::Window) && part.pending > 0 ? part : whole;
}

Ref materialised(const DotCotangent& c) {
  if (c.pending == 0) return make(Op::Mul, {expanded(c.a), expanded(c.b)});
  const size_t rank = c.a.dims.size(), lead = rank - c.pending;
  const Ints last = windowed_axes(*c.of);  // rows of the result run along them
  Ints order, back(lead), sums(c.pending);
  for (size_t a = 0; a < lead; a++)
    if (!std::binary_search(last.begin(), last.end(), static_cast<int64_t>(a)))
      order.push_back(static_cast<int64_t>(a));
  order.insert(order.end(), last.begin(), last.end());
  for (size_t i = 0; i < lead; i++) back[to_size(order[i])] = static_cast<int64_t>(i);
  std::iota(sums.begin(), sums.end(), static_cast<int64_t>(lead));
  order.insert(order.end(), sums.begin(), sums.end());
  return fn::permute(
      fn::reduce(Fold::Dot, {expanded(permuted(c.a, order)), expanded(permuted(c.b, order))}, sums, false),
      back);
}

}  // namespace kontor
