// How vendors' deltas are drawn from seeds, and how vendors are put into a recorded loss.
#include "base/error.h"
#include "graph/functions/random.h"
#include "graph/index/index.h"
#include "marketplace/groups.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

/// Seeds [n] of which each pair after the first `alone` shares that of its first.
Ref paired(const Ref& seeds, int64_t alone) {
  const int64_t n = extent(seeds->shape[0]), pairs = (n - alone) / 2;
  const Dims two{index(pairs), index(2)};
  const Ref first = fn::select(fn::reshape(fn::slice(seeds, 0, alone, n, 1), two), 1, 0);
  const Ref both = fn::reshape(fn::broadcast(fn::unsqueeze(first, 1), two), {index(2 * pairs)});
  return alone == 0 ? both : fn::cat({fn::slice(seeds, 0, 0, alone, 1), both}, 0);
}

/// Deltas of deviation 1 (uniform: in +-1) under `seed`, from block `counter` on.
Ref unit_delta(Noise noise, const Ref& seed, int64_t counter, const Dims& shape) {
  const Ref at = constant(DType::U64, counter);
  return noise == Noise::Uniform ? fn::uniform_at(seed, at, shape, -1, 1, DType::F32)
                                 : fn::rademacher_at(seed, at, shape, DType::F32);
}

/// Blocks of 64 bits that a parameter's delta takes.
int64_t blocks_of(Noise noise, const Dims& shape) {
  const int64_t weights = extent(ix::product(shape)), a_block = noise == Noise::Uniform ? 2 : 64;
  return (weights + a_block - 1) / a_block;
}

/// Each group has counters of its own, so that equal seeds in two groups make different deltas.
int64_t first_block(size_t g) { return static_cast<int64_t>(g) << 40; }

}  // namespace

Ref Step::lr(size_t g) const { return in.rates ? fn::select(in.rates, 0, static_cast<int64_t>(g)) : in.lr; }

Ref Step::sigma(size_t g) const {
  return in.rates && !row.fixed_sigma ? fn::mul(lr(g), options.probe_scale) : in.sigma;
}

// Block counter + i of Threefry under the run's key, i over the vendors of all groups.
std::vector<Ref> vendor_seeds(const Options& options, const StepInputs& in) {
  int64_t total = 0;
  for (const Group& g : options.groups) total += seeds_of(g);
  const Ref words =
      fn::reshape(fn::random_words(in.key, in.counter, {index(2 * total)}), {index(total), index(2)});
  const Ref low = fn::cast(fn::select(words, 1, 0), DType::U64);
  const Ref high = fn::cast(fn::select(words, 1, 1), DType::U64);
  const Ref seeds = fn::bit_or(low, fn::shift_left(high, 32));
  std::vector<Ref> out;
  int64_t first = 0;
  for (const Group& g : options.groups) {
    const Ref own = fn::slice(seeds, 0, first, first + seeds_of(g), 1);
    out.push_back(options.antithetic ? paired(own, row_of(options.plan).leader ? 1 : 0) : own);
    first += seeds_of(g);
  }
  return out;
}

Ref deviations(const Step& step, size_t g) {
  const Dims shape{index(step.vendors(g))};
  Ref sigma = fn::splat(step.sigma(g), shape);
  const Ref vendor = fn::iota(shape[0], DType::I64);
  if (step.options.antithetic)
    sigma = fn::where(fn::eq(fn::mod(vendor, 2), step.row.leader ? 0 : 1), fn::neg(sigma), sigma);
  if (!step.row.leader) return sigma;
  return fn::where(fn::eq(vendor, 0), 0.0, sigma);
}

// The draws of a group's parameters follow each other under one key.
std::vector<Ref> draw_deltas(const Step& step, size_t g, const Ref& seed, const Ref& sigma,
                             std::span<const Dims> shapes) {
  const Noise noise = step.options.noise;
  std::vector<Ref> out;
  int64_t blocks = first_block(g);
  for (const Dims& shape : shapes) {
    out.push_back(fn::mul(unit_delta(noise, seed, blocks, shape), fn::splat(sigma, shape)));
    blocks += blocks_of(noise, shape);
  }
  return out;
}

// One vendor with a seed of rank 0 is recorded; batched over the seeds it is all of them.
Vendors make_vendors(const Step& step, size_t g, const Ref& seeds, const Ref& sigmas) {
  const Ref seed = fn::mark(constant(DType::U64, int64_t{0}), "seed");
  const Ref sigma = fn::mark(constant(DType::F32, 0.0), "sigma");
  std::vector<Dims> shapes;
  for (size_t i : step.members[g]) shapes.push_back(step.leader.marks[i]->shape);
  const std::vector<Ref> one = draw_deltas(step, g, seed, sigma, shapes);
  Vendors v{.index = step.members[g],
            .deltas = batch(one, std::vector<BatchedLeaf>{{seed, seeds}, {sigma, sigmas}}),
            .leaves = {}};
  for (size_t k = 0; k < v.index.size(); ++k) {
    const Ref& mark = step.leader.marks[v.index[k]];
    v.leaves.push_back({mark, fn::add(fn::broadcast(mark, v.deltas[k]->shape), v.deltas[k])});
  }
  return v;
}

std::vector<Vendors> all_vendors(const Step& step) {
  std::vector<Vendors> out;
  for (size_t g = 0; g < step.groups(); ++g)
    out.push_back(make_vendors(step, g, step.seeds[g], deviations(step, g)));
  return out;
}

int64_t after_deltas(const Step& step, size_t g) {
  int64_t blocks = first_block(g);
  for (size_t i : step.members[g]) blocks += blocks_of(step.options.noise, step.leader.marks[i]->shape);
  return blocks;
}

double inverse_variance(Noise noise) { return noise == Noise::Uniform ? 3 : 1; }

Ref with_vendors(const Step& step, const Ref& root, size_t g, std::span<const BatchedLeaf> leaves) {
  const Ref out = batch(std::vector<Ref>{root}, leaves)[0];
  if (out->rank() == root->rank())
    fail("marketplace: the loss does not depend on group '{}'", step.options.groups[g].name);
  return out;
}

Ref difference_weights(const Step& step, size_t g, const Ref& losses) {
  const double factor = -inverse_variance(step.options.noise) / static_cast<double>(step.vendors(g));
  const Ref scale = fn::div(factor, fn::square(step.sigma(g)));
  const Ref difference = fn::sub(losses, fn::splat(step.leader.loss, losses->shape));
  return fn::mul(fn::where(finite(losses), difference, 0.0), fn::splat(scale, losses->shape));
}

Ref along_vendors(const Ref& weights, const Ref& like) {
  Dims thin(like->rank(), index(1));
  thin[0] = like->shape[0];
  return fn::broadcast(fn::reshape(weights, thin), like->shape);
}

std::vector<Ref> weighted_sum(const Vendors& vendors, const Ref& weights) {
  std::vector<Ref> out;
  for (const Ref& delta : vendors.deltas)
    out.push_back(fn::sum(fn::mul(along_vendors(weights, delta), delta), Ints{0}, false));
  return out;
}

}  // namespace kontor::inline v0::marketplace
