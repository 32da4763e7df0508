// Reading loop trees.
#include <charconv>
#include <unordered_map>

#include "base/error.h"
#include "codegen/tree/text.h"
#include "graph/index/index.h"
#include "graph/text/expression.h"

namespace kontor::tree {

namespace {

// Well above what a kernel that was made here has (codegen/stages/select.cpp, codegen/stages/fuse.cpp): passes over a value are recursive.
constexpr uint32_t deepest_value = 10'000;

class Parser {
 public:
  explicit Parser(std::string_view text) : lex_(text, "kernel text") {}

  Ref kernel() {
    if (lex_.peek().kind == Token::Line) lex_.next();
    lex_.expect("kernel");
    std::string title = lex_.name("the kernel's name");
    lex_.expect("(");
    if (!lex_.is(")")) do
        parameter_or_slot();
      while (lex_.take(","));
    lex_.expect(")");
    lex_.expect("->");
    std::vector<Ref> named;
    if (lex_.peek().kind == Token::Name) do
        output(named);
      while (lex_.take(","));
    std::vector<Ref> statements = block(-1);
    require_written(named, statements);
    if (lex_.peek().kind != Token::End)
      lex_.error(fmt::format("a statement expected before {}", quoted(lex_.peek().text)));
    return tree::kernel(title, std::move(params_), std::move(statements));
  }

 private:
  Lexer lex_;
  std::vector<Ref> params_;
  std::unordered_map<std::string, Ref> names_;
  std::vector<std::pair<std::string, Ref>> undo_;

  void declare(const std::string& name, const Ref& node) {
    Ref& entry = names_[name];
    undo_.emplace_back(name, entry);
    entry = node;
  }

  void leave(size_t mark) {
    for (; undo_.size() > mark; undo_.pop_back()) names_[undo_.back().first] = undo_.back().second;
  }

  DType dtype() {
    DType d = find_dtype(lex_.name("a dtype"));
    if (d == DType::Void) lex_.error("unknown dtype");
    return d;
  }

  Ref expression() {
    Ref value = parse_expression(lex_, [this](Lexer&) { return primary(); });
    if (value->depth > deepest_value)
      lex_.error(fmt::format("a value of more than {} operations one after another", deepest_value));
    return value;
  }

  Ref index_expression() {
    Ref value = expression();
    if (value->dtype != DType::I64)
      lex_.error(fmt::format("an index must be i64, not {}", name(value->dtype)));
    return value;
  }

  std::vector<Ref> dimensions() {
    std::vector<Ref> dims;
    if (!lex_.take("[")) return dims;
    do dims.push_back(index_expression());
    while (lex_.take(","));
    lex_.expect("]");
    return dims;
  }

  void parameter_or_slot() {
    std::string name = lex_.peek().text;
    if (name[0] != '$') return parameter();
    lex_.next();
    DType type = dtype();
    Bounds bounds;
    if (lex_.peek().kind == Token::Number || lex_.is("-")) {
      bounds.lo = parse_integer(lex_);
      lex_.expect("..");
      bounds.hi = parse_integer(lex_);
    }
    int64_t number = 0;
    const char* end = name.data() + name.size();
    const auto [read, wrong] = std::from_chars(name.data() + 1, end, number);
    if (read != end || wrong != std::errc()) lex_.error(fmt::format("'{}' is no number of a scalar", name));
    declare(name, slot(type, number, bounds));
  }

  /// A parameter that is written: declared here, or named.
  void output(std::vector<Ref>& named) {
    const auto known = names_.find(lex_.peek().text);
    if (known == names_.end() || !known->second || known->second->op != Op::Place) return parameter();
    lex_.next();
    named.push_back(known->second);
  }

  void require_written(std::span<const Ref> named, std::span<const Ref> statements) {
    NodeSet written;
    for (const Node* n : topological(statements))
      if (n->op == Op::Store || n->op == Op::FoldStep) written.insert(n->src[0].get());
    for (const Ref& p : named)
      if (!written.contains(p.get()))
        lex_.error(fmt::format("{} is written by no statement", quoted(p->arg.text)));
  }

