// Trainers: what a step and a checkpoint are, whatever the method; training by gradients; evaluation.
#include <charconv>
#include <chrono>
#include <cmath>
#include <limits>
#include <tuple>

#include <kontor/nn.h>

#include "base/error.h"
#include "graph/folds.h"
#include "graph/recording.h"
#include "nn/operations.h"

namespace kontor::inline v0::nn {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::string exact(double value) { return fmt::format("{:.17g}", value); }

const std::string& entry(const Metadata& metadata, const std::string& key) {
  const auto it = metadata.find(key);
  if (it == metadata.end()) fail("is no checkpoint: it says nothing of '{}'", key);
  return it->second;
}

// The whole entry as a number of this type: no sign but a minus, no space, no other base.
template <class Number>
Number number_of(const Metadata& metadata, const std::string& key) {
  const std::string& text = entry(metadata, key);
  Number value{};
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || stop != text.data() + text.size()) fail("'{}' is '{}', not a number", key, text);
  return value;
}

// Steps that no run reaches, and that can still be counted on and multiplied by a batch.
constexpr uint64_t kMostSteps = uint64_t{1} << 40;

uint64_t steps_of(const Metadata& metadata, const std::string& key) {
  const auto steps = number_of<uint64_t>(metadata, key);
  if (steps > kMostSteps) fail("'{}' is {}, more than {} steps", key, steps, kMostSteps);
  return steps;
}

// What progress() of a method says is a number, and where the options have limits for it, within them.
void check_progress(const Metadata& metadata, const std::string& key) {
  constexpr double kAny = std::numeric_limits<double>::infinity();
  constexpr std::pair<std::string_view, double> limits[] = {
      {"lr", kAny}, {"lr_decay", 1}, {"meta_lr_range", 1}};  // at least 0 (after a long decay), below this
  if (key == "optimizer_steps") return void(steps_of(metadata, key));
  const auto value = number_of<double>(metadata, key);
  for (const auto& [name, limit] : limits)
    if (key == name && !(value >= 0 && value < limit))
      fail("'{}' is '{}', not at least 0 and below {}", key, entry(metadata, key), limit);
}

// Loss, and accuracy if there is one, as what a jit function returns.
std::vector<Tensor> together(Score score) {
  if (score.loss.elements() != 1) fail("objective: the loss has {} elements, not one", score.loss.elements());
  if (score.accuracy.empty()) return {score.loss};
  return {score.loss, score.accuracy};
}

}  // namespace

double product_operations(std::span<const Tensor> values) {
  std::vector<Ref> roots;
  for (const Tensor& v : values) roots.push_back(node_of(v));
  double total = 0;
  for (const Node* n : topological(roots)) total += product_operations(*n);
  return total;
}

double product_operations(const Node& node) {
  if (node.op != Op::Reduce || !row(fold_in(node)).is_dot) return 0;
  double steps = 1;
  for (const Ref& d : node.src[0]->shape) steps *= static_cast<double>(d->bounds.hi);
  return 2 * steps;
}

Trainer::~Trainer() = default;

Metrics Trainer::step(const Tensor& x, const Tensor& labels) {
  const auto begin = std::chrono::steady_clock::now();
  Metrics metrics = run(x, labels);
  metrics.step = ++steps_;
  metrics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return metrics;
}

void Trainer::save(const std::string& path, const Metadata& more) {
  Metadata metadata = more;
  for (const auto& part : {settings(), progress()}) metadata.insert(part.begin(), part.end());
  metadata["steps"] = std::to_string(steps_);
  metadata["context_seed"] = std::to_string(Context::current().seed());
  metadata["context_counter"] = std::to_string(Context::current().random_counter());
  save_parameters(path, tensors(), metadata);
}

double Trainer::number(const Metadata& metadata, const std::string& key) {
  return number_of<double>(metadata, key);
}

// What differs in a checkpoint from the settings that have to be equal, the method first: others are of the method.
static void compare_settings(const Metadata& saved, const Metadata& settings) {
  const auto compare = [&](const std::string& key, const std::string& value) {
    if (const std::string& was = entry(saved, key); was != value)
      fail("was trained with {} '{}', not '{}'", key, was, value);
  };
  compare("method", settings.at("method"));
  for (const auto& [key, value] : settings) compare(key, value);
}

