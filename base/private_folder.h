// Folders that hold what will be run or what nobody else may see: only this user may write them, and nothing in them leads
// elsewhere. For the kernel cache, and for texts that are kept under names that others could guess.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/descriptor.h"

namespace kontor {

/// An open folder that belongs to this user and that no other can write. Its files are opened relative to it, so that what
/// was checked is what is used, whatever happens to the path meanwhile.
class PrivateFolder {
 public:
  enum class IfMissing : bool { Leave, Make };

  /// Opens the folder; with Make it is made (0700), and those above it. Nothing where it is not there. Throws Error where
  /// it is a link, or belongs to or can be written by another user.
  static std::optional<PrivateFolder> open(const std::string& path, IfMissing missing);

  const std::string& path() const { return path_; }

  /// A file of the folder; not valid where it is not there. Throws Error where it is no regular file, a link, belongs to or
  /// can be written by another user, or cannot be opened. Made (0600) if `flags` has O_CREAT.
  Descriptor open_file(const std::string& name, int flags, struct stat& status) const;

  /// The bytes of a file, or nothing where it is not there. Throws as open_file, and where there are more than `most`. A
  /// file whose time is more than `stale_seconds` ago gets that of now, which says that it is used.
  std::optional<std::string> read(const std::string& name, uint64_t most,
                                  int64_t stale_seconds = INT64_MAX) const;

  /// Replaces a file (0600) as a whole: a reader sees the old or the new. Where the name is a link, the link is replaced.
  void write(const std::string& name, std::span<const std::string_view> parts) const;

  struct File {
    std::string name;
    int64_t bytes = 0, written = 0;  ///< size; seconds since 1970
  };
  /// The regular files, whoever owns them.
  std::vector<File> files() const;
  /// Whether a file of that name was there. Throws Error where it cannot be removed.
  bool remove(const std::string& name) const;

 private:
  PrivateFolder(std::string path, Descriptor folder) : path_(std::move(path)), folder_(std::move(folder)) {}

  std::string path_;
  Descriptor folder_;
};

/// Keeps a text for the user to look at, and returns its path: under `name` in a folder of this user's own in that for
/// temporary files ($TMPDIR/kontor-UID), or under a name that cannot be guessed where that folder is another's. Letters
/// of the name that no file name should have become '_'. Throws Error where it cannot be written.
std::string keep_text(std::string name, std::string_view text);

}  // namespace kontor
