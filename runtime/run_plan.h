// RunPlan: a finished schedule as it is run: launches, buffers, the memory plan. What replays in memory, and what is kept on disk
// as text beside the kernels, which it names by their keys: a start that finds both schedules and compiles nothing.
//
//   plan
//     slot $1 i64 1..100                               a Variable that sizes are computed from
//     arena 4096                                       bytes of all temporaries
//     buffer input 0 f32[128, $1]
//     buffer temporary 1024 f32[12, 64]                where it begins in the arena
//     buffer output 0 f32[128, 64] in place            it has the memory of the input that is its target
//     stream n 512 by 64, 1 to 2: $2 / 1, $3 / 64      kernels 1 to 2 run for each 64 of 512; $3 is where a piece begins, / 64
//     check "index {} is out of range"                 number 1, as error words say it
//     launch "0123..ef" 8 buffers 0 1 2 slots $0 -5 operations 98304 threads checks
//                                                      the kernel, its shares, buffers by number, slots where they aren't
//                                                      the scalars as they are; then what it is
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "codegen/schedule.h"
#include "runtime/kernel_form.h"

namespace kontor {

struct BoundKernel;

struct RunPlan {
  struct Buffer {
    ScheduledBuffer::Role role;
    int64_t number;  ///< which input or output; of a temporary where it begins in the arena, in bytes
    DType dtype;
    std::vector<Ref> dims;  ///< may contain Variables (as Slots)
    bool in_place = false;  ///< an output whose target's memory the kernels write
  };
  struct Launch {
    Hash128 kernel;
    Ref shares;  ///< over Slots
    std::vector<int> buffers;
    std::vector<SlotSource> slots;
    int64_t operations = 0;  ///< on floats, to say how fast it is
    bool threads = false;    ///< its work pays to wake them
    bool checked = false;    ///< it may set the error word
  };
  std::vector<Launch> launches;
  std::vector<Buffer> buffers;
  std::vector<ScheduledStream> streams;
  std::vector<std::string> checks;  ///< what each number in an error word says (failed_check)
  int64_t arena_bytes = 0;
};

/// What is left of a schedule once its kernels are there.
RunPlan plan_of(const Schedule& schedule, std::span<const BoundKernel> kernels);

/// Throws Error where it is no plan for such a graph: a buffer, slot or kernel that there is not, an output that nothing
/// writes, a temporary outside of the arena.
void require_fits(const RunPlan& plan, const Graph& graph);

std::string print(const RunPlan& plan);
/// Reads what print() writes. Throws Error that says the line.
RunPlan parse_run_plan(std::string_view text);

}  // namespace kontor
