// Compiled kernels, in memory and on disk, and finished schedules on disk, found by what they were made from.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/lru.h"
#include "base/private_folder.h"

namespace kontor {

/// What a back end's load() needs besides the text.
struct CachedKernel {
  std::string name;
  int64_t scratch_bytes = 0;
  std::string binary;
};

/// Key of a kernel: its key text, the back end's fingerprint and Kontor's version.
Hash128 kernel_cache_key(std::string_view kernel_key, std::string_view fingerprint);

/// What the cache has files of.
enum class CachedKind : uint8_t { Kernel, Schedule };
std::string_view name(CachedKind kind);

/// A kernel cache. May be used from several threads; its folder may be used by several processes of one user.
/// A file that is torn, foreign or of another version counts as absent, and is replaced by the next put. Where the folder
/// cannot be read or written, or the disk is full, one warning is kept and the cache goes on in memory only.
/// What is in the cache is run: a folder or file that another user owns or can write, a link, a pipe or a file larger than a
/// kernel can be is not used, with one warning. docs/building.md says what is promised.
class KernelCache {
 public:
  struct Options {
    std::string folder;               ///< "": in memory only
    int64_t limit_bytes = 256 << 20;  ///< of the files, of all processes; the least recently used go first
  };
  /// As the environment says: KONTOR_CACHE_DIR, else $XDG_CACHE_HOME/kontor, else ~/.cache/kontor; KONTOR_NO_CACHE.
  static Options options_from_environment();

  explicit KernelCache(Options options);

  std::shared_ptr<const CachedKernel> get(Hash128 key);
  void put(Hash128 key, CachedKernel kernel);

  /// The text of a finished schedule; nothing where there is none that is whole.
  std::optional<std::string> schedule(Hash128 key);
  void put_schedule(Hash128 key, std::string name, std::string text);

  struct Stats {
    int64_t memory_hits = 0, disk_hits = 0, misses = 0, rejected = 0, written = 0;
  };
  Stats stats() const;

  struct Entry {
    CachedKind kind;
    std::string key, name;        ///< hexadecimal key; what it is called, "" where the file is not readable
    int64_t bytes = 0, used = 0;  ///< size of the file; when it was last used, in seconds since 1970
  };
  /// The files, latest use first.
  std::vector<Entry> list();
  /// Removes all files of the folder that are the cache's, and forgets what is in memory; returns how many files.
  int64_t clear();

  const std::string& folder() const { return options_.folder; }
  /// Warnings since the last call.
  std::vector<std::string> take_warnings();

 private:
  std::optional<PrivateFolder> folder_if_trusted(PrivateFolder::IfMissing missing);
  std::optional<CachedKernel> read(CachedKind kind, Hash128 key);
  void write(CachedKind kind, Hash128 key, const CachedKernel& kernel);
  int64_t with_room(const PrivateFolder& folder, int64_t used, int64_t bytes) const;
  void give_up_disk(const std::string& reason);
  void warn_of_file(const std::string& reason);

  Options options_;
  mutable std::mutex mutex_;
  static constexpr size_t most_in_memory = 1024;
  Lru<Hash128, std::shared_ptr<const CachedKernel>, HashOfHash> memory_{most_in_memory};
  Stats stats_;
  std::vector<std::string> warnings_;
  bool disk_, warned_of_file_ = false;
  int patience_ = 1000;  // milliseconds that the lock is waited for; once in vain is enough
};

}  // namespace kontor
