// Elementwise ops on raw bits.
#include "graph/scalar.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "graph/node_map.h"

namespace kontor {

namespace {

// ---- floats narrower than f32 ---------------------------------------------------------------------------------

double decode(const FloatFormat& f, uint64_t bits) {
  int top = (1 << f.exponent_bits) - 1;
  int exponent = static_cast<int>(bits >> f.mantissa_bits) & top;
  int mantissa = static_cast<int>(bits & ((1u << f.mantissa_bits) - 1));
  double sign = (bits >> (f.exponent_bits + f.mantissa_bits)) & 1 ? -1.0 : 1.0;
  const int64_t code = static_cast<int64_t>(bits) & f.all_ones();
  if (exponent == top && f.specials == Specials::Ieee)
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  if (code >= f.beyond() || (!f.has_minus_zero() && static_cast<int64_t>(bits) == f.nan()))
    return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(mantissa, f.least());
  return sign * std::ldexp(mantissa + (1 << f.mantissa_bits), exponent - 1 + f.least());
}

// Rounds to the nearest, ties to even, in one step: x is scaled so that one unit in the last place is 1.
uint64_t encode(const FloatFormat& f, double x) {
  uint64_t sign = static_cast<uint64_t>(std::signbit(x)) << (f.exponent_bits + f.mantissa_bits);
  const uint64_t beyond = static_cast<uint64_t>(f.beyond());
  if (std::isnan(x)) return sign | static_cast<uint64_t>(f.nan());
  if (std::isinf(x)) return sign | beyond;
  int exponent = x == 0 ? 1 - f.bias : std::max(std::ilogb(x), 1 - f.bias);
  double scaled = std::nearbyint(std::ldexp(std::fabs(x), f.mantissa_bits - exponent));
  // A subnormal has scaled < 2^mantissa_bits and exponent field 0; a carry out of the mantissa raises the exponent.
  uint64_t field = static_cast<uint64_t>(exponent + f.bias - 1) << f.mantissa_bits;
  const uint64_t code = std::min(field + static_cast<uint64_t>(scaled), beyond);
  return code == 0 && !f.has_minus_zero() ? 0 : sign | code;
}

// The double nearest to the exact value whose last bit says "inexact": rounding it again, to at most 51 bits, rounds
// the exact value once (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
double to_odd(double rounded, double error) {
  if (error == 0 || !std::isfinite(rounded)) return rounded;
  auto bits = std::bit_cast<uint64_t>(rounded);
  if (bits & 1) return rounded;
  bool away = (error > 0) == (rounded > 0);
  return std::bit_cast<double>(away ? bits + 1 : bits - 1);
}

double int_to_odd(int64_t x) {
  auto rounded = static_cast<double>(x);
  if (rounded >= 9223372036854775808.0) return to_odd(rounded, -1.0);
  int64_t back = static_cast<int64_t>(rounded);
  return to_odd(rounded, static_cast<double>(x - back));
}

double unsigned_to_odd(uint64_t x) {
  auto rounded = static_cast<double>(x);
  if (rounded >= 18446744073709551616.0) return to_odd(rounded, -1.0);
  auto back = static_cast<uint64_t>(rounded);
  return to_odd(rounded, x >= back ? static_cast<double>(x - back) : -static_cast<double>(back - x));
}

// ---- integers ---------------------------------------------------------------------------------------------------

uint64_t low_bits(DType dtype, uint64_t x) {
  int bits = row(dtype).bits;
  return bits >= 64 ? x : x & ((uint64_t{1} << bits) - 1);
}

int64_t sign_extended(DType dtype, uint64_t x) {
  int bits = row(dtype).bits;
  if (kind(dtype) != Kind::Signed || bits >= 64) return static_cast<int64_t>(x);
  return static_cast<int64_t>(x << (64 - bits)) >> (64 - bits);
}

// float -> integer: truncates, saturates, NaN becomes 0.
uint64_t saturate(DType dtype, double x) {
  if (std::isnan(x)) return 0;
  int bits = row(dtype).bits;
  bool is_signed = kind(dtype) == Kind::Signed;
  double hi = std::ldexp(1.0, is_signed ? bits - 1 : bits), lo = is_signed ? -hi : 0;
  uint64_t max = low_bits(dtype, is_signed ? (uint64_t{1} << (bits - 1)) - 1 : ~uint64_t{0});
  if (x >= hi) return max;
  if (x <= lo) return is_signed ? uint64_t{1} << (bits - 1) : 0;
  if (is_signed) return low_bits(dtype, static_cast<uint64_t>(static_cast<int64_t>(x)));
  return static_cast<uint64_t>(x);
}

template <class T>
T floor_division(T a, T b) {
  if (b == 0) return 0;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return static_cast<T>(0 - static_cast<uint64_t>(a));
    return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
  } else {
    return a / b;
  }
}

template <class T>
T floor_modulo(T a, T b) {
  if (b == 0) return 0;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
    T r = a % b;
    return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
  } else {
    return a % b;
  }
}

