// Runs a loop tree on a device and on the interpreter, on equal random inputs, and compares every bit.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "codegen/tree.h"

namespace kontor::inline v0 {

/// "" if all parameters are equal afterwards (a NaN equals any NaN) and the error words are; else what differs.
/// `values` (of 64-bit patterns, cut to the dtype) fill each parameter in turn, cycled; random bits where it is empty.
std::string differs_from_interp(Backend& device, const Ref& kernel, std::span<const int64_t> scalars = {},
                                std::span<const std::vector<uint64_t>> values = {});

/// Values of a dtype where arithmetic goes wrong: zeros, extremes, halves, NaN, infinities, neighbours of powers of two.
std::vector<uint64_t> special_values(DType dtype);

/// One kernel that applies each elementwise op that `dtype` has to x, y, z [count], each into an output of its own.
Ref elementwise_kernel(DType dtype, int64_t count);
/// One kernel that casts x [count] to each of `to`, and bitcasts where the size is the same.
Ref cast_kernel(DType from, std::span<const DType> to, int64_t count);

}  // namespace kontor::inline v0
