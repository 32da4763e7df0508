// Records the objective with a Mark in the place of each parameter, so that `batch` can give them vendors.
#include "base/error.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

/// Puts Marks into the model while the objective is recorded.
class Marked {
 public:
  explicit Marked(std::span<const nn::Parameter> parameters) : parameters_(parameters) {
    for (const nn::Parameter& p : parameters) {
      marks.push_back(fn::mark(node_of(*p.tensor), p.name));
      kept_.push_back(std::move(*p.tensor));
      *p.tensor = tensor_of(marks.back());
    }
  }
  ~Marked() {
    for (size_t i = 0; i < parameters_.size(); ++i) *parameters_[i].tensor = std::move(kept_[i]);
  }
  Marked(const Marked&) = delete;
  Marked& operator=(const Marked&) = delete;
  std::vector<Ref> marks;

 private:
  std::span<const nn::Parameter> parameters_;
  std::vector<Tensor> kept_;
};

}  // namespace

Leader record_leader(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                     std::span<const nn::Parameter> parameters) {
  Marked marked(parameters);
  const nn::Score score = objective(x, labels);
  if (score.loss.elements() != 1)
    fail("marketplace: the loss has {} elements, not one", score.loss.elements());
  Leader out{.marks = marked.marks,
             .loss = fn::reshape(fn::cast(node_of(score.loss), DType::F32), {}),
             .accuracy = {}};
  if (!score.accuracy.empty()) out.accuracy = fn::reshape(fn::cast(node_of(score.accuracy), DType::F32), {});
  return out;
}

}  // namespace kontor::inline v0::marketplace
