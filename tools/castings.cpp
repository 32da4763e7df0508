// See castings.h.
#include "tools/castings.h"

#include <cmath>

#include <kontor/kontor.h>

#include "graph/recording.h"
#include "graph/transforms/gradient.h"
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
                           const scalify::Recipe& recipe, std::vector<scalify::Correction> corrections) {
  struct Leaf {
    Tensor* tensor;
    int64_t exponent;
  };
  std::vector<Leaf> leaves;
  for (Tensor* t : trained(parameters)) leaves.push_back({t, scalify::exponent_of(*t)});
  const bool fits = recipe.of(scalify::Role::Gradient).rescale == scalify::Rescale::Norms;
  return [objective = std::move(objective), leaves = std::move(leaves), casting = scalify::casting_of(recipe),
          kept = scalify::weight_gradient_of(recipe), fits,
          corrections = std::move(corrections)](const Tensor& x, const Tensor& labels) {
    nn::Score score = objective(x, labels);
    if (!corrections.empty()) score.loss = scalify::with_corrections(score.loss, corrections);
    if (fits) score.loss = scalify::with_fitted_norms(score.loss);
    std::vector<scalify::LeafScale> now;
    for (const Leaf& l : leaves) now.push_back({l.tensor->cast(DType::F32), l.exponent, kept});
    if (!score.accuracy.empty()) score.accuracy = scalify::with_scales(score.accuracy, now);
    score.loss = scalify::scaled_loss(score.loss, now, casting);
    return score;
  };
}

namespace {

/// A batch's loss, its gradients, and what the pass makes of them.
struct Calibration {
  Ref loss;
  Graph graph;
  scalify::Options options;
  scalify::Result made;
};

Calibration calibration_of(const nn::Objective& objective, const std::vector<Tensor*>& leaves,
                           const scalify::Casting& casting, const Example& batch) {
  const Tensor loss = objective(batch.x, batch.labels).loss;
  // Nothing is rounded when it runs: what a bad scale ruins would be measured else.
  const Tensor asked = scalify_loss(loss, DType::F32, DType::F32, DType::F32);
  Calibration out{.loss = node_of(loss), .graph = {}, .options = {.casting = casting}, .made = {}};
  std::vector<Ref> wrt, outputs{node_of(asked)};
  for (const Tensor* t : leaves) {
    wrt.push_back(node_of(t->cast(DType::F32)));
    out.options.leaves.emplace(wrt.back().get(), scalify::exponent_of(*t));
  }
  for (Ref& g : gradient(outputs[0], wrt)) outputs.push_back(std::move(g));
  out.graph = make_graph(outputs);
  out.made = scalify::scalify(out.graph, out.options);
  return out;
}

}  // namespace

std::vector<scalify::Correction> calibrated(const nn::Objective& objective,
                                            const std::vector<nn::Parameter>& parameters,
                                            const scalify::Recipe& recipe, std::span<const Example> batches) {
  if (!recipe.is_placed()) return {};
  const scalify::Casting casting = scalify::casting_of(recipe);
  std::vector<double> squares;  // mean ones of the values, all batches together
  for (const Example& batch : batches) {
    const Calibration c = calibration_of(objective, trained(parameters), casting, batch);
    std::vector<Tensor> all;
    for (const scalify::Rounded& r : c.made.rounded)
      all.push_back(tensor_of(r.value).cast(DType::F32).square().mean().reshape({1}));
    if (all.empty()) return {};
    const std::vector<float> numbers = cat(all, 0).to_vector<float>();
    squares.resize(numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i)
      squares[i] += double{numbers[i]} / static_cast<double>(batches.size());
    if (&batch != &batches.back()) continue;
    for (double& square : squares) square = std::log2(std::sqrt(square));
    return scalify::place(c.graph, c.loss, c.options, squares);
  }
  return {};
}

}  // namespace kontor::tools
