// Low-rank: each sample of a step has a vendor of its own, whose delta of a matrix is a outer b (+-1 from seeds, never stored):
// x (W + s a b^T) = x W + s (x . b) a^T. All vendors share one product, and so does the update (Sarkar et al. 2025, "EGGROLL").
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "graph/functions/random.h"
#include "graph/functions/unary.h"
#include "graph/index/index.h"
#include "graph/shape.h"
#include "graph/transforms/calls.h"
#include "graph/transforms/op_table.h"
#include "marketplace/low_rank.h"

namespace kontor::inline v0::marketplace {

namespace {

/// A parameter's delta of one vendor, before its size: the product of these factors, each +-1 under a Mark.
struct Factors {
  std::vector<BatchedLeaf> signs;  ///< of one vendor, in the parameter's rank, and of all vendors
  Ref delta;                       ///< of the parameter's shape
};

/// A product of something with a parameter, in the shape before its terms are added up.
struct Product {
  size_t weight;          ///< which of the sources is a view of the parameter
  const Node* mark;       ///< the parameter
  int64_t channels_axis;  ///< along which the other source is the same
  bool rows_are_summed;   ///< the parameter's first axis is summed over, not its others
};

class Recorder {
 public:
  Recorder(const Leader& leader, std::span<const size_t> parameters, const DrawSigns& draw, bool whole)
      : leader_(leader) {
    for (size_t k = 0; k < parameters.size(); ++k) {
      const Ref& mark = leader_.marks[parameters[k]];
      Factors out;
      for (const Ints& axes : whole ? std::vector<Ints>{all_axes(mark->rank())} : factor_axes(mark->rank())) {
        const Dims thin = factor_shape(*mark, axes);
        const Ref one = fn::mark(fn::fill(DType::F32, 1, thin), "signs");
        out.signs.push_back({one, draw(k, out.signs.size(), thin)});
        const Ref wide = fn::broadcast(one, mark->shape);
        out.delta = out.delta ? fn::mul(out.delta, wide) : wide;
      }
      factors_.emplace(mark.get(), std::move(out));
    }
  }

  // A vendor and its opposite see the same sample: the same signs, the size with either sign.
  LowRankVendors run(std::span<const size_t> parameters, const Ref& sigma) {
    std::vector<Ref> roots{leader_.part_loss};
    if (leader_.part_accuracy) roots.push_back(leader_.part_accuracy);
    std::vector<BatchedLeaf> leaves = leader_.parts;
    for (const auto& [mark, factors] : factors_)
      leaves.insert(leaves.end(), factors.signs.begin(), factors.signs.end());
    const Ref both = fn::stack({sigma, fn::neg(sigma)}, 0);
    const std::vector<Ref> all =
        batch(batch(perturbed(roots), leaves), std::vector<BatchedLeaf>{{sigma_, both}});
    if (all[0]->rank() != 2) fail("marketplace: the loss depends on no group");
    LowRankVendors out{all[0], leader_.part_accuracy ? all[1] : Ref(), {}};
    for (const size_t i : parameters) {
      out.signs.emplace_back();
      for (const BatchedLeaf& s : factors_.find(leader_.marks[i].get())->second.signs)
        out.signs.back().push_back(s.with);
    }
    return out;
  }

 private:
  const Leader& leader_;
  Ref sigma_ = fn::mark(constant(DType::F32, 0.0), "sigma");
  NodeMap<Factors> factors_;  // of each parameter's Mark

  static Ints all_axes(size_t rank) {
    Ints out;
    for (size_t a = 0; a < rank; ++a) out.push_back(static_cast<int64_t>(a));
    return out;
  }

  /// The roots with each parameter's delta of one vendor added.
  std::vector<Ref> perturbed(std::span<const Ref> roots) const {
    NodeMap<Ref> became;
    for (const auto& [mark, factors] : factors_) {
      const Ref size = fn::splat(sigma_, mark->shape);
      became.emplace(mark, fn::add(Ref(mark), fn::mul(factors.delta, size)));
    }
    carry(roots, became, [&](const Node& n, std::span<const Ref* const> changed) {
      std::vector<Ref> src;
      for (size_t i = 0; i < n.src.size(); ++i) src.push_back(changed[i] ? *changed[i] : n.src[i]);
      if (n.is(Op::Call) && !find_call(n.arg.text) && !find_unary(n.arg.text)) return src[0];
      if (const Factors* table = looked_up(n)) return added_row(n, src, *table);
      if (const std::optional<Product> p = product(n)) return added_product(n, src, *p);
      return with_sources(n, src);
    });
    std::vector<Ref> out;
    for (const Ref& r : roots) {
      const auto it = became.find(r.get());
      out.push_back(it == became.end() ? r : it->second);
    }
    return out;
  }

