// Printing graphs, and reading them with every check that recording would have made.
#include "graph/text/text.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "graph/folds.h"
#include "graph/index/index.h"
#include "graph/shape.h"
#include "graph/text/expression.h"
#include "graph/verify.h"

namespace kontor {

namespace {

constexpr int64_t longest_inline = 32;

// ---- printing -------------------------------------------------------------------------------------------------------

class Printer {
 public:
  std::string print(const Graph& graph) {
    std::vector<const Node*> order = topological(graph.outputs);
    for (const Node* n : order) measure(*n);
    for (const Ref& i : graph.inputs)
      for (const Node* n : topological(i->shape)) measure(*n);
    text_ = "graph\n";
    for (const Ref& s : graph.scalars) line(*s);
    for (const Ref& i : graph.inputs) line(*i);
    for (const Node* n : order)
      if (!names_.contains(n) && !is_inline(*n)) line(*n);
    text_ += "  return";
    for (size_t i = 0; i < graph.outputs.size(); i++) {
      text_ += (i ? ", " : " ") + value(*graph.outputs[i]);
      if (graph.target[i] >= 0) text_ += " -> " + value(*graph.inputs[static_cast<size_t>(graph.target[i])]);
    }
    return text_ + "\n";
  }

 private:
  std::string text_;
  std::unordered_map<const Node*, std::string> names_;
  std::unordered_map<const Node*, int64_t> length_;  // of what may stand in place, in nodes
  std::unordered_map<int64_t, size_t> marks_;
  std::unordered_set<std::string> taken_;
  int count_ = 0;

  void measure(const Node& n) {
    if (n.op == Op::Const || n.op == Op::Variable) {
      length_[&n] = 1;
      return;
    }
    if (!is_elementwise(n.op) || n.rank() > 0 || (n.dtype != DType::I64 && n.dtype != DType::Bool)) return;
    int64_t total = 1;
    for (const Ref& s : n.src) {
      auto it = length_.find(s.get());
      if (it == length_.end()) return;
      total += it->second;
    }
    if (total <= longest_inline) length_[&n] = total;
  }

  bool is_inline(const Node& n) const { return n.op != Op::Variable && length_.contains(&n); }

  std::string expression(const Node& n) const {
    return print_expression(n, [this](const Node& k) {
      auto it = names_.find(&k);
      return it == names_.end() ? std::string() : it->second;
    });
  }

  std::string value(const Node& n) const {
    if (auto it = names_.find(&n); it != names_.end()) return it->second;
    std::string text = expression(n);
    return n.is_const() ? text : "(" + text + ")";
  }

  std::string shape(const Node& n) {
    std::string dims;
    for (const Ref& d : n.shape) {
      for (const Node* k : topological(std::span(&d, 1))) measure(*k);
      dims += (dims.empty() ? "" : ", ") + (length_.contains(d.get()) ? expression(*d) : value(*d));
    }
    return fmt::format("{}{}", name(n.dtype), dims.empty() ? "" : "[" + dims + "]");
  }

  std::string variable_name(const std::string& wanted) {
    std::string base = name_text(wanted);
    if (base.starts_with("inf") || base.starts_with("nan") || base == "true" || base == "false")
      base = "v_" + base;
    std::string unique = base;
    for (int k = 2; !taken_.insert(unique).second; k++) unique = fmt::format("{}_{}", base, k);
    return unique;
  }

  std::string arguments(const Node& n) {
    std::vector<int64_t> ints = n.arg.ints;
    if (n.op == Op::Buffer || n.op == Op::Scalar) return "";
    if (n.op == Op::Mark)
      ints = {static_cast<int64_t>(marks_.try_emplace(ints.at(0), marks_.size()).first->second)};
    if (n.op == Op::Variable) ints.erase(ints.begin());
    std::string list;
    for (size_t i = 0; i < ints.size(); i++)
      list += (i ? ", " : "") + (i == 0 && begins_with_fold(n.op) ? part_name(fold_in(n), part_in(n))
                                                                  : fmt::format("{}", ints[i]));
    bool named = !n.arg.text.empty() && n.op != Op::Variable;
    return (named ? " " + quoted(n.arg.text) : "") + (list.empty() ? "" : " {" + list + "}");
  }

