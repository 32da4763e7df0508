// Device: an open back end and the memory that the runtime recycles on it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <kontor/jit.h>

#include "backends/backend.h"

namespace kontor {

class Device;

/// A block of a device's memory. When its last holder lets go it returns to the device's free list, from any thread.
class Memory {
 public:
  Memory(std::shared_ptr<Device> device, void* data, size_t bytes, size_t capacity);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device& device() const { return *device_; }
  /// The whole of it from and to the host's memory. Any thread may, if no kernel writes it.
  void copy_in(const void* host);
  void copy_out(void* host) const;

 private:
  std::shared_ptr<Device> device_;
  void* data_;
  size_t bytes_, capacity_;
};

/// Bytes that a device holds for tensors: in use, the most that ever were in use, and kept for reuse.
struct MemoryFigures {
  size_t live = 0, peak = 0, idle = 0;
};

/// The target with the memory budget and the numerics that a program asks for, or the environment, or that are usual. Throws Error
/// where a budget is negative or numerics are unknown.
Target with_options(Target target, const ContextOptions& options = {});

/// A Backend is used by one thread at a time: whoever uses it beyond the members of this class and Memory holds use(). Those of one
/// Context come one at a time by its lock, but values of another Context's device are read and copied too.
class Device : public std::enable_shared_from_this<Device> {
 public:
  explicit Device(std::unique_ptr<Backend> backend, const ContextOptions& options = {});
  ~Device();

  Backend& backend() { return *backend_; }
  std::unique_lock<std::mutex> use() { return std::unique_lock(use_); }
  std::string_view name() const { return backend_->name(); }
  const Target& target() const { return target_; }

  /// Memory whose content is undefined. Throws Error naming the size and what is in use when there is none.
  std::shared_ptr<Memory> allocate(size_t bytes);
  /// Whether kernels of this device can read and write memory of that one as it is.
  bool shares_memory_with(const Device& other) const;
  /// Fresh memory with the content of memory on any device.
  std::shared_ptr<Memory> copy_of(const Memory& from);
  /// Needs use(). The one block in which all schedules keep their temporaries, one schedule at a time; it grows and may move.
  void* arena(size_t bytes);
  MemoryFigures figures() const;

 private:
  friend class Memory;
  void give_back(void* data, size_t capacity) noexcept;
  void* take_idle(size_t capacity, size_t& found);
  void trim(size_t keep);
  void* fresh(size_t capacity);
  void count_live(size_t bytes);

  std::unique_ptr<Backend> backend_;
  std::mutex use_;
  Target target_;
  mutable std::mutex mutex_;                   // guards what follows, against Memory's destructor
  std::map<size_t, std::vector<void*>> idle_;  // by capacity
  MemoryFigures figures_;
  void* arena_ = nullptr;
  size_t arena_bytes_ = 0;
};

}  // namespace kontor
