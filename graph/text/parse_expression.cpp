// Expressions over the function table, such as softmax(matmul(f32[64, 512], f32[512, 512])): a recursive descent.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/text/lexer.h"

namespace kontor {

namespace {

struct Infix {
  std::string_view symbol, function;
  int strength;
};
constexpr Infix infixes[] = {
    {"==", "eq", 1},     {"!=", "ne", 1},         {"<", "lt", 1},           {"<=", "le", 1},
    {">", "gt", 1},      {">=", "ge", 1},         {"|", "bit_or", 2},       {"^", "bit_xor", 3},
    {"&", "bit_and", 4}, {"<<", "shift_left", 5}, {">>", "shift_right", 5}, {"+", "add", 6},
    {"-", "sub", 6},     {"*", "mul", 7},         {"/", "div", 7},          {"//", "floor_div", 7},
    {"%", "mod", 7},
};

class Parser {
 public:
  explicit Parser(std::string_view text) : in_(text, "expression") {}

  Ref run() {
    Ref last;
    skip();
    while (in_.peek().kind != Token::End) {
      last = statement();
      skip();
      if (!in_.take(";")) break;
      skip();
    }
    if (in_.peek().kind != Token::End)
      in_.error(fmt::format("nothing expected after the expression, not '{}'", in_.peek().text));
    if (!last) in_.error("empty");
    return last;
  }

 private:
  void skip() {
    while (in_.peek().kind == Token::Line) in_.next();
  }

  Ref statement() {
    bool named =
        in_.peek().kind == Token::Name && in_.peek(1).text == "=" && in_.peek(1).kind == Token::Symbol;
    if (!named) return tensor_of(operation(0));
    std::string name = in_.next().text;
    in_.next();
    return names_[name] = tensor_of(operation(0));
  }

  Ref tensor_of(const Argument& a) {
    if (a.kind == Argument::Tensor) return a.tensors[0];
    if (a.kind == Argument::Number)
      return fn::number_constant("number", a.numbers[0],
                                 a.numbers[0].kind == Number::Float ? DType::F32 : DType::I64);
    in_.error("a tensor is expected");
  }

  Argument operation(int above) {
    Argument left = primary();
    for (;;) {
      skip();
      const Infix* infix = nullptr;
      for (const Infix& i : infixes)
        if (in_.peek().kind == Token::Symbol && in_.peek().text == i.symbol) infix = &i;
      if (!infix || infix->strength <= above) return left;
      in_.next();
      left = call(infix->function, {left, operation(infix->strength)});
    }
  }

  Argument call(std::string_view name, std::vector<Argument> arguments) {
    try {
      Ref out = call_function(find_function(name), std::move(arguments));
      return {.kind = Argument::Tensor, .tensors = {out}};
    } catch (const Error& e) {
      std::string_view what = e.what();
      bool says_who = what.substr(0, name.size()) == name && what.substr(name.size(), 1) == ":";
      in_.error(says_who ? std::string(what) : fmt::format("{}: {}", name, what));
    }
  }

  Argument negated() {
    skip();
    if (in_.peek().kind == Token::Number) return number(in_.next(), true);
    Argument a = primary();
    if (a.kind != Argument::Number) return call("neg", {a});
    Number& n = a.numbers[0];
    if (n.kind == Number::Int && n.i == INT64_MIN)
      in_.error(fmt::format("-({}) does not fit in 64 bits", n.i));
    n.i = -n.i;
    n.f = -n.f;
    return a;
  }

  Argument primary() {
    Lexer::Level level(in_);
    skip();
    Token t = in_.next();
    if (t.kind == Token::Number) return number(t, false);
    if (t.kind == Token::Text) return {.kind = Argument::Text, .text = t.text};
    if (t.kind == Token::Name) return named(t.text);
    if (t.text == "-") return negated();
    if (t.text == "[") return list();
    if (t.text == "(") {
      Argument inside = operation(0);
      skip();
      in_.expect(")");
      return inside;
    }
    in_.error(fmt::format("'{}' is not expected", t.text));
  }

