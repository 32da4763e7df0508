// Printing and reading expressions.
#include "graph/text/expression.h"

#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "base/error.h"

namespace kontor {

namespace {

struct Infix {
  std::string_view symbol;
  Op op;
  int level;  // higher binds tighter; C's order
};
constexpr Infix infixes[] = {
    // clang-format off
    {"|",  Op::Or,   1}, {"^",  Op::Xor,  2}, {"&",  Op::And, 3}, {"==", Op::Eq,  4}, {"!=", Op::Ne,  4},
    {"<",  Op::Lt,   5}, {"<=", Op::Le,   5}, {"<<", Op::Shl, 6}, {">>", Op::Shr, 6},
    {"+",  Op::Add,  7}, {"-",  Op::Sub,  7}, {"*",  Op::Mul, 8}, {"/",  Op::Div, 8}, {"//", Op::IDiv, 8}, {"%", Op::Mod, 8},
    // clang-format on
};
constexpr int unary_level = 9;

const Infix* infix_of(Op op) {
  for (const Infix& i : infixes)
    if (i.op == op) return &i;
  return nullptr;
}

std::string float_text(const Node& c) {
  double value = const_float(c);
  uint64_t bits = std::bit_cast<uint64_t>(value);
  if (std::isnan(value)) return bits == 0x7ff8000000000000u ? "nan" : fmt::format("nan0x{:x}", bits);
  bool exact32 = static_cast<double>(static_cast<float>(value)) == value;
  if (c.dtype == DType::F32 && !exact32) return fmt::format("{:a}", value);
  std::string text =
      c.dtype == DType::F32 ? fmt::format("{}", static_cast<float>(value)) : fmt::format("{}", value);
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}

bool minus_one(const Ref& node) { return is_int(node, -1); }

class Printer {
 public:
  explicit Printer(const Spelling& leaf) : leaf_(leaf) {}

  std::string print(const Node& n, int level) {
    std::string named = leaf_(n);
    if (!named.empty()) return named;
    if (n.is_const()) return literal(n);
    if (n.op == Op::Add && n.dtype == DType::I64)
      if (std::string text = difference(n); !text.empty()) return level > 7 ? "(" + text + ")" : text;
    if (const Infix* i = infix_of(n.op); i && !(n.op == Op::Sub && n.dtype == DType::I64)) {
      std::string text = print(*n[0], i->level) + fmt::format(" {} ", i->symbol) + print(*n[1], i->level + 1);
      return level > i->level ? "(" + text + ")" : text;
    }
    if (n.op == Op::Not) return "!" + print(*n[0], unary_level);
    if (n.op == Op::Neg && !n[0]->is_const()) return "-" + print(*n[0], unary_level);
    return function(n);
  }

 private:
  const Spelling& leaf_;

  std::string difference(const Node& n) {
    const Node& b = *n[1];
    if (!leaf_(b).empty()) return "";
    if (b.is_const() && b.at(0) < 0 && b.at(0) != INT64_MIN)
      return print(*n[0], 7) + fmt::format(" - {}", -b.at(0));
    if (b.op == Op::Mul && minus_one(b[1]) && !b[0]->is_const())
      return print(*n[0], 7) + " - " + print(*b[0], 8);
    return "";
  }

  std::string function(const Node& n) {
    std::string text = n.op == Op::Cast      ? fmt::format("{}(", name(n.dtype))
                       : n.op == Op::Bitcast ? fmt::format("bitcast({}, ", name(n.dtype))
                                             : fmt::format("{}(", row(n.op).name);
    for (size_t i = 0; i < n.src.size(); i++) text += (i ? ", " : "") + print(*n[i], 0);
    return text + ")";
  }
};

class Parser {
 public:
  Parser(Lexer& lexer, const Primary& primary) : lexer_(lexer), primary_(primary) {}

  Ref binary(int level) {
    Ref left = unary();
    while (true) {
      bool swapped = lexer_.is(">") || lexer_.is(">=");
      const Infix* i = swapped ? infix_of(lexer_.is(">") ? Op::Lt : Op::Le) : next_infix();
      if (!i || i->level < level) return left;
      lexer_.next();
      Ref right = binary(i->level + 1);
      left = swapped ? make_parsed(lexer_, i->op, {right, left}) : join(i->op, left, right);
    }
  }

