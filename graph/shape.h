// Shape, dtype and bounds rules: what follows from (op, sources, arg). One function an op class.
#pragma once
#include "graph/node.h"

namespace kontor {

struct Derived {
  DType dtype;
  Bounds bounds;
  Refs of_source = {};         ///< the shape where a source has it too, else
  std::vector<Ref> made = {};  ///< the dimensions
  Refs shape() const { return made.empty() ? of_source : Refs(made); }
};
/// Throws InternalError naming op and sources if they do not fit.
Derived derive(Op op, Refs src, const Arg& arg, DType dtype);

/// Bounds of the values that `dtype` can hold ({INT64_MIN, INT64_MAX} for 64 bits and floats).
Bounds dtype_bounds(DType dtype);

/// "f32[2, 3]": dtype and shape, for messages.
std::string describe(const Node& node);
std::string describe_shape(std::span<const Ref> shape);
std::string describe_dim(const Ref& dim);  ///< "3", "n * 2"

/// What a tensor may have at most: then every position in it, in bytes too, and every sum of a few extents is an i64.
inline constexpr int64_t most_elements = (int64_t{1} << 60) - 1;
inline constexpr size_t most_axes = 64;
/// Throws Error naming `who` if a tensor of these dimensions would have a negative one, or more elements (dimensions of 0
/// count as 1) or axes than a tensor may. Every node with a shape is checked when it is made; what computes with
/// extents that a user gave calls this before.
void check_dims(std::string_view who, std::span<const Ref> dims);
/// Elements from the first to the last of `size` taps (at least 1) at a distance: (size - 1) * distance + 1, or INT64_MAX
/// if that is more.
int64_t reach(int64_t size, int64_t distance);

}  // namespace kontor
