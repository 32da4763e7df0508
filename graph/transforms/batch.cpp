// The batch transform: a rule an op.
#include "graph/transforms/batch.h"

#include <algorithm>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/functions/unary.h"
#include "graph/index/index.h"
#include "graph/shape.h"
#include "graph/transforms/calls.h"
#include "graph/transforms/op_table.h"

namespace kontor {

namespace {

/// A node being rebuilt: its sources, and which of them have the axis.
struct Step {
  const Node& node;
  std::vector<Ref> src;
  std::vector<bool> has;
  Ref extent;

  /// Source i with the axis, broadcast if it had none.
  Ref with_axis(size_t i) const {
    if (has[i]) return src[i];
    Dims shape = src[i]->shape;
    shape.insert(shape.begin(), extent);
    return fn::broadcast(src[i], shape);
  }
  void need_none(size_t from) const {
    for (size_t i = from; i < src.size(); i++)
      if (has[i]) fail("batch: {} has a position or size that depends on the axis", row(node.op).name);
  }
};

using Rule = Ref (*)(const Step& s);

Ints shifted(std::span<const int64_t> axes) {
  Ints out(axes.begin(), axes.end());
  for (int64_t& a : out) a++;
  return out;
}

Ref elementwise(const Step& s) {
  std::vector<Ref> src;
  for (size_t i = 0; i < s.src.size(); i++) src.push_back(s.with_axis(i));
  return with_sources(s.node, src);
}

/// Sources after the first `fixed` come in groups of `width` an axis; those of the new axis stand first.
Ref with_dims(const Step& s, size_t fixed, std::vector<Ref> front) {
  s.need_none(1);
  std::vector<Ref> src(s.src.begin(), s.src.begin() + static_cast<ptrdiff_t>(fixed));
  src.insert(src.end(), front.begin(), front.end());
  src.insert(src.end(), s.src.begin() + static_cast<ptrdiff_t>(fixed), s.src.end());
  return make(s.node.op, src, s.node.arg);
}

Ref permute(const Step& s) {
  Ints order = shifted(s.node.arg.ints);
  order.insert(order.begin(), 0);
  return make(Op::Permute, s.src, {.ints = order});
}

Ref window(const Step& s) {
  s.need_none(1);
  Ints ints = s.node.arg.ints;
  ints[0]++;
  return make(s.node.op, s.src, {.ints = ints});
}

Ref reduce(const Step& s) {
  std::vector<Ref> src;
  for (size_t i = 0; i < s.src.size(); i++) src.push_back(s.with_axis(i));
  Ints ints = shifted(s.node.arg.ints);
  ints[0] = s.node.at(0);
  return make(s.node.op, src, {.ints = ints});
}

/// The position on the new axis itself, in the shape of index tensor `like` (which has the axis in front).
Ref own_position(const Step& s, const Ref& like) {
  Ref at = fn::iota(s.extent, DType::I64);
  while (at->rank() < like->rank()) at = fn::unsqueeze(at, -1);
  return fn::broadcast(at, like->shape);
}

Ref gather(const Step& s) {
  bool indexed = std::find(s.has.begin() + 1, s.has.end(), true) != s.has.end();
  if (!s.has[0]) {  // each element looks up in the same tensor
    std::vector<Ref> src{s.src[0]};
    for (size_t i = 1; i < s.src.size(); i++) src.push_back(s.with_axis(i));
    return make(Op::Gather, src, s.node.arg);
  }
  if (!indexed) {  // the same positions in each: the axis comes out behind those of the indices
    Ref out = make(Op::Gather, s.src, {.ints = shifted(s.node.arg.ints)});
    Ints order{static_cast<int64_t>(s.src[1]->rank())};
    for (int64_t a = 0; a < static_cast<int64_t>(out->rank()); a++)
      if (a != order[0]) order.push_back(a);
    return fn::permute(out, order);
  }
  std::vector<Ref> src{s.src[0], own_position(s, s.with_axis(1))};
  for (size_t i = 1; i < s.src.size(); i++) src.push_back(s.with_axis(i));
  Ints axes = shifted(s.node.arg.ints);
  axes.insert(axes.begin(), 0);
  return make(Op::Gather, src, {.ints = axes});
}

Ref scatter(const Step& s) {
  std::vector<Ref> src{s.with_axis(0), s.with_axis(1), own_position(s, s.with_axis(2))};
  for (size_t i = 2; i < s.src.size(); i++) src.push_back(s.with_axis(i));
  Ints ints = shifted(s.node.arg.ints);
  ints[0] = s.node.at(0);
  ints.insert(ints.begin() + 1, 0);
  return make(Op::Scatter, src, {.ints = ints});
}

/// Where a box begins for each element of the axis, along axis a: checked, by reading it from all the places there are.
Ref begins(const Step& s, size_t a) {
  const Ref places = ix::add(ix::sub(s.with_axis(0)->shape[a], s.with_axis(1)->shape[a]), index(1));
  return make(Op::Gather, {fn::iota(places, DType::I64), s.with_axis(1 + a)}, {.ints = {0}});
}

/// A put whose position depends on the axis: each element is read from the value or from what was there.
Ref put_somewhere(const Step& s) {
  const Ref x = s.with_axis(0), v = s.with_axis(1);
  Ref inside;
  std::vector<Ref> src{v, own_position(s, x)};
  for (size_t a = 1; a < x->rank(); a++) {
    Dims thin(x->rank(), index(1));
    thin[a] = x->shape[a];
    Ref at = fn::broadcast(fn::reshape(fn::iota(x->shape[a], DType::I64), thin), x->shape);
    thin[a] = index(1);
    thin[0] = s.extent;
    const Ref begin = begins(s, a), fits = fn::eq(begin, s.with_axis(1 + a));
    auto everywhere = [&](const Ref& one) { return fn::broadcast(fn::reshape(one, thin), x->shape); };
    at = fn::sub(at, everywhere(begin));
    const Ref last = ix::sub(v->shape[a], index(1));
    const Ref here =
        fn::logical_and(everywhere(fits), fn::logical_and(fn::ge(at, 0), fn::le(at, Input(last))));
    inside = inside ? fn::logical_and(inside, here) : here;
    src.push_back(fn::clamp(at, 0, Input(last)));
  }
  Ints axes;
  for (size_t a = 0; a < x->rank(); a++) axes.push_back(static_cast<int64_t>(a));
  return fn::where(inside, make(Op::Gather, src, {.ints = axes}), x);
}

Ref put(const Step& s) {
  if (std::find(s.has.begin() + 2, s.has.end(), true) != s.has.end()) return put_somewhere(s);
  std::vector<Ref> src{s.with_axis(0), s.with_axis(1), index(0)};
  src.insert(src.end(), s.src.begin() + 2, s.src.end());
  return make(Op::Put, src);
}

Ref wrapper(const Step& s) { return make(s.node.op, s.src, s.node.arg); }

/// Calls that are known by name mean the same with an axis in front. Of the others (matmul, conv2d, a user's layer) only the
/// body is left.
Ref call(const Step& s) {
  const CallRow* row = find_call(s.node.arg.text);
  const bool known = row ? !row->has(CallRow::OneForm) : find_unary(s.node.arg.text) != nullptr;
  if (!known) return s.src[0];
  Arg arg = s.node.arg;
  if (row && row->has(CallRow::AlongAxis)) arg.ints[0]++;
  std::vector<Ref> src{s.with_axis(0)};
  for (size_t i = 1; i < s.src.size(); i++) src.push_back(s.with_axis(i));
  return make(Op::Call, src, arg);
}

// clang-format off
constexpr OpRule<Rule> rows[] = {
    {Op::Reshape,  [](const Step& s) { return with_dims(s, 1, {s.extent}); }},
    {Op::Expand,   [](const Step& s) { return with_dims(s, 1, {s.extent}); }},
    {Op::Pad,      [](const Step& s) { return with_dims(s, 2, {index(0), index(0)}); }},
    {Op::Shrink,   [](const Step& s) { return with_dims(s, 1, {index(0), s.extent}); }},
    {Op::Flip,     [](const Step& s) { return make(Op::Flip, s.src, {.ints = shifted(s.node.arg.ints)}); }},
    {Op::Permute,  permute},
    {Op::Window,   window},
    {Op::Unwindow, window},
    {Op::Reduce,   reduce},
    {Op::Scan,     reduce},
    {Op::Gather,   gather},
    {Op::Scatter,  scatter},
    {Op::Put,      put},
    {Op::Sort,     wrapper},
    {Op::Mark,     wrapper},
    {Op::Copy,     wrapper},
    {Op::Call,     call},
};
// clang-format on

constexpr OpTable<Rule> table("batch", rows, elementwise);

Ref common_extent(std::span<const BatchedLeaf> leaves) {
  Ref extent;
  for (const BatchedLeaf& l : leaves) {
    Dims wanted = l.node->shape;
    if (l.with->rank() > 0) wanted.insert(wanted.begin(), l.with->shape[0]);
    if (l.with->shape != wanted || l.with->rank() == 0 || l.with->dtype != l.node->dtype)
      fail("batch: {} in place of {}: needs one more leading dimension", describe(*l.with),
           describe(*l.node));
    if (extent && extent != l.with->shape[0])
      fail("batch: the leaves' new dimensions differ: {}", describe(*l.with));
    extent = l.with->shape[0];
  }
  return extent;
}

}  // namespace

bool has_batch_row(Op op) { return row(op).group == OpClass::Leaf || table.has(op); }

std::vector<Ref> batch(std::span<const Ref> roots, std::span<const BatchedLeaf> leaves) {
  const Ref extent = common_extent(leaves);
  Substitution batched;  // only of nodes that have the axis
  for (const BatchedLeaf& l : leaves) batched.emplace(l.node.get(), l.with);
  carry(roots, batched, [&](const Node& n, std::span<const Ref* const> sources) {
    Step step{n, {}, {}, extent};
    for (size_t i = 0; i < sources.size(); i++) {
      step.has.push_back(sources[i] != nullptr);
      step.src.push_back(sources[i] ? *sources[i] : n[i]);
    }
    return table[n.op](step);
  });
  std::vector<Ref> out;
  for (const Ref& r : roots) {
    auto it = batched.find(r.get());
    out.push_back(it == batched.end() ? r : it->second);
  }
  return out;
}

}  // namespace kontor
