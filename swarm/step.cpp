// Evaluation and update of a step.
#include "swarm/step.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/functions/random.h"
#include "graph/graph.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "graph/transforms/batch.h"
#include "marketplace/low_rank.h"
#include "swarm/slots.h"
#include "swarm/votes.h"

namespace kontor::swarm {

namespace {

namespace mp = kontor::marketplace;

constexpr int64_t most_at_once = 256, fewer_at_once = 32;  // slots that one forward pass evaluates
constexpr int64_t exact_sums = 1 << 24;  // integers up to here are floats, and so are their sums
constexpr int64_t low_bits = 8;          // of coefficients that are summed in two parts
constexpr double most_square = 62;       // bits of the sum of squares

/// +-1 of factor `factor` of parameter `k` of the slots with these seeds: bits from counter (4 k + factor) 2^32 on.
Ref signs(const Ref& seeds, size_t k, size_t factor, const Dims& thin) {
  const Ref seed = fn::mark(constant(DType::U64, int64_t{0}), "seed");
  const Ref counter = constant(DType::U64, static_cast<int64_t>(4 * k + factor) << 32);
  const Ref one = fn::rademacher_at(seed, counter, thin, DType::F32);
  return batch(std::vector<Ref>{one}, std::vector<BatchedLeaf>{{seed, seeds}})[0];
}

std::vector<Ref> factors_of(const Ref& seeds, size_t k, const Node& parameter, bool whole) {
  std::vector<Ref> out;
  Ints all;
  for (size_t a = 0; a < parameter.rank(); ++a) all.push_back(static_cast<int64_t>(a));
  for (const Ints& axes : whole ? std::vector<Ints>{all} : mp::factor_axes(parameter.rank()))
    out.push_back(signs(seeds, k, out.size(), mp::factor_shape(parameter, axes)));
  return out;
}

/// floor(sqrt(s)) of an i64 from 0 to 2^62: a float's root, two steps of Newton and a correction, all in integers.
Ref integer_root(const Ref& s) {
  const Ref guess = fn::cast(fn::sqrt(fn::cast(s, DType::F32)), DType::I64);
  Ref r = fn::maximum(guess, 1);
  for (int i = 0; i < 2; ++i) r = fn::maximum(fn::shift_right(fn::add(r, fn::floor_div(s, r)), 1), 1);
  r = fn::where(fn::gt(fn::mul(r, r), s), fn::sub(r, 1), r);
  const Ref next = fn::add(r, 1);
  return fn::where(fn::le(fn::mul(next, next), s), next, r);
}

/// Bits by which a direction is shifted before it is squared, so that the sum of squares stays below 2^62.
int64_t square_shift(int64_t most, double elements) {
  const double bits = 2 * std::log2(static_cast<double>(most)) + std::log2(elements);
  return bits <= most_square ? 0 : static_cast<int64_t>(std::ceil((bits - most_square) / 2));
}

/// sum over slots of coefficient * signs as i64; exact, as floats hold the integers on the way.
Ref direction(const Dims& shape, const std::vector<Ref>& factors, const Ref& coefficients, bool split) {
  const auto summed = [&](const Ref& weights) {
    return fn::cast(mp::weighted_signs(shape, factors, fn::cast(weights, DType::F32)), DType::I64);
  };
  if (!split) return summed(coefficients);
  const Ref high = fn::shift_right(coefficients, low_bits);
  const Ref low = fn::sub(coefficients, fn::shift_left(high, low_bits));
  return fn::add(fn::shift_left(summed(high), low_bits), summed(low));
}

}  // namespace

Steps::Steps(Task& task, const Manifest& m)
    : task_(task),
      values_(m.values()),
      samples_(m.samples),
      at_once_(std::max<int64_t>(2, std::min(most_at_once, m.values()))),
      whole_(m.plan == "full"),
      sigma_(m.sigma),
      objective_(task.objective()),
      evaluate_(std::make_shared<Steps*>(this), &Steps::trace_losses),
      update_(std::make_shared<Steps*>(this), &Steps::trace_update) {
  const int64_t counted = std::min(m.values(), most_values);
  most_ = m.width == 1 ? counted : counted * counted / 2 + 1;
}

std::vector<Tensor> Steps::trace_losses(void* self, std::span<const Tensor> in) {
  return (*static_cast<Steps**>(self))->record_losses(in);
}
std::vector<Tensor> Steps::trace_update(void* self, std::span<const Tensor> in) {
  Steps& steps = **static_cast<Steps**>(self);
  std::vector<Tensor> out = steps.record_update(in);
  for (size_t k = 0; k + 1 < out.size(); ++k) steps.task_.parameters()[k].tensor->assign(out[k]);
  return {out.back()};
}

// in: x, labels, seeds u64 [slots]. Returns f32 [2, slots].
std::vector<Tensor> Steps::record_losses(std::span<const Tensor> in) {
  const auto& parameters = task_.parameters();
  const mp::Leader leader = mp::record_leader(objective_, in[0], in[1], parameters, in[2].size(0));
  std::vector<size_t> all(parameters.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  const Ref seeds = node_of(in[2]);
  const mp::LowRankVendors vendors = mp::low_rank_vendors(
      leader, all, constant(DType::F32, sigma_),
      [&](size_t k, size_t factor, const Dims& thin) { return signs(seeds, k, factor, thin); }, whole_);
  std::vector<Tensor> out{tensor_of(vendors.losses)};
  slot_operations_ = nn::product_operations(out) / static_cast<double>(in[2].size(0));
  return out;
}

// in: seeds u64 [values], coefficients i64 [values], lr f32. Returns the new weights, then the length of the direction.
std::vector<Tensor> Steps::record_update(std::span<const Tensor> in) const {
  const Ref seeds = node_of(in[0]), coefficients = node_of(in[1]), lr = node_of(in[2]);
  double elements = 0;
  for (const nn::Parameter& p : task_.parameters()) elements += static_cast<double>(p.tensor->elements());
  const int64_t shift = square_shift(most_, elements);
  std::vector<Ref> directions;
  Ref squares;
  for (size_t k = 0; k < task_.parameters().size(); ++k) {
    const Ref old = node_of(*task_.parameters()[k].tensor);
    const std::vector<Ref> factors = factors_of(seeds, k, *old, whole_);
    directions.push_back(direction(old->shape, factors, coefficients, most_ > exact_sums));
    const Ref part = fn::sum(fn::square(fn::shift_right(directions.back(), shift)), {}, false);
    squares = squares ? fn::add(squares, part) : part;
  }
  const Ref root = integer_root(squares);
  const Ref length = fn::mul(fn::cast(root, DType::F32), std::ldexp(1.0, static_cast<int>(shift)));
  const Ref scale =
      fn::where(fn::gt(squares, 0), fn::div(lr, fn::where(fn::gt(squares, 0), length, 1.0)), 0.0);
  std::vector<Tensor> out;
  for (size_t k = 0; k < directions.size(); ++k) {
    const Ref old = node_of(*task_.parameters()[k].tensor);
    out.push_back(tensor_of(fn::fma(fn::cast(directions[k], DType::F32), fn::splat(scale, old->shape), old)));
  }
  out.push_back(tensor_of(length));
  return out;
}

std::vector<int32_t> Steps::evaluate(std::span<const uint64_t> seeds) {
  std::vector<int32_t> out;
  for (size_t first = 0; first < seeds.size();) {
    const size_t left = seeds.size() - first;
    const auto at_once =
        static_cast<size_t>(left <= fewer_at_once && at_once_ > fewer_at_once ? fewer_at_once : at_once_);
    const size_t count = std::min(at_once, left);
    std::vector<uint64_t> some(at_once, seeds[first]), samples;
    std::copy_n(seeds.begin() + static_cast<std::ptrdiff_t>(first), count, some.begin());
    for (const uint64_t s : some)
      for (int64_t j = 0; j < samples_; ++j)
        samples.push_back(sample_of(s, static_cast<uint64_t>(j), task_.count()));
    const auto [x, labels] = task_.batch(samples);
    const std::vector<Tensor> losses = evaluate_(std::vector<Tensor>{x, labels, Tensor::from(some)});
    const std::vector<float> both = losses[0].to_vector<float>();
    operations_ += slot_operations_ * static_cast<double>(at_once);
    for (size_t i = 0; i < count; ++i) out.push_back(difference(both[i], both[at_once + i]));
    first += count;
  }
  return out;
}

void Steps::update(std::span<const uint64_t> seeds, std::span<const int32_t> coefficients, double lr) {
  const std::vector<int64_t> wide(coefficients.begin(), coefficients.end());
  const std::vector<Tensor> in{Tensor::from(seeds, {values_}), Tensor::from(wide, {values_}),
                               Tensor::from({static_cast<float>(lr)}, {})};
  update_(in);
}

Digest Steps::graph() const {
  const std::vector<Tensor> in{Tensor::from(std::vector<uint64_t>(static_cast<size_t>(values_))),
                               Tensor::from(std::vector<int64_t>(static_cast<size_t>(values_))),
                               Tensor::from({0.0f}, {})};
  std::vector<Ref> outputs;
  for (const Tensor& t : record_update(in)) outputs.push_back(node_of(t));
  return sha256(view_of(print(make_graph(outputs))));
}

}  // namespace kontor::swarm
