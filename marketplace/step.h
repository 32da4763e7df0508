// What the plans share while a step is recorded: the leader, vendors and their deltas, what a plan hands back.
#pragma once
#include "graph/functions/functions.h"
#include "graph/transforms/batch.h"
#include "marketplace/plans.h"
#include "marketplace/record.h"

namespace kontor::inline v0::marketplace {

/// The objective, recorded once with a Mark for each parameter (leader.cpp).
struct Leader {
  std::vector<Ref> marks;  ///< of all parameters
  Ref loss, accuracy;      ///< f32 of rank 0, means over the batch; accuracy may be null
  // The same of one part of the batch, as it was recorded: batched over the parts' Marks it is that of all.
  Ref part_loss, part_accuracy;
  std::vector<BatchedLeaf> parts;  ///< one part's x and labels, and all; none if the batch is one part
};
Leader record_leader(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                     std::span<const nn::Parameter> parameters, int64_t parts);

/// What a plan is given.
struct Step {
  const PlanRow& row;
  const Options& options;
  std::span<const std::vector<size_t>> members;  ///< parameters of each group
  const StepInputs& in;
  Leader leader;
  std::vector<Ref> seeds = {};  ///< of each group: u64 [vendors]; Trainer::vendor_seed() on the host

  size_t groups() const { return members.size(); }
  int64_t vendors(size_t g) const { return options.groups[g].vendors; }
  int64_t channels(size_t g) const { return options.groups[g].channels; }
  int64_t perturbed(size_t g) const { return vendors(g) - (row.leader ? 1 : 0); }
  Ref lr(size_t g) const;
  Ref sigma(size_t g) const;
};

/// A group's vendors: what they make of the parameters.
struct Vendors {
  std::vector<size_t> index;        ///< of parameters
  std::vector<Ref> deltas;          ///< [vendors, ..] each
  std::vector<BatchedLeaf> leaves;  ///< the parameters' Marks with deltas added
};

// deltas.cpp
/// u64 [vendors of group g], for each group.
std::vector<Ref> vendor_seeds(const Options& options, const StepInputs& in);
/// f32 [vendors of group g]: sigma; 0 for vendor 0 where that is the leader; -sigma for the second of a pair.
Ref deviations(const Step& step, size_t g);
/// What one vendor with this seed and deviation (rank 0) adds to parts of the group's parameters of these shapes.
std::vector<Ref> draw_deltas(const Step& step, size_t g, const Ref& seed, const Ref& sigma,
                             std::span<const Dims> shapes);
/// Vendors of group g with these seeds u64 [n] and deviations f32 [n].
Vendors make_vendors(const Step& step, size_t g, const Ref& seeds, const Ref& sigmas);
/// The vendors of every group.
std::vector<Vendors> all_vendors(const Step& step);
/// The first counter under a vendor's seed that the deltas of group g leave free.
int64_t after_deltas(const Step& step, size_t g);
/// 1 / E[delta^2] * sigma^2: the estimate of the gradient is this / (n sigma^2) * sum of loss * delta.
double inverse_variance(Noise noise);

/// `root` for each vendor of group g: one more axis in front. Throws Error if it does not depend on the group.
Ref with_vendors(const Step& step, const Ref& root, size_t g, std::span<const BatchedLeaf> leaves);
/// f32, of the losses' shape: -1 / (n E[delta^2]) (loss - loss of the leader): weighted by these, the deltas of a group's n
/// vendors add up to an estimate of -gradient. 0 for a loss that is not finite.
Ref difference_weights(const Step& step, size_t g, const Ref& losses);
/// weights [vendors] in the rank of `like` [vendors, ..].
Ref along_vendors(const Ref& weights, const Ref& like);
/// For each parameter of the group: sum over vendors of weights [vendors] * delta.
std::vector<Ref> weighted_sum(const Vendors& vendors, const Ref& weights);

// scores.cpp. A loss that is not finite counts as if its vendor were not there.
Ref finite(const Ref& x);
/// z = -(loss - mean) / deviation over the finite losses; 0 for the others, and where all losses are the same.
struct Scores {
  Ref z, mean, deviation;
};
Scores z_scores(const Ref& losses);
/// Position of the least finite loss: i64 of rank 0.
Ref least(const Ref& losses);
/// What makes of sum over vendors of (sum of z over the losses of a vendor) * delta an estimate of -gradient.
Ref estimate_factor(const Step& step, size_t g, const Ref& deviation, int64_t losses);

/// The vendor of each group (i64 of rank 0) that does best if the groups' parameters are what `leaves` say: for a
/// crossed plan those of the best path, else of each group by itself.
std::vector<Ref> best_vendors(const Step& step, std::span<const std::vector<BatchedLeaf>> leaves);

/// What a plan makes of a step.
struct Outcome {
  std::vector<Ref> losses;                        ///< f32 [n] each, in the order of Trainer::losses()
  std::vector<std::vector<Ref>> directions = {};  ///< of each group and its parameters: where losses fall
  Ref loss = {}, accuracy = {};                   ///< of the leader, if the plan has them cheaper than Leader
};

Outcome record_full(const Step& step);
Outcome record_greedy(const Step& step);
Outcome record_star(const Step& step);
Outcome record_block_star(const Step& step);
Outcome record_per_sample(const Step& step);
Outcome record_activity(const Step& step);
Outcome record_low_rank(const Step& step);

/// Adds the parameters' new values to `out`, or their gradients if Adam makes the update (update.cpp).
void record_update(const Step& step, const Outcome& outcome, StepGraph& out);

}  // namespace kontor::inline v0::marketplace