  void line(const Node& n) {
    std::string given = shape(n) + arguments(n);
    std::string sources;
    if (n.op != Op::Buffer)
      for (const Ref& s : n.src) sources += " " + value(*s);
    std::string self = n.op == Op::Variable ? variable_name(n.arg.text) : fmt::format("%{}", count_++);
    names_[&n] = self;
    text_ += fmt::format("  {} = {} {}{}\n", self, row(n.op).name, given, sources);
  }
};

// ---- reading --------------------------------------------------------------------------------------------------------

class Parser {
 public:
  explicit Parser(std::string_view text) : lex_(text, "graph text") {}

  Graph graph() {
    if (lex_.peek().kind == Token::Line) lex_.next();
    lex_.expect("graph");
    while (true) {
      if (lex_.peek().kind != Token::Line)
        lex_.error(fmt::format("end of line expected before {}", quoted(lex_.peek().text)));
      lex_.next();
      if (lex_.take("return")) break;
      line();
    }
    if (lex_.peek().kind == Token::Name || lex_.peek().kind == Token::Number || lex_.is("(") || lex_.is("-"))
      outputs();
    if (lex_.peek().kind != Token::End) lex_.error(fmt::format("unexpected {}", quoted(lex_.peek().text)));
    return std::move(graph_);
  }

 private:
  Lexer lex_;
  Graph graph_;
  std::unordered_map<std::string, Ref> names_;
  std::unordered_map<int64_t, int64_t> marks_;

  struct Line {
    Op op{};
    DType dtype{};
    std::vector<Ref> shape = {};
    Arg arg = {};
    std::vector<Ref> src = {};
  };

  void need(bool ok, const Line& l, const std::string& what) const {
    if (!ok) lex_.error(fmt::format("{}: {}", row(l.op).name, what));
  }

  void outputs() {
    do {
      graph_.outputs.push_back(source());
      int target = -1;
      if (lex_.take("->")) {
        Ref input = source();
        auto it = std::find(graph_.inputs.begin(), graph_.inputs.end(), input);
        if (it == graph_.inputs.end()) lex_.error("an output goes to the memory of a buffer");
        if (input->shape != graph_.outputs.back()->shape || input->dtype != graph_.outputs.back()->dtype)
          lex_.error(fmt::format("{} does not fit the memory of {}", describe(*graph_.outputs.back()),
                                 describe(*input)));
        target = static_cast<int>(it - graph_.inputs.begin());
      }
      graph_.target.push_back(target);
    } while (lex_.take(","));
  }

  Ref named() {
    int at = lex_.peek().line;
    std::string name = lex_.name("a value");
    auto it = names_.find(name);
    if (it == names_.end()) lex_.error_at(at, fmt::format("'{}' is not defined above", name));
    return it->second;
  }

  Ref expression() {
    return parse_expression(lex_, [this](Lexer&) { return named(); });
  }

  Ref source() {
    if (Ref c = parse_literal(lex_)) return c;
    if (!lex_.take("(")) return named();
    Ref value = expression();
    lex_.expect(")");
    return value;
  }

  void line() {
    int number = lex_.peek().line;
    std::string self = lex_.name("a name");
    if (names_.contains(self)) lex_.error_at(number, fmt::format("'{}' is defined twice", self));
    lex_.expect("=");
    Line l;
    std::string spelled = lex_.name("an op");
    if (!find_op(spelled, l.op)) lex_.error(fmt::format("unknown op '{}'", spelled));
    if (row(l.op).group == OpClass::Statement || row(l.op).group == OpClass::Value || l.op == Op::Range ||
        l.op == Op::Slot)
      lex_.error(fmt::format("{} belongs to loop trees, not to a graph", spelled));
    std::string dtype = lex_.name("a dtype");
    l.dtype = find_dtype(dtype);
    if (l.dtype == DType::Void) lex_.error(fmt::format("unknown dtype '{}'", dtype));
    dimensions(l);
    if (lex_.peek().kind == Token::Text) l.arg.text = lex_.next().text;
    arguments(l);
    while (lex_.peek().kind != Token::Line && lex_.peek().kind != Token::End) l.src.push_back(source());
    names_[self] = make_node(l, self);
  }

  void dimensions(Line& l) {
    if (!lex_.take("[")) return;
    do {
      l.shape.push_back(expression());
      need(is_size(l.shape.back()) && l.shape.back()->bounds.lo >= 0, l,
           "a dimension is not an i64 of 0 or more");
    } while (lex_.take(","));
    lex_.expect("]");
  }

