// The fold table: one row a way of combining values one after another, p <- step(p, v). Everything else asks this table.
#pragma once
#include <array>
#include <span>

#include "graph/node.h"

namespace kontor {

/// Dot and Linear take two values a step.
enum class Fold : uint8_t { Sum, Prod, Max, Min, Dot, Linear };

/// The element that a fold begins with: of Max the lowest value there is, of Min the highest.
enum class FoldIdentity : uint8_t { Zero, One, Lowest, Highest };

struct FoldRow {
  static constexpr int8_t so_far = -1;
  std::string_view name;
  int arity;                    // values a step takes
  Op step;                      // its sources: `takes`
  std::array<int8_t, 3> takes;  // which value each is, or p as it is so far
  FoldIdentity identity;
  bool lanes;   // whether its chain may run in 64 lanes (codegen/stages/fold_order.h)
  bool splits;  // whether partial results can be joined: else only a Scan may have it
  Fold merge;   // the fold that joins them
};

inline constexpr FoldRow fold_rows[] = {
    {"sum", 1, Op::Add, {FoldRow::so_far, 0}, FoldIdentity::Zero, true, true, Fold::Sum},
    {"prod", 1, Op::Mul, {FoldRow::so_far, 0}, FoldIdentity::One, true, true, Fold::Prod},
    {"max", 1, Op::Max, {FoldRow::so_far, 0}, FoldIdentity::Lowest, true, true, Fold::Max},
    {"min", 1, Op::Min, {FoldRow::so_far, 0}, FoldIdentity::Highest, true, true, Fold::Min},
    {"dot", 2, Op::Fma, {0, 1, FoldRow::so_far}, FoldIdentity::Zero, false, true, Fold::Sum},
    {"linear", 2, Op::Fma, {FoldRow::so_far, 0, 1}, FoldIdentity::Zero, false, false, Fold::Linear},
};
inline constexpr const FoldRow& row(Fold fold) { return fold_rows[static_cast<int>(fold)]; }
/// The op that joins two partial results.
inline constexpr Op merge_op(Fold fold) { return row(row(fold).merge).step; }

/// The fold's identity as a constant of `dtype`.
Ref identity(Fold fold, DType dtype);

/// The sources of a step in the op's order: those that it does not have are T().
template <class T>
std::array<T, 3> step_sources(Fold fold, const T& so_far, std::span<const T> values) {
  std::array<T, 3> out{};
  const FoldRow& r = row(fold);
  for (size_t i = 0; i < static_cast<size_t>(row(r.step).arity); i++)
    out[i] = r.takes[i] == FoldRow::so_far ? so_far : values[static_cast<size_t>(r.takes[i])];
  return out;
}

}  // namespace kontor
