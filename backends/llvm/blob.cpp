// Blobs: header, checks, and the memory in which they run.
#include "backends/llvm/blob.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/hash.h"

namespace kontor {
namespace {

constexpr size_t kAlign = 64, kChunkBytes = 1 << 20;
constexpr uint32_t kVersion = 1;
constexpr char kMagic[8] = {'K', 'N', 'T', 'R', 'B', 'L', 'O', 'B'};

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t entry;  // offset into the code
  uint64_t code_size;
  Hash128 fingerprint;  // of the machine's text
  Hash128 checksum;     // of the header without this field and the code
  uint64_t reserved;
};
static_assert(sizeof(Header) == kAlign);

Hash128 checksum_of(Header header, std::string_view code) {
  header.checksum = {};
  return hash128(code, hash128({reinterpret_cast<const char*>(&header), sizeof header}));
}

Header checked_header(std::string_view blob, std::string_view fingerprint) {
  Header header;
  if (blob.size() < sizeof header) fail("llvm: a kernel's binary of {} bytes is cut short", blob.size());
  std::memcpy(&header, blob.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) fail("llvm: not a kernel's binary");
  if (header.version != kVersion)
    fail("llvm: a binary of format {}, this Kontor reads {}", header.version, kVersion);
  if (header.fingerprint != hash128(fingerprint))
    fail("llvm: a binary of another machine; this one is {}", fingerprint);
  const std::string_view code = blob.substr(sizeof header);
  if (header.code_size != code.size() || header.entry >= code.size() ||
      header.checksum != checksum_of(header, code)) {
    fail("llvm: a kernel's binary is damaged (its checksum differs)");
  }
  return header;
}

size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

}  // namespace

std::string make_blob(const FlatCode& code, std::string_view fingerprint) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.entry = static_cast<uint32_t>(code.entry);
  header.code_size = code.bytes.size();
  header.fingerprint = hash128(fingerprint);
  header.checksum = checksum_of(header, code.bytes);
  std::string blob(sizeof header, '\0');
  std::memcpy(blob.data(), &header, sizeof header);
  return blob + code.bytes;
}

namespace {

/// One mapping: pieces of code and, between them, free spans.
class CodeChunk {
 public:
  CodeChunk(size_t size, bool shared) : size_(round_up(size, static_cast<size_t>(::sysconf(_SC_PAGESIZE)))) {
    if (!(shared && map_twice())) map_once();
    free_.emplace(0, size_);
  }
  CodeChunk(const CodeChunk&) = delete;
  CodeChunk& operator=(const CodeChunk&) = delete;
  ~CodeChunk() {
    if (write_ != nullptr && write_ != run_) ::munmap(write_, size_);
    if (run_ != nullptr) ::munmap(run_, size_);
  }

  size_t size() const { return size_; }
  bool mapped_twice() const { return write_ != run_; }
  bool unused() const { return free_.size() == 1 && free_.begin()->second == size_; }

  /// A copy of the code where it runs; null if no free span has room for it.
  const char* add(std::string_view code) {
    const size_t size = round_up(code.size(), kAlign);
    const auto span = std::find_if(free_.begin(), free_.end(), [&](auto& s) { return s.second >= size; });
    if (write_ == nullptr || span == free_.end()) return nullptr;
    const auto [offset, room] = *span;
    free_.erase(span);
    if (room > size) free_.emplace(offset + size, room - size);
    std::memcpy(write_ + offset, code.data(), code.size());
    if (write_ == run_) close();
    __builtin___clear_cache(run_ + offset, run_ + offset + size);
    return run_ + offset;
  }

  /// The span of a code that was added becomes free, and one with those beside it.
  void give_back(const char* at, size_t code_size) {
    auto offset = static_cast<size_t>(at - run_);
    size_t size = round_up(code_size, kAlign);
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + size) size += next->second, next = free_.erase(next);
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == offset) {
        before->second += size;
        return;
      }
    }
    free_.emplace(offset, size);
  }

 private:
  bool map_twice() {
    const int file = ::memfd_create("kontor-code", MFD_CLOEXEC);
    if (file < 0) return false;
    if (::ftruncate(file, static_cast<off_t>(size_)) == 0) {
      void* write = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      void* run = ::mmap(nullptr, size_, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
      if (write != MAP_FAILED) write_ = static_cast<char*>(write);
      if (run != MAP_FAILED) run_ = static_cast<char*>(run);
    }
    ::close(file);
    if (write_ != nullptr && run_ != nullptr) return true;
    if (write_ != nullptr) ::munmap(write_, size_);
    if (run_ != nullptr) ::munmap(run_, size_);
    write_ = run_ = nullptr;
    return false;
  }

  void map_once() {
    void* both = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (both == MAP_FAILED) fail("llvm: no memory for {} bytes of code: {}", size_, std::strerror(errno));
    write_ = run_ = static_cast<char*>(both);
  }

  void close() {
    write_ = nullptr;
    if (::mprotect(run_, size_, PROT_READ | PROT_EXEC) != 0) {
      fail("llvm: the system refuses executable memory: {}", std::strerror(errno));
    }
  }

  size_t size_;
  char* write_ = nullptr;  // null: nothing more can be added
  char* run_ = nullptr;
  std::map<size_t, size_t> free_;  // sizes by offset, none beside another
};

}  // namespace

struct CodeArena::State {
  bool shared;
  std::mutex mutex = {};
  std::vector<std::unique_ptr<CodeChunk>> chunks = {};

  std::pair<CodeChunk*, const char*> add(std::string_view code) {
    const std::lock_guard lock(mutex);
    for (const auto& chunk : chunks)
      if (const char* at = chunk->add(code)) return {chunk.get(), at};
    const size_t size = shared && code.size() < kChunkBytes ? kChunkBytes : code.size();
    CodeChunk* chunk = chunks.emplace_back(std::make_unique<CodeChunk>(size, shared)).get();
    shared = shared && chunk->mapped_twice();
    return {chunk, chunk->add(code)};
  }

  void give_back(CodeChunk* chunk, const char* at, size_t size) {
    const std::lock_guard lock(mutex);
    chunk->give_back(at, size);
    if (chunk->unused()) std::erase_if(chunks, [&](auto& c) { return c.get() == chunk; });
  }
};

CodeArena::CodeArena(bool shared_mapping) : state_(new State{.shared = shared_mapping}) {}
CodeArena::~CodeArena() = default;

size_t CodeArena::mapped_bytes() const {
  const std::lock_guard lock(state_->mutex);
  size_t bytes = 0;
  for (const auto& chunk : state_->chunks) bytes += chunk->size();
  return bytes;
}

LoadedCode CodeArena::load(std::string_view blob, std::string_view fingerprint) {
  const Header header = checked_header(blob, fingerprint);
  const std::string_view code = blob.substr(sizeof header);
  const auto [chunk, at] = state_->add(code);
  const auto give_back = [state = state_, chunk = chunk, size = code.size()](const char* mine) {
    state->give_back(chunk, mine, size);
  };
  return {std::shared_ptr<const char>(at, give_back), at + header.entry};
}

}  // namespace kontor