  void arguments(Line& l) {
    if (!lex_.take("{")) return;
    if (begins_with_fold(l.op)) l.arg.ints.push_back(fold());
    else l.arg.ints.push_back(parse_integer(lex_));
    while (lex_.take(",")) l.arg.ints.push_back(parse_integer(lex_));
    lex_.expect("}");
  }

  int64_t fold() {
    const std::optional<Fold> known = find_fold(lex_.peek().text);
    if (!known) lex_.error(unknown_fold(lex_.peek().text));
    lex_.next();
    return fold_code(*known, part_of(*known));
  }

  size_t part_of(Fold fold) {
    if (parts(fold) == 1) return 0;
    lex_.expect(".");
    for (size_t i = 0; i < parts(fold); i++)
      if (lex_.take(row(fold).part[i].name)) return i;
    lex_.error(fmt::format("{} has no part {}", row(fold).name, quoted(lex_.peek().text)));
  }

  Ref make_node(Line& l, const std::string& self) {
    if (row(l.op).group == OpClass::Leaf) return leaf(l, self);
    need(row(l.op).arity < 0 || static_cast<int>(l.src.size()) == row(l.op).arity, l,
         fmt::format("takes {} sources, not {}", row(l.op).arity, l.src.size()));
    check(l);
    if (l.op == Op::Mark) l.arg.ints[0] = marks_.try_emplace(l.arg.ints[0], fresh_id()).first->second;
    bool given = l.op == Op::Cast || l.op == Op::Bitcast;
    Ref node = make_parsed(lex_, l.op, std::move(l.src), std::move(l.arg), given ? l.dtype : DType::Void);
    std::string stated = std::string(name(l.dtype)) + describe_shape(l.shape);
    need(node->dtype == l.dtype && same_shape(node->shape, l.shape), l,
         fmt::format("gives {}, the text says {}", describe(*node), stated));
    for (const NodeCheck& rule : graph_checks())
      if (const std::string mistake = rule.mistake(*node); !mistake.empty()) need(false, l, mistake);
    return node;
  }

  static bool same_shape(std::span<const Ref> a, std::span<const Ref> b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); i++)
      if (a[i] != b[i] && !is_int(ix::simplify(ix::sub(a[i], b[i])), 0)) return false;
    return true;
  }

  Ref leaf(Line& l, const std::string& self) {
    need(l.op == Op::Iota || l.src.empty(), l, "takes no sources");
    Ref node;
    if (l.op == Op::Buffer) {
      node = make_parsed(lex_, l.op, l.shape, {.ints = {fresh_id(), 0}}, l.dtype);
      graph_.inputs.push_back(node);
      return node;
    }
    if (l.op == Op::Iota) {
      need(l.src.size() == 1 && l.shape == l.src && is_size(l.src[0]), l, "its one source is its size");
      return make_parsed(lex_, l.op, l.src, {}, l.dtype);
    }
    need(l.shape.empty(), l, "has no dimensions");
    if (l.op == Op::Scalar) node = make(l.op, {}, {.ints = {fresh_id(), 0}}, l.dtype);
    if (l.op == Op::Variable) {
      need(l.arg.ints.size() == 2 && l.arg.ints[0] <= l.arg.ints[1] && l.dtype == DType::I64, l,
           "is an i64 with {lowest, highest}");
      node = make(l.op, {}, {.ints = {fresh_id(), l.arg.ints[0], l.arg.ints[1]}, .text = self}, l.dtype);
    }
    need(static_cast<bool>(node), l, "is written in place");
    graph_.scalars.push_back(node);
    return node;
  }

  // ---- what make() takes for granted

  static bool is_size(const Ref& s) { return s->rank() == 0 && s->dtype == DType::I64; }

