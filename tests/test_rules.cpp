// Rules: each one against evaluation bit for bit, rows of (before, after), the driver's budget and switches.
#include "graph/rules.h"

#include <cmath>
#include <cstdlib>
#include <random>
#include <set>

#include "backends/interp/evaluate_graph.h"
#include "base/file.h"
#include "graph/index.h"
#include "graph/text.h"
#include "tests/catch.h"

using namespace kontor;

namespace {

constexpr DType all_dtypes[] = {DType::Bool,   DType::U8,     DType::I8,   DType::U16, DType::I16,
                                DType::U32,    DType::I32,    DType::U64,  DType::I64, DType::F16,
                                DType::F8E4M3, DType::F8E5M2, DType::BF16, DType::F32, DType::F64};

/// Random scalars, mostly those at which arithmetic is odd.
class Source {
 public:
  explicit Source(uint64_t seed) : random_(seed) {}
  int64_t pick(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  Value value(DType d) {
    int bits = row(d).bits;
    uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    if (d == DType::Bool) return {static_cast<uint64_t>(pick(2))};
    if (pick(8) == 0) return {random_() & mask};
    if (!is_float(d)) {
      static constexpr int64_t odd[] = {0, 0, 1, 1, -1, 2, 3, 4, 7, 8, 31, 63, 64, 65, INT32_MAX, INT64_MIN};
      if (pick(6) == 0) return {((mask >> pick(2)) + static_cast<uint64_t>(pick(2))) & mask};
      return from_int(d, odd[pick(16)]);
    }
    static const double odd[] = {0.0, -0.0,     1.0,       -1.0,  0.5,    2.0,  3.0,  -1.5,
                                 NAN, INFINITY, -INFINITY, 1e-45, 1e-310, 5e-8, 3e38, 0.1};
    return from_double(d, odd[pick(16)]);
  }

 private:
  std::mt19937_64 random_;
};

using Leaves = std::unordered_map<const Node*, Value>;

Value evaluate(const Ref& node, const Leaves& leaves) {
  if (node->is_const()) return value_of(*node);
  if (auto it = leaves.find(node.get()); it != leaves.end()) return it->second;
  Value v[3];
  for (size_t s = 0; s < node->src.size(); s++) v[s] = evaluate(node->src[s], leaves);
  return kontor::apply(node->op, node->dtype, node->src[node->op == Op::Where ? 1 : 0]->dtype, v);
}

bool same(DType d, Value a, Value b) {
  return a == b || (is_float(d) && std::isnan(to_double(d, a)) && std::isnan(to_double(d, b)));
}

/// The left side of a rule with random scalars for its variables: all numbers of one dtype, but below casts.
class Instance {
 public:
  Instance(const Pattern& pattern, DType dtype, Source& source)
      : pattern_(pattern), dtype_(dtype), source_(source) {}

  Ref run() { return build(dtype_); }
  const Leaves& leaves() const { return leaves_; }

 private:
  const Pattern& pattern_;
  DType dtype_;
  Source& source_;
  int at_ = 0;
  Ref bound_[variable_count];
  Leaves leaves_;

  DType any_dtype() { return all_dtypes[source_.pick(15)]; }

  Ref leaf(DType d, bool known) {
    Value v = source_.value(d);
    if (known) return constant_of(d, v);
    Ref r = make(Op::Scalar, {}, {.ints = {fresh_id()}}, d);
    leaves_[r.get()] = v;
    return r;
  }

  Ref variable(const PatternItem& item, DType wanted) {
    Ref& r = bound_[item.var];
    if (!r) r = leaf(wanted, item.of == VarClass::Constant || source_.pick(2) == 0);
    return r;
  }

  Ref build(DType wanted) {
    const PatternItem& item = pattern_.items[at_++];
    if (item.kind == PatternItem::Number) return constant_of(wanted, number_in(wanted, item.number));
    if (item.kind == PatternItem::Var)
      return variable(item, item.of == VarClass::Bool ? DType::Bool : wanted);
    DType inner = has(item.op, Comparison) ? operand_dtype() : wanted;
    if (item.op == Op::Cast) inner = pattern_.items[at_].of == VarClass::Bool ? DType::Bool : any_dtype();
    if (item.op == Op::Bitcast && inner == DType::Bool) inner = DType::U8;
    std::vector<Ref> sources;
    int arity = item.arity ? item.arity : row(item.op).arity;
    for (int s = 0; s < arity; s++) {
      DType d = item.op == Op::Where && s == 0 ? DType::Bool : inner;
      sources.push_back(item.arity ? build(d) : leaf(d, source_.pick(4) != 0));
    }
    bool given = item.op == Op::Cast || item.op == Op::Bitcast;
    return make(item.op, std::move(sources), {}, given ? wanted : DType::Void);
  }

  // A comparison of conditions, or of numbers of the chosen dtype.
  DType operand_dtype() const {
    for (int at = at_; at < pattern_.count; at++)
      if (pattern_.items[at].kind == PatternItem::Var && pattern_.items[at].of == VarClass::Bool &&
          pattern_.items[at_].op != Op::Cast)
        return DType::Bool;
    return dtype_ == DType::Bool ? DType::I32 : dtype_;
  }
};

bool movement(const Rule& rule) { return !is_elementwise(rule.left.root().op); }

/// Applies the rule to random scalars until it fits; false if it never does in this dtype.
bool fuzz(const Rule& rule, DType dtype, Source& source, int rounds) {
  bool hit = false;
  for (int i = 0; i < rounds; i++) {
    Ref before;
    Instance instance(rule.left, dtype, source);
    try {
      before = instance.run();
    } catch (const InternalError&) {
      return hit;  // the op does not take this dtype
    }
    Ref after = apply(rule, *before);
    if (!after) continue;
    hit = true;
    if (same(before->dtype, evaluate(before, instance.leaves()), evaluate(after, instance.leaves())))
      continue;
    Graph b = make_graph({before}), a = make_graph({after});
    FAIL(rule.name << " in " << name(dtype) << ":\n" << print(b) << "\n" << print(a));
  }
  return hit;
}

}  // namespace

TEST_CASE("[rules] every rule on values keeps every bit, in every dtype") {
  Source source(7);
  for (const RuleTable& table : rule_tables()) {
    for (const Rule& rule : table.rules) {
      if (movement(rule) || table.name == "index") continue;
      bool hit = false;
      for (DType d : all_dtypes) hit |= fuzz(rule, d, source, 300);
      INFO(rule.name);
      CHECK(hit);
    }
  }
}

TEST_CASE("[rules] a wrong rule is found by the fuzz") {
  using namespace kontor::pattern;
  static constexpr Rule wrong("wrong", f + 0, f);
  Source source(1);
  bool differs = false;
  for (int round = 0; round < 1000 && !differs; round++) {
    Instance instance(wrong.left, DType::F32, source);
    Ref before = instance.run(), after = apply(wrong, *before);
    differs =
        after && !same(DType::F32, evaluate(before, instance.leaves()), evaluate(after, instance.leaves()));
  }
  CHECK(differs);
}
