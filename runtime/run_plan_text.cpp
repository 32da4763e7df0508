// Plans as text that reads back: print(parse_run_plan(print(p))) == print(p).
#include <charconv>
#include <map>

#include "base/error.h"
#include "graph/text/expression.h"
#include "runtime/run_plan.h"

namespace kontor {

namespace {

constexpr std::string_view roles[] = {"input", "output", "temporary"};

std::string slot_name(const Node& n) { return n.op == Op::Slot ? fmt::format("${}", n.at(0)) : ""; }

class Printer {
 public:
  std::string print(const RunPlan& plan) {
    for (const RunPlan::Buffer& b : plan.buffers) buffer(b);
    for (const ScheduledStream& s : plan.streams) stream(s);
    for (const std::string& c : plan.checks) text_ += fmt::format("  check {}\n", quoted(c));
    for (const RunPlan::Launch& l : plan.launches) launch(l);
    std::string head = "plan\n";
    for (const auto& [number, slot] : slots_) {
      head += fmt::format("  slot ${} {}", number, name(slot->dtype));
      if (slot->arg.ints.size() > 1) head += fmt::format(" {}..{}", slot->bounds.lo, slot->bounds.hi);
      head += '\n';
    }
    return head + fmt::format("  arena {}\n", plan.arena_bytes) + text_;
  }

 private:
  std::string text_;
  std::map<int64_t, const Node*> slots_;

  std::string expression(const Ref& e) {
    if (e->is_const()) return literal(*e);
    for (const Node* n : topological(std::span(&e, 1)))
      if (n->op == Op::Slot) slots_.emplace(n->at(0), n);
    return print_expression(*e, slot_name);
  }

  void buffer(const RunPlan::Buffer& b) {
    std::string dims;
    for (const Ref& d : b.dims) dims += (dims.empty() ? "" : ", ") + expression(d);
    text_ += fmt::format("  buffer {} {} {}[{}]{}\n", roles[b.role], b.number, name(b.dtype), dims,
                         b.in_place ? " in place" : "");
  }

  void stream(const ScheduledStream& s) {
    text_ +=
        fmt::format("  stream {} {} by {}, {} to {}", name_text(s.name), s.extent, s.chunk, s.first, s.last);
    for (size_t i = 0; i < s.slots.size(); ++i)
      text_ += fmt::format("{}${} / {}", i == 0 ? ": " : ", ", s.slots[i].number, s.slots[i].divisor);
    text_ += '\n';
  }

  void launch(const RunPlan::Launch& l) {
    text_ += fmt::format("  launch \"{}\" {} buffers {}", l.kernel.hex(), expression(l.shares),
                         fmt::join(l.buffers, " "));
    if (!l.slots.empty()) text_ += " slots";
    for (const SlotSource& s : l.slots)
      text_ += s.scalar >= 0 ? fmt::format(" ${}", s.scalar) : fmt::format(" {}", s.value);
    text_ += fmt::format(" operations {}{}{}\n", l.operations, l.threads ? " threads" : "",
                         l.checked ? " checks" : "");
  }
};

class Parser {
 public:
  explicit Parser(std::string_view text) : lex_(text, "plan") {}

  RunPlan plan() {
    lex_.next();
    lex_.expect("plan");
    while (lex_.peek().kind == Token::Line) {
      lex_.next();
      line();
    }
    if (lex_.peek().kind != Token::End) lex_.error(fmt::format("unexpected {}", quoted(lex_.peek().text)));
    return std::move(plan_);
  }

 private:
  Lexer lex_;
  RunPlan plan_;
  std::map<int64_t, Ref> slots_;

  void line() {
    if (lex_.take("slot")) return slot();
    if (lex_.take("arena")) return void(plan_.arena_bytes = parse_integer(lex_));
    if (lex_.take("buffer")) return buffer();
    if (lex_.take("stream")) return stream();
    if (lex_.take("check")) return void(plan_.checks.push_back(text()));
    lex_.expect("launch");
    launch();
  }

  std::string text() {
    if (lex_.peek().kind != Token::Text) lex_.error("a text in quotes expected");
    return lex_.next().text;
  }

