// Training with a recipe: how a model's weights are kept, and its loss by scales that are propagated.
#pragma once
#include <vector>

#include <kontor/nn.h>

#include "scalify/placement.h"
#include "scalify/recipes.h"

namespace kontor::tools {

/// Trained parameters are kept from now on in the format of the recipe's master weights. Realizes them.
void keep_masters(const std::vector<nn::Parameter>& parameters, const scalify::Recipe& recipe);
/// What `make` records of a model (nn::classification, nn::language_model), of a copy of it whose parameters are read as f32, whatever
/// they are kept in. The model must outlive it, and stays as it is.
template <class Model, class Make>
nn::Objective reading_wide(const Model& model, Make make) {
  return [&model, make](const Tensor& x, const Tensor& labels) -> nn::Score {
    Model own = model;
    for (const nn::Parameter& p : nn::parameters(own))
      if (p.trained) *p.tensor = p.tensor->cast(DType::F32);
    return make(own)(x, labels);
  };
}
/// The parameters as f32, to be written to a file. Names and order stay.
struct WideParameters {
  std::vector<Tensor> tensors;
  std::vector<nn::Parameter> parameters;
  explicit WideParameters(const std::vector<nn::Parameter>& of);
};

/// The objective, of a model that reads its parameters as f32, whose gradients are computed as a recipe for the graph says: each parameter
/// at the scale that its values have now.
nn::Objective with_casting(nn::Objective objective, const std::vector<nn::Parameter>& parameters,
                           const scalify::Recipe& recipe, std::vector<scalify::Correction> corrections = {});

/// One batch.
struct Example {
  Tensor x, labels;
};
/// Where such an objective's scales are to be corrected, by what these batches come to (of one shape, at least one): none, unless the
/// recipe is placed.
std::vector<scalify::Correction> calibrated(const nn::Objective& objective,
                                            const std::vector<nn::Parameter>& parameters,
                                            const scalify::Recipe& recipe, std::span<const Example> batches);

}  // namespace kontor::tools
