// Attention: softmax(q k^T * scale + mask) v, with heads of queries that may share heads of keys. What a query may not see
// is told from positions, and no mask is stored.
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

// What a softmax takes for -infinity without making NaN of a row that has nothing else.
constexpr double unseen = -1e30;
// Queries to a block, and blocks, of attention that looks back only: fewer are too small for kernels of their own, more are
// more to compile.
constexpr int64_t least_block = 256, most_blocks = 8;
// Queries to a block of any attention: as many steps as the chain of a product has (codegen/stages/fold_order.h).
constexpr int64_t longest_block = 4096;

void check_sizes(const Ref& q, const Ref& k, const Ref& v) {
  if (q->rank() < 2 || k->rank() < 2 || v->rank() < 2)
    fail("attention: {} x {} x {}: needs [.., n, d], [.., m, d] and [.., m, e]", describe(*q), describe(*k),
         describe(*v));
  if (q->shape.back() != k->shape.back())
    fail("attention: {} x {}: queries and keys of {} and {} numbers", describe(*q), describe(*k),
         describe_dim(q->shape.back()), describe_dim(k->shape.back()));
  const Ref &keys = k->shape[k->rank() - 2], &values = v->shape[v->rank() - 2];
  if (keys != values)
    fail("attention: {} x {}: {} keys and {} values", describe(*k), describe(*v), describe_dim(keys),
         describe_dim(values));
}

/// How many heads of queries share one of keys: the sizes of the axis before the last two where they differ; else 1.
int64_t sharing(const Ref& q, const Ref& k) {
  if (q->rank() < 3 || k->rank() < 3) return 1;
  const Ref &heads = q->shape[q->rank() - 3], &of_keys = k->shape[k->rank() - 3];
  if (heads == of_keys || !heads->is_const() || !of_keys->is_const() || extent(of_keys) <= 1 ||
      extent(heads) <= 1)
    return 1;
  if (extent(heads) % extent(of_keys) != 0)
    fail("attention: {} x {}: {} heads of queries do not share {} of keys", describe(*q), describe(*k),
         extent(heads), extent(of_keys));
  return extent(heads) / extent(of_keys);
}

/// [.., heads, n, d] -> [.., heads/share, share, n, d]; an axis of one head becomes two of 1.
Ref in_groups(const Ref& x, int64_t share) {
  if (x->rank() < 3) return x;
  Dims shape = x->shape;
  const ptrdiff_t at = static_cast<ptrdiff_t>(shape.size()) - 3;
  const int64_t heads = extent(shape[static_cast<size_t>(at)]), each = heads == 1 ? 1 : share;
  shape[static_cast<size_t>(at)] = index(heads / each);
  shape.insert(shape.begin() + at + 1, index(each));
  return reshape(x, shape);
}

/// Which of m keys each of n queries may see, [n, m]; null: all. The last query stands at the last key.
Ref seen_by_position(const Ref& n, const Ref& m, bool causal, int64_t window) {
  if (!causal && window == 0) return {};
  const bool narrow = m->bounds.hi + n->bounds.hi + window < std::numeric_limits<int32_t>::max();
  const DType dtype = narrow ? DType::I32 : DType::I64;
  const Ref ahead = cast(splat(ix::sub(m, n), {n}), dtype);
  const Ref query = unsqueeze(add(iota(n, dtype), ahead), 1), key = unsqueeze(iota(m, dtype), 0);
  Ref seen = causal ? le(key, query) : Ref();
  if (window == 0) return seen;
  const Ref after = lt(query, add(key, window));
  seen = seen ? logical_and(seen, after) : logical_and(after, lt(key, add(query, window)));
  return seen;
}

Ref together(const Ref& a, const Ref& b) { return a && b ? logical_and(a, b) : a ? a : b; }

Ref dropped(const Ref& weights, double part) {
  const Ref drawn = uniform(weights->shape, 0, 1, DType::F32);
  return where(ge(drawn, part), mul(weights, 1 / (1 - part)), 0.0);
}

struct Choices {
  Ref mask;
  bool causal;
  int64_t window;
  double scale, dropout;
};

/// The formula, in the dtype of sums; heads are in groups.
Ref formula(const Ref& q, const Ref& k, const Ref& v, const Choices& c) {
  const Ref &n = q->shape[q->rank() - 2], &m = k->shape[k->rank() - 2];
  const bool hides = c.mask && c.mask->dtype == DType::Bool;
  const Ref seen = together(seen_by_position(n, m, c.causal, c.window), hides ? c.mask : Ref());
  Ref scores = mul(matmul(q, transpose(k, -1, -2)), c.scale);
  if (c.mask && !hides) scores = add(scores, cast(c.mask, scores->dtype));
  if (seen) scores = where(seen, scores, unseen);
  Ref weights = softmax(scores, -1);
  // What is added may be less than what stands for unseen.
  if (seen && c.mask && !hides) weights = where(seen, weights, 0.0);
  if (c.dropout > 0) weights = dropped(weights, c.dropout);
  const Ref out = matmul(weights, v);
  const bool may_see_none = seen && (hides || ix::sub(m, n)->bounds.lo < 0);
  return may_see_none ? where(any(seen, Ints{-1}, true), out, 0.0) : out;
}

