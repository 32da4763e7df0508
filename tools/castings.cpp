// See castings.h.
#include "tools/castings.h"

#include "scalify/loss.h"

namespace kontor::tools {

nn::Objective with_casting(nn::Objective objective, const std::vector<nn::Parameter>& parameters,
                           const scalify::Casting& casting) {
  struct Leaf {
    Tensor* tensor;
    int64_t exponent;
  };
  std::vector<Leaf> leaves;
  for (const nn::Parameter& p : parameters)
    if (p.trained) leaves.push_back({p.tensor, scalify::exponent_of(*p.tensor)});
  return [objective = std::move(objective), leaves = std::move(leaves), casting](const Tensor& x,
                                                                                 const Tensor& labels) {
    nn::Score score = objective(x, labels);
    std::vector<scalify::LeafScale> now;
    for (const Leaf& l : leaves) now.push_back({*l.tensor, l.exponent});
    if (!score.accuracy.empty()) score.accuracy = scalify::with_scales(score.accuracy, now);
    score.loss = scalify::scaled_loss(score.loss, now, casting);
    return score;
  };
}

}  // namespace kontor::tools
