// The op table: one row a case, run on every back end against interp, and by finite differences where it has a gradient.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace kontor {

struct OpCase {
  std::string_view name;
  std::string_view expression;       ///< parse_expression's language; each f32[2, 3] is an input, in order
  double low = -2, high = 2;         ///< floats of the inputs lie between these
  int64_t least = -8, greatest = 8;  ///< integers of the inputs, both included (unsigned ones from 0)
  bool gradient = true;              ///< its float inputs have one that finite differences can measure
  bool specials = false;  ///< float inputs also hold 0, -0, infinities, NaN, denormals, huge and tiny numbers
};

std::span<const OpCase> op_table();
/// All of it, or every fifth row in a build for sanitizers: for what takes long for each.
std::vector<OpCase> op_table_thinned();

/// The case as a graph of one output. f32 inputs become f64 ones where `wide` (for finite differences).
Graph graph_of(const OpCase& row, bool wide = false);
/// Raw row-major bytes of input `number` of the graph: the same each time.
std::vector<std::byte> input_of(const OpCase& row, const Graph& graph, size_t number);

}  // namespace kontor
