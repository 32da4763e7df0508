// Pairs are made before a factor is broadcast, once for each of its own elements.
#include "graph/transforms/pair_dots.h"

#include <optional>

#include "graph/functions/formula.h"
#include "graph/index/index.h"
#include "graph/node_map.h"

namespace kontor {

namespace {

/// A factor whose `base` has 1 where it is broadcast.
struct Factor {
  Ref base;
  Dims shape;
};

/// What x is a cast to f32 of, seen through movement; null if that is no bf16.
Ref before_cast(const Ref& x, int depth = 0) {
  constexpr int deepest = 16;  // movements one after another
  if (x->op == Op::Cast) return x->src[0]->dtype == DType::BF16 ? x->src[0] : Ref();
  // Behind a window each element would be paired once for each of its taps.
  const bool moves = is_movement(x->op) && x->op != Op::Window && x->op != Op::Unwindow && x->op != Op::Pad;
  if (!moves || depth == deepest) return {};
  const Ref inner = before_cast(x->src[0], depth + 1);
  if (!inner) return {};
  std::vector<Ref> src(x->src.begin(), x->src.end());
  src[0] = inner;
  return make(x->op, src, x->arg);
}

std::optional<Factor> factor(const Ref& x) {
  const Ref base = before_cast(x->op == Op::Expand ? x->src[0] : x);
  if (!base) return std::nullopt;
  return Factor{base, x->shape};
}

/// Along an axis of even extent: element i is a u32 of elements 2i (below) and 2i + 1 of x.
Ref pairs(const Ref& x, size_t axis) {
  Dims two = x->shape;
  two[axis] = index(extent(two[axis]) / 2);
  two.insert(two.begin() + static_cast<std::ptrdiff_t>(axis) + 1, index(2));
  const Ref apart = fn::reshape(x, two);
  const auto half = [&](int64_t which) {
    const Ref one = fn::select(apart, static_cast<int64_t>(axis) + 1, which);
    return Term(one).bits(DType::U16).as(DType::U32);
  };
  return (half(0) | half(1) << 16).node;
}

bool is_even(const Ref& dim) { return dim->is_const() && extent(dim) > 0 && extent(dim) % 2 == 0; }

/// The dot by pairs, or null where it is none of bf16 or has no axis that can be halved.
Ref paired(const Node& n) {
  if (n.op != Op::Reduce || fold_in(n) != Fold::Dot || n.dtype != DType::F32) return {};
  std::optional<Factor> a = factor(n[0]), b = factor(n[1]);
  if (!a || !b) return {};
  for (size_t i = n.arg.ints.size(); i-- > 1;) {
    const auto axis = static_cast<size_t>(n.at(i));
    if (!is_even(a->base->shape[axis]) || a->base->shape[axis] != b->base->shape[axis]) continue;
    std::vector<Ref> src;
    for (const Factor* f : {&*a, &*b}) {
      Dims shape = f->shape;
      shape[axis] = index(extent(shape[axis]) / 2);
      src.push_back(fn::broadcast(pairs(f->base, axis), shape));
    }
    Arg arg = n.arg;
    arg.ints[0] = static_cast<int64_t>(Fold::PairDot);
    return make(Op::Reduce, src, arg);
  }
  return {};
}

}  // namespace

Graph with_pair_dots(const Graph& graph) {
  Graph out = graph;
  out.outputs = mapped(graph.outputs, [](const Node& n, std::vector<Ref> sources) {
    const Ref same = with_sources(n, sources), pair = paired(*same);
    return pair ? pair : same;
  });
  return out;
}

}  // namespace kontor
