// SGD, RMSprop, Adam, AdamW and Lion: fused updates of parameters and state, written in place where nobody needs the old values. They
// are recorded from the last parameter to the first, as gradients come: kernels run in the order in which results are asked for, and
// what a gradient is made of is let go of before the next one's is made.
#include <algorithm>
#include <cmath>
#include <numbers>

#include <kontor/nn.h>

#include "base/error.h"
#include "graph/recording.h"
#include "graph/transforms/gradient.h"

namespace kontor::inline v0::nn {

namespace {

std::vector<Tensor> zeros_like(const std::vector<Parameter>& parameters) {
  std::vector<Tensor> out;
  for (const Parameter& p : parameters) out.push_back(Tensor::zeros(p.tensor->dims(), p.tensor->dtype()));
  return out;
}

std::vector<Tensor*> tensors_of(std::span<const Parameter> parameters) {
  std::vector<Tensor*> out;
  for (const Parameter& p : parameters) out.push_back(p.tensor);
  return out;
}

std::vector<Parameter> named(const std::vector<Parameter>& parameters, std::vector<Tensor>& state,
                             const char* suffix) {
  std::vector<Parameter> out;
  for (size_t i = 0; i < state.size(); ++i) out.push_back({parameters[i].name + suffix, &state[i]});
  return out;
}

}  // namespace

Optimizer::Optimizer(std::vector<Parameter> parameters, double rate) : lr(rate) {
  for (Parameter& p : parameters) (p.trained ? parameters_ : statistics_).push_back(std::move(p));
  if (parameters_.empty()) fail("optimizer: no parameters");
  if (!(rate > 0)) fail("optimizer: a learning rate of {}", rate);
  realize_all(tensors_of(parameters_));
  realize_all(tensors_of(statistics_));
}

Optimizer::~Optimizer() = default;

void Optimizer::step(std::span<const Tensor> gradients, const Tensor& only_if) {
  if (gradients.size() != parameters_.size())
    fail("{}: {} gradients for {} parameters", kind(), gradients.size(), parameters_.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].shape() != parameters_[i].tensor->shape())
      fail("{}: the gradient of {} has another shape than it", kind(), parameters_[i].name);
  }
  only_if_ = only_if;
  update(gradients);
  only_if_ = {};
  std::vector<Tensor*> changed = tensors_of(parameters_);
  for (const auto& others : {state(), statistics_})
    for (const Parameter& p : others) changed.push_back(p.tensor);
  for (Tensor& sum : sums_) changed.push_back(&sum);
  if (!sums_.empty()) changed.insert(changed.end(), {&losses_, &losses_count_});
  std::reverse(changed.begin(), changed.end());
  realize_all(changed);
}

void Optimizer::clip(double length) {
  if (!(length >= 0)) fail("{}: gradients of a length of {}", kind(), length);
  clip_ = length;
}

void Optimizer::scale_loss(double factor) {
  if (!(factor > 0 && std::isfinite(factor))) fail("{}: a loss times {}", kind(), factor);
  loss_scale_ = factor;
}

// As PyTorch's clip_grad_norm_.
static void clip_to(double length, std::vector<Tensor>& gradients) {
  Tensor total;
  for (const Tensor& g : gradients) {
    const Tensor squares = g.cast(DType::F32).square().sum();
    total = total.empty() ? squares : total + squares;
  }
  const Tensor factor = minimum(length / (total.sqrt() + 1e-6), 1.0);
  for (Tensor& g : gradients) g = g * factor.cast(g.dtype());
}

// Of parameters that are narrow in memory and that the loss reads as f32: the gradients of what it reads, which are f32.
static std::vector<Tensor> wide_gradients(const Tensor& loss, const std::vector<Parameter>& parameters) {
  const Ref root = node_of(loss);
  NodeSet read;
  for (const Node* n : topological(std::span(&root, 1))) read.insert(n);
  std::vector<Ref> leaves;
  for (const Parameter& p : parameters) {
    const Ref wide = node_of(p.tensor->cast(DType::F32));
    leaves.push_back(read.contains(wide.get()) ? wide : node_of(*p.tensor));
  }
  std::vector<Tensor> out;
  for (Ref& g : gradient(root, leaves)) out.push_back(tensor_of(std::move(g)));
  return out;
}

