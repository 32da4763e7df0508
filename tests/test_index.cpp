// The index algebra: what reshapes and windows need of it, and a million random expressions against evaluation.
#include "graph/index/index.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <unordered_map>

#include "graph/scalar.h"
#include "tests/catch.h"

using namespace kontor;

namespace {

std::string text(const Node* n) {
  if (n->is_const()) return std::to_string(n->at(0));
  if (n->op == Op::Range) return n->arg.text + "<" + text(n->src[0].get()) + ">";
  if (n->op == Op::Variable)
    return n->arg.text + "[" + std::to_string(n->at(1)) + ".." + std::to_string(n->at(2)) + "]";
  std::string out = std::string(row(n->op).name) + "(";
  for (const Ref& s : n->src) out += (out.back() == '(' ? "" : ", ") + text(s.get());
  return out + ")";
}

Ref variable(const std::string& name, int64_t lo, int64_t hi) {
  return make(Op::Variable, {}, {.ints = {fresh_id(), lo, hi}, .text = name}, DType::I64);
}

constexpr size_t point_count = 6;
using Values = std::array<int64_t, point_count>;

/// Values of nodes at a few points, each node once.
class Points {
 public:
  void set(const Ref& leaf, const Values& values) {
    known_[leaf.get()] = values;
    keep_.push_back(leaf);
  }

  /// Whether all leaves have values: not so for a Range whose extent was replaced.
  bool can(const Ref& root) const {
    for (const Node* n : topological(std::span(&root, 1)))
      if (n->op == Op::Range && !known_.count(n)) return false;
    return true;
  }

  const Values& of(const Ref& root) {
    if (auto it = known_.find(root.get()); it != known_.end()) return it->second;
    keep_.push_back(root);
    return compute(root.get());
  }

 private:
  std::unordered_map<const Node*, Values> known_;
  std::vector<Ref> keep_;

  const Values& compute(const Node* n) {
    if (auto it = known_.find(n); it != known_.end()) return it->second;
    Values v[3] = {};
    for (size_t i = 0; i < n->src.size() && n->op != Op::Range; i++) v[i] = compute(n->src[i].get());
    Values& out = known_[n];
    for (size_t p = 0; p < point_count; p++) out[p] = one(*n, v[0][p], v[1][p], v[2][p]);
    return out;
  }

  static int64_t one(const Node& n, int64_t a, int64_t b, int64_t c) {
    int64_t q = b == 0 ? 0 : a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
    switch (n.op) {
      case Op::Const: return n.at(0);
      case Op::Add:   return a + b;
      case Op::Sub:   return a - b;
      case Op::Neg:   return -a;
      case Op::Mul:   return a * b;
      case Op::IDiv:  return q;
      case Op::Mod:   return b == 0 ? 0 : a - q * b;
      case Op::Min:   return std::min(a, b);
      case Op::Max:   return std::max(a, b);
      case Op::Lt:    return a < b;
      case Op::Le:    return a <= b;
      case Op::Eq:    return a == b;
      case Op::Ne:    return a != b;
      case Op::And:   return a & b;
      case Op::Or:    return a | b;
      case Op::Not:   return !a;
      case Op::Where: return a ? b : c;
      default:        FAIL("a leaf without a value: " << text(&n)); return 0;
    }
  }
};

/// Grows random expressions from smaller ones, so that each costs one step; checks each as it is made.
class Fuzz {
 public:
  explicit Fuzz(uint64_t seed) : random_(seed) { leaves(); }

  void step() {
    bool condition = pick(4) == 0;
    Ref e = condition ? new_condition() : new_integer();
    if (e->dtype == DType::I64 && (e->bounds.lo < -(1 << 24) || e->bounds.hi > (1 << 24))) return;
    check(e);
    (condition ? conditions_ : integers_).push_back(e);
  }

 private:
  std::mt19937_64 random_;
  Points points_;
  std::vector<Ref> integers_, conditions_;

