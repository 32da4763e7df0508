// Trace: what happens on a thread while jit records a function: which Tensors it reads, assigns and draws.
#pragma once
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/context_state.h"

namespace kontor {

class Trace final : public Tracer, public RandomSource {
 public:
  explicit Trace(ContextState& context);
  ~Trace() override;
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// The trace of this thread, or null.
  static Trace* current() { return static_cast<Trace*>(current_tracer); }

  /// A Tensor made before is read: what it holds becomes a leaf in memory, so that its identity is known.
  void capture(const Tensor& tensor) override;
  void made(const std::shared_ptr<TensorState>& state) override { made_.push_back(state); }
  bool is_outside(const TensorState& state) const override;
  void lost() noexcept override { lost_ = true; }
  /// The part of Tensor::assign that depends on tracing.
  void assign(Tensor& tensor, const Ref& old, Ref definition);

  Ref key() override { return context_.key(); }
  Ref counter(const Ref& blocks) override;

  struct Assigned {
    std::shared_ptr<TensorState> state;
    Ref before;  ///< its node when the trace began (or, if `local`, when it was first assigned)
    Ref after;   ///< the leaf, pending on the new value
    bool local;  ///< made during the trace
  };
  std::vector<Assigned>& assigned() { return assigned_; }
  /// States through which a leaf was read.
  const std::unordered_map<const Node*, std::vector<std::weak_ptr<TensorState>>>& captured() const {
    return captured_;
  }
  /// What happens on the host before each call.
  struct HostStep {
    std::shared_ptr<void> state;
    void (*advance)(void* state);
  };
  std::vector<HostStep>& host_steps() { return host_steps_; }
  const std::shared_ptr<ScalarState>& random_base() const { return random_base_; }
  const Ref& random_blocks() const { return blocks_; }  ///< drawn so far; an i64 index expression

  /// What tells of the handles through which the function read or assigned.
  const std::vector<std::shared_ptr<Watch>>& watches() const { return watches_; }
  /// Throws Error if a Tensor outside of the function was lost in it, or holds a value that only this recording gave it:
  /// called when the function's own Tensors are gone.
  void check_left_behind() const;

  /// Puts back what the assigned Tensors held and stops recording.
  void undo() noexcept;

 private:
  Assigned& first_assign(Tensor& tensor, const Ref& old);
  void watch(const std::shared_ptr<TensorState>& state, const Tensor& handle);
  bool is_of_this_call(const Ref& node) const;

  ContextState& context_;
  RandomSource* source_before_;
  std::vector<Assigned> assigned_;
  std::unordered_map<const Node*, std::vector<std::weak_ptr<TensorState>>> captured_;
  std::vector<Ref> leaves_;  // keeps the keys of captured_ alive
  std::vector<HostStep> host_steps_;
  std::shared_ptr<ScalarState> random_base_;
  Ref blocks_;
  std::vector<std::weak_ptr<TensorState>> made_;
  std::vector<std::shared_ptr<Watch>> watches_;
  bool recording_ = true, lost_ = false;
};

}  // namespace kontor
