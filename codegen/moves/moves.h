// Moves: a tree into an equal tree, or an Error that says why not. A loop is named; a name means every loop that bears it
// (a split gives the parts of one loop the same names). None changes the order in which a fold steps.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "codegen/tree/tree.h"

namespace kontor {

enum class MoveKind : uint8_t {
  Split,
  Reorder,
  Merge,
  Join,
  Part,
  Vectorise,
  Unroll,
  Thread,
  Global,
  Local,
  Matrix,
  Share,
  Lane,
  Pack,
  Prefetch,
  Pipeline,
  Sink
};

/// One move as data; prints and reads back as text such as "split i 8 i1" (codegen/moves/moves.cpp has the table).
struct Move {
  MoveKind kind;
  std::string loop;
  int64_t factor =
      0;  ///< Split: extent of the inner loop; Vectorise: width (0: the extent, rounded up to 2^n); Share: row; Part: the inner extent
  std::string
      other;  ///< Split: name of the inner loop; Merge: the inner loop; Pack: what is copied; Share: pad
  std::vector<std::string>
      through;  ///< Reorder: loops to move it inside of; empty: all ("to the leaves"); Matrix: the others; Pack: the panel's dimensions
};
std::string to_string(std::span<const Move> moves);
std::vector<Move> parse_moves(std::string_view text);

Ref apply(const Ref& kernel, const Move& move);
Ref apply_moves(const Ref& kernel, std::span<const Move> moves);

/// i (extent E) -> i (E / factor) around `inner` (factor), and what does not divide as a second part. Where i is (or will
/// be) shared out to threads the parts stay inside one loop of ceil(E / factor), chosen by an If (`factor` negative).
Ref split(const Ref& kernel, const std::string& loop, int64_t factor, const std::string& inner);
/// Moves a loop inside of the loops named, splitting it where it holds several statements; places it held get a dimension.
Ref reorder(const Ref& kernel, const std::string& loop, const std::vector<std::string>& through);
/// What fills a panel in the loop is read an iteration ahead, into elements of each thread's own.
Ref prefetch(const Ref& kernel, const std::string& loop, const std::string& panel);
/// What fills these shared panels in the loop is copied `ahead` iterations ahead, into the next of ahead + 1 panels.
Ref pipeline(const Ref& kernel, const std::string& loop, int64_t ahead,
             const std::vector<std::string>& panels);
/// The kernel's last loop takes in what stands before it, which each of its iterations then makes anew: only places of the
/// kernel's own may be written there.
Ref sink(const Ref& kernel, const std::string& loop);
/// Two loops, one directly and alone within the other, become one.
Ref merge(const Ref& kernel, const std::string& outer, const std::string& inner);
/// Dimensions of a parameter that are read as the quotient and the rest of one loop become one.
Ref join(const Ref& kernel, const std::string& param);
/// A row of the kernel's own, of one dimension, has two: the inner one of that extent.
Ref part(const Ref& kernel, const std::string& place, int64_t inner);
/// A place with one element for several iterations of the loop, which they fold into and read between the steps (a scan): what
/// an iteration does must come after all of the one before. Null if there is none.
const Node* running_in(const Ref& loop);
Ref vectorise(const Ref& kernel, const std::string& loop, int64_t width);
Ref unroll(const Ref& kernel, const std::string& loop);
Ref parallel(const Ref& kernel, const std::string& loop, LoopKind kind);
/// Spreads the loop over the threads of a group (codegen/tree/groups.h).
Ref local(const Ref& kernel, const std::string& loop);
/// Rows, columns and, where they are steps of a fold, steps become those of a matrix instruction.
Ref matrix(const Ref& kernel, const std::vector<std::string>& loops);
/// A place of the kernel becomes one that all threads of a group see; `pad` elements lie after each row of `row`.
Ref share(const Ref& kernel, const std::string& place, int64_t row = 0, int64_t pad = 0);
/// Spreads the loop, whose iterations only fold into elements of their own or store to memory, over the threads of a warp.
Ref lanes(const Ref& kernel, const std::string& loop);
/// Why that cannot be; "" if it can.
std::string why_no_lanes(const Ref& kernel, const std::string& loop);
/// Copies what the loop's body reads of a parameter into a place of its own, contiguous in the order in which it is read.
/// `dims` names the loops of its dimensions in another order, or parts of them ("j/8", "j%8"); "half" that the two numbers of 16
/// bits of a word are elements of their own, along a dimension of that name.
/// "p.1" names the second value that is folded into place p, whatever it is: a cast, a perturbation with its noise.
Ref pack(const Ref& kernel, const std::string& place, const std::string& loop,
         const std::vector<std::string>& dims = {});

}  // namespace kontor
