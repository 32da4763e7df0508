// ContextState: what a Context owns, for the runtime's own files.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <kontor/jit.h>

#include "base/lru.h"
#include "base/process.h"
#include "graph/recording.h"
#include "graph/transforms/passes.h"
#include "runtime/compiled.h"
#include "runtime/storage.h"
#include "runtime/thread_pool.h"

namespace kontor {

struct GraphKeyHash {
  size_t operator()(const std::vector<uint64_t>& key) const;
};

/// Says so where the thread that holds it asks for it again: that is a pass, which runs while a graph is scheduled.
class ContextMutex {
 public:
  void lock();
  void unlock();

 private:
  std::mutex mutex_;
  std::atomic<std::thread::id> holder_{};
};

struct v0::ContextState final : RandomSource {
  explicit ContextState(const ContextOptions& options);

  /// Held round everything that touches the device, the caches, Storages and Versions.
  ContextMutex mutex;
  const int64_t id = fresh_id();
  const uint32_t generation = process_generation();  ///< another one in a child that was forked later
  ThreadPool pool;
  ParallelFor parallel;
  std::shared_ptr<Device> device;
  KernelStore kernels;
  std::vector<GraphPass> passes;  ///< the program's own; the list only grows
  /// Those used last, by graph_key(); how much they may take in memory is estimated.
  static constexpr size_t most_bytes_of_schedules = 64 << 20;
  Lru<std::vector<uint64_t>, std::shared_ptr<CompiledSchedule>, GraphKeyHash> schedules{
      most_bytes_of_schedules};

  /// Values computed already, by the node that was recorded for them. The node is not held: an entry counts only if
  /// the hash is still that of the node found at the address, which then is the same expression.
  struct Realized {
    uint64_t hash;
    std::weak_ptr<Version> version;
  };
  std::unordered_map<const Node*, Realized> realized;
  size_t realized_limit = 64;  ///< entries after which those of dead values are dropped

  std::string failure;  ///< what a check said, until the next synchronise
  Counters counters;    ///< without those that KernelStore and Device count

  // Random numbers; random_mutex guards the counter.
  std::shared_ptr<ScalarState> seed;
  std::mutex random_mutex;
  uint64_t random_counter = 0;
  Ref key() override;
  Ref counter(const Ref& blocks) override;
  /// Takes `blocks` blocks; returns where they begin.
  uint64_t draw(uint64_t blocks);
};

/// A u64 Scalar of the engine.
std::shared_ptr<ScalarState> engine_scalar(uint64_t value);
/// Value of an expression over Variables, at their present values.
int64_t evaluate_variables(const Ref& expression);

/// The finished schedule of a graph: found by its key, or made. Needs the lock.
std::shared_ptr<CompiledSchedule> compiled_for(ContextState& context, const Graph& graph);
/// Throws what a check said since the last call. Needs the lock.
void throw_failure(ContextState& context);

}  // namespace kontor
