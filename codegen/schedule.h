// schedule(): a Graph becomes kernels (loop trees) and a plan of buffers.
#pragma once
#include <string>

#include "codegen/limits.h"
#include "codegen/tree.h"
#include "graph/graph.h"

namespace kontor::inline v0 {

struct ScheduledBuffer {
  enum Role { Input, Output, Temporary } role;
  int number;  ///< which input or output; running number of a temporary
  DType dtype;
  std::vector<Ref> dims;  ///< in memory order; may contain Variables (as Slots)
  /// An Output whose target is an input: whether it is written into that input's memory by the kernels themselves.
  /// If false, it goes to fresh memory that then takes the input's place.
  bool in_place = false;
};

struct ScheduledKernel {
  Ref tree;                  ///< after moves, ready to render
  std::vector<int> buffers;  ///< for each parameter of the tree: index into Schedule::buffers
  Ref shares;          ///< extent of the parallel loop, an index expression over Slots (1 if there is none)
  double work = 0;     ///< estimated operations plus bytes, to decide whether to wake threads
  std::string moves;   ///< the moves that made it, as text
  std::string placed;  ///< what at, inline and fuse decided, in the form of moves
  std::vector<std::string> checks;  ///< what each Check id of the tree says when it fails (id 1 is checks[0])
};

struct Schedule {
  std::vector<ScheduledKernel> kernels;  ///< in an order in which they may run
  std::vector<ScheduledBuffer> buffers;
  std::string notes;  ///< why kernels were not fused, a line each
};

/// Never fails for a graph that its makers accepted; throws InternalError with the node otherwise.
Schedule schedule(const Graph& graph, const Limits& limits);

/// LLVM IR for a CPU of these limits, or OpenCL C / CUDA C. `entry` is the kernel's function name.
std::string render_llvm(const Ref& kernel, const std::string& entry, const Limits& limits,
                        int64_t& scratch_bytes);
enum class Dialect { OpenCL, Cuda };
std::string render_c(const Ref& kernel, const std::string& entry, Dialect dialect);

}  // namespace kontor::inline v0
