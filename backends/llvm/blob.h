// A kernel as bytes that need no LLVM: a header, then position-independent code and constants; and memory to run it in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "backends/llvm/elf_link.h"

namespace kontor::inline v0 {

/// Header and code. `fingerprint` names the machine that the code is for.
std::string make_blob(const FlatCode& code, std::string_view fingerprint);

/// Executable memory. No byte of it is ever writable and executable through the same address.
class CodeChunk;

/// A blob in executable memory; it stays mapped as long as this (or a copy) lives.
struct LoadedCode {
  std::shared_ptr<CodeChunk> chunk;
  const void* entry = nullptr;
};

/// Packs the code of many blobs into few mappings. May be used from several threads.
class CodeArena {
 public:
  /// `shared_mapping`: one file in memory mapped twice, to write and to run, so that blobs share pages. Without it (or
  /// where the system refuses it) each blob has pages of its own, which lose the right to be written before they run.
  explicit CodeArena(bool shared_mapping = true);
  ~CodeArena();

  /// Throws Error if the blob is damaged, of another version of this format or of another machine.
  LoadedCode load(std::string_view blob, std::string_view fingerprint);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kontor::inline v0
