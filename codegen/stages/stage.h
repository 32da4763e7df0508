// Stage: one stored value on its way from graph to loop tree. A ProgramTree is the list of them, producers first.
#pragma once
#include <compare>
#include <cstdint>
#include <string>

#include "codegen/cost.h"
#include "codegen/decisions.h"
#include "codegen/schedule.h"
#include "codegen/tree/tree.h"
#include "graph/graph.h"

namespace kontor {

/// What must hold while a stage is computed.
struct StageCheck {
  Ref condition;  ///< over loops + folds
  int64_t id;
  Ref value;  ///< what its text shows; may be null

  template <class F>
  void each(F&& f) {
    f(condition);
    if (value) f(value);
  }
};

/// How a stage lies in memory and runs in lanes: what layout.cpp decides.
struct Layout {
  std::vector<int> order;  ///< the dimensions in memory, outermost first
  bool fixed = false;      ///< a reader asked for it
  int vector_dim = -1;     ///< dimension best run in vector lanes; -1: none, or the fold's lane
  int unroll_dim = -1;     ///< for Dot: the dimension to tile in registers beside vector_dim
  int panel = -1;          ///< for Dot: the value computed or transposed as a panel is filled, or -1
  OperandWay way = OperandWay::Any;  ///< for Dot: how it reads the operand that has the lanes
};

/// Where a stage is computed: what fuse.cpp decides.
struct Level {
  bool leaves_kernel = false;      ///< another kernel or the caller reads it
  int group = -1;                  ///< kernel it is in
  int depth = 0;                   ///< number of the group's outer loops that it is inside of
  size_t nodes = 0;                ///< of its expressions
  std::vector<int> outer;          ///< for each dimension: the outer loop that it is read at, or -1
  std::vector<std::string> loops;  ///< names of its loops, before they became those of its reader
  std::string where;  ///< what a decision says of it: a loop's or a stage's name; "": a kernel of its own
};

/// What a stage has of its value at a time, and keeps: what streams/cut.cpp decides.
struct Piece {
  std::vector<Ref> begin;      ///< for each dimension: where its loop begins in the place, or null for 0
  struct Accumulator {         ///< of a fold that goes on from piece to piece of a stream
    Ref place;                 ///< null: there is none. Dimensions in memory order, then the lane
    std::vector<Ref> at = {};  ///< indexes without the lane
    Ref resumes = {};          ///< whether this is not the first piece
    int stream = -1;           ///< in ProgramTree::streams
  } accumulator = {};
};

/// A value that is stored: for all `loops`: place[loops] = value, or a fold over `folds` of the values. Expressions read
/// other stages by Loads of their logical place, whose dimensions are those of the value, whatever the memory looks like.
struct Stage {
  std::string name;
  Ref place;               ///< logical: dims are the extents of `loops`
  std::vector<Ref> loops;  ///< one Range for each dimension of the value
  std::vector<Ref> folds;  ///< Ranges folded over, outer to inner; empty: a map
  int fold = -1;
  size_t part = 0;          ///< of the fold's state: what the value is
  Ref lane;                 ///< the Range of the 64 lanes (innermost, not in folds), or null
  int64_t lane_length = 0;  ///< elements that the lanes share out; the last step may be partial
  Ref lane_begin;           ///< null, or the step at which this piece of a cut chain begins
  std::vector<Ref> values;  ///< one, or two for Dot, over loops + folds + lane
  int scan = -1;  ///< the dimension along which what the fold has come to is stored after each step, or -1
  Ref start;      ///< of a scan: what it begins with, over the other loops
  std::vector<Ref>
      scatter_at;  ///< indexes of the place that a step folds into; loops of the steps are `folds`
  Ref scatter_guard;
  /// The statements of a tree that is given: they store the value in `place`, indexed logically, and may have places of their
  /// own. `values` are then what they load from outside, so that it is known what the stage reads.
  std::vector<Ref> given;
  std::vector<StageCheck> checks;
  int output = -1;  ///< graph output it is, or -1
  bool random =
      false;  ///< holds random numbers made from a counter: never stored for more than its user's loop
  bool must_store = false;  ///< has to be in device memory

