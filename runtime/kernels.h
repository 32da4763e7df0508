// Kernels: loop trees become programs, each once: found in memory, else on disk, else rendered and compiled.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "codegen/schedule.h"
#include "runtime/cache.h"
#include "runtime/device.h"

namespace kontor::inline v0 {

/// A kernel that can be launched. Schedules that contain the same tree share it.
struct Kernel {
  std::string name;  ///< entry function: the tree's name and eight digits of its key
  std::shared_ptr<Device>
      device;  ///< outlives the program, which a jit function may keep longer than its Context
  std::unique_ptr<Program> program;
};

/// What making kernels took so far.
struct KernelFigures {
  uint64_t compiles = 0, loads = 0, shared = 0;  ///< compiled; loaded from the cache; found in memory
  uint64_t render_ns = 0, compile_ns = 0, load_ns = 0;
};

/// A tree as words that are equal exactly for trees that mean the same: the names of kernel, ranges and places, and their
/// ids, don't count.
std::string tree_key(const Ref& kernel);

/// The source text of a tree for a device ("llvm", "opencl", "cuda", "interp").
KernelSource render_for(std::string_view device, const Ref& tree, const std::string& entry,
                        const Limits& limits);

/// The kernels of one device. Used under the context's lock.
class KernelStore {
 public:
  explicit KernelStore(Device& device);
  /// A kernel for each tree; those that are missing are compiled together. Throws Error with the compiler's log.
  std::vector<std::shared_ptr<Kernel>> get(std::span<const ScheduledKernel> wanted,
                                           const ParallelFor& parallel);
  const KernelFigures& figures() const { return figures_; }
  std::vector<std::string> take_warnings() { return cache_.take_warnings(); }

 private:
  struct Missing {
    size_t index;
    Hash128 key;
    KernelSource source;
    bool overridden = false;
  };
  Hash128 key_of(const Ref& tree) const;
  bool load_cached(const Hash128& key, Kernel& kernel);
  void compile(std::vector<Missing>& missing, std::span<const std::shared_ptr<Kernel>> kernels,
               const ParallelFor& parallel);

  Device& device_;
  std::string fingerprint_;
  KernelCache cache_;
  std::unordered_map<Hash128, std::shared_ptr<Kernel>, HashOfHash> kernels_;
  KernelFigures figures_;
};

}  // namespace kontor::inline v0
