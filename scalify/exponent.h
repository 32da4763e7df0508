// Exponent: the k of a scale 2^k as an integer expression. With scales that are powers of two the arithmetic of scales is that of
// (max, +): products add exponents, sums take the greater one. What is known when the graph is made folds to one number, which costs
// nothing when it runs; only an exponent that is measured (dynamic_rescale) leaves nodes in the graph.
#pragma once
#include <string>

#include "graph/node.h"

namespace kontor::scalify {

struct Exponent {
  int64_t fixed = 0;
  Ref measured = {};  ///< an i32 of rank 0 to add, computed when the graph runs; null: none

  Exponent() = default;
  Exponent(int64_t value) : fixed(value) {}
  Exponent(int64_t value, Ref running) : fixed(value), measured(std::move(running)) {}
  bool is_static() const { return !measured; }
  bool is_zero() const { return is_static() && fixed == 0; }
  friend bool operator==(const Exponent&, const Exponent&) = default;
};

Exponent operator+(const Exponent& a, const Exponent& b);
Exponent operator-(const Exponent& a, const Exponent& b);
inline Exponent operator-(const Exponent& a) { return Exponent() - a; }
Exponent operator*(const Exponent& a, int64_t times);
Exponent max(const Exponent& a, const Exponent& b);
Exponent min(const Exponent& a, const Exponent& b);
/// floor(a / 2).
Exponent half(const Exponent& a);
/// "3", "max(%2, 4) + 1".
std::string describe(const Exponent& e);

/// x * 2^by, element by element, in x's dtype (a float): exact where the result is a normal number. Static exponents become a
/// constant factor, which merges with one that x was multiplied by last; 0 is x itself.
Ref times_power(const Ref& x, const Exponent& by);
/// 2^by as an f32 of rank 0.
Ref power_of_two(const Exponent& by);
/// The k of the greatest power of two that is at most `x`, an f32 of rank 0 that is not negative, but at least `least` (of 0 and NaN:
/// `least`); an i32. Infinity counts as 2^127.
Ref measured_exponent(const Ref& x, int64_t least);
/// k if the value is 2^k or -2^k everywhere.
bool is_power_of_two(double value, int64_t& k);

}  // namespace kontor::scalify
