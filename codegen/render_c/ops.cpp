// Elementwise ops in C: primitives (codegen/tree/decompose.h) as C has them.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/dialect.h"
#include "codegen/tree/decompose.h"

namespace kontor::clike {

namespace {

/// Left-associative.
Text infix(std::string_view op, int precedence, const Text& a, const Text& b) {
  return {fmt::format("{} {} {}", in(a, precedence), op, in(b, precedence + 1)), precedence};
}

/// Operands always in parentheses: what binds how among these few know by heart.
Text bitwise(std::string_view op, const Text& a, const Text& b) {
  return {fmt::format("{} {} {}", in(a, Unary), op, in(b, Unary)), Ternary};
}

struct OpText {
  Op op;
  std::string_view text;  // between operands, or a function's name
  int precedence;         // of the former
};
// clang-format off
constexpr OpText op_texts[] = {
    {Op::Add, "+", Sum},       {Op::Sub, "-", Sum},       {Op::Mul, "*", Product},   {Op::Div, "/", Product},
    {Op::IDiv, "/", Product},  {Op::Mod, "%", Product},   {Op::And, "&", Bits},      {Op::Or, "|", Bits},
    {Op::Xor, "^", Bits},      {Op::Shl, "<<", Bits},     {Op::Shr, ">>", Bits},     {Op::Lt, "<", Relation},
    {Op::Le, "<=", Relation},  {Op::Eq, "==", Equality},  {Op::Ne, "!=", Equality},  {Op::Abs, "fabs", Primary},
    {Op::Sqrt, "sqrt", Primary}, {Op::Floor, "floor", Primary}, {Op::Ceil, "ceil", Primary}, {Op::Fma, "fma", Primary},
};
// clang-format on

const OpText& text_of(Op op) {
  for (const OpText& r : op_texts)
    if (r.op == op) return r;
  broken("C renderer: {} is no elementwise op", kontor::row(op).name);
}

/// A sum that cannot overflow may be regrouped, and what is added may be subtracted.
Text index_sum(const Text& a, const Text& b) {
  if (b.text[0] == '-') return {fmt::format("{} - {}", in(a, Sum), b.text.substr(1)), Sum};
  return {fmt::format("{} + {}", in(a, Sum), in(b, Sum)), Sum};
}

/// Of an i64: whether its sources are so small that the result is one of 64 bits.
bool cannot_overflow(const Node& n) {
  const int64_t limit = int64_t{1} << (n.op == Op::Mul ? 31 : 61);
  const auto is_small = [&](const Ref& s) { return s->bounds.lo > -limit && s->bounds.hi < limit; };
  return n.dtype == DType::I64 && std::all_of(n.src.begin(), n.src.end(), is_small);
}

}  // namespace

Text Speller::plain_cast(DType to, const Text& x) const {
  return {fmt::format("({}){}", variable_type(to), in(x, Unary)), Unary};
}

Text Speller::cast(const Node& n, const Text& x) const {
  const DType from = n[0]->dtype;
  const bool same = variable_type(n.dtype) == variable_type(from);
  return same && is_float(from) ? x : plain_cast(n.dtype, x);
}

Text Speller::bitcast(DType to, DType from, const Text& x) const {
  const bool is_wide = kontor::row(to).bits == 64;
  if (is_float(from)) {
    const Text bits = call(is_wide ? row_.f64_bits : row_.f32_bits, std::span(&x, 1));
    return is_wide && row_.word64 == variable_type(to) ? bits : plain_cast(to, bits);
  }
  if (is_float(to)) return call(is_wide ? row_.bits_f64 : row_.bits_f32, std::span(&x, 1));
  return plain_cast(to, x);
}

Text Speller::of_float(Op op, DType dtype, std::span<const Text> args) const {
  if (op == Op::Neg) return {"-" + in(args[0], Primary), Unary};
  const OpText& r = text_of(op);
  if (r.precedence != Primary) return infix(r.text, r.precedence, args[0], args[1]);
  return call(fmt::format("{}{}", r.text, dtype == DType::F64 ? row_.f64_math : row_.f32_math), args);
}

/// Signed overflow is undefined in C, and narrow integers are promoted: arithmetic that may overflow is done unsigned and
/// cut to the width.
Text Speller::of_int(const Node& n, std::span<const Text> args) const {
  const Op op = n.op;
  const DType dtype = n[0]->dtype;
  const int bits = kontor::row(dtype).bits;
  const DType wide = unsigned_of(std::max(bits, 32));
  if (op == Op::Not) return plain_cast(dtype, {"~" + in(args[0], Primary), Unary});
  const bool fits = cannot_overflow(n);
  if (op == Op::Neg) {
    if (fits) return {"-" + in(args[0], Primary), Unary};
    return plain_cast(dtype, infix("-", Sum, {"0"}, plain_cast(wide, args[0])));
  }
  const OpText& r = text_of(op);
  if (op == Op::Shl) return plain_cast(dtype, bitwise(r.text, plain_cast(wide, args[0]), args[1]));
  if (r.precedence == Bits) {
    const Text t = bitwise(r.text, args[0], args[1]);
    return bits < 32 ? plain_cast(dtype, t) : t;
  }
  const bool wraps = op == Op::Add || op == Op::Sub || op == Op::Mul;
  if (fits && op == Op::Add) return index_sum(args[0], args[1]);
  if (!wraps || fits || dtype == wide) return infix(r.text, r.precedence, args[0], args[1]);
  return plain_cast(dtype, infix(r.text, r.precedence, plain_cast(wide, args[0]), plain_cast(wide, args[1])));
}

Text Speller::of_bool(Op op, std::span<const Text> args) const {
  switch (op) {
    case Op::Not: return {"!" + in(args[0], Primary), Unary};
    case Op::Or:  return infix("||", LogicalOr, args[0], args[1]);
    case Op::And: return infix("&&", LogicalAnd, args[0], args[1]);
    case Op::Xor:
    case Op::Ne:  return infix("!=", Equality, {in(args[0], Primary)}, {in(args[1], Primary)});
    case Op::Eq:  return infix("==", Equality, {in(args[0], Primary)}, {in(args[1], Primary)});
    default:      broken("C renderer: {} of bool", kontor::row(op).name);
  }
}

Text Speller::primitive(const Node& n, std::span<const Text> args) {
  const DType of = n[0]->dtype;
  if (n.op == Op::Where)
    return {
        fmt::format("{} ? {} : {}", in(args[0], LogicalOr), in(args[1], LogicalOr), in(args[2], LogicalOr)),
        Ternary};
  if (n.op == Op::Cast) return cast(n, args[0]);
  if (n.op == Op::Bitcast) return bitcast(n.dtype, of, args[0]);
  if (of == DType::Bool) return of_bool(n.op, args);
  return is_float(of) ? of_float(n.op, of, args) : of_int(n, args);
}

}  // namespace kontor::clike
