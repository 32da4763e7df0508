// marketplace::Trainer: the step as one jit function, its Scalars, checks and checkpoint.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/threefry.h"
#include "marketplace/groups.h"
#include "marketplace/plans.h"
#include "marketplace/record.h"

namespace kontor::inline v0::marketplace {

namespace {

constexpr uint64_t kSeedUse = 0x4D41524B;  // "MARK": this use of the run's seed
constexpr int kStepShift = 20;             // vendors of a step have the low bits of the counter

std::shared_ptr<ScalarState> scalar_of(DType dtype, uint64_t bits = 0) {
  auto state = std::make_shared<ScalarState>();
  state->id = fresh_id();
  state->dtype = dtype;
  state->bits = bits;
  return state;
}

void set(ScalarState& state, double value) {
  state.bits = std::bit_cast<uint32_t>(static_cast<float>(value));
}

void check_takes(const Options& o) {
  const PlanRow& row = row_of(o.plan);
  const bool upstream =
      std::any_of(o.groups.begin(), o.groups.end(), [](const Group& g) { return g.upstream != 0; });
  const struct {
    Takes option;
    bool wanted;
    const char* name;
  } options[] = {{Upstream, upstream, "upstream sampling"},
                 {MetaLr, o.meta_lr != 0, "meta-lr"},
                 {AdamUpdate, o.update == Update::Adam, "update by Adam"},
                 {Antithetic, o.antithetic, "antithetic vendors"},
                 {RademacherNoise, o.noise == Noise::Rademacher, "Rademacher noise"},
                 {Passes, o.forward_passes != 1, "forward passes beside one"}};
  for (const auto& option : options)
    if (option.wanted && !(row.takes & option.option))
      fail("marketplace: the {} plan has no {}", row.name, option.name);
}

void check_options(const Options& o) {
  if (!(o.lr > 0 && std::isfinite(o.lr))) fail("marketplace: a learning rate of {}", o.lr);
  if (!(o.lr_decay >= 0 && o.lr_decay < 1)) fail("marketplace: a learning rate decay of {}", o.lr_decay);
  if (!(o.probe_scale > 0 && std::isfinite(o.probe_scale)))
    fail("marketplace: a probe scale of {}", o.probe_scale);
  if (!(o.meta_lr >= 0 && o.meta_lr < 1)) fail("marketplace: a meta-lr of {}; it is a part of lr", o.meta_lr);
  if (o.forward_passes < 1) fail("marketplace: {} forward passes", o.forward_passes);
  check_takes(o);
}

}  // namespace

struct Trainer::State {
  std::vector<nn::Parameter> parameters;
  nn::Objective objective;
  Options options;
  std::vector<std::vector<size_t>> members;
  double lr;
  uint64_t key;
  std::shared_ptr<ScalarState> key_scalar, counter, rate, sigma;
  std::vector<Jit> update = {};
  double operations = 0;
  bool has_accuracy = false;
  std::vector<float> losses = {};

