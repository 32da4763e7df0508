// The table of element types as array files name them.
#include "nn/array_types.h"

#include "base/error.h"

namespace kontor::inline v0 {
namespace {

constexpr ArrayType kTypes[] = {
    {DType::Bool,   1, "bool",   "BOOL",    'b'},
    {DType::U8,     1, "u8",     "U8",      'u'},
    {DType::I8,     1, "i8",     "I8",      'i'},
    {DType::U16,    2, "u16",    "U16",     'u'},
    {DType::I16,    2, "i16",    "I16",     'i'},
    {DType::U32,    4, "u32",    "U32",     'u'},
    {DType::I32,    4, "i32",    "I32",     'i'},
    {DType::U64,    8, "u64",    "U64",     'u'},
    {DType::I64,    8, "i64",    "I64",     'i'},
    {DType::F8E4M3, 1, "f8e4m3", "F8_E4M3", 0},
    {DType::F8E5M2, 1, "f8e5m2", "F8_E5M2", 0},
    {DType::F16,    2, "f16",    "F16",     'f'},
    {DType::BF16,   2, "bf16",   "BF16",    0},
    {DType::F32,    4, "f32",    "F32",     'f'},
    {DType::F64,    8, "f64",    "F64",     'f'},
};

}  // namespace

const ArrayType& array_type(DType dtype) {
  for (const ArrayType& type : kTypes)
    if (type.dtype == dtype) return type;
  broken("array_type: dtype {} has no row", static_cast<int>(dtype));
}

const ArrayType* array_type_of_tag(std::string_view tag) {
  for (const ArrayType& type : kTypes)
    if (type.safetensors == tag) return &type;
  return nullptr;
}

const ArrayType* array_type_of_numpy(char kind, size_t bytes) {
  for (const ArrayType& type : kTypes)
    if (type.numpy_kind == kind && type.bytes == bytes) return &type;
  return nullptr;
}

std::optional<uint64_t> byte_count(DType dtype, std::span<const int64_t> shape) {
  int64_t bytes = static_cast<int64_t>(array_type(dtype).bytes);
  bool good = true;
  for (int64_t size : shape) good = size >= 0 && !__builtin_mul_overflow(bytes, size, &bytes) && good;
  return good ? std::optional<uint64_t>(bytes) : std::nullopt;
}

}  // namespace kontor::inline v0