  int fold() {
    const std::string word = lex_.peek().text;
    if (const auto known = find_fold(word)) return lex_.next(), static_cast<int>(*known);
    if (find_dtype(word) == DType::Void && find_dtype(lex_.peek(1).text) != DType::Void)
      lex_.error(unknown_fold(word));
    return -1;
  }

  void parameter() {
    std::string name = lex_.name("a parameter");
    int f = fold();
    DType type = dtype();
    std::vector<Ref> dims = dimensions();
    int64_t number = static_cast<int64_t>(params_.size());
    if (lex_.take("at")) number = parse_integer(lex_);
    params_.push_back(param(type, std::move(dims), number, name, f));
    declare(name, params_.back());
  }

  /// The statements indented deeper than `outer`, after those that follow on this line.
  std::vector<Ref> block(int outer) {
    Lexer::Level level(lex_);
    size_t mark = undo_.size();
    std::vector<Ref> list;
    if (lex_.take(":")) statements_of_line(list, outer);
    int indent = -1;
    while (lex_.peek().kind == Token::Line && lex_.peek().indent > outer) {
      if (indent < 0) indent = lex_.peek().indent;
      if (lex_.peek().indent != indent)
        lex_.error_at(lex_.peek().line, "the indentation differs from the lines above");
      lex_.next();
      statements_of_line(list, indent);
    }
    leave(mark);
    return list;
  }

  void statements_of_line(std::vector<Ref>& list, int indent) {
    do {
      if (Ref s = statement(indent)) list.push_back(s);
    } while (lex_.take(";"));
    Token::Kind after = lex_.peek().kind;
    if (after != Token::Line && after != Token::End)
      lex_.error(fmt::format("unexpected {}", quoted(lex_.peek().text)));
  }

  Ref statement(int indent) {  // null for a let
    for (int k = 0; k <= static_cast<int>(LoopKind::Vector); k++)
      if (lex_.take(name(static_cast<LoopKind>(k)))) return loop(static_cast<LoopKind>(k), indent);
    if (lex_.take("if")) return branch(indent);
    if (lex_.take("check")) {
      int64_t id = parse_integer(lex_);
      Ref shown = lex_.take("of") ? index_expression() : Ref();
      lex_.expect(":");
      return tree::check(condition(), id, shown);
    }
    if (lex_.take("clear")) {
      Ref p = find(lex_.name("a parameter"));
      if (p->op != Op::Place || !has_fold(*p)) lex_.error("clear takes a parameter with a fold");
      return p;
    }
    if (lex_.take("let")) {
      std::string bound = lex_.name("a name");
      lex_.expect("=");
      declare(bound, expression());
      return {};
    }
    if (lex_.peek(1).kind == Token::Name)
      return place(lex_.peek(2).kind == Token::Name && lex_.take("shared"));
    return write();
  }

  Ref condition() {
    Ref c = expression();
    if (c->dtype != DType::Bool) lex_.error(fmt::format("a condition must be bool, not {}", name(c->dtype)));
    return c;
  }

  Ref loop(LoopKind kind, int indent) {
    std::string name = lex_.name("the loop's variable");
    Ref range = ix::range(index_expression(), name);
    int64_t width = lex_.take("width") ? parse_integer(lex_) : 0;
    size_t mark = undo_.size();
    declare(name, range);
    std::vector<Ref> list = block(indent);
    leave(mark);
    return tree::loop(kind, range, std::move(list), width);
  }

  Ref branch(int indent) {
    Ref c = condition();
    std::vector<Ref> yes = block(indent), no;
    if (lex_.peek().kind == Token::Line && lex_.peek().indent == indent && lex_.peek(1).text == "else") {
      lex_.next(), lex_.next();
      no = block(indent);
    }
    return tree::branch(c, std::move(yes), std::move(no));
  }

