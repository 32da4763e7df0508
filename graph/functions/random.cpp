// Random numbers as a pure function of key and counter: Threefry-2x32-20 in u32 ops, and the draws made of it.
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"
#include "base/threefry.h"
#include "graph/functions/mathematics.h"
#include "graph/functions/random.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/scalar.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

struct Words {
  Term low, high;
};

Words halves(const Ref& u64, const Dims& shape) {
  Term wide(splat(u64, shape));
  return {wide.as(DType::U32), (wide >> 32).as(DType::U32)};
}

Term rotated(const Term& x, int64_t by) { return (x << by) | (x >> (32 - by)); }

/// Salmon et al., SC 2011; the same function as base/threefry.h.
Words threefry_block(const Words& key, Words counter) {
  constexpr int64_t rotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const Term schedule[3] = {key.low, key.high, key.low ^ key.high ^ key.low.integer(0x1BD11BDA)};
  Term x0 = counter.low + key.low, x1 = counter.high + key.high;
  for (size_t group = 0; group < 5; group++) {
    for (int64_t by : rotations[group % 2]) {
      x0 = x0 + x1;
      x1 = rotated(x1, by) ^ x0;
    }
    x0 = x0 + schedule[(group + 1) % 3];
    x1 = x1 + (schedule[(group + 2) % 3] + static_cast<double>(group + 1));
  }
  return {x0, x1};
}

/// Blocks counter .. counter + blocks-1, as vectors. The 64-bit sum is made of 32-bit ops: vectors stay full.
Words blocks_from(const Ref& key, const Ref& counter, const Ref& blocks) {
  if (blocks->bounds.hi > INT64_C(0xFFFFFFFF)) fail("random: a draw of more than 2^33 numbers");
  Dims shape{blocks};
  Words start = halves(counter, shape);
  Term low = start.low + Term(iota(blocks, DType::U32));
  Term carry = (low < start.low).as(DType::U32);
  return threefry_block(halves(key, shape), {low, start.high + carry});
}

/// [blocks] and [blocks] -> word e mod 2 of block e div 2, in `shape`.
Ref interleaved(const Ref& even, const Ref& odd, const Dims& shape) {
  Dims pairs{even->shape[0], index(2)};
  Ref both = broadcast(unsqueeze(even, 1), pairs);
  if (even != odd) {
    Ref first = broadcast(eq(iota(index(2), DType::I32), 0), pairs);
    both = make(Op::Where, {first, both, broadcast(unsqueeze(odd, 1), pairs)});
  }
  Ref flat = reshape(both, {ix::mul(even->shape[0], index(2))});
  return reshape(shrink(flat, {index(0)}, {ix::product(shape)}), shape);
}

constexpr int64_t permutation_blocks = 24;  // one a round

Ref pairs_of(const Dims& shape) { return ix::ceil_div(ix::product(shape), index(2)); }

/// [0, 1) with 23 bits; one number a word.
Term unit32(const Term& word) { return ((word >> 9) | int64_t{0x3F800000}).bits(DType::F32) - 1.0; }
/// [0, 1) with 52 bits; one number a block.
Term unit64(const Words& block) {
  Term wide = (block.high.as(DType::U64) << 32) | block.low.as(DType::U64);
  return ((wide >> 12) | int64_t{0x3FF0000000000000}).bits(DType::F64) - 1.0;
}

/// A u64 counter of `blocks` blocks, and the key, from the thread's source.
struct Draw {
  Ref key, counter;
};

Draw draw(const Ref& blocks) {
  RandomSource& source = random_source();
  Ref key = source.key();
  return {key, source.counter(blocks)};
}

Ref blocks_of(const Dims& shape, DType dtype) {
  return dtype == DType::F64 ? ix::product(shape) : pairs_of(shape);
}

void need_float(std::string_view who, DType dtype) {
  if (!is_float(dtype)) fail("{}: makes floats, not {}", who, name(dtype));
}

}  // namespace

