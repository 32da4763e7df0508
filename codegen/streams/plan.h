// A plan of streams: over which axes kernels run in pieces, in which order, and what that needs and costs. Choosing one is
// stream.cpp; making the program run by it is stream_cut.cpp.
#pragma once
#include <vector>

#include "codegen/program/memory_plan.h"
#include "codegen/stages/stage.h"
#include "codegen/streams/axis.h"

namespace kontor {

/// Groups in launch order, with the streams over them.
struct Order {
  std::vector<int> groups;
  std::vector<ScheduledStream> streams;
  std::vector<size_t> axis;  // of each stream
  bool possible = true;      // false: streams wait for each other
};

/// What a set of streams needs and costs.
class StreamPlan {
 public:
  StreamPlan(const ProgramTree& program, const Flow& flow, std::vector<Axis> chosen);

  std::vector<Axis> axes;
  Order order;
  int64_t peak = 0;  ///< bytes of the memory plan
  int worst = -1;    ///< group at which most is alive
  double cost = 0;   ///< in operations

  int64_t alive_at(int group) const;
  /// Whether less memory is needed: by the plan, else at the worst groups. Steps that each need less come to an end.
  bool needs_less_than(const StreamPlan& other) const;
  /// Stages alive at the worst group, the largest first.
  std::vector<int> largest() const;
  /// Whether memory of a stage's place holds no more than the piece of axis a.
  bool cut(int s, size_t a) const;
  /// The axis over which the fold of a stage goes on, or -1.
  int folded(int s) const;
  /// Whether a stage's fold goes on over an axis while it is computed anew for pieces of one inside of it, which it does not run
  /// through or which overlap: these would add again.
  bool adds_twice(int s) const;
  /// Whether what is kept of that fold holds no more than the piece of axis a.
  bool accumulator_cut(int s, size_t a) const;

 private:
  const ProgramTree* program_;
  const Flow* flow_;
  std::vector<int> position_;  // in the order, by group
  std::vector<Lifetime> lives_;
  std::vector<int> stage_;      // of each lifetime
  std::vector<int64_t> alive_;  // bytes at each group, the most first

  bool around(size_t a, size_t b) const;
  template <class Cut>
  int64_t bytes(const Stage& s, int number, const Cut& is_cut) const;
  void add(int i);
  void keep(int stage, Lifetime life, int64_t bytes);
  void find_peak();
  void find_cost();
  double times(int g, int t) const;
};

/// Puts the groups into an order in which less is alive at once (order.cpp); false if that frees little of the
/// bytes that were.
bool order_for_memory(ProgramTree& program, int64_t peak);

/// Cuts loops, places and indexes of the groups in streams, and puts the groups in the plan's order (stream_cut.cpp).
void cut_to_pieces(ProgramTree& program, const Flow& flow, StreamPlan& plan);

}  // namespace kontor