  Ref place(bool is_shared) {
    std::string name = lex_.name("a place");
    int f = fold();
    DType type = dtype();
    std::vector<Ref> dims = dimensions();
    if (is_shared && f >= 0) lex_.error(fmt::format("'{}' is shared, and has a fold", name));
    tree::SharedAs how;
    if (is_shared && lex_.take("row"))
      how.row = parse_integer(lex_), lex_.expect("pad"), how.pad = parse_integer(lex_);
    if (is_shared && lex_.take("ahead")) how.ahead = parse_integer(lex_);
    if (how.row < 0 || how.pad < 0 || (how.pad > 0 && how.row == 0) || how.ahead < 0)
      lex_.error(fmt::format("row {} pad {} ahead {}", how.row, how.pad, how.ahead));
    Ref p = is_shared ? tree::shared_place(type, dims, name, how) : tree::place(type, dims, name, f);
    declare(name, p);
    return p;
  }

  Ref find(const std::string& name) {
    auto it = names_.find(name);
    if (it == names_.end() || !it->second) lex_.error(fmt::format("'{}' is not declared here", name));
    return it->second;
  }

  void need_rank(const Ref& p, size_t given, size_t wanted) {
    if (given != wanted)
      lex_.error(fmt::format("'{}' takes {} indexes here, not {}", p->arg.text, wanted, given));
  }

  void need_dtype(const Ref& p, const Ref& value, DType wanted) {
    if (value->dtype != wanted)
      lex_.error(
          fmt::format("'{}' is {}, the value {}", p->arg.text, row(wanted).name, row(value->dtype).name));
  }

  Ref write() {
    std::string name = lex_.name("a statement");
    Ref p = find(name);
    if (p->op != Op::Place) lex_.error(fmt::format("'{}' is no place", name));
    std::vector<Ref> where = dimensions();
    need_rank(p, where.size(), p->src.size());
    bool folds = lex_.take("<-");
    if (!folds) lex_.expect("=");
    std::vector<Ref> list;
    do list.push_back(expression());
    while (folds && lex_.take(","));
    if (!folds) return need_dtype(p, list[0], p->dtype), store(p, std::move(where), list[0]);
    if (!has_fold(*p)) lex_.error(fmt::format("'{}' has no fold", name));
    if (row(fold_of(*p)).arity != static_cast<int>(list.size()))
      lex_.error(fmt::format("{} takes {} values, not {}", row(fold_of(*p)).name, row(fold_of(*p)).arity,
                             list.size()));
    for (size_t i = 0; i < list.size(); i++) need_dtype(p, list[i], value_dtype(fold_of(*p), p->dtype, i));
    return tree::fold(p, std::move(where), std::move(list));
  }

  Ref primary() {
    std::string name = lex_.name("a value");
    if (name == "merge" && lex_.take("(")) {
      Ref p = find(lex_.name("a place"));
      const size_t part = part_of(p);
      std::vector<Ref> leading = dimensions();
      if (p->op != Op::Place || p->src.empty()) lex_.error("merge takes a place with a dimension");
      need_rank(p, leading.size(), p->src.size() - 1);
      lex_.expect(")");
      return merge(p, std::move(leading), part);
    }
    Ref node = find(name);
    return node->op == Op::Place ? read(node) : node;
  }

  /// Of a place whose fold has several parts: the one that is named.
  size_t part_of(const Ref& p) {
    if (p->op != Op::Place || parts(*p) == 1) return 0;
    lex_.expect(".");
    for (size_t i = 0; i < parts(*p); i++)
      if (lex_.take(row(fold_of(*p)).part[i].name)) return i;
    lex_.error(fmt::format("{} has no part {}", row(fold_of(*p)).name, quoted(lex_.peek().text)));
  }

  Ref read(const Ref& p) {
    const size_t part = part_of(p);
    std::vector<Ref> where;
    Ref guard;
    if (lex_.take("[")) {
      if (!lex_.is("if")) do
          where.push_back(index_expression());
        while (lex_.take(","));
      if (lex_.take("if")) guard = condition();
      lex_.expect("]");
    }
    need_rank(p, where.size(), p->src.size());
    return load(p, std::move(where), guard, part);
  }
};

}  // namespace

Ref parse(std::string_view text) { return Parser(text).kernel(); }

}  // namespace kontor::tree
