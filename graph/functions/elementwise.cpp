// Elementwise functions: broadcasting, dtype promotion, and what becomes one op each.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "graph/functions/float_division.h"
#include "graph/functions/formula.h"
#include "graph/index/index.h"
#include "graph/scalar.h"
#include "graph/shape.h"

namespace kontor::fn {

int64_t axis_of(std::string_view who, const Node& x, int64_t axis) {
  int64_t rank = static_cast<int64_t>(x.rank());
  if (axis < -rank || axis >= rank) fail("{}: {}: no axis {}", who, describe(x), axis);
  return axis < 0 ? axis + rank : axis;
}

static std::string describe_all(std::span<const Ref> tensors) {
  std::string out;
  for (const Ref& t : tensors) out += (out.empty() ? "" : " x ") + describe(*t);
  return out;
}

Dims broadcast_shape(std::string_view who, std::span<const Ref> tensors) {
  size_t rank = 0;
  for (const Ref& t : tensors) rank = std::max(rank, t->rank());
  Dims out(rank, index(1));
  for (const Ref& t : tensors)
    for (size_t i = 0; i < t->rank(); i++) {
      const Ref& dim = t->shape[i];
      Ref& to = out[rank - t->rank() + i];
      if (is_int(to, 1)) to = dim;
      if (dim != to && !is_int(dim, 1))
        fail("{}: {}: sizes {} and {} of axis -{} differ", who, describe_all(tensors), describe_dim(to),
             describe_dim(dim), t->rank() - i);
    }
  return out;
}

static Ref reshaped(const Ref& x, const Dims& shape) {
  if (x->shape == shape) return x;
  std::vector<Ref> src{x};
  src.insert(src.end(), shape.begin(), shape.end());
  return make(Op::Reshape, src);
}

Ref broadcast(const Ref& x, const Dims& shape) {
  if (x->shape == shape) return x;
  Dims aligned(shape.size() - x->rank(), index(1));
  aligned.insert(aligned.end(), x->shape.begin(), x->shape.end());
  std::vector<Ref> src{reshaped(x, aligned)};
  if (aligned == shape) return src[0];
  src.insert(src.end(), shape.begin(), shape.end());
  return make(Op::Expand, src);
}

Ref splat(const Ref& scalar, const Dims& shape) { return broadcast(scalar, shape); }
Ref fill(DType dtype, double value, const Dims& shape) { return splat(constant(dtype, value), shape); }

Ref as_float(const Ref& x) { return is_float(x->dtype) ? x : cast(x, DType::F32); }

DType accumulator(DType dtype) { return is_float(dtype) && row(dtype).bits < 32 ? DType::F32 : dtype; }
Ref in_accumulator(const Ref& x) { return cast(x, accumulator(x->dtype)); }

void check_dtype(std::string_view who, DType dtype) {
  if (dtype == DType::Void) fail("{}: no value has the dtype {}", who, name(dtype));
}

static DType weak_dtype(const Number& n) {
  constexpr DType of_kind[] = {DType::Bool, DType::I64, DType::U64, DType::F32};
  return of_kind[n.kind];
}

static DType with_number(DType dtype, const Number& n) {
  if (is_float(dtype) || n.kind == Number::Bool) return dtype;
  return n.kind == Number::Float || dtype == DType::Bool ? weak_dtype(n) : dtype;
}

DType operand_dtype(std::string_view who, std::span<const Input> operands) {
  DType dtype = DType::Void;
  for (const Input& v : operands)
    if (v.node) dtype = dtype == DType::Void ? v.node->dtype : promote(dtype, v.node->dtype);
  for (const Input& v : operands) {
    if (v.node) continue;
    dtype = dtype == DType::Void ? weak_dtype(v.number) : with_number(dtype, v.number);
  }
  if (dtype == DType::Void) fail("{}: no operands", who);
  return dtype;
}

Ref number_constant(std::string_view who, const Number& n, DType dtype) {
  check_dtype(who, dtype);
  if (dtype == DType::Bool) return constant(dtype, int64_t{n.f != 0});
  if (is_float(dtype)) {
    if (n.kind == Number::Float) return constant(dtype, n.f);
    const Value whole = from_int(DType::I64, n.i);  // rounded once, which a double between would not be
    return constant_of(dtype, apply(Op::Cast, dtype, weak_dtype(n), &whole));
  }
  if (n.kind == Number::Float) {
    if (n.f != std::floor(n.f) || std::abs(n.f) > 9e15) fail("{}: {} is not a {}", who, n.f, name(dtype));
    return number_constant(who, Number::of(static_cast<int64_t>(n.f)), dtype);
  }
  Bounds b = dtype_bounds(dtype);
  const bool beyond = n.kind == Number::Unsigned;
  bool fits = dtype == DType::U64 ? beyond || n.i >= 0 : !beyond && n.i >= b.lo && n.i <= b.hi;
  if (!fits && beyond) fail("{}: {} does not fit in {}", who, static_cast<uint64_t>(n.i), name(dtype));
  if (!fits) fail("{}: {} does not fit in {}", who, n.i, name(dtype));
  return constant(dtype, n.i);
}

std::vector<Ref> align(std::string_view who, std::span<const Input> operands, DType dtype,
                       const Ref& also_shaped) {
  std::vector<Ref> tensors;
  for (const Input& v : operands)
    if (v.node) tensors.push_back(v.node);
  if (also_shaped) tensors.insert(tensors.begin(), also_shaped);
  Dims shape = broadcast_shape(who, tensors);
  std::vector<Ref> out;
  for (const Input& v : operands)
    out.push_back(broadcast(v.node ? cast(v.node, dtype) : number_constant(who, v.number, dtype), shape));
  return out;
}

static Ref binary(std::string_view who, Op op, const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  return make(op, align(who, operands, operand_dtype(who, operands)));
}

static Ref integers(std::string_view who, Op op, const Input& a, const Input& b, bool bool_too) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype(who, operands);
  if (is_float(dtype) || (dtype == DType::Bool && !bool_too))
    fail("{}: takes integers, not {}", who, name(dtype));
  return make(op, align(who, operands, dtype));
}

