// What all other headers speak of: the element types of a Tensor, and the two exceptions that Kontor throws.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#ifndef KONTOR_API
#define KONTOR_API __attribute__((visibility("default")))
#endif

namespace kontor::inline v0 {

/// A mistake in what the caller asked for; the message names the operation and the offending values.
class KONTOR_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message);
  ~Error() override;
};

/// A defect of Kontor itself; the message carries the node concerned and, where one was written, the repro file.
class KONTOR_API InternalError : public std::logic_error {
 public:
  explicit InternalError(const std::string& message);
  ~InternalError() override;
};

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
