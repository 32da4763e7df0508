// The kernel cache. A file: header, name, binary; the header's checksum covers key, sizes, name and binary.
#include "runtime/cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

#include "base/env.h"
#include "base/error.h"
#include "base/file.h"

namespace kontor::inline v0 {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'K', 'N', 'T', 'R', 'K', 'R', 'N', 'L'};
constexpr uint32_t kVersion = 1;
constexpr std::string_view kEnding = ".kernel";
constexpr int64_t kRefreshSeconds = 3600;  // a file's time of use is renewed no more often

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

std::optional<CachedKernel> decode(std::string_view file, Hash128 key) {
  Header header;
  if (file.size() < sizeof header) return {};
  std::memcpy(&header, file.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version != kVersion ||
      header.key != key)
    return {};
  const std::string_view rest = file.substr(sizeof header);
  if (header.name_bytes > rest.size() || header.binary_bytes != rest.size() - header.name_bytes) return {};
  const std::string_view name = rest.substr(0, header.name_bytes), binary = rest.substr(header.name_bytes);
  if (header.checksum != checksum_of(header, name, binary)) return {};
  return CachedKernel{std::string(name), header.scratch_bytes, std::string(binary)};
}

// The whole file, or nothing where there is none. Also marks it as used.
std::optional<std::string> read_used(const std::string& path, int& error) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    error = errno;
    return {};
  }
  struct stat status{};
  std::optional<std::string> bytes;
  if (::fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
    bytes.emplace(static_cast<size_t>(status.st_size), '\0');
    const ssize_t got = ::read(file, bytes->data(), bytes->size());
    bytes->resize(got > 0 ? static_cast<size_t>(got) : 0);
    if (status.st_mtime + kRefreshSeconds < std::time(nullptr)) ::futimens(file, nullptr);
  }
  ::close(file);
  return bytes;
}

std::string name_in(const fs::path& path) {
  Header header;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";
  std::string name;
  if (::read(file, &header, sizeof header) == sizeof header &&
      std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 && header.version == kVersion &&
      header.name_bytes < 4096) {
    name.resize(header.name_bytes);
    if (::read(file, name.data(), name.size()) != static_cast<ssize_t>(name.size())) name.clear();
  }
  ::close(file);
  return name;
}

// A file of the cache, or what a writer that died left behind; not what another process is writing just now.
bool is_ours(const std::string& file, int64_t written) {
  if (file.find(kEnding) != 32) return false;
  return file.size() == 32 + kEnding.size() || written + kRefreshSeconds < std::time(nullptr);
}

// Sizes and times of the cache's files.
std::vector<KernelCache::Entry> scan(const std::string& folder) {
  std::vector<KernelCache::Entry> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    struct stat status{};
    const std::string file = it->path().filename().string();
    if (::stat(it->path().c_str(), &status) != 0 || !is_ours(file, status.st_mtime)) continue;
    entries.push_back({file, "", status.st_size, status.st_mtime});
  }
  std::sort(entries.begin(), entries.end(), [](auto& a, auto& b) { return a.used > b.used; });
  return entries;
}

}  // namespace

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

KernelCache::KernelCache(Options options)
    : options_(std::move(options)), writable_(!options_.folder.empty()) {}

std::string KernelCache::path_of(Hash128 key) const {
  return fmt::format("{}/{}{}", options_.folder, key.hex(), kEnding);
}

void KernelCache::give_up_disk(const std::string& reason) {
  if (writable_)
    warnings_.push_back(fmt::format("kernel cache: {}; kernels are kept in memory only", reason));
  writable_ = false;
}

std::shared_ptr<const CachedKernel> KernelCache::read(Hash128 key) {
  if (options_.folder.empty()) return nullptr;
  int error = 0;
  const std::optional<std::string> file = read_used(path_of(key), error);
  if (!file) {
    if (error != 0 && error != ENOENT)
      give_up_disk(fmt::format("{}: {}", path_of(key), std::strerror(error)));
    return nullptr;
  }
  std::optional<CachedKernel> kernel = decode(*file, key);
  if (!kernel) ++stats_.rejected;
  return kernel ? std::make_shared<const CachedKernel>(std::move(*kernel)) : nullptr;
}

std::shared_ptr<const CachedKernel> KernelCache::get(Hash128 key) {
  const std::lock_guard lock(mutex_);
  if (const auto* found = memory_.find(key)) {
    ++stats_.memory_hits;
    return *found;
  }
  std::shared_ptr<const CachedKernel> kernel = read(key);
  ++(kernel ? stats_.disk_hits : stats_.misses);
  if (kernel) memory_.put(key, kernel);
  return kernel;
}

void KernelCache::put(Hash128 key, CachedKernel kernel) {
  const std::lock_guard lock(mutex_);
  const auto shared = std::make_shared<const CachedKernel>(std::move(kernel));
  memory_.put(key, shared);
  if (writable_) write(key, *shared);
}

void KernelCache::write(Hash128 key, const CachedKernel& kernel) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.name_bytes = static_cast<uint32_t>(kernel.name.size());
  header.binary_bytes = kernel.binary.size();
  header.scratch_bytes = kernel.scratch_bytes;
  header.key = key;
  header.checksum = checksum_of(header, kernel.name, kernel.binary);
  const std::string_view parts[] = {
      {reinterpret_cast<const char*>(&header), sizeof header}, kernel.name, kernel.binary};
  try {
    make_folders(options_.folder);
    evict();
    write_file(path_of(key), parts);
    ++stats_.written;
    until_eviction_ -= static_cast<int64_t>(sizeof header + kernel.name.size() + kernel.binary.size());
  } catch (const Error& error) {
    give_up_disk(error.what());
  }
}

// Looks at the folder only after a sixteenth of the limit was written; removes the oldest down to three quarters of it.
void KernelCache::evict() {
  if (until_eviction_ > 0) return;
  int64_t total = 0;
  for (const Entry& entry : scan(options_.folder)) {
    total += entry.bytes;
    if (total <= options_.limit_bytes / 4 * 3) continue;
    std::error_code ignored;  // another process may have been quicker
    fs::remove(options_.folder + "/" + entry.key, ignored);
  }
  until_eviction_ = options_.limit_bytes / 16;
}

KernelCache::Stats KernelCache::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::vector<KernelCache::Entry> KernelCache::list() const {
  if (options_.folder.empty()) return {};
  std::vector<Entry> entries = scan(options_.folder);
  for (Entry& entry : entries) {
    entry.kernel = name_in(options_.folder + "/" + entry.key);
    entry.key.resize(32);
  }
  return entries;
}

int64_t KernelCache::clear() {
  const std::lock_guard lock(mutex_);
  memory_.clear();
  if (options_.folder.empty()) return 0;
  int64_t removed = 0;
  for (const Entry& entry : scan(options_.folder)) {
    std::error_code error;
    removed += fs::remove(options_.folder + "/" + entry.key, error);
    if (error) fail("kernel cache: cannot remove {}/{}: {}", options_.folder, entry.key, error.message());
  }
  return removed;
}

std::vector<std::string> KernelCache::take_warnings() {
  const std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

}  // namespace kontor::inline v0
