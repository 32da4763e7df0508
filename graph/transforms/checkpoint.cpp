// See checkpoint.h. Before: x -> f -> y, and the gradient reads what f stored. After: what it reads is f of x', where
//   x' = where(g0 != g0 & g0 < 0, 0, x)      g0: one element of y's cotangent
// is x whatever g0 is, but another node, which waits for the cotangent: so nothing of f is shared with the first time, and
// nothing is computed before the gradients of all that comes after y are.
#include "graph/transforms/checkpoint.h"

#include "graph/functions/functions.h"

namespace kontor {

namespace {

/// x as it is, once g is there.
Ref held(const Ref& x, const Ref& g) {
  Dims begin(g->rank(), index(0)), one(g->rank(), index(1));
  const Term first(fn::reshape(fn::shrink(g, begin, one), {}));
  const Ref never = ((first != first) & (first < 0.0)).node;
  return fn::where(fn::broadcast(never, x->shape), fn::splat(constant(x->dtype, int64_t{0}), x->shape), x);
}

bool has_elements(const Ref& x) {
  for (const Ref& d : x->shape)
    if (d->bounds.lo < 1) return false;
  return true;
}

/// What is computed from the first `count` arguments is computed again; the others, and what is made of them alone, are read as they are.
void recompute_back(Tape& to, const Node& n, const Term& g, size_t count) {
  const Ref& body = n[0];
  if (!has_elements(body)) return to.add(body, g.node);
  Substitution became;
  NodeMap<Ref> stands_for;  // what is held, and what it is
  NodeSet met;
  for (size_t i = 1; i < n.src.size(); i++) {
    met.insert(n[i].get());
    if (i > count) continue;
    const Ref copy = held(n[i], g.node);
    became.emplace(n[i].get(), copy);
    stands_for.emplace(copy.get(), n[i]);
  }
  std::vector<const Node*> inside;  // what is between the arguments and the body, and leaves
  append_topological(body.get(), met, inside, [](const Node& x) { return std::span<const Ref>(x.src); });
  std::vector<Ref> made;
  NodeSet depends;
  for (const Node* node : inside) {
    bool changes = false;
    std::vector<Ref> sources;
    for (const Ref& s : node->src) {
      const auto it = became.find(s.get());
      changes = changes || it != became.end();
      sources.push_back(it == became.end() ? s : it->second);
    }
    if (!changes) continue;
    if (to.is_asked_for(*node))
      return to.add(body, g.node);  // its gradient is that of what was computed first
    const Ref again = with_sources(*node, sources);
    became.emplace(node, again);
    if (to.wants(Ref(node))) depends.insert(again.get());
    made.push_back(again);
  }
  const auto root = became.find(body.get());
  if (root == became.end()) return to.add(body, g.node);
  Tape inner(to, std::move(made), std::move(depends), std::move(stands_for), root->second, g.node);
  hand_back(inner);
}

}  // namespace

void checkpoint_back(Tape& to, const Node& n, const Term& g) { recompute_back(to, n, g, n.src.size()); }

void attention_back(Tape& to, const Node& n, const Term& g) { recompute_back(to, n, g, 1); }

}  // namespace kontor
