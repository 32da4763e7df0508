// Lowering of movement ops: functions on the index tuple; what is outside of a pad is guarded.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "codegen/stages/lowering.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor {

// An unwindow that is stored has the same terms as one that is not.
void Lowering::note_terms(const Node* view, const Tuple& at, const Ref& guard) {
  terms_only_ = true;
  moved(view, at, guard);
  terms_only_ = false;
}

Ref Lowering::padded(const Node* n, const Tuple& at, const Ref& guard) {
  Tuple inner;
  Ref inside;
  for (size_t i = 0; i < at.size(); i++) {
    Ref lo = dimension(n->src[2 + 2 * i]);
    inner.push_back(ix::sub(at[i], lo));
    if (!is_int(lo, 0)) inside = ix::both(inside, ix::le(lo, at[i]));
    if (!is_int(n->src[3 + 2 * i], 0))
      inside = ix::both(inside, ix::lt(at[i], ix::add(lo, dimension(n->src[0]->shape[i]))));
  }
  return guarded(n->src[0], inner, inside, guard, n->src[1]);
}

// The value at `at` where `inside` holds, else `fill`.
Ref Lowering::guarded(const Ref& source, const Tuple& at, const Ref& inside, const Ref& guard,
                      const Ref& fill) {
  Ref value = lower(source, at, ix::both(guard, inside));
  if (!inside || is_int(inside, 1)) return value;
  bool zero = fill->is_const() && fill->at(0) == 0;
  if (zero && value->op == Op::Load && tree::guard(*value)) return value;
  Ref other = fill->is_const() ? fill : lower(fill, {}, guard);
  return make(Op::Where, {inside, value, other});
}

Ref Lowering::moved(const Node* n, const Tuple& at, const Ref& guard) {
  const Node& x = *n->src[0];
  Tuple inner(x.rank());
  switch (n->op) {
    case Op::Reshape: return lower(n->src[0], reshaped(n, at), guard);
    case Op::Permute:
      for (size_t i = 0; i < at.size(); i++) inner[static_cast<size_t>(n->at(i))] = at[i];
      break;
    case Op::Expand:
      for (size_t i = 0; i < at.size(); i++) inner[i] = is_int(x.shape[i], 1) ? index(0) : at[i];
      break;
    case Op::Shrink:
      for (size_t i = 0; i < at.size(); i++) inner[i] = ix::add(at[i], dimension(n->src[1 + 2 * i]));
      break;
    case Op::Flip:
      inner = at;
      for (int64_t a : n->arg.ints) {
        size_t i = static_cast<size_t>(a);
        inner[i] = ix::sub(ix::sub(dimension(x.shape[i]), index(1)), at[i]);
      }
      break;
    case Op::Pad:      return padded(n, at, guard);
    case Op::Window:   inner = windowed(n, at); break;
    case Op::Unwindow: return unwindowed(n, at, guard);
    default:           broken("lower: movement op {}", row(n->op).name);
  }
  return lower(n->src[0], inner, guard);
}

// Dimensions pass through unchanged where they can: only runs of dimensions that are really joined or divided (the
// shortest with equal products) go through a flat position.
Tuple Lowering::reshaped(const Node* n, const Tuple& at) {
  std::vector<Ref> to, from;
  for (const Ref& d : n->shape) to.push_back(dimension(d));
  for (const Ref& d : n->src[0]->shape) from.push_back(dimension(d));
  Tuple inner;
  size_t i = 0, j = 0;
  while (i < to.size() || j < from.size()) {
    size_t i0 = i, j0 = j;
    Ref p = i < to.size() ? to[i++] : index(1), q = j < from.size() ? from[j++] : index(1);
    while (p != q && grow(p, to, i, q)) {}
    while (p != q && grow(q, from, j, p)) {}
    while (p != q && (i < to.size() || j < from.size())) {
      if (i < to.size() && (j == from.size() || p->bounds.hi < q->bounds.hi)) p = ix::mul(p, to[i++]);
      else q = ix::mul(q, from[j++]);
    }
    std::span<const Ref> a = std::span(to).subspan(i0, i - i0), b = std::span(from).subspan(j0, j - j0);
    Tuple part = ix::unflatten(ix::flatten(std::span(at).subspan(i0, i - i0), a), b);
    inner.insert(inner.end(), part.begin(), part.end());
  }
  return inner;
}

