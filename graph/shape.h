// Shape, dtype and bounds rules: what follows from (op, sources, arg). One function an op class.
#pragma once
#include "graph/node.h"

namespace kontor::inline v0 {

struct Derived {
  DType dtype;
  std::vector<Ref> shape;
  Bounds bounds;
};
/// Throws InternalError naming op and sources if they do not fit.
Derived derive(Op op, const std::vector<Ref>& src, const Arg& arg, DType dtype);

/// Bounds of the values that `dtype` can hold ({INT64_MIN, INT64_MAX} for 64 bits and floats).
Bounds dtype_bounds(DType dtype);

/// "f32[2, 3]": dtype and shape, for messages.
std::string describe(const Node& node);
std::string describe_shape(std::span<const Ref> shape);
std::string describe_dim(const Ref& dim);  ///< "3", "n * 2"
/// Throws Error if a dimension that a user gave may be negative.
void check_dims(std::string_view who, std::span<const Ref> dims);

}  // namespace kontor::inline v0
