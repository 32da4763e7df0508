// The rules of the graph, in tables: what is printed by `kontor rules` and docs/rules.md, fuzzed, and applied before
// scheduling.
#pragma once
#include "graph/rules/rewrite.h"

namespace kontor {

struct RuleTable {
  std::string_view name;
  std::string_view says;  ///< one sentence
  std::span<const Rule> rules;
};

/// What holds of floats bit for bit, and of any dtype.
std::span<const Rule> float_rules();
/// Arithmetic of integers, which wrap at their width.
std::span<const Rule> integer_rules();
std::span<const Rule> bool_rules();
std::span<const Rule> cast_rules();
/// Ops that move elements.
std::span<const Rule> movement_rules();
/// What the index algebra (graph/index/index.h) does of itself, said as rows. They hold of i64 expressions of loop variables,
/// which do not overflow, and are not applied by rewrite(): their fuzz checks that the algebra makes both sides one.
std::span<const Rule> index_rules();

/// All tables in the order in which they are tried.
std::span<const RuleTable> rule_tables();
/// The rule of this name; null if there is none.
const Rule* find_rule(std::string_view name);

/// The graph in canonical form: rewritten by all tables but that of the index algebra. Same shapes, dtypes and bits.
std::vector<Ref> canonical(std::span<const Ref> roots, RewriteStatistics* statistics = nullptr);

/// All tables as a page of Markdown: docs/rules.md.
std::string rules_markdown();

/// Whether a cast keeps every value of `from` apart and exact in `to`.
bool is_lossless(DType from, DType to);

}  // namespace kontor
