// The helper functions by which a kernel gets the semantics of graph/ops.h where C means something else.
#include <cmath>

#include "base/error.h"
#include "codegen/render_c/dialect.h"
#include "graph/scalar.h"

namespace kontor::clike {

namespace {

/// A helper function by family. $F qualifiers, $N its name, $T the type of its result, $U that type unsigned, $S the type
/// it casts from, $B bits of $T, $H first value above $T's largest, $L its lowest as floats; $X, $M largest and lowest as
/// integers; $E $D $O $I $Z: exponent bits, mantissa bits, bias, whether there are infinities and whether there is no -0, of a narrow float; $u, $f: bits of a
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
  uint infinity = top << $D, nan = $I ? infinity | 1u << ($D - 1) : infinity + (1u << $D) - !$Z;
  a &= 0x7fffffff;
  if (a > 0x7f800000) return ($U)(sign | nan);
  int bias = $O, e = a >> 23 ? (int)(a >> 23) - 127 : -126;
  int below = e < 1 - bias ? 1 - bias - e : 0, shift = 23 - $D + below;
  if (shift > 25) return ($U)($Z ? 0 : sign);
  uint m = a >> 23 ? (a & 0x7fffff) | 0x800000 : a, r = m >> shift;
  uint rest = m & ((1u << shift) - 1), middle = 1u << (shift - 1);
  r += rest > middle || (rest == middle && (r & 1));
  r += (uint)(below ? 0 : e + bias - 1) << $D;
  uint most = $I ? infinity : nan;
  r = r < most ? r : most;
  return ($U)($Z && r == 0 ? 0 : sign | r);
}
)"},
    {"from", Kind::Float, R"($F float $N($U x) {
  uint e = (x >> $D) & ((1u << $E) - 1), m = x & ((1u << $D) - 1), sign = (uint)x >> ($E + $D) << 31;
  int bias = $O;
  if ($E == 8) return $f((uint)x << 16);
  if ($I && e == (1u << $E) - 1) return $f(sign | 0x7f800000 | m << (23 - $D));
  if ($Z && x == 1u << ($E + $D)) return $f(0x7fc00000);
  if (!$I && !$Z && e == (1u << $E) - 1 && m == (1u << $D) - 1) return $f(sign | 0x7fc00000);
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

}  // namespace

Text call(std::string_view function, std::span<const Text> args) {
  std::string out = fmt::format("{}(", function);
  for (size_t i = 0; i < args.size(); i++) out += (i ? ", " : "") + args[i].text;
  return {out + ")"};
}

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
  const bool from_double = from == DType::F64;
  std::string type(variable_type(dtype));
  const FloatFormat& f = kontor::row(dtype).format;
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
      {"$E", fmt::format("{}", f.exponent_bits)},
      {"$D", fmt::format("{}", f.mantissa_bits)},
      {"$O", fmt::format("{}", f.bias)},
      {"$Z", f.has_minus_zero() ? "0" : "1"},
      {"$I", f.specials == Specials::Ieee ? "1" : "0"},
      {"$u", std::string(row_.f32_bits)},
      {"$f", std::string(row_.bits_f32)},
      {"$W", std::string(row_.word64)},
      {"$w", std::string(row_.f64_bits)},
      {"$d", std::string(row_.bits_f64)},
      {"uint ", fmt::format("{} ", row_.uint)},
      {"(uint)", fmt::format("({})", row_.uint)},
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

}  // namespace kontor::clike