template <class T>  // int64_t or uint64_t: the result is cut to the dtype's width by the caller
uint64_t integer_op(Op op, T a, T b, int bits) {
  auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  bool wide = ub >= static_cast<uint64_t>(bits);
  switch (op) {
    case Op::Neg:  return 0 - ua;
    case Op::Not:  return ~ua;
    case Op::Abs:  return std::is_signed_v<T> && static_cast<int64_t>(ua) < 0 ? 0 - ua : ua;
    case Op::Add:  return ua + ub;
    case Op::Sub:  return ua - ub;
    case Op::Mul:  return ua * ub;
    case Op::IDiv: return static_cast<uint64_t>(floor_division(a, b));
    case Op::Mod:  return static_cast<uint64_t>(floor_modulo(a, b));
    case Op::Max:  return a > b ? ua : ub;
    case Op::Min:  return a < b ? ua : ub;
    case Op::And:  return ua & ub;
    case Op::Or:   return ua | ub;
    case Op::Xor:  return ua ^ ub;
    case Op::Shl:  return wide ? 0 : ua << ub;
    case Op::Shr:  return static_cast<uint64_t>(wide ? (a < 0 ? T(-1) : T(0)) : a >> ub);
    case Op::Lt:   return a < b;
    case Op::Le:   return a <= b;
    case Op::Eq:   return a == b;
    case Op::Ne:   return a != b;
    default:       broken("{} is not an integer operation", row(op).name);
  }
}

uint64_t apply_integer(Op op, DType source, const Value* args, int arity) {
  uint64_t a = args[0].bits, b = arity > 1 ? args[1].bits : 0;
  if (kind(source) == Kind::Signed)
    return integer_op<int64_t>(op, sign_extended(source, a), sign_extended(source, b), row(source).bits);
  return integer_op<uint64_t>(op, a, b, row(source).bits);
}

uint64_t apply_bool(Op op, const Value* args, int arity) {
  uint64_t a = args[0].bits, b = arity > 1 ? args[1].bits : 0;
  switch (op) {
    case Op::Not: return a ^ 1;
    case Op::Neg:
    case Op::Abs: return a;
    case Op::Add: return a | b;
    case Op::Sub: return a ^ b;
    case Op::Shl:
    case Op::Shr: return b ? 0 : a;
    default:      return integer_op<uint64_t>(op, a, b, 1) != 0;
  }
}

// ---- floats -----------------------------------------------------------------------------------------------------

template <class T>
T float_op(Op op, T a, T b, T c) {
  switch (op) {
    case Op::Sqrt:  return std::sqrt(a);
    case Op::Floor: return std::floor(a);
    case Op::Ceil:  return std::ceil(a);
    case Op::Add:   return a + b;
    case Op::Sub:   return a - b;
    case Op::Mul:   return a * b;
    case Op::Div:   return a / b;
    case Op::Max:   return a > b || a != a ? a : b;
    case Op::Min:   return a < b || a != a ? a : b;
    case Op::Fma:   return std::fma(a, b, c);
    default:        broken("{} is not a float operation", row(op).name);
  }
}

template <class T>
bool compare(Op op, T a, T b) {
  switch (op) {
    case Op::Lt: return a < b;
    case Op::Le: return a <= b;
    case Op::Eq: return a == b;
    default:     return a != b;
  }
}

// The product of two narrow floats is exact in a double; their sum with a third is rounded to odd, then once more.
double narrow_fma(double a, double b, double c) {
  double p = a * b, s = p + c, t = s - p;
  double error = (p - (s - t)) + (c - t);
  return to_odd(s, error);
}

uint64_t apply_narrow(Op op, DType dtype, const Value* args, int arity) {
  double x[3] = {};
  for (int i = 0; i < arity; i++) x[i] = to_double(dtype, args[i]);
  if (op == Op::Fma) return from_double(dtype, narrow_fma(x[0], x[1], x[2])).bits;
  // Choosing ops return a source as it is; the others round f32 once more, which is innocuous at these widths.
  if (op == Op::Max) return x[0] > x[1] || x[0] != x[0] ? args[0].bits : args[1].bits;
  if (op == Op::Min) return x[0] < x[1] || x[0] != x[0] ? args[0].bits : args[1].bits;
  float r = float_op<float>(op, static_cast<float>(x[0]), static_cast<float>(x[1]), 0.0f);
  return from_double(dtype, static_cast<double>(r)).bits;
}

uint64_t apply_float(Op op, DType dtype, const Value* args, int arity) {
  uint64_t sign = uint64_t{1} << (row(dtype).bits - 1);
  if ((op == Op::Neg || op == Op::Abs) && !row(dtype).format.has_minus_zero() && (args[0].bits & ~sign) == 0)
    return args[0].bits;  // 0 or NaN
  if (op == Op::Neg) return args[0].bits ^ sign;
  if (op == Op::Abs) return args[0].bits & ~sign;
  if (dtype == DType::F32) {
    float x[3] = {};
    for (int i = 0; i < arity; i++) x[i] = std::bit_cast<float>(static_cast<uint32_t>(args[i].bits));
    return std::bit_cast<uint32_t>(float_op<float>(op, x[0], x[1], x[2]));
  }
  if (dtype != DType::F64) return apply_narrow(op, dtype, args, arity);
  double x[3] = {};
  for (int i = 0; i < arity; i++) x[i] = std::bit_cast<double>(args[i].bits);
  return std::bit_cast<uint64_t>(float_op<double>(op, x[0], x[1], x[2]));
}

