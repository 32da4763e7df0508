// marketplace::Trainer: the step as one jit function, its Scalars and state, checks and checkpoint.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/threefry.h"
#include "marketplace/groups.h"
#include "marketplace/options.h"
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

}  // namespace

struct Trainer::State {
  std::vector<nn::Parameter> parameters;
  nn::Objective objective;
  Options options;
  double lr, meta_lr;
  uint64_t key;
  std::vector<std::vector<size_t>> members = {};
  std::shared_ptr<ScalarState> key_scalar = scalar_of(DType::U64, key), counter = scalar_of(DType::U64),
                               rate = scalar_of(DType::F32), sigma = scalar_of(DType::F32),
                               range = scalar_of(DType::F32);
  Tensor rates = {};                           // meta-lr: [groups]
  std::vector<nn::Parameter> statistics = {};  // of the model: kept, not trained
  std::unique_ptr<nn::Adam> adam = {};         // of the parameters of all groups
  std::vector<Jit> update = {};
  double operations = 0;
  size_t samples = 0;  // of the recorded batch
  bool has_accuracy = false, told_constant = false;
  std::vector<float> losses = {};
  std::vector<double> learning_rates = {};

  const PlanRow& row() const { return row_of(options.plan); }
  void start(std::vector<Group> groups);
  void set_rates(double value);
  std::vector<Tensor> record(const Tensor& x, const Tensor& labels);
  void set_scalars(int64_t step);
  void decay();
  std::string who(size_t loss) const;
  static std::vector<Tensor> trace(void* self, std::span<const Tensor> in) {
    return (*static_cast<State**>(self))->record(in[0], in[1]);
  }
};

// The groups are known from now on.
void Trainer::State::start(std::vector<Group> groups) {
  Options with = options;
  with.groups = std::move(groups);
  check_options(with);
  members = resolve(with.groups, with.plan, parameters);
  find_channels(with.groups, with.plan, parameters, members);
  options = std::move(with);
  if (options.update == Update::Adam) {
    std::vector<nn::Parameter> trained;
    for (const auto& group : members)
      for (size_t i : group) trained.push_back(parameters[i]);
    adam = std::make_unique<nn::Adam>(std::move(trained), lr, 0.9, options.beta2);
  }
  set_rates(lr);
}

void Trainer::State::set_rates(double value) {
  learning_rates.assign(options.groups.size(), value);
  if (options.meta_lr == 0) return;
  const Tensor all = Tensor::full({static_cast<int64_t>(options.groups.size())}, value);
  if (rates.empty()) rates = all;
  else rates.assign(all);  // stays the one that the jit function knows
  rates.realize();
}

std::vector<Tensor> Trainer::State::record(const Tensor& x, const Tensor& labels) {
  StepInputs in{scalar_leaf(key_scalar), scalar_leaf(counter), scalar_leaf(rate), scalar_leaf(sigma)};
  if (!rates.empty()) in.rates = node_of(rates), in.rate_range = scalar_leaf(range);
  const StepGraph graph = record_step(objective, x, labels, parameters, options, members, in);
  std::vector<Tensor> out{tensor_of(graph.loss)}, gradients, all;
  for (const Ref& l : graph.losses) out.push_back(tensor_of(l));
  all = out;
  if (graph.rates) all.push_back(tensor_of(graph.rates));
  operations = nn::product_operations(all);
  samples = x.rank() == 0 ? 1 : static_cast<size_t>(x.size(0));
  has_accuracy = static_cast<bool>(graph.accuracy);
  if (has_accuracy) out.push_back(tensor_of(graph.accuracy));
  for (const Ref& g : graph.gradients) gradients.push_back(tensor_of(g));
  if (adam) adam->step(gradients, tensor_of(graph.fine));
  for (size_t k = 0; k < graph.changed.size(); ++k)
    parameters[graph.index[k]].tensor->assign(tensor_of(graph.changed[k]));
  if (graph.rates) rates.assign(tensor_of(graph.rates));
  return out;
}

void Trainer::State::set_scalars(int64_t step) {
  counter->bits = static_cast<uint64_t>(step) << kStepShift;
  set(*rate, lr);
  set(*sigma, (row().fixed_sigma ? options.lr : lr) * options.probe_scale);
  set(*range, meta_lr);
  if (adam) adam->lr.set(lr);
}

