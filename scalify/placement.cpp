// See placement.h.
#include "scalify/placement.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/recording.h"
#include "graph/shape.h"
#include "graph/transforms/gradient.h"

namespace kontor::scalify {

namespace {

constexpr int64_t target = -1;     // log2 rms that a correction brings the data to: room for tails
constexpr size_t most_tries = 64;  // each is a pass over the graph

std::vector<const Node*> order_of(const Ref& loss) { return topological(std::span(&loss, 1)); }

const Node* below_views(const Node* n) {
  while (is_movement(n->op)) n = (*n)[0].get();
  return n;
}

/// What a Correction calls values: in topological order, counting floats that have axes only. How the counters of random draws are
/// recorded (a Scalar each, or one plus numbers in a jit) is nothing to it.
NodeMap<size_t> numbers_of(std::span<const Node* const> order) {
  NodeMap<size_t> out;
  for (const Node* n : order)
    if (is_float(n->dtype) && n->rank() > 0) out.emplace(n, out.size());
  return out;
}

/// By the node that is the gradient of `asked`, which has the loss, to a value of the loss: that value.
NodeMap<const Node*> values_by_gradient(const Ref& asked, std::span<const Node* const> order,
                                        const NodeMap<size_t>& numbers) {
  std::vector<Ref> values;
  for (const Node* n : order)
    if (numbers.contains(n) && !is_movement(n->op)) values.emplace_back(n);
  NodeMap<const Node*> out;
  const std::vector<Ref> gradients = gradient(asked, values);
  for (size_t i = 0; i < gradients.size(); i++)
    out.insert_or_assign(below_views(gradients[i].get()), values[i].get());
  return out;
}

std::string about(const Node& n, bool of_gradient) {
  const std::string_view name = n.is(Op::Call) ? std::string_view(n.arg.text) : row(n.op).name;
  return fmt::format("{} {} {}", of_gradient ? "backward" : "forward", name, describe_shape(n.shape));
}

}  // namespace

FlatRange flat_range(DType format) { return format == DType::F8E4M3 ? FlatRange{-4, 1} : FlatRange{-10, 8}; }

std::vector<Correction> place(const Graph& graph, const Ref& loss, const Options& given,
                              std::span<const double> log2_rms) {
  Options options = given;
  const std::vector<const Node*> order = order_of(loss);
  const NodeMap<size_t> values = numbers_of(order);
  const NodeMap<const Node*> gradients = values_by_gradient(graph.outputs[0], order, values);
  std::vector<Correction> out;
  NodeSet done;
  for (size_t tries = 0; tries < most_tries; tries++) {
    const std::vector<Rounded> rounded = scalify(graph, options).rounded;
    if (rounded.size() != log2_rms.size())
      broken("placement: {} values, {} were measured", rounded.size(), log2_rms.size());
    const auto wrong = [&](size_t i) {
      const Rounded& r = rounded[i];
      const Node* n = below_views(r.value.get());
      const double off = log2_rms[i] - static_cast<double>(r.predicted.fixed);
      const FlatRange flat = flat_range(r.format);
      const bool can_be = r.of_gradient ? gradients.contains(n) : values.contains(n);
      return r.predicted.is_static() && std::isfinite(off) && (off < flat.low || off > flat.high) && can_be &&
             !done.contains(n);
    };
    size_t i = 0;
    while (i < rounded.size() && !wrong(i)) i++;
    if (i == rounded.size()) return out;
    const Rounded& r = rounded[i];
    const Node* n = below_views(r.value.get());
    done.insert(n);
    const int64_t exact = static_cast<int64_t>(std::lround(log2_rms[i])) - target;
    out.push_back({values.at(r.of_gradient ? gradients.at(n) : n), r.of_gradient, exact - r.predicted.fixed,
                   about(*n, r.of_gradient)});
    options.leaves.insert_or_assign(n, exact);
  }
  return out;
}

Tensor with_corrections(const Tensor& loss, std::span<const Correction> corrections) {
  const Ref root = node_of(loss);
  const std::vector<const Node*> order = order_of(root);
  const NodeMap<size_t> numbers = numbers_of(order);
  Substitution made;
  map_nodes(order, made, [&](const Node& n) {
    Ref now = with_sources(n, sources_in(made, n));
    for (const Correction& c : corrections) {
      if (!numbers.contains(&n) || c.value != numbers.at(&n)) continue;
      now = c.of_gradient ? fn::dynamic_rescale(now, "l2", true) : fn::rebalance(now, c.by);
    }
    return now;
  });
  return tensor_of(made.at(root.get()));
}

}  // namespace kontor::scalify
