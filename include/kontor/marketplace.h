// Marketplace: training with forward passes only. Vendors offer perturbed layers, losses say which way to go.
// Method: Fang-Pen Lin, "Marketplace V2 is all you need" (2025); the star plan is ours. See docs/marketplace.md.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kontor/nn.h>

namespace kontor::inline v0::marketplace {

/// How vendors are put together, and what their losses are made of (docs/marketplace.md has formulas and costs).
/// Full ("full", V2): the vendors of all groups are crossed; z-scores of the paths' losses weigh the deltas.
/// Greedy ("v1"): crossed as well; each group takes over the delta of the path with the least loss.
/// Star ("star"): one group at a time around one leader, whose forward pass serves all groups.
/// BlockStar ("block-star"): one output channel at a time, evaluated from the leader's activations.
/// PerSample ("per-sample"): each sample runs a random path of its own (continual learning as published).
/// Activity ("activity"): one sample and one channel of a layer's output at a time, evaluated by what changes; the layer's
///   kept input makes weights of it. The last layer's slope is exact.
/// LowRank ("low-rank"): a vendor and its opposite for each sample, of all groups at once; a matrix's delta has rank 1.
/// In Full, Greedy and PerSample vendor 0 of each group is the leader, whose delta is zero; Star counts perturbed ones.
enum class Plan : uint8_t { Full, Greedy, Star, BlockStar, PerSample, Activity, LowRank };
/// The step has length lr in each group, or in all together.
enum class Unit : uint8_t { PerGroup, Whole };
/// Deltas are uniform in +-sigma (32 random bits a weight), or +sigma or -sigma (one bit a weight).
enum class Noise : uint8_t { Uniform, Rademacher };
/// A step of a set length along the direction, or Adam on the estimate of the gradient (unbiased for small sigma).
enum class Update : uint8_t { Unit, Adam };

/// The plan of a name as above; throws Error that lists the names. And back.
KONTOR_API Plan plan_of(std::string_view name);
KONTOR_API std::string_view name(Plan plan);
KONTOR_API std::vector<std::string_view> plan_names();

/// Parameters that are perturbed together: by name, as "conv1.weight", or by layer, as "conv1".
struct Group {
  std::string name;
  std::vector<std::string> members;
  int64_t vendors = 0;
  int64_t upstream =
      0;               ///< Full, Greedy: paths of the groups before that each vendor continues, drawn; 0: all
  bool whole = false;  ///< BlockStar: perturbed as a whole, as in Star, not one output channel at a time
  int64_t channels = 1;  ///< BlockStar: output channels, each with `vendors` of its own; found by the Trainer
  int64_t one_in = 1;    ///< Activity: one in so many of the drawn samples has vendors of this group
};

struct Options {
  Plan plan = Plan::Star;
  Unit unit = Unit::PerGroup;
  /// In the order of the forward pass; what stands in none is not trained. None: find_groups() at the first step.
  std::vector<Group> groups;
  double lr = 0.1;
  double lr_decay = 5e-4;  ///< lr *= 1 - lr_decay after each step
  double probe_scale =
      0.01;           ///< sigma = lr * probe_scale; Star, BlockStar, Activity, LowRank: of the first lr.
                      ///< Activity: part of a channel's deviation, or of the weights' size
  uint64_t seed = 0;  ///< of the deltas
  Noise noise = Noise::Uniform;
  Update update = Update::Unit;
  double beta2 = 0.999;     ///< Adam: of the second moment
  bool antithetic = false;  ///< perturbed vendors come in pairs of opposite deltas: their number must be even
  double meta_lr =
      0;  ///< m > 0: a second forward pass over step lengths lr (1 +- m) chooses the lr of each group
  int64_t forward_passes =
      1;  ///< a step's samples are evaluated in this many parts, whose losses are averaged
};

/// Groups from text, as "whole(conv1)|conv2+norm1|linear", and the vendors of each. Throws Error if their numbers differ.
KONTOR_API std::vector<Group> parse_groups(std::string_view text, std::span<const int64_t> vendors);
/// How nn::MnistCnn is divided: by layers for Star, in the articles' three for Full. No vendors: 4,4,8,16,128 or 8,8,8.
KONTOR_API std::vector<Group> mnist_groups(Plan plan, std::span<const int64_t> vendors = {});

/// Groups of any model, by its layers in the order of the walk, which is to be that of the forward pass: a layer with a
/// weight of two or more axes begins a group, others (norms) join the one before. Plans whose vendors are crossed get at
/// most three groups, of neighbouring layers. The last three arguments are one batch: then plans that perturb one group
/// at a time get the more vendors the less has to be evaluated again for the group: 4 sqrt(most / of this group), 4 to
/// 128, a power of two; BlockStar perturbs a group whole if a vendor for each of its channels would cost more than six
/// forward passes. Without them, and for other plans, each group has the plan's usual number (8; per-sample: 4).
KONTOR_API std::vector<Group> find_groups(std::span<const nn::Parameter> parameters, Plan plan);
KONTOR_API std::vector<Group> find_groups(std::span<const nn::Parameter> parameters, Plan plan,
                                          const nn::Objective& objective, const Tensor& x,
                                          const Tensor& labels);

/// Trains any parameters of which an Objective records a loss. A step is one jit call: forward passes of leader and
/// vendors, directions and update; deltas are made from seeds where they are needed, a tensor of vendors x parameters
/// never exists. Nothing is compiled after the second step. The same bits for any number of threads, and after a resume.
class KONTOR_API Trainer final : public nn::Trainer {
 public:
  /// Throws Error if a group names what is not there or was named before, has too few vendors, or the plan does not have
  /// an option.
  Trainer(std::vector<nn::Parameter> parameters, nn::Objective objective, Options options = {});
  ~Trainer() override;
  double learning_rate() const override;              ///< meta-lr: the mean of the groups'
  const std::vector<double>& learning_rates() const;  ///< of each group
  void set_learning_rate(double lr) override;  ///< of all groups; leaves sigma where it is of the first lr
  /// What is trained; empty before the first step if none were given.
  const std::vector<Group>& groups() const;
  /// Losses of the last step. Star: the vendors of each group in turn; Full, Greedy: the paths, the last group varying
  /// slowest; PerSample: the samples; Activity: the samples, then the vendors of each group in turn, by sample and
  /// channel; LowRank: each sample with its vendor, then each with the opposite.
  const std::vector<float>& losses() const;
  /// The seed from which vendor `vendor` of group `group` makes its deltas in step `step` (0, 1, ..). Throws Error if
  /// there is no such group.
  uint64_t vendor_seed(int64_t step, size_t group, int64_t vendor) const;