std::vector<Tensor> Optimizer::gradients_of(const Tensor& loss) const {
  const Tensor scaled = loss_scale_ == 1 ? loss : loss * loss_scale_;
  std::vector<Tensor> gradients;
  const auto narrow = [](const Parameter& p) { return item_size(p.tensor->dtype()) < item_size(DType::F32); };
  if (std::any_of(parameters_.begin(), parameters_.end(), narrow)) {
    gradients = wide_gradients(scaled, parameters_);
  } else {
    std::vector<Tensor> leaves;
    for (const Parameter& p : parameters_) leaves.push_back(*p.tensor);
    gradients = gradient(scaled, leaves);
  }
  if (loss_scale_ != 1)
    for (Tensor& g : gradients) g = g * (1 / loss_scale_);
  for (Tensor& g : gradients) g = where(g.isfinite(), g, 0);
  return gradients;
}

void Optimizer::step(const Tensor& loss) {
  std::vector<Tensor> gradients = gradients_of(loss);
  if (clip_ > 0) clip_to(clip_, gradients);
  step(gradients, loss.reshape({}).isfinite());
}

void Optimizer::keep_sums() {
  if (!sums_.empty()) return;
  sums_ = zeros_like(parameters_);
  losses_ = Tensor::zeros({}), losses_count_ = Tensor::zeros({});
  realize_all(sums_);
  realize_all(std::vector<Tensor*>{&losses_, &losses_count_});
}

void Optimizer::accumulate(const Tensor& loss) {
  if (sums_.empty()) fail("{}: no sums of gradients are kept; see keep_sums()", kind());
  const std::vector<Tensor> gradients = gradients_of(loss);
  std::vector<Tensor*> changed = tensors_of(statistics_);
  for (size_t i = sums_.size(); i-- > 0;) {
    sums_[i].assign(sums_[i] + gradients[i]);
    changed.push_back(&sums_[i]);
  }
  losses_.assign(losses_ + loss.reshape({}).cast(DType::F32));
  losses_count_.assign(losses_count_ + 1);
  changed.insert(changed.end(), {&losses_, &losses_count_});
  realize_all(changed);
}

void Optimizer::apply() {
  if (sums_.empty()) fail("{}: no sums of gradients are kept; see keep_sums()", kind());
  std::vector<Tensor> gradients;
  for (const Tensor& sum : sums_) gradients.push_back(sum / losses_count_.cast(sum.dtype()));
  if (clip_ > 0) clip_to(clip_, gradients);
  const Tensor finite = losses_.isfinite();
  for (Tensor& sum : sums_) sum.assign(full_like(sum, 0));
  losses_.assign(full_like(losses_, 0));
  losses_count_.assign(full_like(losses_count_, 0));
  step(gradients, finite);
}

void Optimizer::set(Tensor& state, const Tensor& value) const {
  const Tensor fitting = value.cast(state.dtype());
  state.assign(only_if_.empty() ? fitting : where(only_if_, fitting, state));
}

void Optimizer::write(size_t i, const Tensor& value) const {
  Tensor& x = *parameters_[i].tensor;
  const bool drawn = stochastic_ && item_size(x.dtype()) < item_size(value.dtype());
  set(x, drawn ? stochastic_cast(value, x.dtype()) : value);
}

SGD::SGD(std::vector<Parameter> parameters, double rate, double momentum, bool nesterov)
    : Optimizer(std::move(parameters), rate), momentum_(momentum), nesterov_(nesterov) {
  if (!(momentum >= 0 && momentum < 1)) fail("sgd: a momentum of {}", momentum);
  if (nesterov && momentum == 0) fail("sgd: Nesterov's form needs a momentum");
  if (momentum > 0) velocity_ = zeros_like(parameters_);
  realize_all(velocity_);
}

std::vector<Parameter> SGD::state() { return named(parameters_, velocity_, ".v"); }

void SGD::update(std::span<const Tensor> gradients) {
  for (size_t i = parameters_.size(); i-- > 0;) {
    const Tensor& g = gradients[i];
    const Tensor x = parameters_[i].tensor->cast(g.dtype());
    if (velocity_.empty()) {
      write(i, x - g * lr);
      continue;
    }
    const Tensor v = velocity_[i].cast(g.dtype()) * momentum_ + g;
    write(i, x - (nesterov_ ? g + v * momentum_ : v) * lr);
    set(velocity_[i], v);
  }
}

RMSprop::RMSprop(std::vector<Parameter> parameters, double rate, double alpha, double eps, double momentum)
    : Optimizer(std::move(parameters), rate), alpha_(alpha), eps_(eps), momentum_(momentum) {
  if (!(alpha >= 0 && alpha < 1)) fail("rmsprop: an alpha of {}", alpha);
  if (!(momentum >= 0 && momentum < 1)) fail("rmsprop: a momentum of {}", momentum);
  v_ = zeros_like(parameters_);
  if (momentum > 0) b_ = zeros_like(parameters_);
  realize_all(v_);
  realize_all(b_);
}

