// Exact quotients and remainders of floats: a quotient may have thousands of binary digits, of which a float holds 24 or
// 53. Remainders are found by long division, so many digits at a time; fma makes each step exact.
#include "graph/functions/float_division.h"

#include <cmath>
#include <limits>

#include "base/error.h"
#include "graph/functions/formula.h"

namespace kontor {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct Division {
  DType work;  // computed in it
  int digits;  // that one step finds: the precision of `work`
  int steps;   // so many that they find all binary digits of greatest / least
};

Division division_of(DType dtype) {
  const FloatFormat& f = row(dtype).format;
  const DType work = fn::accumulator(dtype);
  const int digits = row(work).format.digits(), all = f.greatest() + 1 - f.least();
  return {work, digits, (all + digits - 1) / digits};
}

/// x mod y of x >= 0 and y > 0. Step k takes from what is left of x the digits at y * 2^(digits * k).
Term long_division(const Term& x, const Term& y, const Division& d) {
  std::vector<Term> scaled{y};
  while (static_cast<int>(scaled.size()) < d.steps)
    scaled.push_back(scaled.back() * std::ldexp(1.0, d.digits));
  Term rest = x;
  for (size_t k = scaled.size(); k-- > 0;) {
    const Term& s = scaled[k];
    Term digits = floor(rest / s);      // below 2^digits; one too much where the division was rounded up
    Term less = fma(-digits, s, rest);  // exact: below s in size, and a multiple of its last place
    less = where(less < 0.0, less + s, less);
    rest = where(digits > 0.0, less, rest);  // s may have overflowed: rest stays
  }
  return rest;
}

}  // namespace

Ref exact_remainder(const Ref& x, const Ref& y) {
  const Division& d = division_of(x->dtype);
  Term a = Term(x).as(d.work), b = Term(y).as(d.work), size = abs(b);
  Term rest = long_division(abs(a), size, d);
  Term other_sign = (rest > 0.0) & ((a < 0.0) != (b < 0.0));
  rest = where(other_sign, size - rest, rest);
  Term defined = (abs(a) < infinity) & (size > 0.0);
  return where(defined, where(b < 0.0, -rest, rest), not_a_number).as(x->dtype).node;
}

/// The quotient is rounded, floored, and put right by what is left. Below 2^digits it is exact, or one too much where it was
/// rounded up: then what is left has the other sign. Beyond, what is left, which is exact there, over y is what rounding
/// took from the quotient or added to it.
Ref floored_quotient(const Ref& x, const Ref& y) {
  const Division& d = division_of(x->dtype);
  Term a = Term(x).as(d.work), b = Term(y).as(d.work);
  Term q = floor(a / b);
  Term rest = where(abs(b) < infinity, fma(-q, b, a), a);
  Term other_sign = (rest != rest.constant(0)) & ((rest < 0.0) != (b < 0.0));
  Term more =
      where(abs(q) < std::ldexp(1.0, d.digits), where(other_sign, -1.0, rest.constant(0)), floor(rest / b));
  Term exact = where(more == 0.0, q, q + more);  // -0 stays
  return where(abs(q) < infinity, exact, q).as(x->dtype).node;
}

}  // namespace kontor
