// POSIX calls on descriptors.
#include "base/descriptor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace kontor {

int Descriptor::close() {
  if (fd_ < 0) return 0;
  return ::close(std::exchange(fd_, -1)) == 0 ? 0 : errno;
}

std::string reason(int code) { return std::generic_category().message(code); }

Descriptor open_at(int folder, const std::string& path, int flags, mode_t mode) {
  int fd;
  do fd = ::openat(folder, path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return Descriptor(fd);
}

std::string_view other_kind(mode_t mode) {
  if (S_ISREG(mode)) return "";
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISLNK(mode)) return "a link";
  if (S_ISFIFO(mode)) return "a pipe";
  return S_ISSOCK(mode) ? "a socket" : "a device";
}

int write_all(int fd, std::span<const std::string_view> parts) {
  for (std::string_view bytes : parts) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }
  return 0;
}

int read_all(int fd, std::string& bytes, size_t expected) {
  bytes.reserve(bytes.size() + expected + 1);
  for (;;) {
    constexpr size_t kChunk = size_t{1} << 16;
    const size_t have = bytes.size();
    const size_t want = bytes.capacity() > have ? bytes.capacity() - have : kChunk;
    bytes.resize(have + want);
    const ssize_t got = ::read(fd, bytes.data() + have, want);
    const int code = errno;
    bytes.resize(have + static_cast<size_t>(got > 0 ? got : 0));
    if (got == 0) return 0;
    if (got < 0 && code != EINTR) return code;
  }
}

}  // namespace kontor
