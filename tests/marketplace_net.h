// A small network and its data, and plain C++ that says what a step of Marketplace is (spec, section 1), for its tests.
#pragma once
#include <kontor/kontor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/threefry.h"
#include "graph/functions/random.h"
#include "graph/recording.h"
#include "tests/on_device.h"

namespace market_test {

using namespace kontor;
namespace mp = kontor::marketplace;

/// 2 -> 4 -> 4 -> 3.
struct Net {
  nn::Linear first{2, 4}, second{4, 4}, last{4, 3};
  Tensor operator()(const Tensor& x) const { return last(second(first(x).tanh()).tanh()); }
  template <class V>
  void walk(V& visit) {
    visit("first", first), visit("second", second), visit("last", last);
  }
};

using Values = std::vector<std::vector<double>>;  // of weight and bias of each layer

inline Values values_of(Net& net) {
  Values out;
  for (const auto& p : nn::parameters(net)) out.push_back(p.tensor->to_vector<double>());
  return out;
}

inline std::vector<float> flat(std::span<const nn::Parameter> parameters) {
  std::vector<float> out;
  for (const auto& p : parameters)
    for (float v : p.tensor->to_vector<float>()) out.push_back(v);
  return out;
}
inline std::vector<float> flat(Net& net) { return flat(nn::parameters(net)); }

constexpr int kPoints = 16;

/// Points in the plane, labelled by their angle.
struct Data {
  std::vector<float> at;
  std::vector<uint8_t> of;
  Data() {
    for (int i = 0; i < kPoints; ++i) {
      const double angle = i * 2.399963, radius = 0.5 + i / 16.0;
      at.push_back(static_cast<float>(radius * std::cos(angle)));
      at.push_back(static_cast<float>(radius * std::sin(angle)));
      of.push_back(static_cast<uint8_t>((angle - 6.283185 * std::floor(angle / 6.283185)) / 2.0943952));
    }
  }
  Tensor x() const { return Tensor::from(at, {kPoints, 2}); }
  Tensor labels() const { return Tensor::from(of, {kPoints}); }

  static std::vector<double> layer(const std::vector<double>& x, const std::vector<double>& weight,
                                   const std::vector<double>& bias) {
    std::vector<double> out = bias;
    for (size_t o = 0; o < out.size(); ++o)
      for (size_t i = 0; i < x.size(); ++i) out[o] += weight[o * x.size() + i] * x[i];
    return out;
  }
  double loss(const Values& w, size_t i) const {
    std::vector<double> h{at[2 * i], at[2 * i + 1]};
    for (size_t l = 0; l < 3; ++l) {
      h = layer(h, w[2 * l], w[2 * l + 1]);
      if (l < 2)
        for (double& v : h) v = std::tanh(v);
    }
    double sum = 0;
    for (const double v : h) sum += std::exp(v);
    return std::log(sum) - h[of[i]];
  }
  double loss(const Values& w) const {
    double total = 0;
    for (size_t i = 0; i < kPoints; ++i) total += loss(w, i);
    return total / kPoints;
  }
};

inline void add(Values& to, const Values& from, double factor) {
  for (size_t p = 0; p < from.size(); ++p)
    for (size_t e = 0; e < from[p].size(); ++e) to[p][e] += factor * from[p][e];
}

inline double square(const Values& of) {
  double total = 0;
  for (const auto& list : of)
    for (const double v : list) total += v * v;
  return total;
}

inline Values zeros(const Values& like) {
  Values out;
  for (const auto& list : like) out.emplace_back(list.size(), 0.0);
  return out;
}

inline mp::Options options_of(mp::Plan plan, std::vector<int64_t> vendors = {3, 5, 4}) {
  mp::Options o;
  o.plan = plan;
  o.groups = mp::parse_groups("first|second|last", vendors);
  o.lr = 0.1, o.lr_decay = 0.05, o.probe_scale = 0.3, o.seed = 11;
  return o;
}

/// A run of the method on the host, in doubles, path by path.
class Reference {
 public:
  Reference(const mp::Trainer& trainer, mp::Options options, Values start)
      : w(std::move(start)),
        rates(3, options.lr),
        m(options.meta_lr),
        trainer_(trainer),
        o_(std::move(options)) {}

  Values w;
  std::vector<double> rates;
  double m;
  int64_t steps = 0;

  void step(const Data& data);

 private:
  using Path = std::vector<size_t>;
  const mp::Trainer& trainer_;
  mp::Options o_;
  Values first_ = {}, second_ = {};  // Adam's moments

