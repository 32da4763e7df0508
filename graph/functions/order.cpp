// Order: sorts, and what is found by them.
#include <algorithm>
#include <bit>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

constexpr int64_t position_bits = 32;  // of a code that a row is sorted by; the key is above them

int64_t bits_of(DType dtype) { return dtype == DType::Bool ? 1 : row(dtype).bits; }

/// Codes of a float's bits, which are ordered as the numbers are: 0 and -0 have one code, every NaN the greatest. A negative
/// number has the more bits set the less it is.
Term code_of_float(const Term& x) {
  const DType dtype = unsigned_of(row(x.node->dtype).bits);
  const auto zero = static_cast<int64_t>((uint64_t{1} << (row(dtype).bits - 1)) - 1);
  const Term bits = x.bits(dtype), negative = bits >> (row(dtype).bits - 1);
  const Term number = where(negative == 0.0, bits + bits.integer(zero), bits ^ bits.integer(-1));
  return where(x != x, bits.integer(-1), where(x == 0.0, bits.integer(zero), number));
}

/// An unsigned integer for each element, in the order of the elements.
Ref code_of(const Ref& x, bool descending) {
  const Term value(x);
  Term code = value;
  switch (kind(x->dtype)) {
    case Kind::Float:  code = code_of_float(value); break;
    case Kind::Signed: {
      const Term bits = value.bits(unsigned_of(row(x->dtype).bits));
      code = bits ^ bits.integer(static_cast<int64_t>(uint64_t{1} << (row(x->dtype).bits - 1)));
      break;
    }
    case Kind::Bool: code = (descending ? !value : value).as(DType::U8); break;
    default:         break;
  }
  return descending && x->dtype != DType::Bool ? (code ^ code.integer(-1)).node : code.node;
}

/// Positions of an axis of n as such, which nothing has to check.
Ref inside(const Ref& at, const Ref& n) {
  return clamp(cast(at, DType::I64), Input(index(0)), Input(ix::sub(n, 1)));
}

Ref low_bits(const Ref& code) {
  return bit_and(code, Input(constant(DType::U64, (int64_t{1} << position_bits) - 1)));
}

/// Positions 0, 1, .. of a row in the order of the `bits` lowest bits of their codes; those of equal codes as they stand in
/// `order` (none: as they are).
Ref ordered(const Ref& code, int64_t bits, const Ref& order) {
  const Ref positions = order ? order : broadcast(iota(code->shape.back(), DType::U64), code->shape);
  const Ref key = shift_left(cast(code, DType::U64), Input(constant(DType::U64, position_bits)));
  return low_bits(make(Op::Sort, {bit_or(key, positions)}, {.ints = {position_bits, bits}}));
}

/// x[i.., at[i.., k]]: positions are those of the last axis, and lie inside.
Ref rows_at(const Ref& x, const Ref& at) {
  std::vector<Ref> src{x};
  Ints axes;
  for (size_t a = 0; a < x->rank(); a++) axes.push_back(static_cast<int64_t>(a));
  for (size_t a = 0; a + 1 < x->rank(); a++) src.push_back(along(at->shape, a));
  src.push_back(inside(at, x->shape.back()));
  return make(Op::Gather, src, {.ints = axes});
}

/// Positions of each row (the last axis) in the order of their codes, as u64.
Ref order_of_codes(const Ref& code, int64_t bits) {
  if (bits <= 32) return ordered(code, bits, {});
  const Ref low = ordered(low_bits(code), 32, {});
  return ordered(shift_right(rows_at(code, low), Input(constant(DType::U64, int64_t{32}))), 32, low);
}

Ref order_of_rows(const Ref& x, bool descending) {
  return order_of_codes(code_of(x, descending), bits_of(x->dtype));
}

/// A tensor whose rows are sorted, with its axis last, and what puts the axis back.
struct Rows {
  Ref x;
  int64_t axis;

  Rows(std::string_view who, const Ref& given, int64_t which) : axis(axis_of(who, *given, which)) {
    const Ref& length = given->shape[static_cast<size_t>(axis)];
    if (length->bounds.hi > int64_t{1} << position_bits)
      fail("{}: {}: axis {} has more than 2^{} elements", who, describe(*given), which, position_bits);
    x = transpose(given, axis, -1);
  }
  Ref back(const Ref& rows) const { return transpose(rows, axis, -1); }
};

/// The first `count` of each row.
Ref first_of_rows(const Ref& x, const Ref& begin, const Ref& count) {
  Dims from(x->rank(), index(0)), size = x->shape;
  from.back() = begin;
  size.back() = count;
  return shrink(x, from, size);
}

