// What rules of the gradient are made of: the cotangents so far, and parts of the node that a rule is of.
#pragma once
#include "graph/functions/formula.h"

namespace kontor {

/// Collects cotangents while the driver walks from the loss to the leaves.
class Tape {
 public:
  Tape(const Ref& loss, std::span<const Ref> wrt) {
    for (const Ref& w : wrt) wanted_.insert(w.get());
    order_ = topological(std::span(&loss, 1));
    for (const Node* n : order_) mark(*n);
    if (depends_.count(loss.get())) sum_.emplace(loss.get(), fn::full(loss->shape, 1.0, loss->dtype));
  }

  /// Whether a cotangent of this source is of use.
  bool wants(const Ref& source) const { return depends_.count(source.get()) != 0; }

  void add(const Ref& source, const Ref& cotangent) {
    if (!wants(source)) return;
    Ref& sum = sum_[source.get()];
    sum = sum ? make(Op::Add, {sum, cotangent}) : cotangent;
  }

  Ref of(const Node* node) const {
    auto it = sum_.find(node);
    return it == sum_.end() ? Ref() : it->second;
  }

  std::span<const Node* const> order() const { return order_; }

 private:
  void mark(const Node& n) {
    if (!is_float(n.dtype)) return;
    bool depends = wanted_.count(&n) != 0;
    if (!fn::is_detached(n))
      for (const Ref& s : n.src) depends = depends || depends_.count(s.get()) != 0;
    if (depends) depends_.insert(&n);
  }

  NodeSet wanted_, depends_;
  NodeMap<Ref> sum_;
  std::vector<const Node*> order_;
};

/// n is the node, g its cotangent.
using GradientRule = void (*)(Tape& to, const Node& n, const Term& g);

/// Floats narrower than f32 as f32, for formulas with sums in them.
inline Term wide(const Term& x) { return Term(fn::in_accumulator(x.node)); }
inline Term source(const Node& n, size_t i) { return Term(n.src[i]); }
inline Term output_of(const Node& n) { return Term(Ref(&n)); }

}  // namespace kontor
