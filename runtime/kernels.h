// Kernels: loop trees become programs, each once: found in memory, else on disk, else rendered and compiled.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "base/lru.h"
#include "codegen/schedule.h"
#include "runtime/cache.h"
#include "runtime/device.h"
#include "runtime/kernel_form.h"

namespace kontor {

/// A kernel that can be launched. Schedules that contain the same tree share it.
struct Kernel {
  Hash128 key;
  std::string name;  ///< entry function: the tree's name and eight digits of its key
  std::shared_ptr<Device>
      device;  ///< outlives the program, which a jit function may keep longer than its Context
  std::unique_ptr<Program> program;
};

/// A kernel for one tree: a program that trees of the same form may share, and what its slots are for this one.
struct BoundKernel {
  std::shared_ptr<Kernel> kernel;
  std::vector<SlotSource> slots;
};

/// What making kernels took so far.
struct KernelFigures {
  uint64_t compiles = 0, loads = 0, shared = 0;  ///< compiled; loaded from the cache; found in memory
  uint64_t render_ns = 0, compile_ns = 0, load_ns = 0;
};

/// A tree as words that are equal exactly for trees that mean the same: the names of kernel, ranges and places, and their
/// ids, don't count.
std::string tree_key(const Ref& kernel);

/// The source text of a tree, which is verified first, for a device of this kind.
KernelSource render_for(const BackendKind& kind, const Ref& tree, const std::string& entry,
                        const Target& target);

/// The kernels of one device, those used last. Used under the context's lock.
class KernelStore {
 public:
  static constexpr size_t most_kernels = 8192;

  explicit KernelStore(Device& device);
  /// A kernel for each tree; those that are missing are compiled together. Throws Error with the compiler's log.
  /// A tree whose form was compiled before with other constants gets a program that reads these from slots: then
  /// `x * 0.1`, `x * 0.2` .. and `x[1]`, `x[2]` .. are two compiles, however many there are.
  std::vector<BoundKernel> get(std::span<const ScheduledKernel> wanted, const ParallelFor& parallel);
  /// The kernels of these keys, from memory or disk; none if one is missing or none is asked for.
  std::vector<std::shared_ptr<Kernel>> find(std::span<const Hash128> keys);

  /// Whether schedules are kept on disk: for a device whose kernels are, where nothing is to be seen of their making.
  bool keeps_schedules() const;
  /// Of a graph as schedule() gets it, for this device and what it is told.
  Hash128 key_of_schedule(const Graph& graph) const;
  std::optional<std::string> kept_schedule(const Hash128& key) { return cache_.schedule(key); }
  void keep_schedule(const Hash128& key, size_t launches, std::string text);

  const KernelFigures& figures() const { return figures_; }
  size_t size() const { return kernels_.size(); }
  void set_limit(size_t kernels);
  std::vector<std::string> take_warnings() { return cache_.take_warnings(); }

 private:
  struct Missing {
    size_t index;
    Hash128 key;
    KernelSource source;
    bool overridden = false;
  };
  // A form that was compiled: with which constants, and which of them have been seen to differ.
  struct Form {
    std::vector<int64_t> first;
    std::vector<bool> lifted;
    bool as_it_is = true;  // there is a program with the first constants in it
  };
  struct Tree {  // what is to be compiled, and its slots
    Ref tree;
    std::vector<SlotSource> slots;
  };
  std::vector<Tree> trees_of(std::span<const ScheduledKernel> wanted);
  void lift(std::span<const KernelForm> forms, std::span<const size_t> alike,
            std::vector<std::vector<bool>>& lifted);
  Hash128 key_of(const Ref& tree) const;
  bool load_cached(const Hash128& key, Kernel& kernel);
  void compile(std::vector<Missing>& missing, std::span<const BoundKernel> kernels,
               const ParallelFor& parallel);
  void keep(const std::unordered_map<Hash128, std::shared_ptr<Kernel>, HashOfHash>& made);

  Device& device_;
  std::string fingerprint_;
  KernelCache cache_;
  Lru<Hash128, std::shared_ptr<Kernel>, HashOfHash> kernels_{most_kernels};
  Lru<Hash128, Form, HashOfHash> forms_{most_kernels};
  KernelFigures figures_;
  size_t schedules_kept_ = 0;
};

}  // namespace kontor