  size_t count() {
    const int64_t value = parse_integer(lex_);
    if (value < 0) lex_.error(fmt::format("{} is no number of a thing", value));
    return static_cast<size_t>(value);
  }

  int64_t slot_number() {
    const std::string name = lex_.name("a slot");
    int64_t number = -1;
    const char* end = name.data() + name.size();
    if (name[0] != '$' || std::from_chars(name.data() + 1, end, number).ptr != end || number < 0)
      lex_.error(fmt::format("'{}' is no slot", name));
    return number;
  }

  DType dtype() {
    const DType d = find_dtype(lex_.name("a dtype"));
    if (d == DType::Void) lex_.error("unknown dtype");
    return d;
  }

  void slot() {
    const int64_t number = slot_number();
    const DType type = dtype();
    Bounds bounds;
    if (lex_.peek().kind == Token::Number || lex_.is("-")) {
      bounds.lo = parse_integer(lex_);
      lex_.expect("..");
      bounds.hi = parse_integer(lex_);
    }
    slots_[number] = tree::slot(type, number, bounds);
  }

  Ref expression() {
    const Ref value = parse_expression(lex_, [this](Lexer&) {
      const auto it = slots_.find(slot_number());
      if (it == slots_.end()) lex_.error("a slot that is not declared");
      return it->second;
    });
    if (value->dtype != DType::I64) lex_.error(fmt::format("a size must be i64, not {}", name(value->dtype)));
    return value;
  }

  void buffer() {
    RunPlan::Buffer b{};
    const auto* role = std::find(std::begin(roles), std::end(roles), lex_.name("a role"));
    if (role == std::end(roles)) lex_.error(fmt::format("a role is one of {}", fmt::join(roles, ", ")));
    b.role = static_cast<ScheduledBuffer::Role>(role - roles);
    b.number = parse_integer(lex_);
    b.dtype = dtype();
    lex_.expect("[");
    if (!lex_.is("]")) do
        b.dims.push_back(expression());
      while (lex_.take(","));
    lex_.expect("]");
    if (lex_.take("in")) lex_.expect("place"), b.in_place = true;
    plan_.buffers.push_back(std::move(b));
  }

  void stream() {
    ScheduledStream s{};
    s.name = lex_.name("an axis");
    s.extent = parse_integer(lex_);
    lex_.expect("by");
    s.chunk = parse_integer(lex_);
    lex_.expect(",");
    s.first = count();
    lex_.expect("to");
    s.last = count();
    if (lex_.take(":")) do {
        const auto number = static_cast<size_t>(slot_number());
        lex_.expect("/");
        s.slots.push_back({number, parse_integer(lex_)});
      } while (lex_.take(","));
    plan_.streams.push_back(std::move(s));
  }

  Hash128 key() {
    const std::string digits = text();
    Hash128 key;
    const char *begin = digits.data(), *middle = begin + 16, *end = begin + 32;
    const bool read = digits.size() == 32 && std::from_chars(begin, middle, key.high, 16).ptr == middle &&
                      std::from_chars(middle, end, key.low, 16).ptr == end;
    if (!read || key.hex() != digits) lex_.error(fmt::format("'{}' is no key of a kernel", digits));
    return key;
  }

  void launch() {
    RunPlan::Launch l{};
    l.kernel = key();
    l.shares = expression();
    lex_.expect("buffers");
    while (lex_.peek().kind == Token::Number) l.buffers.push_back(static_cast<int>(count()));
    if (lex_.take("slots")) {
      while (lex_.peek().kind == Token::Number || lex_.is("-") || lex_.peek().text[0] == '$')
        l.slots.push_back(lex_.peek().kind == Token::Name ? SlotSource{slot_number(), 0}
                                                          : SlotSource{-1, parse_integer(lex_)});
    }
    lex_.expect("operations");
    l.operations = parse_integer(lex_);
    l.threads = lex_.take("threads");
    l.checked = lex_.take("checks");
    plan_.launches.push_back(std::move(l));
  }
};

}  // namespace

std::string print(const RunPlan& plan) { return Printer().print(plan); }

RunPlan parse_run_plan(std::string_view text) { return Parser(text).plan(); }

}  // namespace kontor
