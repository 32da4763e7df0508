// schedule(): a Graph becomes kernels (loop trees) and a plan of buffers.
#pragma once
#include <algorithm>
#include <string>

#include "codegen/decisions.h"
#include "codegen/target.h"
#include "codegen/tree/tree.h"
#include "graph/graph.h"
#include "graph/transforms/passes.h"

namespace kontor {

struct ScheduledBuffer {
  enum Role { Input, Output, Temporary } role;
  int number;  ///< which input or output; running number of a temporary
  DType dtype;
  std::vector<Ref> dims;  ///< in memory order; may contain Variables (as Slots)
  /// An Output whose target is an input: whether it is written into that input's memory by the kernels themselves.
  /// If false, it goes to fresh memory that then takes the input's place.
  bool in_place = false;
  int stream = -1;  ///< a Temporary that is kept from piece to piece of this stream
};

struct ScheduledKernel {
  Ref tree;                         ///< after moves, ready to render
  std::vector<int> buffers;         ///< for each parameter of the tree: index into Schedule::buffers
  Ref shares;                       ///< tree::work_items, an index expression over Slots
  double work = 0;                  ///< operations (codegen/cost.h), by which threads are woken or not
  std::string moves;                ///< the moves that made it, as text
  std::string placed;               ///< what at, inline and fuse decided, in the form of moves
  std::vector<std::string> checks;  ///< what each Check id of the tree says when it fails (id 1 is checks[0])
};
/// What the error word of a launch says: of a kernel's checks the text of the one that failed, with the value it shows in the
/// place of "{}".
std::string failed_check(std::span<const std::string> checks, int64_t error);

/// Kernels that run several times over, each time for the next `chunk` elements of an axis of `extent`: a range over several
/// launches. The kernels find where their piece begins in Slots.
struct ScheduledStream {
  size_t first, last;  ///< kernels first..last, both included; streams nest, the outer one stands first
  int64_t extent, chunk;
  struct Slot {
    size_t number;    ///< its place among the scalars of a launch
    int64_t divisor;  ///< it holds begin / divisor
  };
  std::vector<Slot> slots;
  std::string name;  ///< of the axis: of a loop over it
  std::string block =
      {};  ///< the decision to have all pieces in one kernel: "" in a finished schedule (program/blocks.h)

  int64_t pieces() const { return (extent + chunk - 1) / chunk; }
  /// Where a piece begins. If `chunk` does not divide the extent, the last piece overlaps the one before it.
  int64_t begin(int64_t piece) const { return std::min(piece * chunk, extent - chunk); }
};

struct Schedule {
  std::vector<ScheduledKernel> kernels;  ///< in an order in which they may run
  std::vector<ScheduledBuffer> buffers;
  std::vector<ScheduledStream> streams;
  std::string notes;    ///< why kernels were not fused, a line each
  Decisions decisions;  ///< that made it
};

/// The first and last kernel of each buffer between which it must keep its memory: what outlives a piece of a stream is
/// kept for the whole of that stream. {0, -1} for one that no kernel touches.
struct Lifetime {
  int64_t bytes = 0;
  int first = 0, last = -1;
};
std::vector<Lifetime> lifetimes(const Schedule& schedule);
/// The same of one buffer that kernels `touched` use, kept from piece to piece of stream number `kept` (-1: of none).
Lifetime lifetime(std::span<const int> touched, std::span<const ScheduledStream> streams, int kept = -1);

/// What schedule() does to a graph before it is lowered: sums of products as the device has instructions for them, where that is
/// asked for, and the rules.
std::vector<GraphPass> passes_of(const Target& target);

/// What `given` says of a stage is followed, the rest is chosen. Never fails for a graph that its makers accepted; throws Error
/// for a decision that can't be followed.
Schedule schedule(const Graph& graph, const Target& target, const Decisions& given = {});

}  // namespace kontor
