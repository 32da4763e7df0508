// Elementwise ops, literals and helper functions in C.
#include "codegen/c_dialect.h"

#include <bit>
#include <cmath>

#include "base/error.h"
#include "graph/scalar.h"

namespace kontor::inline v0::clike {

namespace {

constexpr DialectRow dialects[] = {
    {Dialect::OpenCL, "#pragma OPENCL FP_CONTRACT OFF\n", "__kernel void", "__global ", "static",
     "(long)get_global_id(0)", "L", "UL", "INFINITY", "NAN", "", "", "", false, true},
    {Dialect::Cuda, "", "extern \"C\" __global__ void", "", "static __device__ __forceinline__",
     "(long long)blockIdx.x * blockDim.x + threadIdx.x", "LL", "ULL", "__int_as_float(0x7f800000)",
     "__int_as_float(0x7fc00000)", "f", "", "__restrict__ ", true, false},
};

/// A helper function by family. $F qualifiers, $N its name, $T the type of its result, $U that type unsigned, $S the type
/// it casts from, $B bits of $T, $H first value above $T's largest, $L its lowest as floats; $X, $M largest and lowest as
/// integers; $E $D $I: exponent bits, mantissa bits and whether there are infinities of a narrow float; $u, $f: bits of a
/// float as uint, and back; $W, $w, $d: the same of a double.
struct HelperRow {
  std::string_view family;
  Kind kind;  // of its dtype; None: any
  std::string_view text;
};
constexpr HelperRow helper_rows[] = {
    {"max", Kind::None, "$F $T $N($T a, $T b) { return a > b || a != a ? a : b; }\n"},
    {"min", Kind::None, "$F $T $N($T a, $T b) { return a < b || a != a ? a : b; }\n"},
    {"idiv", Kind::Signed, R"($F $T $N($T a, $T b) {  // rounds down; by 0 yields 0
  if (b == 0) return 0;
  if (b == -1) return ($T)(0 - ($U)a);
  return ($T)(a / b - (a % b != 0 && (a < 0) != (b < 0)));
}
)"},
    {"idiv", Kind::Unsigned, "$F $T $N($T a, $T b) { return b == 0 ? 0 : a / b; }\n"},
    {"mod", Kind::Signed, R"($F $T $N($T a, $T b) {  // has the sign of b; by 0 yields 0
  if (b == 0 || b == -1) return 0;
  $T r = a % b;
  return ($T)(r != 0 && (r < 0) != (b < 0) ? r + b : r);
}
)"},
    {"mod", Kind::Unsigned, "$F $T $N($T a, $T b) { return b == 0 ? 0 : a % b; }\n"},
    {"shl", Kind::None, "$F $T $N($T a, $T b) { return ($U)b < $B ? ($T)(($U)a << ($U)b) : 0; }\n"},
    {"shr", Kind::Signed, "$F $T $N($T a, $T b) { return ($T)(a >> (($U)b < $B ? b : $B - 1)); }\n"},
    {"shr", Kind::Unsigned, "$F $T $N($T a, $T b) { return ($U)b < $B ? ($T)(a >> b) : 0; }\n"},
    {"abs", Kind::Signed, "$F $T $N($T a) { return a < 0 ? ($T)(0 - ($U)a) : a; }\n"},
    {"saturate", Kind::None, R"($F $T $N($S x) {  // truncates; NaN yields 0
  if (x != x) return 0;
  if (x >= $H) return $X;
  if (x <= $L) return $M;
  return ($T)x;
}
)"},
    {"to", Kind::Float, R"($F $U $N(float x) {  // rounds to nearest, ties to even
  uint a = $u(x), sign = a >> 31 << ($E + $D), top = (1u << $E) - 1;
  uint infinity = top << $D, nan = $I ? infinity | 1u << ($D - 1) : infinity | ((1u << $D) - 1);
  a &= 0x7fffffff;
  if (a > 0x7f800000) return ($U)(sign | nan);
  int bias = (1 << ($E - 1)) - 1, e = a >> 23 ? (int)(a >> 23) - 127 : -126;
  int below = e < 1 - bias ? 1 - bias - e : 0, shift = 23 - $D + below;
  if (shift > 25) return ($U)sign;
  uint m = a >> 23 ? (a & 0x7fffff) | 0x800000 : a, r = m >> shift;
  uint rest = m & ((1u << shift) - 1), middle = 1u << (shift - 1);
  r += rest > middle || (rest == middle && (r & 1));
  r += (uint)(below ? 0 : e + bias - 1) << $D;
  uint most = $I ? infinity : nan;
  return ($U)(sign | (r < most ? r : most));
}
)"},
    {"from", Kind::Float, R"($F float $N($U x) {
  uint e = (x >> $D) & ((1u << $E) - 1), m = x & ((1u << $D) - 1), sign = (uint)x >> ($E + $D) << 31;
  int bias = (1 << ($E - 1)) - 1;
  if ($E == 8) return $f((uint)x << 16);
  if ($I && e == (1u << $E) - 1) return $f(sign | 0x7f800000 | m << (23 - $D));
  if (!$I && e == (1u << $E) - 1 && m == (1u << $D) - 1) return $f(sign | 0x7fc00000);
  if (e == 0) return $f(sign | $u((float)m * $f((uint)(128 - bias - $D) << 23)));
  return $f(sign | (uint)((int)e - bias + 127) << 23 | m << (23 - $D));
}
)"},
    {"odd", Kind::None,
     R"($F float $N(double x) {  // rounds to odd, so that a further rounding is the only one
  float f = (float)x;
  if ((double)f == x || x != x) return f;
  uint u = $u(f);
  if (u & 1) return f;
  return $f(fabs((double)f) < fabs(x) ? u + 1 : u - 1);
}
)"},
    {"sticky", Kind::Signed, R"($F double $N($T x) {  // exact in what a narrow float can see
  $U a = x < 0 ? 0 - ($U)x : ($U)x;
  if (a >> 53) a = (a & ~($U)0xfff) | (($U)((a & 0xfff) != 0) << 12);
  return x < 0 ? -(double)a : (double)a;
}
)"},
    {"sticky", Kind::Unsigned, R"($F double $N($T x) {  // exact in what a narrow float can see
  if (x >> 53) x = (x & ~($T)0xfff) | (($T)((x & 0xfff) != 0) << 12);
  return (double)x;
}
)"},
    {"fma", Kind::Float,
     R"($F float $N(float a, float b, float c) {  // the sum rounded to odd, then once to the dtype
  double p = (double)a * (double)b, s = p + (double)c, t = s - p;
  double rest = (p - (s - t)) + ((double)c - t);
  $W u = $w(s);
  if (rest != 0 && s - s == 0 && !(u & 1)) s = $d((rest > 0) == (s > 0) ? u + 1 : u - 1);
  return odd_f32(s);
}
)"},
};

