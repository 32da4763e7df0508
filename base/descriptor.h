// A file descriptor with an owner, and POSIX calls that go on after a signal. For base/ and the cache.
#pragma once
#include <sys/stat.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace kontor {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  /// Hands it over: another closes it.
  int release() { return std::exchange(fd_, -1); }
  /// 0, or the error number: a full disk of a network file system shows only here.
  int close();

 private:
  int fd_;
};

/// What an error number means; strerror is not thread-safe.
std::string reason(int code);

/// openat with O_CLOEXEC; `folder` may be AT_FDCWD. errno says why the result is not valid.
Descriptor open_at(int folder, const std::string& path, int flags, mode_t mode = 0);

/// "a pipe", "a device", ... for a mode that is no regular file's; "" for one that is.
std::string_view other_kind(mode_t mode);

/// 0, or the error number.
int write_all(int fd, std::span<const std::string_view> parts);

/// Appends what follows in the file, to its end; `expected` bytes are likely. Returns 0, or the error number.
int read_all(int fd, std::string& bytes, size_t expected);

}  // namespace kontor
