// Generation: a token a call, from keys and values that are kept, chosen on the host by a counter generator.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <kontor/transformer.h>

#include "base/error.h"
#include "base/threefry.h"

namespace kontor::inline v0::nn {

namespace {

constexpr uint64_t kChoiceUse =
    0x746f6b656e;  // "token": keeps these draws apart from others of the same seed

void check(const Choice& c) {
  if (!(c.temperature >= 0 && std::isfinite(c.temperature)))
    fail("generator: a temperature of {}", c.temperature);
  if (c.top_k < 0) fail("generator: the greatest {} tokens", c.top_k);
  if (!(c.top_p > 0 && c.top_p <= 1)) fail("generator: tokens of a probability of {}", c.top_p);
  if (!(c.repetition_penalty > 0 && std::isfinite(c.repetition_penalty)))
    fail("generator: a repetition penalty of {}", c.repetition_penalty);
}

/// Tokens from the greatest logit down, of equals the first one first; those that top_k keeps.
std::vector<size_t> ranked(const std::vector<double>& logits, int64_t top_k) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(top_k)));
  return order;
}

int64_t choose(std::vector<double> logits, const std::vector<bool>& seen, const Choice& c, uint64_t drawn) {
  for (size_t i = 0; i < logits.size(); ++i)
    if (seen[i]) logits[i] *= logits[i] > 0 ? 1 / c.repetition_penalty : c.repetition_penalty;
  std::vector<size_t> order = ranked(logits, c.temperature == 0 ? 1 : c.top_k);
  if (order.size() == 1) return static_cast<int64_t>(order[0]);
  std::vector<double> weights;
  for (const size_t i : order) weights.push_back(std::exp((logits[i] - logits[order[0]]) / c.temperature));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  double kept = 0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < c.top_p * all)) kept += weights[count++];
  double at = static_cast<double>(random_bits64(subkey(c.seed, kChoiceUse), drawn) >> 11) * 0x1p-53 * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    if (at < weights[i]) return static_cast<int64_t>(order[i]);
    at -= weights[i];
  }
  return static_cast<int64_t>(order[count - 1]);
}

}  // namespace

struct Generator::State {
  const Gpt& model;
  Choice choice;
  std::vector<KeyValues> past;
  Scalar token{int64_t{0}}, place{int64_t{0}};
  std::vector<int64_t> context = {};  // the tokens whose keys and values are kept
  std::vector<bool> seen = {};
  std::vector<double> logits = {};
  uint64_t drawn = 0;
  std::vector<Jit> step = {};

  static std::vector<Tensor> trace(void* self, std::span<const Tensor>) {
    State& s = **static_cast<State**>(self);
    return {s.model.step(s.token, s.place, s.past)};
  }

  void run(int64_t id) {
    token.set(id), place.set(static_cast<int64_t>(context.size()));
    logits = step[0](std::span<const Tensor>{})[0].to_vector<double>();
    context.push_back(id);
  }

  void read(int64_t id) {
    if (static_cast<int64_t>(context.size()) == model.options.context) {
      const std::vector<int64_t> later(context.begin() + static_cast<ptrdiff_t>(context.size() / 2 + 1),
                                       context.end());
      context.clear();
      for (const int64_t t : later) run(t);
    }
    run(id);
    seen[static_cast<size_t>(id)] = true;
  }
};

Generator::Generator(const Gpt& model, const Choice& choice) {
  check(choice);
  state_ = std::make_unique<State>(State{.model = model, .choice = choice, .past = model.no_past()});
  state_->seen.resize(static_cast<size_t>(model.options.vocabulary));
  state_->step.emplace_back(std::make_shared<State*>(state_.get()), &State::trace);
}

Generator::~Generator() = default;

void Generator::read(int64_t token) {
  if (token < 0 || token >= state_->model.options.vocabulary)
    fail("generator: token {} of a vocabulary of {}", token, state_->model.options.vocabulary);
  state_->read(token);
}

int64_t Generator::next() {
  State& s = *state_;
  if (s.logits.empty()) fail("generator: nothing was read to go on from");
  for (const double logit : s.logits)
    if (!std::isfinite(logit)) fail("generator: the model's logits are not finite numbers");
  const int64_t token = choose(s.logits, s.seen, s.choice, s.drawn++);
  s.read(token);
  return token;
}

void Generator::restart() {
  State& s = *state_;
  s.context.clear(), s.logits.clear(), s.drawn = 0;
  s.seen.assign(s.seen.size(), false);
}

}  // namespace kontor::inline v0::nn
