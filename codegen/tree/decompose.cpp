// The formulas, op by op.
#include "codegen/tree/decompose.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "graph/functions/formula.h"

namespace kontor {

Ref held(const Ref& x, DType dtype) { return make(Op::Cast, {x}, {.ints = {1}}, dtype); }
bool is_primitive_here(const Node& n) { return !n.arg.ints.empty(); }

namespace {

Term f32(const Ref& x) { return Term(x).as(DType::F32); }
Ref cast(const Term& x, DType dtype) { return x.as(dtype).node; }
int bits_of(const Ref& x) { return row(x->dtype).bits; }
DType unsigned_like(const Ref& x) { return unsigned_of(bits_of(x)); }

// --- narrow floats: their codes are i32 on the way, since vectors have signed comparisons everywhere

int64_t code_of(double x) { return std::bit_cast<int32_t>(static_cast<float>(x)); }

/// f32 -> the bits of the nearest float of as many exponent bits (bf16; ties to even), in the upper end of an i32.
Term cut(const FloatFormat& f, const Term& x) {
  const int below = 23 - f.mantissa_bits;
  const Term u = x.bits(DType::I32), odd = (u >> below) & 1;
  const Term up = u + u.integer((int64_t{1} << (below - 1)) - 1) + odd;
  const Term quiet = u | u.integer(1 << 22);
  return where(x != x, quiet, up) & u.integer(-(int64_t{1} << below));
}

bool has_f32_exponents(const FloatFormat& f) { return f.exponent_bits == 8 && f.specials == Specials::Ieee; }

/// f32 -> the code of the nearest float of the format (ties to even) as an i32.
Term encoded(const FloatFormat& f, const Term& x) {
  const int below = 23 - f.mantissa_bits, sign_bit = f.exponent_bits + f.mantissa_bits;
  if (has_f32_exponents(f)) return cut(f, x) >> below;
  const Term u = x.bits(DType::I32), size = u & INT32_MAX;
  Term sign = (u >> (31 - sign_bit)) & (int64_t{1} << sign_bit);
  const Term odd = (size >> below) & 1;
  const Term up = size + u.integer((int64_t{1} << (below - 1)) - 1) + odd;
  const Term normal = (up >> below) - u.integer(int64_t{127 - f.bias} << f.mantissa_bits);
  // Beside this number a unit in the last place is the least number of the format.
  const double magic = std::ldexp(1.0, f.least() + 23);
  const Term small = (size.bits(DType::F32) + magic).bits(DType::I32) - u.integer(code_of(magic));
  const Term is_small = size < u.integer(code_of(std::ldexp(1.0, 1 - f.bias))),
             beyond = u.integer(f.beyond());
  Term code = where(is_small, small, normal);
  code = where(code < beyond, code, beyond);
  if (!f.has_minus_zero()) sign = where(code == u.integer(0), code, sign);
  return where(x != x, u.integer(f.nan()), code) | sign;
}

/// The code of a float of the format, an i32 without anything above it, as f32.
Term decoded(const FloatFormat& f, const Term& u) {
  const int below = 23 - f.mantissa_bits, sign_bit = f.exponent_bits + f.mantissa_bits;
  if (has_f32_exponents(f)) return (u << below).bits(DType::F32);
  const Term code = u & f.all_ones(), placed = code << below;
  const Term sign = (u << (31 - sign_bit)) & INT32_MIN;
  const Term normal = placed + u.integer(int64_t{127 - f.bias} << 23);
  const Term small = (code.as(DType::F32) * std::ldexp(1.0, f.least())).bits(DType::I32);
  Term bits = where(code < u.integer(int64_t{1} << f.mantissa_bits), small, normal);
  const Term special = f.specials == Specials::Ieee ? placed | u.integer(0x7f800000) : u.integer(0x7fc00000);
  const Term is_number = f.has_minus_zero() ? code < u.integer(f.beyond()) : u != u.integer(f.nan());
  bits = where(is_number, bits, special);
  return (bits | sign).bits(DType::F32);
}

Term rounded(const FloatFormat& f, const Term& x) {
  return has_f32_exponents(f) ? cut(f, x).bits(DType::F32) : decoded(f, encoded(f, x));
}

/// A double sum's rounding error turned into its last bit: what is then rounded to a narrow float is rounded once
/// (Boldo and Melquiond 2008).
Term to_odd(const Term& sum, const Term& error) {
  const Term bits = sum.bits(DType::I64), even = (bits & 1) == bits.integer(0);
  const Term inexact = (error < 0.0) | (error > 0.0), away = (error < 0.0) ^ op(Op::Le, sum.constant(0), sum);
  const Term odd = bits + where(away, 1.0, bits.integer(-1));
  return where(inexact & even, odd, bits).bits(DType::F64);
}

/// f64 -> f32 in the same way.
Term to_odd(const Term& x) {
  const Term f = x.as(DType::F32), back = f.as(DType::F64), bits = f.bits(DType::I32);
  const Term inexact = (back < x) | (x < back), even = (bits & 1) == bits.integer(0);
  const Term odd = bits + where(abs(back) < abs(x), 1.0, bits.integer(-1));
  return where(inexact & even, odd, bits).bits(DType::F32);
}

/// Of 64 bits those that a double may lose, as one bit that it keeps.
Term sticky(const Term& x) {
  const Term cut = x & -2048, lost = cut != x;
  const bool is_signed = kind(x.node->dtype) == Kind::Signed;
  const Term wide = is_signed ? (x >> 53) != (x >> 63) : x.integer(int64_t{1} << 53) < x;
  return where(wide & lost, cut | 2048, x);
}

/// The product of two narrow floats is exact in a double.
Ref narrow_fma(const Node& n) {
  const auto f64 = [&](size_t i) { return f32(n[i]).as(DType::F64); };
  const Term p = f64(0) * f64(1), c = f64(2), s = p + c, t = s - p;
  return cast(to_odd(s, (p - (s - t)) + (c - t)), n.dtype);
}

Ref narrow_arithmetic(const Node& n) {
  if (n.op == Op::Fma) return narrow_fma(n);
  std::vector<Ref> wide;
  for (const Ref& s : n.src) wide.push_back(f32(s).node);
  const Ref result = make(n.op, wide);
  if (has(n.op, Comparison)) return result;
  const bool chooses = n.op == Op::Max || n.op == Op::Min || n.op == Op::Abs || n.op == Op::Floor;
  const bool keeps = (n.op == Op::Neg || n.op == Op::Ceil) && row(n.dtype).format.has_minus_zero();
  return chooses || keeps ? held(result, n.dtype) : cast(Term(result), n.dtype);
}

Ref cast_to_narrow(const Node& n, const Natives& natives) {
  const DType from = n[0]->dtype;
  const FloatFormat& f = row(n.dtype).format;
  if (from == DType::Bool) return held(f32(n[0]).node, n.dtype);
  if (is_narrow(from)) return cast(f32(n[0]), n.dtype);
  if (from == DType::F64) return cast(to_odd(Term(n[0])), n.dtype);
  if (from == DType::F32)
    return natives.f16 && n.dtype == DType::F16 ? Ref() : held(rounded(f, Term(n[0])).node, n.dtype);
  // What f32 does not hold is beyond the format, or far from the middle between two of its numbers.
  if (row(from).bits <= 16 || f.greatest() < 24) return cast(f32(n[0]), n.dtype);
  const Term exact = row(from).bits == 64 ? sticky(Term(n[0])) : Term(n[0]);
  return cast(exact.as(DType::F64), n.dtype);
}

// --- other casts

/// Truncates and saturates; NaN becomes 0.
Ref float_to_int(const Node& n) {
  const Term x(n[0]);
  const int bits = row(n.dtype).bits;
  const bool is_signed = kind(n.dtype) == Kind::Signed;
  const double top = std::ldexp(1.0, bits - is_signed), bottom = is_signed ? -top : 0.0;
  const Term within = x < top, low = where(x < bottom, bottom, x);  // NaN is not within
  const Term number(held(where(within, low, 0.0).node, bits < 32 ? DType::I32 : n.dtype));
  const uint64_t most = is_signed ? (uint64_t{1} << (bits - 1)) - 1 : ~uint64_t{0} >> (64 - bits);
  const Term largest = number.integer(static_cast<int64_t>(most));
  return cast(where(within, number, where(x != x, 0.0, largest)), n.dtype);
}

Ref decompose_cast(const Node& n, const Natives& natives) {
  const Ref& x = n[0];
  if (n.dtype == x->dtype) return {};
  if (is_narrow(n.dtype)) return cast_to_narrow(n, natives);
  if (is_narrow(x->dtype)) return n.dtype == DType::F32 ? Ref() : cast(f32(x), n.dtype);
  if (n.dtype == DType::Bool) return (Term(x) != number(Term(x), 0)).node;
  return is_float(x->dtype) && is_integer(n.dtype) ? float_to_int(n) : Ref();
}

Ref decompose_bitcast(const Node& n, const Natives& natives) {
  const Ref& x = n[0];
  const DType codes = unsigned_like(x);
  if (n.dtype == DType::Bool) return cast(Term(x).bits(codes), n.dtype);
  if (x->dtype == DType::Bool) return Term(x).as(codes).bits(n.dtype).node;
  const DType narrow = is_narrow(n.dtype) ? n.dtype : x->dtype;
  if (!is_narrow(narrow)) return {};
  if (n.dtype != codes && x->dtype != codes) return Term(x).bits(codes).bits(n.dtype).node;
  if (natives.f16 && narrow == DType::F16) return {};
  const FloatFormat& f = row(narrow).format;
  if (narrow == n.dtype) return held(decoded(f, Term(x).as(DType::I32)).node, narrow);
  const bool rounds = x->op == Op::Cast && x->src[0]->dtype == DType::F32 && !is_primitive_here(*x);
  if (!has_f32_exponents(f)) return cast(encoded(f, rounds ? Term(x->src[0]) : f32(x)), codes);
  return cast(f32(x).bits(DType::I32) >> (23 - f.mantissa_bits), codes);  // rounded it is already
}

// --- integers

/// Whether a divisor is known to be above 0.
bool is_positive(const Ref& x) {
  if (x->op == Op::Max && x->src[1]->is_const()) return is_positive(x->src[1]);
  return x->dtype != DType::U64 || x->is_const() ? x->bounds.lo > 0 : false;
}
bool is_natural(const Ref& x) { return kind(x->dtype) == Kind::Unsigned || x->bounds.lo >= 0; }

Ref unless_by_zero(const Node& n, const Term& result) {
  if (n[1]->is_const() && !is_int(n[1], 0)) return result.node;
  return where(Term(n[1]) == 0.0, 0.0, result).node;
}

/// x or -x, whichever is more. (NVRTC turns x < 0 ? -x : x into abs.s16, to which the least i16 is 32767.)
Term either(const Term& x) { return where(-x < x, x, -x); }

Term absolute(const Term& x) {
  const DType natural = unsigned_like(x.node);
  if (x.node->is_const()) {
    const auto value = static_cast<uint64_t>(const_int(*x.node));
    return Term(constant(natural, static_cast<int64_t>(value >> 63 ? 0 - value : value)));
  }
  return either(x).as(natural);
}

/// The quotient of the absolute values, then rounded down.
Ref floor_divide(const Node& n) {
  const Term a(n[0]), b(n[1]);
  if (kind(n.dtype) == Kind::Unsigned) return unless_by_zero(n, op(Op::IDiv, a, max(b, 1)));
  const Term size = absolute(a), by = b.node->is_const() ? absolute(b) : max(absolute(b), 1);
  const Term q = op(Op::IDiv, size, by);
  const Term down = -(q + (q * by != size).as(q.node->dtype));
  return unless_by_zero(n, where((a ^ b) < 0.0, down, q).as(n.dtype));
}

Ref decompose_division(const Node& n) {
  const Term a(n[0]), b(n[1]);
  if (is_int(n[1], 0)) return constant(n.dtype, int64_t{0});
  if (is_natural(n[0]) && is_positive(n[1])) return {};
  const uint64_t by = n[1]->is_const() ? static_cast<uint64_t>(const_int(*n[1])) : 0;
  const bool shifts = std::has_single_bit(by) && is_positive(n[1]);
  if (n.op == Op::IDiv) return shifts ? (a >> std::countr_zero(by)).node : floor_divide(n);
  if (shifts) return (a & static_cast<int64_t>(by - 1)).node;
  if (kind(n.dtype) == Kind::Unsigned) return unless_by_zero(n, op(Op::Mod, a, max(b, 1)));
  return unless_by_zero(n, a - op(Op::IDiv, a, b) * b);
}

/// By the width or more (or a negative number) yields 0; to the right, of a negative number, its sign.
Ref decompose_shift(const Node& n) {
  const int bits = row(n.dtype).bits;
  const Term x(n[0]), by(n[1]);
  const bool is_sign = n.op == Op::Shr && kind(n.dtype) == Kind::Signed;
  const Term beyond = is_sign ? x >> (bits - 1) : x.integer(0);
  if (n[1]->is_const()) {
    const bool within = const_int(*n[1]) >= 0 && const_int(*n[1]) < bits;
    return within ? Ref() : beyond.node;
  }
  const Term within = by.as(unsigned_like(n[1])) < Term(constant(unsigned_like(n[1]), int64_t{bits}));
  return where(within, Term(make(n.op, n.src, {.ints = {1}})), beyond).node;
}

Ref decompose_integer(const Node& n) {
  const Term a(n[0]);
  switch (n.op) {
    case Op::IDiv:
    case Op::Mod:  return decompose_division(n);
    case Op::Shl:
    case Op::Shr:  return decompose_shift(n);
    case Op::Abs:  return kind(n.dtype) == Kind::Signed ? either(a).node : n[0];
    case Op::Max:  return where(Term(n[1]) < a, a, Term(n[1])).node;
    case Op::Min:  return where(a < Term(n[1]), a, Term(n[1])).node;
    case Op::Fma:  return (a * Term(n[1]) + Term(n[2])).node;
    default:       return {};
  }
}

/// Add is or, mul is and; the others are those of integers, then != 0.
Ref decompose_bool(const Node& n) {
  const Term a(n[0]);
  const auto b = [&] { return Term(n[1]); };
  switch (n.op) {
    case Op::Neg:
    case Op::Abs:  return n[0];
    case Op::Add:
    case Op::Max:  return (a | b()).node;
    case Op::Mul:
    case Op::Min:
    case Op::IDiv: return (a & b()).node;
    case Op::Sub:  return (a ^ b()).node;
    case Op::Mod:  return constant(DType::Bool, int64_t{0});
    case Op::Shl:
    case Op::Shr:  return (a & (!b())).node;
    case Op::Lt:   return ((!a) & b()).node;
    case Op::Le:   return ((!a) | b()).node;
    case Op::Fma:  return ((a & b()) | Term(n[2])).node;
    default:       return {};
  }
}

// --- floats

/// (a > b || a != a) ? a : b; one comparison where a or b is a number.
Ref extreme(const Node& n) {
  const Term a(n[0]), b(n[1]);
  const bool greatest = n.op == Op::Max;
  const auto is_number = [](const Ref& x) { return x->is_const() && !std::isnan(const_float(*x)); };
  if (is_number(n[1])) return where(op(Op::Le, greatest ? a : b, greatest ? b : a), b, a).node;
  Term first = greatest ? b < a : a < b;
  if (!is_number(n[0])) first = first | (a != a);
  return where(first, a, b).node;
}

}  // namespace

Ref decompose(const Node& n, const Natives& natives) {
  const DType of = n[0]->dtype;
  if (n.op == Op::Where || is_primitive_here(n)) return {};
  if (n.op == Op::Cast) return decompose_cast(n, natives);
  if (n.op == Op::Bitcast) return decompose_bitcast(n, natives);
  if (is_narrow(of)) return narrow_arithmetic(n);
  if (of == DType::Bool) return decompose_bool(n);
  if (!is_float(of)) return decompose_integer(n);
  return n.op == Op::Max || n.op == Op::Min ? extreme(n) : Ref();
}

}  // namespace kontor