void Trainer::State::decay() {
  if (rates.empty()) {
    lr *= 1 - options.lr_decay;
    learning_rates.assign(options.groups.size(), lr);
  } else {
    meta_lr *= 1 - options.lr_decay;
    learning_rates = rates.to_vector<double>();
  }
}

// Which vendor, path or sample has loss number `loss`.
std::string Trainer::State::who(size_t loss) const {
  if (row().samples)
    return loss < samples ? fmt::format("sample {}", loss) : fmt::format("vendor {}", loss - samples);
  const bool drawn = std::any_of(options.groups.begin(), options.groups.end(),
                                 [](const Group& g) { return g.upstream != 0; });
  if (drawn) return fmt::format("path number {}", loss);
  std::string path;
  auto left = static_cast<int64_t>(loss);
  for (const Group& g : options.groups) {
    if (row().crossed) {
      path += fmt::format("{}{}", path.empty() ? "" : ",", left % g.vendors);
      left /= g.vendors;
    } else if (left < seeds_of(g)) {
      return g.channels == 1 ? fmt::format("vendor {} of group '{}'", left, g.name)
                             : fmt::format("vendor {} of channel {} of group '{}'", left % g.vendors,
                                           left / g.vendors, g.name);
    } else {
      left -= seeds_of(g);
    }
  }
  return fmt::format("path {}", path);
}

Trainer::Trainer(std::vector<nn::Parameter> parameters, nn::Objective objective, Options options) {
  check_options(options);
  const uint64_t key = subkey(options.seed, kSeedUse);
  const double lr = options.lr, meta_lr = options.meta_lr;
  const auto kept =
      std::stable_partition(parameters.begin(), parameters.end(), [](const auto& p) { return p.trained; });
  std::vector<nn::Parameter> statistics(kept, parameters.end());
  parameters.erase(kept, parameters.end());
  state_ = std::make_unique<State>(
      State{std::move(parameters), std::move(objective), std::move(options), lr, meta_lr, key});
  State& s = *state_;
  s.statistics = std::move(statistics);
  s.update.emplace_back(std::make_shared<State*>(state_.get()), &State::trace);
  std::vector<Tensor*> tensors;
  for (const auto& some : {s.parameters, s.statistics})
    for (const nn::Parameter& p : some) tensors.push_back(p.tensor);
  realize_all(tensors);
  if (!s.options.groups.empty()) s.start(s.options.groups);
}

Trainer::~Trainer() = default;
const std::vector<double>& Trainer::learning_rates() const { return state_->learning_rates; }
const std::vector<float>& Trainer::losses() const { return state_->losses; }
const std::vector<Group>& Trainer::groups() const { return state_->options.groups; }

