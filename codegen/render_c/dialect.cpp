// The dialects' table; types, literals and elements in memory in C.
#include "codegen/render_c/dialect.h"

#include <cmath>

#include "base/error.h"
#include "codegen/tree/tree.h"

namespace kontor::clike {

namespace {

// What C says of bits by memcpy. The pragma is clang's; gcc contracts nothing by -std=c11.
constexpr std::string_view of_c = R"(#include <math.h>
#include <stdbool.h>
#include <string.h>
#pragma STDC FP_CONTRACT OFF
static inline unsigned int bits_of_f32(float x) { unsigned int u; memcpy(&u, &x, sizeof u); return u; }
static inline float f32_of_bits(unsigned int u) { float x; memcpy(&x, &u, sizeof x); return x; }
static inline unsigned long long bits_of_f64(double x) { unsigned long long u; memcpy(&u, &x, sizeof u); return u; }
static inline double f64_of_bits(unsigned long long u) { double x; memcpy(&x, &u, sizeof x); return x; }
)";

constexpr DialectRow dialects[] = {
    {.dialect = Dialect::OpenCL,
     .pragmas = "#pragma OPENCL FP_CONTRACT OFF\n",
     .kernel = "__kernel void",
     .global = "__global ",
     .function = "static",
     .id = "(long)get_global_id(0)",
     .type = [](const DTypeRow& r) { return r.opencl; },
     .word64 = "ulong",
     .f32_bits = "as_uint",
     .bits_f32 = "as_float",
     .f64_bits = "as_ulong",
     .bits_f64 = "as_double",
     .i64_suffix = "L",
     .u64_suffix = "UL",
     .infinity = "INFINITY",
     .nan = "NAN",
     .f32_math = "",
     .f64_math = "",
     .apart = "",
     .gpu = false,
     .items = false,
     .offsets = true},
    {.dialect = Dialect::Cuda,
     .pragmas = "",
     .kernel = "extern \"C\" __global__ void",
     .global = "",
     .function = "static __device__ __forceinline__",
     .id = "(long long)blockIdx.x * blockDim.x + threadIdx.x",
     .type = [](const DTypeRow& r) { return r.c; },
     .word64 = "long long",
     .f32_bits = "__float_as_uint",
     .bits_f32 = "__uint_as_float",
     .f64_bits = "__double_as_longlong",
     .bits_f64 = "__longlong_as_double",
     .i64_suffix = "LL",
     .u64_suffix = "ULL",
     .infinity = "__int_as_float(0x7f800000)",
     .nan = "__int_as_float(0x7fc00000)",
     .f32_math = "f",
     .f64_math = "",
     .apart = "__restrict__ ",
     .gpu = true,
     .items = false,
     .offsets = false},
    {.dialect = Dialect::C,
     .pragmas = of_c,
     .kernel = "void",
     .global = "",
     .function = "static inline",
     .id = "begin",
     .type = [](const DTypeRow& r) { return r.c; },
     .word64 = "unsigned long long",
     .f32_bits = "bits_of_f32",
     .bits_f32 = "f32_of_bits",
     .f64_bits = "bits_of_f64",
     .bits_f64 = "f64_of_bits",
     .i64_suffix = "LL",
     .u64_suffix = "ULL",
     .infinity = "INFINITY",
     .nan = "NAN",
     .f32_math = "f",
     .f64_math = "",
     .apart = "restrict ",
     .gpu = false,
     .items = true,
     .offsets = false},
};

}  // namespace

const DialectRow& row(Dialect dialect) { return dialects[static_cast<int>(dialect)]; }

std::string in(const Text& t, int least) { return t.precedence >= least ? t.text : "(" + t.text + ")"; }

std::string_view Speller::variable_type(DType dtype) const {
  if (dtype == DType::Bool) return "bool";
  if (is_narrow(dtype)) return "float";
  return row_.type(kontor::row(dtype));
}

std::string_view Speller::memory_type(DType dtype) const {
  if (is_narrow(dtype)) dtype = unsigned_of(kontor::row(dtype).bits);
  return row_.type(kontor::row(dtype));
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
  return is_narrow(dtype) ? reinterpreted(dtype, unsigned_of(kontor::row(dtype).bits), element) : element;
}

Text Speller::to_memory(DType dtype, Text value) {
  return is_narrow(dtype) ? reinterpreted(unsigned_of(kontor::row(dtype).bits), dtype, value) : value;
}

Text Speller::from_slot(DType dtype, const std::string& name) {
  const Text x{name};
  if (dtype == DType::I64) return x;
  const Ref slot = tree::slot(DType::I64, 0);
  if (!is_float(dtype)) return apply(*make(Op::Cast, {slot}, {}, dtype), std::span(&x, 1));
  const DType bits = unsigned_of(kontor::row(dtype).bits);
  return reinterpreted(dtype, bits, plain_cast(bits, x));
}

Text Speller::reinterpreted(DType to, DType from, const Text& x) {
  return apply(*make(Op::Bitcast, {tree::slot(from, 0)}, {}, to), std::span(&x, 1));
}

}  // namespace kontor::clike
