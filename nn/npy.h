// NumPy's .npy: a magic, a version, a Python dictionary as text, then the elements.
// Format: NEP 1, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kontor/types.h>

namespace kontor::inline v0 {

/// An array, row-major, in the host's byte order.
struct NpyArray {
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

/// Versions 1 to 3, either byte order, C or Fortran order. Throws Error that begins with `source` and says
/// the offset or value.
NpyArray parse_npy(std::string_view bytes, std::string_view source);
/// The bytes of a version 1 file. Throws Error where NumPy has no such type (bf16, FP8) or the bytes don't
/// fit the shape.
std::string format_npy(DType dtype, std::span<const int64_t> shape, std::span<const std::byte> bytes);

NpyArray read_npy(const std::string& path);
/// Atomic; see write_file.
void write_npy(const std::string& path, DType dtype, std::span<const int64_t> shape,
               std::span<const std::byte> bytes);

}  // namespace kontor::inline v0