  Layout layout = {};
  Level level = {};
  Piece piece = {};
};

/// A kernel to be: stages that share the outer loops of the last of them.
struct Group {
  std::vector<int> stages;       ///< in program order
  std::vector<Ref> outer_loops;  ///< that its stages share, outermost first: those of its last stage
  int founder = -1;  ///< stage that the outer loops are of, by whose name decisions know the kernel
  int place = -1;    ///< stage where it stands in program order, if that is not its last
  size_t nodes = 0;  ///< of its stages' expressions together
};

struct ProgramTree {
  std::vector<Stage> stages;
  std::vector<Group> groups;
  size_t slots = 0;                      ///< numbers below are taken by the graph's scalars
  std::vector<ScheduledStream> streams;  ///< over `groups`
  std::vector<Ref> inputs;               ///< places of the graph's inputs
  std::vector<int> in_place;  ///< for each graph output: the input whose memory it is written into, or -1
  std::vector<std::string> checks;
  std::string notes;                 ///< why two kernels were not fused
  const Decisions* given = nullptr;  ///< what was decided before the passes run, if anything was
  Decisions decided;                 ///< what they chose

  const Decision* given_of(Matter matter, const Stage& s) const {
    return given ? given->of(matter, s.name) : nullptr;
  }
  mutable NodeMap<int> numbers = {};  ///< what stage_number() remembers
};

/// Which values are stored, and the expression of each (lower.cpp).
ProgramTree lower(const Graph& graph, const Target& target);
/// Memory order and vector dimension of each stage; adds stages that pack an operand (layout.cpp).
void choose_layouts(ProgramTree& program, const Target& target);
/// Groups stages into kernels: at, inline, fuse (fuse.cpp).
void fuse(ProgramTree& program, const Target& target);
/// Runs groups piece by piece over an axis until temporaries fit the memory budget (codegen/streams/). Orders the groups.
void stream(ProgramTree& program, const Target& target);
/// Which assigns are written into their input's own memory, in the final order of the groups (in_place.cpp).
void choose_in_place(ProgramTree& program);

/// Device memory that a kernel reads or writes.
struct BufferRef {
  enum Kind : uint8_t {
    Input,       ///< of the graph, which may be written in place
    Value,       ///< of a stage
    Accumulator  ///< what a stage's fold keeps from piece to piece of a stream
  } kind;
  int number;  ///< of the input or of the stage
  friend auto operator<=>(const BufferRef&, const BufferRef&) = default;
};

/// The loop tree of a group before moves (build_tree.cpp). `buffers` gets what each parameter is.
Ref build_tree(const ProgramTree& program, const Group& group, const std::string& name,
               std::vector<BufferRef>& buffers);

/// Dimensions of a place in memory order, and a Load's indexes in that order.
std::vector<Ref> in_memory_order(const ProgramTree& program, const Ref& place, std::span<const Ref> at);
const Stage* stage_of(const ProgramTree& program, const Ref& place);
int stage_number(const ProgramTree& program, const Ref& place);  ///< -1 for an input
/// How far apart in memory consecutive values of `range` are read; cost::irregular if not by a constant distance.
int64_t stride(const ProgramTree& program, const Ref& load, const Ref& range);
bool is_dot(const Stage& stage);
bool is_fold(const Stage& stage);
/// Whether its loops are not those of its value: nothing joins them, and no lanes run along them.
bool stands_alone(const Stage& stage);

/// The dimensions in memory where nothing else was decided: those with lanes innermost, if a temporary's may be.
std::vector<int> usual_order(const Stage& stage);
/// What was decided of a stage, once the kernels are known.
Decision layout_of(const Stage& stage);
Decision level_of(const Stage& stage);

/// Operations that a stage takes, in the unit of codegen/cost.h.
double work_of(const Stage& stage);

/// All Loads of `place` below the expressions.
std::vector<Ref> loads_of(std::span<const Ref> expressions, const Ref& place);
std::vector<Ref> loads_in(std::span<const Ref> expressions);
/// Everything that a stage evaluates: values, guards, checks, scatter indexes.
std::vector<Ref> expressions(const Stage& stage);

}  // namespace kontor
