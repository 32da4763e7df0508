// What every loop tree keeps, whoever made it: the scheduler, a move, or the parser.
#include "codegen/tree/verify.h"

#include "codegen/tree/groups.h"

#include <algorithm>
#include <random>

#include "base/error.h"
#include "codegen/tree/text.h"
#include "graph/index/index.h"

namespace kontor {

const TreeScope::Declared* TreeScope::find(const Node* place) const {
  for (auto it = places.rbegin(); it != places.rend(); ++it)
    if (it->place == place) return &*it;
  return nullptr;
}

namespace {

std::string text(const Node& n) { return tree::print(Ref(&n)); }

bool accesses(const Node& n) {
  return n.op == Op::Load || n.op == Op::Merge || n.op == Op::Store || n.op == Op::FoldStep;
}
bool writes(const Node& n) { return n.op == Op::Store || n.op == Op::FoldStep; }
bool accesses_place(const Node& n) { return accesses(n) && !n.src.empty() && n[0]->op == Op::Place; }

// ---- rules ------------------------------------------------------------------------------------------------------------

std::string of_op(const TreeScope& scope, const Node& n) {
  if (&n == scope.statement) return is_statement(n.op) ? "" : "is a value where a statement belongs";
  OpClass group = row(n.op).group;
  bool leaf = n.op == Op::Const || n.op == Op::Range || n.op == Op::Slot;
  bool fits = leaf || group == OpClass::Elementwise || group == OpClass::Value || n.op == Op::Place;
  return fits ? "" : fmt::format("{} does not belong into a value of a tree", row(n.op).name);
}

std::string of_scalar(const TreeScope& scope, const Node& n) {
  if (&n == scope.statement || n.op == Op::Place) return "";
  return n.shape.empty() ? "" : "is an array; values of a tree are scalars";
}

std::string of_declaration(const TreeScope& scope, const Node& n) {
  if (!accesses(n)) return "";
  if (!accesses_place(n)) return "its first source is no place";
  return scope.find(n[0].get())
             ? ""
             : fmt::format("place '{}' is not declared before, or not around", n[0]->arg.text);
}

std::string of_rank(const TreeScope&, const Node& n) {
  if (!accesses_place(n)) return "";
  size_t rank = n[0]->src.size(), more = 0;
  if (n.op == Op::Load) more = n.at(0) ? 1 : 0;
  if (n.op == Op::Store) more = 1;
  if (n.op == Op::FoldStep)
    more = tree::has_fold(*n[0]) ? static_cast<size_t>(row(tree::fold_of(*n[0])).arity) : 1;
  if (n.op == Op::Merge && rank == 0) return "merges a place without dimensions";
  if (n.op == Op::Merge) rank--;
  if (n.src.size() == 1 + rank + more) return "";
  return fmt::format("has {} sources after the place; {} indexes and {} others belong to '{}'",
                     n.src.size() - 1, rank, more, n[0]->arg.text);
}

std::string of_index_dtype(const TreeScope& scope, const Node& n) {
  if (!accesses_place(n) || !of_rank(scope, n).empty()) return "";
  for (const Ref& i : tree::at(n))
    if (!is_integer(i->dtype)) return fmt::format("an index is {}", name(i->dtype));
  if (n.op == Op::Load && n.at(0) && n.src.back()->dtype != DType::Bool) return "its guard is not bool";
  return "";
}

std::string of_value_dtype(const TreeScope& scope, const Node& n) {
  if (!writes(n) || !accesses_place(n) || !of_rank(scope, n).empty()) return "";
  if (n.op == Op::FoldStep && !tree::has_fold(*n[0])) return "steps a place without a fold";
  const DType place = n[0]->dtype;
  if (n.op == Op::Store && tree::parts(*n[0]) > 1) return "stores one value where a fold's state has parts";
  for (size_t i = 0; i < tree::values(n).size(); i++) {
    const Ref& v = tree::values(n)[i];
    const DType wanted = n.op == Op::Store ? place : value_dtype(tree::fold_of(*n[0]), place, i);
    if (v->dtype != wanted) return fmt::format("writes {} to a place of {}", name(v->dtype), name(place));
  }
  return "";
}

std::string of_merge(const TreeScope&, const Node& n) {
  if (n.op != Op::Merge || !accesses_place(n) || n[0]->src.empty()) return "";
  if (!tree::has_fold(*n[0])) return "merges a place without a fold";
  if (!row(tree::fold_of(*n[0])).splits) return "merges a place whose fold joins no partial results";
  const Ref& last = n[0]->src.back();
  bool power = last->is_const() && last->at(0) > 0 && (last->at(0) & (last->at(0) - 1)) == 0;
  return power ? "" : "merges a dimension that is no constant power of two";
}

std::string of_range(const TreeScope& scope, const Node& n) {
  if (n.op != Op::Range) return "";
  bool around = std::any_of(scope.loops.begin(), scope.loops.end(),
                            [&](const Node* l) { return l->src[0].get() == &n; });
  return around ? "" : fmt::format("loop '{}' is not around", n.arg.text);
}

std::string of_condition(const TreeScope&, const Node& n) {
  if (n.op != Op::If && n.op != Op::Check) return "";
  if (n.src.empty() || n[0]->dtype != DType::Bool) return "its condition is not bool";
  if (n.op == Op::Check && n.at(0) < 1) return "its id is below 1";
  if (n.op == Op::Check && (n.src.size() != 2 || n[1]->dtype != DType::I64))
    return "its error word is not i64";
  bool fits = n.op == Op::Check || (n.at(0) >= 0 && n.at(0) < static_cast<int64_t>(n.src.size()));
  return fits ? "" : "its first branch has more statements than there are";
}

std::string of_loop(const TreeScope& scope, const Node& n) {
  if (n.op != Op::Loop) return "";
  if (n.src.empty() || n[0]->op != Op::Range) return "has no range";
  if (of_range(scope, *n[0]).empty()) return "runs a range that a loop around it runs";
  LoopKind kind = tree::kind(n);
  int64_t w = tree::width(n);
  if (kind == LoopKind::Unroll && !n[0]->src[0]->is_const())
    return "is unrolled, but its extent is no constant";
  if (kind == LoopKind::Vector && (w < 1 || (w & (w - 1)) != 0)) return fmt::format("has width {}", w);
  bool parallel = kind == LoopKind::Thread || kind == LoopKind::Global;
  if (kind == LoopKind::Lane) {
    if (!n[0]->src[0]->is_const()) return "has lanes, but its extent is no constant";
    if (!scope.loops.empty() && tree::kind(*scope.loops.front()) == LoopKind::Thread)
      return "has lanes in a thread of a CPU";
  }
  for (const Node* outer : scope.loops) {
    LoopKind around = tree::kind(*outer);
    if (around == LoopKind::Vector && kind == LoopKind::Vector) return "is a vector loop in a vector loop";
    if (around == LoopKind::Lane) return "is a loop in the lanes of another";
    if (parallel && around != LoopKind::Thread && around != LoopKind::Global)
      return "is parallel inside a serial loop";
  }
  return "";
}

std::string of_groups(const TreeScope&, const Node& n) {
  if (n.op != Op::Kernel) return "";
  const Groups groups = groups_of(n);
  const Ref root(&n);
  const auto nodes = topological(std::span(&root, 1));
  const bool shares = std::ranges::any_of(
      nodes, [](const Node* p) { return p->op == Op::Place && tree::space(*p) == Space::Shared; });
  return groups.mistake.empty() && shares && groups.threads == 1 ? "a place is shared, and no loop is"
                                                                 : groups.mistake;
}

std::string of_parameters(const TreeScope&, const Node& n) {
  if (n.op != Op::Kernel) return "";
  int64_t number = 0;
  for (const Ref& p : tree::params(n)) {
    if (p->op != Op::Place || tree::space(*p) != Space::Param)
      return "has a parameter that is no parameter place";
    if (tree::param_number(*p) != number++) return fmt::format("parameter '{}' is out of order", p->arg.text);
  }
  return "";
}

// Whether what is written to a place in the loop depends on the loop's index.
bool varies_in(const Node& loop, const Node* place) {
  const std::vector<const Node*> nodes = topological(tree::body(loop));
  return std::any_of(nodes.begin(), nodes.end(), [&](const Node* n) {
    return (n->op == Op::FoldStep || n->op == Op::Store) && n->src[0].get() == place &&
           std::any_of(n->src.begin() + 1, n->src.end(),
                       [&](const Ref& s) { return ix::depends_on(s, loop.src[0]); });
  });
}

// Whether a value is of one iteration: it has the loop's index, or what a place that is declared in loop number `l`, and made of
// it, has come to.
bool is_of_iteration(const TreeScope& scope, const Ref& value, size_t l) {
  if (ix::depends_on(value, scope.loops[l]->src[0])) return true;
  const std::vector<const Node*> nodes = topological(std::span(&value, 1));
  return std::any_of(nodes.begin(), nodes.end(), [&](const Node* n) {
    const TreeScope::Declared* place = n->op == Op::Load ? scope.find(n->src[0].get()) : nullptr;
    return place && place->loops > l && varies_in(*scope.loops[l], n->src[0].get());
  });
}

// A Store in a loop that its indexes do not mention writes one element many times.
std::string of_writer(const TreeScope& scope, const Node& n) {
  if (n.op != Op::Store || !accesses_place(n)) return "";
  const TreeScope::Declared* declared = scope.find(n[0].get());
  if (!declared) return "";
  for (size_t l = declared->loops; l < scope.loops.size(); l++) {
    const Ref& range = scope.loops[l]->src[0];
    if (range->src[0]->bounds.hi <= 1) continue;  // one iteration at most
    auto mentions = [&](const Ref& e) { return is_of_iteration(scope, e, l); };
    std::span<const Ref> at = tree::at(n);
    bool once = std::any_of(at.begin(), at.end(), mentions) ||
                std::any_of(scope.conditions.begin(), scope.conditions.end(),
                            [&](auto& c) { return mentions(c.first); });
    if (!once) return fmt::format("writes one element in each iteration of '{}'", range->arg.text);
  }
  return "";
}

// ---- indexes at points of their loops -----------------------------------------------------------------------------------

bool is_static(const Ref& e) {
  for (const Node* n : topological(std::span(&e, 1)))
    if (n->op == Op::Load || n->op == Op::Merge || n->op == Op::Slot || is_float(n->dtype)) return false;
  return true;
}

using Point = NodeMap<int64_t>;

/// A point of the loops around, or false where some loop does not run there.
bool choose(const TreeScope& scope, std::mt19937& random, int corner, Point& point) {
  for (const Node* l : scope.loops) {
    const Ref& range = l->src[0];
    if (!is_static(range->src[0])) return false;
    int64_t extent = ix::evaluate(range->src[0], point);
    if (extent < 1) return false;
    int64_t at = corner == 0   ? 0
                 : corner == 1 ? extent - 1
                               : static_cast<int64_t>(random() % static_cast<uint64_t>(extent));
    point[range.get()] = at;
  }
  return true;
}

bool reached(const TreeScope& scope, const Node& n, const Point& point) {
  for (const auto& [condition, holds] : scope.conditions)
    if (!is_static(condition) || (ix::evaluate(condition, point) != 0) != holds) return false;
  if (n.op != Op::Load || !n.at(0)) return true;
  return is_static(n.src.back()) && ix::evaluate(n.src.back(), point) != 0;
}

std::string describe_point(const TreeScope& scope, const Point& point) {
  std::string out;
  for (const Node* l : scope.loops)
    out +=
        fmt::format("{}{} = {}", out.empty() ? " at " : ", ", l->src[0]->arg.text, point.at(l->src[0].get()));
  return out;
}

std::string outside(const TreeScope& scope, const Node& n, const Point& point) {
  std::span<const Ref> at = tree::at(n), dims = tree::dims(*n[0]);
  for (size_t i = 0; i < at.size(); i++) {
    if (!is_static(at[i]) || !dims[i]->is_const()) continue;
    int64_t index = ix::evaluate(at[i], point);
    if (index < 0 || index >= dims[i]->at(0))
      return fmt::format("index {} of '{}' is {}, outside 0..{}{}", i, n[0]->arg.text, index,
                         dims[i]->at(0) - 1, describe_point(scope, point));
  }
  return "";
}

bool proven(const Node& n) {
  std::span<const Ref> at = tree::at(n), dims = tree::dims(*n[0]);
  for (size_t i = 0; i < at.size(); i++)
    if (!dims[i]->is_const() || at[i]->bounds.lo < 0 || at[i]->bounds.hi >= dims[i]->at(0)) return false;
  return true;
}

std::string of_bounds(const TreeScope& scope, const Node& n) {
  if (!accesses_place(n) || !of_rank(scope, n).empty() || !scope.find(n[0].get()) || proven(n)) return "";
  std::mt19937 random(1);
  for (int corner = 0; corner < 24; corner++) {
    Point point;
    if (!choose(scope, random, corner, point) || !reached(scope, n, point)) continue;
    if (std::string m = outside(scope, n, point); !m.empty()) return m;
  }
  return "";
}

// clang-format off
constexpr TreeCheck checks[] = {
    {"op",            "statements hold statements, and values of scalars",                        of_op},
    {"scalar",        "values are scalars",                                                       of_scalar},
    {"declared",      "a place is declared before it is used, in a loop around the use",          of_declaration},
    {"rank",          "as many indexes as the place has dimensions, as many values as its fold takes", of_rank},
    {"index.dtype",   "indexes are integers, guards bools",                                       of_index_dtype},
    {"value.dtype",   "what is written is of the place's dtype; only a place with a fold is stepped", of_value_dtype},
    {"merge",         "what is merged has a fold that joins, and a constant power of two of elements", of_merge},
    {"range",         "a range is used inside its loop only",                                     of_range},
    {"condition",     "conditions are bools; a check's id is at least 1",                         of_condition},
    {"loop",          "unrolled extents are constant, widths powers of two, parallel loops outside, no vector loop in another", of_loop},
    {"parameters",    "parameters are numbered in order",                                         of_parameters},
    {"groups",        "the threads of a group have elements of their own, or see what others wrote", of_groups},
    {"writer",        "an element is stored once",                                                of_writer},
    {"bounds",        "what is read or written lies in its place",                                of_bounds},
};
// clang-format on

/// Walks statements in order, with what is in scope.
class Walk {
 public:
  std::vector<std::string> mistakes;

