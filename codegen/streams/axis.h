// Axis: an extent that the loops of many stages run through together, found by following reads, not by name. What a stream
// runs piece by piece.
#pragma once
#include <unordered_map>
#include "codegen/stages/stage.h"

namespace kontor {

/// Who reads whom, asked again and again. Groups are numbered as fuse() left them: what a group reads stands before it.
struct Flow {
  explicit Flow(const ProgramTree& program);

  struct Read {
    int from;  ///< stage
    Ref load;
  };
  std::vector<int> home;                  ///< group of each stage
  std::vector<std::vector<Read>> reads;   ///< of each stage
  std::vector<std::vector<int>> readers;  ///< of each stage, in order
  std::vector<std::vector<int>> before;   ///< of each group: the groups that it reads
  std::vector<std::vector<int>> after;    ///< of each group: the groups that read it
  std::vector<double> work;               ///< of each stage: operations, roughly
};

/// How a stage takes part in an axis: `granule` elements of it for each iteration of `range`, which is one of its loops, or
/// the outermost loop of its fold.
struct Carried {
  Ref range;
  int64_t granule = 1;
  int dim = -1;  ///< dimension of its place; -1: it folds over the axis
};

struct Axis {
  int64_t extent = 0;
  int64_t granule = 1;          ///< pieces are multiples of it
  int64_t chunk = 0;            ///< elements that run at once
  bool folds = false;           ///< a fold goes on from piece to piece: pieces must not overlap
  int found_at = -1, dim = -1;  ///< the stage, and its dimension
  std::string block = {};       ///< the decision to have all pieces in one kernel, or ""
  std::string name = {};
  std::unordered_map<int, Carried> carried = {};  ///< by stage
  std::vector<int> groups = {};  ///< that run piece by piece, ascending; none: it can't be streamed
  std::string why = {};          ///< then

  bool has(int group) const { return std::binary_search(groups.begin(), groups.end(), group); }
  const Carried* of(int stage) const;
  /// The sizes that a piece may have, falling, from the whole extent on.
  std::vector<int64_t> sizes() const;
};

/// What a stream is wanted for.
struct Wanted {
  int stage, dim;       ///< it runs along that dimension of the stage
  int inside;           ///< a group that is in it
  bool around = false;  ///< around all streams that it meets, else within each that has `inside`
  int64_t little = 0;   ///< groups at its ends that would hand on no more bytes are left out
  std::vector<int> exactly =
      {};  ///< not empty: the groups it is to have, ascending; where it lies follows from them
};

/// The axis of a stream. Groups of streams nest: it lies within or around each of `others` that has `inside`, and has all or
/// none of the groups of each other one. Around them it takes the place of streams over a part of itself: these are taken out
/// of `others`.
Axis find_axis(const ProgramTree& program, const Flow& flow, const Wanted& wanted, std::vector<Axis>& others);

}  // namespace kontor
