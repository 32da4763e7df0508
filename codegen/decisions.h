// Decisions: how the stages of a program are computed, as text that reads back. Each pass writes down what it chose; what a
// given list says of a stage replaces that choice, and the passes choose the rest.
//
//   layout dot0 k0 j0 panel    lanes of vectors run along its loop k0, the register tile along j0; the operand that has the
//                              lanes is copied into a panel (`OperandWay`); `-` for none
//   store dot0                 it is a kernel of its own
//   at max1 j3                 it is computed inside loop j3 of its reader's kernel, and kept there
//   inline v4 j5               the same, where it is read, and kept nowhere
//   fuse v2 j3                 the same, and stored; of kernels side by side: it joins the one that has loop j3
//   at sum4 map5               outside of all loops of the kernel of map5
//   stream dot0 j0 256 dot0 v2 launched piece by piece: 256 elements at a time of the axis that loop j0 of dot0 runs along, by
//                              the kernels of these stages, or (none named) by those that can; `stream none`; `stream ordered`:
//                              the kernels come in an order in which less is alive
//   block dot0 j0 64 dot0 v2   the same, but all pieces in one kernel, which keeps on chip what lies between
//   moves v2 split j3 8 j3b; thread j3     moves of the kernel of v2 (codegen/moves/moves.h); `none`
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kontor {

enum class Verb : uint8_t { Layout, Store, At, Inline, Fuse, Stream, Block, Moves };
/// What a decision is about. A stage has at most one of each but streams.
enum class Matter : uint8_t { Layout, Level, Stream, Moves };

struct Decision {
  Verb verb;
  std::string stage;
  std::vector<std::string> words = {};
  mutable bool used = false;  ///< a pass has followed it

  std::string text() const;
};

/// How a dot reads the operand that has the lanes.
enum class OperandWay : uint8_t {
  Any,       ///< it has no lanes
  AsStored,  ///< where it lies
  Computed,  ///< made while a panel is filled, stored nowhere
  Panel,     ///< copied into a panel
  Copied,    ///< a temporary is laid out anew, or a copy of it is made
  Turned     ///< where it lies, across the lanes: square blocks of it are turned in registers
};
std::string_view name(OperandWay way);

class Decisions {
 public:
  void add(Decision decision) { list_.push_back(std::move(decision)); }
  /// What is said of a stage; null if nothing is. Counts as followed.
  const Decision* of(Matter matter, const std::string& stage) const;
  const std::vector<Decision>& all() const { return list_; }
  bool has(Matter matter) const;
  /// Throws Error for two about the same of one stage.
  void require_one_each() const;
  /// Throws Error for one that no pass has followed: no stage has that name.
  void require_followed() const;

 private:
  std::vector<Decision> list_;
  mutable std::map<std::pair<Matter, std::string>, size_t> index_;  ///< of the list, once it is asked
  mutable size_t indexed_ = 0;
};

/// Every stage that was decided on a kernel of its own, as it was laid out, run whole and without moves: the program before
/// fusion, streams and moves.
Decisions unfused(const Decisions& decided);

/// A decision a line.
std::string print(const Decisions& decisions);
/// Reads what print() writes; `#` begins a comment. Throws Error with the line.
Decisions parse_decisions(std::string_view text);
/// Throws Error: the decision, and why it can't be followed.
[[noreturn]] void reject(const Decision& decision, const std::string& why);

}  // namespace kontor
