// Elementwise ops as LLVM instructions: one table row an op, with the semantics of graph/ops.h.
#pragma once
#include <span>

#include "codegen/render_llvm/builder.h"
#include "graph/folds.h"

namespace kontor::ir {

/// How a dtype is held in registers (bool as i1; narrow floats as floats that are rounded already) and in memory.
Scalar in_register(DType dtype);
Scalar in_memory(DType dtype);

/// What was loaded as in_memory(dtype), as it is held in registers; and back.
Val from_memory(Builder& b, DType dtype, Val loaded);
Val to_memory(Builder& b, DType dtype, Val value);
/// A constant node's value.
Val constant_value(Builder& b, const Node& node);

/// What is known of an elementwise node's integer sources where it spares work.
struct Facts {
  Bounds left, right;
  static Facts of(const Node& node);
};

/// `op` on values of `dtype` (of Cast and comparisons: the sources' dtype), all with the same number of lanes.
Val apply(Builder& b, Op op, DType dtype, std::span<const Val> v, const Facts& facts = {});
/// A fold's step by an instruction of its own; none if the target has none for such values.
Val native_step(Builder& b, Fold fold, Val so_far, std::span<const Val> values);
/// The values of formulas over Slots 0, 1, ..
std::vector<Val> evaluate(Builder& b, std::span<const Ref> formulas, std::span<const Val> slots);
Val cast(Builder& b, DType to, DType from, Val v);
Val bitcast(Builder& b, DType to, DType from, Val v);
inline Val apply(Builder& b, Op op, DType dtype, std::initializer_list<Val> v, const Facts& facts = {}) {
  return apply(b, op, dtype, std::span(v.begin(), v.size()), facts);
}

}  // namespace kontor::ir
