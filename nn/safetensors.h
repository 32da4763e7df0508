// safetensors, the format in which weights and checkpoints are kept: 8 bytes header size, JSON header, raw
// bytes. Format: https://huggingface.co/docs/safetensors, "Format".
#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kontor/types.h>

namespace kontor::inline v0 {

/// One array of a file: row-major, little-endian.
struct ArrayRecord {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;

  bool operator==(const ArrayRecord&) const = default;
};

/// The content of a safetensors file.
struct ArrayFile {
  std::vector<ArrayRecord> arrays;
  std::map<std::string, std::string> metadata;

  /// The array of that name. Throws Error that lists the names there are; `source` names the file in it.
  const ArrayRecord& at(std::string_view name, std::string_view source) const;
};

/// The bytes of a file; equal content gives equal bytes (arrays are ordered by item size, then by name, so
/// that each is aligned). Throws Error where a name stands twice or the bytes of an array don't fit its
/// shape.
std::string format_safetensors(const ArrayFile& file);
/// Strict: every byte of the data belongs to exactly one array. Throws Error that begins with `source`.
ArrayFile parse_safetensors(std::string_view bytes, std::string_view source);

/// Atomic, and it survives a power cut; see write_file.
void write_safetensors(const std::string& path, const ArrayFile& file);
ArrayFile read_safetensors(const std::string& path);

}  // namespace kontor::inline v0
