// FeedbackTrainer: a clean pass, noise in the groups that are drawn, an update; between steps, on the host, the matrices.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/threefry.h"
#include "marketplace/feedback_record.h"

namespace kontor::inline v0::marketplace {

namespace {

constexpr uint64_t kNoiseUse = 0x6e6f697365, kDrawUse = 0x67726f757073;  // "noise", "groups"
constexpr int kGroupShift = 24,
              kStepShift = 36;  // of a noise counter: 2^24 blocks a group, 2^12 groups a step

/// What is learned of one group.
struct Memory {
  Tensor products, squares, matrix;  // [width, classes], [classes, classes], [width, classes]
};

/// L of S = L L^T, S [n, n] symmetric and positive definite; lower triangle, in place.
void factorize(std::vector<double>& s, size_t n) {
  for (size_t j = 0; j < n; ++j) {
    for (size_t i = j; i < n; ++i) {
      double x = s[i * n + j];
      for (size_t k = 0; k < j; ++k) x -= s[i * n + k] * s[j * n + k];
      s[i * n + j] = i == j ? std::sqrt(x) : x / s[j * n + j];
    }
  }
}

/// x of x S = b for each row of b.
void solve(const std::vector<double>& l, size_t n, double* b) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= l[i * n + k] * b[k];
    b[i] /= l[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) b[i] -= l[k * n + i] * b[k];
    b[i] /= l[i * n + i];
  }
}

/// Q (S + ridge * mean of S's diagonal)^-1.
std::vector<float> matrix_of(const Memory& m, double ridge) {
  std::vector<double> s = m.squares.to_vector<double>(), q = m.products.to_vector<double>();
  const auto n = static_cast<size_t>(m.squares.size(0));
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += s[i * n + i];
  const double added = ridge * trace / static_cast<double>(n);
  if (!(added > 0) || !std::isfinite(added)) return std::vector<float>(q.size(), 0.0F);
  for (size_t i = 0; i < n; ++i) s[i * n + i] += added;
  factorize(s, n);
  for (size_t row = 0; row < q.size(); row += n) solve(s, n, &q[row]);
  return {q.begin(), q.end()};
}

void check(const FeedbackOptions& o) {
  const auto part = [](double x) { return x >= 0 && x < 1; };
  if (!(o.lr > 0 && std::isfinite(o.lr))) fail("feedback: a learning rate of {}", o.lr);
  if (!(o.sigma > 0 && std::isfinite(o.sigma))) fail("feedback: noise of {}", o.sigma);
  if (!part(o.beta2)) fail("feedback: a beta2 of {}; it is below 1", o.beta2);
  if (!part(o.memory)) fail("feedback: a memory of {}; it is below 1", o.memory);
  if (!(o.ridge > 0 && std::isfinite(o.ridge))) fail("feedback: a ridge of {}", o.ridge);
  if (!(o.correction >= 0 && std::isfinite(o.correction))) fail("feedback: a correction of {}", o.correction);
  if (o.groups < 1) fail("feedback: {} groups with noise a step", o.groups);
  if (o.all_in_first < 0) fail("feedback: all groups in the first {} steps", o.all_in_first);
}

}  // namespace

struct FeedbackTrainer::State {
  std::vector<nn::Parameter> parameters;
  nn::Objective objective;
  FeedbackOptions options;
  double lr;
  std::vector<nn::Parameter> others = {};  // what stays as it is
  std::unique_ptr<nn::Adam> adam = {};
  std::vector<std::string> names = {};
  std::vector<int64_t> widths = {};  // of the groups; 0: exact
  int64_t classes = 0;
  std::vector<Memory> memories = {};
  Scalar key{int64_t{0}, DType::U64};
  std::vector<Scalar> counters = {}, corrections = {};
  std::vector<Jit> clean = {}, noise = {}, update = {};
  double clean_operations = 0, update_operations = 0;
  std::vector<double> noise_operations = {};

  struct Noise {
    State* state;
    size_t group;
  };

