// Rules: each one against evaluation bit for bit, rows of (before, after), the driver's budget and switches.
#include "graph/rules/rules.h"

#include <cmath>
#include <cstdlib>
#include <random>
#include <set>
#include <unordered_map>

#include "backends/interp/evaluate_graph.h"
#include "base/file.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "graph/verify.h"
#include "tests/catch.h"
#include "tests/dtypes.h"
#include "tests/project_root.h"
#include "tests/random_graph.h"

using namespace kontor;

namespace {

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

  DType any_dtype() {
    return every_dtype[static_cast<size_t>(source_.pick(static_cast<int64_t>(every_dtype.size())))];
  }

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

/// The left side of a rule of the index algebra, over Ranges and constants.
class IndexInstance {
 public:
  IndexInstance(const Pattern& pattern, Source& source) : pattern_(pattern), source_(source) {}

  Ref run() {
    const PatternItem& item = pattern_.items[at_++];
    if (item.kind == PatternItem::Number) return index(static_cast<int64_t>(item.number));
    if (item.kind == PatternItem::Var) return variable(item);
    std::vector<Ref> sources;
    for (int s = 0; s < item.arity; s++) sources.push_back(run());
    return make(item.op, std::move(sources));
  }

 private:
  const Pattern& pattern_;
  Source& source_;
  int at_ = 0;
  Ref bound_[variable_count];

  Ref variable(const PatternItem& item) {
    static constexpr int64_t constants[] = {1, 2, 3, 4, 6, 8, 12, 24, -1, -2, -3, -8, 5, 7, 9, 16};
    Ref& r = bound_[item.var];
    if (r) return r;
    if (item.of == VarClass::Constant) return r = index(constants[source_.pick(16)]);
    if (item.of == VarClass::Bool) return r = make(Op::Scalar, {}, {.ints = {fresh_id()}}, DType::Bool);
    return r = ix::range(2 + source_.pick(9), "r");
  }
};

/// A random chain of ops that move elements, from a buffer or a constant.
class MovedGraph {
 public:
  explicit MovedGraph(uint64_t seed) : source_(seed) {
    dtype_ = source_.pick(3) ? DType::F32 : DType::I32;
    std::vector<Ref> dims;
    for (int64_t a = source_.pick(4); a > 0; a--) dims.push_back(index(1 + source_.pick(4)));
    node_ = source_.pick(4) ? buffer(dims) : full(*constant_of(dtype_, number()), dims);
    for (int64_t steps = 1 + source_.pick(7); steps > 0; steps--) step();
  }
  const Ref& node() const { return node_; }

  Array array(const Node& b) {
    Array a = Array::make(b.dtype, static_shape(b));
    for (int64_t e = 0; e < a.size(); e++) a.set(e, source_.value(b.dtype));
    return a;
  }

 private:
  Source source_;
  DType dtype_;
  Ref node_;

  Value number() { return source_.pick(2) ? Value{} : source_.value(dtype_); }
  Ref buffer(const std::vector<Ref>& dims) {
    return make(Op::Buffer, dims, {.ints = {fresh_id(), 0}}, dtype_);
  }
  int64_t dim(size_t axis) const { return node_->shape[axis]->at(0); }
  size_t axis() { return static_cast<size_t>(source_.pick(static_cast<int64_t>(node_->rank()))); }
  std::vector<Ref> with(std::vector<Ref> more) const {
    more.insert(more.begin(), node_);
    return more;
  }

  void step() {
    if (node_->rank() == 0 || source_.pick(6) == 0) return reshape();
    switch (source_.pick(11)) {
      case 0:  return permute();
      case 1:  return expand();
      case 2:  return flip();
      case 3:
      case 4:  return shrink();
      case 5:
      case 6:  return pad();
      case 7:  return window();
      case 8:  return reduce();
      case 9:  return put();
      default: node_ = make(source_.pick(2) ? Op::Copy : Op::Neg, {node_});
    }
  }

