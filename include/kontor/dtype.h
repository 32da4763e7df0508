// The element types of a Tensor.
#pragma once
#include <cstdint>
#include <string_view>

#include <kontor/error.h>

namespace kontor::inline v0 {

/// Element types. FP8 is OCP E4M3 / E5M2 (OFP8, finite E4M3 "FN" and IEEE-like E5M2), and E4M3 "FNUZ", which has no -0: its code is
/// the one NaN, and the exponent's bias is 8.
enum class DType : uint8_t {
  Void,
  Bool,
  U8,
  I8,
  U16,
  I16,
  U32,
  I32,
  U64,
  I64,
  F8E4M3,
  F8E5M2,
  F8E4M3FNUZ,
  F16,
  BF16,
  F32,
  F64
};

/// Name as written in text: "f32", "bool", ...
KONTOR_API std::string_view name(DType dtype);
/// Inverse of name(); throws Error naming the known dtypes.
KONTOR_API DType parse_dtype(std::string_view text);
/// Bytes of one element.
KONTOR_API int64_t item_size(DType dtype);

}  // namespace kontor::inline v0
