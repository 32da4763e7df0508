// From directions to new parameters.
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

/// theta + lr D / |D|. A direction without length, or of no finite one, moves nothing.
void move(const Step& step, size_t g, const std::vector<Ref>& directions, const Ref& square, StepGraph& out) {
  constexpr double infinite = __builtin_inf();
  const Ref fine = fn::logical_and(fn::gt(square, 0.0), fn::lt(square, infinite));
  const Ref scale = fn::where(fine, fn::div(step.in.lr, fn::sqrt(square)), 0.0);
  for (size_t k = 0; k < directions.size(); ++k) {
    const Ref& d = directions[k];
    const Ref& leader = step.leader.marks[step.members[g][k]];
    const Ref moved = fn::add(leader, fn::mul(d, fn::splat(scale, d->shape)));
    out.changed.push_back(fn::where(fn::splat(fine, d->shape), moved, leader));
    out.index.push_back(step.members[g][k]);
  }
}

Ref sum_of_squares(const std::vector<Ref>& directions) {
  Ref total;
  for (const Ref& d : directions) {
    const Ref part = fn::sum(fn::square(d), {}, false);
    total = total ? fn::add(total, part) : part;
  }
  return total;
}

}  // namespace

void record_update(const Step& step, const Outcome& outcome, StepGraph& out) {
  std::vector<Ref> squares;
  for (const auto& directions : outcome.directions) squares.push_back(sum_of_squares(directions));
  if (step.options.unit == Unit::Whole) {
    Ref all = squares[0];
    for (size_t g = 1; g < squares.size(); ++g) all = fn::add(all, squares[g]);
    squares.assign(squares.size(), all);
  }
  for (size_t g = 0; g < squares.size(); ++g) move(step, g, outcome.directions[g], squares[g], out);
}

}  // namespace kontor::inline v0::marketplace