 private:
  Lexer& lexer_;
  const Primary& primary_;

  const Infix* next_infix() const {
    if (lexer_.peek().kind != Token::Symbol) return nullptr;
    for (const Infix& i : infixes)
      if (lexer_.peek().text == i.symbol) return &i;
    return nullptr;
  }

  Ref join(Op op, const Ref& a, const Ref& b) {
    if (op != Op::Sub || a->dtype != DType::I64) return make_parsed(lexer_, op, {a, b});
    Ref negative = b->is_const() ? index(-b->at(0)) : make_parsed(lexer_, Op::Mul, {b, index(-1)});
    return make_parsed(lexer_, Op::Add, {a, negative});
  }

  Ref unary() {
    Lexer::Level level(lexer_);
    return operand();
  }

  Ref operand() {
    if (Ref c = parse_literal(lexer_)) return c;
    if (lexer_.take("-")) return make_parsed(lexer_, Op::Neg, {unary()});
    if (lexer_.take("!")) return make_parsed(lexer_, Op::Not, {unary()});
    if (lexer_.take("(")) {
      Ref value = binary(0);
      lexer_.expect(")");
      return value;
    }
    const Token &t = lexer_.peek(), &after = lexer_.peek(1);
    if (t.kind != Token::Name) lexer_.error(fmt::format("a value expected before {}", quoted(t.text)));
    if (after.kind == Token::Symbol && after.text == "(")
      if (Ref value = function()) return value;
    return primary_(lexer_);
  }

