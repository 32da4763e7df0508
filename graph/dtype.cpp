// The dtype table and what is computed from it.
#include "graph/dtype.h"

#include <algorithm>

#include "base/error.h"

namespace kontor {

static constexpr DTypeRow rows[] = {
    // clang-format off
    {DType::Void,   "void",   0,  Kind::None,     "void",   "void",               "void",   0, "",        ""},
    {DType::Bool,   "bool",   8,  Kind::Bool,     "uchar",  "unsigned char",      "i8",     6, "BOOL",    "|b1"},
    {DType::U8,     "u8",     8,  Kind::Unsigned, "uchar",  "unsigned char",      "i8",     1, "U8",      "|u1"},
    {DType::I8,     "i8",     8,  Kind::Signed,   "char",   "signed char",        "i8",     0, "I8",      "|i1"},
    {DType::U16,    "u16",    16, Kind::Unsigned, "ushort", "unsigned short",     "i16",    1, "U16",     "<u2"},
    {DType::I16,    "i16",    16, Kind::Signed,   "short",  "short",              "i16",    0, "I16",     "<i2"},
    {DType::U32,    "u32",    32, Kind::Unsigned, "uint",   "unsigned int",       "i32",    1, "U32",     "<u4"},
    {DType::I32,    "i32",    32, Kind::Signed,   "int",    "int",                "i32",    0, "I32",     "<i4"},
    {DType::U64,    "u64",    64, Kind::Unsigned, "ulong",  "unsigned long long", "i64",    1, "U64",     "<u8"},
    {DType::I64,    "i64",    64, Kind::Signed,   "long",   "long long",          "i64",    0, "I64",     "<i8"},
    {DType::F8E4M3, "f8e4m3", 8,  Kind::Float,    "",       "",                   "",       10, "F8_E4M3", "", {4, 3, 7, Specials::Finite}},
    {DType::F8E5M2, "f8e5m2", 8,  Kind::Float,    "",       "",                   "",       12, "F8_E5M2", "", {5, 2, 15, Specials::Ieee}},
    {DType::F8E4M3FNUZ, "f8e4m3fnuz", 8, Kind::Float, "",   "",                   "",       11, "F8_E4M3FNUZ", "", {4, 3, 8, Specials::NoMinusZero}},
    {DType::F16,    "f16",    16, Kind::Float,    "half",   "__half",             "half",   2, "F16",     "<f2", {5, 10, 15, Specials::Ieee}},
    {DType::BF16,   "bf16",   16, Kind::Float,    "",       "__nv_bfloat16",      "bfloat", 4, "BF16",    "", {8, 7, 127, Specials::Ieee}},
    {DType::F32,    "f32",    32, Kind::Float,    "float",  "float",              "float",  2, "F32",     "<f4", {8, 23, 127, Specials::Ieee}},
    {DType::F64,    "f64",    64, Kind::Float,    "double", "double",             "double", 2, "F64",     "<f8", {11, 52, 1023, Specials::Ieee}},
    // clang-format on
};

std::span<const DTypeRow> dtypes() { return std::span(rows).subspan(1); }
const DTypeRow& row(DType dtype) { return rows[static_cast<int>(dtype)]; }
std::string_view v0::name(DType dtype) { return row(dtype).name; }
int64_t v0::item_size(DType dtype) { return row(dtype).bits / 8; }

DType v0::parse_dtype(std::string_view text) {
  std::string known;
  for (const DTypeRow& r : rows) {
    if (r.name == text) return r.dtype;
    known += fmt::format("{}{}", known.empty() ? "" : " ", r.name);
  }
  fail("unknown dtype '{}'; known: {}", text, known);
}

DType unsigned_of(int bits) {
  for (const DTypeRow& r : rows)
    if (r.kind == Kind::Unsigned && r.bits == bits) return r.dtype;
  broken("no unsigned dtype of {} bits", bits);
}

static DType find(Kind kind, int bits) {
  for (const DTypeRow& r : rows)
    if (r.kind == kind && r.bits == bits && r.dtype != DType::BF16) return r.dtype;
  return DType::F64;
}

static DType promote_floats(const DTypeRow& a, const DTypeRow& b) {
  if (a.kind != b.kind) return a.kind == Kind::Float ? a.dtype : b.dtype;
  if (a.bits != b.bits) return a.bits > b.bits ? a.dtype : b.dtype;
  return DType::F32;  // f16 with bf16, one f8 with another
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  const DTypeRow &x = row(a), &y = row(b);
  if (x.kind == Kind::Bool) return b;
  if (y.kind == Kind::Bool) return a;
  if (x.kind == Kind::Float || y.kind == Kind::Float) return promote_floats(x, y);
  if (x.kind == y.kind) return x.bits > y.bits ? a : b;
  const DTypeRow& s = x.kind == Kind::Signed ? x : y;
  const DTypeRow& u = x.kind == Kind::Signed ? y : x;
  if (s.bits > u.bits) return s.dtype;
  return u.bits == 64 ? DType::F64 : find(Kind::Signed, u.bits * 2);
}

}  // namespace kontor
