// What transforms over ops share: their tables, a row an op, and the walk from what changed to what is computed from it.
#pragma once
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "graph/node.h"

namespace kontor {

template <class Rule>
struct OpRule {
  Op op;
  Rule rule;
};

/// The rules of one transform by op. Two rows of one op don't compile.
template <class Rule>
class OpTable {
 public:
  /// `elementwise` is the row of every elementwise op.
  template <size_t N>
  consteval OpTable(std::string_view transform, const OpRule<Rule> (&rows)[N], Rule elementwise = nullptr)
      : transform_(transform) {
    for (int i = 0; i < op_count; i++)
      if (is_elementwise(static_cast<Op>(i))) rules_[static_cast<size_t>(i)] = elementwise;
    for (const OpRule<Rule>& r : rows) {
      Rule& rule = rules_[static_cast<size_t>(r.op)];
      if (rule) throw "two rows of one op";
      rule = r.rule;
    }
  }

  constexpr bool has(Op op) const { return rules_[static_cast<size_t>(op)] != nullptr; }
  /// Throws InternalError if there is no row.
  Rule operator[](Op op) const {
    if (!has(op)) broken("{}: no row for {}", transform_, row(op).name);
    return rules_[static_cast<size_t>(op)];
  }

 private:
  std::string_view transform_;
  std::array<Rule, op_count> rules_{};
};

/// Goes on from the nodes in `became` to all that is computed from them, sources first, and adds what each becomes:
/// `change(node, sources)`, of whose sources each is what it became, or null if it is as it was. Everything else stays and is
/// shared, and so does a Call whose body stays.
template <class T, class F>
void carry(std::span<const Ref> roots, NodeMap<T>& became, const F& change) {
  std::vector<const T*> sources;
  for (const Node* n : topological(roots)) {
    if (became.contains(n)) continue;
    sources.clear();
    bool any = false;
    for (const Ref& s : n->src) {
      const auto it = became.find(s.get());
      sources.push_back(it == became.end() ? nullptr : &it->second);
      any = any || sources.back();
    }
    if (!any || (n->is(Op::Call) && !sources[0])) continue;
    T now = change(*n, std::span<const T* const>(sources));
    became.emplace(n, std::move(now));
  }
}

}  // namespace kontor
