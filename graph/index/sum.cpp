// Sums of products in a stable order.
#include "graph/index/sum.h"

#include <algorithm>
#include <numeric>

namespace kontor::ix {

static int64_t wrap_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
static int64_t wrap_mul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

static int order_class(const Node* n) {
  switch (n->op) {
    case Op::Range:    return 0;
    case Op::Slot:
    case Op::Variable: return 1;
    default:           return n->src.empty() ? 2 : 3;
  }
}

int compare(const Node* a, const Node* b) {
  if (a == b) return 0;
  auto three_way = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  if (int r = three_way(order_class(a), order_class(b))) return r;
  if (int r = three_way(a->op, b->op)) return r;
  if (int r = three_way(a->arg.ints, b->arg.ints)) return r;
  if (int r = three_way(a->src.size(), b->src.size())) return r;
  for (size_t i = 0; i < a->src.size(); i++)  // equal sources are one node: only one path is walked down
    if (a->src[i] != b->src[i]) return compare(a->src[i].get(), b->src[i].get());
  if (int r = three_way(a->arg.text, b->arg.text)) return r;
  return three_way(a->dtype, b->dtype);
}

static bool before(const Term& a, const Term& b) { return compare(a.base.get(), b.base.get()) < 0; }

static void normalise(std::vector<Term>& terms) {
  bool sorted = true;
  for (size_t i = 1; i < terms.size() && sorted; i++) sorted = before(terms[i - 1], terms[i]);
  if (sorted) return;
  std::sort(terms.begin(), terms.end(), before);
  size_t kept = 0;
  for (size_t i = 0; i < terms.size(); i++) {
    if (kept > 0 && terms[kept - 1].base == terms[i].base)
      terms[kept - 1].k = wrap_add(terms[kept - 1].k, terms[i].k);
    else if (kept++ != i) terms[kept - 1] = terms[i];
  }
  terms.resize(kept);
  std::erase_if(terms, [](const Term& t) { return t.k == 0; });
}

// The terms of `e` times k are appended as they come.
static void gather(const Ref& e, int64_t k, Sum& into) {
  const Node& n = *e;
  if (k == 0) return;
  if (n.bounds.exact()) {
    into.c = wrap_add(into.c, wrap_mul(k, n.bounds.lo));
    return;
  }
  switch (n.op) {
    case Op::Const: into.c = wrap_add(into.c, wrap_mul(k, n.at(0))); return;
    case Op::Add:   gather(n[0], k, into); return gather(n[1], k, into);
    case Op::Sub:   gather(n[0], k, into); return gather(n[1], wrap_mul(k, -1), into);
    case Op::Neg:   return gather(n[0], wrap_mul(k, -1), into);
    case Op::Mul:
      if (n[1]->is_const()) return gather(n[0], wrap_mul(k, n[1]->at(0)), into);
      if (n[0]->is_const()) return gather(n[1], wrap_mul(k, n[0]->at(0)), into);
      break;
    default: break;
  }
  into.terms.push_back({e, k});
}

Sum sum_of(const Ref& expression) {
  Sum s;
  gather(expression, 1, s);
  normalise(s.terms);
  return s;
}

Sum sum_of(int64_t value) { return {{}, value}; }

Sum add(const Sum& x, const Sum& y, int64_t k) {
  Sum out{{}, wrap_add(x.c, wrap_mul(y.c, k))};
  out.terms.reserve(x.terms.size() + y.terms.size());
  size_t i = 0, j = 0;
  auto put = [&](const Ref& base, int64_t c) {
    if (c != 0) out.terms.push_back({base, c});
  };
  while (i < x.terms.size() && j < y.terms.size()) {
    const Term &a = x.terms[i], &b = y.terms[j];
    int order = compare(a.base.get(), b.base.get());
    if (order == 0) put(a.base, wrap_add(a.k, wrap_mul(b.k, k)));
    if (order < 0) put(a.base, a.k);
    if (order > 0) put(b.base, wrap_mul(b.k, k));
    i += order <= 0;
    j += order >= 0;
  }
  for (; i < x.terms.size(); i++) put(x.terms[i].base, x.terms[i].k);
  for (; j < y.terms.size(); j++) put(y.terms[j].base, wrap_mul(y.terms[j].k, k));
  return out;
}

Sum scale(const Sum& x, int64_t k) { return add({}, x, k); }

static Ref times(const Ref& a, const Ref& b) {
  if (!a) return b;
  if (!b) return a;
  std::vector<Ref> all = factors(a), more = factors(b);
  all.insert(all.end(), more.begin(), more.end());
  return product_of(std::move(all));
}

std::optional<Sum> multiply(const Sum& x, const Sum& y, size_t most) {
  if (y.is_const()) return scale(x, y.c);
  if (x.is_const()) return scale(y, x.c);
  if ((x.terms.size() + (x.c != 0)) * (y.terms.size() + (y.c != 0)) > most) return {};
  Sum out = add(scale(x, y.c), y, x.c);
  out.c = wrap_mul(x.c, y.c);
  for (const Term& a : x.terms)
    for (const Term& b : y.terms) out.terms.push_back({times(a.base, b.base), wrap_mul(a.k, b.k)});
  normalise(out.terms);
  return out;
}

Ref chain(const Sum& x) {
  Ref out;
  for (const Term& t : x.terms) {
    Ref term = t.k == 1 ? t.base : make(Op::Mul, {t.base, index(t.k)});
    out = out ? make(Op::Add, {out, term}) : term;
  }
  if (!out) return index(x.c);
  return x.c == 0 ? out : make(Op::Add, {out, index(x.c)});
}

bool equal(const Sum& x, const Sum& y) {
  if (x.c != y.c || x.terms.size() != y.terms.size()) return false;
  for (size_t i = 0; i < x.terms.size(); i++)
    if (x.terms[i].base != y.terms[i].base || x.terms[i].k != y.terms[i].k) return false;
  return true;
}

std::vector<Ref> factors(const Ref& base) {
  std::vector<Ref> out;
  if (!base) return out;
  Ref rest = base;
  while (rest->op == Op::Mul) {
    out.push_back(rest->src[1]);
    rest = Ref(rest->src[0]);
  }
  out.push_back(rest);
  std::reverse(out.begin(), out.end());
  return out;
}

Ref product_of(std::vector<Ref> all) {
  if (all.empty()) return {};
  std::sort(all.begin(), all.end(), [](const Ref& a, const Ref& b) { return compare(a.get(), b.get()) < 0; });
  Ref out = all[0];
  for (size_t i = 1; i < all.size(); i++) out = make(Op::Mul, {out, all[i]});
  return out;
}

bool divide(const Term& t, const Term& d, Term& quotient) {
  if (d.k == 0 || t.k % d.k != 0 || (t.k == INT64_MIN && d.k == -1)) return false;
  std::vector<Ref> have = factors(t.base);
  for (const Ref& f : factors(d.base)) {
    auto it = std::find(have.begin(), have.end(), f);
    if (it == have.end()) return false;
    have.erase(it);
  }
  quotient = {product_of(std::move(have)), t.k / d.k};
  return true;
}

Term common(const Term& a, const Term& b) {
  std::vector<Ref> have = factors(a.base), shared;
  for (const Ref& f : factors(b.base)) {
    auto it = std::find(have.begin(), have.end(), f);
    if (it == have.end()) continue;
    have.erase(it);
    shared.push_back(f);
  }
  return {product_of(std::move(shared)), gcd(a.k, b.k)};
}

int64_t floor_div(Int128 a, int64_t b) {
  Int128 q = a / b, r = a % b;
  return static_cast<int64_t>(q - ((r != 0) && ((r < 0) != (b < 0))));
}

int64_t gcd(int64_t a, int64_t b) {
  if (a == INT64_MIN || b == INT64_MIN) return 1;
  return std::gcd(a, b);
}

}  // namespace kontor::ix