  void reshape() {
    std::vector<Ref> dims = node_->shape;
    if (dims.empty() || source_.pick(3) == 0) dims.insert(dims.begin(), index(1));
    else if (size_t a = axis(); dim(a) == 4) dims[a] = index(2), dims.insert(dims.begin(), index(2));
    else if (a + 1 < dims.size())
      dims[a] = ix::mul(dims[a], dims[a + 1]), dims.erase(dims.begin() + static_cast<ptrdiff_t>(a) + 1);
    if (dims.size() <= 5) node_ = make(Op::Reshape, with(dims));
  }

  void permute() {
    std::vector<int64_t> order;
    for (size_t a = 0; a < node_->rank(); a++) order.push_back(static_cast<int64_t>(a));
    if (source_.pick(4)) std::swap(order[axis()], order[axis()]);
    node_ = make(Op::Permute, {node_}, {.ints = order});
  }

  void expand() {
    std::vector<Ref> dims = node_->shape;
    for (size_t a = 0; a < dims.size(); a++)
      if (dim(a) == 1 && source_.pick(2)) dims[a] = index(1 + source_.pick(3));
    node_ = make(Op::Expand, with(dims));
    if (source_.pick(3) == 0) expand();
  }

  void flip() {
    std::vector<int64_t> axes;
    for (size_t a = 0; a < node_->rank(); a++)
      if (source_.pick(2)) axes.push_back(static_cast<int64_t>(a));
    node_ = make(Op::Flip, {node_}, {.ints = axes});
  }

  void shrink() {
    std::vector<Ref> boxes;
    bool all = source_.pick(4) == 0;
    for (size_t a = 0; a < node_->rank(); a++) {
      int64_t begin = all ? 0 : source_.pick(dim(a)), size = all ? dim(a) : 1 + source_.pick(dim(a) - begin);
      boxes.push_back(index(begin));
      boxes.push_back(index(size));
    }
    node_ = make(Op::Shrink, with(boxes));
  }

  void pad() {
    std::vector<Ref> more{constant_of(dtype_, number())};
    bool nothing = source_.pick(4) == 0;
    size_t only = source_.pick(2) ? axis() : node_->rank();
    for (size_t a = 0; a < node_->rank(); a++) {
      bool none = nothing || dim(a) > 6 || (only < node_->rank() && a != only);
      for (int side = 0; side < 2; side++) more.push_back(index(none ? 0 : source_.pick(2)));
    }
    node_ = make(Op::Pad, with(more));
  }

  void window() {
    size_t a = axis();
    int64_t k = 1 + source_.pick(2), dilation = 1 + source_.pick(2), stride = 1 + source_.pick(2);
    if (dim(a) < (k - 1) * dilation + 1 || node_->rank() > 4) return;
    Ref extent = node_->shape[a];
    node_ = make(Op::Window, {node_}, {.ints = {static_cast<int64_t>(a), stride, dilation, k}});
    if (source_.pick(2)) node_ = make(Op::Unwindow, {node_, extent}, node_->arg);
  }

  void reduce() {
    std::vector<int64_t> ints{source_.pick(4)};
    for (size_t a = 0; a < node_->rank(); a++)
      if (dim(a) == 1 || source_.pick(4) == 0) ints.push_back(static_cast<int64_t>(a));
    node_ = make(Op::Reduce, {node_}, {.ints = ints});
  }

  void put() {
    std::vector<Ref> more{buffer(node_->shape)};
    for (size_t a = 0; a < node_->rank(); a++) more.push_back(index(0));
    node_ = make(Op::Put, with(more));
  }
};

}  // namespace

