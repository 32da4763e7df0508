// The intern table, constants, and iterative walks over nodes.
#include "graph/node.h"

#include <pthread.h>

#include <array>
#include <bit>
#include <mutex>
#include <unordered_set>

#include "base/error.h"
#include "base/sanitizer.h"
#include "graph/scalar.h"
#include "graph/shape.h"

namespace kontor {

/// What a node is found by.
struct NodeKey {
  Op op;
  DType dtype;
  const Arg& arg;
  Refs src;
  uint64_t hash;
};

namespace {

uint64_t mix(uint64_t h, uint64_t v) {
  h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
  return h * 0xff51afd7ed558ccdull ^ (h >> 32);
}

uint64_t hash_of(Op op, DType dtype, const Arg& arg, Refs src) {
  uint64_t h = mix(static_cast<uint64_t>(op) * 131 + static_cast<uint64_t>(dtype), arg.ints.size());
  for (int64_t i : arg.ints) h = mix(h, static_cast<uint64_t>(i));
  if (!arg.text.empty()) h = mix(h, std::hash<std::string>()(arg.text));
  if (arg.payload) h = mix(h, reinterpret_cast<uintptr_t>(arg.payload.get()));
  for (const Ref& s : src) h = mix(h, s->hash);
  return h;
}

bool is(const Node& n, const NodeKey& k) {
  return k.hash == n.hash && k.op == n.op && k.dtype == n.dtype && k.src == n.src && k.arg == n.arg;
}

const Arg& no_arg() {
  static const Arg* none = new Arg;  // never destroyed, as the table
  return *none;
}

}  // namespace

/// The process-wide table: a node dies under its shard's lock, and what it held is freed from a list, not by recursion.
class NodeTable {
 public:
  static NodeTable& get() {
    static NodeTable* table = new NodeTable;  // never destroyed: handles in static objects may outlive main
    return *table;
  }

  Ref find_or_make(Op op, DType dtype, Arg&& arg, Refs src) {
    const Derived d = derive(op, src, arg, dtype);
    // The derived dtype is part of the identity, so that a node made with and without it given is one node.
    const NodeKey key{op, d.dtype, arg, src, hash_of(op, d.dtype, arg, src)};
    Shard& shard = shard_of(key.hash);
    std::lock_guard lock(shard.mutex);
    if (const Node* found = shard.find(key)) return Ref(found);
    const Node* node = placed(key, std::move(arg), d);
    shard.insert(node);
    return Ref(node);
  }

  void release(const Node* node) {
    std::vector<const Node*> dead;
    drop(node, dead);
    while (!dead.empty()) {
      const Node* n = dead.back();
      dead.pop_back();
      take_apart(n, dead);
    }
  }

  size_t size() {
    size_t total = 0;
    for (Shard& s : shards_) {
      std::lock_guard lock(s.mutex);
      total += s.count;
    }
    return total;
  }

 private:
  /// Chains through the nodes themselves: to find one costs no look at anything but its bucket and itself.
  struct Shard {
    std::mutex mutex;
    std::vector<const Node*> buckets = std::vector<const Node*>(64);
    size_t count = 0;

    const Node*& bucket(uint64_t hash) { return buckets[(hash >> 26) & (buckets.size() - 1)]; }

    const Node* find(const NodeKey& key) {
      const Node* n = bucket(key.hash);
      while (n && !is(*n, key)) n = n->chained_;
      return n;
    }

    void insert(const Node* node) {
      if (++count > buckets.size()) grow();
      node->chained_ = std::exchange(bucket(node->hash), node);
    }

    void erase(const Node* node) {
      const Node** at = &bucket(node->hash);
      while (*at != node) at = &(*at)->chained_;
      *at = node->chained_;
      count--;
    }

    void grow() {
      std::vector<const Node*> before(buckets.size() * 4);
      before.swap(buckets);
      for (const Node* n : before)
        while (n) {
          const Node* next = n->chained_;
          n->chained_ = std::exchange(bucket(n->hash), n);
          n = next;
        }
    }
  };
  std::array<Shard, 64> shards_;