  bool star_shaped() const { return o_.plan == mp::Plan::Star || o_.plan == mp::Plan::BlockStar; }
  bool leader() const { return !star_shaped(); }
  size_t vendors(size_t g) const { return static_cast<size_t>(o_.groups[g].vendors); }
  /// Block-star: rows of the layer, each with `vendors` of its own.
  size_t channels(size_t g) const {
    return o_.plan == mp::Plan::BlockStar && !o_.groups[g].whole ? w[2 * g + 1].size() : 1;
  }
  double sigma(size_t g) const { return (star_shaped() ? o_.lr : rates[g]) * o_.probe_scale; }
  uint64_t seed(size_t g, size_t v) const { return trainer_.vendor_seed(steps, g, static_cast<int64_t>(v)); }
  double inverse_variance() const { return o_.noise == mp::Noise::Uniform ? 3 : 1; }

  uint64_t after(size_t g) const {
    const size_t a_block = o_.noise == mp::Noise::Uniform ? 2 : 64;
    uint64_t counter = uint64_t{g} << 40;
    for (size_t p : {2 * g, 2 * g + 1}) counter += (w[p].size() + a_block - 1) / a_block;
    return counter;
  }
  Values delta(size_t g, size_t v) const {
    Values out(w.size());
    uint64_t counter = uint64_t{g} << 40;
    double sigma_v = leader() && v == 0 ? 0 : sigma(g);
    if (o_.antithetic && (v - (leader() ? 1 : 0)) % 2 == 1) sigma_v = -sigma_v;
    for (size_t p : {2 * g, 2 * g + 1}) {
      const size_t part = w[p].size() / channels(g);
      out[p].assign(v / vendors(g) * part, 0.0);  // channels before
      for (size_t e = 0; e < part; ++e) {
        const bool bits = o_.noise == mp::Noise::Rademacher;
        const uint32_t word = random_word(seed(g, v), counter, bits ? e / 32 : e);
        const double unit = bits ? (word >> (e % 32) & 1 ? 1.0 : -1.0) : 2.0 * unit_float(word) - 1;
        out[p].push_back(unit * sigma_v);
      }
      const size_t a_block = o_.noise == mp::Noise::Uniform ? 2 : 64;
      counter += (part + a_block - 1) / a_block;
    }
    return out;
  }
  std::vector<Path> paths() const;
  Values moved(const Path& path, const std::vector<std::vector<Values>>& deltas) const {
    Values out = w;
    for (size_t g = 0; g < path.size(); ++g) add(out, deltas[g][path[g]], 1);
    return out;
  }
  std::vector<std::vector<Values>> all_deltas() const {
    std::vector<std::vector<Values>> out(3);
    for (size_t g = 0; g < 3; ++g)
      for (size_t v = 0; v < vendors(g); ++v) out[g].push_back(delta(g, v));
    return out;
  }
  std::vector<Values> star(const Data& data) const;
  std::vector<Values> by_scores(const std::vector<Path>& paths, const std::vector<double>& losses) const;
  void update(const Data& data, std::vector<Values> directions);
  void stretch(const Data& data, std::vector<Values>& moves);
  void adam(const std::vector<Values>& directions);
};

inline std::vector<Reference::Path> Reference::paths() const {
  std::vector<Path> out;
  for (size_t v = 0; v < vendors(0); ++v) out.push_back({v});
  for (size_t g = 1; g < 3; ++g) {
    std::vector<Path> next;
    for (size_t v = 0; v < vendors(g); ++v) {
      std::vector<int64_t> order(out.size());
      std::iota(order.begin(), order.end(), 0);
      if (const int64_t k = o_.groups[g].upstream; k != 0) {
        const Ref key = constant(DType::U64, static_cast<int64_t>(seed(g, v)));
        const Ref counter = constant(DType::U64, static_cast<int64_t>(after(g) + 1));
        const Ref drawn =
            fn::permutation_at(key, counter, index(static_cast<int64_t>(out.size())), DType::I64);
        order = tensor_of(drawn).to_vector<int64_t>();
        order.resize(static_cast<size_t>(k));
      }
      for (const int64_t at : order) {
        next.push_back(out[static_cast<size_t>(at)]);
        next.back().push_back(v);
      }
    }
    out = next;
  }
  return out;
}

inline std::vector<Values> Reference::star(const Data& data) const {
  const double before = data.loss(w);
  std::vector<Values> directions;
  for (size_t g = 0; g < 3; ++g) {
    directions.push_back(zeros(w));
    for (size_t v = 0; v < vendors(g) * channels(g); ++v) {
      const Values d = delta(g, v);
      Values there = w;
      add(there, d, 1);
      const double factor = -inverse_variance() / (sigma(g) * sigma(g) * static_cast<double>(vendors(g)));
      add(directions.back(), d, factor * (data.loss(there) - before));
    }
  }
  return directions;
}

/// D = sum over paths of z delta; for Adam, -gradient with the means over the paths of each vendor.
inline std::vector<Values> Reference::by_scores(const std::vector<Path>& paths,
                                                const std::vector<double>& losses) const {
  const auto count = static_cast<double>(losses.size());
  const double mean = std::accumulate(losses.begin(), losses.end(), 0.0) / count;
  double variance = 0;
  for (const double l : losses) variance += (l - mean) * (l - mean) / (count - 1);
  std::vector<Values> directions;
  for (size_t g = 0; g < 3; ++g) {
    directions.push_back(zeros(w));
    const auto n = static_cast<double>(vendors(g));
    const double raw = inverse_variance() * n / ((n - 1) * (n - 1) * sigma(g) * sigma(g)) * n / count;
    for (size_t p = 0; p < paths.size(); ++p) {
      const double z = -(losses[p] - mean) / std::sqrt(variance);
      add(directions.back(), delta(g, paths[p][g]),
          o_.update == mp::Update::Adam ? -(losses[p] - mean) * raw : z);
    }
  }
  return directions;
}

inline void Reference::step(const Data& data) {
  std::vector<Values> directions;
  std::vector<double> losses;
  if (star_shaped()) {
    directions = star(data);
  } else if (o_.plan == mp::Plan::PerSample) {
    std::vector<Path> own(kPoints);
    const auto deltas = all_deltas();
    for (size_t i = 0; i < kPoints; ++i) {
      for (size_t g = 0; g < 3; ++g)
        own[i].push_back(static_cast<size_t>((uint64_t{random_word(seed(g, 0), 0, i)} * vendors(g)) >> 32));
      losses.push_back(data.loss(moved(own[i], deltas), i));
    }
    directions = by_scores(own, losses);
  } else {
    const std::vector<Path> all = paths();
    const auto deltas = all_deltas();
    for (const Path& p : all) losses.push_back(data.loss(moved(p, deltas)));
    if (o_.plan == mp::Plan::Greedy) {
      w = moved(all[static_cast<size_t>(std::min_element(losses.begin(), losses.end()) - losses.begin())],
                deltas);
      for (double& r : rates) r *= 1 - o_.lr_decay;
      ++steps;
      return;
    }
    directions = by_scores(all, losses);
  }
  if (o_.update == mp::Update::Adam) adam(directions);
  else update(data, std::move(directions));
  ++steps;
  if (o_.meta_lr > 0) m *= 1 - o_.lr_decay;
  else
    for (double& r : rates) r *= 1 - o_.lr_decay;
}

inline void Reference::update(const Data& data, std::vector<Values> directions) {
  double all = 0;
  std::vector<double> squares;
  for (const Values& d : directions) squares.push_back(square(d)), all += squares.back();
  for (size_t g = 0; g < 3; ++g) {
    const double length = std::sqrt(o_.unit == mp::Unit::Whole ? all : squares[g]);
    Values move = zeros(w);
    add(move, directions[g], rates[g] / length);
    directions[g] = move;
  }
  if (o_.meta_lr > 0) stretch(data, directions);
  for (const Values& d : directions) add(w, d, 1);
}

/// Spec 1.5: vendors differ by the length of the group's move; the best path (Star: the best of each group) is taken.
inline void Reference::stretch(const Data& data, std::vector<Values>& moves) {
  std::vector<std::vector<double>> s(3);
  std::vector<std::vector<Values>> tried(3);
  for (size_t g = 0; g < 3; ++g)
    for (size_t v = 0; v < vendors(g); ++v) {
      s[g].push_back(v == 0 ? 0 : m * (2.0 * unit_float(random_word(seed(g, v), after(g), 0)) - 1));
      tried[g].push_back(zeros(w));
      add(tried[g].back(), moves[g], 1 + s[g].back());
    }
  Path best(3);
  double least = std::numeric_limits<double>::infinity();
  if (o_.plan == mp::Plan::Full) {
    for (const Path& p : paths())
      if (const double l = data.loss(moved(p, tried)); l < least) least = l, best = p;
  } else {
    for (size_t g = 0; g < 3; ++g) {
      least = std::numeric_limits<double>::infinity();
      for (size_t v = 0; v < vendors(g); ++v) {
        Values there = w;
        add(there, tried[g][v], 1);
        if (const double l = data.loss(there); l < least) least = l, best[g] = v;
      }
    }
  }
  for (size_t g = 0; g < 3; ++g) moves[g] = tried[g][best[g]], rates[g] *= 1 + s[g][best[g]];
}

inline void Reference::adam(const std::vector<Values>& directions) {
  if (first_.empty()) first_ = second_ = zeros(w);
  const auto t = static_cast<double>(steps + 1);
  for (const Values& d : directions)
    for (size_t p = 0; p < d.size(); ++p)
      for (size_t e = 0; e < d[p].size(); ++e) {
        const size_t owner = p / 2;
        if (&d != &directions[owner]) continue;
        const double g = -d[p][e];
        first_[p][e] = 0.9 * first_[p][e] + 0.1 * g;
        second_[p][e] = 0.999 * second_[p][e] + 0.001 * g * g;
        const double corrected = first_[p][e] / (1 - std::pow(0.9, t));
        w[p][e] -= rates[owner] * corrected / (std::sqrt(second_[p][e] / (1 - std::pow(0.999, t))) + 1e-8);
      }
}

}  // namespace market_test