Metadata Trainer::load(const std::string& path) {
  Metadata metadata = load_metadata(path);
  uint64_t steps = 0, seed = 0, counter = 0;
  try {
    compare_settings(metadata, settings());
    steps = steps_of(metadata, "steps"), seed = number_of<uint64_t>(metadata, "context_seed");
    counter = number_of<uint64_t>(metadata, "context_counter");
    prepare(metadata);
    for (const auto& [key, value] : progress()) check_progress(metadata, key);  // before anything is changed
  } catch (const Error& error) {
    fail("{}: {}", path, error.what());
  }
  load_parameters(path, tensors());
  restore(metadata);
  steps_ = static_cast<int64_t>(steps);
  Context::current().seed(seed);
  Context::current().set_random_counter(counter);
  return metadata;
}

struct BackpropTrainer::State {
  Objective objective;
  std::unique_ptr<Optimizer> optimizer;
  double lr, decay;
  int64_t parts;
  double operations = 0;                                // of a batch, or of a part of one
  std::vector<Jit> forward_and_back = {}, update = {};  // of one part the first does all

  std::vector<Tensor> record(const Tensor& x, const Tensor& labels) {
    Score score = objective(x, labels);
    operations = 3 * product_operations(std::span(&score.loss, 1));
    if (parts > 1) optimizer->accumulate(score.loss);
    else optimizer->step(score.loss);
    return together(std::move(score));
  }
  static std::vector<Tensor> trace(void* self, std::span<const Tensor> in) {
    return (*static_cast<State**>(self))->record(in[0], in[1]);
  }
  static std::vector<Tensor> trace_update(void* self, std::span<const Tensor>) {
    (*static_cast<State**>(self))->optimizer->apply();
    return {};
  }

  // Mean loss and accuracy (NaN: none) before the update that is made.
  std::pair<double, double> step(const Tensor& x, const Tensor& labels) {
    if (x.rank() == 0 || labels.rank() == 0 || x.size(0) % parts != 0 || labels.size(0) != x.size(0))
      fail("backprop: {} parts of a batch of {} and {} labels", parts, x.rank() ? x.size(0) : 0,
           labels.rank() ? labels.size(0) : 0);
    const int64_t size = x.size(0) / parts;
    std::vector<std::vector<Tensor>> out;
    for (int64_t i = 0; i < parts; ++i) {
      const auto part = [&](const Tensor& all) { return all.slice(0, i * size, (i + 1) * size); };
      out.push_back(forward_and_back[0](std::vector<Tensor>{part(x), part(labels)}));
    }
    update[0](std::span<const Tensor>());
    return {mean_of(out, 0), mean_of(out, 1)};
  }
  static double mean_of(std::vector<std::vector<Tensor>>& out, size_t which) {
    double sum = 0;
    for (std::vector<Tensor>& o : out) sum += which < o.size() ? o[which].item<double>() : kNone;
    return sum / static_cast<double>(out.size());
  }
};

BackpropTrainer::BackpropTrainer(Objective objective, std::unique_ptr<Optimizer> optimizer, double lr_decay,
                                 int64_t parts)
    : state_(std::make_unique<State>(State{std::move(objective), std::move(optimizer), 0, lr_decay, parts})) {
  if (!(lr_decay >= 0 && lr_decay < 1)) fail("backprop: a learning rate decay of {}", lr_decay);
  if (parts < 1) fail("backprop: a batch in {} parts", parts);
  state_->lr = state_->optimizer->lr.value();
  if (parts > 1) state_->optimizer->keep_sums();
  state_->forward_and_back.emplace_back(std::make_shared<State*>(state_.get()), &State::trace);
  state_->update.emplace_back(std::make_shared<State*>(state_.get()), &State::trace_update);
}

BackpropTrainer::~BackpropTrainer() = default;
double BackpropTrainer::learning_rate() const { return state_->lr; }
void BackpropTrainer::set_learning_rate(double lr) {
  if (!(lr > 0 && std::isfinite(lr))) fail("backprop: a learning rate of {}", lr);
  state_->lr = lr;
}

