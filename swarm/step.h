// A step as Kontor graphs: what slots' directions do to the loss (Marketplace's low-rank forward pass), and the update from seeds and
// integer coefficients, whose bits are the same on every device.
#pragma once
#include "swarm/manifest.h"
#include "swarm/task.h"

namespace kontor::swarm {

/// The weights are those of the task, read and written where they are.
class Steps {
 public:
  Steps(Task& task, const Manifest& manifest);
  /// differences of the slots with these seeds, each tried on its own samples of the task's data (sample_of()).
  std::vector<int32_t> evaluate(std::span<const uint64_t> seeds);
  /// w += lr * D / |D|, D = sum over slots of coefficient * direction. Sums are integers; the move of a weight is one fma. `seeds` and
  /// `coefficients` are of all slots of the run, 0 for those that said nothing. A D of length 0 moves nothing.
  void update(std::span<const uint64_t> seeds, std::span<const int32_t> coefficients, double lr);
  /// SHA-256 of the update's graph as text.
  Digest graph() const;
  double forward_operations() const { return operations_; }  ///< of the products of evaluate() so far

 private:
  Task& task_;
  int64_t values_, samples_, at_once_;
  bool whole_;
  int64_t most_;  ///< what the magnitudes of a step's coefficients add up to at most
  double sigma_, operations_ = 0, slot_operations_ = 0;
  nn::Objective objective_;
  Jit evaluate_, update_;

  std::vector<Tensor> record_losses(std::span<const Tensor> in);
  std::vector<Tensor> record_update(std::span<const Tensor> in) const;
  static std::vector<Tensor> trace_losses(void* self, std::span<const Tensor> in);
  static std::vector<Tensor> trace_update(void* self, std::span<const Tensor> in);
};

}  // namespace kontor::swarm