  // A child that is forked while another thread holds a shard would wait for that thread, which it does not have.
  NodeTable() {
#if !defined(KONTOR_THREAD_SANITIZER)  // which follows no more than 64 locks
    const auto unlock = [] {
      for (Shard& s : get().shards_) s.mutex.unlock();
    };
    const auto lock = [] {
      for (Shard& s : get().shards_) s.mutex.lock();
    };
    ::pthread_atfork(lock, unlock, unlock);
#endif
  }

  Shard& shard_of(uint64_t hash) { return shards_[(hash >> 20) % shards_.size()]; }

  static const Node* placed(const NodeKey& key, Arg&& arg, const Derived& d) {
    std::unique_ptr<const Arg> own;
    if (arg != no_arg()) own = std::make_unique<const Arg>(std::move(arg));
    const Refs shape = d.shape();
    void* memory = ::operator new(sizeof(Node) + (key.src.size() + shape.size()) * sizeof(Ref));
    Ref* refs = reinterpret_cast<Ref*>(static_cast<char*>(memory) + sizeof(Node));
    Ref* dims = std::uninitialized_copy(key.src.begin(), key.src.end(), refs);
    std::uninitialized_copy(shape.begin(), shape.end(), dims);
    const std::span<const Ref> src(refs, key.src.size()), made(dims, shape.size());
    return new (memory) Node(key, src, made, own ? *own.release() : no_arg(), d.bounds);
  }

  void drop(const Node* node, std::vector<const Node*>& dead) {
    // Only the last count needs the lock: a lookup may revive the node before it is taken out.
    uint32_t count = node->count_.load(std::memory_order_relaxed);
    while (count > 1)
      if (node->count_.compare_exchange_weak(count, count - 1, std::memory_order_acq_rel)) return;
    Shard& shard = shard_of(node->hash);
    std::lock_guard lock(shard.mutex);
    if (node->count_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    shard.erase(node);
    dead.push_back(node);
  }

  void take_apart(const Node* node, std::vector<const Node*>& dead) {
    for (Refs refs : {node->src, node->shape})
      for (const Ref& r : refs) drop(r.get(), dead);
    if (&node->arg != &no_arg()) delete &node->arg;
    node->~Node();
    ::operator delete(const_cast<Node*>(node));
  }
};

static uint32_t depth_of(Refs src) {
  uint32_t depth = 0;
  for (const Ref& s : src) depth = std::max(depth, s->depth);
  return depth + 1;
}

Node::Node(const NodeKey& key, Refs s, Refs dims, const Arg& a, Bounds b)
    : op(key.op),
      dtype(key.dtype),
      depth(depth_of(s)),
      hash(key.hash),
      src(s),
      shape(dims),
      arg(a),
      bounds(b) {}

Ref::Ref(const Node* node) : node_(node) {
  if (node_) node_->count_.fetch_add(1, std::memory_order_relaxed);
}
Ref::Ref(const Ref& other) : Ref(other.node_) {}
Ref::~Ref() {
  if (node_) NodeTable::get().release(node_);
}

Ref make(Op op, Refs src, Arg arg, DType dtype) {
  return NodeTable::get().find_or_make(op, dtype, std::move(arg), src);
}

Ref constant(DType dtype, int64_t value) {
  if (is_float(dtype)) return constant(dtype, static_cast<double>(value));
  if (dtype == DType::Bool) value = value != 0;
  Bounds b = dtype_bounds(dtype);
  if (b.lo != INT64_MIN && (value < b.lo || value > b.hi)) {  // wraps as a cast does
    int bits = row(dtype).bits;
    uint64_t mask = (uint64_t{1} << bits) - 1, low = static_cast<uint64_t>(value) & mask;
    bool negative = kind(dtype) == Kind::Signed && (low >> (bits - 1)) != 0;
    value = static_cast<int64_t>(negative ? low | ~mask : low);
  }
  return make(Op::Const, {}, {.ints = {value}}, dtype);
}

Ref constant(DType dtype, double value) {
  if (!is_float(dtype)) return constant(dtype, static_cast<int64_t>(value));
  value = to_double(dtype, from_double(dtype, value));
  return make(Op::Const, {}, {.ints = {std::bit_cast<int64_t>(value)}}, dtype);
}

Ref constant_like(const Ref& node, double value) { return constant(node->dtype, value); }
Ref index(int64_t value) { return constant(DType::I64, value); }

int64_t const_int(const Node& node) {
  if (!node.is_const() || is_float(node.dtype)) broken("const_int of a {} node", row(node.op).name);
  return node.at(0);
}

double const_float(const Node& node) {
  if (!node.is_const()) broken("const_float of a {} node", row(node.op).name);
  if (is_float(node.dtype)) return std::bit_cast<double>(node.at(0));
  return node.dtype == DType::U64 ? static_cast<double>(static_cast<uint64_t>(node.at(0)))
                                  : static_cast<double>(node.at(0));
}

bool is_int(const Ref& node, int64_t value) {
  return node->is_const() && !is_float(node->dtype) && node->at(0) == value;
}

int64_t extent(const Ref& dim) {
  if (!dim->is_const()) broken("a dimension is not static: {}", row(dim->op).name);
  return dim->at(0);
}

std::vector<int64_t> static_shape(const Node& node) {
  std::vector<int64_t> out;
  for (const Ref& d : node.shape) out.push_back(extent(d));
  return out;
}

bool has_static_shape(const Node& node) {
  for (const Ref& d : node.shape)
    if (!d->is_const()) return false;
  return true;
}

/// A walk writes its number into the nodes that it meets, which costs no memory but theirs; while one does, walks of
/// other threads keep a list.
class MarkedWalk {
 public:
  /// Whether the node is new.
  bool meets(const Node* node) {
    return marks_ ? std::exchange(node->met_, number_) != number_ : met_.insert(node);
  }

