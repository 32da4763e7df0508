// Files through POSIX calls; see file.h for what is promised.
#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <utility>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/memory.h"

namespace kontor {
namespace {

int write_parts(Descriptor& file, std::span<const std::string_view> parts, Durable durable) {
  if (int code = write_all(file.get(), parts)) return code;
  if (durable == Durable::Yes && ::fsync(file.get()) != 0 && errno != EINVAL && errno != EROFS) return errno;
  return file.close();
}

size_t total(std::span<const std::string_view> parts) {
  size_t bytes = 0;
  for (std::string_view part : parts) bytes += part.size();
  return bytes;
}

[[noreturn]] void write_failed(const std::string& path, std::span<const std::string_view> parts, int code) {
  fail("cannot write {}: {} bytes needed: {}", path, total(parts), reason(code));
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// Where a link leads, so that the rename replaces the file and not the link.
std::string follow_links(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (!real) return path;
  std::string result = real;
  std::free(real);
  return result;
}

/// A name no other thread or living process uses (a dead process of the same number may have left one).
std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  return fmt::format("{}.tmp-{}-{}", path, ::getpid(), counter.fetch_add(1));
}

void write_in_place(const std::string& path, std::span<const std::string_view> parts) {
  Descriptor file = open_at(AT_FDCWD, path, O_WRONLY);
  if (!file.valid()) write_failed(path, parts, errno);
  if (int code = write_parts(file, parts, Durable::No)) write_failed(path, parts, code);
}

void sync_folder(const std::string& path) {
  const Descriptor folder = open_at(AT_FDCWD, folder_of(path), O_RDONLY | O_DIRECTORY);
  // The data is safe already; a file system that cannot sync a folder is no failure of ours.
  if (folder.valid()) (void)::fsync(folder.get());
}

/// The one way to open what is read: O_NONBLOCK, so that a pipe without a writer is opened at once and then refused.
Descriptor open_regular(const std::string& path, size_t& size) {
  Descriptor file = open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!file.valid()) fail("cannot read {}: {}", path, reason(errno));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) fail("cannot read {}: {}", path, reason(errno));
  if (!S_ISREG(status.st_mode))
    fail("cannot read {}: it is {}, not a regular file", path, other_kind(status.st_mode));
  size = static_cast<size_t>(status.st_size);
  return file;
}

void replace(const std::string& path, std::span<const std::string_view> parts, Durable durable,
             const mode_t* mode) {
  const std::string temporary = temporary_name(path);
  ::unlink(temporary.c_str());
  Descriptor file = open_at(AT_FDCWD, temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (!file.valid()) write_failed(path, parts, errno);
  if (mode) (void)::fchmod(file.get(), *mode);
  int code = write_parts(file, parts, durable);
  if (code == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) code = errno;
  if (code == 0) {
    if (durable == Durable::Yes) sync_folder(path);
    return;
  }
  ::unlink(temporary.c_str());
  write_failed(path, parts, code);
}

}  // namespace

std::string read_file(const std::string& path) {
  size_t size = 0;
  const Descriptor file = open_regular(path, size);
  require_memory(size, path);
  std::string bytes;
  // Read to the end whatever the size said: files of /proc have none.
  if (const int code = read_all(file.get(), bytes, size))
    fail("cannot read {}: at offset {}: {}", path, bytes.size(), reason(code));
  return bytes;
}

void write_file(const std::string& path, std::span<const std::string_view> parts, Durable durable) {
  struct stat status{};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (!exists) return replace(path, parts, durable, nullptr);
  if (S_ISDIR(status.st_mode)) write_failed(path, parts, EISDIR);
  if (!S_ISREG(status.st_mode)) return write_in_place(path, parts);
  const mode_t mode = status.st_mode & 07777;
  replace(follow_links(path), parts, durable, &mode);
}

void write_file(const std::string& path, std::string_view bytes, Durable durable) {
  write_file(path, std::span(&bytes, 1), durable);
}

void replace_file(const std::string& path, std::string_view bytes) {
  replace(path, std::span(&bytes, 1), Durable::No, nullptr);
}

MappedFile::MappedFile(const std::string& path) {
  const Descriptor file = open_regular(path, size_);
  if (size_ == 0) return;  // mmap refuses length 0
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail("cannot map {}: {} bytes: {}", path, size_, reason(errno));
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void make_folders(const std::string& path) {
  for (size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string folder = path.substr(0, end);
    if (folder.empty() || ::mkdir(folder.c_str(), 0777) == 0) continue;
    const int code = errno;
    struct stat status{};
    if (::stat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) continue;
    fail("cannot make folder {}: {}", folder, reason(code == EEXIST ? ENOTDIR : code));
  }
}

}  // namespace kontor
