// Lowering of folds: loops in the promised order (fold_order.h), long chains in pieces; scans.
#include <algorithm>

#include "base/error.h"
#include "codegen/stages/lowering.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor {

void Lowering::add_reduce(const Node* n) {
  Folded what{fold_in(*n),
              state_dtype(fold_in(*n), n->src[0]->dtype),
              {},
              {n->arg.ints.begin() + 1, n->arg.ints.end()},
              {}};
  for (const Ref& d : n->src[0]->shape) what.dims.push_back(dimension(d));
  FoldOrder order = fold_order(what.fold, what.dims, what.axes);
  for (size_t level = 0; order.chunk_loop >= 0; level++) {
    what = pieces_folded(n, what, order, level);
    order = fold_order(what.fold, what.dims, what.axes);
  }
  Stage& s = begin_stage(n, std::string(plain_name(what.fold)));
  fold_values(n, s, what, order, {});
  end_stage(n);
}

void Lowering::add_scan(const Node* n) {
  Stage& s = begin_stage(n, "scan");
  s.fold = static_cast<int>(n->at(0));
  s.scan = static_cast<int>(n->at(1));
  for (const Ref& x : std::span(n->src).first(n->src.size() - 1)) s.values.push_back(lower(x, s.loops, {}));
  Tuple others = s.loops;
  others.erase(others.begin() + s.scan);
  s.start = lower(n->src.back(), others, {});
  end_stage(n);
}

// The fold's loops, lane and values of stage s; `pieces` are the ranges of the cut, outermost first.
void Lowering::fold_values(const Node* n, Stage& s, const Folded& what, const FoldOrder& order,
                           const Tuple& pieces) {
  s.fold = static_cast<int>(what.fold);
  s.part = part_in(*n);
  size_t id = program_.stages.size() - 1;
  Tuple steps;
  for (size_t q = 0; q < order.steps.size(); q++) steps.push_back(step(s, order, pieces, q, id));
  Tuple at = source_index(s, what, order, steps, pieces.size(), id);
  if (!what.places.empty()) {
    for (const Ref& place : what.places) s.values.push_back(tree::load(place, at));
    return;
  }
  taps_.clear();
  for (const Ref& src : n->src) {
    term_ = row(what.fold).is_dot;
    s.values.push_back(lower(src, at, {}));
  }
  term_ = false;
  settle_checks();
  if (Ref terms = std::exchange(terms_, {}); terms && !is_int(terms, 1))
    for (Ref& v : s.values) v = term(v, terms);
  if (taps_.empty()) return;
  for (Ref& v : s.values) v = replace(v, taps_);
  for (StageCheck& c : s.checks) c.each([&](Ref& r) { r = replace(r, taps_); });
}

// A dot's factor where it has a term, else 0: so that no 0 * inf is added for an unwindow's zeros.
Ref Lowering::term(const Ref& v, const Ref& terms) {
  if (v->op != Op::Load) return make(Op::Where, {terms, v, constant(v->dtype, int64_t{0})});
  std::span<const Ref> at = tree::at(*v);
  return tree::load(v->src[0], {at.begin(), at.end()}, ix::both(tree::guard(*v), terms));
}

// Position along step loop q: a new fold range, or what the cut leaves of it.
Ref Lowering::step(Stage& s, const FoldOrder& order, const Tuple& pieces, size_t q, size_t id) {
  size_t cut = static_cast<size_t>(order.chunk_loop);
  if (!pieces.empty() && q < cut) return pieces[q];
  Ref length = order.steps[q], begin;
  if (!pieces.empty() && q == cut) {
    begin = ix::mul(pieces[q], order.chunk);
    if (order.lanes > 1 && q + 1 == order.steps.size()) s.lane_begin = begin;
    length = ix::min(index(order.chunk), ix::sub(length, begin));
  }
  Ref r = ix::range(length, fmt::format("r{}_{}", q, id));
  s.folds.push_back(r);
  return begin ? ix::add(begin, r) : r;
}

Tuple Lowering::source_index(Stage& s, const Folded& what, const FoldOrder& order, const Tuple& steps,
                             size_t first_loop, size_t id) {
  Tuple at(what.dims.size());
  size_t outer = what.axes.size() - static_cast<size_t>(order.trailing);
  for (size_t i = 0; i < outer; i++) at[static_cast<size_t>(what.axes[i])] = steps[i];
  if (order.lanes > 1) {
    std::span<const Ref> block = std::span(what.dims).last(static_cast<size_t>(order.trailing));
    Ref length = ix::product(block);
    s.lane = ix::range(order.lanes, fmt::format("lane{}", id));
    Ref j = ix::add(ix::mul(steps.back(), order.lanes), s.lane);
    s.lane_length = extent(length);
    Tuple inner = ix::unflatten(j, block);
    std::copy(inner.begin(), inner.end(), at.end() - order.trailing);
  }
  size_t loop = first_loop;
  for (Ref& r : at)
    if (!r) r = s.loops[loop++];
  return at;
}

// A stage of what the pieces of a long chain come to: [pieces.., loops..] of one part of the state.
Ref Lowering::add_partial(const Node* n, size_t part, const Folded& what, const FoldOrder& order) {
  Stage& partial = begin_stage(n, std::string(plain_name(what.fold)));
  Tuple pieces;
  for (const Ref& count : pieces_of(order))
    pieces.push_back(ix::range(count, fmt::format("p{}_{}", pieces.size(), program_.stages.size() - 1)));
  partial.loops.insert(partial.loops.begin(), pieces.begin(), pieces.end());
  std::vector<Ref> sizes;
  for (const Ref& l : partial.loops) sizes.push_back(l->src[0]);
  partial.place = tree::place(part_dtype(what.fold, what.state, part), sizes, partial.name);
  partial.must_store = true;
  fold_values(n, partial, what, order, pieces);
  partial.part = part;
  return partial.place;
}

// What is left of a long chain whose pieces have been folded: a fold of what they came to, of all parts.
Lowering::Folded Lowering::pieces_folded(const Node* n, const Folded& what, const FoldOrder& order,
                                         size_t level) {
  const Ref first = with_part(*n, 0);
  kept_.push_back(first);
  std::vector<std::vector<Ref>>& levels = partial_[first.get()];
  if (levels.size() == level) {
    std::vector<Ref> places;
    for (size_t part = 0; part < parts(what.fold); part++)
      places.push_back(add_partial(n, part, what, order));
    levels.push_back(std::move(places));
  }
  Folded left{row(what.fold).merge, what.state, {}, {}, levels[level]};
  const std::span<const Ref> dims = tree::dims(*left.places[0]);
  left.dims.assign(dims.begin(), dims.end());
  for (size_t q = 0; q < pieces_of(order).size(); q++) left.axes.push_back(static_cast<int64_t>(q));
  return left;
}

}  // namespace kontor
