// Memory of the host for buffers: 64-byte aligned, large blocks in huge pages, and kept for reuse after a release, so that
// a replay does not pay for page faults.
#pragma once
#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "backends/backend.h"

namespace kontor {

class HostMemory {
 public:
  HostMemory();
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  /// Uninitialised. Throws Error with the size when memory is out.
  void* allocate(size_t bytes);
  void release(void* memory);

 private:
  void* take_free(size_t size);
  void trim(size_t limit);

  std::mutex mutex_;
  std::unordered_map<void*, size_t> used_;     // block -> its size
  std::map<size_t, std::vector<void*>> free_;  // size -> blocks
  size_t free_bytes_ = 0, free_limit_;
};

/// A device whose buffers are the host's memory.
class HostBackend : public Backend {
 public:
  void* allocate(size_t bytes) override { return memory_.allocate(bytes); }
  void release(void* memory) override { memory_.release(memory); }
  void copy_in(void* device, const void* host, size_t bytes) override { copy(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { copy(host, device, bytes); }
  bool host_visible() const override { return true; }

 private:
  static void copy(void* to, const void* from, size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  HostMemory memory_;
};

}  // namespace kontor