  Ref function() {  // null if the name is no elementwise op or dtype
    Op op{};
    DType dtype = find_dtype(lexer_.peek().text);
    if (dtype != DType::Void) {
      op = Op::Cast;
    } else if (!find_op(lexer_.peek().text, op) || !is_elementwise(op)) {
      return {};
    }
    std::string called = lexer_.next().text;
    lexer_.expect("(");
    if (op == Op::Bitcast) {
      dtype = find_dtype(lexer_.name("a dtype"));
      lexer_.expect(",");
    }
    std::vector<Ref> args;
    do args.push_back(binary(0));
    while (lexer_.take(","));
    lexer_.expect(")");
    if (static_cast<int>(args.size()) != row(op).arity)
      lexer_.error(fmt::format("{} takes {} values, not {}", called, row(op).arity, args.size()));
    return make_parsed(lexer_, op, std::move(args), {}, dtype);
  }
};

DType suffix_dtype(const Lexer& lexer, const std::string& suffix, DType otherwise) {
  if (suffix.empty()) return otherwise;
  DType dtype = find_dtype(suffix);
  if (dtype == DType::Void) lexer.error(fmt::format("unknown dtype '{}'", suffix));
  return dtype;
}

// NaNs keep their bits; a finite number takes the nearest value of the dtype.
Ref float_const(DType dtype, double value) {
  if (!std::isnan(value)) return constant(dtype, value);
  return make(Op::Const, {}, {.ints = {std::bit_cast<int64_t>(value)}}, dtype);
}

Ref number(Lexer& lexer, bool negative) {
  Token t = lexer.next();
  bool hex = t.text.starts_with("0x");
  DType dtype =
      suffix_dtype(lexer, t.suffix,
                   t.text.find_first_of(hex ? ".p" : ".e") == std::string::npos ? DType::I64 : DType::F32);
  if (is_float(dtype)) {
    double value = dtype == DType::F32 && !hex ? static_cast<double>(std::strtof(t.text.c_str(), nullptr))
                                               : std::strtod(t.text.c_str(), nullptr);
    Ref c = float_const(dtype, negative ? -value : value);
    if (!std::isfinite(const_float(*c)))
      lexer.error_at(t.line, fmt::format("'{}' does not fit {}", t.text, name(dtype)));
    return c;
  }
  errno = 0;
  char* end = nullptr;
  uint64_t magnitude = std::strtoull(t.text.c_str(), &end, 10);
  if (errno || *end) lexer.error_at(t.line, fmt::format("'{}' is not an integer of 64 bits", t.text));
  int64_t value = static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
  Bounds b = dtype == DType::Bool    ? Bounds{0, 1}
             : row(dtype).bits == 64 ? Bounds{}
                                     : constant(dtype, value)->bounds;
  bool fits = dtype == DType::U64 ? !negative || !magnitude
              : negative          ? magnitude <= uint64_t{1} << 63
                                  : magnitude <= INT64_MAX;
  if (!fits || value < b.lo || value > b.hi)
    lexer.error_at(t.line, fmt::format("{}{} does not fit {}", negative ? "-" : "", t.text, name(dtype)));
  return constant(dtype, value);
}

Ref special(Lexer& lexer, bool negative) {  // inf, nan, nan0x..., each with or without _dtype
  const std::string word = lexer.peek().text;
  size_t bar = word.find('_');
  std::string head = word.substr(0, bar), suffix = bar == std::string::npos ? "" : word.substr(bar + 1);
  if (head != "inf" && head != "nan" && !head.starts_with("nan0x")) return {};
  DType dtype = suffix_dtype(lexer, suffix, DType::F32);
  lexer.next();
  double value = head == "inf" ? HUGE_VAL : std::bit_cast<double>(uint64_t{0x7ff8000000000000});
  if (head.size() > 5)
    value = std::bit_cast<double>(static_cast<uint64_t>(std::strtoull(head.c_str() + 5, nullptr, 16)));
  return float_const(dtype, negative ? -value : value);
}

}  // namespace

std::string literal(const Node& c) {
  if (c.dtype == DType::Bool) return c.at(0) ? "true" : "false";
  if (is_float(c.dtype))
    return float_text(c) + (c.dtype == DType::F32 ? "" : fmt::format("_{}", name(c.dtype)));
  if (c.dtype == DType::I64) return fmt::format("{}", c.at(0));
  std::string digits = kind(c.dtype) == Kind::Unsigned ? fmt::format("{}", static_cast<uint64_t>(c.at(0)))
                                                       : fmt::format("{}", c.at(0));
  return fmt::format("{}_{}", digits, name(c.dtype));
}

std::string print_expression(const Node& value, const Spelling& leaf) {
  return Printer(leaf).print(value, 0);
}

Ref parse_expression(Lexer& lexer, const Primary& primary) { return Parser(lexer, primary).binary(0); }

Ref parse_literal(Lexer& lexer) {
  bool negative = lexer.is("-");
  const Token& t = lexer.peek(negative);
  bool word = t.kind == Token::Name && (t.text.starts_with("inf") || t.text.starts_with("nan"));
  if (t.kind == Token::Number) {
    if (negative) lexer.next();
    return number(lexer, negative);
  }
  if (word && !negative) return special(lexer, false);
  if (word) {
    std::string head = t.text.substr(0, t.text.find('_'));
    if (head != "inf" && head != "nan") return {};
    lexer.next();
    return special(lexer, true);
  }
  if (negative) return {};
  if (lexer.take("true")) return constant(DType::Bool, int64_t{1});
  if (lexer.take("false")) return constant(DType::Bool, int64_t{0});
  return {};
}

int64_t parse_integer(Lexer& lexer) {
  Ref c = parse_literal(lexer);
  if (!c || c->dtype != DType::I64)
    lexer.error(fmt::format("an integer expected before {}", quoted(lexer.peek().text)));
  return const_int(*c);
}

DType find_dtype(std::string_view text) {
  for (int i = 1; i <= static_cast<int>(DType::F64); i++)
    if (row(static_cast<DType>(i)).name == text) return static_cast<DType>(i);
  return DType::Void;
}

Ref make_parsed(const Lexer& lexer, Op op, std::vector<Ref> src, Arg arg, DType dtype) {
  try {
    return make(op, std::move(src), std::move(arg), dtype);
  } catch (const Error& refused) {
    lexer.error(refused.what());
  } catch (const InternalError& refused) {
    lexer.error(refused.what());
  } catch (const std::out_of_range&) {
    lexer.error(fmt::format("{}: an axis is out of range", row(op).name));
  }
}

}  // namespace kontor