Ref random_words(const Ref& key, const Ref& counter, const Dims& shape) {
  Words block = blocks_from(key, counter, pairs_of(shape));
  return interleaved(block.low.node, block.high.node, shape);
}

/// The number of `dtype` next to v, upwards or downwards.
static double next_to(DType dtype, double v, bool up) {
  uint64_t bits = from_double(dtype, v).bits, sign = uint64_t{1} << (row(dtype).bits - 1);
  if (v == 0) bits = up ? 1 : sign | 1;
  else bits += (v > 0) == up ? 1 : ~uint64_t{0};
  if (bits == sign) bits = 0;  // not every dtype has a -0
  return to_double(dtype, {bits});
}

static void need_within(std::string_view who, DType dtype, std::initializer_list<double> values) {
  for (double v : values)
    if (!(std::abs(v) <= greatest(dtype)))
      fail("{}: {} is not a number that {} holds (-{} .. {})", who, v, name(dtype), greatest(dtype),
           greatest(dtype));
}

/// low + unit * (high - low) of the work dtype, where the span is a number of it.
static Term between(const Term& unit, double low, double high) {
  const bool spans = std::abs(high - low) <= greatest(unit.node->dtype);
  if (!spans) return unit * high + (1.0 - unit) * low;
  return low != 0 || high != 1 ? unit * (high - low) + low : unit;
}

/// Rounding may take a draw out of low <= x < high: to the ends of the dtype's numbers in between, where it does.
static Term inside(const Term& x, double low, double high, DType dtype) {
  auto rounded = [&](double v) { return to_double(dtype, from_double(dtype, v)); };
  double first = rounded(low), last = rounded(high);
  if (low == high) return min(max(x, first), first);
  if (first < low) first = next_to(dtype, first, true);
  if (last >= high) last = next_to(dtype, last, false);
  if (first > last) fail("uniform: no {} is in {} <= x < {}", name(dtype), low, high);
  const bool never_leaves = low == 0 && high == 1 && accumulator(dtype) == dtype;
  return never_leaves ? x : min(max(x, first), last);
}

Ref uniform_at(const Ref& key, const Ref& counter, const Dims& shape, double low, double high, DType dtype) {
  need_float("uniform", dtype);
  if (!(low <= high)) fail("uniform: from {} to {}", low, high);
  need_within("uniform", dtype, {low, high});
  Term unit = dtype == DType::F64 ? unit64(blocks_from(key, counter, ix::product(shape)))
                                  : unit32(Term(random_words(key, counter, shape)));
  unit = Term(reshape(unit.node, shape));
  const Term drawn = inside(between(unit, low, high), low, high, dtype);
  return call("uniform", cast(drawn.node, dtype), {key, counter});
}

/// Box and Muller: a block makes two numbers, radius * cos and radius * sin of one angle.
Ref normal_at(const Ref& key, const Ref& counter, const Dims& shape, double mean, double deviation,
              DType dtype) {
  need_float("normal", dtype);
  if (!(deviation >= 0)) fail("normal: a deviation of {}", deviation);
  need_within("normal", dtype, {mean, deviation});
  Words block = blocks_from(key, counter, pairs_of(shape));
  auto unit = [&](const Term& word) {
    return dtype == DType::F64 ? unit32(word).as(DType::F64) : unit32(word);
  };
  Term radius = sqrt(unary("log", 1.0 - unit(block.low)) * -2.0);
  Term turns = unit(block.high);
  Ref angle = interleaved((turns + 0.25).node, turns.node, shape);  // cos(a) = sin(a + a quarter turn)
  Term out = Term(interleaved(radius.node, radius.node, shape)) * sin_turns_of(Term(angle));
  if (deviation != 1) out = out * deviation;
  if (mean != 0) out = out + mean;
  constexpr double furthest = 5.65;  // sqrt(-2 log(2^-23)): deviations that the radius can be
  const double most = greatest(dtype);
  if (!(std::abs(mean) + furthest * deviation < most / 2)) out = min(max(out, -most), most);
  return call("normal", cast(out.node, dtype), {key, counter});
}

