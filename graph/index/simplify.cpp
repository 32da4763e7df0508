// The index algebra's remaining constructors, and the walk that puts a whole expression into normal form.
#include <algorithm>

#include "base/error.h"
#include "graph/index/algebra.h"
#include "graph/index/index.h"
#include "graph/scalar.h"

namespace kontor::ix {

static bool has_remainder(const Ref& base) {
  if (base->op == Op::Mod || base->op == Op::IDiv) return true;
  return base->op == Op::Mul && (has_remainder(base->src[0]) || has_remainder(base->src[1]));
}

// The term is K * (x % d), given as its factors, of which `which` is the Mod. With K*d*(x/d) in the sum it is K*x; with
// K*d*((x/d) % f) it is K*(x % (d*f)).
bool Algebra::join_remainder(Sum& sum, size_t term, const std::vector<Ref>& all, size_t which) const {
  Ref mod = all[which];
  const Ref &x = mod->src[0], &d = mod->src[1];
  std::vector<Ref> others = all;
  others.erase(others.begin() + static_cast<ptrdiff_t>(which));
  Ref base = product_of(std::move(others));
  Sum k = base ? Sum{{{base, sum.terms[term].k}}, 0} : sum_of(sum.terms[term].k);
  Sum self{{{sum.terms[term].base, sum.terms[term].k}}, 0};
  std::optional<Sum> kd = multiply(k, sum_of(d));
  if (!kd || bounds(d).lo <= 0) return false;
  Ref q = idiv(x, d);
  std::optional<Sum> part = multiply(sum_of(q), *kd);
  if (!part) return false;
  Sum without = ix::add(sum, *part, -1);
  if (!part->is_const() && part->c == 0 && without.terms.size() + part->terms.size() == sum.terms.size()) {
    std::optional<Sum> whole = multiply(sum_of(x), k);
    if (!whole) return false;
    sum = ix::add(ix::add(without, self, -1), *whole);
    return true;
  }
  for (const Term& t : sum.terms) {
    for (const Ref& f : factors(t.base)) {
      if (f->op != Op::Mod || f->src[0] != q) continue;
      std::optional<Sum> upper = multiply(sum_of(f), *kd);
      if (!upper || !equal(*upper, Sum{{t}, 0})) continue;
      std::optional<Sum> whole = multiply(sum_of(this->mod(x, mul(d, f->src[1]))), k);
      if (!whole) continue;
      sum = ix::add(ix::add(ix::add(sum, *upper, -1), self, -1), *whole);
      return true;
    }
  }
  return false;
}

bool Algebra::join_remainders(Sum& sum) const {
  for (size_t i = 0; i < sum.terms.size(); i++) {
    std::vector<Ref> all = factors(sum.terms[i].base);
    for (size_t j = 0; j < all.size(); j++)
      if (all[j]->op == Op::Mod && join_remainder(sum, i, all, j)) return true;
  }
  return false;
}

bool Algebra::join(Sum& sum) const {
  auto count = [&] {
    return std::count_if(sum.terms.begin(), sum.terms.end(),
                         [](const Term& t) { return has_remainder(t.base); });
  };
  bool joined = false;
  while (sum.terms.size() > 1 && count() > 1 && join_remainders(sum)) joined = true;
  return joined;
}

Ref Algebra::build(Sum sum) const {
  join(sum);
  return chain(sum);
}

Ref Algebra::add(const Ref& a, const Ref& b, int64_t k) const {
  if (b->is_const() && b->at(0) == 0) return a;
  if (k == 1 && a->is_const() && a->at(0) == 0) return b;
  return build(ix::add(sum_of(a), sum_of(b), k));
}

Ref Algebra::mul(const Ref& a, const Ref& b) const {
  if (b->is_const() && b->at(0) == 1) return a;
  if (a->is_const() && a->at(0) == 1) return b;
  if (std::optional<Sum> product = multiply(sum_of(a), sum_of(b))) return build(*product);
  return product_of({a, b});
}

Ref Algebra::extremum(Op op, const Ref& a, const Ref& b) const {
  if (a == b) return a;
  Sum s;
  if (difference(a, b, s)) {
    int known = sign(s);  // a - b
    if (known == 0) known = -sign(scale(s, -1));
    if (known != 0) return (known < 0) == (op == Op::Min) ? a : b;
  }
  // A left chain with the constants merged at its end.
  if (a->is_const())
    return b->is_const() ? (a->at(0) < b->at(0)) == (op == Op::Min) ? a : b : extremum(op, b, a);
  bool chained = a->op == op && a->src[1]->is_const();
  if (b->is_const()) return chained ? extremum(op, a->src[0], extremum(op, a->src[1], b)) : make(op, {a, b});
  if (a->op == op && (a->src[0] == b || a->src[1] == b)) return a;
  if (b->op == op && (b->src[0] == a || b->src[1] == a)) return b;
  if (chained) return extremum(op, extremum(op, a->src[0], b), a->src[1]);
  if (b->op == op && b->src[1]->is_const()) return extremum(op, extremum(op, a, b->src[0]), b->src[1]);
  return compare(a.get(), b.get()) <= 0 ? make(op, {a, b}) : make(op, {b, a});
}

Ref Algebra::where(const Ref& c, const Ref& a, const Ref& b) const {
  if (c->is_const()) return c->at(0) ? a : b;
  if (a == b) return a;
  if (c->op == Op::Not) return where(c->src[0], b, a);
  if (a->op == Op::Where && a->src[0] == c) return where(c, a->src[1], b);
  if (b->op == Op::Where && b->src[0] == c) return where(c, a, b->src[2]);
  if (a->dtype == DType::Bool && a->is_const() && b->is_const()) return a->at(0) ? c : negation(c);
  return make(Op::Where, {c, a, b});
}

Ref Algebra::leaf(const Ref& node) const {
  if (!facts_ || (node->dtype != DType::I64 && node->dtype != DType::Bool)) return node;
  if (int known = facts_->truth(node.get()); known >= 0) return constant(DType::Bool, int64_t{known});
  Span s = facts_->bounds(node.get());
  return s.lo == s.hi && node->dtype == DType::I64 ? index(static_cast<int64_t>(s.lo)) : node;
}

// ---- nodes of any kind ----------------------------------------------------------------------------------------------

static bool of_index(const Node& n) {
  return n.shape.empty() && !n.src.empty() && (n.dtype == DType::I64 || n.dtype == DType::Bool);
}

static Ref fold_constants(const Node& n) {
  if (!is_elementwise(n.op) || !n.shape.empty()) return {};
  Value values[3];
  for (size_t i = 0; i < n.src.size(); i++) {
    if (!n[i]->is_const()) return {};
    values[i] = value_of(*n[i]);
  }
  return constant_of(n.dtype, apply(n.op, n.dtype, n[n.op == Op::Where ? 1 : 0]->dtype, values));
}

static Ref decided(const Ref& node) {
  bool fixed = node->bounds.exact() && is_elementwise(node->op);
  return fixed ? constant(node->dtype, node->bounds.lo) : node;
}

static Ref index_node(const Algebra& algebra, const Ref& node) {
  const Node& n = *node;
  switch (n.op) {
    case Op::Add:   return algebra.add(n[0], n[1]);
    case Op::Sub:   return algebra.sub(n[0], n[1]);
    case Op::Neg:   return algebra.sub(index(0), n[0]);
    case Op::Mul:   return algebra.mul(n[0], n[1]);
    case Op::IDiv:  return algebra.idiv(n[0], n[1]);
    case Op::Mod:   return algebra.mod(n[0], n[1]);
    case Op::Min:
    case Op::Max:   return algebra.extremum(n.op, n[0], n[1]);
    case Op::Where: return algebra.where(n[0], n[1], n[2]);
    default:        return decided(node);
  }
}

static Ref condition_node(const Algebra& algebra, const Ref& node) {
  const Node& n = *node;
  bool integers = n[0]->dtype == DType::I64;
  switch (n.op) {
    case Op::Lt:    return integers ? algebra.lt(n[0], n[1]) : decided(node);
    case Op::Le:    return integers ? algebra.le(n[0], n[1]) : decided(node);
    case Op::Eq:    return integers ? algebra.eq(n[0], n[1]) : decided(node);
    case Op::Ne:    return integers ? algebra.negation(algebra.eq(n[0], n[1])) : decided(node);
    case Op::And:   return algebra.both(n[0], n[1]);
    case Op::Or:    return algebra.either(n[0], n[1]);
    case Op::Not:   return algebra.negation(n[0]);
    case Op::Where: return algebra.where(n[0], n[1], n[2]);
    default:        return decided(node);
  }
}

static Ref normal(const Algebra& algebra, const Ref& node) {
  if (node->is_const() || node->op == Op::Range) return node;
  if (Ref c = fold_constants(*node)) return c;
  if (!of_index(*node)) {
    const Node& n = *node;  // a choice between values of any dtype
    return n.op == Op::Where && n.shape.empty() && (n[0]->is_const() || n[1] == n[2])
               ? n[n[0]->is_const() && !n[0]->at(0) ? 2 : 1]
               : node;
  }
  return node->dtype == DType::I64 ? index_node(algebra, node) : condition_node(algebra, node);
}

Ref simplify_node(const Ref& node) { return normal(Algebra(), node); }

namespace {

/// Simplifies under facts; the branches of a Where under its condition too.
class Simplifier {
 public:
  explicit Simplifier(const Facts* facts, int depth = 0) : facts_(facts), algebra_(facts), depth_(depth) {}

