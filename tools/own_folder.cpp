// The lock is on the folder itself: there is no file of its own that could stay, and the system releases it on death.
#include "tools/own_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <regex>

#include "base/error.h"
#include "base/file.h"

namespace kontor::tools {

namespace fs = std::filesystem;

// Temporary files of write_file(), of the kinds of files that runs and studies write, and a link that was not yet renamed.
static bool is_leftover(const std::string& name) {
  static const std::regex temporary(R"(.+\.(safetensors|csv|svg|png|json|md)\.tmp-[0-9]+-[0-9]+)");
  return name == "checkpoint-before.safetensors.new" || std::regex_match(name, temporary);
}

OwnFolder::OwnFolder(std::string path) : path_(std::move(path)) {
  make_folders(path_);
  lock_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // A file system without locks is used without one.
  if (lock_ >= 0 && ::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(lock_);
    fail("another run writes to {}; wait for its end, or name another folder by --out", path_);
  }
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_, ignored))
    if (is_leftover(entry.path().filename().string())) fs::remove(entry.path(), ignored);
}

OwnFolder::~OwnFolder() {
  if (lock_ >= 0) ::close(lock_);
}

}  // namespace kontor::tools
