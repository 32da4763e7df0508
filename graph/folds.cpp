// The fold table, what folds begin with, and their steps as formulas.
#include "graph/folds.h"

#include <limits>

#include "base/error.h"
#include "graph/functions/mathematics.h"
#include "graph/scalar.h"

namespace kontor {

using Values = std::span<const Ref>;

/// Half of a pair of bf16 as f32: the first is the lower one.
static Ref half(const Ref& pair, int which) {
  const Ref by = constant(DType::U32, int64_t{which ? 0xffff0000 : 16});
  return make(Op::Bitcast, {make(which ? Op::And : Op::Shl, {pair, by})}, {}, DType::F32);
}

/// The second products are added first, as the instructions of AVX512-BF16 do.
static FoldState pair_step(Values p, Values v) {
  const Ref second = make(Op::Fma, {half(v[0], 1), half(v[1], 1), p[0]});
  return {make(Op::Fma, {half(v[0], 0), half(v[1], 0), second})};
}

/// The state (value, index) of values in the order of their indexes: the first of those that are furthest out. What it begins
/// with, the lowest value at 0, is left only where all values are the lowest: then the first of them is at 0.
template <Op beyond>
static FoldState furthest(Values p, Values v) {
  const Term old(p[0]), value(v[0]), taken = beyond == Op::Max ? old < value : value < old;
  return {where(taken, value, old).node, where(taken, Term(v[1]), Term(p[1])).node};
}

/// The same of states in any order.
template <Op beyond>
static FoldState furthest_of(Values p, Values v) {
  const Term old(p[0]), value(v[0]), before = Term(v[1]) < Term(p[1]);
  const Term taken = (beyond == Op::Max ? old < value : value < old) | ((value == old) & before);
  return {where(taken, value, old).node, where(taken, Term(v[1]), Term(p[1])).node};
}

/// The greatest value and the sum of exp(value - greatest): what is smaller of the two sums is scaled to the other's maximum
/// (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018, section 3).
static FoldState softmax_step(Values p, Values v) {
  const Term most(p[0]), sum(p[1]), other(v[0]), more(v[1]);
  const Term scale = exp_of(-abs(most - other));
  const Term scaled = where(most < other, fma(sum, scale, more), fma(more, scale, sum));
  return {max(most, other).node,
          where(most == other, sum + more, scaled).node};  // also where both are infinite
}

/// How many, their mean and the sum of their squared distances from it (Chan, Golub and LeVeque, Updating formulae and a
/// pairwise algorithm for computing sample variances, 1979, equation 2.1).
static FoldState moments_step(Values p, Values v) {
  const Term n = Term(p[0]) + Term(v[0]), apart = Term(v[1]) - Term(p[1]),
             share = Term(v[0]) / where(n == 0.0, 1.0, n);
  const Term squares = Term(p[2]) + Term(v[2]);
  return {n.node, fma(apart, share, Term(p[1])).node, fma(apart * apart, Term(p[0]) * share, squares).node};
}

using enum FoldIdentity;

// clang-format off
static constexpr FoldRow rows[] = {
    {.name = "sum", .arity = 1, .part = {{{"", Zero}}},
     .step = [](Values p, Values v) { return FoldState{make(Op::Add, {p[0], v[0]})}; },
     .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Sum},
    {.name = "prod", .arity = 1, .part = {{{"", One}}},
     .step = [](Values p, Values v) { return FoldState{make(Op::Mul, {p[0], v[0]})}; },
     .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Prod},
    {.name = "max", .arity = 1, .part = {{{"", Lowest, true}}},
     .step = [](Values p, Values v) { return FoldState{make(Op::Max, {p[0], v[0]})}; },
     .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Max},
    {.name = "min", .arity = 1, .part = {{{"", Highest, true}}},
     .step = [](Values p, Values v) { return FoldState{make(Op::Min, {p[0], v[0]})}; },
     .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Min},
    {.name = "dot", .arity = 2, .part = {{{"", Zero}}},
     .step = [](Values p, Values v) { return FoldState{make(Op::Fma, {v[0], v[1], p[0]})}; },
     .lanes = false, .splits = true, .is_dot = true, .merge = Fold::Sum},
    {.name = "linear", .arity = 2, .part = {{{"", Zero}}},
     .step = [](Values p, Values v) { return FoldState{make(Op::Fma, {p[0], v[0], v[1]})}; },
     .lanes = false, .splits = false, .is_dot = false, .merge = Fold::Linear},
    {.name = "pair_dot", .arity = 2, .part = {{{"", Zero, false, DType::F32}}}, .step = pair_step,
     .lanes = false, .splits = true, .is_dot = true, .merge = Fold::Sum, .values = {DType::U32, DType::U32}},
    {.name = "argmax", .arity = 2, .part = {{{"value", Lowest, true}, {"index", Zero, true, DType::I32}}},
     .step = furthest<Op::Max>, .lanes = true, .splits = true, .is_dot = false, .merge = Fold::ArgMax, .join = furthest_of<Op::Max>,
     .values = {DType::Void, DType::I32}},
    {.name = "argmin", .arity = 2, .part = {{{"value", Highest, true}, {"index", Zero, true, DType::I32}}},
     .step = furthest<Op::Min>, .lanes = true, .splits = true, .is_dot = false, .merge = Fold::ArgMin, .join = furthest_of<Op::Min>,
     .values = {DType::Void, DType::I32}},
    {.name = "softmax_stats", .arity = 2, .part = {{{"max", Lowest}, {"sum", Zero}}}, .step = softmax_step,
     .lanes = true, .splits = true, .is_dot = false, .merge = Fold::SoftmaxStats},
    {.name = "moments", .arity = 3, .part = {{{"count", Zero}, {"mean", Zero}, {"squares", Zero}}}, .step = moments_step,
     .lanes = true, .splits = true, .is_dot = false, .merge = Fold::Moments},
};
// clang-format on

std::span<const FoldRow> folds() { return rows; }
const FoldRow& row(Fold fold) { return rows[static_cast<int>(fold)]; }

size_t parts(Fold fold) {
  size_t n = 1;
  while (n < most_parts && !row(fold).part[n].name.empty()) n++;
  return n;
}

std::string part_name(Fold fold, size_t part) {
  const FoldRow& r = row(fold);
  return parts(fold) == 1 ? std::string(r.name) : fmt::format("{}.{}", r.name, r.part[part].name);
}

static constexpr int part_shift = 8;
int64_t fold_code(Fold fold, size_t part) {
  return static_cast<int64_t>(fold) | static_cast<int64_t>(part) << part_shift;
}
FoldCode fold_of_code(int64_t code) {
  return {static_cast<Fold>(code & ((1 << part_shift) - 1)), static_cast<size_t>(code >> part_shift)};
}
bool is_fold_code(int64_t code) {
  if (code < 0) return false;
  const FoldCode c = fold_of_code(code);
  return static_cast<size_t>(c.fold) < folds().size() && c.part < parts(c.fold);
}

Ref with_part(const Node& reduce, size_t part) {
  Arg arg = reduce.arg;
  arg.ints[0] = fold_code(fold_in(reduce), part);
  return make(Op::Reduce, reduce.src, std::move(arg));
}

size_t part_of_access(Op op, const Arg& arg) {
  const size_t at = op == Op::Load ? 1 : 0;
  const bool reads = op == Op::Load || op == Op::Merge;
  return reads && arg.ints.size() > at ? static_cast<size_t>(arg.ints[at]) : 0;
}

bool may_scan(Fold fold) { return parts(fold) == 1 && row(fold).part[0].dtype == DType::Void; }

static DType or_of_state(DType dtype, DType state) { return dtype == DType::Void ? state : dtype; }
DType state_dtype(Fold fold, DType first_value) { return part_dtype(fold, first_value, 0); }
DType part_dtype(Fold fold, DType state, size_t part) {
  return or_of_state(row(fold).part[part].dtype, state);
}
DType value_dtype(Fold fold, DType state, size_t value) {
  return or_of_state(row(fold).values[value], state);
}

using Formula = FoldState (*)(Values, Values);
static FoldState formulas(Fold fold, DType state, Formula formula) {
  int64_t number = 0;
  const auto slot = [&](DType dtype) { return make(Op::Slot, {}, {.ints = {number++}}, dtype); };
  std::vector<Ref> so_far, values;
  for (size_t i = 0; i < parts(fold); i++) so_far.push_back(slot(part_dtype(fold, state, i)));
  for (size_t i = 0; i < static_cast<size_t>(row(fold).arity); i++)
    values.push_back(slot(value_dtype(fold, state, i)));
  return formula(so_far, values);
}

FoldState step_formulas(Fold fold, DType state) { return formulas(fold, state, row(fold).step); }
FoldState merge_formulas(Fold fold, DType state) {
  const Fold merge = row(fold).merge;
  return formulas(merge, state, row(fold).join ? row(fold).join : row(merge).step);
}

/// What no value of a float dtype is beyond: infinity, or the greatest number where that would be NaN.
static double extreme(DType dtype, bool high) {
  const bool infinite = row(dtype).format.specials == Specials::Ieee;
  const double most = infinite ? std::numeric_limits<double>::infinity() : greatest(dtype);
  return high ? most : -most;
}

Ref identity(Fold fold, DType state, size_t part) {
  const FoldIdentity begin = row(fold).part[part].identity;
  const DType dtype = part_dtype(fold, state, part);
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
