// A function of arrays, computed everywhere: by the graph evaluator and on each device that is here. For tests that know
// the right values themselves.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"

namespace kontor {

using Body = std::function<Ref(const std::vector<Ref>& inputs)>;

struct Found {
  std::string where;  ///< "graph", or the name of a device
  Array value;
  std::string error;  ///< what the first failed check says, or empty
};

/// Where not `compiled`: by the graph evaluator and the interpreter, which compile nothing.
std::vector<Found> everywhere(const Body& body, const std::vector<Array>& inputs, bool compiled = true);

Array array_of(DType dtype, std::vector<int64_t> shape, const std::vector<double>& values);
Array whole_numbers(DType dtype, std::vector<int64_t> shape, const std::vector<int64_t>& values);
std::vector<double> doubles(const Array& a);

}  // namespace kontor
