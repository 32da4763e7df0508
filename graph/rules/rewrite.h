// rewrite(roots, rules): rows of (name, pattern, replacement) are applied until none fits.
#pragma once
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "graph/node.h"
#include "graph/rules/pattern.h"
#include "graph/scalar.h"

namespace kontor {

/// The constant that every element of the node is, broadcast or not; null if there is none.
const Node* uniform(const Node& node);
/// An array of `shape` of which every element is the constant's value.
Ref full(const Node& constant, std::span<const Ref> shape);

/// What a rule's left side stands for in a node.
class Match {
 public:
  const Node* root = nullptr;
  const void* context = nullptr;  ///< what rewrite() was given

  const Node& node(const Pattern& variable) const { return *bound_[variable.root().var]; }
  Ref ref(const Pattern& variable) const { return Ref(bound_[variable.root().var]); }
  Value value(const Pattern& constant) const { return value_of(*uniform(node(constant))); }
  /// An integer constant's value.
  int64_t operator[](const Pattern& constant) const { return to_int(node(constant).dtype, value(constant)); }
  double number(const Pattern& constant) const { return to_double(node(constant).dtype, value(constant)); }

 private:
  friend bool match(const Pattern& pattern, const Node& node, Match& into);
  friend class Matcher;
  friend Ref instantiate(const Pattern& pattern, const Match& match);
  std::array<const Node*, variable_count> bound_ = {};
};

/// A number of a pattern in `dtype`: it wraps in an integer (-1 is all ones).
Value number_in(DType dtype, double number);
/// Matches; operands of commutative ops in either order.
bool match(const Pattern& pattern, const Node& node, Match& into);
/// The node that a right side makes: numbers and constants take the shape and dtype that stand beside them.
Ref instantiate(const Pattern& pattern, const Match& match);

using Condition = bool (*)(const Match&);
using Replacement = Ref (*)(const Match&);  ///< null where the rule does not fit after all

/// One row. Where the right side is a function, `says` is what it does, for the docs.
struct Rule {
  std::string_view name;
  Pattern left, right = {};
  Replacement function = nullptr;
  Condition when = nullptr;
  std::string_view says = {};

  consteval Rule(std::string_view n, const Pattern& l, const Pattern& r, Condition w = nullptr,
                 std::string_view s = {})
      : name(n), left(l), right(r), when(w), says(s) {
    if (!is_bound(l, r)) throw "a variable on the right is not bound on the left";
    if (l.root().kind != PatternItem::Node) throw "the left side is not an op";
  }
  consteval Rule(std::string_view n, const Pattern& l, Replacement r, std::string_view s)
      : name(n), left(l), function(r), says(s) {
    if (l.root().kind != PatternItem::Node) throw "the left side is not an op";
  }
};

/// Applies one rule; null if it does not fit.
Ref apply(const Rule& rule, const Node& node, const void* context = nullptr);

/// Rules by the op of their left side, in the order of their tables; without those that KONTOR_RULE_OFF names. Throws
/// Error if that names a rule that `known` lacks.
class RuleSet {
 public:
  explicit RuleSet(std::span<const std::span<const Rule>> tables);
  std::span<const Rule* const> of(Op op) const { return by_op_[static_cast<size_t>(op)]; }

 private:
  std::array<std::vector<const Rule*>, op_count> by_op_;
};

struct RewriteStatistics {
  std::unordered_map<const Rule*, int64_t> hits;
};

/// The roots with every rule applied wherever it fits, sources before users, until none does. Iterative. Throws
/// InternalError naming the rule that fires most if that takes more than `budget` steps for each node (and 10,000).
std::vector<Ref> rewrite(std::span<const Ref> roots, const RuleSet& rules, const void* context = nullptr,
                         RewriteStatistics* statistics = nullptr, int64_t budget = 64);

/// A pattern as text.
std::string print(const Pattern& pattern);

}  // namespace kontor
