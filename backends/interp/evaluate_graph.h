// Evaluates a graph node by node in plain C++: the oracle that schedules, moves, renderers and passes are tested against.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/scalar.h"

namespace kontor {

/// Raw bytes of a row-major array.
struct Array {
  DType dtype = DType::Void;
  std::vector<int64_t> shape = {};
  std::vector<std::byte> bytes = {};
  /// Elements that are no values, since an index was out of range or an integer divided by 0 (none where it is empty),
  /// and why. Where an element is left out, by a where, what is wrong with it does not count.
  std::vector<bool> wrong = {};
  std::string why = {};

  static Array make(DType dtype, std::vector<int64_t> shape);  ///< of zeros
  int64_t size() const;
  Value get(int64_t position) const;
  void set(int64_t position, Value value);
  bool any_wrong() const;
  bool is_wrong(int64_t position) const;
  friend bool operator==(const Array& a, const Array& b) {
    return a.dtype == b.dtype && a.shape == b.shape && a.bytes == b.bytes;
  }
};

struct Evaluation {
  std::vector<Array> outputs;
  /// What an index out of range or an integer division by zero was the first time; empty if there was none.
  std::string error = {};
  /// The same of elements that a view or an index might have left out (a slice, the steps of a window): whether what nothing
  /// reads is computed at all is up to whoever runs the graph.
  std::string cut_away = {};
};

/// `inputs` and `scalars` (8 bytes each: a Variable as i64, a Scalar's bits in the low bytes) are those of the graph's
/// lists. Reductions run in the promised order of arithmetic (codegen/stages/fold_order.h), so that results have equal bits.
Evaluation evaluate_graph(const Graph& graph, std::span<const Array> inputs,
                          std::span<const int64_t> scalars = {});

}  // namespace kontor
