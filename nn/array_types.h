// What array files say about an element type, and how many bytes an array takes.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <kontor/dtype.h>

namespace kontor::inline v0 {

struct ArrayType {
  DType dtype;
  size_t bytes;
  std::string_view name;
  std::string_view safetensors;  // tag, or empty
  char numpy_kind;               // of "<f4": 'f'; 0: NumPy has no such type
};

/// The row of a dtype.
const ArrayType& array_type(DType dtype);
/// The row with that safetensors tag, or null.
const ArrayType* array_type_of_tag(std::string_view tag);
/// The row with that NumPy kind and item size, or null.
const ArrayType* array_type_of_numpy(char kind, size_t bytes);
/// Bytes of an array; nullopt where a size is negative or the product leaves int64.
std::optional<uint64_t> byte_count(DType dtype, std::span<const int64_t> shape);

}  // namespace kontor::inline v0
