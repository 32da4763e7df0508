// Placement: where a propagated scale is so far from what was measured that it leaves its format's flat range, it is corrected, and
// nowhere else. Everything downstream follows by the rules, so that few corrections are enough.
#pragma once
#include <kontor/tensor.h>

#include "scalify/scalify.h"

namespace kontor::scalify {

/// Where in a loss's graph a scale is corrected.
struct Correction {
  size_t value = 0;  ///< its number in topological order, floats that have axes only
  bool of_gradient =
      false;  ///< its gradient's scale, which is measured when it runs; else the value's, by a power of two that is fixed
  int64_t by = 0;          ///< log2 of that factor; of a gradient: what it was when it was placed
  std::string about = {};  ///< "forward add [12, 64, 128]"
};

/// Between these base 2 logarithms of the data's root mean square a format loses no more than at its best (a SQNR within 1 dB, for data
/// with tails): f8e4m3 from -4 to 1, f8e5m2 and f16 from -10 to 8.
struct FlatRange {
  double low, high;
};
FlatRange flat_range(DType format);

/// The corrections by which what `graph` (a Call "scalify" of `loss`, and gradients of it) rounds lies in its format's flat range. `log2_rms`: of each value that
/// scalify(graph) lists in Result::rounded, not divided by a scale, and not rounded. Of those out of range the first one is corrected, then others are looked
/// at again; what cannot be (the gradient of something inside of a Call) is left out.
std::vector<Correction> place(const Graph& graph, const Ref& loss, const Options& options,
                              std::span<const double> log2_rms);

/// The loss with the corrections as controls. It must have been recorded as the one that they are of.
Tensor with_corrections(const Tensor& loss, std::span<const Correction> corrections);

}  // namespace kontor::scalify
