// Activity: a vendor is one sample and one channel of one layer whose output before the activation is perturbed; what follows
// is evaluated by what changes, and the kept input gives the other factor of the update (spec, section 4.6).
#include "base/error.h"
#include "graph/functions/random.h"
#include "graph/index/index.h"
#include "graph/transforms/gradient.h"
#include "graph/transforms/incremental.h"
#include "marketplace/sites.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

constexpr double kFloor = 0.02;  ///< added to a sample's error before samples are drawn by it
constexpr double kLeast = 1e-3;  ///< added to a channel's deviation before it is a size

/// Samples drawn by their error, and what each counts: the mean of weight * value over them is that over the batch.
struct Drawn {
  Ref index;   ///< i64 [n]
  Ref weight;  ///< f32 [n]
  Drawn first(int64_t n) const { return {fn::slice(index, 0, 0, n, 1), fn::slice(weight, 0, 0, n, 1)}; }
};

/// `values` [n] in the rank of `like` [n, ..], broadcast to it.
Ref along_first(const Ref& values, const Ref& like) {
  Dims thin(like->rank(), index(1));
  thin[0] = like->shape[0];
  return fn::broadcast(fn::reshape(values, thin), like->shape);
}

/// Systematic sampling: places (j + u) / n in the running sum of the errors; then in an order drawn at random, so that the
/// first few are a sample too.
Drawn draw_samples(const Ref& errors, const Ref& key, int64_t count) {
  const Ref m = errors->shape[0], n = index(count);
  const Ref score = fn::add(errors, kFloor);
  const Ref q = fn::div(score, fn::splat(fn::sum(score, {}, false), {m}));
  const Ref sums = fn::cumsum(q, 0);
  const Ref start = fn::uniform_at(key, constant(DType::U64, int64_t{0}), {index(1)}, 0, 1, DType::F32);
  const Ref place =
      fn::mul(fn::add(fn::broadcast(start, {n}), fn::iota(n, DType::F32)),
              fn::splat(fn::div(fn::select(sums, 0, extent(m) - 1), static_cast<double>(count)), {n}));
  const Ref found = fn::minimum(fn::searchsorted(sums, place, true), extent(m) - 1);
  const Ref order = fn::argsort(fn::random_words(key, constant(DType::U64, int64_t{1}), {n}), 0, false);
  const Ref chosen = make(Op::Copy, {fn::take(found, order, 0)});  // read in many places
  return {chosen, make(Op::Copy, {fn::div(1.0 / static_cast<double>(extent(m)), fn::take(q, chosen, 0))})};
}

/// The channel's part of y or what has its shape.
Ref channel_of(const Site& site, const Ref& x, const Ref& channel) {
  const auto axis = static_cast<int64_t>(site.channel_axis);
  const Ref found = make(Op::Gather, {x, fn::reshape(channel, {index(1)})}, {.ints = {axis}});
  Ints order;  // the axis of the positions comes out in front
  for (int64_t a = 0; a < static_cast<int64_t>(x->rank()); ++a)
    order.push_back(a < axis ? a + 1 : a == axis ? 0 : a);
  return fn::permute(found, order);
}

class Recorder {
 public:
  explicit Recorder(const Step& step)
      : step_(step), sites_(find_sites(step.leader, step.options.groups, step.members)) {
    if (step.leader.parts.empty()) fail("marketplace: the activity plan needs two samples or more, not one");
    base();
  }

  Outcome run() {
    Outcome out;
    out.losses = {loss_}, out.loss = fn::mean(loss_, {}, false), out.accuracy = accuracy_;
    for (size_t g = 0; g < sites_.size(); ++g) {
      const Site& site = sites_[g];
      if (site.last) {
        out.directions.push_back(directions(g, input_[g], exact_[g]));
      } else {
        const Drawn drawn = drawn_.first(
            std::max<int64_t>(1, extent(drawn_.index->shape[0]) / step_.options.groups[g].one_in));
        const bool weights = site.by_weights();
        out.directions.push_back(weights ? weight_vendors(g, drawn, out) : activity_vendors(g, drawn, out));
      }
    }
    return out;
  }

