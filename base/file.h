// Files: read whole, mapped, or replaced atomically, so that a reader sees the old content or the new, never
// half. Every error names the path, what was attempted and the system's reason.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kontor {

/// The bytes of a whole regular file. Throws Error when it cannot be opened or read, is something else (a pipe would be
/// waited for, a device might never end), or is larger than the memory that is left.
std::string read_file(const std::string& path);

/// Whether a written file must survive a power cut (fsync of file and folder) or only a crash of the process.
enum class Durable : bool { No, Yes };

/// Replaces the content of `path` by `parts`, one after another: a temporary file beside it is written, then
/// renamed over it. A failure (such as a full disk) removes the temporary file, leaves `path` as it was and
/// throws Error with the path, the bytes needed and the reason. Links are followed; a pipe or device is
/// written in place. A process that runs under a file size limit must ignore SIGXFSZ to get the Error instead
/// of the signal.
void write_file(const std::string& path, std::span<const std::string_view> parts,
                Durable durable = Durable::No);
void write_file(const std::string& path, std::string_view bytes, Durable durable = Durable::No);

/// Replaces what has the name itself, be it a link or a pipe: never writes through it. For names that another may have
/// guessed.
void replace_file(const std::string& path, std::string_view bytes);

/// A regular file mapped read-only. The bytes stay valid after the file is replaced or removed (write_file never
/// changes a mapped file), but not if another program shortens it in place.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Makes the folder and those above it; does nothing where it exists. Throws Error with path and reason.
void make_folders(const std::string& path);

}  // namespace kontor
