// The verifier of the graph level: a list of rules that every node must keep, and what a broken one says.
#pragma once
#include <string>
#include <string_view>

#include "graph/graph.h"

namespace kontor {

/// A rule that well-formed nodes keep; `mistake` returns what is wrong with one, or "".
struct NodeCheck {
  std::string_view name;
  std::string_view says;
  std::string (*mistake)(const Node& node);
};
std::span<const NodeCheck> graph_checks();

/// What is wrong with a graph, one line each ("permute.order: permute f32[2, 3]: axis 2 of ..."); none if it is sound.
std::vector<std::string> verify(const Graph& graph);
/// Throws InternalError with the mistakes and the graph's text. `after` says which pass made it.
void require_sound(const Graph& graph, std::string_view after);

}  // namespace kontor