  bool used_facts() const { return facts_ || branched_; }

  Ref operator()(const Ref& root) {
    std::vector<std::pair<const Node*, bool>> stack{{root.get(), false}};
    while (!stack.empty()) {
      auto [node, ready] = stack.back();
      stack.pop_back();
      if (done_.count(node)) continue;
      if (ready) {
        done_.emplace(node, finish(*node));
        continue;
      }
      stack.emplace_back(node, true);
      if (node->op == Op::Range) continue;
      size_t count = branches(*node) ? 1 : node->src.size();
      for (size_t i = 0; i < count; i++) stack.emplace_back(node->src[i].get(), false);
    }
    return done_.at(root.get());
  }

 private:
  const Facts* facts_;
  Algebra algebra_;
  int depth_;
  bool branched_ = false;
  Substitution done_;

  bool branches(const Node& n) const { return n.op == Op::Where && depth_ < 4; }

  Ref finish(const Node& n) {
    if (n.src.empty() || n.op == Op::Range) return algebra_.leaf(Ref(&n));
    Ref out = normal(algebra_, with_sources(n, branches(n) ? in_branches(n) : sources_in(done_, n)));
    return facts_ && !out->is_const() ? algebra_.leaf(out) : out;
  }

  std::vector<Ref> in_branches(const Node& where) {
    const Ref condition = done_.at(where.src[0].get());
    Ref yes = branch(condition, true, where[1]);  // in this order, which arguments are not
    return {condition, std::move(yes), branch(condition, false, where[2])};
  }

  Ref branch(const Ref& condition, bool holds, const Ref& value) {
    if (condition->is_const()) return (condition->at(0) != 0) == holds ? (*this)(value) : value;
    Facts facts(holds ? condition : Algebra().negation(condition), facts_);
    if (facts.impossible()) return (*this)(value);
    branched_ = true;
    return Simplifier(&facts, depth_ + 1)(value);
  }
};

}  // namespace

// What is known of a condition's branches may simplify a part only after the whole was rebuilt: again, until it stands.
static Ref until_stable(const Ref& expression, const Facts* facts) {
  Ref now = expression;
  for (int round = 0; round < 8; round++) {
    Simplifier simplifier(facts);
    Ref next = simplifier(now);
    if (next == now || !simplifier.used_facts()) return next;
    now = next;
  }
  return now;
}

Ref simplify(const Ref& expression, const Ref& given) {
  if (!given) return until_stable(expression, nullptr);
  Facts facts(simplify(given));
  return until_stable(expression, facts.impossible() || facts.empty() ? nullptr : &facts);
}

}  // namespace kontor::ix
