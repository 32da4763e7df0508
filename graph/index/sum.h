// Sum: the normal form in which the index algebra reasons. An i64 expression is  c + sum of k*base,  the bases in a
// stable order; a base is neither a sum nor a constant, and a product of bases is a left chain in the same order.
#pragma once
#include <optional>

#include "graph/node.h"

namespace kontor::ix {

__extension__ typedef __int128 Int128;

/// Inclusive bounds of a mathematical value: what an i64 expression would be if it could not overflow.
struct Span {
  Int128 lo, hi;
  bool fits() const { return lo >= INT64_MIN && hi <= INT64_MAX; }
};

struct Term {
  Ref base;
  int64_t k;
};

struct Sum {
  std::vector<Term> terms = {};  ///< sorted, each base once, no k is 0
  int64_t c = 0;
  bool is_const() const { return terms.empty(); }
};

/// A total order that does not depend on addresses: Ranges by id first, then other leaves, then the rest by structure.
int compare(const Node* a, const Node* b);

Sum sum_of(const Ref& expression);
Sum sum_of(int64_t value);
/// x + y * k.
Sum add(const Sum& x, const Sum& y, int64_t k = 1);
Sum scale(const Sum& x, int64_t k);
/// x * y; nothing if it would have more than `most` terms.
std::optional<Sum> multiply(const Sum& x, const Sum& y, size_t most = 16);
/// The left chain of a sum. Pairs of division and remainder are not joined (Algebra::build does).
Ref chain(const Sum& x);
bool equal(const Sum& x, const Sum& y);

/// Factors of a base, sorted.
std::vector<Ref> factors(const Ref& base);
/// The base of a product of factors in any order; null for none.
Ref product_of(std::vector<Ref> factors);
/// t / d for one-term values (a null base is 1); false if d does not divide t.
bool divide(const Term& t, const Term& d, Term& quotient);
/// The common factor of two one-term values, with a positive coefficient.
Term common(const Term& a, const Term& b);

int64_t floor_div(Int128 a, int64_t b);
int64_t gcd(int64_t a, int64_t b);

}  // namespace kontor::ix
