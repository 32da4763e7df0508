// The incremental transform: a rule an op. A value is unchanged, has a new slab, or is new
// as a whole; a rule keeps the slab as long as it can.
#include "graph/transforms/incremental.h"

#include <algorithm>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"
#include "graph/transforms/op_table.h"

namespace kontor {

namespace {

/// What became of a node: `whole` is its new value, or null: then `value` stands from `begin` on along `axis`.
struct Change {
  Ref whole = {};
  int64_t axis = 0;
  Ref begin = {}, value = {};
  Ref difference = {};  // value less what was there, if it was recorded already: movement ops carry both

  const Ref& size() const { return value->shape[static_cast<size_t>(axis)]; }
  bool same_place(const Change& o) const { return axis == o.axis && begin == o.begin && size() == o.size(); }
};

Change as_whole(Ref value) { return {.whole = std::move(value)}; }
Change as_slab(int64_t axis, Ref begin, Ref value) {
  return {.axis = axis, .begin = std::move(begin), .value = std::move(value)};
}

/// The part of an unchanged node where a slab lies.
Ref part(const Ref& x, const Change& slab) {
  const size_t axis = static_cast<size_t>(slab.axis);
  if (x->is(Op::Expand) && is_int(x->src[0]->shape[axis], 1)) {  // alike along the axis
    Dims shape = x->shape;
    shape[axis] = slab.size();
    return fn::broadcast(x->src[0], shape);
  }
  Ref at = fn::add(fn::splat(slab.begin, {slab.size()}), fn::iota(slab.size(), DType::I64));
  Ref found = make(Op::Gather, {x, at}, {.ints = {slab.axis}});
  Ints order;  // the axis of the positions comes out in front
  for (int64_t a = 0; a < static_cast<int64_t>(x->rank()); a++)
    order.push_back(a < slab.axis ? a + 1 : a == slab.axis ? 0 : a);
  return fn::permute(found, order);
}

/// What the slab adds to the node that it changes.
Ref difference(const Ref& old, const Change& slab) {
  return slab.difference ? slab.difference : fn::sub(slab.value, part(old, slab));
}

Ref put(const Ref& x, const Change& slab) {
  std::vector<Ref> src{x, slab.value};
  for (size_t a = 0; a < x->rank(); a++)
    src.push_back(static_cast<int64_t>(a) == slab.axis ? slab.begin : index(0));
  return make(Op::Put, src);
}

/// A node, its sources as they were, and what became of them (null: unchanged).
struct Step {
  const Node& node;
  std::vector<const Change*> change;

