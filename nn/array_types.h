// What the readers of array files share: dtypes by the tag of a file, and how many bytes an array takes.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "graph/dtype.h"

namespace kontor::inline v0 {

/// The dtype with that safetensors tag, as "F32".
std::optional<DType> dtype_of_tag(std::string_view tag);
/// The dtype with that NumPy kind and item size, as 'f' and 4.
std::optional<DType> dtype_of_numpy(char kind, size_t bytes);
/// Bytes of an array; nullopt where a size is negative or the product leaves int64.
std::optional<uint64_t> byte_count(DType dtype, std::span<const int64_t> shape);

}  // namespace kontor::inline v0
