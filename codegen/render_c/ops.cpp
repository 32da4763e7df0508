// Casts and elementwise ops in C.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/dialect.h"
#include "graph/scalar.h"

namespace kontor::clike {

namespace {

/// Left-associative.
Text infix(std::string_view op, int precedence, const Text& a, const Text& b) {
  return {fmt::format("{} {} {}", in(a, precedence), op, in(b, precedence + 1)), precedence};
}

}  // namespace

Text Speller::plain_cast(DType to, const Text& x) const {
  return {fmt::format("({}){}", variable_type(to), in(x, Unary)), Unary};
}

/// What may have become -0, of a dtype that has none.
Text Speller::with_its_zero(DType dtype, const Text& x) {
  return is_float(dtype) && !kontor::row(dtype).format.has_minus_zero() ? narrowed(dtype, x) : x;
}

/// A float rounded to what a narrow dtype holds.
Text Speller::narrowed(DType dtype, const Text& x) {
  if (!is_narrow(dtype)) return x;
  Text bits = helper("to", dtype, std::span(&x, 1));
  return helper("from", dtype, std::span(&bits, 1));
}

Text Speller::cast(DType to, DType from, const Text& x) {
  if (to == from) return x;
  if (to == DType::Bool) return {in(x, Equality) + " != 0", Equality};
  if (is_float(from) && is_integer(to)) {
    DType wide = from == DType::F64 ? DType::F64 : DType::F32;
    return helper("saturate", to, std::span(&x, 1), wide);
  }
  if (!is_narrow(to)) return is_narrow(from) && to == DType::F32 ? x : plain_cast(to, x);
  if (is_float(from) && from != DType::F64) return narrowed(to, x);
  Text exact = x;
  if (is_integer(from) && kontor::row(from).bits == 64) exact = helper("sticky", from, std::span(&x, 1));
  if (from == DType::Bool || (is_integer(from) && kontor::row(from).bits <= 16))
    return narrowed(to, plain_cast(DType::F32, x));
  return narrowed(to, helper("odd", DType::F32, std::span(&exact, 1)));
}

/// The bits as an unsigned integer of the same width.
Text Speller::bits_of(DType dtype, const Text& x) {
  DType bits = unsigned_of(kontor::row(dtype).bits);
  if (is_narrow(dtype)) return helper("to", dtype, std::span(&x, 1));
  if (!is_float(dtype)) return dtype == bits ? x : plain_cast(bits, x);
  if (dtype == DType::F32) return call(row_.f32_bits, std::span(&x, 1));
  const Text word = call(row_.f64_bits, std::span(&x, 1));
  return row_.word64 == variable_type(bits) ? word : plain_cast(bits, word);
}

Text Speller::of_bits(DType dtype, DType bits, const Text& x) {
  if (dtype == bits) return x;
  if (is_narrow(dtype)) return helper("from", dtype, std::span(&x, 1));
  if (!is_float(dtype)) return cast(dtype, bits, x);
  return call(dtype == DType::F64 ? row_.bits_f64 : row_.bits_f32, std::span(&x, 1));
}

Text Speller::math(std::string_view function, DType dtype, std::span<const Text> args) const {
  return call(fmt::format("{}{}", function, dtype == DType::F64 ? row_.f64_math : row_.f32_math), args);
}

Text Speller::compare(Op op, std::span<const Text> args) const {
  switch (op) {
    case Op::Lt: return infix("<", Relation, args[0], args[1]);
    case Op::Le: return infix("<=", Relation, args[0], args[1]);
    case Op::Eq: return infix("==", Equality, args[0], args[1]);
    default:     return infix("!=", Equality, args[0], args[1]);
  }
}

Text Speller::of_float(Op op, DType dtype, std::span<const Text> args) {
  switch (op) {
    case Op::Neg:   return with_its_zero(dtype, {"-" + in(args[0], Primary), Unary});
    case Op::Abs:   return math("fabs", dtype, args);
    case Op::Floor: return math("floor", dtype, args);
    case Op::Ceil:  return with_its_zero(dtype, math("ceil", dtype, args));
    case Op::Sqrt:  return narrowed(dtype, math("sqrt", dtype, args));
    case Op::Add:   return narrowed(dtype, infix("+", Sum, args[0], args[1]));
    case Op::Sub:   return narrowed(dtype, infix("-", Sum, args[0], args[1]));
    case Op::Mul:   return narrowed(dtype, infix("*", Product, args[0], args[1]));
    case Op::Div:   return narrowed(dtype, infix("/", Product, args[0], args[1]));
    case Op::Max:   return helper("max", dtype, args);
    case Op::Min:   return helper("min", dtype, args);
    case Op::Fma:
      return is_narrow(dtype) ? narrowed(dtype, helper("fma", dtype, args)) : math("fma", dtype, args);
    default: broken("C renderer: {} of {}", kontor::row(op).name, name(dtype));
  }
}

/// The step of a dot of integers.
Text Speller::int_fma(DType dtype, std::span<const Text> args) {
  const Text sum[] = {of_int(Op::Mul, dtype, args.first(2), {}), args[2]};
  return of_int(Op::Add, dtype, sum, {});
}

/// By a constant below the width, what C does is what is wanted; else a helper looks.
Text Speller::shift(Op op, DType dtype, std::span<const Text> args, const Facts& facts) {
  if (!facts.plain_shift) return helper(op == Op::Shl ? "shl" : "shr", dtype, args);
  DType wide = op == Op::Shl ? unsigned_of(std::max(kontor::row(dtype).bits, 32)) : dtype;
  Text x = wide == dtype ? args[0] : plain_cast(wide, args[0]);
  Text t{fmt::format("{} {} {}", in(x, Unary), op == Op::Shl ? "<<" : ">>", in(args[1], Unary)), Ternary};
  return wide == dtype && kontor::row(dtype).bits >= 32 ? t : plain_cast(dtype, t);
}

/// A sum that cannot overflow may be regrouped, and what is added may be subtracted.
static Text index_sum(const Text& a, const Text& b) {
  if (b.text[0] == '-') return {fmt::format("{} - {}", in(a, Sum), b.text.substr(1)), Sum};
  return {fmt::format("{} + {}", in(a, Sum), in(b, Sum)), Sum};
}

/// Signed overflow is undefined in C, and narrow integers are promoted: arithmetic that may overflow is done unsigned and
/// cut to the width.
Text Speller::of_int(Op op, DType dtype, std::span<const Text> args, const Facts& facts) {
  int bits = kontor::row(dtype).bits;
  bool plain = facts.no_overflow || (kind(dtype) == Kind::Unsigned && bits >= 32);
  auto wrapped = [&](std::string_view sign, int precedence) -> Text {
    if (facts.no_overflow && op == Op::Add) return index_sum(args[0], args[1]);
    if (plain) return infix(sign, precedence, args[0], args[1]);
    DType u = unsigned_of(std::max(bits, 32));
    return plain_cast(dtype, infix(sign, precedence, plain_cast(u, args[0]), plain_cast(u, args[1])));
  };
  auto bitwise = [&](std::string_view sign) {
    Text t{fmt::format("{} {} {}", in(args[0], Unary), sign, in(args[1], Unary)), Ternary};
    return bits < 32 ? plain_cast(dtype, t) : t;
  };
  const Text zero{"0"}, ones{"-1"};
  switch (op) {
    case Op::Neg:
      if (facts.no_overflow) return {"-" + in(args[0], Primary), Unary};
      return plain_cast(dtype, infix("-", Sum, zero, plain_cast(unsigned_of(std::max(bits, 32)), args[0])));
    case Op::Not: return plain_cast(dtype, {"~" + in(args[0], Primary), Unary});
    case Op::Abs: return kind(dtype) == Kind::Signed ? helper("abs", dtype, args) : args[0];
    case Op::Add: return wrapped("+", Sum);
    case Op::Sub: return wrapped("-", Sum);
    case Op::Mul: return wrapped("*", Product);
    case Op::And: return bitwise("&");
    case Op::Or:  return bitwise("|");
    case Op::Xor: return bitwise("^");
    case Op::IDiv:
      return facts.plain_division ? infix("/", Product, args[0], args[1]) : helper("idiv", dtype, args);
    case Op::Mod:
      return facts.plain_division ? infix("%", Product, args[0], args[1]) : helper("mod", dtype, args);
    case Op::Max: return helper("max", dtype, args);
    case Op::Min: return helper("min", dtype, args);
    case Op::Shl:
    case Op::Shr: return shift(op, dtype, args, facts);
    case Op::Fma: return int_fma(dtype, args);
    default:      broken("C renderer: {} of {}", kontor::row(op).name, name(dtype));
  }
}

/// Add is or, mul is and; the others are those of integers, then != 0.
Text Speller::of_bool(Op op, std::span<const Text> args) const {
  const Text& a = args[0];
  auto inverse = [](const Text& x) { return Text{"!" + in(x, Primary), Unary}; };
  switch (op) {
    case Op::Not:  return inverse(a);
    case Op::Neg:
    case Op::Abs:  return a;
    case Op::Add:
    case Op::Or:
    case Op::Max:  return infix("||", LogicalOr, a, args[1]);
    case Op::Mul:
    case Op::And:
    case Op::Min:
    case Op::IDiv: return infix("&&", LogicalAnd, a, args[1]);
    case Op::Sub:
    case Op::Xor:
    case Op::Ne:   return infix("!=", Equality, {in(a, Primary)}, {in(args[1], Primary)});
    case Op::Eq:   return infix("==", Equality, {in(a, Primary)}, {in(args[1], Primary)});
    case Op::Fma:  return infix("||", LogicalOr, infix("&&", LogicalAnd, a, args[1]), args[2]);
    case Op::Mod:  return {"false"};
    case Op::Shl:
    case Op::Shr:  return infix("&&", LogicalAnd, a, inverse(args[1]));
    case Op::Lt:   return infix("&&", LogicalAnd, inverse(a), args[1]);
    case Op::Le:   return infix("||", LogicalOr, inverse(a), args[1]);
    default:       broken("C renderer: {} of bool", kontor::row(op).name);
  }
}

Text Speller::apply(Op op, DType dtype, DType source, std::span<const Text> args, const Facts& facts) {
  if (op == Op::Where)
    return {
        fmt::format("{} ? {} : {}", in(args[0], LogicalOr), in(args[1], LogicalOr), in(args[2], LogicalOr)),
        Ternary};
  if (op == Op::Cast) return cast(dtype, source, args[0]);
  if (op == Op::Bitcast) {
    if (dtype == DType::Bool || source == DType::Bool) return cast(dtype, source, args[0]);
    return of_bits(dtype, unsigned_of(kontor::row(dtype).bits), bits_of(source, args[0]));
  }
  if (!is_elementwise(op)) broken("C renderer: {} is no elementwise op", kontor::row(op).name);
  if (source == DType::Bool) return of_bool(op, args);
  if (has(op, Comparison)) return compare(op, args);
  return is_float(source) ? of_float(op, dtype, args) : of_int(op, dtype, args, facts);
}

Speller::Facts Speller::facts(const Node& n) const {
  Facts f;
  bool narrow_enough = true;
  int64_t limit = int64_t{1} << (n.op == Op::Mul ? 31 : 61);
  for (const Ref& s : n.src) narrow_enough &= s->bounds.lo > -limit && s->bounds.hi < limit;
  f.no_overflow = n.dtype == DType::I64 && narrow_enough;
  if (n.src.size() == 2 && is_integer(n.dtype)) {
    bool from_zero = kind(n.dtype) == Kind::Unsigned || n.src[0]->bounds.lo >= 0;
    bool by_constant = n.src[1]->is_const() && !is_float(n.src[1]->dtype) && n.src[1]->at(0) > 0;
    f.plain_division = from_zero && (by_constant || (n.dtype != DType::U64 && n.src[1]->bounds.lo > 0));
    f.plain_division &= kontor::row(n.dtype).bits >= 32;
    f.plain_shift = n.src[1]->is_const() && is_integer(n.src[1]->dtype) && n.src[1]->at(0) >= 0 &&
                    n.src[1]->at(0) < kontor::row(n.dtype).bits;
  }
  return f;
}

Text Speller::apply(const Node& n, std::span<const Text> args) {
  return apply(n.op, n.dtype, n[n.op == Op::Where ? 1 : 0]->dtype, args, facts(n));
}

Text Speller::apply(Op op, DType dtype, std::span<const Text> args) {
  return apply(op, dtype, dtype, args, {});
}

}  // namespace kontor::clike
