// From directions to new parameters: a step of a set length, one whose length is chosen by a second forward pass
// (meta-lr), or the gradients that Adam takes.
#include <limits>

#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

using Lists = std::vector<std::vector<Ref>>;

Ref sum_of_squares(const std::vector<Ref>& directions) {
  Ref total;
  for (const Ref& d : directions) {
    const Ref part = fn::sum(fn::square(d), {}, false);
    total = total ? fn::add(total, part) : part;
  }
  return total;
}

class Updater {
 public:
  Updater(const Step& step, StepGraph& out) : step_(step), out_(out) {
    for (const auto& group : step.members) out.index.insert(out.index.end(), group.begin(), group.end());
  }

  void add(const Lists& moves) {
    for (size_t g = 0; g < moves.size(); ++g)
      for (size_t k = 0; k < moves[g].size(); ++k) change(mark(g, k), moves[g][k], out_.fine);
  }

  void gradients(const Lists& directions) {
    for (const auto& group : directions)
      for (const Ref& d : group) out_.gradients.push_back(fn::neg(d));
  }

  /// theta + lr D / |D|. A direction without length, or of no finite one, moves nothing.
  void unit(const Lists& directions) {
    Lists moves;
    std::vector<Ref> fine;
    const std::vector<Ref> squares = lengths(directions);
    for (size_t g = 0; g < directions.size(); ++g) {
      const Ref usable = fn::logical_and(fn::gt(squares[g], 0.0), finite(squares[g]));
      fine.push_back(fn::logical_and(usable, out_.fine));
      const Ref scale = fn::where(fine[g], fn::div(step_.lr(g), fn::sqrt(squares[g])), 0.0);
      moves.emplace_back();
      for (const Ref& d : directions[g]) moves[g].push_back(fn::mul(d, fn::splat(scale, d->shape)));
    }
    if (step_.in.rates) choose_lengths(moves, fine);
    for (size_t g = 0; g < moves.size(); ++g)
      for (size_t k = 0; k < moves[g].size(); ++k) change(mark(g, k), moves[g][k], fine[g]);
  }

 private:
  const Step& step_;
  StepGraph& out_;

  const Ref& mark(size_t g, size_t k) const { return step_.leader.marks[step_.members[g][k]]; }

  void change(const Ref& leader, const Ref& move, const Ref& fine) {
    out_.changed.push_back(fn::where(fn::splat(fine, leader->shape), fn::add(leader, move), leader));
  }

  std::vector<Ref> lengths(const Lists& directions) const {
    std::vector<Ref> squares;
    for (const auto& group : directions) squares.push_back(sum_of_squares(group));
    if (step_.options.unit == Unit::PerGroup) return squares;
    Ref all = squares[0];
    for (size_t g = 1; g < squares.size(); ++g) all = fn::add(all, squares[g]);
    return std::vector<Ref>(squares.size(), all);
  }

  /// f32 [vendors of g]: 1 + s, s uniform in +-rate_range, 0 for vendor 0 (spec 1.5).
  Ref stretches(size_t g) const {
    const Ref seed = fn::mark(constant(DType::U64, int64_t{0}), "seed");
    const Ref counter = constant(DType::U64, after_deltas(step_, g));
    const Ref one = fn::select(fn::uniform_at(seed, counter, {index(1)}, -1, 1, DType::F32), 0, 0);
    const Ref s = batch(std::vector<Ref>{one}, std::vector<BatchedLeaf>{{seed, step_.seeds[g]}})[0];
    const Ref tried = fn::mul(s, fn::splat(step_.in.rate_range, s->shape));
    return fn::where(fn::eq(fn::iota(s->shape[0], DType::I64), 0), 1.0, fn::add(tried, 1.0));
  }

  /// The leader under Marks of its own: the moves are made of the first ones, and must not change with the vendors.
  Step second_pass() const {
    Step second = step_;
    Substitution fresh;
    for (Ref& m : second.leader.marks) {
      const Ref again = fn::mark(m->src[0], m->arg.text);
      fresh.emplace(m.get(), again);
      m = again;
    }
    second.leader.loss = substitute(step_.leader.loss, fresh);
    return second;
  }

  /// Vendors differ by the length of the group's move alone; the best of them says how long it is, and the group's lr.
  void choose_lengths(Lists& moves, const std::vector<Ref>& fine) {
    const Step second = second_pass();
    std::vector<Ref> stretch;
    std::vector<std::vector<BatchedLeaf>> leaves;
    for (size_t g = 0; g < moves.size(); ++g) {
      stretch.push_back(stretches(g));
      leaves.emplace_back();
      for (size_t k = 0; k < moves[g].size(); ++k) {
        Dims shape = moves[g][k]->shape;
        shape.insert(shape.begin(), stretch[g]->shape[0]);
        const Ref all = fn::broadcast(moves[g][k], shape);
        const Ref tried = fn::mul(all, along_vendors(stretch[g], all));
        const Ref& leader = second.leader.marks[step_.members[g][k]];
        leaves[g].push_back({leader, fn::add(fn::broadcast(leader, shape), tried)});
      }
    }
    const std::vector<Ref> best = best_vendors(second, leaves);
    std::vector<Ref> rates;
    for (size_t g = 0; g < moves.size(); ++g) {
      const Ref chosen = fn::where(fine[g], fn::take(stretch[g], best[g], 0), 1.0);
      for (Ref& m : moves[g]) m = fn::mul(m, fn::splat(chosen, m->shape));
      rates.push_back(fn::mul(step_.lr(g), chosen));
    }
    out_.rates = fn::stack(rates, 0);
  }
};

}  // namespace

void record_update(const Step& step, const Outcome& outcome, StepGraph& out) {
  Updater updater(step, out);
  if (step.row.moves) updater.add(outcome.directions);
  else if (step.options.update == Update::Adam) updater.gradients(outcome.directions);
  else updater.unit(outcome.directions);
}

}  // namespace kontor::inline v0::marketplace