/// From `begin` to `end` along an axis, from the last on; of a mask that is the same all along it, itself.
Ref part(const Ref& x, int64_t back, int64_t begin, int64_t end) {
  if (x->rank() < static_cast<size_t>(back) || is_int(x->shape[x->rank() - static_cast<size_t>(back)], 1))
    return x;
  return slice(x, -back, begin, end, 1);
}

/// The formula for blocks of queries one after another, each with the keys that its queries may see: what none of them sees is
/// not computed. Of 1024 queries and keys that leaves 5 products in 8. More queries than a product's chain has steps are in blocks too,
/// where all see all:
/// gradients of keys add up over them, and pieces of a chain need not be kept.
Ref in_blocks(const Ref& q, const Ref& k, const Ref& v, const Choices& c) {
  const Ref &n = q->shape[q->rank() - 2], &m = k->shape[k->rank() - 2];
  const int64_t queries = n->is_const() ? extent(n) : 0, keys = m->is_const() ? extent(m) : 0;
  const bool is_cut = c.causal && keys >= queries;
  const int64_t block =
      is_cut ? std::max(least_block, (queries + most_blocks - 1) / most_blocks) : longest_block;
  if (queries <= block || (!is_cut && (c.causal || c.window > 0 || !m->is_const())))
    return formula(q, k, v, c);
  std::vector<Ref> out;
  for (int64_t begin = 0; begin < queries; begin += block) {
    const int64_t end = std::min(begin + block, queries), last = is_cut ? end + keys - queries : keys;
    const int64_t first = c.window == 0 ? 0 : std::max<int64_t>(0, begin + keys - queries - c.window + 1);
    Choices own = c;
    if (c.mask) own.mask = part(part(c.mask, 2, begin, end), 1, first, last);
    out.push_back(formula(part(q, 2, begin, end), part(k, 2, first, last), part(v, 2, first, last), own));
  }
  return cat(out, -2);
}

void check_choices(const Choices& c) {
  if (c.window < 0) fail("attention: a window of {}", c.window);
  if (!std::isfinite(c.scale)) fail("attention: a scale of {}", c.scale);
  if (!(c.dropout >= 0 && c.dropout < 1)) fail("attention: a dropout of {}", c.dropout);
  if (c.mask && c.mask->dtype != DType::Bool && !is_float(c.mask->dtype))
    fail("attention: mask {}: needs bool (may be seen) or floats (added)", describe(*c.mask));
}

}  // namespace

Ref attention(const Ref& queries, const Ref& keys, const Ref& values, const Ref& mask, bool causal,
              int64_t window, double scale, double dropout) {
  const Input operands[] = {queries, keys, values};
  const DType common = operand_dtype("attention", operands), dtype = is_float(common) ? common : DType::F32;
  const Ref q = cast(queries, dtype), k = cast(keys, dtype), v = cast(values, dtype);
  check_sizes(q, k, v);
  const Ref& size = q->shape.back();
  if (scale == 0 && !size->is_const())
    fail("attention: {}: queries of no fixed size need a scale", describe(*q));
  Choices c{mask, causal, std::min(window, most_elements), scale, dropout};
  if (scale == 0) c.scale = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(extent(size), 1)));
  check_choices(c);
  Ref out;
  if (const int64_t share = sharing(q, k); share > 1) {
    if (c.mask) c.mask = in_groups(c.mask, share);
    out = in_blocks(in_groups(in_accumulator(q), share), in_groups(in_accumulator(k), 1),
                    in_groups(in_accumulator(v), 1), c);
    Dims shape = out->shape;
    shape.erase(shape.end() - 4);
    shape[shape.size() - 3] = q->shape[q->rank() - 3];
    out = reshape(out, shape);
  } else {
    out = in_blocks(in_accumulator(q), in_accumulator(k), in_accumulator(v), c);
  }
  std::vector<Ref> arguments{q, k, v};
  if (mask) arguments.push_back(mask);
  return call("attention", cast(out, dtype), arguments,
              {causal, window, std::bit_cast<int64_t>(c.scale), std::bit_cast<int64_t>(dropout)});
}

}  // namespace kontor::fn
