// Memory of the host for buffers: 64-byte aligned, large blocks in huge pages, and kept for reuse after a release, so that
// a replay does not pay for page faults.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

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

}  // namespace kontor