 private:
  const Step& step_;
  std::vector<Site> sites_;
  // Of all samples of the batch: losses, each site's input, product and, for the last, the slope of the loss at y.
  Ref loss_, accuracy_;
  std::vector<Ref> input_, product_, exact_;
  Drawn drawn_;

  Ref key(size_t g) const { return fn::select(step_.seeds[g], 0, 0); }

  void base() {
    std::vector<Ref> roots{step_.leader.part_loss};
    for (const Site& s : sites_) {
      roots.push_back(s.input), roots.push_back(s.product);
      roots.push_back(s.last ? gradient(step_.leader.part_loss, std::vector<Ref>{s.output})[0] : s.product);
    }
    if (step_.leader.part_accuracy) roots.push_back(step_.leader.part_accuracy);
    const std::vector<Ref> all = batch(roots, step_.leader.parts);
    loss_ = all[0];
    Ref squares;
    for (size_t g = 0; g < sites_.size(); ++g) {
      input_.push_back(all[3 * g + 1]), product_.push_back(all[3 * g + 2]), exact_.push_back(all[3 * g + 3]);
      if (!sites_[g].last) continue;
      const Ref flat = fn::flatten(exact_[g], 1);
      const Ref own = fn::sum(fn::square(flat), Ints{1}, false);
      squares = squares ? fn::add(squares, own) : own;
    }
    if (step_.leader.part_accuracy) accuracy_ = fn::mean(all.back(), {}, false);
    drawn_ = draw_samples(fn::sqrt(squares), key(step_.groups() - 1),
                          std::max<int64_t>(1, extent(loss_->shape[0]) / 2));
  }

  /// What is kept of the drawn samples: each site's product, and the samples themselves.
  std::vector<BatchedLeaf> kept(const Drawn& drawn) const {
    std::vector<BatchedLeaf> out;
    for (const BatchedLeaf& part : step_.leader.parts)
      out.push_back({part.node, fn::take(part.with, drawn.index, 0)});
    for (size_t g = 0; g < sites_.size(); ++g)
      out.push_back({sites_[g].product, fn::take(product_[g], drawn.index, 0)});
    return out;
  }

  /// -1 / n sum over samples of slope (outer) input: what `slope` [n, y's shape] at y makes of weight and bias.
  std::vector<Ref> directions(size_t g, const Ref& input, const Ref& slope) const {
    const Site& s = sites_[g];
    const Ref y =
        batch(std::vector<Ref>{s.output}, std::vector<BatchedLeaf>{{s.input, fn::detach(input)}})[0];
    const Ref scaled = fn::detach(fn::mul(slope, -1.0 / static_cast<double>(extent(slope->shape[0]))));
    std::vector<Ref> wrt;
    for (size_t i : step_.members[g]) wrt.push_back(step_.leader.marks[i]);
    return gradient(fn::sum(fn::mul(y, scaled), {}, false), wrt);
  }

  /// Where a perturbation of y can change the loss (f32: 1 or 0), and its size there, both of y's shape.
  struct Sizes {
    Ref live, size;
  };
  Sizes sizes(const Site& s) const {
    const Ref& y = s.output;
    const Ref shown = s.relu ? fn::maximum(y, 0.0) : y;
    Ints axes = s.position_axes();
    if (s.positions() == 1) axes = {static_cast<int64_t>(s.channel_axis)};
    const Ref deviation = fn::sqrt(fn::var(shown, axes, true, 0));
    const Ref size = fn::mul(fn::add(deviation, kLeast), fn::splat(step_.sigma(0), deviation->shape));
    Ref live;
    if (s.relu) live = fn::gt(y, 0.0);
    if (s.pool) {
      const Ref chosen = fn::gt(gradient(fn::sum(s.pool, {}, false), std::vector<Ref>{s.pool_input})[0], 0.0);
      live = live ? fn::logical_and(live, chosen) : chosen;
    }
    return {live ? fn::cast(live, DType::F32) : fn::fill(DType::F32, 1, y->shape),
            fn::broadcast(size, y->shape)};
  }

