// A training step of a GPT: forward, backward and Adam as one graph.
#include "tools/gpt.h"

#include <limits>

#include <kontor/kontor.h>

#include "graph/recording.h"
#include "scalify/loss.h"
#include "scalify/recipes.h"

namespace kontor::tools {

namespace {

Tensor leaf(const Shape& shape, DType dtype = DType::F32) {
  return tensor_of(buffer_leaf(dtype, Recording::dims(shape), nullptr, fresh_id(), 0));
}

/// What is wanted, and where it goes: as nn::Adam, nothing changes where the loss is not finite.
struct Updates {
  Tensor finite;
  std::vector<Ref> outputs, targets;
  void set(const Tensor& target, const Tensor& value) {
    outputs.push_back(node_of(where(finite, value, target)));
    targets.push_back(node_of(target));
  }
};

void adam(Updates& updates, const Tensor& x, const Tensor& g) {
  static const Scalar rate(1e-3), first(1.0), second(1.0);
  constexpr double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  const Tensor m_before = leaf(x.dims()), v_before = leaf(x.dims());
  const Tensor m = m_before * beta1 + g * (1 - beta1), v = v_before * beta2 + g * g * (1 - beta2);
  updates.set(x, x - m * first * rate / ((v * second).sqrt() + eps));
  updates.set(m_before, m);
  updates.set(v_before, v);
}

/// The loss by a recipe for the graph, with the scales that initial weights have.
Tensor with_recipe(const Tensor& loss, const std::vector<nn::Parameter>& parameters, const char* name) {
  constexpr int64_t of_matrices = -6;  // of a deviation of 0.02
  const scalify::Recipe recipe = scalify::find_recipe(name);
  std::vector<scalify::LeafScale> leaves;
  for (const nn::Parameter& p : parameters)
    leaves.push_back(
        {*p.tensor, p.tensor->rank() > 1 ? of_matrices : 0, scalify::weight_gradient_of(recipe)});
  return scalify::scaled_loss(loss, leaves, scalify::casting_of(recipe));
}

}  // namespace

Graph gpt_step(const GptShape& shape) {
  nn::Gpt model({.vocabulary = shape.vocabulary,
                 .context = shape.context,
                 .layers = shape.layers,
                 .width = shape.width,
                 .heads = shape.heads});
  for (const nn::Parameter& p : nn::parameters(model)) *p.tensor = leaf(p.tensor->dims());
  const Tensor ids = leaf({shape.batch, shape.context}, DType::I32);
  const Tensor next = leaf({shape.batch, shape.context}, DType::I32);
  Tensor loss = cross_entropy(model(ids), next).mean();
  if (shape.recipe) loss = with_recipe(loss, nn::parameters(model), shape.recipe);
  std::vector<Tensor> weights;
  for (const nn::Parameter& p : nn::parameters(model)) weights.push_back(*p.tensor);
  const std::vector<Tensor> gradients = gradient(loss, weights);
  Updates updates{.finite = loss.abs() < std::numeric_limits<double>::infinity(),
                  .outputs = {node_of(loss)},
                  .targets = {Ref()}};
  for (size_t i = weights.size(); i-- > 0;) adam(updates, weights[i], gradients[i]);
  return make_graph(updates.outputs, updates.targets);
}

}  // namespace kontor::tools
