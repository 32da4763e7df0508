// A list of free blocks by size above the system's allocator.
#include "backends/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/error.h"

namespace kontor {
namespace {

constexpr size_t kLine = 64, kHuge = size_t{2} << 20;

// Four sizes between powers of two: a released block serves requests of nearly its size, at most a quarter is unused.
size_t size_class(size_t bytes) {
  if (bytes <= 4 * kLine) return std::max(kLine, (bytes + kLine - 1) / kLine * kLine);
  const size_t step = std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) / step * step;
}

// Huge pages for as much of it as fills them: the rest of one more would be cleared and held for nothing.
void* from_system(size_t size) {
  void* memory = nullptr;
  if (::posix_memalign(&memory, size >= kHuge ? kHuge : kLine, size) != 0) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (size >= kHuge) ::madvise(memory, size / kHuge * kHuge, MADV_HUGEPAGE);
#endif
  return memory;
}

size_t physical_bytes() {
  return static_cast<size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

HostMemory::HostMemory() : free_limit_(std::min(size_t{1} << 30, physical_bytes() / 8)) {}

HostMemory::~HostMemory() {
  trim(0);
  for (const auto& [memory, size] : used_) std::free(memory);
}

void* HostMemory::take_free(size_t size) {
  const auto list = free_.find(size);
  if (list == free_.end() || list->second.empty()) return nullptr;
  void* memory = list->second.back();
  list->second.pop_back();
  free_bytes_ -= size;
  return memory;
}

void* HostMemory::allocate(size_t bytes) {
  if (bytes > physical_bytes()) {  // Linux would promise it and kill the process later
    fail("llvm: out of memory: {} bytes asked for, the machine has {}", bytes, physical_bytes());
  }
  const size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  void* memory = take_free(size);
  if (memory == nullptr) memory = from_system(size);
  if (memory == nullptr) {
    trim(0);
    memory = from_system(size);
  }
  if (memory == nullptr) fail("llvm: out of memory: {} bytes asked for", bytes);
  used_.emplace(memory, size);
  return memory;
}

void HostMemory::release(void* memory) {
  if (memory == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto block = used_.find(memory);
  if (block == used_.end()) broken("llvm: release of memory that was not allocated here");
  const size_t size = block->second;
  used_.erase(block);
  if (size > free_limit_) {
    std::free(memory);
    return;
  }
  trim(free_limit_ - size);
  free_[size].push_back(memory);
  free_bytes_ += size;
}

// Gives the largest free blocks back to the system until no more than `limit` bytes are kept.
void HostMemory::trim(size_t limit) {
  for (auto list = free_.rbegin(); list != free_.rend() && free_bytes_ > limit; ++list) {
    while (!list->second.empty() && free_bytes_ > limit) {
      std::free(list->second.back());
      list->second.pop_back();
      free_bytes_ -= list->first;
    }
  }
}

}  // namespace kontor
