// The fold table, what folds begin with, and their steps as formulas.
#include "graph/folds.h"

#include <limits>

#include "graph/scalar.h"

namespace kontor {

using Values = std::span<const Ref>;

/// Half of a pair of bf16 as f32: the first is the lower one.
static Ref half(const Ref& pair, int which) {
  const Ref by = constant(DType::U32, int64_t{which ? 0xffff0000 : 16});
  return make(Op::Bitcast, {make(which ? Op::And : Op::Shl, {pair, by})}, {}, DType::F32);
}

/// The second products are added first, as the instructions of AVX512-BF16 do.
static Ref pair_step(const Ref& p, Values v) {
  const Ref second = make(Op::Fma, {half(v[0], 1), half(v[1], 1), p});
  return make(Op::Fma, {half(v[0], 0), half(v[1], 0), second});
}

// clang-format off
static constexpr FoldRow rows[] = {
    {.name = "sum", .arity = 1, .step = [](const Ref& p, Values v) { return make(Op::Add, {p, v[0]}); },
     .identity = FoldIdentity::Zero, .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Sum},
    {.name = "prod", .arity = 1, .step = [](const Ref& p, Values v) { return make(Op::Mul, {p, v[0]}); },
     .identity = FoldIdentity::One, .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Prod},
    {.name = "max", .arity = 1, .step = [](const Ref& p, Values v) { return make(Op::Max, {p, v[0]}); },
     .identity = FoldIdentity::Lowest, .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Max},
    {.name = "min", .arity = 1, .step = [](const Ref& p, Values v) { return make(Op::Min, {p, v[0]}); },
     .identity = FoldIdentity::Highest, .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Min},
    {.name = "dot", .arity = 2, .step = [](const Ref& p, Values v) { return make(Op::Fma, {v[0], v[1], p}); },
     .identity = FoldIdentity::Zero, .lanes = false, .splits = true, .is_dot = true, .merge = Fold::Sum},
    {.name = "linear", .arity = 2, .step = [](const Ref& p, Values v) { return make(Op::Fma, {p, v[0], v[1]}); },
     .identity = FoldIdentity::Zero, .lanes = false, .splits = false, .is_dot = false, .merge = Fold::Linear},
    {.name = "pair_dot", .arity = 2, .step = pair_step,
     .identity = FoldIdentity::Zero, .lanes = false, .splits = true, .is_dot = true, .merge = Fold::Sum,
     .state = DType::F32, .values = DType::U32},
};
// clang-format on

std::span<const FoldRow> folds() { return rows; }
const FoldRow& row(Fold fold) { return rows[static_cast<int>(fold)]; }

DType state_dtype(Fold fold, DType values) {
  return row(fold).state == DType::Void ? values : row(fold).state;
}
DType value_dtype(Fold fold, DType state) {
  return row(fold).values == DType::Void ? state : row(fold).values;
}

static Ref slot(DType dtype, int64_t number) { return make(Op::Slot, {}, {.ints = {number}}, dtype); }

Ref step_formula(Fold fold, DType state) {
  std::vector<Ref> values;
  for (int i = 1; i <= row(fold).arity; i++) values.push_back(slot(value_dtype(fold, state), i));
  return row(fold).step(slot(state, 0), values);
}

Ref merge_formula(Fold fold, DType state) { return step_formula(row(fold).merge, state); }

/// What no value of a float dtype is beyond: infinity, or the greatest number where that would be NaN.
static double extreme(DType dtype, bool high) {
  const bool infinite = row(dtype).format.specials == Specials::Ieee;
  const double most = infinite ? std::numeric_limits<double>::infinity() : greatest(dtype);
  return high ? most : -most;
}

Ref identity(Fold fold, DType dtype) {
  const FoldIdentity begin = row(fold).identity;
  if (begin == FoldIdentity::Zero || begin == FoldIdentity::One)
    return constant(dtype, int64_t{begin == FoldIdentity::One});
  const bool high = begin == FoldIdentity::Highest;
  if (is_float(dtype)) return constant(dtype, extreme(dtype, high));
  const int bits = row(dtype).bits;
  if (kind(dtype) == Kind::Bool) return constant(dtype, int64_t{high});
  if (kind(dtype) == Kind::Unsigned) return constant(dtype, high ? int64_t{-1} : int64_t{0});
  const int64_t top = bits == 64 ? INT64_MAX : (int64_t{1} << (bits - 1)) - 1;
  return constant(dtype, high ? top : -top - 1);
}

}  // namespace kontor
