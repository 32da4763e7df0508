// Algebra: the constructors of index expressions in normal form, under what is known of their leaves.
#pragma once
#include "graph/index/facts.h"

namespace kontor::ix {

/// Sources are in normal form already; results are.
///
/// The normal form: sums as in sum.h, with x/d*d + x%d joined to x. The divisor of IDiv and Mod is positive where it
/// is a constant, and what it divides is taken out of the dividend. Of comparisons only Lt, Eq and Ne are left, with
/// positive coefficients on both sides, divided by their gcd, a constant on the side where it is positive. And is a
/// left chain in the order of sum.h, with at most one upper and one lower bound of each sum.
class Algebra {
 public:
  explicit Algebra(const Facts* facts = nullptr) : facts_(facts) {}

  Ref add(const Ref& a, const Ref& b) const { return add(a, b, 1); }
  Ref sub(const Ref& a, const Ref& b) const { return add(a, b, -1); }
  Ref mul(const Ref& a, const Ref& b) const;
  Ref idiv(const Ref& a, const Ref& b) const;
  Ref mod(const Ref& a, const Ref& b) const;
  Ref extremum(Op op, const Ref& a, const Ref& b) const;  ///< Min or Max
  Ref lt(const Ref& a, const Ref& b) const;
  Ref le(const Ref& a, const Ref& b) const;
  Ref eq(const Ref& a, const Ref& b) const;
  Ref negation(const Ref& a) const;
  Ref both(const Ref& a, const Ref& b) const;
  Ref either(const Ref& a, const Ref& b) const;
  Ref where(const Ref& c, const Ref& a, const Ref& b) const;
  /// A leaf, as a constant if the facts leave it one value.
  Ref leaf(const Ref& node) const;
  /// The node of a sum, with pairs of division and remainder joined.
  Ref build(Sum sum) const;

 private:
  const Facts* facts_;

  Span bounds(const Sum& sum) const { return ix::bounds(sum, facts_); }
  Span bounds(const Ref& node) const { return ix::bounds(node, facts_); }
  bool tame(const Sum& sum) const;
  Ref add(const Ref& a, const Ref& b, int64_t k) const;
  bool join(Sum& sum) const;  ///< joins all pairs of x/d*d and x%d; false if there is none
  bool join_remainders(Sum& sum) const;
  bool join_remainder(Sum& sum, size_t term, const std::vector<Ref>& factors, size_t which) const;

  struct Parts;  // quotient and remainder, in divide.cpp
  Parts split(const Sum& x, int64_t d) const;
  bool in_one_period(int64_t d, Sum& quotient, Sum& remainder) const;
  bool decided(const Parts& parts, int64_t d, Sum& quotient, Sum& remainder) const;
  bool factor_out(const Sum& r, int64_t d, int64_t& g, Sum& outer, Sum& inner) const;
  Sum divided(const Sum& x, int64_t d) const;
  Sum remainder(const Sum& x, int64_t d) const;
  Sum divided_nested(const Sum& r, int64_t d) const;
  bool take_out(const Sum& x, const Sum& d, Sum& quotient, Sum& rest) const;
  Sum divided_by(const Ref& a, const Ref& b, bool want_remainder) const;
  bool within(const Sum& x, const Sum& d) const;
  bool factor_out_by(const Sum& r, const Term& d, Term& g, Sum& outer, Sum& inner) const;

  /// A bound from above in which no Range is left, for extents that are not constants.
  Sum maximum(Sum sum) const;
  int sign(const Sum& sum) const;  ///< -1: always < 0; 1: always >= 0; 0: not known
  bool difference(const Ref& a, const Ref& b, Sum& s) const;
  Ref below(Sum s, Int128 k) const;
  bool drop_small(Sum& s, Int128& k) const;
  Ref equal_zero(Sum s) const;
};

/// In the conjunction of two conditions that bound one sum from the same side: which one says more, or neither.
Ref merge_conditions(const Algebra& algebra, const Ref& a, const Ref& b);

}  // namespace kontor::ix
