// Crossing of vendors, with or without upstream sampling (spec 1.2).
#include "marketplace/paths.h"

#include <algorithm>

#include "base/error.h"
#include "graph/folds.h"
#include "graph/functions/random.h"
#include "graph/index/index.h"

namespace kontor::inline v0::marketplace {

namespace {

/// The recorded roots cut where group g begins: values that depend on groups before g only, and that something which
/// depends on g or a later group reads. What a vendor of g needs of a path before it is these.
class Cuts {
 public:
  Cuts(const Step& step, std::span<const Ref> roots) : order_(topological(roots)) {
    NodeMap<int64_t> group;
    for (size_t g = 0; g < step.groups(); ++g)
      for (size_t p : step.members[g]) group.emplace(step.leader.marks[p].get(), static_cast<int64_t>(g));
    for (const Node* n : order_) {
      const auto found = group.find(n);
      int64_t latest = found == group.end() ? -1 : found->second;
      if (found == group.end())
        for (const Ref& s : n->src) latest = std::max(latest, latest_.at(s.get()));
      latest_.emplace(n, latest);
    }
  }
  std::vector<Ref> before(int64_t g) const {
    std::vector<Ref> out;
    for (const Node* n : order_) {
      if (latest_.at(n) < g) continue;
      for (const Ref& s : n->src) {
        const int64_t latest = latest_.at(s.get());
        if (latest >= 0 && latest < g && std::find(out.begin(), out.end(), s) == out.end()) out.push_back(s);
      }
    }
    return out;
  }

 private:
  std::vector<const Node*> order_;
  NodeMap<int64_t> latest_;  // group that a node depends on; -1: none
};

/// [extent, ..] of a value that did not depend on what it was batched over.
Ref with_axis(const Ref& x, size_t rank, const Ref& extent) {
  if (x->rank() > rank) return x;
  Dims shape = x->shape;
  shape.insert(shape.begin(), extent);
  return fn::broadcast(x, shape);
}

/// For each vendor of group g its own k of the paths before, without replacement: [vendors, k].
Ref drawn_paths(const Step& step, size_t g, int64_t paths, int64_t k) {
  const Ref seed = fn::mark(constant(DType::U64, int64_t{0}), "seed");
  const Ref counter = constant(DType::U64, after_deltas(step, g) + 1);
  const Ref order = fn::permutation_at(seed, counter, index(paths), DType::I64);
  return batch(std::vector<Ref>{fn::slice(order, 0, 0, k, 1)},
               std::vector<BatchedLeaf>{{seed, step.seeds[g]}})[0];
}

class Crosser {
 public:
  Crosser(const Step& step, std::span<const Ref> roots, std::span<const std::vector<BatchedLeaf>> leaves)
      : step_(step), roots_(roots.begin(), roots.end()), leaves_(leaves), cuts_(step, roots) {}

  Crossing run() {
    std::vector<Ref> cut, values;  // before the group at hand, and for each path up to it
    int64_t paths = 1;
    for (size_t g = 0; g < step_.groups(); ++g) {
      const bool last = g + 1 == step_.groups();
      const std::vector<Ref> next = last ? roots_ : cuts_.before(static_cast<int64_t>(g) + 1);
      const int64_t k = g == 0 ? 1 : upstream(g, paths);
      out_.continued.push_back(k);
      out_.upstream.push_back(g > 0 && k < paths ? drawn_paths(step_, g, paths, k) : Ref());
      values = advance(g, cut, values, next, k);
      paths = step_.vendors(g) * k;
      cut = next;
    }
    out_.values = values;
    return std::move(out_);
  }

 private:
  const Step& step_;
  std::vector<Ref> roots_;
  std::span<const std::vector<BatchedLeaf>> leaves_;
  Cuts cuts_;
  Crossing out_;

  int64_t upstream(size_t g, int64_t paths) const {
    const int64_t k = step_.options.groups[g].upstream;
    if (k > paths)
      fail("groups: '{}' continues {} paths of the groups before it, which have {}",
           step_.options.groups[g].name, k, paths);
    return k == 0 ? paths : k;
  }

