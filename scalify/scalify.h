// Scalify: a graph as one of data and powers of two, in which narrow floats hold what f32 held (Blake et al., Scalify: scale propagation
// for efficient low-precision LLM training, 2024). The graph made means the same: its inputs and outputs hold plain values, and where
// nothing is rounded its results have the same bits. docs/scalify.md tells of it from nothing.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "scalify/casting.h"

namespace kontor::scalify {

struct Options {
  Casting casting = {};
  RuleOptions rules = {};
  bool every_value =
      false;  ///< normalises each value where it is made, as the method is written down: what rules are tested by
  NodeMap<int64_t> leaves =
      {};  ///< exponents of Buffers (of the others: 0), and of what else is known better than by its rule
};

/// A value that is rounded to a narrow float.
struct Rounded {
  Ref value;  ///< in the graph that was given
  DType format;
  bool of_gradient;    ///< whether it depends on a cotangent
  Exponent predicted;  ///< its scale
  Ref data, result;    ///< divided by the scale, in the graph that was made: before, and after
};

/// A value of the graph that was given, and what it was to the pass.
struct Made {
  Ref value;
  Scaled scaled;
};

struct Result {
  Graph graph;
  std::vector<Exponent> exponents;  ///< that were predicted for the outputs
  std::vector<Rounded> rounded;     ///< in the order in which they were met
  std::vector<Made> values;         ///< all of them, sources before users
  int64_t rescales = 0;             ///< exponents that are measured
};

/// Every value of the graph by its rule. Controls are heeded.
Result scalify(const Graph& graph, const Options& options);

/// A line for each float of the graph: what makes it, of which values, its exponent, and what else is known of it.
std::string explain(const Graph& graph, const Options& options);

/// What a Call "scalify" in the graph asks for; none: there is no such Call. Throws Error if two ask for different things.
std::optional<Casting> asked_for(const Graph& graph);
/// The pass: what the graph asks for by a Call "scalify", or the graph itself.
Graph pass(const Graph& graph);

}  // namespace kontor::scalify
