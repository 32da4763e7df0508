// Shrinking of a random graph that fails.
#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "tests/random_graph.h"

namespace kontor {

namespace {

Case with_outputs(const Case& c, std::vector<Ref> outputs, const std::vector<Ref>& targets,
                  const std::unordered_map<const Node*, Array>& extra = {}) {
  Case smaller{make_graph(std::move(outputs), targets), {}};
  smaller.scalars = scalars_of(smaller.graph);
  for (const Ref& i : smaller.graph.inputs) {
    auto found = extra.find(i.get());
    for (size_t k = 0; k < c.graph.inputs.size() && found == extra.end(); k++)
      if (c.graph.inputs[k] == i) smaller.inputs.push_back(c.inputs[k]);
    if (found != extra.end()) smaller.inputs.push_back(found->second);
  }
  return smaller;
}

std::vector<Ref> targets_of(const Graph& g) {
  std::vector<Ref> targets;
  for (int t : g.target) targets.push_back(t < 0 ? Ref() : g.inputs[static_cast<size_t>(t)]);
  return targets;
}

bool is_plain(const Case& c) {
  std::vector<Array> plain = plain_inputs(c.graph);
  return plain == c.inputs;
}

/// What a smaller case has less of: outputs and operations first, then elements, then odd inputs.
std::tuple<size_t, int64_t, bool> weight(const Case& c) {
  size_t nodes = c.graph.outputs.size();
  int64_t elements = 0;
  for (int t : c.graph.target) nodes += t >= 0;
  for (const Node* n : topological(c.graph.outputs)) {
    nodes += n->op != Op::Const && n->op != Op::Buffer;
    int64_t size = 1;
    for (int64_t d : static_shape(*n)) size *= d + 1;
    elements += size;
  }
  return {nodes, elements, !is_plain(c)};
}

using Try = std::function<bool(Case)>;  // whether that smaller case was taken

bool fewer_outputs(const Case& c, const Try& take) {
  std::vector<Ref> outputs = c.graph.outputs, targets = targets_of(c.graph);
  for (size_t i = 0; i < outputs.size(); i++) {
    if (take(with_outputs(c, {outputs[i]}, {targets[i]}))) return true;
    std::vector<Ref> none = targets;
    none[i] = Ref();
    if (take(with_outputs(c, outputs, none))) return true;
  }
  for (const Node* n : topological(outputs))
    if (!n->is_const() && take(with_outputs(c, {Ref(n)}, {}))) return true;
  return false;
}

/// The case with an input that holds the node's value in its place; as it is where that cannot be evaluated.
Case with_input(const Case& c, const Ref& node) {
  try {
    Case whole = with_outputs(c, {node}, {});
    Array value = evaluate_graph(whole.graph, whole.inputs, whole.scalars).outputs.at(0);
    Ref leaf = make(Op::Buffer, node->shape, {.ints = {fresh_id(), 0}}, node->dtype);
    return with_outputs(c, substitute(c.graph.outputs, {{node.get(), leaf}}), targets_of(c.graph),
                        {{leaf.get(), value}});
  } catch (const std::exception&) {
    return c;
  }
}

/// A node becomes an input that holds its value, or is replaced by a source that looks like it.
bool fewer_nodes(const Case& c, const Try& take) {
  std::vector<Ref> outputs = c.graph.outputs, targets = targets_of(c.graph);
  std::vector<const Node*> nodes = topological(outputs);
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const Node* n = *it;
    if (n->op == Op::Buffer || n->is_const() || !has_static_shape(*n)) continue;
    for (const Ref& s : n->src)
      if (s->dtype == n->dtype && s->shape == n->shape &&
          take(with_outputs(c, substitute(outputs, {{n, s}}), targets)))
        return true;
    if (n->op == Op::Scalar) continue;
    if (take(with_input(c, Ref(n)))) return true;
  }
  return false;
}

/// A number of the graph's text is replaced everywhere; most that comes of it is no graph.
std::string renumbered(const std::string& text, const std::string& from, const std::string& to) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end]))) end++;
    bool number = end > i && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '[');
    if (end == i) end++;
    out += number && text.substr(i, end - i) == from ? to : text.substr(i, end - i);
    i = end;
  }
  return out;
}

bool smaller_extents(const Case& c, const Try& take) {
  const std::string text = print(c.graph);
  std::vector<int64_t> extents;
  for (const Node* n : topological(c.graph.outputs))
    for (int64_t d : static_shape(*n)) extents.push_back(d);
  std::sort(extents.begin(), extents.end(), std::greater<>());
  extents.erase(std::unique(extents.begin(), extents.end()), extents.end());
  for (int64_t d : extents)
    for (int64_t smaller : {int64_t{1}, int64_t{2}, int64_t{3}, d / 2, d - 1}) {
      if (smaller >= d || smaller < 1) continue;
      try {
        Case next{parse_graph(renumbered(text, std::to_string(d), std::to_string(smaller))), {}};
        next.inputs = plain_inputs(next.graph);
        next.scalars = c.scalars;
        if (next.scalars.size() == next.graph.scalars.size() && take(std::move(next))) return true;
      } catch (const std::exception&) {}
    }
  return false;
}

bool plainer_inputs(const Case& c, const Try& take) {
  if (is_plain(c)) return false;
  Case plain = c;
  plain.inputs = plain_inputs(c.graph);
  return take(std::move(plain));
}

}  // namespace

std::vector<Array> plain_inputs(const Graph& graph) {
  std::vector<Array> out;
  for (const Ref& leaf : graph.inputs) {
    Array a = Array::make(leaf->dtype, static_shape(*leaf));
    for (int64_t i = 0; i < a.size(); i++)
      a.set(i, is_float(a.dtype) ? from_double(a.dtype, static_cast<double>((i * 7 + 3) % 13) / 4 - 1)
                                 : from_int(a.dtype, (i * 5 + 1) % 7));
    out.push_back(std::move(a));
  }
  return out;
}

Case shrink(Case failing, const std::function<bool(const Case&)>& fails) {
  for (int rounds = 0; rounds < 80; rounds++) {
    const auto heaviest = weight(failing);
    Case smaller;
    Try take = [&](Case candidate) {
      if (weight(candidate) >= heaviest || !fails(candidate)) return false;
      return smaller = std::move(candidate), true;
    };
    if (!fewer_outputs(failing, take) && !fewer_nodes(failing, take) && !smaller_extents(failing, take) &&
        !plainer_inputs(failing, take))
      break;
    failing = std::move(smaller);
  }
  return failing;
}

std::string describe(const Case& c) {
  std::string out = print(c.graph);
  if (is_plain(c)) return out;
  for (size_t i = 0; i < c.inputs.size(); i++) {
    out += fmt::format("input {}:", i);
    for (int64_t k = 0; k < std::min<int64_t>(c.inputs[i].size(), 64); k++) {
      double value = to_double(c.inputs[i].dtype, c.inputs[i].get(k));
      out += fmt::format(" {}", value);
    }
    out += c.inputs[i].size() > 64 ? " ..\n" : "\n";
  }
  return out;
}

}  // namespace kontor