namespace {

constexpr double kTail = 0.02425;  // of the normal distribution's lower end, which has a formula of its own

/// The number that a part p (f64, 0 < p <= 1/2) of the normal distribution lies below: Acklam's formula (2003), 1.2e-9 of it wrong at
/// most.
Term lower_quantile(const Term& p) {
  constexpr double a[] = {2.506628277459239,  -30.66479806614716, 138.3577518672690,
                          -275.9285104469687, 220.9460984245205,  -39.69683028665376};
  constexpr double b[] = {
      1, -13.28068155288572, 66.80131188771972, -155.6989798598866, 161.5858368580409, -54.47609879822406};
  constexpr double c[] = {2.938163982698783,  4.374664141464968,   -2.549732539343734,
                          -2.400758277161838, -0.3223964580411365, -0.007784894002430293};
  constexpr double d[] = {1, 3.754408661907416, 2.445134137142996, 0.3224671290700398, 0.007784695709041462};
  const Term q = p - 0.5, r = q * q, t = sqrt(unary("log", p) * -2.0);
  return where(p < kTail, polynomial(t, c) / polynomial(t, d), q * polynomial(r, a) / polynomial(r, b));
}

double part_below(double z) { return 0.5 * std::erfc(-z * std::numbers::sqrt2 / 2); }

}  // namespace

/// By the inverse of the distribution, from below where that half has more of it, else from above: so ends keep their digits.
Ref truncated_normal(const Dims& shape, double mean, double deviation, double low, double high, DType dtype) {
  constexpr std::string_view who = "truncated_normal";
  need_float(who, dtype);
  if (!(deviation > 0)) fail("{}: a deviation of {}", who, deviation);
  if (!(low <= high)) fail("{}: from {} to {}", who, low, high);
  need_within(who, dtype, {mean, deviation, low, high});
  const double a = (low - mean) / deviation, b = (high - mean) / deviation;
  const bool mirrored = a + b > 0;
  const double least = part_below(mirrored ? -b : a), most = part_below(mirrored ? -a : b);
  if (!(most - least > std::numeric_limits<double>::min()))
    fail("{}: of mean {} and deviation {} nothing lies in {} <= x < {}", who, mean, deviation, low, high);
  const Term p = Term(uniform(shape, 0, 1, DType::F64)) * (most - least) + least, upper = 1.0 - p;
  const Term below =
      lower_quantile(max(min(where(p < 0.5, p, upper), 0.5), std::numeric_limits<double>::min()));
  const Term z = where(p < 0.5, below, -below), x = (mirrored ? -z : z) * deviation + mean;
  return cast(inside(x, low, high, dtype).node, dtype);
}

// 32 numbers a word. The words are stored: a bit a number, so that no block is made 64 times.
Ref rademacher_at(const Ref& key, const Ref& counter, const Dims& shape, DType dtype) {
  need_float("rademacher", dtype);
  const Ref words = ix::ceil_div(ix::product(shape), index(32));
  const Ref drawn = make(Op::Copy, {random_words(key, counter, {words})});
  const Dims bits{words, index(32)};
  const Term place(broadcast(iota(index(32), DType::U32), bits));
  const Term set = op(Op::Shr, Term(broadcast(unsqueeze(drawn, 1), bits)), place) & int64_t{1};
  const Ref sign = ((set << 31) ^ set.integer(0xBF800000)).bits(DType::F32).node;  // 1: +1
  const Ref flat = shrink(reshape(sign, {ix::mul(words, index(32))}), {index(0)}, {ix::product(shape)});
  return cast(reshape(flat, shape), dtype);
}