Ref call(std::string_view name, const Ref& body, std::vector<Ref> args, Ints attributes) {
  args.insert(args.begin(), body);
  return make(Op::Call, std::move(args), {.ints = std::move(attributes), .text = std::string(name)});
}

Ref cast(const Ref& x, DType dtype) {
  check_dtype("cast", dtype);
  if (x->dtype == dtype) return x;
  if (dtype == DType::Bool) return make(Op::Ne, {x, fill(x->dtype, 0, x->shape)});
  return make(Op::Cast, {x}, {}, dtype);
}

Ref bitcast(const Ref& x, DType dtype) {
  if (row(dtype).bits != row(x->dtype).bits)
    fail("bitcast: {} to {}: {} and {} bits", describe(*x), name(dtype), row(x->dtype).bits, row(dtype).bits);
  return x->dtype == dtype ? x : make(Op::Bitcast, {x}, {}, dtype);
}

static Ref numeric(std::string_view who, const Ref& x) {
  if (x->dtype == DType::Bool) fail("{}: {}: takes numbers", who, describe(*x));
  return x;
}

Ref neg(const Ref& x) { return make(Op::Neg, {numeric("neg", x)}); }

Ref abs(const Ref& x) {
  bool keeps = kind(x->dtype) == Kind::Unsigned || kind(x->dtype) == Kind::Bool;
  return keeps ? x : make(Op::Abs, {x});
}

Ref sign(const Ref& x) {
  Term t(numeric("sign", x)), zero = t.constant(0);
  Term positive = where(zero < t, t.constant(1), is_float(x->dtype) ? t : zero);  // 0 and NaN stay
  if (kind(x->dtype) == Kind::Unsigned) return positive.node;
  return where(t < zero, t.constant(-1), positive).node;
}

Ref floor(const Ref& x) { return is_float(x->dtype) ? make(Op::Floor, {x}) : x; }
Ref ceil(const Ref& x) { return is_float(x->dtype) ? make(Op::Ceil, {x}) : x; }
Ref logical_not(const Ref& x) { return make(Op::Not, {cast(x, DType::Bool)}); }

Ref bit_not(const Ref& x) {
  if (is_float(x->dtype)) fail("bit_not: {}: takes integers", describe(*x));
  return make(Op::Not, {x});
}

Ref square(const Ref& x) { return mul(x, x); }
Ref sqrt(const Ref& x) { return make(Op::Sqrt, {as_float(x)}); }
Ref isnan(const Ref& x) { return make(Op::Ne, {x, x}); }

Ref add(const Input& a, const Input& b) { return binary("add", Op::Add, a, b); }
Ref mul(const Input& a, const Input& b) { return binary("mul", Op::Mul, a, b); }

Ref sub(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  if (operand_dtype("sub", operands) == DType::Bool) fail("sub: bool from bool; use bit_xor or logical_not");
  return binary("sub", Op::Sub, a, b);
}

Ref div(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype("div", operands);
  return make(Op::Div, align("div", operands, is_float(dtype) ? dtype : DType::F32));
}

Ref floor_div(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype("floor_div", operands);
  if (!is_float(dtype)) return integers("floor_div", Op::IDiv, a, b, false);
  std::vector<Ref> both = align("floor_div", operands, dtype);
  return floored_quotient(both[0], both[1]);
}

Ref mod(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype("mod", operands);
  if (!is_float(dtype)) return integers("mod", Op::Mod, a, b, false);
  std::vector<Ref> both = align("mod", operands, dtype);
  return call("mod", exact_remainder(both[0], both[1]), both);
}

Ref maximum(const Input& a, const Input& b) { return binary("maximum", Op::Max, a, b); }
Ref minimum(const Input& a, const Input& b) { return binary("minimum", Op::Min, a, b); }

