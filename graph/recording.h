// The seam between the recording half of Tensor (graph/) and the half that computes (runtime/).
#pragma once
#include <atomic>
#include <mutex>

#include <kontor/tensor.h>

#include "graph/node.h"

namespace kontor {

class Tracer;

/// Handles through which a jit function read a state: once one of them holds something else, or is gone, the function's
/// program is no more what the function would do.
struct Watch {
  std::mutex mutex;
  std::vector<const Tensor*> handles;
  std::atomic<uint64_t> changes{0};
};

/// What a Tensor holds. Copies of a Tensor share it, so that computing one computes all, until one is assigned to:
/// from then on that one has a state of its own. `node` is what was recorded, or the Buffer leaf that holds its value.
struct v0::TensorState {
  std::mutex mutex;
  Ref node;
  int64_t trace = 0;      ///< id of the Tracer of the thread that made it; 0: none
  bool assigned = false;  ///< belongs to one Tensor alone: one that was assigned to, or a copy of such
  bool original =
      false;  ///< the Tensor that goes on as the Storage of its leaf when it is assigned to, not a copy
  std::atomic<bool> watched{false};
  std::shared_ptr<Watch> watch;  ///< set once, before `watched`
};

/// Watches what a thread records while jit traces a function. Recording::tensor() sets `trace` of the states it makes;
/// Recording::node() calls capture() for a Tensor of another trace (made before), and returns its node as it is then.
class Tracer {
 public:
  virtual ~Tracer() = default;
  virtual void capture(const Tensor& tensor) = 0;
  /// A Tensor was made, or a copy of one from outside.
  virtual void made(const std::shared_ptr<TensorState>& state) = 0;
  /// Whether the state belongs to a Tensor from outside of the function.
  virtual bool is_outside(const TensorState& state) const = 0;
  /// A Tensor from outside was moved from or destroyed.
  virtual void lost() noexcept = 0;
  const int64_t id = fresh_id();
};
inline thread_local Tracer* current_tracer = nullptr;

/// The value of a Scalar or Variable, kept alive by the leaves recorded from it (their payload).
struct v0::ScalarState {
  int64_t id;
  DType dtype;
  std::atomic<uint64_t> bits{0};  ///< of the dtype, in the low bytes; sign-extended for signed integers
};

inline namespace v0 {
class Recording;  // the friend of the public classes
}

struct Input;  // graph/functions/functions.h

/// The one friend of the public classes.
class v0::Recording {
 public:
  static Ref node(const Tensor& tensor);  ///< throws Error if the Tensor is empty
  static Tensor tensor(Ref node);
  /// The Tensor's state; null if it is empty.
  static const std::shared_ptr<TensorState>& state(const Tensor& tensor) { return tensor.state_; }
  static void set_state(Tensor& tensor, std::shared_ptr<TensorState> state) {
    tensor.state_ = std::move(state);
  }
  static Ref node(const Scalar& scalar);      ///< leaf with the value of this moment
  static Ref node(const Variable& variable);  ///< i64 leaf
  static Ref node(const Dim& dim);
  static Dim dim(const Ref& node);
  static std::vector<Ref> dims(const Shape& shape);
  static Input input(const Operand& operand);
};

inline Ref node_of(const Tensor& tensor) { return Recording::node(tensor); }
inline Tensor tensor_of(Ref node) { return Recording::tensor(std::move(node)); }

// Leaves.
//   Buffer    src = dims; ints = {id, version}; payload = the runtime's Storage
//   Scalar    ints = {id, bits of the value when recorded}; payload = ScalarState
//   Variable  ints = {id, lo, hi}; text = name; payload = ScalarState
//   Mark      ints = {id}; text = name
Ref buffer_leaf(DType dtype, std::vector<Ref> dims, std::shared_ptr<const void> storage, int64_t id,
                int64_t version);
/// The state behind a Scalar or Variable leaf; `bits` of it is the value that a replay takes.
const ScalarState& scalar_state(const Node& leaf);
/// A Scalar leaf for a number that belongs to the engine (a random counter).
Ref scalar_leaf(const std::shared_ptr<ScalarState>& state);

/// Where random draws take key and counter from: values of rank 0 and dtype u64 (a Scalar, or one plus a number).
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual Ref key() = 0;
  /// The counter of a draw of `blocks` blocks (an i64 index expression), which are then taken.
  virtual Ref counter(const Ref& blocks) = 0;
};
/// The source of this thread's draws: what set_random_source() said, else the thread's Context (in runtime/).
RandomSource& random_source();
/// null: the thread's Context. Returns the one before.
RandomSource* set_random_source(RandomSource* source);

// Of Tensor's members, runtime/ implements: from_memory, realize, read, assign, share; and realize_all, random_source,
// set_random_source. nn/ implements load_npy and save_npy. All else is graph/tensor.cpp.

}  // namespace kontor
