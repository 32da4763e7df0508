// Training with scales that are propagated: formats by name, and a model's loss by them.
#pragma once
#include <string>
#include <vector>

#include <kontor/nn.h>

#include <CLI/CLI.hpp>

namespace kontor::tools {

/// "none" and the names of the formats.
CLI::IsMember known_castings();
/// The objective whose gradients are computed so: each parameter at the scale that its values have now. The model is as it was.
nn::Objective with_casting(nn::Objective objective, const std::vector<nn::Parameter>& parameters,
                           const std::string& name);

}  // namespace kontor::tools