  void kernel(const Node& k) {
    scope_.statement = &k;
    check(k);
    if (k.op != Op::Kernel || !mistakes.empty()) return;
    for (const Ref& p : tree::params(k)) scope_.places.push_back({p.get(), 0});
    body(tree::body(k));
  }

 private:
  TreeScope scope_;

  void check(const Node& n) {
    for (const TreeCheck& c : checks) {
      std::string m = c.mistake(scope_, n);
      if (m.empty()) continue;
      if (mistakes.size() < 20) mistakes.push_back(fmt::format("{}: `{}`: {}", c.name, head(n), m));
      return;  // later rules rely on earlier ones
    }
  }

  static std::string head(const Node& n) {  // a loop's first line
    if (n.op == Op::Kernel) return "kernel " + n.arg.text;
    std::string all = n.op == Op::Range ? n.arg.text : n.op == Op::Place ? n.arg.text : text(n);
    return all.substr(0, std::min(all.find('\n'), size_t{160}));
  }

  void values(std::span<const Ref> roots) {
    for (const Node* n : topological(roots))
      if (n->op != Op::Place) check(*n);
  }

  void body(std::span<const Ref> statements) {
    size_t declared = scope_.places.size();
    for (const Ref& s : statements) statement(*s);
    scope_.places.resize(declared);
  }

