// shape_accesses: what each Load, Store and FoldStep of a vector loop is to memory, as data: where the elements of its lanes
// lie, and which lanes are switched off. A renderer prints it, and `kontor dump --stage accesses` prints it below each statement:
//
//   kernel far(y f32[2, 16], x f32[16, 40]) -> y
//     unroll c 2
//       vector l 16 width 16
//         y[c, l] = x[l, c * 20] + x[c, l * 2]
//         # y[c, l]: contiguous
//         # x[l, c * 20]: gather 40              lane l at 40 l: as far apart as the rows of x
//         # x[c, l * 2]: pairs                   every second element
//
// An access may differ between the copies of an unrolled loop: a guard holds in one and not in the other.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/target.h"
#include "codegen/tree/tree.h"

namespace kontor {

/// Where the element of lane l lies, p being that of lane 0.
enum class AccessKind : uint8_t {
  Uniform,     ///< p: one element for all lanes
  Contiguous,  ///< p + l
  Reversed,    ///< p - l
  Pairs,       ///< p + 2 l, no lane off: all even elements of two vectors
  Runs,        ///< `run` lanes side by side, no lane off, and so on for each run
  Groups,      ///< p + l / run, no lane off: `run` lanes side by side share an element
  Block,  ///< p + stride l, while the copies of the loop `along` lie side by side: a square of words, turned in registers
  Gather,  ///< p + stride l, or (stride 0) anywhere
  InTurn,  ///< of a FoldStep whose lanes may meet in one element: lane after lane
};
std::string_view name(AccessKind kind);

/// What switches lanes off in the instruction. A reason is left out where it needs none: a place has room for such lanes.
struct AccessMask {
  bool extent = false;  ///< the vector loop runs for fewer lanes than it is wide
  bool branch = false;  ///< a branch that not all lanes take
  bool guard = false;   ///< the Load's guard differs between lanes
  bool any() const { return extent || branch || guard; }
  friend bool operator==(const AccessMask&, const AccessMask&) = default;
};

struct AccessShape {
  AccessKind kind = AccessKind::Uniform;
  int64_t stride = 0;           ///< elements from lane to lane, where that is one number
  int64_t run = 0;              ///< of Runs and Groups; of a Block's load: elements in a word
  const Node* along = nullptr;  ///< of Block: the range of the unrolled loop
  AccessMask mask = {};
  AccessMask read = {};  ///< of a FoldStep: of what it reads before it writes
  bool is_blend =
      false;  ///< of a masked write: all lanes are written, those that are off with what they were
  bool past_caches = false;  ///< of a store: whole lines of what no cache holds until it is read again
  int64_t ahead = 0;  ///< of a load: bytes from there to what it asks for too (read_ahead.h); 0: nothing
  friend bool operator==(const AccessShape&, const AccessShape&) = default;
};
/// "contiguous, masked by extent and guard".
std::string print(const AccessShape& shape);

/// A copy of an unrolled loop, of which the iteration is known.
struct UnrolledCopy {
  const Node* range;
  int64_t count, at;
};

/// The loops and branches around an access.
struct AccessScope {
  const Node* vector = nullptr;               ///< the vector loop; null: none
  bool branch = false;                        ///< lanes are switched off by a branch
  std::span<const UnrolledCopy> copies = {};  ///< outer before inner
  size_t straight = 0;  ///< from this one on, no counted loop or branch stands between a copy and the access
};

/// A value where unrolled loops are in these copies.
Ref in_copies(const Ref& value, const AccessScope& scope);

/// How vector loops access a place, and what it looks like in memory therefore.
struct PlaceShape {
  std::vector<Ref> dims =
      {};  ///< of a local place: upper bounds, and rows of whole vectors where lanes may be off
  std::vector<const Node*> in =
      {};  ///< vector loops inside of which it is declared: there each element is a vector
  bool written = false, read = false;        ///< in this kernel
  std::vector<const Node*> written_in = {};  ///< ranges of the loops around what writes it
  int chunk = 0;           ///< least number of lanes of the accesses to it that are vectors; 0: none
  int partial = 0;         ///< largest of those that may reach beyond a row's end, with lanes switched off
  int unaligned = 0;       ///< and of those among them that do not begin at multiples of their lanes
  Ref extent = {};         ///< of the vector loops in which it is accessed, if that is one for all its life
  bool mixed = false;      ///< accessed in other ways too: a lane that is off may be another access's element
  size_t declared_in = 0;  ///< number of loops and branches around its declaration
};

/// Elements that the iterations of a loop access: the first at `start`, from each to the next `apart`.
struct Along {
  Ref start;
  int64_t apart;
};
/// None if the position is not affine in the range.
std::optional<Along> along(const Ref& position, const Ref& range);
/// Whether all that the position may be is a multiple of a number.
bool is_multiple(const Ref& position, int64_t of);

class AccessShapes {
 public:
  explicit AccessShapes(const Ref& kernel);
  AccessShape of(const Node& access, const AccessScope& scope);
  const PlaceShape& place(const Node& place) const { return places_.at(&place); }
  const std::unordered_map<const Node*, PlaceShape>& places() const { return places_; }
  /// Row-major, in elements; in a vector loop.
  Ref position(const Node& access, const Node& vector) const;
  /// Where the first of `run` lanes lies, if they lie side by side whatever the loops around are at; else null.
  Ref position_of_run(const Node& access, const Node& vector, int64_t first, int64_t run) const;
  /// Whether lanes differ in the value.
  bool varies(const Ref& value, const Node& vector) const;

