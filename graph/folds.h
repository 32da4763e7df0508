// The fold table: one row a way of combining values one after another, p <- step(p, v). Everything else asks this table.
// What a fold has come to may have several parts (a maximum and where it is): one step makes all of them. Rows that a program
// defines (custom_folds.cpp) stand behind those that are written here.
#pragma once
#include <array>
#include <optional>
#include <span>

#include "graph/node.h"

namespace kontor {

/// Dot and Linear take two values a step; so does PairDot, each of which is two bf16. ArgMax and what follows take such
/// states as they have: how a value becomes one is what is recorded (graph/functions/reductions.cpp). ArgMax and ArgMin take
/// integers, which order as what they stand for. A program's own have the numbers behind these, in the order in which they came.
enum class Fold : uint16_t {
  Sum,
  Prod,
  Max,
  Min,
  Dot,
  Linear,
  PairDot,
  ArgMax,
  ArgMin,
  SoftmaxStats,
  Moments
};

/// The element that a fold begins with: of Max the lowest value there is, of Min the highest; Given: CustomRow::identity.
enum class FoldIdentity : uint8_t { Zero, One, Lowest, Highest, Given };

/// One of the numbers that a fold's state is made of.
struct FoldPart {
  std::string_view name = {};  // of a fold that has one part: none
  FoldIdentity identity = FoldIdentity::Zero;
  bool chosen = false;  // whether it is always one of the values that are folded into it, or the identity
  DType dtype = DType::Void;  // Void: the state's
};

using FoldState = std::vector<Ref>;
inline constexpr size_t most_parts = 8;  // and values

/// What a fold of a program's own has beside its row. All its parts and values have dtypes of their own.
struct CustomRow {
  std::string given;  // its name as the program says it
  std::string name;   // and as texts and keys have it: with the hash of its formulas
  uint64_t hash = 0;
  std::vector<std::string> parts;  // their names
  FoldState identity;              // of each part, a constant
  FoldState step;                  // formulas over Slots, as step_formulas() has them
};

struct FoldRow {
  std::string_view name;
  int arity;                              // values a step takes
  std::array<FoldPart, most_parts> part;  // those in use come first, and all of several have names
  FoldState (*step)(std::span<const Ref> state, std::span<const Ref> values);  // what the state becomes
  bool lanes;   // whether its chain may run in 64 lanes (codegen/stages/fold_order.h)
  bool splits;  // whether partial results can be joined: else all of a chain is one
  bool is_dot;  // a sum of products: what is laid out and tiled for
  Fold merge;   // the fold that joins them in order: its values are states of this one
  FoldState (*join)(std::span<const Ref> state,
                    std::span<const Ref> other) = nullptr;  // of lanes; null: as `merge` does
  std::array<DType, most_parts> values = {};                // dtypes of the values; Void: the state's
  bool scans_only = false;            // whether only a Scan may have it: what it begins with is always given
  const CustomRow* custom = nullptr;  // of a program's own
};

std::span<const FoldRow> folds();
const FoldRow& row(Fold fold);
/// The fold that texts call so, if there is one; what is to be said if there is none.
std::optional<Fold> find_fold(std::string_view name);
std::string unknown_fold(std::string_view name);
size_t parts(Fold fold);
/// What a kernel or a message calls it: of a program's own the name that the program gave.
std::string_view plain_name(Fold fold);
/// A number that stands for this fold in every process.
uint64_t lasting_number(Fold fold);
/// "max", or with the name of a part "argmax.index".
std::string part_name(Fold fold, size_t part);

/// A Reduce's, Scan's or Scatter's first number: which fold, and of a Reduce which part of its state is the result.
struct FoldCode {
  Fold fold;
  size_t part;
};
inline bool begins_with_fold(Op op) { return op == Op::Reduce || op == Op::Scan || op == Op::Scatter; }
int64_t fold_code(Fold fold, size_t part = 0);
FoldCode fold_of_code(int64_t code);
bool is_fold_code(int64_t code);
inline Fold fold_in(const Node& node) { return fold_of_code(node.at(0)).fold; }
inline size_t part_in(const Node& node) { return fold_of_code(node.at(0)).part; }
/// A Reduce of the same values by the same fold, whose result is another part of the state.
Ref with_part(const Node& reduce, size_t part);
/// Of a loop tree's Load or Merge: which part of the state it reads (0 of all other accesses).
size_t part_of_access(Op op, const Arg& arg);
/// Whether a Scan may have it: its state and its values are of one part and one dtype.
bool may_scan(Fold fold);

/// The dtype that a state is said to be of: its first part's. The dtypes of all parts and values follow from it.
DType state_dtype(Fold fold, DType first_value);
DType part_dtype(Fold fold, DType state, size_t part);
DType value_dtype(Fold fold, DType state, size_t value);
/// What a part begins with, as a constant.
Ref identity(Fold fold, DType state, size_t part = 0);
/// A step as a formula for each part over Slots: the first are the state so far, those after it the values.
FoldState step_formulas(Fold fold, DType state);
/// Two lanes joined: Slots are the parts of one, then those of the other.
FoldState merge_formulas(Fold fold, DType state);

inline constexpr size_t most_custom_folds = 1024;
/// The fold of this row, whose `custom` is `about` (but for name and hash, which are made here): found if there is an equal one.
/// `merge` of a row that is to be its own is none. May be called from several threads. Throws Error if the table is full.
Fold add_fold(FoldRow row, CustomRow about, std::optional<Fold> merge);

}  // namespace kontor
