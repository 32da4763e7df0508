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

  /// A walk within a walk: over nodes `made` (sources first), of which some depend on what is asked for, down from `root`, whose
  /// cotangent is g. What goes further than them goes to `outer`: to the node that `stands_for` has for a source, or the source.
  Tape(Tape& outer, std::vector<Ref> made, NodeSet depends, NodeMap<Ref> stands_for, const Ref& root,
       const Ref& g)
      : depends_(std::move(depends)),
        outer_(&outer),
        alive_(std::move(made)),
        stands_for_(std::move(stands_for)) {
    for (const Ref& n : alive_) order_.push_back(n.get());
    if (depends_.count(root.get())) sum_.emplace(root.get(), g);
  }

  /// Whether a cotangent of this source is of use.
  bool wants(const Ref& source) const {
    return depends_.count(source.get()) != 0 || (outer_ && outer_->wants(in_outer(source)));
  }
  /// Whether its gradient is what is asked for.
  bool is_asked_for(const Node& node) const {
    return wanted_.count(&node) != 0 || (outer_ && outer_->is_asked_for(node));
  }

  void add(const Ref& source, const Ref& cotangent) {
    if (!wants(source)) return;
    if (outer_ && depends_.count(source.get()) == 0) return outer_->add(in_outer(source), cotangent);
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

  const Ref& in_outer(const Ref& source) const {
    const auto it = stands_for_.find(source.get());
    return it == stands_for_.end() ? source : it->second;
  }

  NodeSet wanted_, depends_;
  NodeMap<Ref> sum_;
  std::vector<const Node*> order_;
  Tape* outer_ = nullptr;
  std::vector<Ref> alive_;
  NodeMap<Ref> stands_for_;
};

/// Goes through the tape's nodes from the last to the first: each that has a cotangent hands it to its sources.
void hand_back(Tape& tape);

/// n is the node, g its cotangent.
using GradientRule = void (*)(Tape& to, const Node& n, const Term& g);

/// Floats narrower than f32 as f32, for formulas with sums in them.
inline Term wide(const Term& x) { return Term(fn::in_accumulator(x.node)); }
inline Term source(const Node& n, size_t i) { return Term(n.src[i]); }
inline Term output_of(const Node& n) { return Term(Ref(&n)); }

}  // namespace kontor