double Trainer::learning_rate() const {
  const std::vector<double>& all = state_->learning_rates;
  if (all.empty() || state_->rates.empty()) return state_->lr;
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

void Trainer::set_learning_rate(double lr) {
  if (!(lr > 0 && std::isfinite(lr))) fail("marketplace: a learning rate of {}", lr);
  state_->lr = lr;
  state_->set_rates(lr);
}

uint64_t Trainer::vendor_seed(int64_t step, size_t group, int64_t vendor) const {
  const Options& o = state_->options;
  if (group >= o.groups.size() || vendor < 0 || vendor >= seeds_of(o.groups[group]))
    fail("marketplace: no vendor {} of group {}; there are {} groups", vendor, group, o.groups.size());
  const int64_t alone = row_of(o.plan).leader ? 1 : 0;
  if (o.antithetic && vendor >= alone) vendor -= (vendor - alone) % 2;
  for (size_t g = 0; g < group; ++g) vendor += seeds_of(o.groups[g]);
  return random_bits64(state_->key,
                       (static_cast<uint64_t>(step) << kStepShift) + static_cast<uint64_t>(vendor));
}

nn::Metrics Trainer::run(const Tensor& x, const Tensor& labels) {
  State& s = *state_;
  if (s.members.empty()) s.start(find_groups(s.parameters, s.options.plan, s.objective, x, labels));
  s.set_scalars(steps_);
  const int64_t before = s.adam ? s.adam->steps() : 0;
  const std::vector<Tensor> out = s.update[0](std::vector<Tensor>{x, labels});
  const auto loss = out[0].item<double>();
  s.losses.clear();
  const size_t count = out.size() - (s.has_accuracy ? 1 : 0);
  for (size_t i = 1; i < count; ++i) {
    const std::vector<float> part = out[i].to_vector<float>();
    s.losses.insert(s.losses.end(), part.begin(), part.end());
  }
  try {
    judge(loss);
  } catch (...) {
    if (s.adam) s.adam->set_steps(before);  // the step changed nothing else
    throw;
  }
  s.decay();
  const auto failed =
      std::count_if(s.losses.begin(), s.losses.end(), [](float l) { return !std::isfinite(l); });
  return {.loss = loss,
          .accuracy = s.has_accuracy ? out.back().item<double>() : std::numeric_limits<double>::quiet_NaN(),
          .operations = s.operations,
          .failed = failed};
}

// Losses that allow no step are an Error; others that are not what they should be are told.
void Trainer::judge(double loss) {
  const State& s = *state_;
  const auto bad = [](float l) { return !std::isfinite(l); };
  const auto first =
      static_cast<size_t>(std::find_if(s.losses.begin(), s.losses.end(), bad) - s.losses.begin());
  const auto failed = static_cast<size_t>(std::count_if(s.losses.begin(), s.losses.end(), bad));
  if (!std::isfinite(loss))
    fail("marketplace: the leader's loss of step {} is {}; lr {}", steps_ + 1, loss, learning_rate());
  if (failed == s.losses.size())
    fail("marketplace: the loss of {} in step {} is {}, and so are all {}; lr {}, probe scale {}", s.who(0),
         steps_ + 1, s.losses[0], failed, learning_rate(), s.options.probe_scale);
  if (failed > 0)
    warnings_.push_back(fmt::format(
        "marketplace: step {}: {} of {} losses are not finite and have no weight, the first is that of {}: {}",
        steps_ + 1, failed, s.losses.size(), s.who(first), s.losses[first]));
  const auto [least, most] = std::minmax_element(s.losses.begin(), s.losses.end());
  const bool constant =
      failed == 0 && *least == *most && (s.row().samples || *least == static_cast<float>(loss));
  if (constant && !state_->told_constant)
    warnings_.push_back(fmt::format("marketplace: step {}: all {} losses are {}: nothing moves", steps_ + 1,
                                    s.losses.size(), s.losses[0]));
  state_->told_constant = constant;
}

std::vector<nn::Parameter> Trainer::tensors() {
  std::vector<nn::Parameter> all = state_->parameters;
  all.insert(all.end(), state_->statistics.begin(), state_->statistics.end());
  if (state_->adam)
    for (nn::Parameter& p : state_->adam->state()) all.push_back(std::move(p));
  if (!state_->rates.empty()) all.push_back({"marketplace.lr", &state_->rates});
  return all;
}

nn::Metadata Trainer::settings() const { return settings_text(state_->options); }

nn::Metadata Trainer::progress() const {
  nn::Metadata all{{"lr", fmt::format("{:.17g}", state_->lr)},
                   {"lr_decay", fmt::format("{}", state_->options.lr_decay)},
                   {"meta_lr_range", fmt::format("{:.17g}", state_->meta_lr)}};
  if (state_->adam) all["optimizer_steps"] = std::to_string(state_->adam->steps());
  return all;
}

void Trainer::prepare(const nn::Metadata& metadata) {
  if (state_->members.empty() && metadata.count("groups")) state_->start(groups_of(metadata));
}

void Trainer::restore(const nn::Metadata& metadata) {
  State& s = *state_;
  s.lr = number(metadata, "lr");
  s.meta_lr = number(metadata, "meta_lr_range");
  if (s.adam) s.adam->set_steps(static_cast<int64_t>(number(metadata, "optimizer_steps")));
  if (s.rates.empty()) s.learning_rates.assign(s.options.groups.size(), s.lr);
  else s.learning_rates = s.rates.to_vector<double>();
}

}  // namespace kontor::inline v0::marketplace