static Input as_bool(const Input& v) {
  return v.node ? Input(cast(v.node, DType::Bool)) : Input(Number::of(v.number.f != 0));
}
Ref logical_and(const Input& a, const Input& b) {
  return binary("logical_and", Op::And, as_bool(a), as_bool(b));
}
Ref logical_or(const Input& a, const Input& b) {
  return binary("logical_or", Op::Or, as_bool(a), as_bool(b));
}
Ref bit_and(const Input& a, const Input& b) { return integers("bit_and", Op::And, a, b, true); }
Ref bit_or(const Input& a, const Input& b) { return integers("bit_or", Op::Or, a, b, true); }
Ref bit_xor(const Input& a, const Input& b) { return integers("bit_xor", Op::Xor, a, b, true); }
Ref shift_left(const Input& a, const Input& b) { return integers("shift_left", Op::Shl, a, b, false); }
Ref shift_right(const Input& a, const Input& b) { return integers("shift_right", Op::Shr, a, b, false); }

Ref where(const Ref& condition, const Input& a, const Input& b) {
  if (condition->dtype != DType::Bool)
    fail("where: the condition is {}, not bool; compare it with 0", describe(*condition));
  const Input operands[] = {a, b};
  std::vector<Ref> both = align("where", operands, operand_dtype("where", operands), condition);
  return make(Op::Where, {broadcast(condition, both[0]->shape), both[0], both[1]});
}

Ref fma(const Input& a, const Input& b, const Input& c) {
  const Input operands[] = {a, b, c};
  DType dtype = operand_dtype("fma", operands);
  if (!is_float(dtype)) fail("fma: takes floats, not {}", name(dtype));
  return make(Op::Fma, align("fma", operands, dtype));
}

Ref clamp(const Ref& x, const Input& low, const Input& high) { return minimum(maximum(x, low), high); }

bool is_detached(const Node& n) { return n.is(Op::Call) && n.arg.text == "detach"; }
Ref detach(const Ref& x) { return is_detached(*x) ? x : call("detach", x, {x}); }

Ref mark(const Ref& x, const std::string& name) {
  if (name.empty()) fail("mark: the name is empty");
  return make(Op::Mark, {x}, {.ints = {fresh_id()}, .text = name});
}

/// Throws Error if a dtype cannot hold a number of a sequence: an integer dtype exactly, a float one finitely.
static void check_fits(std::string_view who, double value, DType dtype) {
  if (!is_float(dtype)) number_constant(who, Number::of(value), dtype);
  else if (!std::isfinite(const_float(*constant(dtype, value))))
    fail("{}: {} does not fit in {}", who, value, name(dtype));
}
static void check_fits(std::string_view who, int64_t value, DType dtype) {
  if (is_float(dtype)) check_fits(who, static_cast<double>(value), dtype);
  else number_constant(who, Number::of(value), dtype);
}

Ref full(const Dims& shape, const Input& value, DType dtype) {
  check_dtype("full", dtype);
  check_dims("full", shape);
  Ref scalar = value.node ? cast(value.node, dtype) : number_constant("full", value.number, dtype);
  if (scalar->rank() != 0) fail("full: the value is {}, not one number", describe(*scalar));
  return splat(scalar, shape);
}

Ref iota(const Ref& extent, DType dtype) {
  check_dtype("iota", dtype);
  check_dims("iota", std::span(&extent, 1));
  if (extent->bounds.hi > 0 && extent->bounds.hi != INT64_MAX)
    check_fits("iota", extent->bounds.hi - 1, dtype);
  return make(Op::Iota, {extent}, {}, dtype);
}

/// From f64 throughout, as NumPy (a step of 0.1 does not gather errors); integers in i64, of which all must fit.
Ref arange(double begin, double end, double step, DType dtype) {
  check_dtype("arange", dtype);
  if (step == 0 || !std::isfinite(begin) || !std::isfinite(end) || !std::isfinite(step))
    fail("arange: from {} to {} by {}", begin, end, step);
  double length = std::ceil((end - begin) / step);
  if (length > 0x1p53) fail("arange: from {} to {} by {}: {} elements", begin, end, step, length);
  int64_t count = std::max<int64_t>(0, static_cast<int64_t>(length));
  if (count > 0) {
    check_fits("arange", begin, dtype);
    check_fits("arange", begin + step * static_cast<double>(count - 1), dtype);
  }
  if (begin == 0 && step == 1) return cast(iota(index(count), is_float(dtype) ? DType::I64 : dtype), dtype);
  DType wide = is_float(dtype) ? DType::F64 : dtype == DType::U64 ? dtype : DType::I64;
  Ref at = iota(index(count), is_float(dtype) ? DType::I64 : wide);
  return cast(add(mul(cast(at, wide), Input(number_constant("arange", Number::of(step), wide))),
                  Input(number_constant("arange", Number::of(begin), wide))),
              dtype);
}

Ref eye(const Ref& n, DType dtype) {
  check_dtype("eye", dtype);
  Ref i = iota(n, DType::I64);
  return cast(eq(unsqueeze(i, 1), i), dtype);
}

}  // namespace kontor::fn
