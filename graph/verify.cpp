// What every graph keeps, whoever made it: recording, a pass, a rule or the parser.
#include "graph/verify.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "graph/folds.h"
#include "graph/shape.h"
#include "graph/text/text.h"

namespace kontor {

namespace {

bool distinct_axes(std::span<const int64_t> axes, size_t rank) {
  std::set<int64_t> seen;
  return std::all_of(axes.begin(), axes.end(), [&](int64_t a) {
    return a >= 0 && a < static_cast<int64_t>(rank) && seen.insert(a).second;
  });
}

std::string axes_text(std::span<const int64_t> axes) {
  std::string out;
  for (int64_t a : axes) out += fmt::format("{}{}", out.empty() ? "" : ", ", a);
  return out;
}

std::string of_level(const Node& n) {
  bool tree = row(n.op).group == OpClass::Value || row(n.op).group == OpClass::Statement ||
              n.op == Op::Range || n.op == Op::Slot;
  return tree ? "is an op of loop trees" : "";
}

// What was remembered when the node was made is what its sources say now.
std::string of_derivation(const Node& n) {
  Derived d = derive(n.op, n.src, n.arg, n.dtype);
  if (d.dtype != n.dtype) return fmt::format("its dtype should be {}", name(d.dtype));
  return d.shape() == n.shape ? "" : fmt::format("its shape should be {}", describe_shape(d.shape()));
}

std::string of_dimensions(const Node& n) {
  for (const Ref& d : n.shape) {
    if (d->dtype != DType::I64 || d->rank() != 0) return fmt::format("a dimension is {}", describe(*d));
    if (d->bounds.hi < 0) return fmt::format("a dimension is at most {}", d->bounds.hi);
    for (const Node* part : topological(std::span(&d, 1)))
      if (!is_elementwise(part->op) && !part->is_const() && part->op != Op::Variable)
        return fmt::format("a dimension is made of {}", row(part->op).name);
  }
  return "";
}

std::string of_permute(const Node& n) {
  if (n.op != Op::Permute) return "";
  bool fits = n.arg.ints.size() == n.rank() && distinct_axes(n.arg.ints, n.rank());
  return fits ? "" : fmt::format("order {} is no permutation of {} axes", axes_text(n.arg.ints), n.rank());
}

std::string of_axes(const Node& n) {
  std::span<const int64_t> axes = n.arg.ints;
  if (row(n.op).group == OpClass::Reduce && !axes.empty()) axes = axes.subspan(1);
  if (n.op == Op::Window || n.op == Op::Unwindow) axes = axes.first(std::min<size_t>(1, axes.size()));
  if (n.op != Op::Flip && row(n.op).group != OpClass::Reduce && n.op != Op::Gather && n.op != Op::Window &&
      n.op != Op::Unwindow)
    return "";
  size_t rank = n.src[0]->rank();
  return distinct_axes(axes, rank) ? "" : fmt::format("axes {} of {} axes", axes_text(axes), rank);
}

std::string of_window(const Node& n) {
  if (n.op != Op::Window && n.op != Op::Unwindow) return "";
  size_t count = n.op == Op::Window ? 4 : 3;
  if (n.arg.ints.size() < count) return "needs axis, stride, dilation and, of a window, size";
  for (size_t i = 1; i < count; i++)
    if (n.at(i) < 1) return fmt::format("stride, dilation or size is {}: each must be at least 1", n.at(i));
  if (n.op == Op::Unwindow && (n.at(0) + 1 >= static_cast<int64_t>(n.rank()))) return "has no axis of taps";
  return "";
}

std::string of_fold(const Node& n) {
  if (row(n.op).group != OpClass::Reduce && n.op != Op::Scatter) return "";
  bool known = !n.arg.ints.empty() && is_fold_code(n.at(0));
  if (!known) return "names no fold";
  const bool one_part = n.op == Op::Reduce || may_scan(fold_in(n));
  return one_part ? "" : "has a fold that only a reduce may have";
}

std::string of_boxes(const Node& n) {
  if (n.op != Op::Pad && n.op != Op::Shrink) return "";
  size_t first = n.op == Op::Pad ? 2 : 1;
  for (size_t s = first; s < n.src.size(); s++) {
    if (n[s]->dtype != DType::I64 || n[s]->rank() != 0)
      return fmt::format("source {} is {}", s, describe(*n[s]));
    if (n[s]->bounds.hi < 0) return fmt::format("source {} is at most {}", s, n[s]->bounds.hi);
  }
  for (size_t a = 0; n.op == Op::Shrink && a < n.rank(); a++) {
    const Bounds begin = n[1 + 2 * a]->bounds, size = n[2 + 2 * a]->bounds, whole = n[0]->shape[a]->bounds;
    if (begin.lo > 0 && size.lo > 0 && begin.lo > whole.hi - size.lo)
      return fmt::format("axis {}: {} elements from {} are not in {}", a, size.lo, begin.lo, whole.hi);
  }
  return "";
}

std::string of_constant(const Node& n) {
  if (!n.is_const()) return "";
  if (n.arg.ints.size() != 1) return "has no value";
  Bounds b = dtype_bounds(n.dtype);
  bool holds = is_float(n.dtype) || (n.at(0) >= b.lo && n.at(0) <= b.hi);
  return holds ? "" : fmt::format("{} is not a value of {}", n.at(0), name(n.dtype));
}

std::string of_identity(const Node& n) {
  bool needs = n.op == Op::Buffer || n.op == Op::Scalar || n.op == Op::Variable || n.op == Op::Mark;
  return needs && n.arg.ints.empty() ? "has no identity" : "";
}

std::string of_call(const Node& n) {
  if (n.op == Op::Call && n.arg.text.empty()) return "has no name";
  return "";
}

// clang-format off
constexpr NodeCheck checks[] = {
    {"level",           "no op of loop trees stands in a graph",                                of_level},
    {"derivation",      "dtype and shape are those that follow from the sources",               of_derivation},
    {"dimensions",      "dimensions are i64 expressions of constants and Variables, not negative", of_dimensions},
    {"permute.order",   "a permutation names each axis once",                                   of_permute},
    {"axes",            "axes are distinct and exist",                                          of_axes},
    {"window",          "stride, dilation and size of a window are at least 1",                 of_window},
    {"fold",            "a reduction names a fold",                                             of_fold},
    {"boxes",           "what is padded or kept is given in i64, not negative, and inside",     of_boxes},
    {"constant",        "a constant is a value of its dtype",                                   of_constant},
    {"identity",        "a leaf has an identity",                                               of_identity},
    {"call",            "a call has a name",                                                    of_call},
};
// clang-format on

void verify_lists(const Graph& g, std::vector<std::string>& mistakes) {
  if (g.target.size() != g.outputs.size())
    mistakes.push_back(fmt::format("targets: {} for {} outputs", g.target.size(), g.outputs.size()));
  for (size_t o = 0; o < std::min(g.target.size(), g.outputs.size()); o++) {
    int t = g.target[o];
    if (t < 0) continue;
    if (t >= static_cast<int>(g.inputs.size())) {
      mistakes.push_back(fmt::format("targets: output {} goes to input {} of {}", o, t, g.inputs.size()));
      continue;
    }
    const Node &from = *g.outputs[o], &to = *g.inputs[static_cast<size_t>(t)];
    if (from.dtype != to.dtype || from.shape != to.shape)
      mistakes.push_back(
          fmt::format("targets: output {} is {}, its target {}", o, describe(from), describe(to)));
  }
  for (const Node* n : topological(g.outputs)) {
    auto listed = [&](const std::vector<Ref>& list) {
      return std::any_of(list.begin(), list.end(), [&](const Ref& r) { return r.get() == n; });
    };
    if (n->op == Op::Buffer && !listed(g.inputs)) mistakes.push_back("inputs: a buffer is not among them");
    if ((n->op == Op::Scalar || n->op == Op::Variable) && !listed(g.scalars))
      mistakes.push_back(fmt::format("scalars: a {} is not among them", row(n->op).name));
  }
}

}  // namespace

std::span<const NodeCheck> graph_checks() { return checks; }

std::vector<std::string> verify(const Graph& graph) {
  std::vector<std::string> mistakes;
  for (const Node* n : topological(graph.outputs))
    for (const NodeCheck& check : checks)
      if (std::string m = check.mistake(*n); !m.empty())
        mistakes.push_back(fmt::format("{}: {} {}: {}", check.name, row(n->op).name, describe(*n), m));
  verify_lists(graph, mistakes);
  return mistakes;
}

void require_sound(const Graph& graph, std::string_view after) {
  std::vector<std::string> mistakes = verify(graph);
  if (mistakes.empty()) return;
  std::string list;
  for (const std::string& m : mistakes) list += "\n  " + m;
  broken("the graph after {} is not sound:{}\n{}", after, list, print(make_graph(graph.outputs)));
}

}  // namespace kontor
