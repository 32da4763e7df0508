// A model's accuracy on a dataset, in batches.
#pragma once
#include <memory>

#include <kontor/nn.h>

#include "nn/dataset.h"

namespace kontor::tools {

/// Images of a batch as a tensor u8 [batch, 1, rows, cols].
Tensor images_of(const Dataset& data, const Batch& batch);

class Evaluation {
 public:
  /// Reads weights as f32, whatever they are kept in.
  explicit Evaluation(const nn::MnistCnn& model);
  double accuracy(const Dataset& data);

 private:
  nn::Evaluator evaluator_;
};

}  // namespace kontor::tools
