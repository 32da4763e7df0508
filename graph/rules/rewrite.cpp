// Matching, building right sides, and the driver of rewriting.
#include "graph/rules/rewrite.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/env.h"
#include "base/error.h"

namespace kontor {

const Node* uniform(const Node& node) {
  const Node* n = &node;
  while (n->op == Op::Expand || n->op == Op::Reshape) n = n->src[0].get();
  return n->is_const() ? n : nullptr;
}

Ref full(const Node& constant, std::span<const Ref> shape) {
  if (shape.empty()) return Ref(&constant);
  std::vector<Ref> ones{Ref(&constant)}, dims;
  ones.resize(shape.size() + 1, index(1));
  Ref reshaped = make(Op::Reshape, ones);
  if (std::equal(shape.begin(), shape.end(), reshaped->shape.begin())) return reshaped;
  dims.push_back(reshaped);
  dims.insert(dims.end(), shape.begin(), shape.end());
  return make(Op::Expand, std::move(dims));
}

// ---- matching ---------------------------------------------------------------------------------------------------

Value number_in(DType dtype, double number) {
  return is_float(dtype) ? from_double(dtype, number) : from_int(dtype, static_cast<int64_t>(number));
}

static bool fits(VarClass of, const Node& n) {
  switch (of) {
    case VarClass::Integer:  return is_integer(n.dtype);
    case VarClass::Float:    return is_float(n.dtype);
    case VarClass::Bool:     return n.dtype == DType::Bool;
    case VarClass::Constant: return uniform(n) != nullptr;
    case VarClass::Any:      return true;
  }
  return false;
}

/// One attempt, with the operands of the k-th commutative op swapped if bit k of `swaps` is set.
class Matcher {
 public:
  Matcher(const Pattern& pattern, Match& into, unsigned swaps)
      : pattern_(pattern), into_(into), swaps_(swaps) {}

  bool run(const Node& n) {
    const PatternItem& item = pattern_.items[at_++];
    if (item.kind == PatternItem::Var) return bind(item, n);
    if (item.kind == PatternItem::Number) {
      const Node* c = uniform(n);
      return c && value_of(*c) == number_in(n.dtype, item.number);
    }
    if (n.op != item.op || n.src.size() < item.arity) return false;
    bool swap = has(n.op, Commutative) && (swaps_ >> commutative_++ & 1);
    for (size_t s = 0; s < item.arity; s++)
      if (!run(*n.src[swap ? 1 - s : s])) return false;
    return true;
  }

 private:
  const Pattern& pattern_;
  Match& into_;
  unsigned swaps_;
  int at_ = 0, commutative_ = 0;

  bool bind(const PatternItem& item, const Node& n) {
    const Node*& bound = into_.bound_[item.var];
    if (bound) return bound == &n;
    if (!fits(item.of, n)) return false;
    bound = &n;
    return true;
  }
};

bool match(const Pattern& pattern, const Node& node, Match& into) {
  unsigned commutative = 0;
  for (int at = 0; at < pattern.count; at++)
    commutative += pattern.items[at].kind == PatternItem::Node && has(pattern.items[at].op, Commutative);
  for (unsigned swaps = 0; swaps < 1u << commutative; swaps++) {
    into.root = &node;
    into.bound_ = {};
    if (Matcher(pattern, into, swaps).run(node)) return true;
  }
  return false;
}

// ---- right sides ------------------------------------------------------------------------------------------------

namespace {

class Builder {
 public:
  Builder(const Pattern& pattern, const Match& match, std::span<const Node* const> bound)
      : pattern_(pattern), match_(match), bound_(bound) {}

  Ref run() {
    const PatternItem& item = pattern_.items[at_];
    if (item.kind == PatternItem::Number) return number(item, match_.root->dtype);
    return build();
  }

 private:
  const Pattern& pattern_;
  const Match& match_;
  std::span<const Node* const> bound_;
  int at_ = 0;

  Ref number(const PatternItem& item, DType dtype) {
    return full(*constant_of(dtype, number_in(dtype, item.number)), match_.root->shape);
  }

  // Null for a number, whose dtype is that of the operands beside it.
  Ref build() {
    const PatternItem& item = pattern_.items[at_++];
    if (item.kind == PatternItem::Var) return Ref(bound_[item.var]);
    if (item.kind == PatternItem::Number) return {};
    std::vector<Ref> sources;
    std::vector<const PatternItem*> numbers;
    for (int s = 0; s < item.arity; s++) {
      numbers.push_back(&pattern_.items[at_]);
      sources.push_back(build());
    }
    DType dtype = DType::Void;
    for (size_t s = item.op == Op::Where ? 1 : 0; s < sources.size(); s++)
      if (sources[s]) dtype = sources[s]->dtype;
    for (size_t s = 0; s < sources.size(); s++)
      if (!sources[s]) sources[s] = number(*numbers[s], dtype);
    return make(item.op, std::move(sources), {}, item.op == Op::Cast ? match_.root->dtype : DType::Void);
  }
};

}  // namespace

Ref instantiate(const Pattern& pattern, const Match& match) {
  return Builder(pattern, match, match.bound_).run();
}

Ref apply(const Rule& rule, const Node& node, const void* context) {
  Match m;
  m.context = context;
  if (!match(rule.left, node, m)) return {};
  if (rule.when && !rule.when(m)) return {};
  Ref out = rule.function ? rule.function(m) : instantiate(rule.right, m);
  if (!out || out.get() == &node) return {};
  if (out->dtype != node.dtype || out->shape != node.shape)
    broken("rule {} gives {} of another dtype or shape than {}", rule.name, row(out->op).name,
           row(node.op).name);
  return out;
}

// ---- the driver -----------------------------------------------------------------------------------------------------

RuleSet::RuleSet(std::span<const std::span<const Rule>> tables) {
  std::vector<std::string> off = env_list(Env::RuleOff);
  for (std::span<const Rule> table : tables)
    for (const Rule& rule : table)
      if (std::find(off.begin(), off.end(), rule.name) == off.end())
        by_op_[static_cast<size_t>(rule.left.root().op)].push_back(&rule);
}

namespace {

class Driver {
 public:
  Driver(const RuleSet& rules, const void* context, RewriteStatistics* statistics, int64_t budget)
      : rules_(rules), context_(context), statistics_(statistics), budget_(budget) {}

