// The driver: sources before users, each by the rule of its op; Calls and controls; where values are rounded.
#include "scalify/scalify.h"

#include "base/error.h"
#include "graph/folds.h"
#include "graph/functions/formula.h"
#include "graph/functions/scaling.h"
#include "scalify/calls.h"
#include "scalify/rules.h"

namespace kontor::scalify {

namespace {

bool is_call(const Node& n, std::string_view name) { return n.is(Op::Call) && n.arg.text == name; }

/// What is read of a node: of a Call known by name its arguments, of any other its body.
std::span<const Ref> read_of(const Node& n) {
  if (!n.is(Op::Call) || fn::is_scale_control(n)) return n.src;
  return is_of_values(n) ? n.src.subspan(1) : n.src.first(1);
}

std::vector<const Node*> order_of(std::span<const Ref> roots, std::span<const Ref> (*below)(const Node&)) {
  NodeSet met;
  std::vector<const Node*> order;
  for (const Ref& r : roots) append_topological(r.get(), met, order, below);
  return order;
}

class Pass {
 public:
  Pass(const Graph& graph, const Options& options)
      : graph_(graph), options_(options), order_(order_of(graph.outputs, read_of)) {
    // Calls are not looked into: what is inside of one and read by nothing else is never stored.
    const auto outside = [](const Node& n) -> std::span<const Ref> {
      return n.is(Op::Call) ? n.src.subspan(1) : std::span<const Ref>(n.src);
    };
    for (const Node* n : order_of(graph.outputs, outside)) outside_.insert(n);
    for (const Node* n : order_) {
      bool is_gradient = is_call(*n, "cotangent");
      // Not by way of a condition: what a checkpoint computes again waits for a cotangent, and is what it was.
      for (const Ref& s : read_of(*n))
        is_gradient = is_gradient || (is_float(s->dtype) && gradients_.contains(s.get()));
      if (is_gradient) gradients_.insert(n);
    }
  }

  Result run() {
    for (const Node* n : order_) {
      Scaled x = changed(*n);
      if (const auto given = options_.leaves.find(n); given != options_.leaves.end())
        x.predicted = given->second;
      if (options_.every_value && !is_narrow(n->dtype)) x = normalised(x);
      done_.emplace(n, std::move(x));
    }
    Result out{.graph = graph_, .exponents = {}, .rounded = {}, .values = {}, .rescales = rescales_};
    for (Ref& o : out.graph.outputs) {
      const Scaled x = kept(*o);
      out.exponents.push_back(x.predicted);
      Ref value = is_float(o->dtype) ? times_power(x.data, x.at) : x.data;
      o = value->op == Op::Buffer ? make(Op::Copy, {value}) : value;
    }
    out.rounded = std::move(rounded_);
    for (const auto& [node, x] : done_) out.values.push_back({Ref(node), x});
    return out;
  }

 private:
  /// As it was made, before it was rounded for whoever reads it.
  const Scaled& made(const Node& n) const { return done_.at(&n); }

  /// As others read it: values of layers and of products are kept in a format.
  Scaled kept(const Node& n) {
    const bool is_product = n.is(Op::Reduce) && row(fold_in(n)).is_dot;
    if (!is_product && !(n.is(Op::Call) && is_kept(n.arg.text))) return made(n);
    if (!outside_.contains(&n) || n.dtype != DType::F32) return made(n);
    return in_format(n, options_.casting.values, kept_);
  }

  Scaled in_format(const Node& n, DType format, NodeMap<Scaled>& known) {
    if (format == DType::F32 || made(n).any_scale) return made(n);
    if (const auto it = known.find(&n); it != known.end()) return it->second;
    Scaled x = made(n);
    if (!options_.casting.scales) x.predicted = 0;
    return known.emplace(&n, noted(n, x, format, true)).first->second;
  }

  /// `in_f16`: what products read, which a CPU widens from f16 in one instruction and from 8 bits in ten.
  Scaled noted(const Node& n, const Scaled& x, DType format, bool in_f16) {
    Scaled out = rounded(x, format, in_f16);
    rounded_.push_back({Ref(&n), format, gradients_.contains(&n), x.predicted, normalised(x).data, out.data});
    return out;
  }

  /// n as views of what `of` makes of the value below them.
  template <class F>
  Scaled below_views(const Node& n, const F& of) {
    const bool fill_has_scale = n.is(Op::Pad) && !made(*n[1]).any_scale;
    if (!is_movement(n.op) || fill_has_scale) return of(n);
    Scaled out = below_views(*n[0], of);
    std::vector<Ref> sources{out.data};
    for (const Ref& s : n.src.subspan(1)) sources.push_back(made(*s).data);
    out.data = with_sources(n, sources);
    return out;
  }