  const Ref& old(size_t i) const { return node.src[i]; }
  Ref now(size_t i) const {
    if (!change[i]) return old(i);
    return change[i]->whole ? change[i]->whole : put(old(i), *change[i]);
  }
  /// Source i where `slab` lies; null if its own change lies elsewhere.
  Ref now_part(size_t i, const Change& slab) const {
    if (!change[i]) return part(old(i), slab);
    return !change[i]->whole && change[i]->same_place(slab) ? change[i]->value : Ref();
  }
  /// The slab that a source has; null if one is new as a whole.
  const Change* slab() const {
    const Change* found = nullptr;
    for (const Change* c : change) {
      if (!c) continue;
      if (c->whole) return nullptr;
      found = c;
    }
    return found;
  }
  bool only_first() const {
    return std::all_of(change.begin() + 1, change.end(), [](const Change* c) { return !c; });
  }
};

using Rule = Change (*)(const Step& s, const Change& slab);  // no whole: computed anew from its sources

constexpr auto anew = [] { return Change{}; };

Change elementwise(const Step& s, const Change& slab) {
  std::vector<Ref> src;
  for (size_t i = 0; i < s.change.size(); i++) {
    src.push_back(s.now_part(i, slab));
    if (!src.back()) return anew();
  }
  return as_slab(slab.axis, slab.begin, with_sources(s.node, src));
}

/// A number if the product of dimensions has one, else -1.
int64_t count(std::span<const Ref> dims) {
  int64_t n = 1;
  for (const Ref& d : dims) {
    if (!d->is_const()) return -1;
    n *= d->at(0);
  }
  return n;
}

/// Where the slab lies on an axis of which `inner` elements (finer) or `inner`ths stand for one of its own; false if its
/// ends lie within one.
bool counted(const Change& slab, int64_t inner, bool finer, Ref& begin, Ref& size) {
  const int64_t n = count(std::span(&slab.size(), 1));
  if (n < 0) return false;
  if (finer) {
    begin = inner == 1 ? slab.begin : fn::mul(slab.begin, inner);
    size = index(n * inner);
    return true;
  }
  if (n % inner != 0) return false;
  size = index(n / inner);
  const Node& b = *slab.begin;
  if (b.is_const() && b.at(0) % inner == 0) return begin = index(b.at(0) / inner), true;
  if (!b.is(Op::Mul)) return false;
  for (size_t k = 0; k < 2; k++)
    if (b.src[k]->is_const() && b.src[k]->at(0) % inner == 0) {
      begin = fn::mul(b.src[1 - k], b.src[k]->at(0) / inner);
      return true;
    }
  return false;
}

/// The axis stays one if it is neither joined with one outside of it nor cut apart; it may take in axes inside of it, and
/// a slab of whole pieces may be handed to the outer part of a cut.
Change reshape(const Step& s, const Change& slab) {
  const std::vector<Ref>&from = s.old(0)->shape, &to = s.node.shape;
  const size_t a = static_cast<size_t>(slab.axis);
  const int64_t outside = count(std::span(from).first(a)), extent = count(std::span(from).subspan(a, 1));
  if (outside < 0 || extent < 0) return anew();
  size_t b = 0;
  while (b < to.size() && (count(std::span(to).first(b)) != outside || (is_int(to[b], 1) && extent > 1))) b++;
  if (b == to.size()) return anew();
  const int64_t wide = count(std::span(to).subspan(b, 1));
  if (wide <= 0 || (wide % extent != 0 && extent % wide != 0)) return anew();
  const bool finer = wide >= extent;
  if (finer) {  // whole axes behind it are taken in
    size_t behind = a + 1;
    while (behind < from.size() && extent * count(std::span(from).subspan(a + 1, behind - a - 1)) != wide)
      behind++;
    if (extent * count(std::span(from).subspan(a + 1, behind - a - 1)) != wide) return anew();
  }
  Ref begin, size;
  if (!counted(slab, finer ? wide / extent : extent / wide, finer, begin, size)) return anew();
  Dims shape = to;
  shape[b] = size;
  return as_slab(static_cast<int64_t>(b), begin, fn::reshape(slab.value, shape));
}

Change permute(const Step& s, const Change& slab) {
  const Ints& order = s.node.arg.ints;
  const auto at = std::find(order.begin(), order.end(), slab.axis);
  return as_slab(at - order.begin(), slab.begin, fn::permute(slab.value, order));
}

Change expand(const Step& s, const Change& slab) {
  Dims shape = s.node.shape;
  shape[static_cast<size_t>(slab.axis)] = slab.size();
  return as_slab(slab.axis, slab.begin, fn::broadcast(slab.value, shape));
}

Change pad(const Step& s, const Change& slab) {
  if (!s.only_first()) return anew();
  std::vector<Ref> src = s.node.src;
  src[0] = slab.value;
  Ref& low = src[2 + 2 * static_cast<size_t>(slab.axis)];
  const Ref begin = is_int(low, 0) ? slab.begin : fn::add(slab.begin, low);
  low = src[3 + 2 * static_cast<size_t>(slab.axis)] = index(0);
  return as_slab(slab.axis, begin, make(Op::Pad, src));
}

Change shrink(const Step& s, const Change& slab) {
  const size_t a = static_cast<size_t>(slab.axis);
  if (!is_int(s.node.src[1 + 2 * a], 0) || s.node.shape[a] != s.old(0)->shape[a]) return anew();
  std::vector<Ref> src = s.node.src;
  src[0] = slab.value;
  src[2 + 2 * a] = slab.size();
  return as_slab(slab.axis, slab.begin, make(Op::Shrink, src));
}

Change flip(const Step& s, const Change& slab) {
  const Ints& axes = s.node.arg.ints;
  Ref begin = slab.begin;
  if (std::find(axes.begin(), axes.end(), slab.axis) != axes.end())
    begin = fn::sub(ix::sub(s.node.shape[static_cast<size_t>(slab.axis)], slab.size()), begin);
  return as_slab(slab.axis, begin, make(Op::Flip, {slab.value}, s.node.arg));
}

Change window(const Step& s, const Change& slab) {
  const int64_t axis = s.node.at(0);
  if (slab.axis == axis) return anew();
  return as_slab(slab.axis + (slab.axis > axis), slab.begin, make(Op::Window, {slab.value}, s.node.arg));
}

Change unwindow(const Step& s, const Change& slab) {
  const int64_t axis = s.node.at(0);
  if (slab.axis == axis || slab.axis == axis + 1) return anew();
  return as_slab(slab.axis, slab.begin, make(Op::Unwindow, {slab.value, s.node.src[1]}, s.node.arg));
}

Ref folded(const Node& node, std::vector<Ref> sources) {
  return make(Op::Reduce, std::move(sources), node.arg);
}

/// What a sum over the slab's own axis was, plus the sum of differences (of products: new less old).
Change corrected(const Step& s, const Change& slab, const std::vector<Ref>& now) {
  const Fold fold = fold_in(s.node);
  if (fold != Fold::Sum && fold != Fold::Dot) return anew();
  const auto changed = std::count_if(s.change.begin(), s.change.end(), [](const Change* c) { return c; });
  std::vector<Ref> sources, before;
  for (size_t i = 0; i < now.size(); i++) {
    before.push_back(part(s.old(i), slab));
    sources.push_back(s.change[i] && changed == 1 ? difference(s.old(i), *s.change[i]) : now[i]);
  }
  const Ref sum = fn::add(Ref(&s.node), folded(s.node, sources));
  return as_whole(changed == 1 ? sum : fn::sub(sum, folded(s.node, before)));
}

Change reduce(const Step& s, const Change& slab) {
  std::vector<Ref> now;
  for (size_t i = 0; i < s.change.size(); i++) {
    now.push_back(s.now_part(i, slab));
    if (!now.back()) return anew();
  }
  int64_t axis = slab.axis;
  for (size_t k = 1; k < s.node.arg.ints.size(); k++) {
    if (s.node.at(k) == slab.axis) return corrected(s, slab, now);
    axis -= s.node.at(k) < slab.axis;
  }
  return as_slab(axis, slab.begin, folded(s.node, now));
}

Change gather(const Step& s, const Change& slab) {
  const Ints& axes = s.node.arg.ints;
  if (!s.only_first() || std::find(axes.begin(), axes.end(), slab.axis) != axes.end()) return anew();
  std::vector<Ref> src = s.node.src;
  src[0] = slab.value;
  const auto before = std::count_if(axes.begin(), axes.end(), [&](int64_t a) { return a < slab.axis; });
  return as_slab(slab.axis - before + static_cast<int64_t>(src[1]->rank()), slab.begin,
                 make(Op::Gather, src, s.node.arg));
}

/// Only what it holds counts: of a Call, its body.
Change wrapper(const Step&, const Change& slab) { return slab; }

Change never(const Step&, const Change&) { return anew(); }

constexpr OpRule<Rule> rows[] = {
    {Op::Reshape, reshape}, {Op::Permute, permute}, {Op::Expand, expand}, {Op::Pad, pad},
    {Op::Shrink, shrink},   {Op::Flip, flip},       {Op::Window, window}, {Op::Unwindow, unwindow},
    {Op::Reduce, reduce},   {Op::Scan, never},      {Op::Gather, gather}, {Op::Scatter, never},
    {Op::Put, never},       {Op::Sort, never},      {Op::Mark, wrapper},  {Op::Copy, wrapper},
    {Op::Call, wrapper},
};

constexpr OpTable<Rule> table("incremental", rows, elementwise);

class Incremental {
 public:
  explicit Incremental(std::span<const Slab> slabs) {
    for (const Slab& s : slabs) {
      check(s);
      if (!changes_.emplace(s.node.get(), settled({{}, s.axis, s.begin, s.value}, *s.node)).second)
        fail("incremental: two slabs of {}", describe(*s.node));
    }
  }

