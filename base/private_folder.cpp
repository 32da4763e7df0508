// Checks are made on what is open, never on a path: a path may lead elsewhere a moment later.
#include "base/private_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace kontor {
namespace {

constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

// Why others may have written what has this status, or "".
std::string distrust(const std::string& path, const struct stat& status) {
  if (status.st_uid != ::geteuid())
    return fmt::format("{} belongs to user {}, and this process to user {}", path, status.st_uid,
                       ::geteuid());
  if ((status.st_mode & kOthersWrite) != 0)
    return fmt::format("{} can be written by others (mode {:o}; `chmod go-w` keeps them out)", path,
                       status.st_mode & 07777);
  return "";
}

[[noreturn]] void cannot_open(const std::string& path, int code) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode))
    fail("{} is a link: name the place that it leads to", path);
  fail("cannot open {}: {}", path, reason(code));
}

void make_private(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash > 0) make_folders(path.substr(0, slash));
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    fail("cannot make folder {}: {}", path, reason(errno));
}

std::string without_last_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// A file that nobody can have prepared, since nobody knows its name. Returns its path.
std::string keep_under_new_name(const std::string& temporary, const std::string& name,
                                std::string_view text) {
  const size_t dot = std::min(name.rfind('.'), name.size());
  std::string path = fmt::format("{}/kontor-{}-XXXXXX{}", temporary, name.substr(0, dot), name.substr(dot));
  Descriptor file(::mkostemps(path.data(), static_cast<int>(name.size() - dot), O_CLOEXEC));
  int code = file.valid() ? write_all(file.get(), std::span(&text, 1)) : errno;
  if (code == 0) code = file.close();
  if (code != 0) fail("cannot write {}: {}", path, reason(code));
  return path;
}

}  // namespace

std::optional<PrivateFolder> PrivateFolder::open(const std::string& given, IfMissing missing) {
  const std::string path = without_last_slashes(given);
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  Descriptor folder = open_at(AT_FDCWD, path, kFlags);
  if (!folder.valid() && errno == ENOENT) {
    if (missing == IfMissing::Leave) return {};
    make_private(path);
    folder = open_at(AT_FDCWD, path, kFlags);
  }
  if (!folder.valid()) cannot_open(path, errno);
  struct stat status{};
  if (::fstat(folder.get(), &status) != 0) cannot_open(path, errno);
  if (const std::string why = distrust(path, status); !why.empty()) fail("{}", why);
  return PrivateFolder(path, std::move(folder));
}

// O_NONBLOCK: a pipe is opened at once, and then seen to be one.
Descriptor PrivateFolder::open_file(const std::string& name, int flags, struct stat& status) const {
  const std::string path = path_ + "/" + name;
  Descriptor file = open_at(folder_.get(), name, flags | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (!file.valid() && errno == ENOENT) return file;
  if (!file.valid()) cannot_open(path, errno);
  if (::fstat(file.get(), &status) != 0) cannot_open(path, errno);
  if (!S_ISREG(status.st_mode)) fail("{} is {}, not a regular file", path, other_kind(status.st_mode));
  if (const std::string why = distrust(path, status); !why.empty()) fail("{}", why);
  return file;
}

std::optional<std::string> PrivateFolder::read(const std::string& name, uint64_t most,
                                               int64_t stale_seconds) const {
  struct stat status{};
  const Descriptor file = open_file(name, O_RDONLY, status);
  if (!file.valid()) return {};
  if (static_cast<uint64_t>(status.st_size) > most)
    fail("{}/{} has {} bytes, more than the {} it can have", path_, name, status.st_size, most);
  std::string bytes;
  if (const int code = read_all(file.get(), bytes, static_cast<size_t>(status.st_size)))
    fail("cannot read {}/{}: {}", path_, name, reason(code));
  if (std::time(nullptr) - status.st_mtime > stale_seconds) (void)::futimens(file.get(), nullptr);
  return bytes;
}

void PrivateFolder::write(const std::string& name, std::span<const std::string_view> parts) const {
  static std::atomic<unsigned> counter{0};
  const std::string temporary = fmt::format("{}.tmp-{}-{}", name, ::getpid(), counter.fetch_add(1));
  (void)::unlinkat(folder_.get(), temporary.c_str(), 0);  // of a process that died, whose number this one has
  Descriptor file = open_at(folder_.get(), temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file.valid()) fail("cannot write {}/{}: {}", path_, name, reason(errno));
  int code = write_all(file.get(), parts);
  if (code == 0) code = file.close();
  if (code == 0 && ::renameat(folder_.get(), temporary.c_str(), folder_.get(), name.c_str()) != 0)
    code = errno;
  if (code == 0) return;
  (void)::unlinkat(folder_.get(), temporary.c_str(), 0);
  fail("cannot write {}/{}: {}", path_, name, reason(code));
}

std::vector<PrivateFolder::File> PrivateFolder::files() const {
  std::vector<File> files;
  Descriptor again = open_at(folder_.get(), ".", O_RDONLY | O_DIRECTORY);  // readdir moves a place of its own
  DIR* const opened = again.valid() ? ::fdopendir(again.get()) : nullptr;
  if (opened == nullptr) fail("cannot list {}: {}", path_, reason(errno));
  (void)again.release();
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opened, ::closedir);
  while (const dirent* entry = ::readdir(folder.get())) {
    struct stat status{};
    if (::fstatat(folder_.get(), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode))
      files.push_back({entry->d_name, status.st_size, status.st_mtime});
  }
  return files;
}

bool PrivateFolder::remove(const std::string& name) const {
  if (::unlinkat(folder_.get(), name.c_str(), 0) == 0) return true;
  if (errno != ENOENT) fail("cannot remove {}/{}: {}", path_, name, reason(errno));
  return false;
}

std::string keep_text(std::string name, std::string_view text) {
  constexpr size_t kLongest = 200;
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.';
  };
  for (char& c : name) c = plain(c) ? c : '_';
  if (name.size() > kLongest) name.erase(0, name.size() - kLongest);
  const char* given = std::getenv("TMPDIR");
  const std::string temporary = given != nullptr && *given != '\0' ? given : "/tmp";
  try {
    const std::string own = fmt::format("{}/kontor-{}", temporary, ::geteuid());
    (void)::mkdir(own.c_str(), 0700);
    const auto folder = PrivateFolder::open(own, PrivateFolder::IfMissing::Leave);
    if (!folder) fail("cannot make folder {}", own);
    folder->write(name, std::span(&text, 1));
    return folder->path() + "/" + name;
  } catch (const Error&) {
    return keep_under_new_name(temporary, name, text);
  }
}

}  // namespace kontor