// Takes further dimensions of 1 that stand next, or one that makes the products equal.
bool Lowering::grow(Ref& product, const std::vector<Ref>& dims, size_t& next, const Ref& target) {
  if (next == dims.size()) return false;
  Ref p = ix::mul(product, dims[next]);
  if (!is_int(dims[next], 1) && p != target) return false;
  product = p;
  next++;
  return true;
}

Tuple Lowering::windowed(const Node* n, const Tuple& at) {
  size_t axis = static_cast<size_t>(n->at(0));
  Tuple inner = at;
  inner[axis] = ix::add(ix::mul(at[axis], n->at(1)), ix::mul(at[axis + 1], n->at(2)));
  inner.erase(inner.begin() + n->at(0) + 1);
  return inner;
}

Ref Lowering::unwindowed(const Node* n, const Tuple& at, const Ref& guard) {
  size_t axis = static_cast<size_t>(n->at(0));
  int64_t stride = n->at(1), dilation = n->at(2);
  if (term_ && !guard)
    if (Ref o = position_of_tap(n, at[axis], at[axis + 1])) {
      Tuple inner = at;
      inner[axis] = o;
      return lower(n->src[0], inner, guard);
    }
  Ref t = ix::sub(at[axis], ix::mul(at[axis + 1], dilation));
  Ref inside = ix::le(index(0), t);
  if (stride != 1) inside = ix::both(inside, ix::eq(ix::mod(t, stride), index(0)));
  Ref o = ix::idiv(t, stride);
  inside = ix::both(inside, ix::lt(o, dimension(n->src[0]->shape[axis])));
  if (term_) terms_ = ix::both(terms_, guard ? make(Op::Or, {make(Op::Not, {guard}), inside}) : inside);
  Tuple inner = at;
  inner[axis] = o;
  return guarded(n->src[0], inner, inside, guard, constant(n->dtype, int64_t{0}));
}

// In a dot over the taps k, an unwindow's terms are those in range (graph/ops.h): the fold runs over these alone, and
// there is no guard. With i - k*dilation = o*stride they are k = first + step*tap. Returns o, or null where the range
// of taps is not a loop of this fold's own.
Ref Lowering::position_of_tap(const Node* n, const Ref& i, const Ref& k) {
  int64_t stride = n->at(1), dilation = n->at(2);
  std::vector<Ref>& folds = current_->folds;
  auto fold = std::find(folds.begin(), folds.end(), k);
  const Ref& outputs = n->src[0]->shape[static_cast<size_t>(n->at(0))];
  const bool loop_of_own = fold != folds.end() && !current_->lane && k->src[0]->is_const() &&
                           outputs->is_const() && !taps_.count(k.get());
  if (!loop_of_own || (stride != 1 && dilation != 1)) return {};
  const Ref seen = replace(i, taps_);
  for (const Ref& f : folds)
    if (ix::depends_on(seen, f)) return {};
  Ref beyond = ix::sub(i, stride * (extent(outputs) - 1));
  Ref first = stride == 1 ? ix::max(index(0), ix::idiv(ix::add(beyond, dilation - 1), dilation))
                          : ix::max(ix::mod(i, stride), beyond);
  Ref last = ix::min(ix::sub(k->src[0], index(1)), ix::idiv(i, dilation));
  Ref count = ix::max(index(0), ix::add(ix::idiv(ix::sub(last, first), stride), 1));
  Ref tap = ix::range(replace(count, taps_), k->arg.text);
  Ref o = stride == 1 ? ix::sub(i, ix::mul(ix::add(first, tap), dilation))
                      : ix::sub(ix::idiv(ix::sub(i, first), stride), tap);
  // In o's place while views are lowered: its bounds are seen, o's are not.
  Ref known = ix::range(outputs, "o");
  *fold = tap;
  // i may be what another unwindow left; what is put in taps_ says nothing of taps_ itself.
  std::vector<Ref> meant = replace(std::array{ix::add(first, ix::mul(tap, stride)), o}, taps_);
  kept_.insert(kept_.end(), {k, known});
  taps_.emplace(k.get(), meant[0]);
  taps_.emplace(known.get(), meant[1]);
  return known;
}

}  // namespace kontor
