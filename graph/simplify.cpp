// The local step of the index algebra: constants folded, neutral elements dropped, bounds decided.
#include "graph/index.h"

namespace kontor::inline v0::ix {

static Ref fold_constants(const Node& n) {
  for (const Ref& s : n.src)
    if (!s->is_const()) return {};
  return constant(n.dtype, evaluate(Ref(&n), {}));
}

Ref simplify_node(const Ref& node) {
  const Node& n = *node;
  if (n.src.empty() || n.op == Op::Range) return node;
  if (n.bounds.exact() && !n.is_const()) return constant(n.dtype, n.bounds.lo);
  if (Ref c = fold_constants(n)) return c;
  const Ref &a = n.src[0], &b = n.src.size() > 1 ? n.src[1] : n.src[0];
  switch (n.op) {
    case Op::Add:
      if (a->is_const()) return add(b, a);
      if (is_int(b, 0)) return a;
      if (b->is_const() && a->op == Op::Add && a->src[1]->is_const()) return add(a->src[0], add(a->src[1], b));
      return node;
    case Op::Mul:
      if (a->is_const()) return mul(b, a);
      if (is_int(b, 1)) return a;
      return node;
    case Op::IDiv: return is_int(b, 1) ? a : node;
    case Op::Mod: return b->bounds.lo > 0 && a->bounds.lo >= 0 && a->bounds.hi < b->bounds.lo ? a : node;
    case Op::And: return is_int(a, 1) ? b : is_int(b, 1) ? a : node;
    case Op::Where: return a->is_const() ? n.src[a->at(0) ? 1 : 2] : node;
    default: return node;
  }
}

Ref simplify(const Ref& expression, const Ref& given) {
  (void)given;
  Substitution done;
  for (const Node* n : topological(std::span(&expression, 1))) {
    std::vector<Ref> sources;
    for (const Ref& s : n->src) sources.push_back(done.at(s.get()));
    done.emplace(n, n->op == Op::Range ? Ref(n) : simplify_node(with_sources(*n, std::move(sources))));
  }
  return done.at(expression.get());
}

}  // namespace kontor::inline v0::ix
