// Loop trees: statements over pure values, all Nodes; order is tree order. What a kernel is before it is rendered.
//
//   Kernel   src: parameter Places, then statements            text: name; ints: number of parameters
//   Loop     src: Range, then statements                       ints: kind, width (of a vector; else 0)
//   If       src: condition (bool), then statements            ints: number of statements of the first branch; rest: else
//   Place    src: dimensions (extents)                         ints: id, space, fold (-1: none), parameter [, row, pad, ahead]; text: name
//            As a statement it declares the place, and fills it with the fold's identity if it has a fold. The place
//            of a fold whose state has parts is of the first part's dtype, and has an array for each part.
//   Store    src: place, index of each dimension, value        one writer an element
//   FoldStep src: place, index of each dimension, value(s)     p <- v by the place's fold (Dot takes two values); all parts at once
//   Check    src: condition, error word (i64)                   ints: id; if false the launch's error word becomes that
//   Load     src: place, index of each dimension [, guard]     ints: 1 if guarded; where the guard is false the value is 0
//                                                              and nothing is read; then the part of the state, if not 0
//   Merge    src: place, leading indexes                       the last dimension's elements joined in pairs: element l
//                                                              with l + n/2, n halving (n is a power of two).
//                                                              ints: the part of the state, if not 0
//   Range    src: extent (how many iterations run)             ints: id; text: name
//   Slot     a Scalar or Variable, by its number               ints: number [, lo, hi]
//
// A Place is row-major in its dimensions. A vector Loop of width w whose extent is below w runs masked. An unroll Loop
// has a constant extent. All kinds mean the same iterations in the same order; they say only how these are mapped.
#pragma once
#include "graph/folds.h"

namespace kontor {

/// Local: on a GPU, spread over the threads of a group (codegen/tree/groups.h). Matrix: of a group's loops, three that are one
/// step of a matrix instruction, or the two of its result, by a warp.
/// Lane: on a GPU, spread over the threads of a warp, each of which has its own elements of the places that the
/// loop's index ends (they are joined by a Merge). What stands outside of such loops every thread of the warp computes.
enum class LoopKind : uint8_t { Loop, Thread, Global, Local, Matrix, Lane, Unroll, Vector };
inline constexpr int64_t warp = 32;  ///< threads of a GPU that run in step and read each other's registers
inline constexpr int64_t most_lanes = 64;  ///< of a vector loop, which every renderer takes
std::string_view name(LoopKind kind);

/// Shared: of all threads of a group.
enum class Space : uint8_t { Local, Param, Shared };

/// The tree's makers, so that no one else knows where an argument sits.
namespace tree {

Ref param(DType dtype, std::vector<Ref> dims, int64_t number, const std::string& name, int fold = -1);
Ref place(DType dtype, std::vector<Ref> dims, const std::string& name, int fold = -1);
/// How a shared place lies in memory: `pad` elements lie unused after each `row` of them, so that rows begin in different banks.
/// One whose first dimension counts iterations of a loop is filled `ahead` iterations ahead, by copies that nobody waits for
/// before (0: in the iteration that reads it).
struct SharedAs {
  int64_t row = 0, pad = 0, ahead = 0;
};
Ref shared_place(DType dtype, std::vector<Ref> dims, const std::string& name, const SharedAs& how = {});
Ref loop(LoopKind kind, const Ref& range, std::vector<Ref> body, int64_t width = 0);
Ref branch(const Ref& condition, std::vector<Ref> then_body, std::vector<Ref> else_body = {});
Ref store(const Ref& place, std::vector<Ref> at, const Ref& value);
Ref fold(const Ref& place, std::vector<Ref> at, std::vector<Ref> values);
/// The error word of a failed check: its id in the low bits, above them the value it shows (an index, say), cut to the ends
/// of what they hold; 0 of a check that shows none.
inline constexpr int check_id_bits = 20;
inline constexpr int64_t most_shown = (int64_t{1} << (63 - check_id_bits)) - 1;
Ref error_word(int64_t id, const Ref& value);
Ref shown_by(const Node& check);  ///< the value; null if there is none
Ref check(const Ref& condition, int64_t id, const Ref& value = {});
Ref load(const Ref& place, std::vector<Ref> at, const Ref& guard = {}, size_t part = 0);
Ref merge(const Ref& place, std::vector<Ref> leading, size_t part = 0);
Ref kernel(const std::string& name, std::vector<Ref> params, std::vector<Ref> body);
Ref slot(DType dtype, int64_t number, Bounds bounds = {});

LoopKind kind(const Node& loop);
int64_t width(const Node& loop);
std::span<const Ref> body(const Node& loop_or_kernel);  ///< statements of a Loop or Kernel
std::span<const Ref> then_body(const Node& branch);
std::span<const Ref> else_body(const Node& branch);
std::span<const Ref> dims(const Node& place);
Space space(const Node& place);
inline constexpr size_t fold_int = 2;  ///< which of a place's numbers is its fold's
bool has_fold(const Node& place);
Fold fold_of(const Node& place);
int64_t param_number(const Node& place);
/// Of a word that is two numbers of 16 bits of one place, low | high << 16: the loads of both, as bits or numbers; else null.
std::pair<const Node*, const Node*> halves(const Node& word);
SharedAs shared_as(const Node& place);  ///< of a shared place
/// Position in memory of a shared place's element of this number; how many elements it takes.
Ref padded(const Node& place, const Ref& number);
int64_t shared_elements(const Node& place);
std::span<const Ref> params(const Node& kernel);
std::span<const Ref> at(const Node& access);      ///< indexes of a Load, Store, FoldStep or Merge
std::span<const Ref> values(const Node& access);  ///< value(s) of a Store or FoldStep
Ref guard(const Node& load);                      ///< null if it has none
size_t part(const Node& access);  ///< of a Load or Merge: which part of a fold's state; of others 0
size_t parts(const Node& place);  ///< 1 of a place without a fold
DType part_dtype(const Node& place, size_t part);
/// Slots a kernel reads, by number.
std::vector<Ref> slots(const Ref& kernel);
/// The outermost parallel loop (Thread or Global) of a kernel, or null.
const Node* parallel_loop(const Node& kernel);
/// Whether it holds a Lane loop.
bool has_lanes(const Node& kernel);
/// What a launch shares out, an index expression: the parallel loop's extent (1 if there is none), times the threads that
/// run one iteration of it: of a warp where there are lanes, of a group where there are Local loops.
Ref work_items(const Node& kernel);

}  // namespace tree
}  // namespace kontor