 private:
  /// What holds of an access in all copies of the loops around it, or in one.
  struct Facts {
    const Node* vector = nullptr;
    Ref access = {};  ///< kept alive: its address is the key
    Ref position = {};
    int64_t stride = 0;
    bool is_even = true;                   ///< stride is all that tells lanes apart
    int64_t run = 0, group = 0;            ///< of Runs, of Groups; 0: it is none
    std::vector<Ref> guards = {};          ///< parts of the guard's conjunction that do not always hold
    bool by_lane = false;                  ///< whether lanes differ in one of them
    std::vector<const Node*> ranges = {};  ///< on which all but position and stride may depend
  };

  void survey(std::span<const Ref> statements, const Node* vector);
  void survey_values(const Node& statement, const Node* vector);
  void survey_write(const Node& statement, const Node* vector);
  void survey_access(const Node& access, const Node* vector);
  bool one_extent(const PlaceShape& p, const Node& access, const Node* vector) const;
  void lay_out(const Node& place, PlaceShape& p) const;
  bool is_of_vectors(const Node& place, const Node& vector) const;

  const Facts& facts(const Node& access, const Node& vector);
  Facts facts_of(Ref position, std::vector<Ref> guards, const Node& vector) const;
  Facts in_copy(const Facts& f, const AccessScope& scope) const;
  int64_t run_of(const Node& access, const Node& vector) const;
  AccessShape in_order(const Node& n, const AccessScope& scope, const Facts& f, int64_t stride) const;
  AccessShape load(const Node& n, const AccessScope& scope, const Facts& f) const;
  AccessShape store(const Node& n, const AccessScope& scope, const Facts& f) const;
  AccessShape fold(const Node& n, const AccessScope& scope, const Facts& f) const;
  const Node* block_along(const AccessScope& scope, const Facts& f, int64_t in_word) const;
  bool goes_past_caches(const Node& n, const AccessScope& scope, const Facts& f, const Node* along) const;

  std::unordered_map<const Node*, PlaceShape> places_;
  std::unordered_map<const Node*, int64_t> ahead_;  // by load
  std::unordered_map<const Node*, Facts> facts_;
  std::vector<const Node*> open_;  // loops and branches, while surveying
};

/// All accesses of a kernel, as often as they are rendered: for each copy of unrolled loops.
using AccessVisitor = std::function<void(const Node& statement, const Node& access, const AccessScope& scope,
                                         const AccessShape& shape)>;
void for_each_access(const Ref& kernel, const AccessVisitor& visit);

/// The kernel's text with what the accesses of its vector loops are, as comments: it reads back.
std::string print_accesses(const Ref& kernel);

}  // namespace kontor
