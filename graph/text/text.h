// Graphs as text that reads back: graph_key(parse_graph(print(g))) == graph_key(g).
//
//   graph
//     n = variable i64 {1, 100}             scalars and variables, in the order of their slots
//     %0 = scalar f32
//     %1 = buffer f32[n, 3]                 inputs in order
//     %2 = reshape f32[1, 1] %0 1 1         op, what it gives, sources; constants and index expressions stand in place
//     %3 = expand f32[n, 3] %2 n 3
//     %4 = mul f32[n, 3] %1 %3
//     %5 = reduce f32[n] {sum, 1} %4        {arguments}: numbers, a fold's name
//     %6 = call f32[n] "relu" %5 %4         "name" of a Call or Mark
//     return %6, %4 -> %1                   -> the input whose memory an output goes to
//
// A Mark's number says which Marks are one. What is left out: a Scalar's value and which Buffer it was.
#pragma once
#include <string>
#include <string_view>

#include "graph/graph.h"

namespace kontor {

std::string print(const Graph& graph);
/// Throws Error that says the line and what is wrong there.
Graph parse_graph(std::string_view text);

}  // namespace kontor