  Argument number(const Token& t, bool negative) {
    if (!t.suffix.empty())
      in_.error(fmt::format("{}_{}: a number has the dtype of the tensor beside it", t.text, t.suffix));
    const std::string text = (negative ? "-" : "") + t.text;
    bool whole = t.text.find_first_of(".ep") == std::string::npos;
    errno = 0;
    Number n = whole ? Number::of(static_cast<int64_t>(std::strtoll(text.c_str(), nullptr, 10)))
                     : Number::of(std::strtod(text.c_str(), nullptr));
    if (errno == ERANGE && (whole || std::isinf(n.f)))
      in_.error(fmt::format("{} does not fit in 64 bits", text));
    return {.kind = Argument::Number, .numbers = {n}};
  }

  Argument list() {
    Argument out{.kind = Argument::Numbers};
    skip();
    while (!in_.is("]")) {
      Argument a = operation(0);
      out.tensors.insert(out.tensors.end(), a.tensors.begin(), a.tensors.end());
      out.numbers.insert(out.numbers.end(), a.numbers.begin(), a.numbers.end());
      skip();
      if (!in_.take(",")) break;
    }
    in_.expect("]");
    if (!out.tensors.empty() && !out.numbers.empty()) in_.error("a list of tensors and numbers");
    if (!out.tensors.empty()) out.kind = Argument::Tensors;
    return out;
  }

  Argument named(const std::string& name) {
    if (in_.is("(")) return function(name);
    if (auto it = names_.find(name); it != names_.end())
      return {.kind = Argument::Tensor, .tensors = {it->second}};
    if (name == "true" || name == "false")
      return {.kind = Argument::Number, .numbers = {Number::of(name == "true")}};
    if (name == "none") return {};
    DType dtype = parse_named_dtype(name);
    if (!in_.take("[")) return {.kind = Argument::Dtype, .dtype = dtype};
    Argument shape = list();
    Dims dims;
    for (const Number& n : shape.numbers) {
      if (n.kind != Number::Int || n.i < 0) in_.error(fmt::format("{} is not a dimension", n.f));
      dims.push_back(index(n.i));
    }
    Ref leaf = make(Op::Buffer, dims, {.ints = {fresh_id(), 0}}, dtype);
    return {.kind = Argument::Tensor, .tensors = {leaf}};
  }

  DType parse_named_dtype(const std::string& name) {
    try {
      return parse_dtype(name);
    } catch (const Error&) {
      in_.error(fmt::format("'{}' is no name, function or dtype", name));
    }
  }

  /// Arguments by position, then by name.
  Argument function(const std::string& name) {
    std::vector<Parameter> wanted;
    try {
      wanted = parameters(find_function(name));
    } catch (const Error& e) {
      in_.error(e.what());
    }
    std::vector<Argument> arguments;
    in_.expect("(");
    skip();
    while (!in_.is(")")) {
      size_t position = arguments.size();
      if (in_.peek().kind == Token::Name && in_.peek(1).text == "=" && in_.peek(1).kind == Token::Symbol) {
        std::string key = in_.next().text;
        in_.next();
        auto it =
            std::find_if(wanted.begin(), wanted.end(), [&](const Parameter& p) { return p.name == key; });
        if (it == wanted.end())
          in_.error(fmt::format("{} has no argument '{}' ({})", name, key, find_function(name).parameters));
        position = static_cast<size_t>(it - wanted.begin());
      }
      if (arguments.size() <= position) arguments.resize(position + 1);
      arguments[position] = operation(0);
      skip();
      if (!in_.take(",")) break;
      skip();
    }
    in_.expect(")");
    return call(name, std::move(arguments));
  }

  Lexer in_;
  std::map<std::string, Ref> names_;
};

}  // namespace

Ref parse_expression(std::string_view text) { return Parser(text).run(); }

}  // namespace kontor
