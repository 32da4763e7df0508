// Runs a function of arrays on the graph evaluator and on each device that opens.
#include "tests/everywhere.h"

#include "graph/index/index.h"
#include "graph/recording.h"
#include "tests/run_graph.h"
#include "tests/thinned.h"

namespace kontor {

std::vector<Found> everywhere(const Body& body, const std::vector<Array>& inputs, bool compiled) {
  std::vector<Ref> leaves;
  for (const Array& a : inputs) {
    Dims dims;
    for (int64_t d : a.shape) dims.push_back(index(d));
    leaves.push_back(buffer_leaf(a.dtype, dims, {}, fresh_id(), 0));
  }
  const Graph graph = make_graph({body(leaves)});
  std::vector<Array> ordered;
  for (const Ref& leaf : graph.inputs)
    for (size_t i = 0; i < leaves.size(); i++)
      if (leaves[i] == leaf) ordered.push_back(inputs[i]);
  std::vector<int64_t> scalars;
  for (const Ref& s : graph.scalars) scalars.push_back(s->at(1));
  std::vector<Found> out;
  Evaluation e = evaluate_graph(graph, ordered, scalars);
  out.push_back({"graph", e.outputs[0], e.error});
  for (const char* name : {"interp", "llvm", "opencl"}) {
    Backend* backend = device(name);
    if (!backend || (name != std::string("interp") && !compiled)) continue;
    static int turn = 0;  // PoCL's compiler takes most of the time and is none of ours to look into
    if (sanitized && name == std::string("opencl") && turn++ % 4) continue;
    Run run = run_graph(graph, *backend, ordered, scalars);
    out.push_back({name, run.outputs[0], run.error});
  }
  return out;
}

Array array_of(DType dtype, std::vector<int64_t> shape, const std::vector<double>& values) {
  Array a = Array::make(dtype, std::move(shape));
  for (size_t i = 0; i < values.size(); i++) a.set(static_cast<int64_t>(i), from_double(dtype, values[i]));
  return a;
}

Array whole_numbers(DType dtype, std::vector<int64_t> shape, const std::vector<int64_t>& values) {
  Array a = Array::make(dtype, std::move(shape));
  for (size_t i = 0; i < values.size(); i++) a.set(static_cast<int64_t>(i), from_int(dtype, values[i]));
  return a;
}

std::vector<double> doubles(const Array& a) {
  std::vector<double> out;
  for (int64_t i = 0; i < a.size(); i++) out.push_back(to_double(a.dtype, a.get(i)));
  return out;
}

}  // namespace kontor
