// Lowering of values: elementwise ops, scalars, gather and put.
#include <algorithm>

#include "base/error.h"
#include "codegen/stages/lowering.h"
#include "graph/index/index.h"

namespace kontor {

Ref Lowering::dimension(const Ref& d) {
  if (d->is_const()) return d;
  Substitution map;
  for (const Node* n : topological(std::span(&d, 1)))
    if (n->op == Op::Variable) map.emplace(n, slot(n));
  return substitute(d, map);
}

Ref Lowering::slot(const Node* n) const {
  for (size_t i = 0; i < graph_.scalars.size(); i++)
    if (graph_.scalars[i].get() == n)
      return tree::slot(n->dtype, static_cast<int64_t>(i), n->op == Op::Variable ? n->bounds : Bounds{});
  broken("a scalar is not among the graph's leaves");
}

Ref Lowering::lower(const Node* node, const Tuple& at, const Ref& guard) {
  node = see_through(node);
  if (terms_only_) return is_movement(node->op) ? moved(node, at, guard) : constant(node->dtype, int64_t{0});
  const Ref counts = std::exchange(counts_, {});
  if (guard && is_int(guard, 0)) return constant(node->dtype, int64_t{0});
  const Visit visit{node, guard, at};
  auto it = memo_.find(visit);
  if (it == memo_.end()) {
    const bool term = std::exchange(term_, term_ && is_movement(node->op)),
               checked = checked_.count(node) != 0;
    if (checked) checks_.open();
    Lowered lowered{compute(node, at, guard), {}};
    if (checked) lowered.checks = checks_.close();
    term_ = term;
    it = memo_.emplace(visit, std::move(lowered)).first;
  }
  if (it->second.checks) checks_.read(*it->second.checks, counts);
  return it->second.value;
}

Ref Lowering::compute(const Node* n, const Tuple& at, const Ref& guard) {
  if (n != top_ && !terms_only_)
    if (auto it = places_.find(n); it != places_.end()) {
      if (term_ && is_movement(n->op)) note_terms(n, at, guard);
      return tree::load(it->second, at, guard);
    }
  if (is_elementwise(n->op)) return elementwise(n, at, guard);
  if (is_movement(n->op)) return moved(n, at, guard);
  switch (n->op) {
    case Op::Const:    return Ref(n);
    case Op::Scalar:
    case Op::Variable: return slot(n);
    case Op::Iota:     return n->dtype == DType::I64 ? at[0] : make(Op::Cast, {at[0]}, {}, n->dtype);
    case Op::Copy:     return lower(n->src[0], at, guard);
    case Op::Gather:   return gather(n, at, guard);
    case Op::Put:      return put(n, at, guard);
    default:           broken("lower: {} has no value of its own", row(n->op).name);
  }
}

// What is checked in a source that counts where `condition` holds is checked there alone.
Ref Lowering::branch(const Ref& source, const Ref& condition, const Tuple& at, const Ref& guard) {
  counts_ = condition;
  return lower(source, at, guard);
}

// A where, and an `and` or `or` of bools, decide by one source which others count.
std::vector<Ref> Lowering::sources_of(const Node* n, const Tuple& at, const Ref& guard) {
  auto checked = [&](size_t i) { return checked_.count(n->src[i].get()) != 0; };
  const bool logical = n->dtype == DType::Bool && (n->op == Op::And || n->op == Op::Or);
  const size_t first = logical && checked(0) && !checked(1) ? 1 : 0;
  const bool decides = n->op == Op::Where || (logical && !checked(first));
  std::vector<Ref> out(n->src.size());
  out[first] = lower(n->src[first], at, guard);
  for (size_t i = 0; i < out.size(); i++) {
    if (i == first) continue;
    const bool negated = n->op == Op::Where ? i == 2 : n->op == Op::Or;
    out[i] = !decides || !checked(i)
                 ? lower(n->src[i], at, guard)
                 : branch(n->src[i], negated ? make(Op::Not, {out[first]}) : out[first], at, guard);
  }
  return out;
}

Ref Lowering::elementwise(const Node* n, const Tuple& at, const Ref& guard) {
  std::vector<Ref> sources = sources_of(n, at, guard);
  for (size_t i = 0; i + 1 < sources.size() && (n->op == Op::IDiv || n->op == Op::Mod); i++)
    check_divisor(sources[1], guard);
  // Positions that are computed (iota, a slab's place) become index expressions like any other.
  const bool index = (n->dtype == DType::I64 || n->dtype == DType::Bool) && of_indexes(sources);
  Ref value = make(n->op, std::move(sources), n->arg,
                   n->op == Op::Cast || n->op == Op::Bitcast ? n->dtype : DType::Void);
  return index ? ix::simplify_node(value) : value;
}

bool Lowering::of_indexes(std::span<const Ref> sources) {
  return std::all_of(sources.begin(), sources.end(), [](const Ref& s) {
    return (s->dtype == DType::I64 || s->dtype == DType::Bool) && s->op != Op::Load;
  });
}

void Lowering::check_divisor(const Ref& divisor, const Ref& guard) {
  if (divisor->is_const() ? divisor->at(0) != 0 : divisor->bounds.lo > 0) return;
  checks_.add(make(Op::Ne, {divisor, constant(divisor->dtype, int64_t{0})}), guard,
              "integer division by zero", {});
}

std::string Lowering::out_of_range(std::string_view who, size_t axis, const Ref& dim) {
  return fmt::format("{}: index {{}} is out of range for axis {} of {}", who, axis,
                     dim->is_const() ? fmt::format("size {}", dim->at(0)) : "variable size");
}

// The index as it was given, where negative ones were made to count from the end.
const Ref& Lowering::as_given(const Ref& index) {
  const bool wrapped =
      index->op == Op::Where && index->src[1]->op == Op::Add && index->src[1]->src[0] == index->src[2];
  return wrapped ? index->src[2] : index;
}

Ref Lowering::index_value(const Ref& tensor, const Tuple& at, const Ref& guard) {
  Ref raw = lower(tensor, at, guard);
  return raw->dtype == DType::I64 ? raw : make(Op::Cast, {raw}, {}, DType::I64);
}

// Position along `axis` that an index tensor's value means, with the guard that keeps it in range.
Ref Lowering::checked_index(const Node* n, const Ref& tensor, const Tuple& at, size_t axis, const Ref& dim,
                            Ref& inside, const Ref& guard) {
  Ref i = index_value(tensor, at, guard);
  Ref ok = ix::both(ix::le(index(0), i), ix::lt(i, dim));
  if (is_int(ok, 1)) return i;
  const std::string_view who = n->op != Op::Gather       ? row(n->op).name
                               : n->arg.ints.size() == 1 ? "take"
                                                         : "pick";
  checks_.add(ok, guard, out_of_range(who, axis, dim), index_value(as_given(tensor), at, guard));
  inside = ix::both(inside, ok);
  return i;
}

Ref Lowering::gather(const Node* n, const Tuple& at, const Ref& guard) {
  size_t selected = n->src[1]->rank();
  Tuple head(at.begin(), at.begin() + static_cast<ptrdiff_t>(selected)), inner(n->src[0]->rank());
  Ref inside;
  for (size_t i = 0; i < n->arg.ints.size(); i++) {
    size_t axis = static_cast<size_t>(n->at(i));
    inner[axis] =
        checked_index(n, n->src[1 + i], head, axis, dimension(n->src[0]->shape[axis]), inside, guard);
  }
  size_t rest = selected;
  for (Ref& r : inner)
    if (!r) r = at[rest++];
  return guarded(n->src[0], inner, inside, guard, constant(n->dtype, int64_t{0}));
}

// A box that does not lie inside altogether is not written at all.
Ref Lowering::put(const Node* n, const Tuple& at, const Ref& guard) {
  Tuple inner;
  Ref inside;
  for (size_t i = 0; i < at.size(); i++) {
    Ref begin = lower(n->src[2 + i], {}, guard);
    const Ref size = dimension(n->src[1]->shape[i]), dim = dimension(n->shape[i]);
    Ref fits = ix::both(ix::le(index(0), begin), ix::le(begin, ix::sub(dim, size)));
    if (!is_int(fits, 1)) {
      checks_.add(fits, guard, out_of_range("put", i, dim), lower(as_given(n->src[2 + i]), {}, guard));
      inside = ix::both(inside, fits);
    }
    inner.push_back(ix::sub(at[i], begin));
    inside = ix::both(inside, ix::both(ix::le(begin, at[i]), ix::lt(inner.back(), size)));
  }
  if (!inside || is_int(inside, 1)) return lower(n->src[1], inner, guard);
  return make(Op::Where,
              {inside, lower(n->src[1], inner, ix::both(guard, inside)), lower(n->src[0], at, guard)});
}

}  // namespace kontor