Optimizer& BackpropTrainer::optimizer() { return *state_->optimizer; }

Metrics BackpropTrainer::run(const Tensor& x, const Tensor& labels) {
  State& s = *state_;
  s.optimizer->lr.set(s.lr);
  const int64_t before = s.optimizer->steps();
  std::vector<Tensor> statistics;  // as they are, also after parts of the batch
  for (const Parameter& p : s.optimizer->statistics()) statistics.push_back(*p.tensor);
  double loss = 0, accuracy = kNone;
  if (s.parts == 1) {
    const std::vector<Tensor> out = s.forward_and_back[0](std::vector<Tensor>{x, labels});
    loss = out[0].item<double>();
    if (out.size() > 1) accuracy = out[1].item<double>();
  } else {
    std::tie(loss, accuracy) = s.step(x, labels);
  }
  if (!std::isfinite(loss)) {  // and nothing was changed
    s.optimizer->set_steps(before);
    for (size_t i = 0; i < statistics.size(); ++i) {
      Tensor& now = *s.optimizer->statistics()[i].tensor;
      now.assign(statistics[i]), now.realize();
    }
    fail("backprop: the loss of step {} is {}; the learning rate {:g} may be too high", steps_ + 1, loss,
         s.lr);
  }
  s.lr *= 1 - s.decay;
  return {.loss = loss, .accuracy = accuracy, .operations = s.operations * static_cast<double>(s.parts)};
}

std::vector<Parameter> BackpropTrainer::tensors() {
  std::vector<Parameter> all = state_->optimizer->parameters();
  for (const auto& more : {state_->optimizer->statistics(), state_->optimizer->state()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

Metadata BackpropTrainer::settings() const {
  return {{"method", "backprop"}, {"optimizer", std::string(state_->optimizer->kind())}};
}

Metadata BackpropTrainer::progress() const {
  return {{"lr", exact(state_->lr)},
          {"lr_decay", exact(state_->decay)},
          {"optimizer_steps", std::to_string(state_->optimizer->steps())}};
}

void BackpropTrainer::restore(const Metadata& metadata) {
  const double lr = number(metadata, "lr"), decay = number(metadata, "lr_decay");
  const uint64_t steps = steps_of(metadata, "optimizer_steps");
  state_->lr = lr, state_->decay = decay;
  state_->optimizer->set_steps(static_cast<int64_t>(steps));
}

struct Evaluator::State {
  Objective objective;
  double samples = 0, loss = 0, accuracy = 0;
  double operations = 0;  // of the last batch recorded, a sample
  Metrics total = {};
  std::vector<Jit> score = {};

  static std::vector<Tensor> trace(void* self, std::span<const Tensor> in) {
    State& s = **static_cast<State**>(self);
    Score score = s.objective(in[0], in[1]);
    s.operations = product_operations(std::span(&score.loss, 1)) / static_cast<double>(in[0].size(0));
    return together(std::move(score));
  }
};

Evaluator::Evaluator(Objective objective) : state_(std::make_unique<State>(State{std::move(objective)})) {
  state_->score.emplace_back(std::make_shared<State*>(state_.get()), &State::trace);
}

Evaluator::~Evaluator() = default;

void Evaluator::add(const Tensor& x, const Tensor& labels) {
  State& s = *state_;
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<Tensor> out = s.score[0](std::vector<Tensor>{x, labels});
  const auto count = static_cast<double>(x.size(0));
  s.samples += count;
  s.loss += count * out[0].item<double>();
  s.accuracy += count * (out.size() > 1 ? out[1].item<double>() : kNone);
  s.total.operations += count * s.operations;
  s.total.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Metrics Evaluator::result() {
  State& s = *state_;
  if (s.samples == 0) fail("evaluator: no batch was added");
  Metrics out = s.total;
  out.loss = s.loss / s.samples;
  out.accuracy = s.accuracy / s.samples;
  s.samples = s.loss = s.accuracy = 0;
  s.total = {};
  return out;
}

}  // namespace kontor::inline v0::nn
