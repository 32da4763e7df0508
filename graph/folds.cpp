// The fold table, what folds begin with, and their steps as formulas.
#include "graph/folds.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>

#include "base/error.h"
#include "base/hash.h"
#include "base/lasting.h"
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
static constexpr FoldRow written[] = {
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
     .lanes = false, .splits = false, .is_dot = false, .merge = Fold::Linear, .scans_only = true},
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

/// The table as it is now. A row stays where it is, and whoever knows a fold may read its row without a lock: they were published
/// before their number was.
static constinit std::atomic<const FoldRow*> rows{written};
static constinit std::atomic<size_t> count{std::size(written)};

std::span<const FoldRow> folds() {
  const size_t n = count.load(std::memory_order_acquire);  // first: then `rows` is not older than it
  return {rows.load(std::memory_order_acquire), n};
}
const FoldRow& row(Fold fold) { return rows.load(std::memory_order_acquire)[static_cast<size_t>(fold)]; }

std::optional<Fold> find_fold(std::string_view name) {
  const std::span<const FoldRow> all = folds();
  const auto it = std::ranges::find(all, name, &FoldRow::name);
  return it == all.end() ? std::optional<Fold>() : static_cast<Fold>(it - all.begin());
}

std::string unknown_fold(std::string_view name) {
  constexpr size_t digits = 16;  // as add_fold names those of a program
  const bool is_custom = name.size() > digits + 1 && name[name.size() - digits - 1] == '_' &&
                         name.substr(name.size() - digits).find_first_not_of("0123456789abcdef") == name.npos;
  return fmt::format("unknown fold \"{}\"{}", name,
                     is_custom ? ": one of a program's own is known there, once it has folded by it" : "");
}

std::string_view plain_name(Fold fold) {
  const FoldRow& r = row(fold);
  return r.custom ? std::string_view(r.custom->given) : r.name;
}

uint64_t lasting_number(Fold fold) {
  const CustomRow* custom = row(fold).custom;
  return custom ? custom->hash : static_cast<uint64_t>(fold);
}

size_t parts(Fold fold) {
  size_t n = 1;
  while (n < most_parts && !row(fold).part[n].name.empty()) n++;
  return n;
}

std::string part_name(Fold fold, size_t part) {
  const FoldRow& r = row(fold);
  return parts(fold) == 1 ? std::string(r.name) : fmt::format("{}.{}", r.name, r.part[part].name);
}

static constexpr int part_shift = 16;
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

bool may_scan(Fold fold) {
  const FoldRow& r = row(fold);
  const DType dtype = r.part[0].dtype;
  const auto values = std::span(r.values).first(static_cast<size_t>(r.arity));
  const auto is_state = [&](DType of) { return of == dtype; };
  return parts(fold) == 1 && (dtype == DType::Void || (r.custom && std::ranges::all_of(values, is_state)));
}

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
  if (const CustomRow* custom = row(fold).custom) return custom->step;
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
  if (begin == FoldIdentity::Given) return row(fold).custom->identity[part];
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

/// What formulas say, whatever process they are made in.
static std::string text_of(const FoldState& formulas) {
  std::string out;
  NodeMap<size_t> number;
  for (const Node* n : topological(formulas)) {
    out += fmt::format("{} {} {}", row(n->op).name, name(n->dtype), fmt::join(n->arg.ints, ","));
    for (const Ref& s : n->src) out += fmt::format(" %{}", number.at(s.get()));
    out += '\n';
    number.emplace(n, number.size());
  }
  for (const Ref& f : formulas) out += fmt::format("%{}\n", number.at(f.get()));
  return out;
}

/// Of all that a custom fold is; its highest bit is set, so that it is the number of no fold that is written here.
static uint64_t hash_of(const FoldRow& r, const CustomRow& about, std::optional<Fold> merge) {
  std::string text = fmt::format("{} {} {} {}\n", about.given, r.lanes, r.splits,
                                 merge ? row(*merge).name : std::string_view());
  for (size_t i = 0; i < about.parts.size(); i++)
    text +=
        fmt::format("{} {} {:x}\n", about.parts[i], name(r.part[i].dtype), value_of(*about.identity[i]).bits);
  for (int i = 0; i < r.arity; i++) text += fmt::format("{}\n", name(r.values[static_cast<size_t>(i)]));
  return hash128(text + text_of(about.step)).low | uint64_t{1} << 63;
}

Fold add_fold(FoldRow r, CustomRow about, std::optional<Fold> merge) {
  static constinit std::mutex mutex;
  static constinit std::vector<FoldRow>* own = nullptr;  // the whole table, from the first on
  about.hash = hash_of(r, about, merge);
  about.name = fmt::format("{}_{:016x}", about.given, about.hash);
  std::lock_guard lock(mutex);
  if (const auto known = find_fold(about.name)) return *known;
  const size_t number = folds().size();
  if (number == std::size(written) + most_custom_folds)
    fail(
        "fold '{}': there are {} folds of the program's own already, and no more: a number that differs from fold to fold may be one "
        "of its values",
        about.given, most_custom_folds);
  if (!own) {
    own = &lasting(std::vector<FoldRow>(std::size(written) + most_custom_folds));
    std::ranges::copy(written, own->begin());
    rows.store(own->data(), std::memory_order_release);
  }
  const CustomRow& custom = lasting(std::move(about));
  r.custom = &custom;
  r.name = custom.name;
  for (size_t i = 0; i < custom.parts.size(); i++)
    r.part[i].name = custom.parts.size() > 1 ? custom.parts[i] : std::string_view();
  r.merge = merge.value_or(static_cast<Fold>(number));
  (*own)[number] = r;
  count.store(number + 1, std::memory_order_release);
  return static_cast<Fold>(number);
}

}  // namespace kontor
