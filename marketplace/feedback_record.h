// The three graphs of a step of learned feedback: a clean pass, a group's noise, the update.
#pragma once
#include "marketplace/feedback_parts.h"

namespace kontor::inline v0::marketplace {

/// What changes from step to step; rank 0.
struct FeedbackInputs {
  Ref key;                       ///< u64
  std::vector<Ref> counters;     ///< u64, of each group's noise
  std::vector<Ref> corrections;  ///< f32, of each group: 0 where it has no noise in this step
};

/// A group's matrix, and what it is made of: f32 [width, classes], [classes, classes].
struct FeedbackMemory {
  Ref products, squares;  ///< sums over noise of noise * difference * error, and of error * error
};

class FeedbackRecorder {
 public:
  /// `kept`: the values of a clean pass, in the order of parts.kept; none: they are computed.
  FeedbackRecorder(FeedbackParts parts, const FeedbackOptions& options, FeedbackInputs inputs,
                   std::vector<Ref> kept);
  /// f32, of the losses' shape: (loss with noise in group g - clean loss) / size of the noise; 0 where it is not finite.
  Ref differences(size_t g) const;
  FeedbackMemory remembered(size_t g, const Ref& differences, const FeedbackMemory& before) const;
  /// Of each parameter in `wrt`, given each group's matrix and differences; those of exact groups are null.
  std::vector<Ref> gradients(const std::vector<Ref>& matrices, const std::vector<Ref>& differences,
                             std::span<const Ref> wrt) const;

 private:
  FeedbackParts parts_;
  FeedbackOptions options_;
  FeedbackInputs in_;
  std::vector<Ref> kept_;
  Substitution clean_;
  Ref rows_, error_,
      scaled_;  // losses; their slopes at the logits [.., classes]; the same over the residual's deviation

  Ref clean(const Ref& value) const { return substitute(value, clean_); }
  const Ref& leaf(const Ref& value) const { return clean_.find(value.get())->second; }
  Substitution free_behind(const Ref& value) const;
  Ref noise(size_t g) const;
  Ref size_of_noise(size_t g) const;
  Ref slope(size_t g) const;
  Ref predicted(size_t g, const Ref& matrix, const Ref& differences) const;
  Ref exact(size_t g) const;
  Ref through_attention(const ProductLayer& layer, const Ref& delta) const;
};

}  // namespace kontor::inline v0::marketplace