  void check(const Line& l) const {
    need(!l.src.empty(), l, "has no sources");
    size_t rank = l.src[0]->rank();
    const std::vector<int64_t>& ints = l.arg.ints;
    auto axes = [&](size_t from, size_t count) {
      std::vector<int64_t> list(ints.begin() + static_cast<ptrdiff_t>(std::min(from, ints.size())),
                                ints.end());
      bool fits = list.size() == count || count == SIZE_MAX;
      for (int64_t a : list) fits = fits && a >= 0 && a < static_cast<int64_t>(rank);
      std::sort(list.begin(), list.end());
      need(fits && std::adjacent_find(list.begin(), list.end()) == list.end(), l,
           fmt::format("its axes do not fit {} and {} sources", describe(*l.src[0]), l.src.size()));
    };
    switch (l.op) {
      case Op::Permute: return axes(0, rank);
      case Op::Flip:    return axes(0, SIZE_MAX);
      case Op::Reduce:
        need(!ints.empty(), l, "its fold is missing: {sum, 0}");
        axes(1, SIZE_MAX);
        return need(std::is_sorted(ints.begin() + 1, ints.end()), l, "its axes are not in order");
      case Op::Scan:     need(!ints.empty(), l, "its fold is missing: {sum, 0}"); return axes(1, 1);
      case Op::Gather:   return axes(0, l.src.size() - 1);
      case Op::Scatter:  return check_scatter(l, axes);
      case Op::Put:      return check_put(l);
      case Op::Mark:     return need(ints.size() == 1, l, "needs its number: {0}");
      case Op::Window:
      case Op::Unwindow: return check_window(l);
      case Op::Reshape:
      case Op::Expand:
      case Op::Pad:
      case Op::Shrink:   return check_sizes(l);
      default:           return;
    }
  }

  template <class Axes>
  void check_scatter(const Line& l, const Axes& axes) const {
    need(l.src.size() >= 3, l, "needs base, values and an index tensor for each axis");
    axes(1, l.src.size() - 2);
    std::vector<Ref> shape = l.src[2]->shape;
    for (size_t i = 2; i < l.src.size(); i++)
      need(is_integer(l.src[i]->dtype) && l.src[i]->shape == l.src[2]->shape, l,
           "its index tensors differ or are no integers");
    for (size_t a = 0; a < l.src[0]->rank(); a++)
      if (std::find(l.arg.ints.begin() + 1, l.arg.ints.end(), static_cast<int64_t>(a)) == l.arg.ints.end())
        shape.push_back(l.src[0]->shape[a]);
    need(l.src[1]->shape == shape, l,
         fmt::format("values are {}, not {}", describe(*l.src[1]), describe_shape(shape)));
  }

  void check_put(const Line& l) const {
    for (size_t i = 2; i < l.src.size(); i++)
      need(l.src[i]->rank() == 0 && is_integer(l.src[i]->dtype), l, "a begin is no single integer");
  }

  void check_window(const Line& l) const {
    const std::vector<int64_t>& ints = l.arg.ints;
    bool window = l.op == Op::Window;
    need(ints.size() == (window ? 4u : 3u), l,
         window ? "needs {axis, stride, dilation, size}" : "needs {axis, stride, dilation}");
    int64_t rank = static_cast<int64_t>(l.src[0]->rank());
    bool fits = ints[0] >= 0 && ints[0] < (window ? rank : rank - 1);
    for (size_t i = 1; i < ints.size(); i++) fits = fits && ints[i] >= 1 && ints[i] <= INT32_MAX;
    need(fits && (window || is_size(l.src[1])), l,
         fmt::format("its arguments do not fit {}", describe(*l.src[0])));
    if (!window) return;
    const Ref& dim = l.src[0]->shape[static_cast<size_t>(ints[0])];
    need(dim->bounds.lo >= reach(ints[3], ints[2]), l,
         fmt::format("the window is larger than {}", describe(*l.src[0])));
  }

  void check_sizes(const Line& l) const {
    const Node& x = *l.src[0];
    size_t first = l.op == Op::Pad ? 2 : 1;
    need(l.src.size() >= first, l, "has too few sources");
    for (size_t i = first; i < l.src.size(); i++)
      need(is_size(l.src[i]) && (l.src[i]->bounds.lo >= 0 || !l.src[i]->is_const()), l,
           "a size is not an i64 of 0 or more");
    if (l.op != Op::Shrink || l.src.size() != 1 + 2 * x.rank()) return;
    for (size_t i = 0; i < x.rank(); i++) {
      Ref end = ix::add(l.src[1 + 2 * i], l.src[2 + 2 * i]);
      need(end->bounds.lo <= x.shape[i]->bounds.hi, l,
           fmt::format("takes more than there is of {}", describe(x)));
    }
  }
};

}  // namespace

std::string print(const Graph& graph) { return Printer().print(graph); }

Graph parse_graph(std::string_view text) { return Parser(text).graph(); }

}  // namespace kontor