/// The first k of order_of_codes(). They lie in the k blocks of a row whose least codes come first: an element of any other has
/// k before it, in each of these blocks one. So only the elements of k blocks are sorted, as they stand in the row.
Ref first_of_codes(const Ref& code, int64_t bits, int64_t k) {
  constexpr int64_t block = 64, few = 4;
  const Ref &n = code->shape.back(), blocks = ix::ceil_div(n, index(block));
  if (!n->is_const() || k == 0 || extent(n) < few * k * block)
    return first_of_rows(order_of_codes(code, bits), index(0), index(k));
  Ints padding(2 * code->rank(), 0);
  padding.back() = extent(ix::sub(ix::mul(blocks, block), n));
  const Ref padded = pad(code, padding, Input(constant(code->dtype, int64_t{-1})));
  Dims shape = code->shape;
  shape.back() = blocks;
  shape.push_back(index(block));
  const Ref least = reduce(Fold::Min, {reshape(padded, shape)}, {static_cast<int64_t>(code->rank())}, false);
  const Ref first = first_of_rows(order_of_codes(least, bits), index(0), index(k));
  const auto block_bits = static_cast<int64_t>(std::bit_width(static_cast<uint64_t>(extent(blocks))));
  const Ref chosen = make(Op::Sort, {first}, {.ints = {0, block_bits}});
  const Ref elements =
      add(mul(unsqueeze(chosen, -1), Input(constant(DType::U64, block))), iota(index(block), DType::U64));
  shape = code->shape;
  shape.back() = index(k * block);
  const Ref positions = reshape(elements, shape);
  const Ref order = order_of_codes(rows_at(padded, positions), bits);
  return rows_at(positions, first_of_rows(order, index(0), index(k)));
}

Ref top_order(const Rows& rows, std::string_view who, const Ref& given, int64_t k, bool largest) {
  if (k < 0 || rows.x->shape.back()->bounds.lo < k)
    fail("{}: {}: {} of axis {}, which {} as many", who, describe(*given), k, rows.axis,
         rows.x->shape.back()->is_const() ? "has not" : "may not have");
  return first_of_codes(code_of(rows.x, largest), bits_of(rows.x->dtype), k);
}

}  // namespace

Ref sort(const Ref& x, int64_t axis, bool descending) {
  const Rows rows("sort", x, axis);
  return rows.back(rows_at(rows.x, order_of_rows(rows.x, descending)));
}

Ref argsort(const Ref& x, int64_t axis, bool descending) {
  const Rows rows("argsort", x, axis);
  return rows.back(cast(order_of_rows(rows.x, descending), DType::I64));
}

Ref topk(const Ref& x, int64_t k, int64_t axis, bool largest) {
  const Rows rows("topk", x, axis);
  return rows.back(rows_at(rows.x, top_order(rows, "topk", x, k, largest)));
}

Ref argtopk(const Ref& x, int64_t k, int64_t axis, bool largest) {
  const Rows rows("argtopk", x, axis);
  return rows.back(cast(top_order(rows, "argtopk", x, k, largest), DType::I64));
}

/// The mean of the two in the middle, or of the one twice; NaN where the last one is.
Ref median(const Ref& x, std::optional<int64_t> axis, bool keepdims) {
  if (!axis) {
    const Ref one = median(reshape(x, {ix::product(x->shape)}), 0, false);
    return keepdims ? reshape(one, Dims(x->rank(), index(1))) : one;
  }
  const Rows rows("median", x, *axis);
  const Ref& n = rows.x->shape.back();
  if (n->bounds.lo < 1)
    fail("median: {}: axis {} {} no elements", describe(*x), *axis, is_int(n, 0) ? "has" : "may have");
  const Ref sorted = in_accumulator(as_float(rows_at(rows.x, order_of_rows(rows.x, false))));
  const auto at = [&](const Ref& position) { return Term(first_of_rows(sorted, position, index(1))); };
  const Term low = at(ix::idiv(ix::sub(n, 1), 2)), high = at(ix::idiv(n, 2)), last = at(ix::sub(n, 1));
  const Term mean = where(low == high, low, low * 0.5 + high * 0.5);  // a sum might overflow
  const Ref middle = where(last != last, last, mean).node;
  const Ref out = cast(rows.back(middle), as_float(x)->dtype);
  return keepdims ? out : squeeze(out, Ints{rows.axis});
}

/// Halves what is left of each row until nothing is, without a branch.
Ref searchsorted(const Ref& given, const Ref& wanted, bool right) {
  if (given->rank() == 0 || (given->rank() > 1 && given->rank() != wanted->rank()) ||
      (given->rank() > 1 && !std::equal(given->shape.begin(), given->shape.end() - 1, wanted->shape.begin())))
    fail("searchsorted: {} for {}: needs one sorted row, or one for each row of values", describe(*given),
         describe(*wanted));
  const Input both[] = {given, wanted};
  const DType dtype = operand_dtype("searchsorted", both);
  const Ref sorted = cast(given, dtype), values = cast(wanted, dtype), &n = sorted->shape.back();
  const auto element = [&](const Ref& at) {
    return sorted->rank() > 1 ? rows_at(sorted, at)
                              : make(Op::Gather, {sorted, inside(at, n)}, {.ints = {0}});
  };
  const Term value(values);
  const auto is_less = [&](const Term& a, const Term& b) {  // NaN is the greatest
    return is_float(dtype) ? (a < b) | ((b != b) & (a == a)) : a < b;
  };
  const Ref zero = splat(constant(dtype, int64_t{0}), values->shape);  // what an empty row has
  Term found(splat(index(0), values->shape));
  const Term length(splat(n, values->shape));
  const auto most = std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(n->bounds.hi, 1)));
  for (auto step = static_cast<int64_t>(most); step > 0 && n->bounds.hi > 0; step /= 2) {
    const Term next = found + found.integer(step), reached = !(length < next);
    const Term other(where(reached.node, element((next - next.integer(1)).node), zero));
    const Term before = right ? !is_less(value, other) : is_less(other, value);
    found = where(before & reached, next, found);
  }
  return found.node;
}

}  // namespace kontor::fn