  /// What a product reads: rounded before it is broadcast or moved, once for each of its own elements, and from what it was before
  /// it was rounded for others.
  Scaled operand(const Node& n) {
    return below_views(n, [&](const Node& base) {
      const bool of_gradient = gradients_.contains(&base);
      return in_format(base, of_gradient ? options_.casting.gradient : options_.casting.forward, operands_);
    });
  }

  Scaled changed(const Node& n) {
    if (n.is(Op::Call)) return call(n);
    std::vector<Scaled> own;
    std::vector<const Scaled*> from;
    const bool is_product = n.is(Op::Reduce) && fold_in(n) == Fold::Dot;
    own.reserve(n.src.size());
    for (const Ref& s : n.src) {
      own.push_back(is_product ? operand(*s) : kept(*s));
      from.push_back(&own.back());
    }
    return scaled({n, from, options_.rules});
  }

  Scaled call(const Node& n) {
    if (fn::is_scale_control(n)) return control(n);
    if (!is_of_values(n)) return kept(*n[0]);
    std::vector<const Scaled*> from;
    std::vector<Scaled> own;
    own.reserve(n.src.size());
    for (const Ref& s : n.src.subspan(1)) {
      own.push_back(kept(*s));
      from.push_back(&own.back());
    }
    return of_values(n, from, options_.rules);
  }

  Scaled control(const Node& n) {
    const std::string_view name = n.arg.text;
    // What is cast is rounded once, from what it was before it was rounded for others.
    const Scaled x = name == "cast_forward" ? below_views(*n[1], [&](const Node& base) { return made(base); })
                                            : kept(*n[1]);
    if (!is_float(n[1]->dtype)) return kept(*n[0]);
    Scaled out = x;
    if (name == "set_scale") {
      out.predicted = n.at(0);
    } else if (name == "rebalance") {
      out.predicted = x.predicted + n.at(0);
    } else if (name == "stop_scale") {
      out.data = times_power(x.data, x.at), out.at = out.predicted = 0;
    } else if (name == "scaled_data") {
      out = normalised(x), out.at = out.predicted = 0;
    } else if (name == "scale_of") {
      out = {.data = fn::splat(power_of_two(x.predicted), n.shape), .non_negative = true};
    } else if (name == "cast_forward") {
      out = noted(n, x, static_cast<DType>(n.at(0)), false);
    } else if (name == "dynamic_rescale" && n.at(1) == 0) {
      out.predicted = x.predicted + measured(x, static_cast<fn::ScaleNorm>(n.at(0)));
    }
    return out;
  }

  /// The power of two of a norm of the data as it is predicted, but 2^-14 at least: zeros have no scale of their own.
  Exponent measured(const Scaled& given, fn::ScaleNorm norm) {
    constexpr int64_t least = -14;
    const Scaled x = normalised(given);
    Ref count = index(1);
    for (const Ref& d : x.data->shape) count = fn::mul(count, d);
    if (!is_float(x.data->dtype) || count->bounds.lo == 0) return 0;
    rescales_++;
    const Ref size = fn::abs(fn::cast(x.data, DType::F32));
    Ref value;
    switch (norm) {
      case fn::ScaleNorm::Max: value = fn::max(size, {}, false); break;
      case fn::ScaleNorm::L1:  value = fn::mean(size, {}, false); break;
      case fn::ScaleNorm::L2:  value = fn::sqrt(fn::mean(fn::square(size), {}, false)); break;
    }
    return {0, measured_exponent(value, least)};
  }

  const Graph& graph_;
  const Options& options_;
  std::vector<const Node*> order_;
  NodeSet outside_;    // of all bodies
  NodeSet gradients_;  // what depends on a cotangent
  NodeMap<Scaled> done_, kept_, operands_;
  std::vector<Rounded> rounded_;
  int64_t rescales_ = 0;
};

}  // namespace

Result scalify(const Graph& graph, const Options& options) { return Pass(graph, options).run(); }

std::optional<Casting> asked_for(const Graph& graph) {
  std::optional<Casting> out;
  for (const Node* n : topological(graph.outputs)) {
    if (!is_call(*n, "scalify") && !is_call(*n, "cotangent")) continue;
    const Casting now{static_cast<DType>(n->at(0)), static_cast<DType>(n->at(1)),
                      static_cast<DType>(n->at(2)), n->at(3) != 0};
    if (out && *out != now) fail("scalify: one graph with two losses of different formats");
    out = now;
  }
  return out;
}

Graph pass(const Graph& graph) {
  const std::optional<Casting> casting = asked_for(graph);
  return casting ? scalify(graph, {.casting = *casting}).graph : graph;
}

}  // namespace kontor::scalify
