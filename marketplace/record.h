// A step of Marketplace as a graph: losses of leader and vendors, directions, new parameters.
#pragma once
#include <kontor/marketplace.h>

#include "graph/recording.h"

namespace kontor::inline v0::marketplace {

/// What a step takes that changes from step to step: values of rank 0, but for the rates.
struct StepInputs {
  Ref key, counter;     ///< u64: of the vendors' seeds
  Ref lr, sigma;        ///< f32
  Ref rates = {};       ///< meta-lr: f32 [groups], the lr of each
  Ref rate_range = {};  ///< meta-lr: f32, lr (1 +- this) are tried
};

struct StepGraph {
  Ref loss;                 ///< of the leader
  Ref accuracy;             ///< of the leader, or null
  std::vector<Ref> losses;  ///< f32 [n] each, in the order of Trainer::losses()
  Ref fine;  ///< bool: the leader's loss and one other are finite; else the step changes nothing
  std::vector<size_t> index;   ///< parameters that the step changes
  std::vector<Ref> changed;    ///< their new values
  std::vector<Ref> gradients;  ///< or estimates of their gradients, if Adam makes the update
  Ref rates;                   ///< meta-lr: the new lr of each group
};

/// Records one step. `members` are the parameters of each group (resolve()).
StepGraph record_step(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                      std::span<const nn::Parameter> parameters, const Options& options,
                      std::span<const std::vector<size_t>> members, const StepInputs& inputs);

}  // namespace kontor::inline v0::marketplace