  void statement(const Node& s) {
    scope_.statement = &s;
    check(s);
    if (!is_statement(s.op)) return;
    if (s.op == Op::Loop) return loop(s);
    if (s.op == Op::If) return branches(s);
    std::vector<Ref> inside(s.src.begin() + (writes(s) ? 1 : 0), s.src.end());
    values(inside);
    if (s.op == Op::Place && !scope_.find(&s)) scope_.places.push_back({&s, scope_.loops.size()});
  }

  void loop(const Node& s) {
    if (s.src.empty() || s[0]->op != Op::Range) return;
    values(s[0]->src);
    scope_.loops.push_back(&s);
    body(tree::body(s));
    scope_.loops.pop_back();
  }

  void branches(const Node& s) {
    values(std::span(&s.src[0], 1));
    for (bool holds : {true, false}) {
      scope_.conditions.emplace_back(s[0], holds);
      body(holds ? tree::then_body(s) : tree::else_body(s));
      scope_.conditions.pop_back();
    }
  }
};

}  // namespace

std::span<const TreeCheck> tree_checks() { return checks; }

std::vector<std::string> verify_tree(const Ref& kernel) {
  Walk walk;
  walk.kernel(*kernel);
  return walk.mistakes;
}

void require_sound_tree(const Ref& kernel, std::string_view after) {
  std::vector<std::string> mistakes = verify_tree(kernel);
  if (mistakes.empty()) return;
  std::string list;
  for (const std::string& m : mistakes) list += "\n  " + m;
  broken("the kernel after {} is not sound:{}\n{}", after, list, tree::print(kernel));
}

}  // namespace kontor
