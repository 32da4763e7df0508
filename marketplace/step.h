// What the plans share while a step is recorded: the leader, vendors and their deltas, what a plan hands back.
#pragma once
#include "graph/batch.h"
#include "graph/functions.h"
#include "marketplace/plans.h"
#include "marketplace/record.h"

namespace kontor::inline v0::marketplace {

/// The objective, recorded once with a Mark for each parameter (leader.cpp).
struct Leader {
  std::vector<Ref> marks;  ///< of all parameters
  Ref loss, accuracy;      ///< f32 of rank 0, means over the batch; accuracy may be null
};
Leader record_leader(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                     std::span<const nn::Parameter> parameters);

/// What a plan is given.
struct Step {
  const PlanRow& row;
  const Options& options;
  std::span<const std::vector<size_t>> members;  ///< parameters of each group
  const StepInputs& in;
  Leader leader;

  int64_t vendors(size_t g) const { return options.groups[g].vendors; }
};

/// A group's vendors: what they make of the parameters, by batching over seeds and deviations.
struct Vendors {
  std::vector<size_t> index;        ///< of parameters
  std::vector<Ref> deltas;          ///< [vendors, ..] each
  std::vector<BatchedLeaf> leaves;  ///< the parameters' Marks with deltas added
};

/// u64 [vendors of group g], for each group (deltas.cpp). vendor_seed() is the same on the host.
std::vector<Ref> vendor_seeds(const Step& step);
/// f32 [vendors of group g]: sigma, but 0 for vendor 0 where that is the leader.
Ref deviations(const Step& step, size_t g);
/// Vendors of group g with these seeds u64 [n] and deviations f32 [n].
Vendors make_vendors(const Step& step, size_t g, const Ref& seeds, const Ref& sigmas);
/// The vendors of every group.
std::vector<Vendors> all_vendors(const Step& step);

/// `loss` for each vendor of group g: one more axis in front. Throws Error if it does not depend on the group.
Ref with_vendors(const Step& step, const Ref& loss, size_t g, std::span<const BatchedLeaf> leaves);
/// For each parameter of the group: sum over vendors of weights [vendors] * delta.
std::vector<Ref> weighted_sum(const Vendors& vendors, const Ref& weights);

/// What a plan makes of a step.
struct Outcome {
  Ref loss = {},
      accuracy = {};  ///< of the leader, if it is one of the vendors; null: as the leader is recorded
  std::vector<Ref> losses = {};                   ///< f32 [n] each, in the order of Trainer::losses()
  std::vector<std::vector<Ref>> directions = {};  ///< of each group and its parameters: where losses fall
};

Outcome record_full(const Step& step);
Outcome record_star(const Step& step);

/// Adds the parameters' new values to `out` (update.cpp).
void record_update(const Step& step, const Outcome& outcome, StepGraph& out);

}  // namespace kontor::inline v0::marketplace