 private:
  nn::Metrics run(const Tensor& x, const Tensor& labels) override;
  std::vector<nn::Parameter> tensors() override;
  nn::Metadata settings() const override;
  nn::Metadata progress() const override;
  void prepare(const nn::Metadata& metadata) override;
  void restore(const nn::Metadata& metadata) override;
  void judge(double loss);
  struct State;
  std::unique_ptr<State> state_;
};

struct FeedbackOptions {
  double lr = 5e-3;
  double beta2 = 0.99;        ///< Adam: of the second moment
  double sigma = 0.01;        ///< of the noise that is added to values
  double memory = 0.97;       ///< of what earlier noise has shown, a part is kept at each new one of a group
  double ridge = 0.03;        ///< part of the mean variance that is added to each
  double correction = 0.3;    ///< part of what noise shows beyond the prediction that goes into its own step
  int64_t groups = 2;         ///< noise groups drawn a step
  int64_t all_in_first = 30;  ///< steps in which all groups have noise
  uint64_t seed = 0;          ///< of noise and draws
};

/// Learned feedback, for networks of matmul layers under one cross_entropy of each token (or sample), transformers above all: from one
/// clean forward pass the slope of a loss at the output of a layer is predicted by a matrix times the error at the logits. The matrices
/// are learned: noise of +-sigma (of their size) is added to the values of a few groups a step, and the losses of their tokens are compared with those
/// of the clean pass (perturbed values: Lansdell et al. 2019, "Learning to solve the credit assignment problem"; docs/marketplace.md).
/// Layers, tables and noise groups are found in the recorded loss; norms and what else is no matrix, bias or table stay as they are.
/// The same bits for any number of threads, and after a resume.
class KONTOR_API FeedbackTrainer final : public nn::Trainer {
 public:
  /// Throws Error if an option cannot be.
  FeedbackTrainer(std::vector<nn::Parameter> parameters, nn::Objective objective,
                  FeedbackOptions options = {});
  ~FeedbackTrainer() override;
  double learning_rate() const override;
  void set_learning_rate(double lr) override;
  /// Names of the noise groups, in the order of the forward pass; none before the first step.
  const std::vector<std::string>& groups() const;

 private:
  nn::Metrics run(const Tensor& x, const Tensor& labels) override;
  std::vector<nn::Parameter> tensors() override;
  nn::Metadata settings() const override;
  nn::Metadata progress() const override;
  void prepare(const nn::Metadata& metadata) override;
  void restore(const nn::Metadata& metadata) override;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kontor::inline v0::marketplace
