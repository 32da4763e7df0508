// See castings.h.
#include "tools/castings.h"

#include "scalify/loss.h"

namespace kontor::tools {

namespace {

std::vector<Tensor*> trained(const std::vector<nn::Parameter>& parameters) {
  std::vector<Tensor*> out;
  for (const nn::Parameter& p : parameters)
    if (p.trained) out.push_back(p.tensor);
  return out;
}

}  // namespace

void keep_masters(const std::vector<nn::Parameter>& parameters, const scalify::Recipe& recipe) {
  const DType dtype = scalify::master_of(recipe);
  for (Tensor* t : trained(parameters)) *t = t->cast(dtype), t->realize();
}

WideParameters::WideParameters(const std::vector<nn::Parameter>& of) : parameters(of) {
  for (const nn::Parameter& p : of) tensors.push_back(p.trained ? p.tensor->cast(DType::F32) : *p.tensor);
  for (size_t i = 0; i < of.size(); ++i) tensors[i].realize(), parameters[i].tensor = &tensors[i];
}

nn::Objective with_casting(nn::Objective objective, const std::vector<nn::Parameter>& parameters,
                           const scalify::Recipe& recipe) {
  struct Leaf {
    Tensor* tensor;
    int64_t exponent;
  };
  std::vector<Leaf> leaves;
  for (Tensor* t : trained(parameters)) leaves.push_back({t, scalify::exponent_of(*t)});
  return [objective = std::move(objective), leaves = std::move(leaves), casting = scalify::casting_of(recipe),
          kept = scalify::weight_gradient_of(recipe)](const Tensor& x, const Tensor& labels) {
    nn::Score score = objective(x, labels);
    std::vector<scalify::LeafScale> now;
    for (const Leaf& l : leaves) now.push_back({l.tensor->cast(DType::F32), l.exponent, kept});
    if (!score.accuracy.empty()) score.accuracy = scalify::with_scales(score.accuracy, now);
    score.loss = scalify::scaled_loss(score.loss, now, casting);
    return score;
  };
}

}  // namespace kontor::tools