  std::vector<Tensor> record(const Tensor& x, const Tensor& labels);
  void set_scalars(int64_t step);
  std::string who(size_t loss) const;
  static std::vector<Tensor> trace(void* self, std::span<const Tensor> in) {
    return (*static_cast<State**>(self))->record(in[0], in[1]);
  }
};

std::vector<Tensor> Trainer::State::record(const Tensor& x, const Tensor& labels) {
  const StepInputs in{scalar_leaf(key_scalar), scalar_leaf(counter), scalar_leaf(rate), scalar_leaf(sigma)};
  const StepGraph graph = record_step(objective, x, labels, parameters, options, members, in);
  std::vector<Tensor> losses_only{tensor_of(graph.loss)};
  for (const Ref& l : graph.losses) losses_only.push_back(tensor_of(l));
  operations = nn::product_operations(losses_only);
  std::vector<Tensor> out = std::move(losses_only);
  has_accuracy = static_cast<bool>(graph.accuracy);
  if (has_accuracy) out.push_back(tensor_of(graph.accuracy));
  for (size_t k = 0; k < graph.index.size(); ++k)
    parameters[graph.index[k]].tensor->assign(tensor_of(graph.changed[k]));
  return out;
}

void Trainer::State::set_scalars(int64_t step) {
  counter->bits = static_cast<uint64_t>(step) << kStepShift;
  set(*rate, lr);
  set(*sigma, (row_of(options.plan).fixed_sigma ? options.lr : lr) * options.probe_scale);
}

// Which vendor or path has loss number `loss`.
std::string Trainer::State::who(size_t loss) const {
  std::string path;
  auto left = static_cast<int64_t>(loss);
  for (const Group& g : options.groups) {
    if (row_of(options.plan).crossed) {
      path += fmt::format("{}{}", path.empty() ? "" : ",", left % g.vendors);
      left /= g.vendors;
    } else if (left < g.vendors) {
      return fmt::format("vendor {} of group '{}'", left, g.name);
    } else {
      left -= g.vendors;
    }
  }
  return fmt::format("path {}", path);
}

Trainer::Trainer(std::vector<nn::Parameter> parameters, nn::Objective objective, Options options) {
  check_options(options);
  auto members = resolve(options.groups, options.plan, parameters);
  const uint64_t key = subkey(options.seed, kSeedUse);
  const double lr = options.lr;
  state_ = std::make_unique<State>(
      State{std::move(parameters), std::move(objective), std::move(options), std::move(members), lr, key,
            scalar_of(DType::U64, key), scalar_of(DType::U64), scalar_of(DType::F32), scalar_of(DType::F32)});
  state_->update.emplace_back(std::make_shared<State*>(state_.get()), &State::trace);
  std::vector<Tensor*> tensors;
  for (const nn::Parameter& p : state_->parameters) tensors.push_back(p.tensor);
  realize_all(tensors);
}

Trainer::~Trainer() = default;
double Trainer::learning_rate() const { return state_->lr; }
const std::vector<float>& Trainer::losses() const { return state_->losses; }

uint64_t Trainer::vendor_seed(int64_t step, size_t group, int64_t vendor) const {
  for (size_t g = 0; g < group; ++g) vendor += state_->options.groups[g].vendors;
  return random_bits64(state_->key,
                       (static_cast<uint64_t>(step) << kStepShift) + static_cast<uint64_t>(vendor));
}

nn::Metrics Trainer::run(const Tensor& x, const Tensor& labels) {
  State& s = *state_;
  s.set_scalars(steps_);
  const std::vector<Tensor> out = s.update[0](std::vector<Tensor>{x, labels});
  const auto loss = out[0].item<double>();
  if (!std::isfinite(loss))
    fail("marketplace: the leader's loss of step {} is {}; lr {}", steps_ + 1, loss, s.lr);
  s.losses.clear();
  const size_t count = out.size() - (s.has_accuracy ? 1 : 0);
  for (size_t i = 1; i < count; ++i) {
    const std::vector<float> part = out[i].to_vector<float>();
    s.losses.insert(s.losses.end(), part.begin(), part.end());
  }
  for (size_t i = 0; i < s.losses.size(); ++i) {
    if (!std::isfinite(s.losses[i]))
      fail("marketplace: the loss of {} in step {} is {}; lr {}, probe scale {}", s.who(i), steps_ + 1,
           s.losses[i], s.lr, s.options.probe_scale);
  }
  s.lr *= 1 - s.options.lr_decay;
  return {.loss = loss,
          .accuracy = s.has_accuracy ? out.back().item<double>() : std::numeric_limits<double>::quiet_NaN(),
          .operations = s.operations};
}

std::vector<nn::Parameter> Trainer::tensors() { return state_->parameters; }

nn::Metadata Trainer::settings() const {
  const Options& o = state_->options;
  nn::Metadata all{{"method", "marketplace"},
                   {"plan", std::string(name(o.plan))},
                   {"unit", o.unit == Unit::Whole ? "whole" : "per-group"},
                   {"groups", to_text(o.groups)},
                   {"vendors", vendors_text(o.groups)},
                   {"probe_scale", fmt::format("{}", o.probe_scale)},
                   {"seed", std::to_string(o.seed)}};
  if (row_of(o.plan).fixed_sigma) all["first_lr"] = fmt::format("{}", o.lr);  // sets sigma
  return all;
}

nn::Metadata Trainer::progress() const {
  return {{"lr", fmt::format("{:.17g}", state_->lr)},
          {"lr_decay", fmt::format("{}", state_->options.lr_decay)}};
}

void Trainer::restore(const nn::Metadata& metadata) { state_->lr = std::stod(metadata.at("lr")); }

}  // namespace kontor::inline v0::marketplace
