// Training with scales that are propagated: a model's loss by them.
#pragma once
#include <vector>

#include <kontor/nn.h>

#include "scalify/casting.h"

namespace kontor::tools {

/// The objective whose gradients are computed so: each parameter at the scale that its values have now. The model is as it was.
nn::Objective with_casting(nn::Objective objective, const std::vector<nn::Parameter>& parameters,
                           const scalify::Casting& casting);

}  // namespace kontor::tools
