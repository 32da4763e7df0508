// Blobs: header, checks, and the memory in which they run.
#include "backends/llvm/blob.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/error.h"
#include "base/hash.h"

namespace kontor::inline v0 {
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

class CodeChunk {
 public:
  CodeChunk(size_t size, bool shared) : size_(round_up(size, static_cast<size_t>(::sysconf(_SC_PAGESIZE)))) {
    if (!(shared && map_twice())) map_once();
  }
  CodeChunk(const CodeChunk&) = delete;
  CodeChunk& operator=(const CodeChunk&) = delete;
  ~CodeChunk() {
    if (write_ != nullptr && write_ != run_) ::munmap(write_, size_);
    if (run_ != nullptr) ::munmap(run_, size_);
  }

  bool has_room(size_t size) const { return write_ != nullptr && size <= size_ - used_; }

  const char* add(std::string_view code) {
    std::memcpy(write_ + used_, code.data(), code.size());
    const char* address = run_ + used_;
    used_ = round_up(used_ + code.size(), kAlign);
    if (write_ == run_) close();
    return address;
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

  size_t size_, used_ = 0;
  char* write_ = nullptr;  // null: nothing more can be added
  char* run_ = nullptr;
};

struct CodeArena::State {
  bool shared;
  std::mutex mutex;
  std::shared_ptr<CodeChunk> current;
};

CodeArena::CodeArena(bool shared_mapping) : state_(new State{shared_mapping, {}, nullptr}) {}
CodeArena::~CodeArena() = default;

LoadedCode CodeArena::load(std::string_view blob, std::string_view fingerprint) {
  const Header header = checked_header(blob, fingerprint);
  const std::string_view code = blob.substr(sizeof header);
  const std::lock_guard lock(state_->mutex);
  std::shared_ptr<CodeChunk>& chunk = state_->current;
  if (!chunk || !chunk->has_room(code.size())) {
    const size_t size = state_->shared && code.size() < kChunkBytes ? kChunkBytes : code.size();
    chunk = std::make_shared<CodeChunk>(size, state_->shared);
  }
  return {chunk, chunk->add(code) + header.entry};
}

}  // namespace kontor::inline v0
