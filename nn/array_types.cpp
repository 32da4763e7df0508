// Lookups in the dtype table that only array files need.
#include "nn/array_types.h"

namespace kontor::inline v0 {
namespace {

template <class F>
std::optional<DType> find(F&& wanted) {
  for (int code = 0; code <= static_cast<int>(DType::F64); ++code)
    if (wanted(row(static_cast<DType>(code)))) return static_cast<DType>(code);
  return std::nullopt;
}

}  // namespace

std::optional<DType> dtype_of_tag(std::string_view tag) {
  return find([&](const DTypeRow& row) { return !tag.empty() && row.safetensors == tag; });
}

std::optional<DType> dtype_of_numpy(char kind, size_t bytes) {
  return find([&](const DTypeRow& row) {
    return !row.numpy.empty() && row.numpy[1] == kind && static_cast<size_t>(row.bits / 8) == bytes;
  });
}

std::optional<uint64_t> byte_count(DType dtype, std::span<const int64_t> shape) {
  int64_t bytes = item_size(dtype);
  bool good = true;
  for (int64_t size : shape) good = size >= 0 && !__builtin_mul_overflow(bytes, size, &bytes) && good;
  return good ? std::optional<uint64_t>(bytes) : std::nullopt;
}

}  // namespace kontor::inline v0