Ref uniform(const Dims& shape, double low, double high, DType dtype) {
  check_dims("uniform", shape);
  Draw d = draw(blocks_of(shape, dtype));
  return uniform_at(d.key, d.counter, shape, low, high, dtype);
}

Ref normal(const Dims& shape, double mean, double deviation, DType dtype) {
  check_dims("normal", shape);
  Draw d = draw(pairs_of(shape));
  return normal_at(d.key, d.counter, shape, mean, deviation, dtype);
}

/// The high 64 bits of (64 random bits) * span, as base/threefry.h random_below.
static Term random_below(const Words& block, uint64_t span) {
  Term lo = block.low.as(DType::U64), hi = block.high.as(DType::U64);
  Term span_lo = lo.integer(static_cast<int64_t>(span & 0xFFFFFFFFu));
  Term cross = hi * span_lo + ((lo * span_lo) >> 32);
  if (span >> 32 == 0) return cross >> 32;
  Term span_hi = lo.integer(static_cast<int64_t>(span >> 32));
  Term middle = lo * span_hi + (cross & int64_t{0xFFFFFFFF});
  return hi * span_hi + (cross >> 32) + (middle >> 32);
}

Ref randint(const Dims& shape, int64_t low, int64_t high, DType dtype) {
  if (is_float(dtype) || dtype == DType::Bool) fail("randint: makes integers, not {}", name(dtype));
  if (low >= high) fail("randint: no integer in {} .. {}", low, high);
  number_constant("randint", Number::of(low), dtype);
  number_constant("randint", Number::of(high - 1), dtype);
  check_dims("randint", shape);
  Ref blocks = ix::product(shape);
  Draw d = draw(blocks);
  uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  Term below = random_below(blocks_from(d.key, d.counter, blocks), span).as(DType::I64);
  Ref flat = cast((low ? below + below.integer(low) : below).node, dtype);
  return call("randint", reshape(flat, shape), {d.key, d.counter});
}

/// Swap-or-not (Hoang, Morris, Rogaway 2012): a bijection of [0, n) for any n, without cycle walking. In each round x
/// may change places with k - x; a hash of the greater of the two decides, so both decide alike.
Ref permutation_at(const Ref& key, const Ref& counter, const Ref& n, DType dtype) {
  constexpr int64_t rounds = permutation_blocks;
  if (is_float(dtype) || dtype == DType::Bool) fail("permutation: makes integers, not {}", name(dtype));
  if (n->bounds.lo < 1 || n->bounds.hi >= INT64_C(0x80000000))
    fail("permutation: of {} numbers", n->bounds.hi);
  number_constant("permutation", Number::of(n->bounds.hi - 1), dtype);
  Words keys = blocks_from(key, counter, index(rounds));
  Dims shape{n};
  Term x(iota(n, DType::U32)), count(splat(cast(n, DType::U32), shape));
  Ref wide = splat(cast(n, DType::U64), {index(rounds)});
  Ref centres = ((keys.low.as(DType::U64) * Term(wide)) >> 32).as(DType::U32).node;
  for (int64_t round = 0; round < rounds; round++) {
    Term centre(splat(select(centres, 0, round), shape)),
        salt(splat(select(keys.high.node, 0, round), shape));
    Term partner = where(centre < x, centre + count - x, centre - x);
    Term hash = max(x, partner) ^ salt;
    hash = (hash ^ (hash >> 16)) * 2146121005.0;
    hash = (hash ^ (hash >> 15)) * 2221713035.0;  // Wellons' lowbias32
    x = where(((hash >> 31) & int64_t{1}) == 1.0, partner, x);
  }
  return call("permutation", cast(x.node, dtype), {key, counter});
}

Ref permutation(const Ref& n, DType dtype) {
  Draw d = draw(index(permutation_blocks));
  return permutation_at(d.key, d.counter, n, dtype);
}

}  // namespace kontor::fn
