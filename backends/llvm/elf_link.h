// Links the sections of one ELF object into a flat, position-independent run of bytes.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace kontor {

struct FlatCode {
  std::string bytes;   ///< code and constants; to be placed at a multiple of 64
  uint64_t entry = 0;  ///< offset of the entry function
};

/// Places every allocated section of `object` (x86-64 ELF) one after the other and applies the relocations among them.
/// Throws Error if something remains for a dynamic linker: an external symbol, an absolute address, writable data.
FlatCode link_flat(std::string_view object, std::string_view entry);

}  // namespace kontor
