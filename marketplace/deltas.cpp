// How vendors' deltas are drawn from seeds, and how vendors are put into a recorded loss.
#include "base/error.h"
#include "graph/index.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

// Block counter + i of Threefry under the run's key, i over the vendors of all groups.
std::vector<Ref> vendor_seeds(const Step& step) {
  int64_t total = 0;
  for (const Group& g : step.options.groups) total += g.vendors;
  const Ref words = fn::reshape(fn::random_words(step.in.key, step.in.counter, {index(2 * total)}),
                                {index(total), index(2)});
  const Ref low = fn::cast(fn::select(words, 1, 0), DType::U64);
  const Ref high = fn::cast(fn::select(words, 1, 1), DType::U64);
  const Ref seeds = fn::bit_or(low, fn::shift_left(high, 32));
  std::vector<Ref> out;
  int64_t first = 0;
  for (const Group& g : step.options.groups) {
    out.push_back(fn::slice(seeds, 0, first, first + g.vendors, 1));
    first += g.vendors;
  }
  return out;
}

Ref deviations(const Step& step, size_t g) {
  const Dims shape{index(step.vendors(g))};
  const Ref sigma = fn::splat(step.in.sigma, shape);
  if (!step.row.leader) return sigma;
  return fn::where(fn::eq(fn::iota(shape[0], DType::I64), 0), 0.0, sigma);
}

// One vendor with a seed of rank 0 is recorded; batched over the seeds it is all of them. The draws of a group's
// parameters follow each other under one key.
Vendors make_vendors(const Step& step, size_t g, const Ref& seeds, const Ref& sigmas) {
  const Ref seed = fn::mark(constant(DType::U64, int64_t{0}), "seed");
  const Ref sigma = fn::mark(constant(DType::F32, 0.0), "sigma");
  std::vector<Ref> one;
  Ref blocks = index(0);
  for (size_t i : step.members[g]) {
    const Ref& mark = step.leader.marks[i];
    const Ref at = constant(DType::U64, const_int(*blocks));
    const Ref unit = fn::uniform_at(seed, at, mark->shape, -1, 1, DType::F32);
    one.push_back(fn::mul(unit, fn::splat(sigma, mark->shape)));
    blocks = ix::add(blocks, ix::ceil_div(ix::product(mark->shape), index(2)));
  }
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
  const std::vector<Ref> seeds = vendor_seeds(step);
  std::vector<Vendors> out;
  for (size_t g = 0; g < step.members.size(); ++g)
    out.push_back(make_vendors(step, g, seeds[g], deviations(step, g)));
  return out;
}

Ref with_vendors(const Step& step, const Ref& loss, size_t g, std::span<const BatchedLeaf> leaves) {
  const Ref out = batch(std::vector<Ref>{loss}, leaves)[0];
  if (out->rank() == loss->rank())
    fail("marketplace: the loss does not depend on group '{}'", step.options.groups[g].name);
  return out;
}

std::vector<Ref> weighted_sum(const Vendors& vendors, const Ref& weights) {
  std::vector<Ref> out;
  for (const Ref& delta : vendors.deltas) {
    Dims thin(delta->rank(), index(1));
    thin[0] = delta->shape[0];
    const Ref wide = fn::broadcast(fn::reshape(weights, thin), delta->shape);
    out.push_back(fn::sum(fn::mul(wide, delta), Ints{0}, false));
  }
  return out;
}

}  // namespace kontor::inline v0::marketplace