  // `next` for each vendor of g and each path it continues, from `cut` for each path before.
  std::vector<Ref> advance(size_t g, const std::vector<Ref>& cut, const std::vector<Ref>& values,
                           const std::vector<Ref>& next, int64_t k) const {
    const Ref& drawn = out_.upstream[g];
    std::vector<BatchedLeaf> continued, own = leaves_[g];
    for (size_t i = 0; i < cut.size(); ++i) {
      Ref value = values[i];
      if (drawn) {
        value = fn::mark(fn::slice(values[i], 0, 0, k, 1), "continued");
        own.push_back({value, fn::take(values[i], drawn, 0)});
      }
      continued.push_back({cut[i], value});
    }
    std::vector<Ref> paths = continued.empty() ? next : batch(next, continued);
    if (g > 0)
      for (size_t i = 0; i < next.size(); ++i) paths[i] = with_axis(paths[i], next[i]->rank(), index(k));
    std::vector<Ref> out = batch(paths, own);
    for (size_t i = 0; i < next.size(); ++i) {
      const Ref both = with_axis(out[i], paths[i]->rank(), index(step_.vendors(g)));
      Dims shape = next[i]->shape;
      shape.insert(shape.begin(), index(step_.vendors(g) * k));
      out[i] = fn::reshape(both, shape);
    }
    return out;
  }
};

/// Every vendor continues every path: the vendors' axes stay apart, and nothing is gathered.
Crossing cross_all(const Step& step, std::span<const Ref> roots,
                   std::span<const std::vector<BatchedLeaf>> leaves) {
  Crossing out{.values = {roots.begin(), roots.end()}, .upstream = {}, .continued = {}};
  int64_t paths = 1;
  for (size_t g = 0; g < step.groups(); ++g) {
    const std::vector<Ref> before = out.values;
    out.values = batch(before, leaves[g]);
    for (size_t i = 0; i < before.size(); ++i)
      out.values[i] = with_axis(out.values[i], before[i]->rank(), index(step.vendors(g)));
    out.upstream.emplace_back();
    out.continued.push_back(paths);
    paths *= step.vendors(g);
  }
  for (size_t i = 0; i < roots.size(); ++i) {
    Dims shape = roots[i]->shape;
    shape.insert(shape.begin(), index(paths));
    out.values[i] = fn::reshape(out.values[i], shape);
  }
  return out;
}

}  // namespace

Crossing cross(const Step& step, std::span<const Ref> roots,
               std::span<const std::vector<BatchedLeaf>> leaves) {
  for (size_t g = 0; g < step.groups(); ++g) with_vendors(step, roots[0], g, leaves[g]);  // or an Error
  const auto& groups = step.options.groups;
  const bool all = std::all_of(groups.begin(), groups.end(), [](const Group& g) { return g.upstream == 0; });
  return all ? cross_all(step, roots, leaves) : Crosser(step, roots, leaves).run();
}

std::vector<Ref> sums_over_paths(const Step& step, const Crossing& crossing, const Ref& z) {
  std::vector<Ref> out(step.groups());
  Ref of_paths = z;
  for (size_t g = step.groups(); g-- > 0;) {
    const int64_t k = crossing.continued[g];
    const Ref both = fn::reshape(of_paths, {index(step.vendors(g)), index(k)});
    out[g] = fn::sum(both, Ints{1}, false);
    if (g == 0) break;
    const Ref& drawn = crossing.upstream[g];
    const int64_t before = step.vendors(g - 1) * crossing.continued[g - 1];
    of_paths = drawn ? make(Op::Scatter, {fn::fill(DType::F32, 0, {index(before)}), both, drawn},
                            {.ints = {static_cast<int64_t>(Fold::Sum), 0}})
                     : fn::sum(both, Ints{0}, false);
  }
  return out;
}

std::vector<Ref> vendors_of_path(const Step& step, const Crossing& crossing, const Ref& path) {
  std::vector<Ref> out(step.groups());
  Ref at = path;
  for (size_t g = step.groups(); g-- > 0;) {
    const Ref k = constant(DType::I64, crossing.continued[g]);
    out[g] = fn::floor_div(at, k);
    const Ref& drawn = crossing.upstream[g];
    at = fn::mod(at, k);
    if (drawn) at = fn::take(fn::take(drawn, out[g], 0), at, 0);
  }
  return out;
}

std::vector<std::vector<BatchedLeaf>> leaves_of(std::span<const Vendors> vendors) {
  std::vector<std::vector<BatchedLeaf>> out;
  for (const Vendors& v : vendors) out.push_back(v.leaves);
  return out;
}

}  // namespace kontor::inline v0::marketplace
