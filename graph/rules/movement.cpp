// The table of rules on ops that move elements.
#include <algorithm>
#include <numeric>

#include "graph/folds.h"
#include "graph/index/index.h"
#include "graph/rules/rules.h"

namespace kontor {

using namespace pattern;

namespace {

const Node& source(const Match& m) { return *m.root->src[0]; }

std::vector<Ref> with_first(const Node& node, const Ref& first) {
  std::vector<Ref> src(node.src.begin(), node.src.end());
  src[0] = first;
  return src;
}

Ref unchanged(const Match& m) { return m.root->shape == source(m).shape ? Ref(&source(m)) : Ref(); }

Ref again(const Match& m) { return make(m.root->op, with_first(*m.root, m.ref(x))); }

Ref permute_permute(const Match& m) {
  std::vector<int64_t> order;
  for (int64_t a : m.root->arg.ints) order.push_back(source(m).at(static_cast<size_t>(a)));
  return make(Op::Permute, {m.ref(x)}, {.ints = order});
}

Ref permute_identity(const Match& m) {
  std::vector<int64_t> order(m.root->rank());
  std::iota(order.begin(), order.end(), 0);
  return m.root->arg.ints == order ? m.ref(x) : Ref();
}

Ref flip_flip(const Match& m) {
  std::vector<int64_t> axes;
  const auto &a = m.root->arg.ints, &b_ = source(m).arg.ints;
  for (int64_t axis = 0; axis < static_cast<int64_t>(m.root->rank()); axis++)
    if (std::count(a.begin(), a.end(), axis) % 2 != std::count(b_.begin(), b_.end(), axis) % 2)
      axes.push_back(axis);
  return axes.empty() ? m.ref(x) : make(Op::Flip, {m.ref(x)}, {.ints = axes});
}

Ref flip_ones(const Match& m) {
  std::vector<int64_t> axes;
  for (int64_t axis : m.root->arg.ints)
    if (!is_int(m.root->shape[static_cast<size_t>(axis)], 1)) axes.push_back(axis);
  if (axes.size() == m.root->arg.ints.size()) return {};
  return axes.empty() ? m.ref(x) : make(Op::Flip, {m.ref(x)}, {.ints = axes});
}

Ref shrink_all(const Match& m) {
  for (size_t a = 0; a < m.root->rank(); a++)
    if (!is_int(m.root->src[1 + 2 * a], 0)) return {};
  return unchanged(m);
}

Ref shrink_shrink(const Match& m) {
  std::vector<Ref> src = with_first(*m.root, m.ref(x));
  for (size_t a = 1; a < src.size(); a += 2) src[a] = ix::add(src[a], source(m)[a]);
  return make(Op::Shrink, std::move(src));
}

Ref pad_nothing(const Match& m) {
  for (size_t s = 2; s < m.root->src.size(); s++)
    if (!is_int(m.root->src[s], 0)) return {};
  return m.ref(x);
}

Ref pad_pad(const Match& m) {
  if (m.root->src[1] != source(m)[1]) return {};
  std::vector<Ref> src = with_first(*m.root, m.ref(x));
  for (size_t s = 2; s < src.size(); s++) src[s] = ix::add(src[s], source(m)[s]);
  return make(Op::Pad, std::move(src));
}

// Padding goes to the source, where it is least and where paddings meet.
Ref pad_flip(const Match& m) {
  std::vector<Ref> src = with_first(*m.root, m.ref(x));
  for (int64_t axis : source(m).arg.ints)
    std::swap(src[2 + 2 * static_cast<size_t>(axis)], src[3 + 2 * static_cast<size_t>(axis)]);
  return make(Op::Flip, {make(Op::Pad, std::move(src))}, source(m).arg);
}

Ref pad_permute(const Match& m) {
  const std::vector<int64_t>& order = source(m).arg.ints;
  std::vector<Ref> src = with_first(*m.root, m.ref(x));
  for (size_t to = 0; to < order.size(); to++)
    for (size_t side : {size_t{2}, size_t{3}})
      src[side + 2 * static_cast<size_t>(order[to])] = m.root->src[side + 2 * to];
  return make(Op::Permute, {make(Op::Pad, std::move(src))}, source(m).arg);
}

// A reshape that only adds and drops dimensions of 1.
Ref pad_reshape(const Match& m) {
  const Node &reshaped = source(m), &inner = m.node(x);
  std::vector<Ref> src = {m.ref(x), m.root->src[1]}, dims;
  size_t to = 0;
  auto skip_ones = [&] {
    for (; to < reshaped.rank() && is_int(reshaped.shape[to], 1); to++)
      if (!is_int(m.root->src[2 + 2 * to], 0) || !is_int(m.root->src[3 + 2 * to], 0)) return false;
    return true;
  };
  for (const Ref& d : inner.shape) {
    bool one = is_int(d, 1);
    if (!one && (!skip_ones() || to == reshaped.rank() || reshaped.shape[to] != d)) return {};
    for (size_t side : {size_t{2}, size_t{3}}) src.push_back(one ? index(0) : m.root->src[side + 2 * to]);
    to += !one;
  }
  if (!skip_ones() || to != reshaped.rank()) return {};
  std::vector<Ref> back = {make(Op::Pad, std::move(src))};
  back.insert(back.end(), m.root->shape.begin(), m.root->shape.end());
  return make(Op::Reshape, std::move(back));
}

Ref pad_window(const Match& m) {
  size_t axis = static_cast<size_t>(source(m).at(0));
  std::vector<Ref> src = with_first(*m.root, m.ref(x));
  for (size_t s = 2 + 2 * axis; s < 6 + 2 * axis; s++)
    if (!is_int(src[s], 0)) return {};
  auto first = src.begin() + static_cast<ptrdiff_t>(2 + 2 * axis);
  src.erase(first, first + 2);
  return make(Op::Window, {make(Op::Pad, std::move(src))}, source(m).arg);
}

// The part that is kept lies within what was padded.
Ref shrink_pad(const Match& m) {
  const Node &root = *m.root, &pad = source(m), &inner = m.node(x);
  std::vector<Ref> src{m.ref(x)};
  for (size_t a = 0; a < root.rank(); a++) {
    Ref begin = ix::sub(root[1 + 2 * a], pad[2 + 2 * a]), size = root[2 + 2 * a];
    bool within =
        is_int(ix::le(index(0), begin), 1) && is_int(ix::le(ix::add(begin, size), inner.shape[a]), 1);
    if (!within) return {};
    src.push_back(begin);
    src.push_back(size);
  }
  return make(Op::Shrink, std::move(src));
}

// Not an unwindow of zeros: a dot has terms where an unwindow is in range (graph/ops.h), zeros have terms everywhere.
Ref of_constant(const Match& m) {
  const Node* value = uniform(source(m));
  if (!value) return {};
  if (m.root->op == Op::Pad && m.root->src[1].get() != value) return {};
  return full(*value, m.root->shape);
}

// A fold of a single value that is that value: not sums, which make +0 of -0.
Ref fold_of_one(const Match& m) {
  const Node& n = *m.root;
  Fold fold = fold_in(n);
  if (row(fold).is_dot || parts(fold) > 1 || row(fold).custom || (fold == Fold::Sum && is_float(n.dtype)))
    return {};
  for (size_t a = 1; a < n.arg.ints.size(); a++)
    if (!is_int(n[0]->shape[static_cast<size_t>(n.at(a))], 1)) return {};
  std::vector<Ref> src{n[0]};
  src.insert(src.end(), n.shape.begin(), n.shape.end());
  return make(Op::Reshape, std::move(src));
}

Ref put_all(const Match& m) {
  const Node& n = *m.root;
  for (size_t s = 2; s < n.src.size(); s++)
    if (!is_int(n[s], 0)) return {};
  return n[1]->shape == n.shape ? n[1] : Ref();
}

// clang-format off
constexpr Rule movement_table[] = {
    {"reshape.same",     any(Op::Reshape, x),                        unchanged,        "x, where the shape is the same"},
    {"reshape.const",    any(Op::Reshape, c),                        of_constant,      "the constant in the new shape"},
    {"reshape.reshape",  any(Op::Reshape, any(Op::Reshape, x)),      again,            "reshape(x) to the last shape"},
    {"permute.same",     any(Op::Permute, x),                        permute_identity, "x, where the order is 0, 1, .."},
    {"permute.const",    any(Op::Permute, c),                        of_constant,      "the constant in the new shape"},
    {"permute.permute",  any(Op::Permute, any(Op::Permute, x)),      permute_permute,  "permute(x) in one order"},
    {"expand.same",      any(Op::Expand, x),                         unchanged,        "x, where the shape is the same"},
    {"expand.const",     any(Op::Expand, c),                         of_constant,      "the constant in the new shape"},
    {"expand.expand",    any(Op::Expand, any(Op::Expand, x)),        again,            "expand(x) to the last shape"},
    {"flip.one",         any(Op::Flip, x),                           flip_ones,        "without the axes of size 1"},
    {"flip.const",       any(Op::Flip, c),                           of_constant,      "the constant"},
    {"flip.flip",        any(Op::Flip, any(Op::Flip, x)),            flip_flip,        "flip(x) of the axes that are flipped once"},
    {"shrink.all",       any(Op::Shrink, x),                         shrink_all,       "x, where all of it is kept"},
    {"shrink.const",     any(Op::Shrink, c),                         of_constant,      "the constant in the new shape"},
    {"shrink.shrink",    any(Op::Shrink, any(Op::Shrink, x)),        shrink_shrink,    "shrink(x), begins added"},
    {"shrink.pad",       any(Op::Shrink, any(Op::Pad, x)),           shrink_pad,       "shrink(x), where no padding is kept"},
    {"pad.nothing",      any(Op::Pad, x),                            pad_nothing,      "x, where nothing is added"},
    {"pad.const",        any(Op::Pad, c),                            of_constant,      "the constant, where it is padded with itself"},
    {"pad.pad",          any(Op::Pad, any(Op::Pad, x)),              pad_pad,          "pad(x), where both fill with one value"},
    {"pad.flip",         any(Op::Pad, any(Op::Flip, x)),             pad_flip,         "flip(pad(x)), low and high changed over"},
    {"pad.permute",      any(Op::Pad, any(Op::Permute, x)),          pad_permute,      "permute(pad(x))"},
    {"pad.reshape",      any(Op::Pad, any(Op::Reshape, x)),          pad_reshape,      "reshape(pad(x)), where the reshape only adds and drops dimensions of 1"},
    {"pad.window",       any(Op::Pad, any(Op::Window, x)),           pad_window,       "window(pad(x)), where the axes of the window are not padded"},
    {"window.const",     any(Op::Window, c),                         of_constant,      "the constant in the new shape"},
    {"reduce.one",       any(Op::Reduce, x),                         fold_of_one,      "reshape(x), where each fold has one value (not for sums of floats: they make +0 of -0)"},
    {"put.all",          any(Op::Put, x),                            put_all,          "the values, where all elements are replaced"},
    {"copy.copy",        any(Op::Copy, any(Op::Copy, x)),            again,            "copy(x)"},
};
// clang-format on

}  // namespace

std::span<const Rule> movement_rules() { return movement_table; }

}  // namespace kontor