struct Narrow {
  int exponent, mantissa;
  bool infinite;
};
bool is_narrow(DType d) { return is_float(d) && row(d).bits < 32; }
Narrow narrow(DType d) {
  switch (d) {
    case DType::F8E4M3: return {4, 3, false};
    case DType::F8E5M2: return {5, 2, true};
    case DType::F16:    return {5, 10, true};
    default:            return {8, 7, true};
  }
}

Text call(std::string_view function, std::span<const Text> args) {
  std::string out = fmt::format("{}(", function);
  for (size_t i = 0; i < args.size(); i++) out += (i ? ", " : "") + args[i].text;
  return {out + ")"};
}

/// Left-associative.
Text infix(std::string_view op, int precedence, const Text& a, const Text& b) {
  return {fmt::format("{} {} {}", in(a, precedence), op, in(b, precedence + 1)), precedence};
}

}  // namespace

const DialectRow& row(Dialect dialect) { return dialects[static_cast<int>(dialect)]; }

std::string in(const Text& t, int least) { return t.precedence >= least ? t.text : "(" + t.text + ")"; }

std::string_view Speller::variable_type(DType dtype) const {
  if (dtype == DType::Bool) return "bool";
  if (is_narrow(dtype)) return "float";
  return row_.dialect == Dialect::OpenCL ? kontor::row(dtype).opencl : kontor::row(dtype).cuda;
}