 private:
  static inline std::mutex mutex;
  static inline uint64_t last = 0;
  std::unique_lock<std::mutex> marks_{mutex, std::try_to_lock};
  uint64_t number_ = marks_ ? ++last : 0;
  NodeSet met_;
};

std::vector<const Node*> topological(std::span<const Ref> roots) {
  std::vector<const Node*> order;
  MarkedWalk walk;
  std::vector<std::pair<const Node*, size_t>> stack;
  for (const Ref& r : roots) {
    if (!walk.meets(r.get())) continue;
    stack.emplace_back(r.get(), 0);
    while (!stack.empty()) {
      auto& [node, next] = stack.back();
      if (next == node->src.size()) {
        order.push_back(node);
        stack.pop_back();
        continue;
      }
      const Node* child = node->src[next++].get();
      if (walk.meets(child)) stack.emplace_back(child, 0);
    }
  }
  return order;
}

Ref with_sources(const Node& node, Refs sources) {
  if (sources == node.src) return Ref(&node);
  // A dtype that follows from the sources is derived again; one that was given is kept.
  bool given = node.op == Op::Cast || node.op == Op::Bitcast || row(node.op).group == OpClass::Leaf ||
               row(node.op).group == OpClass::Statement;
  return make(node.op, sources, node.arg, given ? node.dtype : DType::Void);
}

std::vector<Ref> sources_in(const Substitution& done, const Node& node) {
  std::vector<Ref> sources;
  sources.reserve(node.src.size());
  for (const Ref& s : node.src) sources.push_back(done.at(s.get()));
  return sources;
}

std::vector<Ref> substitute(std::span<const Ref> roots, const Substitution& map) {
  return mapped(roots, with_sources, map);
}

Ref substitute(const Ref& root, const Substitution& map) { return substitute(std::span(&root, 1), map)[0]; }

int64_t fresh_id() {
  static std::atomic<int64_t> next{1};
  return next++;
}

size_t live_nodes() { return NodeTable::get().size(); }

}  // namespace kontor
