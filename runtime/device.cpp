// Recycling of device memory: freed blocks are kept by size and found again by best fit.
#include "runtime/device.h"

#include <bit>

#include "base/env.h"
#include "base/error.h"

namespace kontor {
namespace {

constexpr size_t kAlignment = 64, kPage = 4096;
constexpr size_t kIdleFloor = size_t{64} << 20;  // so many idle bytes are kept however little is in use
constexpr int64_t kMemoryBudget = int64_t{32}
                                  << 20;  // of temporaries, where none is asked for: about what a cache holds

// Up to an eighth more than asked, so that tensors of nearly one size share blocks.
size_t capacity_for(size_t bytes) {
  if (bytes <= kPage) return std::max<size_t>((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
  const size_t step = std::max(std::bit_floor(bytes) / 8, kAlignment);
  return (bytes + step - 1) / step * step;
}

}  // namespace

Memory::Memory(std::shared_ptr<Device> device, void* data, size_t bytes, size_t capacity)
    : device_(std::move(device)), data_(data), bytes_(bytes), capacity_(capacity) {}

void Memory::copy_in(const void* host) {
  const auto use = device_->use();
  device_->backend().copy_in(data_, host, bytes_);
}

void Memory::copy_out(void* host) const {
  const auto use = device_->use();
  device_->backend().copy_out(host, data_, bytes_);
}

Memory::~Memory() { device_->give_back(data_, capacity_); }

Target with_options(Target target, const ContextOptions& options) {
  const std::string numerics = options.numerics.empty() ? env_text(Env::Numerics) : options.numerics;
  if (numerics != "" && numerics != "strict" && numerics != "fast")
    fail("numerics '{}': strict and fast are known", numerics);
  target.fast = numerics == "fast";
  const int64_t asked = options.memory_budget ? options.memory_budget : env_int(Env::MemoryBudget);
  if (asked < 0) fail("a memory budget of {} bytes", asked);
  target.budget_is_asked = asked > 0;
  if (asked > 0) target.memory_budget = asked;
  else if (target.memory_budget == 0) target.memory_budget = kMemoryBudget;
  return target;
}

Device::Device(std::unique_ptr<Backend> backend, const ContextOptions& options)
    : backend_(std::move(backend)), target_(with_options(backend_->target(), options)) {}

Device::~Device() {
  trim(0);
  if (arena_ != nullptr) backend_->release(arena_);
}

bool Device::shares_memory_with(const Device& other) const {
  return this == &other || (backend_->host_visible() && other.backend_->host_visible());
}

std::shared_ptr<Memory> Device::copy_of(const Memory& from) {
  std::shared_ptr<Memory> copy = allocate(from.bytes());
  if (from.device().backend_->host_visible()) {
    copy->copy_in(from.data());
  } else {
    std::vector<char> host(from.bytes());
    from.copy_out(host.data());
    copy->copy_in(host.data());
  }
  return copy;
}

std::shared_ptr<Memory> Device::allocate(size_t bytes) {
  const size_t wanted = capacity_for(bytes);
  size_t capacity = wanted;
  void* data = take_idle(wanted, capacity);
  if (data == nullptr) {
    const auto using_it = use();
    data = fresh(wanted);
  }
  std::shared_ptr<Memory> memory;
  try {
    memory = std::make_shared<Memory>(shared_from_this(), data, bytes, capacity);
  } catch (...) {
    backend_->release(data);
    throw;
  }
  count_live(capacity);
  return memory;
}

void* Device::arena(size_t bytes) {
  if (bytes <= arena_bytes_) return arena_;
  if (arena_ != nullptr) {
    backend_->synchronise();  // launches may still use the old one
    backend_->release(arena_);
    std::lock_guard lock(mutex_);
    figures_.live -= arena_bytes_;
    arena_ = nullptr;
    arena_bytes_ = 0;
  }
  const size_t capacity = capacity_for(bytes);
  arena_ = fresh(capacity);
  arena_bytes_ = capacity;
  count_live(capacity);
  return arena_;
}

MemoryFigures Device::figures() const {
  std::lock_guard lock(mutex_);
  return figures_;
}

void Device::count_live(size_t bytes) {
  std::lock_guard lock(mutex_);
  figures_.live += bytes;
  figures_.peak = std::max(figures_.peak, figures_.live);
}

void Device::give_back(void* data, size_t capacity) noexcept {
  std::lock_guard lock(mutex_);
  figures_.live -= capacity;
  figures_.idle += capacity;
  idle_[capacity].push_back(data);
}

void* Device::take_idle(size_t capacity, size_t& found) {
  std::lock_guard lock(mutex_);
  for (auto it = idle_.lower_bound(capacity); it != idle_.end() && it->first <= capacity + capacity / 4;
       ++it) {
    if (it->second.empty()) continue;
    void* data = it->second.back();
    it->second.pop_back();
    found = it->first;
    figures_.idle -= found;
    return data;
  }
  return nullptr;
}

// Frees the largest idle blocks until at most `keep` bytes are idle.
void Device::trim(size_t keep) {
  std::lock_guard lock(mutex_);
  while (figures_.idle > keep && !idle_.empty()) {
    auto last = std::prev(idle_.end());
    while (!last->second.empty() && figures_.idle > keep) {
      backend_->release(last->second.back());
      last->second.pop_back();
      figures_.idle -= last->first;
    }
    if (last->second.empty()) idle_.erase(last);
  }
}

void* Device::fresh(size_t capacity) {
  const MemoryFigures now = figures();
  const size_t keep = std::max(now.live / 2, kIdleFloor);
  if (now.idle > keep) trim(keep);
  try {
    return backend_->allocate(capacity);
  } catch (const Error&) {
    if (now.idle == 0) throw;
  }
  trim(0);
  try {
    return backend_->allocate(capacity);
  } catch (const Error& error) {
    fail("{} ({} bytes are in use by tensors)", error.what(), now.live);
  }
}

}  // namespace kontor