  Leader leader(const Tensor& x, const Tensor& labels) const {
    return without_checkpoints(record_leader(objective, x, labels, parameters, 1));
  }
  FeedbackParts parts(const Tensor& x, const Tensor& labels) const {
    return find_feedback_parts(leader(x, labels), parameters);
  }
  void start(const Tensor& x, const Tensor& labels);
  void make_memories();
  void make_functions();
  FeedbackRecorder recorder(FeedbackParts parts, std::span<const Tensor> in) const;
  std::vector<Tensor> record_clean(const Tensor& x, const Tensor& labels);
  std::vector<Tensor> record_noise(size_t group, std::span<const Tensor> in);
  std::vector<Tensor> record_update(std::span<const Tensor> in);
  std::vector<size_t> drawn(int64_t step) const;
  void set_scalars(int64_t step, const std::vector<size_t>& noisy);
};

void FeedbackTrainer::State::start(const Tensor& x, const Tensor& labels) {
  const FeedbackParts p = parts(x, labels);
  std::vector<std::string> found;
  std::vector<int64_t> found_widths;
  for (const NoiseGroup& g : p.groups) {
    found.push_back(g.name);
    found_widths.push_back(g.exact ? 0 : extent(g.seen->shape.back()));
  }
  const int64_t count = extent(p.head().output->shape.back());
  const bool fresh = memories.empty();
  if (!fresh && (found_widths != widths || classes != count))
    fail("feedback: the checkpoint's groups are not those of the model");
  names = std::move(found), widths = std::move(found_widths), classes = count;
  if (fresh) make_memories();
  make_functions();
}

void FeedbackTrainer::State::make_memories() {
  for (const int64_t width : widths) {
    Memory m;
    if (width > 0) {
      m = {Tensor::zeros({width, classes}), Tensor::zeros({classes, classes}),
           Tensor::zeros({width, classes})};
      m.products.realize(), m.squares.realize(), m.matrix.realize();
    }
    memories.push_back(std::move(m));
  }
}

void FeedbackTrainer::State::make_functions() {
  for (size_t g = 0; g < names.size(); ++g) {
    counters.emplace_back(int64_t{0}, DType::U64);
    corrections.emplace_back(0.0);
    noise_operations.push_back(0);
  }
  clean.emplace_back(std::make_shared<State*>(this), [](void* self, std::span<const Tensor> in) {
    return (*static_cast<State**>(self))->record_clean(in[0], in[1]);
  });
  for (size_t g = 0; g < names.size(); ++g)
    noise.emplace_back(std::make_shared<Noise>(Noise{this, g}), [](void* self, std::span<const Tensor> in) {
      const Noise& n = *static_cast<Noise*>(self);
      return n.state->record_noise(n.group, in);
    });
  update.emplace_back(std::make_shared<State*>(this), [](void* self, std::span<const Tensor> in) {
    return (*static_cast<State**>(self))->record_update(in);
  });
}

std::vector<Tensor> FeedbackTrainer::State::record_clean(const Tensor& x, const Tensor& labels) {
  const Leader clean_leader = leader(x, labels);
  const FeedbackParts p = find_feedback_parts(clean_leader, parameters);
  std::vector<Tensor> out{tensor_of(clean_leader.loss)};
  for (const Ref& k : p.kept) out.push_back(tensor_of(k));
  clean_operations = nn::product_operations(out);
  return out;
}

// Of the inputs the first two are x and labels, then come the kept values.
FeedbackRecorder FeedbackTrainer::State::recorder(FeedbackParts parts, std::span<const Tensor> in) const {
  FeedbackInputs inputs;
  inputs.key = node_of(Tensor(key));
  for (const Scalar& s : counters) inputs.counters.push_back(node_of(Tensor(s)));
  for (const Scalar& s : corrections) inputs.corrections.push_back(node_of(Tensor(s)));
  std::vector<Ref> values;
  for (const Tensor& t : in.subspan(2, parts.kept.size())) values.push_back(node_of(t));
  return {std::move(parts), options, std::move(inputs), std::move(values)};
}

std::vector<Tensor> FeedbackTrainer::State::record_noise(size_t g, std::span<const Tensor> in) {
  const FeedbackRecorder r = recorder(parts(in[0], in[1]), in);
  Memory& m = memories[g];
  const Ref differences = r.differences(g);
  const FeedbackMemory next = r.remembered(g, differences, {node_of(m.products), node_of(m.squares)});
  const std::vector<Tensor> all{tensor_of(differences), tensor_of(next.products), tensor_of(next.squares)};
  noise_operations[g] = nn::product_operations(all);
  m.products.assign(all[1]), m.squares.assign(all[2]);
  return {all[0]};
}