  /// Which positions each of a channel's n vendors perturbs, f32 [n, 1, .., positions]: cells (of the pool) in n runs.
  Ref shares(const Site& s, int64_t n) const {
    const Dims& shape = s.output->shape;
    Dims one = shape;
    one[s.channel_axis] = index(1);
    Ref cell = fn::fill(DType::I64, 0, one);
    int64_t cells = 1;
    for (int64_t axis : s.position_axes()) {
      const auto a = static_cast<size_t>(axis);
      const int64_t all = extent(shape[a]), pooled = s.pool ? extent(s.pool->shape[a]) : all;
      cell = fn::add(fn::mul(cell, pooled), fn::floor_div(fn::mul(fn::along(one, a), pooled), all));
      cells *= pooled;
    }
    const Ref share = fn::floor_div(fn::mul(cell, n), cells);
    Dims wide = one;
    wide.insert(wide.begin(), index(n));
    const Ref own = fn::eq(fn::broadcast(fn::unsqueeze(share, 0), wide), fn::along(wide, 0));
    return make(Op::Copy, {fn::cast(own, DType::F32)});
  }

  Ref differences(const Ref& losses, const Drawn& drawn) const {
    const Ref before = along_first(fn::take(loss_, drawn.index, 0), losses);
    return fn::where(finite(losses), fn::sub(losses, before), 0.0);
  }

  static Ref flattened(const Ref& losses) { return fn::reshape(losses, {ix::product(losses->shape)}); }

  // One vendor is recorded: of one sample, channel and share. Batched over shares, channels and samples it is all of them.
  std::vector<Ref> activity_vendors(size_t g, const Drawn& drawn, Outcome& out) const {
    const Site& s = sites_[g];
    const Sizes size = sizes(s);
    const Ref samples = drawn.index->shape[0], channels = index(s.channels());
    const int64_t n = std::min(step_.vendors(g), s.cells());
    Dims one = s.output->shape;
    one[s.channel_axis] = index(1);
    const auto with = [](const Dims& front, const Dims& back) {
      Dims all = front;
      all.insert(all.end(), back.begin(), back.end());
      return all;
    };
    const Ref signs = fn::rademacher_at(key(g), constant(DType::U64, int64_t{8}),
                                        with({samples, channels}, one), DType::F32);
    const Ref share = shares(s, n);
    const Ref z = fn::mark(fn::fill(DType::F32, 1, one), "z"),
              row = fn::mark(fn::fill(DType::F32, 1, with({channels}, one)), "zs");
    const Ref own = fn::mark(fn::fill(DType::F32, 1, one), "share");
    const Ref channel = fn::mark(constant(DType::I64, int64_t{0}), "channel");
    const Ref step = channel_of(s, fn::mul(size.live, size.size), channel);
    const Ref moved = fn::add(channel_of(s, s.output, channel), fn::mul(fn::mul(step, z), own));
    const std::vector<Slab> slabs{{s.output, static_cast<int64_t>(s.channel_axis), channel, moved}};
    std::vector<Ref> loss = incremental(std::vector<Ref>{step_.leader.part_loss}, slabs);
    loss = batch(loss, std::vector<BatchedLeaf>{{own, share}});
    loss = batch(loss, std::vector<BatchedLeaf>{{z, row}, {channel, fn::iota(channels, DType::I64)}});
    std::vector<BatchedLeaf> leaves = kept(drawn);
    const std::vector<Ref> of_samples = batch(std::vector<Ref>{size.live, size.size}, leaves);
    leaves.push_back({row, signs});
    const Ref losses = batch(loss, leaves)[0];
    out.losses.push_back(flattened(losses));
    // Of each position the one vendor that perturbed it: sum over vendors of difference * share.
    const Ref change =
        fn::matmul(differences(losses, drawn), fn::reshape(share, {index(n), index(s.positions())}));
    Ref slope = fn::mul(fn::reshape(change, signs->shape), signs);  // [samples, channels, 1, .., 1, ..]
    slope = in_place(s, slope);
    const Ref live = of_samples[0];
    slope = fn::where(fn::gt(live, 0.0), fn::div(slope, of_samples[1]), 0.0);
    return directions(g, make(Op::Copy, {fn::take(input_[g], drawn.index, 0)}),
                      fn::mul(slope, along_first(drawn.weight, slope)));
  }