  Ref run(const Ref& root) {
    stack_.push_back({root, {}, false, true});
    while (!stack_.empty()) step();
    return done_.at(root.get()).result;
  }

 private:
  struct Frame {
    Ref node, next;      // next: what the node is rewritten to, which must be done first
    bool opened, given;  // given: of the graph itself, not made by a rule
  };
  struct Entry {
    Ref key, result;  // the key is held, so that no other node takes its address
  };
  const RuleSet& rules_;
  const void* context_;
  RewriteStatistics* statistics_;
  int64_t budget_, nodes_ = 0, steps_ = 0;
  NodeMap<Entry> done_;
  std::vector<Frame> stack_;
  std::unordered_map<const Rule*, int64_t> hits_;

  void finish(const Ref& node, const Ref& result) {
    done_.emplace(node.get(), Entry{node, result});
    stack_.pop_back();
  }

  void step() {
    Frame& top = stack_.back();
    Ref node = top.node;
    if (done_.contains(node.get())) return stack_.pop_back();
    if (top.next) return finish(node, done_.at(top.next.get()).result);
    if (!top.opened) {
      top.opened = true;
      bool given = top.given;
      nodes_ += given;
      for (const Ref& s : node->src)
        if (!done_.contains(s.get())) stack_.push_back({s, {}, false, given});
      return;
    }
    std::vector<Ref> sources;
    sources.reserve(node->src.size());
    for (const Ref& s : node->src) sources.push_back(done_.at(s.get()).result);
    Ref now = with_sources(*node, std::move(sources));
    Ref next = now == node ? fire(*node) : now;
    if (!next) return finish(node, node);
    top.next = next;
    stack_.push_back({next, {}, false, false});
  }

  Ref fire(const Node& node) {
    for (const Rule* rule : rules_.of(node.op)) {
      Ref out = apply(*rule, node, context_);
      if (!out) continue;
      hits_[rule]++;
      if (statistics_) statistics_->hits[rule]++;
      if (++steps_ > budget_ * nodes_ + 10000) give_up();
      return out;
    }
    return {};
  }

  [[noreturn]] void give_up() const {
    auto most =
        std::max_element(hits_.begin(), hits_.end(), [](auto& a, auto& b) { return a.second < b.second; });
    broken(
        "rewriting {} nodes does not end: rule '{}' fired {} times of {}; KONTOR_RULE_OFF={} leaves it out",
        nodes_, most->first->name, most->second, steps_, most->first->name);
  }
};

}  // namespace

std::vector<Ref> rewrite(std::span<const Ref> roots, const RuleSet& rules, const void* context,
                         RewriteStatistics* statistics, int64_t budget) {
  Driver driver(rules, context, statistics, budget);
  std::vector<Ref> out;
  for (const Ref& r : roots) out.push_back(driver.run(r));
  return out;
}

// ---- text -----------------------------------------------------------------------------------------------------------

static std::string_view infix(Op op) {
  switch (op) {
    case Op::Add:  return " + ";
    case Op::Sub:  return " - ";
    case Op::Mul:  return " * ";
    case Op::Div:  return " / ";
    case Op::IDiv: return " // ";
    case Op::Mod:  return " % ";
    case Op::And:  return " & ";
    case Op::Or:   return " | ";
    case Op::Xor:  return " ^ ";
    case Op::Shl:  return " << ";
    case Op::Shr:  return " >> ";
    case Op::Lt:   return " < ";
    case Op::Le:   return " <= ";
    case Op::Eq:   return " == ";
    case Op::Ne:   return " != ";
    default:       return {};
  }
}

static std::string print(const Pattern& p, int& at, bool inner) {
  static constexpr std::string_view names[] = {"i", "j",  "k",  "f",  "g", "h",  "x",  "y", "z",
                                               "c", "c0", "c1", "c2", "b", "b0", "b1", "b2"};
  const PatternItem& item = p.items[at++];
  if (item.kind == PatternItem::Var) return std::string(names[item.var]);
  if (item.kind == PatternItem::Number)
    return item.number == 0 && std::signbit(item.number) ? "-0.0" : fmt::format("{}", item.number);
  if (item.op == Op::Neg || item.op == Op::Not) return (item.op == Op::Neg ? "-" : "!") + print(p, at, true);
  if (std::string_view sign = infix(item.op); !sign.empty()) {
    std::string left = print(p, at, true), right = print(p, at, true);
    return inner ? fmt::format("({}{}{})", left, sign, right) : fmt::format("{}{}{}", left, sign, right);
  }
  std::string out = fmt::format("{}(", row(item.op).name);
  for (int s = 0; s < item.arity; s++) out += (s ? ", " : "") + print(p, at, false);
  return out + (is_movement(item.op) ? ", ..)" : ")");
}

std::string print(const Pattern& pattern) {
  int at = 0;
  return print(pattern, at, false);
}

}  // namespace kontor
