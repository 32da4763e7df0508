// Node: the one immutable, interned structure of which graphs, index expressions and loop trees are made.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "graph/dtype.h"
#include "graph/node_map.h"
#include "graph/ops.h"

namespace kontor {

class NodeTable;
class MarkedWalk;
struct NodeKey;
inline namespace v0 {
class Node;  // of the public headers
}

/// A counted handle of a Node. Nodes are interned: two handles are equal exactly if the nodes are structurally equal.
class Ref {
 public:
  Ref() = default;
  explicit Ref(const Node* node);  // takes a further count
  Ref(const Ref& other);
  Ref(Ref&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  Ref& operator=(Ref other) noexcept { return std::swap(node_, other.node_), *this; }
  ~Ref();
  const Node* operator->() const { return node_; }
  const Node& operator*() const { return *node_; }
  const Node* get() const { return node_; }
  explicit operator bool() const { return node_ != nullptr; }
  friend bool operator==(const Ref& a, const Ref& b) { return a.node_ == b.node_; }

 private:
  friend class NodeTable;
  const Node* node_ = nullptr;
};

/// A list of nodes that somebody else holds: a node's sources and shape, what functions read.
class Refs : public std::span<const Ref> {
 public:
  constexpr Refs() = default;
  Refs(std::span<const Ref> list) : span(list) {}
  Refs(const std::vector<Ref>& list) : span(list) {}
  Refs(std::initializer_list<Ref> list) : span(list.begin(), list.size()) {}  // for the length of a call
  operator std::vector<Ref>() const { return {begin(), end()}; }
  friend bool operator==(Refs a, Refs b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }
};

/// What a node carries besides its sources: axes, ids, constant bits; a name; a payload that only its maker reads
/// (a Buffer's storage), compared by address.
struct Arg {
  std::vector<int64_t> ints = {};
  std::string text = {};
  std::shared_ptr<const void> payload = {};
  friend bool operator==(const Arg&, const Arg&) = default;
};

/// Inclusive bounds of an integer value; {INT64_MIN, INT64_MAX} where nothing is known.
struct Bounds {
  int64_t lo = INT64_MIN, hi = INT64_MAX;
  bool exact() const { return lo == hi; }
  friend bool operator==(const Bounds&, const Bounds&) = default;
};

/// One piece of memory with its sources and shape behind it: a walk over a large graph is made of cache misses.
class v0::Node {
 public:
  const Op op;
  const DType dtype;
  const uint32_t depth;  ///< 1 + the deepest source; derived when made, as the shape and the bounds are
  const uint64_t hash;
  const Refs src;
  const Refs shape;  ///< dimensions as i64 index expressions; empty for a scalar and below the graph level
  const Arg& arg;
  const Bounds bounds;

  const Ref& operator[](size_t i) const { return src[i]; }
  int64_t at(size_t i) const { return arg.ints[i]; }
  bool is(Op o) const { return op == o; }
  bool is_const() const { return op == Op::Const; }
  size_t rank() const { return shape.size(); }
  /// Handles of this node at this moment; what they mean, runtime/owners.h says.
  uint32_t uses() const { return count_.load(std::memory_order_relaxed); }

 private:
  friend class kontor::NodeTable;
  friend class kontor::Ref;
  friend class kontor::MarkedWalk;
  Node(const NodeKey& key, Refs s, Refs dims, const Arg& a, Bounds b);
  mutable std::atomic<uint32_t> count_{0};
  mutable const Node* chained_ = nullptr;  // the table's, under its lock
  mutable uint64_t met_ = 0;               // the walk that was here last, under the walks' lock
};

/// The node (op, sources, arg); found if it exists. `dtype` is given where the sources do not decide it (Const, Cast,
/// leaves, Place); otherwise pass Void. Throws InternalError where the shape rule of the op refuses the sources:
/// what users can get wrong is checked before, where the op is recorded.
Ref make(Op op, Refs src, Arg arg = {}, DType dtype = DType::Void);

/// Constants. An integer's value is ints[0]; a float's is ints[0] holding the bits of the value as a double.
Ref constant(DType dtype, int64_t value);
Ref constant(DType dtype, double value);
Ref constant_like(const Ref& node, double value);  ///< of the same dtype, scalar shape
/// An i64 constant: dimensions and index expressions.
Ref index(int64_t value);
int64_t const_int(const Node& node);   ///< value of an integer (or bool) Const
double const_float(const Node& node);  ///< value of any Const as double
/// The value if the node is an integer Const.
bool is_int(const Ref& node, int64_t value);

/// Static extent of a dimension; throws InternalError if it is not a constant.
int64_t extent(const Ref& dim);
std::vector<int64_t> static_shape(const Node& node);
bool has_static_shape(const Node& node);

/// All nodes that `roots` need, each once, sources before users. Iterative.
std::vector<const Node*> topological(std::span<const Ref> roots);
/// Appends what `root` needs beyond `met` to an order in which sources stand before users. `below(node)`, asked once for each
/// node, says what it needs: a list that stays where it is.
template <class F>
void append_topological(const Node* root, NodeSet& met, std::vector<const Node*>& order, const F& below) {
  std::vector<std::pair<const Node*, std::span<const Ref>>> stack;
  const auto enter = [&](const Node* node) {
    if (met.insert(node)) stack.emplace_back(node, below(*node));
  };
  enter(root);
  while (!stack.empty()) {
    auto& [node, rest] = stack.back();
    if (rest.empty()) {
      order.push_back(node);
      stack.pop_back();
      continue;
    }
    const Node* next = rest[0].get();
    rest = rest.subspan(1);
    enter(next);
  }
}
/// `node` with `sources` in place of its own (the same node if they are equal).
Ref with_sources(const Node& node, Refs sources);

using Substitution = NodeMap<Ref>;
/// A node's sources as `done` has them.
std::vector<Ref> sources_in(const Substitution& done, const Node& node);
/// Makes nodes anew, in an order in which sources stand before users: `change(node)` is what a node becomes. `done` holds what is
/// decided already, and gets the rest; whoever keeps it keeps its keys alive too.
template <class F>
void map_nodes(std::span<const Node* const> order, Substitution& done, const F& change) {
  for (const Node* n : order)
    if (!done.contains(n)) done.emplace(n, change(*n));
}
/// The same of what lies below the roots: `change(node, sources)`, given what its sources became.
template <class F>
void map_nodes(std::span<const Ref> roots, Substitution& done, const F& change) {
  map_nodes(topological(roots), done, [&](const Node& n) { return change(n, sources_in(done, n)); });
}
/// What the roots become so; `given` is decided already.
template <class F>
std::vector<Ref> mapped(std::span<const Ref> roots, const F& change, const Substitution& given = {}) {
  Substitution done = given;
  map_nodes(roots, done, change);
  std::vector<Ref> out;
  for (const Ref& r : roots) out.push_back(done.at(r.get()));
  return out;
}
/// Replaces nodes (keys) by others everywhere below the roots; what is put in is not looked into again.
std::vector<Ref> substitute(std::span<const Ref> roots, const Substitution& map);
Ref substitute(const Ref& root, const Substitution& map);

/// A fresh identity for Range, Place, Buffer, Mark, Scalar, Variable.
int64_t fresh_id();
/// Number of nodes alive, for tests.
size_t live_nodes();

}  // namespace kontor