std::vector<Parameter> RMSprop::state() {
  std::vector<Parameter> all = named(parameters_, v_, ".v");
  for (Parameter& p : named(parameters_, b_, ".b")) all.push_back(std::move(p));
  return all;
}

void RMSprop::update(std::span<const Tensor> gradients) {
  for (size_t i = parameters_.size(); i-- > 0;) {
    const Tensor& g = gradients[i];
    const Tensor v = v_[i].cast(g.dtype()) * alpha_ + g * g * (1 - alpha_);
    Tensor by = g / (v.sqrt() + eps_);
    if (!b_.empty()) {
      by = b_[i].cast(g.dtype()) * momentum_ + by;
      set(b_[i], by);
    }
    write(i, parameters_[i].tensor->cast(g.dtype()) - by * lr);
    set(v_[i], v);
  }
}

// 1 / (1 - beta^t) of both moments: host numbers, since they are the same for all parameters.
struct Adam::Corrections {
  double beta1, beta2;
  int64_t steps = 0;
  Scalar first{1.0}, second{1.0};
  static void advance(void* self) {
    auto& c = *static_cast<Corrections*>(self);
    const auto t = static_cast<double>(++c.steps);
    c.first.set(1 / (1 - std::pow(c.beta1, t)));
    c.second.set(1 / (1 - std::pow(c.beta2, t)));
  }
};

/// A moment of each parameter: in its dtype, or rounded, with what it is to be multiplied by beside it.
struct Adam::Moments {
  Quantisation how;
  bool root;  // what is kept when rounded: the moment's, which is not negative
  std::vector<Tensor> data, scales, wholes;

  Moments(const std::vector<Parameter>& parameters, const Quantisation& quantisation, bool of_root, bool wide)
      : how(quantisation), root(of_root) {
    for (const Parameter& p : parameters) {
      const Tensor zero = Tensor::zeros(p.tensor->dims(), wide ? DType::F32 : p.tensor->dtype());
      if (!rounded()) {
        data.push_back(zero);
        continue;
      }
      const QuantisedTensor q = quantise(zero.cast(DType::F32), fitting(p.tensor->rank()));
      data.push_back(q.data), scales.push_back(q.scales), wholes.push_back(q.whole);
    }
    std::vector<Tensor*> all;
    for (std::vector<Tensor>* list : {&data, &scales, &wholes})
      for (Tensor& t : *list)
        if (!t.empty()) all.push_back(&t);
    realize_all(all);
  }

  bool rounded() const { return how.format != "f32"; }
  /// Of a tensor with fewer axes than a block: the block's last ones.
  Quantisation fitting(int64_t rank) const {
    Quantisation q = how;
    while (static_cast<int64_t>(q.block.size()) > rank) q.block.erase(q.block.begin());
    return q;
  }
  Tensor at(size_t i) const {
    if (!rounded()) return data[i];
    const Tensor value = dequantise({data[i], scales[i], wholes[i]}, fitting(data[i].rank()).block);
    return root ? value.square() : value;
  }
  std::vector<Parameter> named_by(const std::vector<Parameter>& parameters, const std::string& suffix) {
    std::vector<Parameter> out;
    for (size_t i = 0; i < data.size(); ++i) {
      out.push_back({parameters[i].name + suffix, &data[i]});
      if (!scales.empty()) out.push_back({parameters[i].name + suffix + ".scales", &scales[i]});
      if (!wholes.empty() && !wholes[i].empty())
        out.push_back({parameters[i].name + suffix + ".whole", &wholes[i]});
    }
    return out;
  }
};

Adam::Adam(std::vector<Parameter> parameters, double rate, double beta1, double beta2, double eps,
           const AdamStates& states)
    : Optimizer(std::move(parameters), rate),
      beta1_(beta1),
      beta2_(beta2),
      eps_(eps),
      m_(std::make_unique<Moments>(parameters_, states.m, false, states.wide)),
      v_(std::make_unique<Moments>(parameters_, states.v, true, states.wide)),
      corrections_(std::make_shared<Corrections>(Corrections{beta1, beta2})) {
  write_stochastically(states.stochastic);
  if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)) fail("adam: betas {} and {}", beta1, beta2);
}

Adam::~Adam() = default;

