// Block-star: one output channel at a time, evaluated from the leader's activations by what changes. Groups said to be
// whole are perturbed as in Star.
#include "graph/index/index.h"
#include "graph/transforms/incremental.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

/// One vendor of one channel of a group, recorded over Marks for its seed, deviation and channel.
struct Block {
  Ref seed = fn::mark(constant(DType::U64, int64_t{0}), "seed");
  Ref sigma = fn::mark(constant(DType::F32, 0.0), "sigma");
  Ref channel = fn::mark(constant(DType::I64, int64_t{0}), "channel");
  std::vector<Ref> roots;  // the loss, then the delta of each parameter [1, ..]
};

Block record_block(const Step& step, size_t g) {
  Block block;
  std::vector<Dims> shapes;
  for (size_t i : step.members[g]) {
    shapes.push_back(step.leader.marks[i]->shape);
    shapes.back()[0] = index(1);
  }
  const std::vector<Ref> deltas = draw_deltas(step, g, block.seed, block.sigma, shapes);
  std::vector<Slab> slabs;
  for (size_t k = 0; k < deltas.size(); ++k) {
    const Ref& mark = step.leader.marks[step.members[g][k]];
    const Ref leader = make(Op::Gather, {mark, fn::reshape(block.channel, {index(1)})}, {.ints = {0}});
    slabs.push_back({mark, 0, block.channel, fn::add(leader, deltas[k])});
  }
  block.roots = incremental(std::vector<Ref>{step.leader.loss}, slabs);
  block.roots.insert(block.roots.end(), deltas.begin(), deltas.end());
  return block;
}

/// The block's roots for all vendors of all channels: two more axes in front.
std::vector<Ref> all_blocks(const Step& step, size_t g) {
  const Block block = record_block(step, g);
  const Dims shape{index(step.channels(g)), index(step.vendors(g))};
  const Ref seeds = fn::reshape(step.seeds[g], shape);
  const Ref row = fn::mark(fn::select(seeds, 0, 0), "seeds");  // of one channel
  const std::vector<BatchedLeaf> vendors{{block.seed, row}, {block.sigma, deviations(step, g)}};
  const std::vector<BatchedLeaf> channels{{row, seeds}, {block.channel, fn::iota(shape[0], DType::I64)}};
  return batch(batch(block.roots, vendors), channels);
}

}  // namespace

// D of a channel = sum over its vendors of -1/(n E[delta^2]) (loss_v - loss of the leader) delta_v, as in Star.
Outcome record_block_star(const Step& step) {
  Outcome out;
  for (size_t g = 0; g < step.groups(); ++g) {
    if (step.options.groups[g].whole) {
      const Vendors vendors = make_vendors(step, g, step.seeds[g], deviations(step, g));
      out.losses.push_back(with_vendors(step, step.leader.loss, g, vendors.leaves));
      out.directions.push_back(weighted_sum(vendors, difference_weights(step, g, out.losses.back())));
      continue;
    }
    const std::vector<Ref> all = all_blocks(step, g);
    const Ref weights = difference_weights(step, g, all[0]);
    out.losses.push_back(fn::reshape(all[0], {index(step.channels(g) * step.vendors(g))}));
    out.directions.emplace_back();
    for (size_t k = 1; k < all.size(); ++k) {
      Dims thin(all[k]->rank(), index(1));
      thin[0] = weights->shape[0], thin[1] = weights->shape[1];
      const Ref wide = fn::broadcast(fn::reshape(weights, thin), all[k]->shape);
      const Ref direction = fn::sum(fn::mul(wide, all[k]), Ints{1}, false);
      out.directions.back().push_back(
          fn::reshape(direction, step.leader.marks[step.members[g][k - 1]]->shape));
    }
  }
  return out;
}

}  // namespace kontor::inline v0::marketplace
