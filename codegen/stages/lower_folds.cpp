// Lowering of folds: loops in the promised order (fold_order.h), long chains in pieces; scans.
#include <algorithm>

#include "base/error.h"
#include "codegen/stages/lowering.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor {

void Lowering::add_reduce(const Node* n) {
  Fold fold = fold_in(*n);
  std::vector<int64_t> axes(n->arg.ints.begin() + 1, n->arg.ints.end());
  std::vector<Ref> dims;
  for (const Ref& d : n->src[0]->shape) dims.push_back(dimension(d));
  FoldOrder order = fold_order(fold, dims, axes);
  if (order.chunk_loop >= 0) return add_cut_reduce(n, fold, axes, dims, order);
  Stage& s = begin_stage(n, std::string(row(fold).name));
  fold_values(n, s, fold, axes, dims, order, {});
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
void Lowering::fold_values(const Node* n, Stage& s, Fold fold, const std::vector<int64_t>& axes,
                           const std::vector<Ref>& dims, const FoldOrder& order, const Tuple& pieces) {
  s.fold = static_cast<int>(fold);
  s.part = part_in(*n);
  size_t id = program_.stages.size() - 1;
  Tuple steps;
  for (size_t q = 0; q < order.steps.size(); q++) steps.push_back(step(s, order, pieces, q, id));
  Tuple at = source_index(s, axes, dims, order, steps, pieces.size(), id);
  taps_.clear();
  for (const Ref& src : n->src) {
    term_ = row(fold).is_dot;
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

Tuple Lowering::source_index(Stage& s, const std::vector<int64_t>& axes, const std::vector<Ref>& dims,
                             const FoldOrder& order, const Tuple& steps, size_t first_loop, size_t id) {
  Tuple at(dims.size());
  size_t outer = axes.size() - static_cast<size_t>(order.trailing);
  for (size_t i = 0; i < outer; i++) at[static_cast<size_t>(axes[i])] = steps[i];
  if (order.lanes > 1) {
    std::span<const Ref> block = std::span(dims).last(static_cast<size_t>(order.trailing));
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

// What the pieces of a long chain come to: [pieces.., loops..] of one part of the state.
Ref Lowering::add_partial(const Node* n, Fold fold, size_t part, const std::vector<int64_t>& axes,
                          const std::vector<Ref>& dims, const FoldOrder& order) {
  Stage& partial = begin_stage(n, std::string(row(fold).name));
  Tuple pieces;
  size_t cut = static_cast<size_t>(order.chunk_loop);
  for (size_t q = 0; q <= cut; q++) {
    Ref length = q < cut ? order.steps[q] : ix::ceil_div(order.steps[q], index(order.chunk));
    pieces.push_back(ix::range(length, fmt::format("p{}_{}", q, program_.stages.size() - 1)));
  }
  partial.loops.insert(partial.loops.begin(), pieces.begin(), pieces.end());
  std::vector<Ref> sizes;
  for (const Ref& l : partial.loops) sizes.push_back(l->src[0]);
  const DType dtype = part_dtype(fold, state_dtype(fold, n->src[0]->dtype), part);
  partial.place = tree::place(dtype, sizes, partial.name);
  partial.must_store = true;
  fold_values(n, partial, fold, axes, dims, order, pieces);
  partial.part = part;
  return partial.place;
}

// A long chain: partial results of its pieces, all parts of them, then a fold over the pieces.
void Lowering::add_cut_reduce(const Node* n, Fold fold, const std::vector<int64_t>& axes,
                              const std::vector<Ref>& dims, const FoldOrder& order) {
  const Ref first = with_part(*n, 0);
  kept_.push_back(first);
  std::vector<Ref>& places = partial_[first.get()];
  if (places.empty())
    for (size_t part = 0; part < parts(fold); part++)
      places.push_back(add_partial(n, fold, part, axes, dims, order));

  Stage& whole = begin_stage(n, std::string(row(fold).name));
  whole.fold = static_cast<int>(row(fold).merge);
  whole.part = part_in(*n);
  const size_t pieces = tree::dims(*places[0]).size() - whole.loops.size();
  for (size_t q = 0; q < pieces; q++)
    whole.folds.push_back(
        ix::range(tree::dims(*places[0])[q], fmt::format("r{}_{}", q, program_.stages.size() - 1)));
  Tuple at = whole.folds;
  at.insert(at.end(), whole.loops.begin(), whole.loops.end());
  for (const Ref& place : places) whole.values.push_back(tree::load(place, at));
  end_stage(n);
}

}  // namespace kontor