std::string_view Speller::memory_type(DType dtype) const {
  if (is_narrow(dtype)) dtype = unsigned_of(kontor::row(dtype).bits);
  return row_.dialect == Dialect::OpenCL ? kontor::row(dtype).opencl : kontor::row(dtype).cuda;
}

// ---- literals

static std::string float_text(double x, bool is_double, const DialectRow& d) {
  if (std::isnan(x)) return std::string(d.nan);
  if (std::isinf(x)) return fmt::format("{}{}", x < 0 ? "-" : "", d.infinity);
  std::string text = is_double ? fmt::format("{}", x) : fmt::format("{}", static_cast<float>(x));
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return is_double ? text : text + "f";
}

Text Speller::literal(const Node& n) const {
  DType d = n.dtype;
  if (d == DType::Bool) return {const_int(n) ? "true" : "false"};
  if (is_float(d)) {
    double x = const_float(n);
    std::string text = float_text(x, d == DType::F64, row_);
    return {text, text[0] == '-' ? Unary : Primary};
  }
  int64_t x = const_int(n);
  if (d == DType::U64) return {fmt::format("{}{}", static_cast<uint64_t>(x), row_.u64_suffix)};
  std::string_view suffix = d == DType::I64 ? row_.i64_suffix : d == DType::U32 ? "u" : "";
  bool lowest = (d == DType::I64 && x == INT64_MIN) || (d == DType::I32 && x == INT32_MIN);
  Text t = {lowest ? fmt::format("-{0}{1} - 1", -(x + 1), suffix) : fmt::format("{}{}", x, suffix),
            lowest  ? Sum
            : x < 0 ? Unary
                    : Primary};
  return kontor::row(d).bits < 32 ? plain_cast(d, t) : t;
}

// ---- memory

Text Speller::from_memory(DType dtype, Text element) {
  if (dtype == DType::Bool) return {in(element, Equality) + " != 0", Equality};
  if (is_narrow(dtype)) return helper("from", dtype, std::span(&element, 1));
  return element;
}

Text Speller::to_memory(DType dtype, Text value) {
  if (is_narrow(dtype)) return helper("to", dtype, std::span(&value, 1));
  return value;
}

Text Speller::from_slot(DType dtype, const std::string& name) {
  Text x{name};
  if (dtype == DType::I64) return x;
  if (!is_float(dtype)) return cast(dtype, DType::I64, x);
  DType bits = unsigned_of(kontor::row(dtype).bits);
  return of_bits(dtype, bits, cast(bits, DType::I64, x));
}

// ---- helper functions

static std::string replaced(std::string_view text,
                            std::span<const std::pair<std::string_view, std::string>> by) {
  std::string out;
  while (!text.empty()) {
    const std::pair<std::string_view, std::string>* found = nullptr;
    for (auto& pair : by)
      if (text.starts_with(pair.first)) found = &pair;
    out += found ? std::string_view(found->second) : text.substr(0, 1);
    text.remove_prefix(found ? found->first.size() : 1);
  }
  return out;
}

static std::string helper_name(const std::string& family, DType dtype, DType from) {
  if (family == "odd") return "odd_f32";
  if (family == "saturate") return fmt::format("{}_of_{}", name(dtype), name(from));
  if (family == "to" || family == "from") return fmt::format("{}_{}_bits", family, name(dtype));
  return fmt::format("{}_{}", family, name(dtype));
}

/// First float above the integers of `dtype`, or their lowest.
static std::string float_limit(DType dtype, bool high, bool is_double) {
  bool is_signed = kind(dtype) == Kind::Signed;
  double top = std::ldexp(1.0, row(dtype).bits - is_signed);
  return fmt::format("{:.1f}{}", high ? top : is_signed ? -top : 0.0, is_double ? "" : "f");
}

