// The table of formats, and objectives by them.
#include "tools/castings.h"

#include <algorithm>

#include "base/error.h"
#include "scalify/loss.h"

namespace kontor::tools {

namespace {

struct NamedCasting {
  const char* name;
  scalify::Casting casting;
};

constexpr NamedCasting kCastings[] = {
    {"f32-pass", {}},
    {"fp16", {DType::F16, DType::F16, DType::F16}},
    {"fp8", {DType::F8E4M3, DType::F8E5M2, DType::F16}},
    {"fp8-unscaled",
     {DType::F8E4M3, DType::F8E5M2, DType::F16, false}},  // what scales are for: it trains badly
};

}  // namespace

CLI::IsMember known_castings() {
  std::vector<std::string> names{"none"};
  for (const NamedCasting& c : kCastings) names.emplace_back(c.name);
  return CLI::IsMember(names);
}

nn::Objective with_casting(nn::Objective objective, const std::vector<nn::Parameter>& parameters,
                           const std::string& name) {
  const auto* found = std::ranges::find(kCastings, name, &NamedCasting::name);
  if (found == std::end(kCastings)) fail("there is no recipe '{}'", name);
  struct Leaf {
    Tensor* tensor;
    int64_t exponent;
  };
  std::vector<Leaf> leaves;
  for (const nn::Parameter& p : parameters)
    if (p.trained) leaves.push_back({p.tensor, scalify::exponent_of(*p.tensor)});
  return [objective = std::move(objective), leaves = std::move(leaves), casting = found->casting](
             const Tensor& x, const Tensor& labels) {
    nn::Score score = objective(x, labels);
    std::vector<scalify::LeafScale> now;
    for (const Leaf& l : leaves) now.push_back({*l.tensor, l.exponent});
    if (!score.accuracy.empty()) score.accuracy = scalify::with_scales(score.accuracy, now);
    score.loss = scalify::scaled_loss(score.loss, now, casting);
    return score;
  };
}

}  // namespace kontor::tools
