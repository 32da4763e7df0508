// The fold table: one row a way of combining values one after another, p <- step(p, v). Everything else asks this table.
#pragma once
#include <span>

#include "graph/node.h"

namespace kontor {

/// Dot and Linear take two values a step; so does PairDot, each of which is two bf16.
enum class Fold : uint8_t { Sum, Prod, Max, Min, Dot, Linear, PairDot };

/// The element that a fold begins with: of Max the lowest value there is, of Min the highest.
enum class FoldIdentity : uint8_t { Zero, One, Lowest, Highest };

struct FoldRow {
  std::string_view name;
  int arity;                                               // values a step takes
  Ref (*step)(const Ref& p, std::span<const Ref> values);  // what p becomes
  FoldIdentity identity;
  bool lanes;   // whether its chain may run in 64 lanes (codegen/stages/fold_order.h)
  bool splits;  // whether partial results can be joined: else only a Scan may have it
  bool is_dot;  // a sum of products: what is laid out and tiled for
  Fold merge;   // the fold that joins them
  DType state = DType::Void,
        values = DType::Void;  // of a fold that takes values of one dtype and is of another
};

std::span<const FoldRow> folds();
const FoldRow& row(Fold fold);

/// The dtype of what a fold of values of a dtype comes to, and back.
DType state_dtype(Fold fold, DType values);
DType value_dtype(Fold fold, DType state);
/// The fold's identity as a constant of the state's dtype.
Ref identity(Fold fold, DType state);
/// A step as a formula over Slots: 0 is the state so far, those after it are the values.
Ref step_formula(Fold fold, DType state);
/// Two partial results, Slots 0 and 1, joined.
Ref merge_formula(Fold fold, DType state);

}  // namespace kontor
