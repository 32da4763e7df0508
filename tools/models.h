// The models that the program knows by name, and where its data is.
#pragma once
#include <optional>
#include <string>

#include "graph/graph.h"

namespace kontor::tools {

/// The graph of a named model ("mnist-cnn": its forward pass, "mnist-cnn:step": a training step,
/// "mnist-cnn:star" and so on: a step of that plan of Marketplace; "gpt:6x384": a training step of a GPT of 6 layers that
/// are 384 wide); nothing if `name` is not one.
std::optional<Graph> named_graph(const std::string& name);
std::string model_names();  ///< for help and messages

/// A dataset that comes with Kontor ("mnist-12k", a folder; "tinyshakespeare.txt"): in the source tree, or where Kontor is installed.
/// Throws Error that lists where it was looked for.
std::string shipped_data(const std::string& name);

}  // namespace kontor::tools