  int64_t pick(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  const Ref& integer() {
    return integers_[static_cast<size_t>(pick(static_cast<int64_t>(integers_.size())))];
  }
  const Ref& condition() {
    return conditions_[static_cast<size_t>(pick(static_cast<int64_t>(conditions_.size())))];
  }

  void leaf(const Ref& node, const Values& extents, int64_t lo = 0) {
    Values v;
    for (size_t p = 0; p < point_count; p++)
      v[p] = p == 0 ? lo : p == 1 ? extents[p] - 1 + lo : lo + pick(extents[p]);
    points_.set(node, v);
    integers_.push_back(node);
  }

  void leaves() {
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 8, 12};
    for (int i = 0; i < 4; i++) {
      Values extent;
      extent.fill(sizes[pick(8)]);
      leaf(ix::range(extent[0], std::string(1, static_cast<char>('i' + i))), extent);
    }
    Values width;
    width.fill(4);
    Ref n = variable("n", 1, 4), m = variable("m", 2, 5);
    leaf(n, width, 1);
    leaf(m, width, 2);
    Values a = points_.of(n), b = points_.of(m), ab;
    for (size_t p = 0; p < point_count; p++) ab[p] = a[p] * b[p];
    leaf(ix::range(n, "x"), a);
    leaf(ix::range(m, "y"), b);
    leaf(ix::range(ix::mul(n, m), "z"), ab);
    for (int64_t c : {0, 1, 2, 3, 4, 6, -1}) integers_.push_back(index(c));
    conditions_.push_back(make(Op::Lt, {integers_[0], integers_[1]}));
  }

  Ref small() {  // a divisor or factor: mostly a constant
    static const int64_t values[] = {1, 2, 3, 4, 4, 5, 6, 8, 12, 24, -1, -2, -3, 0};
    return pick(5) ? index(values[pick(14)]) : integer();
  }

  Ref new_integer() {
    switch (pick(12)) {
      case 0:
      case 1:
      case 2:  return make(Op::Add, {integer(), pick(3) ? integer() : small()});
      case 3:  return make(Op::Sub, {integer(), integer()});
      case 4:
      case 5:  return make(Op::Mul, {integer(), small()});
      case 6:
      case 7:  return make(Op::IDiv, {integer(), small()});
      case 8:
      case 9:  return make(Op::Mod, {integer(), small()});
      case 10: {
        const Op op = pick(2) ? Op::Min : Op::Max;
        return make(op, {integer(), integer()});
      }
      default:
        return pick(4) ? make(Op::Where, {condition(), integer(), integer()}) : make(Op::Neg, {integer()});
    }
  }

  Ref new_condition() {
    static const Op ops[] = {Op::Lt, Op::Le, Op::Eq, Op::Ne};
    switch (pick(6)) {
      case 0:  return make(Op::And, {condition(), condition()});
      case 1:  return pick(2) ? make(Op::Or, {condition(), condition()}) : make(Op::Not, {condition()});
      default: {
        const Op op = ops[pick(4)];
        return make(op, {integer(), pick(2) ? integer() : index(pick(20) - 6)});
      }
    }
  }

  // Why the expression is simplified wrongly under `given` (may be null); empty if it is right.
  std::string mistake(const Ref& e, const Ref& given) {
    Ref s = ix::simplify(e, given);
    Values want = points_.of(e), got = points_.of(s);
    for (size_t p = 0; p < point_count; p++) {
      if (given && !points_.of(given)[p]) continue;
      if (want[p] != got[p])
        return "is " + std::to_string(want[p]) + ", but " + std::to_string(got[p]) + " as " + text(s.get());
    }
    if (given) return "";
    Ref again = ix::simplify(s);
    return again == s ? "" : "is " + text(s.get()) + ", and simplified again " + text(again.get());
  }

  void check(const Ref& e) {
    Ref given = pick(3) == 0 ? condition() : Ref();
    if (mistake(e, given).empty()) return;
    Ref least = shrink(e, given);
    FAIL(text(least.get()) << (given ? " under " + text(given.get()) : "") << " " << mistake(least, given));
  }

  Ref shrink(Ref e, const Ref& given) {
    for (bool again = true; again;) {
      again = false;
      std::vector<Ref> roots{e};
      for (const Node* n : topological(roots)) {
        std::vector<Ref> less(n->src.begin(), n->src.end());
        if (n->op == Op::Range || n->is_const()) continue;
        less.push_back(constant(n->dtype, int64_t{0}));
        less.push_back(constant(n->dtype, int64_t{1}));
        for (const Ref& by : less) {
          if (by->dtype != n->dtype) continue;
          Ref smaller = substitute(e, {{n, by}});
          if (smaller == e || !points_.can(smaller) || mistake(smaller, given).empty()) continue;
          e = smaller;
          again = true;
          break;
        }
        if (again) break;
      }
    }
    return e;
  }
};

}  // namespace

TEST_CASE("[index] a million random expressions have the value they had") {
  const char* given = std::getenv("KONTOR_FUZZ_SEED");
  uint64_t seed = given ? std::strtoull(given, nullptr, 10) : 20240601;
  const char* rounds = std::getenv("KONTOR_FUZZ_ROUNDS");
  uint64_t sessions = rounds ? std::strtoull(rounds, nullptr, 10) : 10000;
  for (uint64_t session = 0; session < sessions; session++) {
    INFO("KONTOR_FUZZ_SEED=" << seed + session << " KONTOR_FUZZ_ROUNDS=1 repeats it");
    Fuzz fuzz(seed + session);
    for (int i = 0; i < 100; i++) fuzz.step();
  }
}

