// Records the objective with a Mark in the place of each parameter, so that `batch` can give them vendors.
#include "base/error.h"
#include "graph/index/index.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

/// Puts Marks into the model while the objective is recorded: states are exchanged, which is no assignment that a jit function
/// would have to repeat.
class Marked {
 public:
  explicit Marked(std::span<const nn::Parameter> parameters) : parameters_(parameters) {
    for (const nn::Parameter& p : parameters) {
      marks.push_back(fn::mark(node_of(*p.tensor), p.name));
      kept_.push_back(Recording::state(*p.tensor));
      Recording::set_state(*p.tensor, Recording::state(tensor_of(marks.back())));
    }
  }
  ~Marked() {
    for (size_t i = 0; i < parameters_.size(); ++i)
      Recording::set_state(*parameters_[i].tensor, std::move(kept_[i]));
  }
  Marked(const Marked&) = delete;
  Marked& operator=(const Marked&) = delete;
  std::vector<Ref> marks;

 private:
  std::span<const nn::Parameter> parameters_;
  std::vector<std::shared_ptr<TensorState>> kept_;
};

/// The first of `parts` equal parts of x along its first axis, under a Mark, and all of them: [parts, ..].
BatchedLeaf split(const Tensor& x, int64_t parts, const char* name) {
  const Ref all = node_of(x);
  if (x.rank() == 0 || x.size(0) % parts != 0)
    fail("marketplace: {} samples can't be divided into {} parts", x.rank() == 0 ? 1 : x.size(0), parts);
  const int64_t size = x.size(0) / parts;
  Dims shape = all->shape;
  shape[0] = index(size);
  shape.insert(shape.begin(), index(parts));
  return {fn::mark(fn::slice(all, 0, 0, size, 1), name), fn::reshape(all, shape)};
}

Ref number(const Tensor& x) { return fn::reshape(fn::cast(node_of(x), DType::F32), {}); }

Ref mean_of_parts(const Ref& part, const std::vector<BatchedLeaf>& parts) {
  if (!part || parts.empty()) return part;
  const Ref all = batch(std::vector<Ref>{part}, parts)[0];
  return all->rank() == 0 ? part : fn::mean(all, {}, false);
}

}  // namespace

Leader record_leader(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                     std::span<const nn::Parameter> parameters, int64_t parts) {
  Leader out;
  if (parts > 1) out.parts = {split(x, parts, "x"), split(labels, parts, "labels")};
  const auto part_of = [&](size_t i, const Tensor& all) {
    return out.parts.empty() ? all : tensor_of(out.parts[i].node);
  };
  Marked marked(parameters);
  const nn::Score score = objective(part_of(0, x), part_of(1, labels));
  if (score.loss.elements() != 1)
    fail("marketplace: the loss has {} elements, not one", score.loss.elements());
  out.marks = marked.marks;
  out.part_loss = number(score.loss);
  if (!score.accuracy.empty()) out.part_accuracy = number(score.accuracy);
  out.loss = mean_of_parts(out.part_loss, out.parts);
  out.accuracy = mean_of_parts(out.part_accuracy, out.parts);
  return out;
}

}  // namespace kontor::inline v0::marketplace