TEST_CASE("[rules] every rule on values keeps every bit, in every dtype") {
  Source source(7);
  for (const RuleTable& table : rule_tables()) {
    for (const Rule& rule : table.rules) {
      if (movement(rule) || table.name == "index") continue;
      bool hit = false;
      for (DType d : every_dtype) hit |= fuzz(rule, d, source, 300);
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

TEST_CASE("[rules] what the index algebra says of itself is what it does") {
  Source source(3);
  for (const Rule& rule : index_rules()) {
    bool hit = false;
    for (int round = 0; round < 400; round++) {
      Ref before = IndexInstance(rule.left, source).run(), after;
      Match m;
      if (!match(rule.left, *before, m) || (rule.when && !rule.when(m))) continue;
      after = instantiate(rule.right, m);
      hit = true;
      INFO(rule.name << "\n" << print(make_graph({before})) << print(make_graph({after})));
      REQUIRE(ix::simplify(before) == ix::simplify(after));
    }
    INFO(rule.name);
    CHECK(hit);
  }
}

TEST_CASE("[rules] random graphs of moved elements keep every bit, and every rule on them is used") {
  RewriteStatistics statistics;
  for (uint64_t seed = 0; seed < 1500; seed++) {
    MovedGraph random(seed);
    Graph before = make_graph({random.node()}), after = before;
    after.outputs = canonical(before.outputs, &statistics);
    std::vector<Array> inputs;
    for (const Ref& b : before.inputs) inputs.push_back(random.array(*b));
    INFO("seed " << seed << "\n" << print(before) << print(after));
    Array x = evaluate_graph(before, inputs).outputs[0], y = evaluate_graph(after, inputs).outputs[0];
    REQUIRE(x.shape == y.shape);
    for (int64_t e = 0; e < x.size(); e++) REQUIRE(same(x.dtype, x.get(e), y.get(e)));
    REQUIRE(canonical(after.outputs) == after.outputs);
  }
  for (const Rule& rule : movement_rules()) {
    INFO(rule.name);
    CHECK(statistics.hits[&rule] > 0);
  }
}

TEST_CASE("[rules] random graphs of all ops keep every bit") {
  for (uint64_t seed = 1; seed <= 400; seed++) {
    Case c = random_case(seed);
    Graph after = c.graph;
    after.outputs = canonical(c.graph.outputs);
    INFO("seed " << seed << "\n" << print(c.graph) << print(after));
    REQUIRE(verify(after).empty());
    Evaluation x = evaluate_graph(c.graph, c.inputs, scalars_of(c.graph)),
               y = evaluate_graph(after, c.inputs, scalars_of(after));
    REQUIRE(x.error == y.error);
    for (size_t o = 0; o < x.outputs.size(); o++)
      for (int64_t e = 0; e < x.outputs[o].size(); e++)
        REQUIRE(same(x.outputs[o].dtype, x.outputs[o].get(e), y.outputs[o].get(e)));
  }
}

static std::string canonical_text(const std::string& text) {
  Graph g = parse_graph(text);
  return print(make_graph(canonical(g.outputs)));
}

TEST_CASE("[rules] before and after") {
  // clang-format off
  static const char* rows[][2] = {
      {"%0 = buffer f32[4]\n%1 = neg f32[4] %0\n%2 = neg f32[4] %1\nreturn %2", "%0 = buffer f32[4]\nreturn %0"},
      {"%0 = buffer f32[4]\n%1 = reshape f32[1] 0.0 1\n%2 = expand f32[4] %1 4\n%3 = add f32[4] %0 %2\nreturn %3",
       "%0 = buffer f32[4]\n%1 = reshape f32[1] 0.0 1\n%2 = expand f32[4] %1 4\n%3 = add f32[4] %0 %2\nreturn %3"},
      {"%0 = buffer f32[4]\n%1 = reshape f32[1] 0.0 1\n%2 = expand f32[4] %1 4\n%3 = sub f32[4] %0 %2\nreturn %3",
       "%0 = buffer f32[4]\nreturn %0"},
      {"%0 = buffer f32[4]\n%1 = mul f32[4] %0 %0\n%2 = reshape f32[2, 2] %1 2 2\n%3 = reshape f32[4] %2 4\nreturn %3",
       "%0 = buffer f32[4]\n%1 = mul f32[4] %0 %0\nreturn %1"},
      {"%0 = buffer f32[2, 3]\n%1 = permute f32[3, 2] {1, 0} %0\n%2 = permute f32[2, 3] {1, 0} %1\nreturn %2",
       "%0 = buffer f32[2, 3]\nreturn %0"},
      {"%0 = buffer i32[4]\n%1 = cast i64[4] %0\n%2 = cast i16[4] %1\nreturn %2",
       "%0 = buffer i32[4]\n%1 = cast i16[4] %0\nreturn %1"},
      {"%0 = buffer f32[4]\n%1 = cast f16[4] %0\n%2 = cast f32[4] %1\nreturn %2",
       "%0 = buffer f32[4]\n%1 = cast f16[4] %0\n%2 = cast f32[4] %1\nreturn %2"},
      {"%0 = buffer i32[4]\n%1 = cast f32[4] %0\n%2 = cast f64[4] %1\nreturn %2",
       "%0 = buffer i32[4]\n%1 = cast f32[4] %0\n%2 = cast f64[4] %1\nreturn %2"},
      {"%0 = buffer f32[8]\n%1 = shrink f32[4] %0 2 4\n%2 = shrink f32[2] %1 1 2\nreturn %2",
       "%0 = buffer f32[8]\n%1 = shrink f32[2] %0 3 2\nreturn %1"},
      {"%0 = buffer f32[8]\n%1 = pad f32[12] %0 0.0 2 2\n%2 = shrink f32[8] %1 2 8\nreturn %2",
       "%0 = buffer f32[8]\nreturn %0"},
  };
  // clang-format on
  for (auto& row : rows) {
    auto graph = [](std::string body) {
      for (size_t at = 0; (at = body.find('\n', at)) != std::string::npos; at += 3)
        body.replace(at, 1, "\n  ");
      return "graph\n  " + body + "\n";
    };
    CHECK(canonical_text(graph(row[0])) == print(parse_graph(graph(row[1]))));
  }
}

TEST_CASE("[rules] a rule that loops is named") {
  using namespace kontor::pattern;
  static constexpr Rule swap("swap", x - y, -(y - x)), fine("fine", -(-x), x);
  static constexpr Rule back("back", -(x - y), y - x);
  const Rule table[] = {fine, swap, back};
  std::span<const Rule> tables[] = {table};
  Ref a = make(Op::Scalar, {}, {.ints = {fresh_id()}}, DType::F32);
  Ref b_ = make(Op::Scalar, {}, {.ints = {fresh_id()}}, DType::F32);
  Ref roots[] = {make(Op::Sub, {a, b_})};
  REQUIRE_THROWS_WITH(rewrite(roots, RuleSet(tables)), Catch::Matchers::Contains("rule 'swap' fired"));
}

TEST_CASE("[rules] a million nodes are rewritten without recursion") {
  Ref x = make(Op::Buffer, {index(4)}, {.ints = {fresh_id(), 0}}, DType::F32), y = x;
  for (int i = 0; i < 1000000; i++) x = make(Op::Neg, {x});
  Ref roots[] = {x};
  REQUIRE(canonical(roots)[0] == y);
}

TEST_CASE("[rules] KONTOR_RULE_OFF leaves rules out") {
  using namespace kontor::pattern;
  static constexpr Rule table[] = {{"neg.neg", -(-x), x}};
  std::span<const Rule> tables[] = {table};
  setenv("KONTOR_RULE_OFF", "other,neg.neg", 1);
  RuleSet without(tables);
  unsetenv("KONTOR_RULE_OFF");
  CHECK(without.of(Op::Neg).empty());
  CHECK(RuleSet(tables).of(Op::Neg).size() == 1);
}

TEST_CASE("[rules] what is not bound on the left is refused, and names are unique") {
  using namespace kontor::pattern;
  static_assert(is_bound(x + y, y) && !is_bound(x + y, z));  // Rule's consteval constructor asks this
  std::set<std::string_view> names;
  for (const RuleTable& t : rule_tables())
    for (const Rule& r : t.rules) CHECK(names.insert(r.name).second);
  CHECK(find_rule("cast.cast") != nullptr);
  CHECK(find_rule("nothing") == nullptr);
}

TEST_CASE("[rules] docs/rules.md is what the tables say") {
  std::string root = project_root();
  if (root.empty()) KONTOR_SKIP("the project's source is not here");
  std::string path = root + "/docs/rules.md";
  if (std::getenv("KONTOR_UPDATE_GOLDEN")) write_file(path, rules_markdown());
  INFO("KONTOR_UPDATE_GOLDEN=1 renews docs/rules.md");
  CHECK(read_file(path) == rules_markdown());
}
