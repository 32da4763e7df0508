// A step of Marketplace as a graph: losses of leader and vendors, directions, new parameters.
#pragma once
#include <kontor/marketplace.h>

#include "graph/recording.h"

namespace kontor::inline v0::marketplace {

/// What a step takes that changes from step to step: values of rank 0.
struct StepInputs {
  Ref key, counter;  ///< u64: of the vendors' seeds
  Ref lr, sigma;     ///< f32
};

struct StepGraph {
  Ref loss;                  ///< of the leader
  Ref accuracy;              ///< of the leader, or null
  std::vector<Ref> losses;   ///< Star: [vendors] for each group; Full: one, [paths]
  std::vector<Ref> changed;  ///< new values of the parameters of `index`
  std::vector<size_t> index;
};

/// Records one step. `members` are the parameters of each group (resolve()).
StepGraph record_step(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                      std::span<const nn::Parameter> parameters, const Options& options,
                      std::span<const std::vector<size_t>> members, const StepInputs& inputs);

}  // namespace kontor::inline v0::marketplace
