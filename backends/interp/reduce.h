// One reduction in the promised order of arithmetic: lanes, steps, pieces and merges as codegen/stages/fold_order.h describes them.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "codegen/stages/fold_order.h"
#include "codegen/tree/tree.h"
#include "graph/scalar.h"

namespace kontor {

/// What a fold has come to: its parts.
using State = std::array<Value, most_parts>;

inline State identity_of(Fold fold, DType dtype) {
  State out;
  for (size_t i = 0; i < parts(fold); i++) out[i] = value_of(*identity(fold, dtype, i));
  return out;
}

/// A step or a merge, with a formula for each part.
class StateFormula {
 public:
  explicit StateFormula(const FoldState& formulas) : formulas_(formulas.begin(), formulas.end()) {}

  void operator()(State& state, std::span<const Value> values) {
    std::array<Value, 2 * most_parts> slots;
    std::copy(values.begin(), values.end(), std::copy_n(state.begin(), formulas_.size(), slots.begin()));
    for (size_t i = 0; i < formulas_.size(); i++) state[i] = formulas_[i](slots);
  }

 private:
  std::vector<ScalarFormula> formulas_;
};

class Reduction {
 public:
  /// `dtype` is that of the state; of its parts `part` is the result.
  Reduction(Fold fold, size_t part, DType dtype, std::span<const Ref> shape, std::span<const int64_t> axes)
      : fold_(fold),
        part_(part),
        dtype_(dtype),
        step_(step_formulas(fold, dtype)),
        merge_(merge_formulas(fold, dtype)),
        axes_(axes.begin(), axes.end()),
        order_(fold_order(fold, shape, axes)) {
    if (order_.chunk_loop < 0) return;
    std::vector<Ref> left = pieces_of(order_);
    std::vector<int64_t> over(left.size());
    std::iota(over.begin(), over.end(), 0);
    for (size_t a = 0; a < shape.size(); a++)
      if (std::ranges::find(axes, static_cast<int64_t>(a)) == axes.end()) left.push_back(shape[a]);
    of_pieces_ = std::make_unique<Reduction>(row(fold).merge, part, dtype, left, over);
  }

  /// read(reduced index, values): the value(s) at an index over the reduced axes; false where there is no such term.
  /// `shape` is the source's, as numbers.
  template <class Read>
  Value value(Read&& read, const std::vector<int64_t>& shape) {
    std::vector<int64_t> extents;
    for (int64_t a : axes_) extents.push_back(shape[static_cast<size_t>(a)]);
    return over(read, extents);
  }

 private:
  Fold fold_;
  size_t part_;
  DType dtype_;
  StateFormula step_, merge_;
  std::vector<int64_t> axes_, extents_ = {};
  FoldOrder order_;
  int64_t block_ = 1;
  std::unique_ptr<Reduction> of_pieces_ = {};  // of a chain that is cut: what folds the results of its pieces

  State identity(Fold fold) const { return identity_of(fold, dtype_); }

  /// `extents` are those of the reduced axes.
  template <class Read>
  Value over(Read&& read, const std::vector<int64_t>& extents) {
    extents_ = extents;
    if (std::find(extents_.begin(), extents_.end(), 0) != extents_.end()) return identity(fold_)[part_];
    size_t outer = extents_.size() - static_cast<size_t>(order_.trailing);
    block_ = 1;
    for (size_t i = outer; i < extents_.size(); i++) block_ *= extents_[i];
    std::vector<int64_t> steps(extents_.begin(), extents_.begin() + static_cast<ptrdiff_t>(outer));
    if (order_.lanes > 1) steps.push_back((block_ + order_.lanes - 1) / order_.lanes);
    if (order_.chunk_loop < 0) return piece(read, std::vector<int64_t>(steps.size()), steps)[part_];
    return pieces(read, steps);
  }

  /// Steps begin.. begin + count of each loop of the nest, in all lanes; lanes merged.
  template <class Read>
  State piece(Read&& read, const std::vector<int64_t>& begin, const std::vector<int64_t>& count) {
    std::vector<State> lanes(static_cast<size_t>(order_.lanes), identity(fold_));
    std::vector<int64_t> at = begin, reduced(extents_.size());
    int64_t total = 1;
    for (int64_t c : count) total *= c;
    for (int64_t t = 0; t < total; t++) {
      for (int64_t lane = 0; lane < order_.lanes; lane++) {
        if (!place(at, lane, reduced)) continue;
        Value values[most_parts];
        if (read(reduced, values)) step_(lanes[static_cast<size_t>(lane)], values);
      }
      for (size_t i = at.size(); i-- > 0;) {
        if (++at[i] < begin[i] + count[i]) break;
        at[i] = begin[i];
      }
    }
    for (size_t half = lanes.size() / 2; half > 0; half /= 2)
      for (size_t l = 0; l < half; l++) merge_(lanes[l], lanes[l + half]);
    return lanes[0];
  }

  /// Index over the reduced axes of a lane's step; false beyond the end of the block.
  bool place(const std::vector<int64_t>& at, int64_t lane, std::vector<int64_t>& reduced) const {
    if (order_.lanes == 1) return reduced = at, true;
    size_t outer = extents_.size() - static_cast<size_t>(order_.trailing);
    std::copy(at.begin(), at.begin() + static_cast<ptrdiff_t>(outer), reduced.begin());
    int64_t j = at.back() * order_.lanes + lane;
    if (j >= block_) return false;
    for (size_t i = extents_.size(); i-- > outer;) {
      reduced[i] = j % extents_[i];
      j /= extents_[i];
    }
    return true;
  }

  template <class Read>
  Value pieces(Read&& read, const std::vector<int64_t>& steps) {
    size_t cut = static_cast<size_t>(order_.chunk_loop);
    std::vector<int64_t> counts(steps.begin(), steps.begin() + static_cast<ptrdiff_t>(cut));
    counts.push_back((steps[cut] + order_.chunk - 1) / order_.chunk);
    std::vector<State> partial;
    std::vector<int64_t> p(counts.size());
    while (true) {
      std::vector<int64_t> begin(steps.size()), count = steps;
      for (size_t i = 0; i < cut; i++) begin[i] = p[i], count[i] = 1;
      begin[cut] = p[cut] * order_.chunk;
      count[cut] = std::min(order_.chunk, steps[cut] - begin[cut]);
      partial.push_back(piece(read, begin, count));
      size_t i = p.size();
      while (i > 0 && ++p[i - 1] == counts[i - 1]) p[--i] = 0;
      if (i == 0) break;
    }
    const std::function<bool(const std::vector<int64_t>&, Value*)> result =
        [&](const std::vector<int64_t>& at, Value* values) {
          int64_t piece = 0;
          for (size_t i = 0; i < counts.size(); i++) piece = piece * counts[i] + at[i];
          std::copy_n(partial[static_cast<size_t>(piece)].begin(), parts(fold_), values);
          return true;
        };
    return of_pieces_->over(result, counts);
  }
};

}  // namespace kontor