// Behind the kept values come the differences of the groups that have a matrix. Parameters of no layer get gradients of 0.
std::vector<Tensor> FeedbackTrainer::State::record_update(std::span<const Tensor> in) {
  const Leader clean_leader = leader(in[0], in[1]);
  FeedbackParts p = find_feedback_parts(clean_leader, parameters);
  size_t at = 2 + p.kept.size();
  std::vector<Ref> matrices, differences;
  for (size_t g = 0; g < names.size(); ++g) {
    matrices.push_back(widths[g] > 0 ? node_of(memories[g].matrix) : Ref());
    differences.push_back(widths[g] > 0 ? node_of(in[at++]) : Ref());
  }
  std::vector<Tensor> gradients;
  Tensor fine;
  for (const Ref& g : recorder(std::move(p), in).gradients(matrices, differences, clean_leader.marks)) {
    gradients.push_back(tensor_of(g));
    const Tensor own = gradients.back().isfinite().all();
    fine = fine.empty() ? own : fine & own;
  }
  update_operations = nn::product_operations(gradients);
  adam->step(gradients, fine);
  return {fine};
}

std::vector<size_t> FeedbackTrainer::State::drawn(int64_t step) const {
  std::vector<size_t> all;
  for (size_t g = 0; g < widths.size(); ++g)
    if (widths[g] > 0) all.push_back(g);
  const auto count = static_cast<size_t>(options.groups);
  if (step < options.all_in_first || count >= all.size()) return all;
  const uint64_t draws = subkey(options.seed, kDrawUse);
  for (size_t i = 0; i < count; ++i) {  // the first of a shuffle
    const uint64_t at = random_below(draws, static_cast<uint64_t>(step) * count + i, all.size() - i);
    std::swap(all[i], all[i + static_cast<size_t>(at)]);
  }
  all.resize(count);
  return all;
}

void FeedbackTrainer::State::set_scalars(int64_t step, const std::vector<size_t>& noisy) {
  key.set(static_cast<int64_t>(subkey(options.seed, kNoiseUse) & INT64_MAX));  // as a Scalar is set
  for (size_t g = 0; g < names.size(); ++g) {
    counters[g].set((step << kStepShift) + (static_cast<int64_t>(g) << kGroupShift));
    const bool here = std::find(noisy.begin(), noisy.end(), g) != noisy.end();
    corrections[g].set(here ? options.correction : 0.0);
  }
  adam->lr.set(lr);
}

FeedbackTrainer::FeedbackTrainer(std::vector<nn::Parameter> parameters, nn::Objective objective,
                                 FeedbackOptions options) {
  check(options);
  const double lr = options.lr;
  const auto kept =
      std::stable_partition(parameters.begin(), parameters.end(), [](const auto& p) { return p.trained; });
  std::vector<nn::Parameter> others(kept, parameters.end());
  parameters.erase(kept, parameters.end());
  state_ = std::make_unique<State>(State{std::move(parameters), std::move(objective), options, lr});
  State& s = *state_;
  s.others = std::move(others);
  std::vector<Tensor*> tensors;
  for (const auto& some : {s.parameters, s.others})
    for (const nn::Parameter& p : some) tensors.push_back(p.tensor);
  realize_all(tensors);
  s.adam = std::make_unique<nn::Adam>(s.parameters, lr, 0.9, options.beta2);
}

FeedbackTrainer::~FeedbackTrainer() = default;
double FeedbackTrainer::learning_rate() const { return state_->lr; }
void FeedbackTrainer::set_learning_rate(double lr) {
  if (!(lr > 0 && std::isfinite(lr))) fail("feedback: a learning rate of {}", lr);
  state_->lr = lr;
}
const std::vector<std::string>& FeedbackTrainer::groups() const { return state_->names; }