TEST_CASE("[index] positions taken apart and put together") {
  using namespace ix;
  Ref i = range(4, "i"), j = range(6, "j"), k = range(5, "k"), p = range(120, "p");
  std::vector<Ref> dims{index(4), index(6), index(5)}, other{index(2), index(12), index(5)}, flat{index(120)};
  std::vector<Ref> at{i, j, k};
  CHECK(unflatten(flatten(at, dims), dims) == at);
  CHECK(flatten(unflatten(p, dims), dims) == p);
  CHECK(flatten(unflatten(p, other), other) == p);
  // [4, 6, 5] -> [2, 12, 5] -> [120] -> [4, 6, 5]
  Ref position = flatten(unflatten(flatten(at, dims), other), other);
  CHECK(position == flatten(at, dims));
  CHECK(unflatten(position, dims) == at);
  // A reshape that joins axes with one that splits them.
  CHECK(unflatten(flatten(at, dims), other)[2] == k);
  CHECK(text(unflatten(flatten(at, dims), other)[0].get()) == "idiv(i<4>, 2)");
  CHECK(unflatten(flatten(at, dims), other)[1] == add(mul(mod(i, 2), 6), j));
}

TEST_CASE("[index] symbolic dimensions") {
  using namespace ix;
  Ref n = variable("n", 1, 1000), m = variable("m", 1, 1000), h = add(n, 2);
  Ref i = range(m, "i"), j = range(n, "j"), k = range(h, "k"), p = range(mul(m, n), "p"), l = range(8, "l");
  CHECK(idiv(add(mul(i, n), j), n) == i);
  CHECK(mod(add(mul(i, n), j), n) == j);
  CHECK(idiv(add(mul(i, h), k), h) == i);
  CHECK(mod(add(mul(i, h), k), h) == k);
  std::vector<Ref> dims{m, n}, three{m, n, index(8)};
  std::vector<Ref> at{i, j}, at3{i, j, l};
  CHECK(unflatten(flatten(at, dims), dims) == at);
  CHECK(unflatten(flatten(at3, three), three) == at3);
  CHECK(flatten(unflatten(p, dims), dims) == p);
  Ref q = range(mul(mul(m, n), index(8)), "q");
  CHECK(flatten(unflatten(q, three), three) == q);
  CHECK(is_int(lt(j, n), 1));
  CHECK(is_int(lt(add(mul(i, n), j), mul(m, n)), 1));
  CHECK(is_int(lt(idiv(p, n), m), 1));
  CHECK(is_int(le(n, j), 0));
  CHECK(is_int(lt(j, sub(n, 1)), 0) == false);
  CHECK(is_int(le(index(0), idiv(sub(j, n), 4)), 0));  // known only after the division is gone
}

TEST_CASE("[index] sums, divisions and comparisons in normal form") {
  using namespace ix;
  Ref i = range(10, "i"), j = range(3, "j"), k = range(4, "k");
  CHECK(sub(add(i, j), j) == i);
  CHECK(add(mul(i, 2), mul(i, 3)) == mul(i, 5));
  CHECK(mul(add(i, 2), 3) == add(mul(i, 3), 6));
  CHECK(add(add(j, 1), i) == add(add(i, j), 1));
  CHECK(idiv(add(add(mul(i, 6), mul(j, 4)), 5), 2) == add(add(mul(i, 3), mul(j, 2)), 2));
  CHECK(mod(add(add(mul(i, 6), mul(j, 4)), 5), 2) == index(1));
  CHECK(idiv(idiv(i, 2), 3) == idiv(i, 6));
  CHECK(mod(mod(i, 6), 3) == mod(i, 3));
  CHECK(add(mul(idiv(i, 4), 4), mod(i, 4)) == i);
  CHECK(idiv(add(mul(i, 24), add(mul(j, 4), k)), 12) == mul(i, 2));
  CHECK(idiv(mod(i, 6), 2) == mod(idiv(i, 2), 3));
  CHECK(idiv(sub(index(0), i), 3)->bounds == Bounds{-3, 0});
  CHECK(mod(index(-7), 3) == index(2));
  CHECK(text(lt(index(0), add(i, -1)).get()) == "lt(1, i<10>)");
  CHECK(le(index(0), add(i, -1)) == lt(index(0), i));
  CHECK(lt(add(mul(i, 4), k), index(8)) == lt(i, index(2)));
  CHECK(lt(idiv(i, 4), index(2)) == lt(i, index(8)));
  CHECK(is_int(lt(i, index(10)), 1));
  CHECK(is_int(eq(mul(i, 2), index(3)), 0));
  CHECK(is_int(both(lt(i, index(3)), lt(index(4), i)), 0));
  CHECK(both(lt(i, index(3)), lt(i, index(5))) == lt(i, index(3)));
  CHECK(min(add(i, j), add(i, 2)) == add(i, j));  // j <= 2
}

