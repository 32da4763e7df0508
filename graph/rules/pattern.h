// Patterns: constexpr values that read as algebra. One plain type for all of them, so that hundreds compile quickly.
#pragma once
#include <cstdint>

#include "graph/ops.h"

namespace kontor {

/// What a pattern's variable stands for. What holds for integers is seldom true of floats.
enum class VarClass : uint8_t {
  Integer,   ///< i j k: values of a (signed or unsigned) integer dtype
  Float,     ///< f g h
  Any,       ///< x y z: of any dtype
  Constant,  ///< c c0 c1: the same constant in every element, of any dtype
  Bool       ///< b b0 b1
};

struct PatternItem {
  enum Kind : uint8_t { Var, Number, Node } kind = Number;
  Op op = Op::Const;  // of a Node
  uint8_t arity = 0;  // of a Node: how many of its first sources are matched
  uint8_t var = 0;    // of a Var: its number
  VarClass of = VarClass::Any;
  double number = 0;
};

/// A tree in prefix order: a node, then its sources.
struct Pattern {
  static constexpr int longest = 12;
  PatternItem items[longest] = {};
  int count = 0;

  constexpr Pattern() = default;
  constexpr Pattern(double number) : count(1) { items[0] = {.kind = PatternItem::Number, .number = number}; }
  constexpr Pattern(int number) : Pattern(static_cast<double>(number)) {}
  constexpr void append(const Pattern& other) {
    for (int at = 0; at < other.count; at++)
      items[count++] = other.items[at];  // too long: not a constant expression
  }
  constexpr const PatternItem& root() const { return items[0]; }
};

constexpr Pattern pattern_variable(uint8_t number, VarClass of) {
  Pattern p;
  p.items[0] = {.kind = PatternItem::Var, .var = number, .of = of};
  p.count = 1;
  return p;
}

template <class... Sources>
constexpr Pattern pattern_node(Op op, const Sources&... sources) {
  Pattern p;
  p.items[0] = {.kind = PatternItem::Node, .op = op, .arity = sizeof...(sources)};
  p.count = 1;
  (p.append(sources), ...);
  return p;
}

constexpr int variable_count = 17;

constexpr bool has_variable(const Pattern& p, uint8_t number) {
  for (int at = 0; at < p.count; at++)
    if (p.items[at].kind == PatternItem::Var && p.items[at].var == number) return true;
  return false;
}

/// Whether all that the right side names is bound by the left side.
constexpr bool is_bound(const Pattern& left, const Pattern& right) {
  for (int at = 0; at < right.count; at++)
    if (right.items[at].kind == PatternItem::Var && !has_variable(left, right.items[at].var)) return false;
  return true;
}

/// The words that rules are written in.
namespace pattern {

inline constexpr Pattern i = pattern_variable(0, VarClass::Integer),
                         j = pattern_variable(1, VarClass::Integer),
                         k = pattern_variable(2, VarClass::Integer), f = pattern_variable(3, VarClass::Float),
                         g = pattern_variable(4, VarClass::Float), h = pattern_variable(5, VarClass::Float),
                         x = pattern_variable(6, VarClass::Any), y = pattern_variable(7, VarClass::Any),
                         z = pattern_variable(8, VarClass::Any), c = pattern_variable(9, VarClass::Constant),
                         c0 = pattern_variable(10, VarClass::Constant),
                         c1 = pattern_variable(11, VarClass::Constant),
                         c2 = pattern_variable(12, VarClass::Constant),
                         b = pattern_variable(13, VarClass::Bool), b0 = pattern_variable(14, VarClass::Bool),
                         b1 = pattern_variable(15, VarClass::Bool), b2 = pattern_variable(16, VarClass::Bool);

constexpr Pattern operator+(const Pattern& p, const Pattern& q) { return pattern_node(Op::Add, p, q); }
constexpr Pattern operator-(const Pattern& p, const Pattern& q) { return pattern_node(Op::Sub, p, q); }
constexpr Pattern operator*(const Pattern& p, const Pattern& q) { return pattern_node(Op::Mul, p, q); }
constexpr Pattern operator%(const Pattern& p, const Pattern& q) { return pattern_node(Op::Mod, p, q); }
constexpr Pattern operator&(const Pattern& p, const Pattern& q) { return pattern_node(Op::And, p, q); }
constexpr Pattern operator|(const Pattern& p, const Pattern& q) { return pattern_node(Op::Or, p, q); }
constexpr Pattern operator^(const Pattern& p, const Pattern& q) { return pattern_node(Op::Xor, p, q); }
constexpr Pattern operator<<(const Pattern& p, const Pattern& q) { return pattern_node(Op::Shl, p, q); }
constexpr Pattern operator>>(const Pattern& p, const Pattern& q) { return pattern_node(Op::Shr, p, q); }
constexpr Pattern operator<(const Pattern& p, const Pattern& q) { return pattern_node(Op::Lt, p, q); }
constexpr Pattern operator<=(const Pattern& p, const Pattern& q) { return pattern_node(Op::Le, p, q); }
constexpr Pattern operator==(const Pattern& p, const Pattern& q) { return pattern_node(Op::Eq, p, q); }
constexpr Pattern operator!=(const Pattern& p, const Pattern& q) { return pattern_node(Op::Ne, p, q); }
constexpr Pattern operator-(const Pattern& p) { return pattern_node(Op::Neg, p); }
constexpr Pattern operator!(const Pattern& p) { return pattern_node(Op::Not, p); }
constexpr Pattern operator~(const Pattern& p) { return pattern_node(Op::Not, p); }
constexpr Pattern div(const Pattern& p, const Pattern& q) { return pattern_node(Op::Div, p, q); }
constexpr Pattern idiv(const Pattern& p, const Pattern& q) { return pattern_node(Op::IDiv, p, q); }
constexpr Pattern max(const Pattern& p, const Pattern& q) { return pattern_node(Op::Max, p, q); }
constexpr Pattern min(const Pattern& p, const Pattern& q) { return pattern_node(Op::Min, p, q); }
constexpr Pattern where(const Pattern& p, const Pattern& q, const Pattern& r) {
  return pattern_node(Op::Where, p, q, r);
}
constexpr Pattern fma(const Pattern& p, const Pattern& q, const Pattern& r) {
  return pattern_node(Op::Fma, p, q, r);
}
constexpr Pattern abs(const Pattern& p) { return pattern_node(Op::Abs, p); }
constexpr Pattern floor(const Pattern& p) { return pattern_node(Op::Floor, p); }
constexpr Pattern ceil(const Pattern& p) { return pattern_node(Op::Ceil, p); }
/// A cast, or an op that moves elements, with whatever it carries: its further sources are for the rule's function.
constexpr Pattern cast(const Pattern& p) { return pattern_node(Op::Cast, p); }
constexpr Pattern bitcast(const Pattern& p) { return pattern_node(Op::Bitcast, p); }
constexpr Pattern any(Op op, const Pattern& p) { return pattern_node(op, p); }

}  // namespace pattern
}  // namespace kontor
