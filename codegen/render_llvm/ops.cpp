// Elementwise ops as LLVM instructions. Nothing here may trap, call a library, or let LLVM regroup floats.
#include "codegen/render_llvm/ops.h"

#include <bit>
#include <cmath>

#include "base/error.h"
#include "graph/scalar.h"

namespace kontor::ir {

Scalar in_register(DType dtype) {
  switch (kind(dtype)) {
    case Kind::Bool:  return Scalar::I1;
    case Kind::Float: return dtype == DType::F64 ? Scalar::Double : Scalar::Float;
    default:          break;
  }
  switch (row(dtype).bits) {
    case 8:  return Scalar::I8;
    case 16: return Scalar::I16;
    case 32: return Scalar::I32;
    default: return Scalar::I64;
  }
}

Scalar in_memory(DType dtype) {
  if (dtype == DType::Bool) return Scalar::I8;
  if (dtype == DType::F16) return Scalar::Half;
  if (dtype == DType::BF16) return Scalar::I16;
  if (is_float(dtype) && row(dtype).bits == 8) return Scalar::I8;
  return in_register(dtype);
}

// Small helpers: instructions of one shape.
namespace {

Type like(Builder& b, Val v, Scalar of) { return {of, b.lanes(v)}; }
Val binary(Builder& b, std::string_view op, Val x, Val y) {
  return b.emit(b.type(x), op, " ", typed(x), ", ", y);
}
Val compare(Builder& b, std::string_view op, Val x, Val y) {
  return b.emit(like(b, x, Scalar::I1), op, " ", typed(x), ", ", y);
}
Val select(Builder& b, Val c, Val x, Val y) {
  return b.emit(b.type(x), "select ", typed(c), ", ", typed(x), ", ", typed(y));
}
Val convert(Builder& b, std::string_view op, Val v, Scalar to) {
  Type t = like(b, v, to);
  return t == b.type(v) ? v : b.emit(t, op, " ", typed(v), " to ", t);
}
Val number(Builder& b, Val as, int64_t n) { return b.splat(b.int_const(b.type(as).of, n), b.lanes(as)); }
Val real(Builder& b, Val as, double x) { return b.splat(b.float_const(b.type(as).of, x), b.lanes(as)); }
Val either(Builder& b, Val x, Val y) { return binary(b, "or", x, y); }
int width(Builder& b, Val v) { return row(b.type(v).of).bits; }

/// f32 -> the bits of the nearest bf16 (ties to even) in the upper half of an i32; a NaN stays one.
Val bf16_bits(Builder& b, Val x) {
  Val u = convert(b, "bitcast", x, Scalar::I32);
  Val odd = binary(b, "and", binary(b, "lshr", u, number(b, u, 16)), number(b, u, 1));
  Val up = binary(b, "add", binary(b, "add", u, number(b, u, 0x7fff)), odd);
  Val quiet = binary(b, "or", u, number(b, u, 0x400000));
  return binary(b, "and", select(b, compare(b, "fcmp uno", x, x), quiet, up), number(b, u, -65536));
}

int64_t bits_of(double x) { return std::bit_cast<int32_t>(static_cast<float>(x)); }

/// f32 -> the code of the nearest float of the format (ties to even) as an i32.
Val encoded(Builder& b, const FloatFormat& f, Val x) {
  const int cut = 23 - f.mantissa_bits, sign_bit = f.exponent_bits + f.mantissa_bits;
  Val u = convert(b, "bitcast", x, Scalar::I32), size = binary(b, "and", u, number(b, u, INT32_MAX));
  Val sign = binary(b, "and", binary(b, "lshr", u, number(b, u, 31 - sign_bit)),
                    number(b, u, int64_t{1} << sign_bit));
  Val odd = binary(b, "and", binary(b, "lshr", size, number(b, u, cut)), number(b, u, 1));
  Val up = binary(b, "add", binary(b, "add", size, number(b, u, (int64_t{1} << (cut - 1)) - 1)), odd);
  Val normal = binary(b, "sub", binary(b, "lshr", up, number(b, u, cut)),
                      number(b, u, int64_t{127 - f.bias} << f.mantissa_bits));
  // Beside this number a unit in the last place is the least number of the format.
  const double magic = std::ldexp(1.0, f.least() + 23);
  Val far = binary(b, "fadd", convert(b, "bitcast", size, Scalar::Float), real(b, x, magic));
  Val small = binary(b, "sub", convert(b, "bitcast", far, Scalar::I32), number(b, u, bits_of(magic)));
  Val is_small = compare(b, "icmp slt", size, number(b, u, bits_of(std::ldexp(1.0, 1 - f.bias))));
  Val code = select(b, is_small, small, normal), beyond = number(b, u, f.beyond());
  code = select(b, compare(b, "icmp slt", code, beyond), code, beyond);
  if (!f.has_minus_zero()) sign = select(b, compare(b, "icmp eq", code, number(b, u, 0)), code, sign);
  return either(b, select(b, compare(b, "fcmp uno", x, x), number(b, u, f.nan()), code), sign);
}

/// The code of a float of the format, an i32, as f32.
Val decoded(Builder& b, const FloatFormat& f, Val u) {
  const int cut = 23 - f.mantissa_bits, sign_bit = f.exponent_bits + f.mantissa_bits;
  Val code = binary(b, "and", u, number(b, u, f.all_ones()));
  Val sign = binary(b, "and", binary(b, "shl", u, number(b, u, 31 - sign_bit)), number(b, u, INT32_MIN));
  Val placed = binary(b, "shl", code, number(b, u, cut));
  Val normal = binary(b, "add", placed, number(b, u, int64_t{127 - f.bias} << 23));
  Val count = convert(b, "uitofp", code, Scalar::Float);
  Val small = binary(b, "fmul", count, real(b, count, std::ldexp(1.0, f.least())));
  Val is_small = compare(b, "icmp slt", code, number(b, u, int64_t{1} << f.mantissa_bits));
  Val bits = select(b, is_small, convert(b, "bitcast", small, Scalar::I32), normal);
  Val special =
      f.specials == Specials::Ieee ? either(b, placed, number(b, u, 0x7f800000)) : number(b, u, 0x7fc00000);
  bits = select(b,
                f.has_minus_zero() ? compare(b, "icmp slt", code, number(b, u, f.beyond()))
                                   : compare(b, "icmp ne", u, number(b, u, f.nan())),
                bits, special);
  return convert(b, "bitcast", either(b, bits, sign), Scalar::Float);
}

bool is_f8(DType dtype) { return is_float(dtype) && row(dtype).bits == 8; }

/// The result of arithmetic in float, rounded to the dtype.
Val rounded(Builder& b, DType dtype, Val x) {
  if (dtype == DType::F16) return convert(b, "fpext", convert(b, "fptrunc", x, Scalar::Half), Scalar::Float);
  if (dtype == DType::BF16) return convert(b, "bitcast", bf16_bits(b, x), Scalar::Float);
  return is_f8(dtype) ? decoded(b, row(dtype).format, encoded(b, row(dtype).format, x)) : x;
}

/// What may have become -0, of a dtype that has none.
Val with_its_zero(Builder& b, DType dtype, Val x) {
  return row(dtype).format.has_minus_zero() ? x : rounded(b, dtype, x);
}

}  // namespace

Val from_memory(Builder& b, DType dtype, Val v) {
  if (dtype == DType::Bool) return compare(b, "icmp ne", v, number(b, v, 0));
  if (dtype == DType::F16) return convert(b, "fpext", v, Scalar::Float);
  if (is_f8(dtype)) return decoded(b, row(dtype).format, convert(b, "zext", v, Scalar::I32));
  if (dtype != DType::BF16) return v;
  Val wide = convert(b, "zext", v, Scalar::I32);
  return convert(b, "bitcast", binary(b, "shl", wide, number(b, wide, 16)), Scalar::Float);
}

Val to_memory(Builder& b, DType dtype, Val v) {
  if (dtype == DType::Bool) return convert(b, "zext", v, Scalar::I8);
  if (dtype == DType::F16) return convert(b, "fptrunc", v, Scalar::Half);
  if (is_f8(dtype)) return convert(b, "trunc", encoded(b, row(dtype).format, v), Scalar::I8);
  if (dtype != DType::BF16) return v;
  Val bits = convert(b, "bitcast", v, Scalar::I32);
  return convert(b, "trunc", binary(b, "lshr", bits, number(b, bits, 16)), Scalar::I16);
}

Val constant_value(Builder& b, const Node& n) {
  if (!is_float(n.dtype)) return b.int_const(in_register(n.dtype), const_int(n));
  return b.float_const(in_register(n.dtype), to_double(n.dtype, value_of(n)));
}

Facts Facts::of(const Node& n) {
  if (n.src.size() < 2 || is_float(n.src[0]->dtype) || n.src[0]->dtype == DType::U64) return {};
  return {n.src[0]->bounds, n.src[1]->bounds};
}

namespace {

using Values = std::span<const Val>;

/// What an op is on floats, signed and unsigned integers, and bools: an instruction; empty: none.
struct TextRow {
  Op op;
  std::string_view floating, signed_, unsigned_, boolean;
  bool rounds;  // so that narrow floats, held as floats, are rounded after it
};
// clang-format off
constexpr TextRow text_rows[] = {
    {Op::Add, "fadd",     "add",      "add",      "or",       true},
    {Op::Sub, "fsub",     "sub",      "sub",      "xor",      true},
    {Op::Mul, "fmul",     "mul",      "mul",      "and",      true},
    {Op::Div, "fdiv",     "",         "",         "",         true},
    {Op::And, "",         "and",      "and",      "and",      false},
    {Op::Or,  "",         "or",       "or",       "or",       false},
    {Op::Xor, "",         "xor",      "xor",      "xor",      false},
    {Op::Lt,  "fcmp olt", "icmp slt", "icmp ult", "icmp ult", false},
    {Op::Le,  "fcmp ole", "icmp sle", "icmp ule", "icmp ule", false},
    {Op::Eq,  "fcmp oeq", "icmp eq",  "icmp eq",  "icmp eq",  false},
    {Op::Ne,  "fcmp une", "icmp ne",  "icmp ne",  "icmp ne",  false},
};
// clang-format on

std::string_view text_of(const TextRow& r, Kind k) {
  if (k == Kind::Float) return r.floating;
  if (k == Kind::Bool) return r.boolean;
  return k == Kind::Signed ? r.signed_ : r.unsigned_;
}

/// And, Or with a constant, and comparisons of constants: what guards become where loops are unrolled.
Val fold_logic(Builder& b, Op op, Val x, Val y) {
  int64_t p = 0, q = 0;
  bool known_x = b.constant(x, p), known_y = b.constant(y, q);
  if (b.type(x).of == Scalar::I1 && (op == Op::And || op == Op::Or) && (known_x || known_y)) {
    bool c = (known_x ? p : q) != 0;
    Val constant = known_x ? x : y, other = known_x ? y : x;
    return c == (op == Op::Or) ? constant : other;
  }
  if (b.type(x).of != Scalar::I64 || !known_x || !known_y || b.lanes(x)) return {};
  switch (op) {
    case Op::Lt: return b.boolean(p < q);
    case Op::Le: return b.boolean(p <= q);
    case Op::Eq: return b.boolean(p == q);
    case Op::Ne: return b.boolean(p != q);
    default:     return {};
  }
}

Val simple(Builder& b, const TextRow& r, DType dtype, Values v) {
  if (!is_float(dtype))
    if (Val known = fold_logic(b, r.op, v[0], v[1])) return known;
  std::string_view text = text_of(r, kind(dtype));
  if (text.empty()) broken("LLVM renderer: {} of {}", row(r.op).name, name(dtype));
  if (has(r.op, Comparison)) return compare(b, text, v[0], v[1]);
  Val x = binary(b, text, v[0], v[1]);
  return r.rounds ? rounded(b, dtype, x) : x;
}

Val negate(Builder& b, DType dtype, Values v, const Facts&) {
  if (is_float(dtype)) return with_its_zero(b, dtype, b.emit(b.type(v[0]), "fneg ", typed(v[0])));
  return binary(b, "sub", number(b, v[0], 0), v[0]);
}

Val invert(Builder& b, DType, Values v, const Facts&) {
  int64_t bits = 0;
  if (b.type(v[0]) == Type{Scalar::I1, 0} && b.constant(v[0], bits)) return b.boolean(!bits);
  return binary(b, "xor", v[0], number(b, v[0], b.type(v[0]).of == Scalar::I1 ? 1 : -1));
}

Val absolute(Builder& b, DType dtype, Values v, const Facts&) {
  if (is_float(dtype)) return b.call("fabs", b.type(v[0]), b.type(v[0]), {v[0]});
  if (kind(dtype) != Kind::Signed) return v[0];
  return select(b, compare(b, "icmp slt", v[0], number(b, v[0], 0)),
                binary(b, "sub", number(b, v[0], 0), v[0]), v[0]);
}

Val square_root(Builder& b, DType dtype, Values v, const Facts&) {
  return rounded(b, dtype, b.call("sqrt", b.type(v[0]), b.type(v[0]), {v[0]}));
}
Val round_down(Builder& b, DType, Values v, const Facts&) {
  return b.call("floor", b.type(v[0]), b.type(v[0]), {v[0]});
}
Val round_up(Builder& b, DType dtype, Values v, const Facts&) {
  return with_its_zero(b, dtype, b.call("ceil", b.type(v[0]), b.type(v[0]), {v[0]}));
}

/// A double sum's rounding error turned into its last bit: what is then rounded to f16 or bf16 is rounded once.
Val to_odd(Builder& b, Val sum, Val error) {
  Val bits = convert(b, "bitcast", sum, Scalar::I64), zero = real(b, sum, 0);
  Val even = compare(b, "icmp eq", binary(b, "and", bits, number(b, bits, 1)), number(b, bits, 0));
  Val inexact = binary(b, "and", compare(b, "fcmp one", error, zero), even);
  Val away = binary(b, "xor", compare(b, "fcmp olt", error, zero), compare(b, "fcmp oge", sum, zero));
  Val odd = binary(b, "add", bits, select(b, away, number(b, bits, 1), number(b, bits, -1)));
  return convert(b, "bitcast", select(b, inexact, odd, bits), Scalar::Double);
}

Val cast_float(Builder& b, DType to, DType from, Val v);

/// The product of two narrow floats is exact in a double.
Val narrow_fma(Builder& b, DType dtype, std::span<const Val> v) {
  Val x = convert(b, "fpext", v[0], Scalar::Double), y = convert(b, "fpext", v[1], Scalar::Double);
  Val p = binary(b, "fmul", x, y), c = convert(b, "fpext", v[2], Scalar::Double), s = binary(b, "fadd", p, c);
  Val t = binary(b, "fsub", s, p);
  Val error = binary(b, "fadd", binary(b, "fsub", p, binary(b, "fsub", s, t)), binary(b, "fsub", c, t));
  return cast_float(b, dtype, DType::F64, to_odd(b, s, error));
}

Val fused(Builder& b, DType dtype, Values v, const Facts&) {
  if (is_narrow(dtype)) return narrow_fma(b, dtype, v);
  if (is_float(dtype)) return b.call("fma", b.type(v[0]), b.type(v[0]), {v[0], v[1], v[2]});
  return apply(b, Op::Add, dtype, {apply(b, Op::Mul, dtype, {v[0], v[1]}), v[2]});
}

/// (a > b || a != a) ? a : b; one comparison where a or b is a constant other than NaN.
Val extreme(Builder& b, DType dtype, Values v, bool greater) {
  Kind k = kind(dtype);
  if (k == Kind::Bool) return binary(b, greater ? "or" : "and", v[0], v[1]);
  if (k != Kind::Float) {
    std::string_view ops[] = {"icmp ult", "icmp ugt", "icmp slt", "icmp sgt"};
    return select(b, compare(b, ops[2 * (k == Kind::Signed) + greater], v[0], v[1]), v[0], v[1]);
  }
  int64_t bits = 0;
  auto number_constant = [&](Val x) {
    return b.constant(x, bits) && !std::isnan(std::bit_cast<double>(bits));
  };
  if (number_constant(v[1]))
    return select(b, compare(b, greater ? "fcmp ugt" : "fcmp ult", v[0], v[1]), v[0], v[1]);
  Val c = compare(b, greater ? "fcmp ogt" : "fcmp olt", v[0], v[1]);
  if (!number_constant(v[0])) c = either(b, c, compare(b, "fcmp uno", v[0], v[0]));
  return select(b, c, v[0], v[1]);
}
Val maximum(Builder& b, DType dtype, Values v, const Facts&) { return extreme(b, dtype, v, true); }
Val minimum(Builder& b, DType dtype, Values v, const Facts&) { return extreme(b, dtype, v, false); }

Val where(Builder& b, DType, Values v, const Facts&) {
  int64_t bits = 0;
  if (b.constant(v[0], bits)) return bits ? v[1] : v[2];
  return select(b, v[0], v[1], v[2]);
}

/// A shift by the width or more (or by a negative number) yields 0; to the right, of a signed number, its sign.
Val shift(Builder& b, std::string_view op, DType dtype, Values v) {
  int bits = width(b, v[0]);
  int64_t amount = 0;
  bool sign = op == "ashr";
  if (b.constant(v[1], amount) && !b.lanes(v[1])) {
    if (amount >= 0 && amount < bits) return binary(b, op, v[0], v[1]);
    return sign ? binary(b, op, v[0], number(b, v[0], bits - 1)) : number(b, v[0], 0);
  }
  Val small = compare(b, "icmp ult", v[1], number(b, v[1], bits));
  if (sign) return binary(b, op, v[0], select(b, small, v[1], number(b, v[1], bits - 1)));
  (void)dtype;
  return select(b, small, binary(b, op, v[0], v[1]), number(b, v[0], 0));
}
Val shift_left(Builder& b, DType dtype, Values v, const Facts&) { return shift(b, "shl", dtype, v); }
Val shift_right(Builder& b, DType dtype, Values v, const Facts&) {
  return shift(b, kind(dtype) == Kind::Signed ? "ashr" : "lshr", dtype, v);
}

/// The divisor with 1 in place of what would trap, and where it was 0 or (signed) -1. In lanes that are switched off
/// anything may stand: only a constant or a scalar is trusted to keep its bounds.
struct Divisor {
  Val safe, zero, minus;
};
Divisor divisor(Builder& b, bool is_signed, Val d, Bounds bounds) {
  int64_t bits = 0;
  bool constant = b.constant(d, bits), trusted = !constant && !b.lanes(d);
  bool maybe_zero = constant ? bits == 0 : !(trusted && (bounds.lo > 0 || bounds.hi < 0));
  bool maybe_minus = is_signed && (constant ? bits == -1 : !(trusted && (bounds.lo > -1 || bounds.hi < -1)));
  Divisor out{d, {}, {}};
  if (maybe_zero) out.zero = compare(b, "icmp eq", d, number(b, d, 0));
  if (maybe_minus) out.minus = compare(b, "icmp eq", d, number(b, d, -1));
  Val bad = out.zero && out.minus ? either(b, out.zero, out.minus) : out.zero ? out.zero : out.minus;
  if (bad) out.safe = select(b, bad, number(b, d, 1), d);
  return out;
}

/// Whether the remainder (of the sign of the numerator) must be moved to the divisor's sign.
Val needs_floor(Builder& b, Val remainder, Val d) {
  Val differ = compare(b, "icmp slt", binary(b, "xor", remainder, d), number(b, d, 0));
  return binary(b, "and", differ, compare(b, "icmp ne", remainder, number(b, d, 0)));
}

Val int_divide(Builder& b, DType dtype, Values v, const Facts& f) {
  bool is_signed = kind(dtype) == Kind::Signed;
  Divisor d = divisor(b, is_signed, v[1], f.right);
  Val q;
  int64_t c = 0;
  if (!is_signed || (f.left.lo >= 0 && f.right.lo > 0)) {
    q = binary(b, "udiv", v[0], d.safe);
  } else if (b.constant(v[1], c) && c > 0 && std::has_single_bit(static_cast<uint64_t>(c))) {
    q = binary(b, "ashr", v[0], number(b, v[0], std::countr_zero(static_cast<uint64_t>(c))));
  } else {
    Val toward_zero = binary(b, "sdiv", v[0], d.safe);
    Val rest = binary(b, "sub", v[0], binary(b, "mul", toward_zero, d.safe));
    Val less = binary(b, "sub", toward_zero, number(b, v[0], 1));
    q = select(b, needs_floor(b, rest, d.safe), less, toward_zero);
  }
  if (d.minus) q = select(b, d.minus, binary(b, "sub", number(b, v[0], 0), v[0]), q);
  return d.zero ? select(b, d.zero, number(b, v[0], 0), q) : q;
}

Val modulo(Builder& b, DType dtype, Values v, const Facts& f) {
  bool is_signed = kind(dtype) == Kind::Signed;
  Divisor d = divisor(b, is_signed, v[1], f.right);
  Val r;
  int64_t c = 0;
  if (!is_signed || (f.left.lo >= 0 && f.right.lo > 0)) {
    r = binary(b, "urem", v[0], d.safe);
  } else if (b.constant(v[1], c) && c > 0 && std::has_single_bit(static_cast<uint64_t>(c))) {
    return binary(b, "and", v[0], number(b, v[0], c - 1));
  } else {
    Val rest = binary(b, "srem", v[0], d.safe);
    r = select(b, needs_floor(b, rest, d.safe), binary(b, "add", rest, d.safe), rest);
  }
  // By 1, which stands for -1 here, the remainder is 0 already.
  return d.zero ? select(b, d.zero, number(b, v[0], 0), r) : r;
}

struct FunctionRow {
  Op op;
  Val (*make)(Builder&, DType, Values, const Facts&);
};
// clang-format off
constexpr FunctionRow function_rows[] = {
    {Op::Neg,   negate},      {Op::Not,  invert},     {Op::Abs,   absolute},   {Op::Sqrt, square_root},
    {Op::Floor, round_down},  {Op::Ceil, round_up},   {Op::IDiv,  int_divide}, {Op::Mod,  modulo},
    {Op::Max,   maximum},     {Op::Min,  minimum},    {Op::Shl,   shift_left}, {Op::Shr,  shift_right},
    {Op::Where, where},       {Op::Fma,  fused},
};
// clang-format on

/// Truncates and saturates; NaN becomes 0 (llvm.fptosi.sat does the same, but lane by lane).
Val float_to_int(Builder& b, DType to, Val x) {
  bool is_signed = kind(to) == Kind::Signed;
  int bits = row(to).bits;
  std::string_view op = is_signed || bits < 32 ? "fptosi" : "fptoui";
  Scalar wide = bits < 32 ? Scalar::I32 : in_register(to);
  double top = std::ldexp(1.0, bits - is_signed), bottom = is_signed ? -top : 0.0;
  Val high = compare(b, "fcmp oge", x, real(b, x, top));
  Val low = select(b, compare(b, "fcmp olt", x, real(b, x, bottom)), real(b, x, bottom), x);
  Val odd = either(b, high, compare(b, "fcmp uno", x, x));
  Val n = convert(b, op, select(b, odd, real(b, x, 0.0), low), wide);
  uint64_t largest = (is_signed ? uint64_t{1} << (bits - 1) : bits == 64 ? 0 : uint64_t{1} << bits) - 1;
  n = select(b, high, number(b, n, static_cast<int64_t>(largest)), n);
  return convert(b, "trunc", n, in_register(to));
}

Val cast_float(Builder& b, DType to, DType from, Val v) {
  if (to == DType::F64) return convert(b, "fpext", v, Scalar::Double);
  if (from != DType::F64) return rounded(b, to, v);
  if (to == DType::F32) return convert(b, "fptrunc", v, Scalar::Float);
  // To f16 or bf16 in two steps: the first rounds to odd, so that the second rounds as one would (Boldo, Melquiond 2005).
  Val f = convert(b, "fptrunc", v, Scalar::Float);
  Val back = convert(b, "fpext", f, Scalar::Double), bits = convert(b, "bitcast", f, Scalar::I32);
  Val is_even = compare(b, "icmp eq", binary(b, "and", bits, number(b, bits, 1)), number(b, bits, 0));
  Val inexact = binary(b, "and", compare(b, "fcmp one", back, v), is_even);
  Val away = compare(b, "fcmp olt", b.call("fabs", b.type(v), b.type(v), {back}),
                     b.call("fabs", b.type(v), b.type(v), {v}));
  Val step = select(b, away, number(b, bits, 1), number(b, bits, -1));
  Val odd = select(b, inexact, binary(b, "add", bits, step), bits);
  return rounded(b, to, convert(b, "bitcast", odd, Scalar::Float));
}

Val int_to_float(Builder& b, DType to, DType from, Val v) {
  std::string_view op = kind(from) == Kind::Signed ? "sitofp" : "uitofp";
  if (to != DType::BF16) return rounded(b, to, convert(b, op, v, in_register(to)));
  // To bf16 by way of a double, into which 64 bits do not fit: what is cut off is kept as one bit.
  if (row(from).bits == 64) {
    Val cut = binary(b, "and", v, number(b, v, -2048));
    Val lost = compare(b, "icmp ne", cut, v);
    Val sticky = select(b, lost, binary(b, "or", cut, number(b, v, 2048)), cut);
    Val wide =
        compare(b, "icmp ne", binary(b, "ashr", v, number(b, v, 53)), binary(b, "ashr", v, number(b, v, 63)));
    if (kind(from) == Kind::Unsigned) wide = compare(b, "icmp ugt", v, number(b, v, int64_t{1} << 53));
    v = select(b, wide, sticky, v);
  }
  return cast_float(b, to, DType::F64, convert(b, op, v, Scalar::Double));
}

}  // namespace

Val cast(Builder& b, DType to, DType from, Val v) {
  if (to == from) return v;
  Kind k = kind(from);
  if (to == DType::Bool)
    return k == Kind::Float ? compare(b, "fcmp une", v, real(b, v, 0))
                            : compare(b, "icmp ne", v, number(b, v, 0));
  if (k == Kind::Float) return is_float(to) ? cast_float(b, to, from, v) : float_to_int(b, to, v);
  std::string_view widen = k == Kind::Signed ? "sext" : "zext";
  if (is_float(to)) return int_to_float(b, to, from, v);
  Scalar target = in_register(to);
  int64_t bits = 0;
  if (!b.lanes(v) && b.constant(v, bits)) return b.int_const(target, constant(to, bits)->at(0));
  return convert(b, row(target).bits < width(b, v) ? "trunc" : widen, v, target);
}

Val bitcast(Builder& b, DType to, DType from, Val v) {
  if (to == DType::Bool || from == DType::Bool) return cast(b, to, from, v);
  Scalar memory = in_memory(to);
  return from_memory(b, to, convert(b, "bitcast", to_memory(b, from, v), memory));
}

Val apply(Builder& b, Op op, DType dtype, std::span<const Val> v, const Facts& facts) {
  for (const TextRow& r : text_rows)
    if (r.op == op) return simple(b, r, dtype, v);
  for (const FunctionRow& r : function_rows)
    if (r.op == op) return r.make(b, dtype, v, facts);
  broken("LLVM renderer: no row for {}", row(op).name);
}

}  // namespace kontor::ir