  /// Rows of a matrix, read by their numbers.
  const Factors* looked_up(const Node& n) const {
    if (!n.is(Op::Gather) || n.arg.ints != Ints{0} || n.src[0]->rank() != 2) return nullptr;
    const auto it = factors_.find(n.src[0].get());
    return it == factors_.end() || it->second.signs.size() < 2 ? nullptr : &it->second;
  }

  Ref added_row(const Node& n, std::vector<Ref> src, const Factors& f) const {
    src[0] = n.src[0];
    const Ref row = with_sources(n, src);
    src[0] = f.signs[0].node;  // [rows, 1]
    const Ref sign = fn::broadcast(make(Op::Gather, src, n.arg), row->shape);
    const Ref columns = fn::broadcast(f.signs[1].node, row->shape);
    return fn::add(row, fn::mul(fn::mul(sign, columns), fn::splat(sigma_, row->shape)));
  }

  std::optional<Product> product(const Node& n) const {
    if (!n.is(Op::Reduce) || fold_in(n) != Fold::Dot || n.src.size() != 2) return {};
    for (const size_t weight : {size_t{1}, size_t{0}}) {
      const Node *view = n.src[weight].get(), *other = n.src[1 - weight].get();
      bool turned = false;
      for (; view->is(Op::Reshape) || view->is(Op::Permute) || view->is(Op::Expand);
           view = view->src[0].get())
        turned = turned != view->is(Op::Permute);  // a transpose of a transpose is none
      const auto it = factors_.find(view);
      if (it == factors_.end() || it->second.signs.size() < 2 || !other->is(Op::Expand)) continue;
      for (size_t a = 0; a < other->rank(); ++a) {
        const bool summed =
            std::count(n.arg.ints.begin() + 1, n.arg.ints.end(), static_cast<int64_t>(a)) != 0;
        if (!summed && is_int(other->src[0]->shape[a], 1) && !is_int(other->shape[a], 1))
          return Product{weight, view, static_cast<int64_t>(a), turned};
      }
    }
    return {};
  }

