// A kernel as bytes that need no LLVM: a header, then position-independent code and constants; and memory to run it in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "backends/llvm/elf_link.h"

namespace kontor {

/// Header and code. `fingerprint` names the machine that the code is for.
std::string make_blob(const FlatCode& code, std::string_view fingerprint);

/// A blob in executable memory, which is its own as long as this (or a copy) lives.
struct LoadedCode {
  std::shared_ptr<const void> memory;
  const void* entry = nullptr;
};

/// Packs the code of many blobs into few mappings; the memory of those that are gone is used again. No byte is ever
/// writable and executable through the same address. May be used from several threads.
class CodeArena {
 public:
  /// `shared_mapping`: one file in memory mapped twice, to write and to run, so that blobs share pages. Without it (or
  /// where the system refuses it) each blob has pages of its own, which lose the right to be written before they run.
  explicit CodeArena(bool shared_mapping = true);
  ~CodeArena();

  /// Throws Error if the blob is damaged, of another version of this format or of another machine.
  LoadedCode load(std::string_view blob, std::string_view fingerprint);
  /// Of the mappings, those that are run.
  size_t mapped_bytes() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // outlived by what was loaded
};

}  // namespace kontor