  /// [samples, channels, a channel's part of y] as [samples, y's shape].
  static Ref in_place(const Site& s, const Ref& x) {
    Ints order{0};
    for (size_t a = 0; a < s.output->rank(); ++a)
      order.push_back(a == s.channel_axis ? 1 : static_cast<int64_t>(a) + 2);
    const Ref moved = fn::permute(x, [&] {
      Ints all = order;
      all.push_back(static_cast<int64_t>(s.channel_axis) + 2);
      return all;
    }());
    Dims shape = s.output->shape;
    shape.insert(shape.begin(), x->shape[0]);
    return fn::reshape(moved, shape);
  }

  // A vendor perturbs the weights of one channel instead, where these are fewer than its positions.
  std::vector<Ref> weight_vendors(size_t g, const Drawn& drawn, Outcome& out) const {
    const Site& s = sites_[g];
    const Ref samples = drawn.index->shape[0], channels = index(s.channels()), n = index(step_.vendors(g));
    const Ref channel = fn::mark(constant(DType::I64, int64_t{0}), "channel");
    const Ref size = fn::mul(fn::sqrt(fn::mean(fn::square(s.weight), {}, false)), step_.sigma(0));
    std::vector<Slab> slabs;
    std::vector<BatchedLeaf> of_vendors, of_channels{{channel, fn::iota(channels, DType::I64)}},
        of_samples = kept(drawn);
    std::vector<Ref> signs;
    int64_t block = 8;
    for (size_t i : step_.members[g]) {
      const Ref& mark = step_.leader.marks[i];
      Dims one = mark->shape;
      one[0] = index(1);
      const auto with = [&](std::vector<Ref> front) {
        front.insert(front.end(), one.begin(), one.end());
        return Dims(front);
      };
      const Ref z = fn::mark(fn::fill(DType::F32, 1, one), "z"),
                vendors = fn::mark(fn::fill(DType::F32, 1, with({n})), "zs"),
                rows = fn::mark(fn::fill(DType::F32, 1, with({channels, n})), "zs");
      signs.push_back(
          fn::rademacher_at(key(g), constant(DType::U64, block), with({samples, channels, n}), DType::F32));
      block += int64_t{1} << 32;
      of_vendors.push_back({z, vendors}), of_channels.push_back({vendors, rows}),
          of_samples.push_back({rows, signs.back()});
      const Ref leader = make(Op::Gather, {mark, fn::reshape(channel, {index(1)})}, {.ints = {0}});
      slabs.push_back({mark, 0, channel, fn::add(leader, fn::mul(z, fn::splat(size, one)))});
    }
    std::vector<Ref> loss = incremental(std::vector<Ref>{step_.leader.part_loss}, slabs);
    const Ref losses = batch(batch(batch(loss, of_vendors), of_channels), of_samples)[0];
    out.losses.push_back(flattened(losses));
    const Ref change = differences(losses, drawn);
    const double count = static_cast<double>(extent(samples) * step_.vendors(g));
    const Ref scale = fn::div(-1.0 / count, size);
    const Ref weights =
        fn::mul(fn::mul(change, along_first(drawn.weight, change)), fn::splat(scale, change->shape));
    std::vector<Ref> all;
    for (size_t k = 0; k < signs.size(); ++k) {
      Dims thin(signs[k]->rank(), index(1));
      for (size_t a = 0; a < 3; ++a) thin[a] = weights->shape[a];
      const Ref wide = fn::broadcast(fn::reshape(weights, thin), signs[k]->shape);
      all.push_back(fn::reshape(fn::sum(fn::mul(wide, signs[k]), Ints{0, 2}, false),
                                step_.leader.marks[step_.members[g][k]]->shape));
    }
    return all;
  }
};

}  // namespace

Outcome record_activity(const Step& step) { return Recorder(step).run(); }

}  // namespace kontor::inline v0::marketplace