  // sum_k x_k (W_ok + s a_o b_k) = sum_k x_k W_ok + s a_o sum_k x_k b_k.
  Ref added_product(const Node& n, std::vector<Ref> src, const Product& p) const {
    src[p.weight] = n.src[p.weight];
    const Ref shared = with_sources(n, src);
    const std::vector<BatchedLeaf>& signs = factors_.find(p.mark)->second.signs;
    Ref rows = fn::broadcast(signs[0].node, p.mark->shape),
        columns = fn::broadcast(signs[1].node, p.mark->shape);
    if (signs.size() > 2) columns = fn::mul(columns, fn::broadcast(signs[2].node, p.mark->shape));
    if (p.rows_are_summed) std::swap(rows, columns);
    const auto seen = [&](const Ref& w) { return substitute(n.src[p.weight], Substitution{{p.mark, w}}); };
    const auto first = [](const Ref& x, int64_t axis) { return fn::slice(x, axis, 0, 1, 1); };
    Ref outer = seen(rows);
    Ints folded(n.arg.ints.begin() + 1, n.arg.ints.end());
    for (int64_t a : folded) outer = first(outer, a);
    const Ref inner = fn::reduce(
        Fold::Dot, {first(src[1 - p.weight], p.channels_axis), first(seen(columns), p.channels_axis)}, folded,
        true);
    Dims shape = n.src[0]->shape;
    for (int64_t a : folded) shape[static_cast<size_t>(a)] = index(1);
    const Ref term = fn::mul(fn::broadcast(inner, shape), fn::broadcast(outer, shape));
    const Ref flat = fn::reshape(term, shared->shape);
    return fn::add(shared, fn::mul(flat, fn::splat(sigma_, flat->shape)));
  }
};

/// Places of the parameters of all groups, and for each its group and place in that.
struct Places {
  std::vector<size_t> parameters;
  std::vector<std::pair<size_t, size_t>> in_group;
};

Places places_of(const Step& step) {
  Places out;
  for (size_t g = 0; g < step.groups(); ++g) {
    if (step.vendors(g) != 1)
      fail("groups: {} vendors of '{}'; the low-rank plan has one a sample", step.vendors(g),
           step.options.groups[g].name);
    for (size_t k = 0; k < step.members[g].size(); ++k) {
      out.parameters.push_back(step.members[g][k]);
      out.in_group.emplace_back(g, k);
    }
  }
  return out;
}

}  // namespace

std::vector<Ints> factor_axes(size_t rank) {
  if (rank < 2) return {rank == 0 ? Ints{} : Ints{0}};
  std::vector<Ints> out{{0}, {1}};
  if (rank > 2) out.emplace_back();
  for (size_t a = 2; a < rank; ++a) out.back().push_back(static_cast<int64_t>(a));
  return out;
}

Dims factor_shape(const Node& parameter, const Ints& axes) {
  Dims thin(parameter.rank(), index(1));
  for (int64_t a : axes) thin[static_cast<size_t>(a)] = parameter.shape[static_cast<size_t>(a)];
  return thin;
}

LowRankVendors low_rank_vendors(const Leader& leader, std::span<const size_t> parameters, const Ref& sigma,
                                const DrawSigns& draw, bool whole) {
  if (leader.parts.empty()) fail("marketplace: the low-rank plan needs two samples or more, not one");
  return Recorder(leader, parameters, draw, whole).run(parameters, sigma);
}

// Of a matrix, one product of its factors.
Ref weighted_signs(const Dims& shape, const std::vector<Ref>& signs, const Ref& weights) {
  const Ref rows = fn::flatten(signs[0], 1);
  const Ref weighted = fn::mul(rows, along_vendors(weights, rows));
  if (signs.size() == 1) return fn::reshape(fn::sum(weighted, Ints{0}, false), shape);
  Ref columns = signs[1];
  if (signs.size() > 2) {
    Dims wide = columns->shape;
    for (size_t a = 3; a < wide.size(); ++a) wide[a] = shape[a - 1];
    columns = fn::mul(fn::broadcast(columns, wide), fn::broadcast(signs[2], wide));
  }
  // Stored: a product reads each factor many times, and bits are not made into signs each time.
  const Ref left = make(Op::Copy, {weighted}), right = make(Op::Copy, {fn::flatten(columns, 1)});
  return fn::reshape(fn::matmul(fn::transpose(left, 0, 1), right), shape);
}

// All signs of a group's parameters are of one seed: those of all samples follow each other from one counter on.
Outcome record_low_rank(const Step& step) {
  const Places places = places_of(step);
  const Leader& leader = step.leader;
  if (leader.parts.empty()) fail("marketplace: the low-rank plan needs two samples or more, not one");
  const Ref samples = leader.parts[0].with->shape[0];
  const LowRankVendors vendors = low_rank_vendors(
      leader, places.parameters, step.sigma(0), [&](size_t i, size_t factor, const Dims& thin) {
        const auto [g, k] = places.in_group[i];
        Dims shape = thin;
        shape.insert(shape.begin(), samples);
        const int64_t stream = static_cast<int64_t>(4 * k + factor) << 32;
        return fn::rademacher_at(fn::select(step.seeds[g], 0, 0), constant(DType::U64, stream), shape,
                                 DType::F32);
      });
  const Ref& losses = vendors.losses;
  Outcome out{.losses = {fn::reshape(losses, {ix::mul(index(2), samples)})}};
  out.loss = fn::mean(losses, {}, false);
  if (vendors.accuracy) out.accuracy = fn::mean(vendors.accuracy, {}, false);
  const Ref apart = fn::sub(fn::select(losses, 0, 0), fn::select(losses, 0, 1));
  const double factor = -0.5 / static_cast<double>(extent(samples));
  const Ref weights =
      fn::mul(fn::where(finite(apart), apart, 0.0), fn::splat(fn::div(factor, step.sigma(0)), apart->shape));
  out.directions.resize(step.groups());
  for (size_t i = 0; i < places.parameters.size(); ++i)
    out.directions[places.in_group[i].first].push_back(
        weighted_signs(leader.marks[places.parameters[i]]->shape, vendors.signs[i], weights));
  return out;
}

}  // namespace kontor::inline v0::marketplace
