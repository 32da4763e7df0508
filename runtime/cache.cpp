// The kernel cache. A file: header, name, binary (of a schedule its text); the header's checksum covers key, sizes, name and
// binary.
#include "runtime/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <utility>

#include "base/env.h"
#include "base/error.h"
#include "runtime/inspect.h"

namespace kontor {
namespace {

struct KindRow {
  char magic[8];
  std::string_view name, ending;
};
constexpr KindRow kKinds[] = {{{'K', 'N', 'T', 'R', 'K', 'R', 'N', 'L'}, "kernel", ".kernel"},
                              {{'K', 'N', 'T', 'R', 'S', 'C', 'H', 'D'}, "schedule", ".schedule"}};
const KindRow& row(CachedKind kind) { return kKinds[static_cast<size_t>(kind)]; }
constexpr uint32_t kVersion = 1;
constexpr size_t kKeyDigits = 32;
constexpr std::string_view kTotal = "total";  // the bytes of all files: the file that processes lock
constexpr uint64_t kLargestFile = 64 << 20;   // a kernel's code takes kilobytes
constexpr int64_t kRefreshSeconds = 3600;     // a file's time of use is renewed no more often

struct Header {
  char magic[8];
  uint32_t version, name_bytes;
  uint64_t binary_bytes;
  int64_t scratch_bytes;
  Hash128 key, checksum;
};
static_assert(sizeof(Header) == 64);

Hash128 checksum_of(Header header, std::string_view name, std::string_view binary) {
  header.checksum = {};
  const std::string_view bytes(reinterpret_cast<const char*>(&header), sizeof header);
  return hash128(binary, hash128(name, hash128(bytes)));
}

bool begins(const Header& header, CachedKind kind) {
  return std::memcmp(header.magic, row(kind).magic, sizeof header.magic) == 0 && header.version == kVersion;
}

std::optional<CachedKernel> decode(CachedKind kind, std::string_view file, Hash128 key) {
  Header header;
  if (file.size() < sizeof header) return {};
  std::memcpy(&header, file.data(), sizeof header);
  if (!begins(header, kind) || header.key != key) return {};
  const std::string_view rest = file.substr(sizeof header);
  if (header.name_bytes > rest.size() || header.binary_bytes != rest.size() - header.name_bytes) return {};
  const std::string_view name = rest.substr(0, header.name_bytes), binary = rest.substr(header.name_bytes);
  if (header.checksum != checksum_of(header, name, binary)) return {};
  return CachedKernel{std::string(name), header.scratch_bytes, std::string(binary)};
}

std::string file_of(CachedKind kind, Hash128 key) { return key.hex().append(row(kind).ending); }

std::string name_in(const PrivateFolder& folder, CachedKind kind, const std::string& file_name) {
  Header header;
  std::string name;
  struct stat status{};
  try {
    const Descriptor file = folder.open_file(file_name, O_RDONLY, status);
    if (file.valid() && ::read(file.get(), &header, sizeof header) == sizeof header && begins(header, kind) &&
        header.name_bytes < 4096) {
      name.resize(header.name_bytes);
      if (::read(file.get(), name.data(), name.size()) != static_cast<ssize_t>(name.size())) name.clear();
    }
  } catch (const Error&) {
    name.clear();
  }
  return name;
}

std::optional<CachedKind> kind_of(const std::string& file) {
  for (const CachedKind kind : {CachedKind::Kernel, CachedKind::Schedule})
    if (file.find(row(kind).ending) == kKeyDigits) return kind;
  return {};
}

// A file of the cache, or what a writer that died left behind; not what another process is writing just now.
bool is_ours(const std::string& file, int64_t written) {
  const std::optional<CachedKind> kind = kind_of(file);
  if (!kind) return false;
  return file.size() == kKeyDigits + row(*kind).ending.size() ||
         written + kRefreshSeconds < std::time(nullptr);
}

// Sizes and times of the cache's files, latest use first.
std::vector<PrivateFolder::File> scan(const PrivateFolder& folder) {
  std::vector<PrivateFolder::File> files = folder.files();
  std::erase_if(files, [](const auto& file) { return !is_ours(file.name, file.written); });
  std::sort(files.begin(), files.end(), [](auto& a, auto& b) { return a.written > b.written; });
  return files;
}

// The bytes of all files, as a number in a file of the folder. Locked while a process writes: no more are there than it says.
class Total {
 public:
  // Tries for the lock once a millisecond, `patience` times: its holder may have been stopped.
  Total(const PrivateFolder& folder, int patience) {
    struct stat status{};
    file_ = folder.open_file(std::string(kTotal), O_RDWR | O_CREAT, status);
    for (int tries = 0; file_.valid() && !locked_ && tries < patience; ++tries) {
      if (tries > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      // A file system without locks: the limit is then as good as the number.
      locked_ = ::flock(file_.get(), LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR);
    }
  }
  // Unlocked by name: a child that was forked meanwhile has the descriptor too, and would keep the lock.
  ~Total() {
    if (locked_) (void)::flock(file_.get(), LOCK_UN);
  }
  Total(const Total&) = delete;
  Total& operator=(const Total&) = delete;

  bool locked() const { return locked_; }

  // -1 where it is not known.
  int64_t read() const {
    char text[24];
    const ssize_t size = ::pread(file_.get(), text, sizeof text, 0);
    int64_t total = -1;
    if (size <= 0) return -1;
    const auto [end, code] = std::from_chars(text, text + size, total);
    return code == std::errc() && end != text + size && *end == '\n' ? total : -1;
  }

  void write(int64_t total) const {
    const std::string text = total < 0 ? std::string() : fmt::format("{}\n", total);
    const ssize_t size = ::pwrite(file_.get(), text.data(), text.size(), 0);
    if (::ftruncate(file_.get(), std::max<ssize_t>(size, 0)) != 0) return;  // then it is looked for again
  }

 private:
  Descriptor file_;
  bool locked_ = false;
};

}  // namespace

std::string_view name(CachedKind kind) { return row(kind).name; }

Hash128 kernel_cache_key(std::string_view kernel_key, std::string_view fingerprint) {
  return hash128(kernel_key, hash128(fingerprint, hash128(KONTOR_VERSION)));
}

KernelCache::Options KernelCache::options_from_environment() {
  if (env_flag(Env::NoCache)) return {};
  if (std::string chosen = env_text(Env::CacheDir); !chosen.empty()) return {std::move(chosen)};
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return {std::string(cache) + "/kontor"};
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return {std::string(home) + "/.cache/kontor"};
  }
  return {};
}

KernelCache::KernelCache(Options options) : options_(std::move(options)), disk_(!options_.folder.empty()) {}

void KernelCache::give_up_disk(const std::string& reason) {
  if (disk_) warnings_.push_back(fmt::format("kernel cache: {}; kernels are kept in memory only", reason));
  disk_ = false;
}

void KernelCache::warn_of_file(const std::string& reason) {
  if (!std::exchange(warned_of_file_, true))
    warnings_.push_back(fmt::format("kernel cache: {}; such files are not used", reason));
}

std::optional<PrivateFolder> KernelCache::folder_if_trusted(PrivateFolder::IfMissing missing) {
  if (!disk_) return {};
  try {
    return PrivateFolder::open(options_.folder, missing);
  } catch (const Error& error) {
    give_up_disk(error.what());
    return {};
  }
}

std::optional<CachedKernel> KernelCache::read(CachedKind kind, Hash128 key) {
  const std::optional<PrivateFolder> folder = folder_if_trusted(PrivateFolder::IfMissing::Leave);
  if (!folder) return {};
  std::optional<CachedKernel> kernel;
  try {
    const std::optional<std::string> file = folder->read(file_of(kind, key), kLargestFile, kRefreshSeconds);
    if (!file) return {};
    kernel = decode(kind, *file, key);
  } catch (const Error& error) {
    warn_of_file(error.what());
  }
  if (!kernel) {
    ++stats_.rejected;
    inspect::note(fmt::format("the {} {} in the cache is damaged or of another version; it is made anew",
                              row(kind).name, key.hex()));
  }
  return kernel;
}

std::shared_ptr<const CachedKernel> KernelCache::get(Hash128 key) {
  const std::lock_guard lock(mutex_);
  if (const auto* found = memory_.find(key)) {
    ++stats_.memory_hits;
    return *found;
  }
  std::optional<CachedKernel> found = read(CachedKind::Kernel, key);
  ++(found ? stats_.disk_hits : stats_.misses);
  if (!found) return nullptr;
  return memory_.put(key, std::make_shared<const CachedKernel>(std::move(*found)));
}

void KernelCache::put(Hash128 key, CachedKernel kernel) {
  const std::lock_guard lock(mutex_);
  const auto shared = std::make_shared<const CachedKernel>(std::move(kernel));
  memory_.put(key, shared);
  if (disk_) write(CachedKind::Kernel, key, *shared);
}

std::optional<std::string> KernelCache::schedule(Hash128 key) {
  const std::lock_guard lock(mutex_);
  std::optional<CachedKernel> found = read(CachedKind::Schedule, key);
  return found ? std::optional(std::move(found->binary)) : std::nullopt;
}

void KernelCache::put_schedule(Hash128 key, std::string name, std::string text) {
  const std::lock_guard lock(mutex_);
  if (disk_) write(CachedKind::Schedule, key, {std::move(name), 0, std::move(text)});
}

void KernelCache::write(CachedKind kind, Hash128 key, const CachedKernel& kernel) {
  Header header{};
  std::memcpy(header.magic, row(kind).magic, sizeof header.magic);
  header.version = kVersion;
  header.name_bytes = static_cast<uint32_t>(kernel.name.size());
  header.binary_bytes = kernel.binary.size();
  header.scratch_bytes = kernel.scratch_bytes;
  header.key = key;
  header.checksum = checksum_of(header, kernel.name, kernel.binary);
  const std::string_view parts[] = {
      {reinterpret_cast<const char*>(&header), sizeof header}, kernel.name, kernel.binary};
  const auto bytes = static_cast<int64_t>(sizeof header + kernel.name.size() + kernel.binary.size());
  if (bytes > std::min(options_.limit_bytes, static_cast<int64_t>(kLargestFile))) return;
  const std::optional<PrivateFolder> folder = folder_if_trusted(PrivateFolder::IfMissing::Make);
  if (!folder) return;
  try {
    const Total total(*folder, patience_);
    if (!total.locked()) patience_ = 1;
    if (!total.locked()) return;
    total.write(with_room(*folder, total.read(), bytes) + bytes);
    folder->write(file_of(kind, key), parts);
    ++stats_.written;
  } catch (const Error& error) {
    give_up_disk(error.what());
  }
}

// What is used, after so much was removed that `bytes` more stay below the limit. Looks at the folder only where the number
// is at the limit, or not known; it may be too large, since files are replaced and removed. Then the oldest go, down to three
// quarters.
int64_t KernelCache::with_room(const PrivateFolder& folder, int64_t used, int64_t bytes) const {
  const int64_t most = options_.limit_bytes - bytes;
  if (used >= 0 && used <= most) return used;
  const std::vector<PrivateFolder::File> files = scan(folder);
  used = 0;
  for (const auto& file : files) used += file.bytes;
  const int64_t aim = used > most ? options_.limit_bytes / 4 * 3 - bytes : used;
  for (size_t i = files.size(); i-- > 0 && used > aim;) {
    folder.remove(files[i].name);
    used -= files[i].bytes;
  }
  return used;
}

KernelCache::Stats KernelCache::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::vector<KernelCache::Entry> KernelCache::list() {
  const std::lock_guard lock(mutex_);
  const std::optional<PrivateFolder> folder = folder_if_trusted(PrivateFolder::IfMissing::Leave);
  if (!folder) return {};
  std::vector<Entry> entries;
  for (const auto& file : scan(*folder)) {
    const CachedKind kind = *kind_of(file.name);
    entries.push_back(
        {kind, file.name.substr(0, kKeyDigits), name_in(*folder, kind, file.name), file.bytes, file.written});
  }
  return entries;
}

int64_t KernelCache::clear() {
  const std::lock_guard lock(mutex_);
  memory_.clear();
  const std::optional<PrivateFolder> folder = folder_if_trusted(PrivateFolder::IfMissing::Leave);
  if (!folder) return 0;
  int64_t removed = 0;
  for (const auto& file : scan(*folder)) removed += folder->remove(file.name);
  const Total total(*folder, patience_);
  if (total.locked()) total.write(-1);
  return removed;
}

std::vector<std::string> KernelCache::take_warnings() {
  const std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

}  // namespace kontor