TEST_CASE("[index] under a guard") {
  using namespace ix;
  Ref i = range(12, "i"), k = range(3, "k"), o = range(14, "o");
  Ref inside = both(le(index(0), sub(i, 1)), lt(i, index(9)));
  CHECK(simplify(make(Op::Mod, {make(Op::Add, {i, index(-1)}), index(8)}), inside) == add(i, -1));
  CHECK(simplify(inside, inside) == constant(DType::Bool, int64_t{1}));
  CHECK(simplify(max(sub(i, 1), index(0)), inside) == sub(i, 1));
  CHECK(simplify(where(inside, i, index(0)), inside) == i);
  CHECK(simplify(where(inside, mod(sub(i, 1), 8), index(0))) == where(inside, sub(i, 1), index(0)));
  CHECK(simplify(i, eq(i, index(3))) == index(3));
  // A padded window: o*2 + k - 1 is a position within 0..27; flattened and taken apart again it is itself.
  Ref at = add(add(mul(o, 2), k), -1);
  Ref valid = both(le(index(0), at), lt(at, index(28)));
  Ref row = range(5, "r"), flat = add(mul(row, 28), at);
  CHECK(simplify(mod(flat, 28), valid) == at);
  CHECK(simplify(idiv(flat, 28), valid) == row);
  CHECK(simplify(lt(at, index(30)), valid) == constant(DType::Bool, int64_t{1}));
}

TEST_CASE("[index] values that may be anything are not moved about") {
  using namespace ix;
  Ref loaded = make(Op::Scalar, {}, {.ints = {fresh_id()}}, DType::I64);  // stands for a loaded index
  Ref far = add(loaded, 1);
  CHECK(idiv(mul(loaded, 2), 2) != loaded);  // 2*x may overflow
  CHECK(text(lt(far, index(5)).get()) != text(lt(loaded, index(4)).get()));
  CHECK(simplify(lt(loaded, index(9)), lt(loaded, index(5))) == constant(DType::Bool, int64_t{1}));
  Ref inside = both(le(index(0), loaded), lt(loaded, index(8)));
  CHECK(simplify(make(Op::Mod, {loaded, index(8)}), inside) == loaded);
}

TEST_CASE("[index] values at the ends of i64 wrap as they did") {
  std::mt19937_64 random(5);
  auto pick = [&](size_t n) { return static_cast<size_t>(random() % n); };
  auto extreme = [&] {
    static constexpr int64_t ends[] = {INT64_MIN,        INT64_MAX,          0, 1, -1, 2, 3, -4,
                                       int64_t{1} << 62, -(int64_t{1} << 40)};
    return ends[pick(10)];
  };
  static constexpr Op ops[] = {Op::Add, Op::Sub, Op::Mul, Op::IDiv, Op::Mod, Op::Min,
                               Op::Max, Op::Lt,  Op::Le,  Op::Eq,   Op::Ne};
  for (int round = 0; round < 3000; round++) {
    std::unordered_map<const Node*, Value> values;
    std::vector<Ref> pool;
    for (int leaf = 0; leaf < 3; leaf++) {
      pool.push_back(make(Op::Scalar, {}, {.ints = {fresh_id()}}, DType::I64));
      values[pool.back().get()] = from_int(DType::I64, pick(3) ? extreme() : static_cast<int64_t>(random()));
    }
    auto value = [&](const Ref& root) {
      for (const Node* n : topological(std::span(&root, 1))) {
        if (values.count(n) && !n->is_const()) continue;
        Value v[3];
        for (size_t s = 0; s < n->src.size(); s++) v[s] = values.at(n->src[s].get());
        values[n] = n->is_const() ? value_of(*n) : apply(n->op, n->dtype, DType::I64, v);
      }
      return values.at(root.get());
    };
    std::vector<Ref> kept;  // nodes named in `values` stay alive
    for (int step = 0; step < 12; step++) {
      auto source = [&] { return pick(3) ? pool[pick(pool.size())] : index(extreme()); };
      Ref e = make(ops[pick(11)], {source(), source()}), s = ix::simplify(e);
      kept.insert(kept.end(), {e, s});
      INFO(text(e.get()) << " as " << text(s.get()));
      REQUIRE(value(e) == value(s));
      if (e->dtype == DType::I64) pool.push_back(e);
    }
  }
}
