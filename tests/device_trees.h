// Runs a loop tree on a device and on the interpreter, on equal random inputs, and compares every bit.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "codegen/tree/tree.h"
#include "tests/dtypes.h"

namespace kontor {

/// "" if all parameters are equal afterwards (a NaN equals any NaN) and the error words are; else what differs.
/// `values` (of 64-bit patterns, cut to the dtype) fill each parameter in turn, cycled; random bits where it is empty. The device
/// runs `text` where there is one, not what the kernel is rendered as.
std::string differs_from_interp(Backend& device, const Ref& kernel, std::span<const int64_t> scalars = {},
                                std::span<const std::vector<uint64_t>> values = {},
                                const std::string& text = {});

/// Trees with loops, folds, merges, scans, guards, branches and checks; slots 0 (f32) and 2 (i64, 1..100).
std::span<const char* const> hand_made_trees();
/// Trees whose lanes lie over the threads of a warp.
std::span<const char* const> warp_trees();
/// Values of a dtype where arithmetic goes wrong: zeros, extremes, halves, NaN, infinities, neighbours of powers of two.
std::vector<uint64_t> special_values(DType dtype);

/// Special values for three arguments, each against each: the first changes fastest, the last slowest.
std::vector<std::vector<uint64_t>> combinations(DType dtype, size_t count);

/// Whether graph/ops.h has the elementwise op (other than Cast, Bitcast, Where) for this dtype.
bool has_op(Op op, DType dtype);
/// One kernel that applies one elementwise op to its arguments [count].
Ref op_kernel(Op op, DType dtype, int64_t count);
/// One kernel that applies each elementwise op that `dtype` has to x, y, z [count], each into an output of its own.
Ref elementwise_kernel(DType dtype, int64_t count);
/// One kernel that casts x [count] to each of `to`, and bitcasts where the size is the same.
Ref cast_kernel(DType from, std::span<const DType> to, int64_t count);

}  // namespace kontor