nn::Metrics FeedbackTrainer::run(const Tensor& x, const Tensor& labels) {
  State& s = *state_;
  if (s.clean.empty()) s.start(x, labels);
  const std::vector<size_t> noisy = s.drawn(steps_);
  s.set_scalars(steps_, noisy);
  std::vector<Tensor> in{x, labels};
  const std::vector<Tensor> clean = s.clean[0](in);
  const auto loss = clean[0].item<double>();
  if (!std::isfinite(loss))  // and nothing was changed
    fail("feedback: the loss of step {} is {}; the learning rate {:g} may be too high", steps_ + 1, loss,
         s.lr);
  in.insert(in.end(), clean.begin() + 1, clean.end());
  const std::vector<Tensor> pass = in;
  double operations = s.clean_operations;
  const Tensor none = Tensor::zeros(labels.dims()).realize();
  for (size_t g = 0; g < s.widths.size(); ++g) {
    if (s.widths[g] == 0) continue;
    const bool here = std::find(noisy.begin(), noisy.end(), g) != noisy.end();
    in.push_back(here ? s.noise[g](pass)[0] : none);
    if (here) operations += s.noise_operations[g];
  }
  const int64_t before = s.adam->steps();
  if (s.update[0](in)[0].item<double>() == 0) {
    s.adam->set_steps(before);
    warnings_.push_back(
        fmt::format("feedback: step {}: a gradient is not finite: nothing moves", steps_ + 1));
  }
  operations += s.update_operations;
  for (const size_t g : noisy) {
    Memory& m = s.memories[g];
    m.matrix.assign(Tensor::from(matrix_of(m, s.options.ridge), m.matrix.dims()));
    m.matrix.realize();
  }
  return {.loss = loss, .accuracy = std::numeric_limits<double>::quiet_NaN(), .operations = operations};
}

std::vector<nn::Parameter> FeedbackTrainer::tensors() {
  State& s = *state_;
  std::vector<nn::Parameter> all = s.parameters;
  all.insert(all.end(), s.others.begin(), s.others.end());
  for (nn::Parameter& p : s.adam->state()) all.push_back(std::move(p));
  for (size_t g = 0; g < s.memories.size(); ++g) {
    Memory& m = s.memories[g];
    if (s.widths[g] == 0) continue;
    const auto name = [&](const char* what) { return fmt::format("feedback.{}.{}", g, what); };
    all.push_back({name("products"), &m.products}), all.push_back({name("squares"), &m.squares});
    all.push_back({name("matrix"), &m.matrix});
  }
  return all;
}

nn::Metadata FeedbackTrainer::settings() const {
  const State& s = *state_;
  const FeedbackOptions& o = s.options;
  nn::Metadata all{{"method", "marketplace"},
                   {"plan", "feedback"},
                   {"seed", std::to_string(o.seed)},
                   {"noise", fmt::format("sigma {}, memory {}, ridge {}, correction {}, {} groups, all in {}",
                                         o.sigma, o.memory, o.ridge, o.correction, o.groups, o.all_in_first)},
                   {"beta2", fmt::format("{}", o.beta2)}};
  if (s.widths.empty()) return all;
  all["widths"] = fmt::format("{}", fmt::join(s.widths, ","));
  all["classes"] = std::to_string(s.classes);
  return all;
}

nn::Metadata FeedbackTrainer::progress() const {
  return {{"lr", fmt::format("{:.17g}", state_->lr)},
          {"optimizer_steps", std::to_string(state_->adam->steps())}};
}

// The memories as large as the checkpoint says, before they are read.
void FeedbackTrainer::prepare(const nn::Metadata& metadata) {
  constexpr int64_t most = int64_t{1} << 28;  // numbers that a checkpoint may ask for
  State& s = *state_;
  if (!s.memories.empty()) return;
  const auto number = [](const std::string& text) {
    int64_t value = -1;
    const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || stop != text.data() + text.size() || value < 0 || value > most)
      fail("'{}' is no size of what feedback has learned", text);
    return value;
  };
  for (const char* key : {"widths", "classes"})
    if (!metadata.contains(key)) fail("is no checkpoint: it says nothing of '{}'", key);
  const std::string& list = metadata.at("widths");
  const int64_t classes = number(metadata.at("classes"));
  int64_t total = 0;
  std::vector<int64_t> widths;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    widths.push_back(number(list.substr(begin, end - begin)));
    total += classes > 0 ? (2 * widths.back() + classes) : 0;
    if (classes > 0 && total > most / classes) fail("'{}' is more than feedback can have learned", list);
    begin = end + 1;
  }
  s.widths = std::move(widths), s.classes = classes;
  s.make_memories();
}

void FeedbackTrainer::restore(const nn::Metadata& metadata) {
  state_->lr = number(metadata, "lr");
  state_->adam->set_steps(static_cast<int64_t>(number(metadata, "optimizer_steps")));
}

}  // namespace kontor::inline v0::marketplace
