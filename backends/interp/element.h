// Reading and writing one element of raw memory as a Value.
#pragma once
#include <cstring>

#include "graph/dtype.h"
#include "graph/scalar.h"

namespace kontor {

inline Value load_element(const std::byte* memory, int64_t position, DType dtype) {
  size_t size = static_cast<size_t>(item_size(dtype));
  Value value;
  std::memcpy(&value.bits, memory + static_cast<size_t>(position) * size, size);  // little endian
  if (dtype == DType::Bool) value.bits = value.bits != 0;
  return value;
}

inline void store_element(std::byte* memory, int64_t position, DType dtype, Value value) {
  size_t size = static_cast<size_t>(item_size(dtype));
  std::memcpy(memory + static_cast<size_t>(position) * size, &value.bits, size);
}

/// `value` as it looks when stored in `dtype` and read again.
inline Value cut_to(DType dtype, uint64_t bits) {
  if (dtype == DType::Bool) return {bits != 0};
  int width = row(dtype).bits;
  return {width == 64 ? bits : bits & ((uint64_t{1} << width) - 1)};
}

}  // namespace kontor