Value cast(DType to, DType from, Value x) {
  if (to == from) return x;
  if (is_float(from)) return from_double(to, to_double(from, x));
  if (from == DType::U64 && is_float(to)) {
    if (to == DType::F64) return {std::bit_cast<uint64_t>(static_cast<double>(x.bits))};
    return from_double(to, unsigned_to_odd(x.bits));
  }
  return from_int(to, sign_extended(from, x.bits));
}

}  // namespace

Value from_double(DType dtype, double x) {
  switch (kind(dtype)) {
    case Kind::Bool:     return {x != 0};
    case Kind::Signed:
    case Kind::Unsigned: return {saturate(dtype, x)};
    case Kind::Float:    break;
    case Kind::None:     broken("a value has no dtype");
  }
  if (dtype == DType::F64) return {std::bit_cast<uint64_t>(x)};
  if (dtype == DType::F32) return {std::bit_cast<uint32_t>(static_cast<float>(x))};
  return {encode(row(dtype).format, x)};
}

Value from_int(DType dtype, int64_t x) {
  if (dtype == DType::Bool) return {x != 0};
  if (!is_float(dtype)) return {low_bits(dtype, static_cast<uint64_t>(x))};
  if (dtype == DType::F64) return {std::bit_cast<uint64_t>(static_cast<double>(x))};
  return from_double(dtype, int_to_odd(x));
}

double to_double(DType dtype, Value x) {
  if (dtype == DType::F64) return std::bit_cast<double>(x.bits);
  if (dtype == DType::F32) return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(x.bits)));
  if (is_float(dtype)) return decode(row(dtype).format, x.bits);
  if (dtype == DType::U64) return static_cast<double>(x.bits);
  return static_cast<double>(sign_extended(dtype, x.bits));
}

int64_t to_int(DType dtype, Value x) {
  if (is_float(dtype)) return static_cast<int64_t>(saturate(DType::I64, to_double(dtype, x)));
  return sign_extended(dtype, x.bits);
}

Value apply(Op op, DType dtype, DType source, const Value* args) {
  int arity = row(op).arity;
  if (op == Op::Where) return args[0].bits ? args[1] : args[2];
  if (op == Op::Bitcast) return dtype == DType::Bool ? Value{args[0].bits != 0} : args[0];
  if (op == Op::Cast) return cast(dtype, source, args[0]);
  if (!is_elementwise(op)) broken("{} is not an elementwise operation", row(op).name);
  if (!is_float(source)) {
    uint64_t r = source == DType::Bool ? apply_bool(op, args, arity) : apply_integer(op, source, args, arity);
    return {low_bits(dtype, r)};
  }
  if (has(op, Comparison)) {
    if (source == DType::F64)
      return {compare(op, std::bit_cast<double>(args[0].bits), std::bit_cast<double>(args[1].bits))};
    return {compare(op, to_double(source, args[0]), to_double(source, args[1]))};
  }
  return {apply_float(op, dtype, args, arity)};
}

ScalarFormula::ScalarFormula(const Ref& formula) {
  NodeMap<int> number;
  for (const Node* n : topological(std::span(&formula, 1))) {
    const size_t to = values_.size();
    number[n] = static_cast<int>(to);
    values_.push_back(n->is_const() ? value_of(*n) : Value{});
    if (n->op == Op::Slot) slots_.emplace_back(to, static_cast<size_t>(n->at(0)));
    if (n->src.empty()) continue;
    Step step{n->op, n->dtype, (*n)[n->op == Op::Where ? 1 : 0]->dtype, static_cast<int>(n->src.size()), {}};
    for (size_t i = 0; i < n->src.size(); i++) step.from[i] = number.at((*n)[i].get());
    steps_.emplace_back(to, step);
  }
}

Value ScalarFormula::operator()(std::span<const Value> slots) {
  for (const auto& [to, slot] : slots_) values_[to] = slots[slot];
  for (const auto& [to, step] : steps_) {
    Value args[3];
    for (int i = 0; i < step.arity; i++) args[i] = values_[static_cast<size_t>(step.from[i])];
    values_[to] = apply(step.op, step.dtype, step.source, args);
  }
  return values_.back();
}

Value value_of(const Node& constant) {
  if (!constant.is_const()) broken("value_of a {} node", row(constant.op).name);
  if (is_float(constant.dtype)) return from_double(constant.dtype, std::bit_cast<double>(constant.at(0)));
  return from_int(constant.dtype, constant.at(0));
}

Ref constant_of(DType dtype, Value x) {
  if (is_float(dtype)) return constant(dtype, to_double(dtype, x));
  return constant(dtype, to_int(dtype, x));
}

}  // namespace kontor