  std::vector<Ref> run(std::span<const Ref> roots) {
    carry(roots, changes_, [](const Node& n, std::span<const Change* const> sources) {
      if (n.is(Op::Call) || n.is(Op::Mark)) return *sources[0];  // the value of its first source
      return changed({n, {sources.begin(), sources.end()}});
    });
    std::vector<Ref> out;
    for (const Ref& r : roots) {
      const auto it = changes_.find(r.get());
      out.push_back(it == changes_.end() ? r : it->second.whole ? it->second.whole : put(r, it->second));
    }
    return out;
  }

 private:
  NodeMap<Change> changes_;

  static void check(const Slab& s) {
    Dims shape = s.node->shape;
    const bool axis = s.axis >= 0 && s.axis < static_cast<int64_t>(shape.size());
    if (axis && s.value->rank() == shape.size())
      shape[static_cast<size_t>(s.axis)] = s.value->shape[static_cast<size_t>(s.axis)];
    if (!axis || s.value->shape != shape || s.value->dtype != s.node->dtype)
      fail("incremental: {} does not fit into axis {} of {}", describe(*s.value), s.axis, describe(*s.node));
    if (s.begin->rank() != 0 || s.begin->dtype != DType::I64)
      fail("incremental: a slab begins at {}: needs i64 of rank 0", describe(*s.begin));
  }

  // A slab that is all of its axis is the whole value.
  static Change settled(Change c, const Node& node) {
    if (c.whole || c.size() != node.shape[static_cast<size_t>(c.axis)]) return c;
    return as_whole(c.value);
  }

  // A movement op moves the difference as it moves the value; what a pad fills with is the same before and after.
  static Ref moved_difference(const Step& step, const Change& slab, Rule rule) {
    if (step.node.dtype == DType::Bool) return {};
    if (step.node.is(Op::Pad) && !(step.node.src[1]->is_const() && step.node.src[1]->at(0) == 0)) return {};
    Change moved = slab;
    moved.value = difference(step.old(0), slab);
    return rule(step, moved).value;
  }

  static Change changed(const Step& step) {
    const Rule rule = table[step.node.op];
    if (const Change* slab = step.slab()) {
      Change c = rule(step, *slab);
      if (c.value && is_movement(step.node.op)) c.difference = moved_difference(step, *slab, rule);
      if (c.whole || c.value) return settled(std::move(c), step.node);
    }
    std::vector<Ref> src;
    for (size_t i = 0; i < step.change.size(); i++) src.push_back(step.now(i));
    return as_whole(with_sources(step.node, std::move(src)));
  }
};

}  // namespace

bool has_incremental_row(Op op) { return row(op).group == OpClass::Leaf || table.has(op); }

std::vector<Ref> incremental(std::span<const Ref> roots, std::span<const Slab> slabs) {
  return Incremental(slabs).run(roots);
}

}  // namespace kontor
