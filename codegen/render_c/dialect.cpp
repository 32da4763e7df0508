// The dialects' table; types, literals and elements in memory in C.
#include "codegen/render_c/dialect.h"

#include <cmath>

#include "base/error.h"
#include "graph/scalar.h"

namespace kontor::clike {

namespace {

constexpr DialectRow dialects[] = {
    {Dialect::OpenCL, "#pragma OPENCL FP_CONTRACT OFF\n", "__kernel void", "__global ", "static",
     "(long)get_global_id(0)", "L", "UL", "INFINITY", "NAN", "", "", "", false, true},
    {Dialect::Cuda, "", "extern \"C\" __global__ void", "", "static __device__ __forceinline__",
     "(long long)blockIdx.x * blockDim.x + threadIdx.x", "LL", "ULL", "__int_as_float(0x7f800000)",
     "__int_as_float(0x7fc00000)", "f", "", "__restrict__ ", true, false},
};

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

}  // namespace kontor::clike