std::vector<Parameter> Adam::state() {
  std::vector<Parameter> all = m_->named_by(parameters_, ".m");
  for (Parameter& p : v_->named_by(parameters_, ".v")) all.push_back(std::move(p));
  return all;
}

int64_t Adam::steps() const { return corrections_->steps; }
void Adam::set_steps(int64_t steps) { corrections_->steps = steps; }

void Adam::keep(Moments& moments, size_t i, const Tensor& value) const {
  if (!moments.rounded()) return set(moments.data[i], value);
  const Tensor wide = value.cast(DType::F32);
  const QuantisedTensor q = quantise(moments.root ? wide.sqrt() : wide, moments.fitting(wide.rank()));
  set(moments.data[i], q.data);
  set(moments.scales[i], q.scales);
  if (!q.whole.empty()) set(moments.wholes[i], q.whole);
}

void Adam::update(std::span<const Tensor> gradients) {
  at_each_call(corrections_, Corrections::advance);
  for (size_t i = parameters_.size(); i-- > 0;) {
    // A rounded moment, or a weight that is written stochastically, is computed with in f32.
    const bool widened = m_->rounded() || v_->rounded() || stochastic_;
    const Tensor g = widened ? gradients[i].cast(DType::F32) : gradients[i];
    const Tensor x = parameters_[i].tensor->cast(g.dtype());
    const Tensor m = m_->at(i).cast(g.dtype()) * beta1_ + g * (1 - beta1_);
    const Tensor v = v_->at(i).cast(g.dtype()) * beta2_ + g * g * (1 - beta2_);
    const double decay = decays_.empty() ? 0 : decays_[i];
    const Tensor kept = decay > 0 ? x * (1 - Tensor(lr) * decay) : x;
    const Tensor next = kept - m * corrections_->first * lr / ((v * corrections_->second).sqrt() + eps_);
    write(i, next);
    keep(*m_, i, m);
    keep(*v_, i, v);
  }
}

std::vector<ParameterGroup> decay_groups(std::span<const Parameter> parameters, double decay) {
  std::vector<ParameterGroup> groups{{{}, decay}, {{}, 0}};
  for (const Parameter& p : parameters) groups[p.tensor->rank() >= 2 ? 0 : 1].parameters.push_back(p);
  return groups;
}

static std::vector<Parameter> joined(std::string_view who, std::span<const ParameterGroup> groups) {
  std::vector<Parameter> all;
  for (const ParameterGroup& g : groups) {
    if (!(g.decay >= 0)) fail("{}: a decay of {}", who, g.decay);
    all.insert(all.end(), g.parameters.begin(), g.parameters.end());
  }
  return all;
}

/// A number for each that is trained.
static std::vector<double> decays_of(std::span<const ParameterGroup> groups) {
  std::vector<double> out;
  for (const ParameterGroup& g : groups)
    for (const Parameter& p : g.parameters)
      if (p.trained) out.push_back(g.decay);
  return out;
}

AdamW::AdamW(std::span<const ParameterGroup> groups, double rate, double beta1, double beta2, double eps,
             const AdamStates& states)
    : Adam(joined("adamw", groups), rate, beta1, beta2, eps, states) {
  decays_ = decays_of(groups);
}

Lion::Lion(std::span<const ParameterGroup> groups, double rate, double beta1, double beta2)
    : Optimizer(joined("lion", groups), rate),
      beta1_(beta1),
      beta2_(beta2),
      decays_(decays_of(groups)),
      m_(zeros_like(parameters_)) {
  if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)) fail("lion: betas {} and {}", beta1, beta2);
  realize_all(m_);
}

std::vector<Parameter> Lion::state() { return named(parameters_, m_, ".m"); }

void Lion::update(std::span<const Tensor> gradients) {
  for (size_t i = parameters_.size(); i-- > 0;) {
    const Tensor& g = gradients[i];
    const Tensor x = parameters_[i].tensor->cast(g.dtype()), m = m_[i].cast(g.dtype());
    const Tensor way = (m * beta1_ + g * (1 - beta1_)).sign();
    write(i, x - (decays_[i] > 0 ? way + x * decays_[i] : way) * lr);
    set(m_[i], m * beta2_ + g * (1 - beta2_));
  }
}

double WarmupCosine::at(int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double left = static_cast<double>(std::max<int64_t>(steps - 1 - warmup, 1)),
               part = std::min(static_cast<double>(step - warmup) / left, 1.0);
  return least + (peak - least) * (1 + std::cos(part * std::numbers::pi)) / 2;
}

}  // namespace kontor::inline v0::nn
