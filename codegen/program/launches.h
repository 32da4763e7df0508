// The launches of a schedule: its kernels in order, those of a stream once for each piece.
#pragma once
#include <functional>
#include <span>

#include "codegen/schedule.h"

namespace kontor {

/// Calls `launch` with the number of each of `kernels` kernels to run next. `slots` are the scalars of the run; those of the
/// streams are added behind them and set before each piece.
void for_each_launch(size_t kernels, std::span<const ScheduledStream> streams, std::vector<int64_t>& slots,
                     const std::function<void(size_t)>& launch);
/// How many these are.
size_t count_launches(size_t kernels, std::span<const ScheduledStream> streams);

}  // namespace kontor