/// Largest (or lowest) integer of `dtype`.
static std::string int_limit(DType dtype, bool high, std::string_view type, std::string_view i64_suffix) {
  if (kind(dtype) != Kind::Signed) return high ? fmt::format("({})-1", type) : "0";
  int bits = row(dtype).bits;
  std::string_view suffix = bits == 64 ? i64_suffix : "";
  return fmt::format("{}{}{}{}", high ? "" : "-", (uint64_t{1} << (bits - 1)) - 1, suffix,
                     high ? "" : " - 1");
}

std::string Speller::define(const std::string& family, DType dtype, DType from) const {
  const HelperRow* found = nullptr;
  for (const HelperRow& r : helper_rows)
    if (r.family == family && (r.kind == Kind::None || r.kind == kind(dtype))) found = &r;
  if (!found) broken("C renderer: no helper {} of {}", family, name(dtype));
  bool cl = row_.dialect == Dialect::OpenCL, from_double = from == DType::F64;
  std::string type(variable_type(dtype));
  Narrow f = narrow(dtype);
  const std::pair<std::string_view, std::string> by[] = {
      {"$F", std::string(row_.function)},
      {"$N", helper_name(family, dtype, from)},
      {"$T", type},
      {"$U", std::string(memory_type(unsigned_of(kontor::row(dtype).bits)))},
      {"$S", std::string(variable_type(from))},
      {"$B", fmt::format("{}", kontor::row(dtype).bits)},
      {"$H", float_limit(dtype, true, from_double)},
      {"$L", float_limit(dtype, false, from_double)},
      {"$X", int_limit(dtype, true, type, row_.i64_suffix)},
      {"$M", int_limit(dtype, false, type, row_.i64_suffix)},
      {"$E", fmt::format("{}", f.exponent)},
      {"$D", fmt::format("{}", f.mantissa)},
      {"$I", f.infinite ? "1" : "0"},
      {"$u", cl ? "as_uint" : "__float_as_uint"},
      {"$f", cl ? "as_float" : "__uint_as_float"},
      {"$W", cl ? "ulong" : "long long"},
      {"$w", cl ? "as_ulong" : "__double_as_longlong"},
      {"$d", cl ? "as_double" : "__longlong_as_double"},
      {"uint ", cl ? "uint " : "unsigned int "},
      {"(uint)", cl ? "(uint)" : "(unsigned int)"},
  };
  return replaced(found->text, by);
}

void Speller::need(const std::string& family, DType dtype, DType from) {
  if (family == "fma") need("odd", DType::F32, DType::Void);
  if (!known_.insert(helper_name(family, dtype, from)).second) return;
  helpers_.push_back(define(family, dtype, from));
}

Text Speller::helper(const std::string& family, DType dtype, std::span<const Text> args, DType from) {
  need(family, dtype, from);
  return call(helper_name(family, dtype, from), args);
}

std::string Speller::helpers() const {
  std::string out;
  for (const std::string& h : helpers_) out += h;
  return out;
}

// ---- casts

Text Speller::plain_cast(DType to, const Text& x) const {
  return {fmt::format("({}){}", variable_type(to), in(x, Unary)), Unary};
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
  if (row_.dialect == Dialect::OpenCL)
    return call(dtype == DType::F64 ? "as_ulong" : "as_uint", std::span(&x, 1));
  if (dtype == DType::F32) return call("__float_as_uint", std::span(&x, 1));
  return plain_cast(bits, call("__double_as_longlong", std::span(&x, 1)));
}

Text Speller::of_bits(DType dtype, DType bits, const Text& x) {
  if (dtype == bits) return x;
  if (is_narrow(dtype)) return helper("from", dtype, std::span(&x, 1));
  if (!is_float(dtype)) return cast(dtype, bits, x);
  if (row_.dialect == Dialect::OpenCL)
    return call(dtype == DType::F64 ? "as_double" : "as_float", std::span(&x, 1));
  return call(dtype == DType::F64 ? "__longlong_as_double" : "__uint_as_float", std::span(&x, 1));
}

// ---- elementwise ops

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
    case Op::Neg:   return {"-" + in(args[0], Primary), Unary};
    case Op::Abs:   return math("fabs", dtype, args);
    case Op::Floor: return math("floor", dtype, args);
    case Op::Ceil:  return math("ceil", dtype, args);
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

}  // namespace kontor::inline v0::clike
