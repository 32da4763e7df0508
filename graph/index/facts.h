// Facts: what a guard (a conjunction) says about the values of index expressions.
#pragma once
#include "graph/index/sum.h"

namespace kontor::ix {

class Facts {
 public:
  /// The facts of `given` on top of `outer` (may be null).
  explicit Facts(const Ref& given, const Facts* outer = nullptr);
  /// True if no value satisfies the facts; nothing else may be asked then.
  bool impossible() const { return impossible_; }
  bool empty() const { return sums_.empty() && truths_.empty(); }
  Span bounds(const Node* node) const;
  Span bounds(const Sum& sum) const;
  /// 1 if the bool expression is known to hold, 0 if its opposite is, -1 if neither.
  int truth(const Node* condition) const;

 private:
  struct Fact {
    Sum sum;  ///< without constant, coefficients of gcd 1, the first one positive
    Int128 lo, hi;
  };
  std::vector<Fact> sums_;
  std::vector<std::pair<Ref, bool>> truths_;
  bool impossible_ = false;
  mutable NodeMap<Span> known_;
  mutable std::vector<Ref> kept_;  ///< the keys of known_, so that no other node takes their address

  void learn(const Ref& condition, bool holds);
  void learn(Sum sum, Int128 lo, Int128 hi);
  void spread();
  void spread(const Fact& fact);
  Span compute(const Node* node) const;
  void tighten(const Sum& sum, Span& span) const;
};

/// Bounds with or without facts (null: those that the nodes carry).
Span bounds(const Ref& node, const Facts* facts);
Span bounds(const Sum& sum, const Facts* facts);

}  // namespace kontor::ix
