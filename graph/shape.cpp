// Shape, dtype and bounds rules.
#include "graph/shape.h"

#include <algorithm>

#include "base/error.h"
#include "graph/folds.h"
#include "graph/index/index.h"
#include "graph/text/expression.h"

namespace kontor {

Bounds dtype_bounds(DType dtype) {
  const DTypeRow& r = row(dtype);
  if (r.kind == Kind::Bool) return {0, 1};
  if (r.bits >= 64 || (r.kind != Kind::Signed && r.kind != Kind::Unsigned)) return {};
  if (r.kind == Kind::Unsigned) return {0, (int64_t{1} << r.bits) - 1};
  return {-(int64_t{1} << (r.bits - 1)), (int64_t{1} << (r.bits - 1)) - 1};
}

std::string describe_dim(const Ref& dim) {
  if (dim->is_const()) return fmt::format("{}", dim->at(0));
  return print_expression(*dim, [](const Node& n) -> std::string {
    if (n.is_const() || is_elementwise(n.op)) return "";
    return n.op == Op::Variable || n.op == Op::Range ? n.arg.text : "?";
  });
}

std::string describe_shape(std::span<const Ref> shape) {
  std::string out = "[";
  for (const Ref& d : shape) out += (out.size() > 1 ? ", " : "") + describe_dim(d);
  return out + "]";
}

// Sizes and positions are index expressions, over which the index algebra is recursive.
static void check_size_depth(std::string_view who, const Ref& size) {
  constexpr uint32_t deepest = 200;
  if (size->depth > deepest) fail("{}: a dimension is computed in more than {} steps", who, deepest);
}

// `derived`: bounds of what was computed are rough, so that only constants can be said to be negative.
static void check_extents(std::string_view who, std::span<const Ref> dims, bool derived) {
  if (dims.size() > most_axes) fail("{}: {} axes; a tensor has at most {}", who, dims.size(), most_axes);
  int64_t count = 1;
  for (const Ref& d : dims) {
    if (d->dtype != DType::I64) continue;  // what graph/verify.cpp says
    check_size_depth(who, d);
    if (d->bounds.lo < 0 && (!derived || d->is_const()))
      fail("{}: {}: a dimension may be {}", who, describe_shape(dims), d->bounds.lo);
    const bool known = d->is_const() || d->bounds.hi != INT64_MAX;
    if (!known || d->bounds.hi <= 1) continue;
    if (__builtin_mul_overflow(count, d->bounds.hi, &count) || count > most_elements)
      fail("{}: {}: more than {} elements", who, describe_shape(dims), most_elements);
  }
}

void check_dims(std::string_view who, std::span<const Ref> dims) { check_extents(who, dims, false); }

int64_t reach(int64_t size, int64_t distance) {
  int64_t out = 0;
  const bool over = __builtin_mul_overflow(size - 1, distance, &out) || __builtin_add_overflow(out, 1, &out);
  return over ? INT64_MAX : out;
}

std::string describe(const Node& node) {
  return fmt::format("{}{}", name(node.dtype), describe_shape(node.shape));
}

namespace {

void need(bool ok, Op op, Refs src, std::string_view what) {
  if (ok) return;
  std::string list;
  for (const Ref& s : src) list += fmt::format(" {}", s ? describe(*s) : "null");
  broken("{}: {}; sources:{}", row(op).name, what, list);
}

__extension__ typedef __int128 Int128;

struct Wide {  // bounds arithmetic in 128 bits, so that overflow is seen
  Int128 lo, hi;
};

Bounds narrow(Wide w, DType dtype) {
  Bounds limit = dtype_bounds(dtype);
  Int128 lo = limit.lo, hi = limit.hi;
  if (dtype == DType::U64) lo = 0;
  if (w.lo < lo || w.hi > hi) return limit;
  return {static_cast<int64_t>(w.lo), static_cast<int64_t>(w.hi)};
}

bool known(Bounds b) { return b.lo != INT64_MIN || b.hi != INT64_MAX; }

Bounds mul_bounds(Bounds a, Bounds b, DType dtype) {
  Int128 p[4] = {static_cast<Int128>(a.lo) * b.lo, static_cast<Int128>(a.lo) * b.hi,
                 static_cast<Int128>(a.hi) * b.lo, static_cast<Int128>(a.hi) * b.hi};
  return narrow({*std::min_element(p, p + 4), *std::max_element(p, p + 4)}, dtype);
}

int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0) && ((a < 0) != (b < 0))); }

Bounds idiv_bounds(Bounds a, Bounds b) {
  if (b.lo <= 0) return {};
  int64_t q[4] = {floor_div(a.lo, b.lo), floor_div(a.lo, b.hi), floor_div(a.hi, b.lo), floor_div(a.hi, b.hi)};
  return {*std::min_element(q, q + 4), *std::max_element(q, q + 4)};
}

Bounds mod_bounds(Bounds a, Bounds b) {
  if (b.lo <= 0) return {};
  if (a.lo >= 0 && a.hi < b.lo) return a;
  return {0, a.lo >= 0 ? std::min(a.hi, b.hi - 1) : b.hi - 1};
}

Bounds elementwise_bounds(Op op, Refs src, DType dtype) {
  if (is_float(dtype)) return {};
  if (dtype == DType::U64) return {};  // beyond i64: nothing is said of 64-bit unsigned values
  Bounds a = src[0]->bounds, b = src.size() > 1 ? src[1]->bounds : Bounds{};
  bool floats = is_float(src[0]->dtype);
  switch (op) {
    case Op::Add:   return narrow({static_cast<Int128>(a.lo) + b.lo, static_cast<Int128>(a.hi) + b.hi}, dtype);
    case Op::Sub:   return narrow({static_cast<Int128>(a.lo) - b.hi, static_cast<Int128>(a.hi) - b.lo}, dtype);
    case Op::Neg:   return narrow({-static_cast<Int128>(a.hi), -static_cast<Int128>(a.lo)}, dtype);
    case Op::Mul:   return mul_bounds(a, b, dtype);
    case Op::IDiv:  return known(a) && known(b) ? idiv_bounds(a, b) : dtype_bounds(dtype);
    case Op::Mod:   return b.lo > 0 ? mod_bounds(a, b) : dtype_bounds(dtype);
    case Op::Max:   return {std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
    case Op::Min:   return {std::min(a.lo, b.lo), std::min(a.hi, b.hi)};
    case Op::Where: return {std::min(b.lo, src[2]->bounds.lo), std::max(b.hi, src[2]->bounds.hi)};
    case Op::And:
      return dtype == DType::Bool ? Bounds{std::min(a.lo, b.lo), std::min(a.hi, b.hi)} : dtype_bounds(dtype);
    case Op::Or:
      return dtype == DType::Bool ? Bounds{std::max(a.lo, b.lo), std::max(a.hi, b.hi)} : dtype_bounds(dtype);
    case Op::Not: return dtype == DType::Bool ? Bounds{1 - a.hi, 1 - a.lo} : dtype_bounds(dtype);
    case Op::Cast:
      if (floats || dtype == DType::Bool || src[0]->dtype == DType::U64) return dtype_bounds(dtype);
      return narrow({a.lo, a.hi}, dtype);
    case Op::Lt:
      if (floats || src[0]->dtype == DType::U64) return {0, 1};
      return {a.hi < b.lo, a.lo < b.hi};
    case Op::Le:
      if (floats || src[0]->dtype == DType::U64) return {0, 1};
      return {a.hi <= b.lo, a.lo <= b.hi};
    default: return dtype_bounds(dtype);
  }
}

DType elementwise_dtype(Op op, Refs src, DType dtype) {
  if (op == Op::Cast || op == Op::Bitcast) return dtype;
  if (has(op, Comparison)) return DType::Bool;
  return src[op == Op::Where ? 1 : 0]->dtype;
}

Derived derive_elementwise(Op op, Refs src, DType given) {
  for (const Ref& s : src) need(s->shape == src[0]->shape, op, src, "shapes differ");
  DType dtype = elementwise_dtype(op, src, given);
  need(dtype != DType::Void, op, src, "no dtype");
  for (size_t i = op == Op::Where ? 2 : 1; i < src.size(); i++)
    need(src[i]->dtype == src[op == Op::Where ? 1 : 0]->dtype, op, src, "dtypes differ");
  if (op == Op::Where) need(src[0]->dtype == DType::Bool, op, src, "condition is not bool");
  if (has(op, IntegerOnly)) need(!is_float(src[0]->dtype), op, src, "source is not an integer");
  if (has(op, FloatOnly)) need(is_float(src[0]->dtype), op, src, "source is not a float");
  if (op == Op::Bitcast) need(row(dtype).bits == row(src[0]->dtype).bits, op, src, "widths differ");
  return {dtype, elementwise_bounds(op, src, dtype), src[0]->shape};
}

std::vector<Ref> tail(Refs src, size_t from) {
  return {src.begin() + static_cast<ptrdiff_t>(from), src.end()};
}

std::vector<Ref> window_shape(const Node& x, const Arg& arg) {
  size_t axis = static_cast<size_t>(arg.ints[0]);
  int64_t stride = arg.ints[1], dilation = arg.ints[2], k = arg.ints[3];
  std::vector<Ref> shape = x.shape;
  shape[axis] = ix::add(ix::idiv(ix::sub(shape[axis], reach(k, dilation)), stride), 1);
  shape.insert(shape.begin() + arg.ints[0] + 1, index(k));
  return shape;
}

std::vector<Ref> moved_shape(Op op, Refs src, const Arg& arg) {
  const Node& x = *src[0];
  for (size_t i = op == Op::Pad ? 2 : 1; i < src.size(); i++) check_size_depth(row(op).name, src[i]);
  std::vector<Ref> shape;
  switch (op) {
    case Op::Reshape: {
      shape = tail(src, 1);
      Ref before = ix::product(x.shape), after = ix::product(shape);
      need(!before->is_const() || !after->is_const() || before == after, op, src,
           "number of elements changes");
      return shape;
    }
    case Op::Permute:
      need(arg.ints.size() == x.rank(), op, src, "order does not fit the rank");
      for (int64_t a : arg.ints) {
        need(a >= 0 && static_cast<size_t>(a) < x.rank(), op, src, "an axis is out of range");
        shape.push_back(x.shape[static_cast<size_t>(a)]);
      }
      return shape;
    case Op::Expand:
      need(src.size() - 1 == x.rank(), op, src, "rank changes");
      for (size_t i = 0; i < x.rank(); i++)
        need(x.shape[i] == src[i + 1] || is_int(x.shape[i], 1), op, src, "only dimensions of 1 expand");
      return tail(src, 1);
    case Op::Pad:
      need(src.size() == 2 + 2 * x.rank() && src[1]->dtype == x.dtype && src[1]->rank() == 0, op, src,
           "needs fill, lo and hi for each axis");
      for (size_t i = 2; i < src.size(); i++)
        if (src[i]->is_const() && src[i]->at(0) > most_elements)
          fail("pad: {} by {}: more than {} elements", describe(x), src[i]->at(0), most_elements);
      for (size_t i = 0; i < x.rank(); i++)
        shape.push_back(ix::add(ix::add(x.shape[i], src[2 + 2 * i]), src[3 + 2 * i]));
      return shape;
    case Op::Shrink:
      need(src.size() == 1 + 2 * x.rank(), op, src, "needs begin and size for each axis");
      for (size_t i = 0; i < x.rank(); i++) shape.push_back(src[2 + 2 * i]);
      return shape;
    case Op::Window: return window_shape(x, arg);
    case Op::Unwindow:
      shape = x.shape;
      shape[static_cast<size_t>(arg.ints[0])] = src[1];
      return shape;
    default: return x.shape;
  }
}

Bounds join(Bounds a, Bounds b) { return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)}; }
Bounds with_zero(Bounds b, DType dtype) { return is_float(dtype) ? b : join(b, {0, 0}); }

/// The elements of the source, and what stands where there is none.
Bounds moved_bounds(Op op, Refs src) {
  Bounds b = src[0]->bounds;
  if (op == Op::Pad) return join(b, src[1]->bounds);
  return op == Op::Unwindow ? with_zero(b, src[0]->dtype) : b;
}

Derived derive_reduce(Op op, Refs src, const Arg& arg) {
  need(!arg.ints.empty(), op, src, "no fold");
  need(is_fold_code(arg.ints[0]), op, src, "no such fold");
  const auto [fold, part] = fold_of_code(arg.ints[0]);
  need(!row(fold).scans_only, op, src, "only a scan has this fold");
  need(static_cast<int>(src.size()) == row(fold).arity, op, src, "wrong number of sources for the fold");
  const DType state = state_dtype(fold, src[0]->dtype);
  for (size_t i = 0; i < src.size(); i++) {
    need(src[i]->shape == src[0]->shape, op, src, "sources differ");
    need(src[i]->dtype == value_dtype(fold, state, i), op, src, "the fold takes no such values");
  }
  std::vector<Ref> shape;
  for (size_t i = 0; i < src[0]->rank(); i++)
    if (std::find(arg.ints.begin() + 1, arg.ints.end(), static_cast<int64_t>(i)) == arg.ints.end())
      shape.push_back(src[0]->shape[i]);
  const FoldPart& of = row(fold).part[part];
  const DType dtype = part_dtype(fold, state, part);
  Bounds b = of.chosen ? src[part]->bounds : dtype_bounds(dtype);
  if (of.chosen && of.identity == FoldIdentity::Zero) b = with_zero(b, dtype);
  return {dtype, is_float(dtype) ? Bounds{} : b, {}, std::move(shape)};
}

/// Values of one shape, and what the fold begins with for each chain of them.
Derived derive_scan(Op op, Refs src, const Arg& arg) {
  need(arg.ints.size() == 2, op, src, "needs a fold and an axis");
  need(is_fold_code(arg.ints[0]), op, src, "no such fold");
  const Fold fold = fold_of_code(arg.ints[0]).fold;
  need(static_cast<int>(src.size()) == row(fold).arity + 1, op, src, "wrong number of sources for the fold");
  const Node &x = *src[0], &start = *src.back();
  for (const Ref& s : src) need(s->dtype == x.dtype, op, src, "sources are of different dtypes");
  need(may_scan(fold), op, src, "only a Reduce has this fold");
  need(state_dtype(fold, x.dtype) == x.dtype, op, src, "the fold takes no such values");
  for (const Ref& s : src.first(src.size() - 1)) need(s->shape == x.shape, op, src, "values differ in shape");
  std::vector<Ref> others = x.shape;
  need(arg.ints[1] >= 0 && arg.ints[1] < static_cast<int64_t>(others.size()), op, src, "has no such axis");
  others.erase(others.begin() + arg.ints[1]);
  need(start.shape == others, op, src, "its start is not of the other axes' shape");
  Bounds b = dtype_bounds(x.dtype);
  if (row(fold).part[0].chosen) b = join(x.bounds, start.bounds);
  return {x.dtype, is_float(x.dtype) ? Bounds{} : b, x.shape};
}

Derived derive_sort(Op op, Refs src, const Arg& arg) {
  const Node& x = *src[0];
  need(kind(x.dtype) == Kind::Unsigned && x.rank() > 0, op, src, "takes rows of unsigned integers");
  const int bits = row(x.dtype).bits;
  need(arg.ints.size() == 2 && arg.ints[0] >= 0 && arg.ints[0] < bits && arg.ints[1] > 0 &&
           arg.ints[1] <= bits - arg.ints[0],
       op, src, "needs a lowest bit, and a number of bits that there are");
  return {x.dtype, x.bounds, x.shape};
}

Derived derive_indexed(Op op, Refs src, const Arg& arg) {
  const Node& x = *src[0];
  if (op == Op::Sort) return derive_sort(op, src, arg);
  if (op != Op::Gather) {
    need(src.size() >= 2 && src[1]->dtype == x.dtype, op, src, "values are of another dtype");
    if (op == Op::Put)
      need(src.size() == 2 + x.rank() && src[1]->rank() == x.rank(), op, src, "needs a begin for each axis");
    return {x.dtype, dtype_bounds(x.dtype), x.shape};
  }
  need(src.size() == arg.ints.size() + 1 && !arg.ints.empty(), op, src,
       "needs one index tensor for each axis");
  std::vector<Ref> shape = src[1]->shape;
  for (size_t i = 1; i < src.size(); i++)
    need(src[i]->shape == shape && !is_float(src[i]->dtype), op, src, "bad index tensor");
  for (size_t i = 0; i < x.rank(); i++)
    if (std::find(arg.ints.begin(), arg.ints.end(), static_cast<int64_t>(i)) == arg.ints.end())
      shape.push_back(x.shape[i]);
  return {x.dtype, with_zero(x.bounds, x.dtype), {}, std::move(shape)};  // what an index out of range yields
}

/// What is read of a loop tree's place: an element, or a part of what a fold has come to there.
Derived derive_access(Op op, Refs src, const Arg& arg) {
  const Node& place = *src[0];
  const size_t part = part_of_access(op, arg);
  if (part == 0) return {place.dtype, dtype_bounds(place.dtype)};
  need(place.op == Op::Place && place.at(2) >= 0, op, src, "the place has no parts");
  const Fold fold = static_cast<Fold>(place.at(2));
  need(part < parts(fold), op, src, "the fold has no such part");
  const DType dtype = part_dtype(fold, place.dtype, part);
  return {dtype, dtype_bounds(dtype)};
}

Bounds leaf_bounds(Op op, Refs src, const Arg& arg, DType dtype) {
  if (is_float(dtype)) return {};
  switch (op) {
    case Op::Const:
      return dtype == DType::U64 && arg.ints[0] < 0 ? Bounds{} : Bounds{arg.ints[0], arg.ints[0]};
    case Op::Variable:
    case Op::Slot:     return arg.ints.size() >= 3 ? Bounds{arg.ints[1], arg.ints[2]} : dtype_bounds(dtype);
    case Op::Iota:
    case Op::Range:
      if (src[0]->bounds.hi == INT64_MAX) return {0, INT64_MAX};
      return narrow({0, std::max<int64_t>(src[0]->bounds.hi, 1) - 1}, dtype);
    default: return dtype_bounds(dtype);
  }
}

Derived derive_leaf(Op op, Refs src, const Arg& arg, DType dtype) {
  need(dtype != DType::Void, op, src, "no dtype");
  const bool has_shape = op == Op::Buffer || op == Op::Iota;
  return {dtype, leaf_bounds(op, src, arg, dtype), has_shape ? src : Refs()};
}

}  // namespace

static Derived derived(Op op, Refs src, const Arg& arg, DType dtype) {
  const OpRow& r = row(op);
  need(r.arity < 0 || static_cast<int>(src.size()) == r.arity, op, src, "wrong number of sources");
  switch (r.group) {
    case OpClass::Leaf:        return derive_leaf(op, src, arg, dtype);
    case OpClass::Elementwise: return derive_elementwise(op, src, dtype);
    case OpClass::Movement:    return {src[0]->dtype, moved_bounds(op, src), {}, moved_shape(op, src, arg)};
    case OpClass::Reduce:      return op == Op::Scan ? derive_scan(op, src, arg) : derive_reduce(op, src, arg);
    case OpClass::Indexed:     return derive_indexed(op, src, arg);
    case OpClass::Wrapper:     return {src[0]->dtype, src[0]->bounds, src[0]->shape};
    case OpClass::Value:       return derive_access(op, src, arg);
    case OpClass::Statement:   return {op == Op::Place ? dtype : DType::Void, {}};
  }
  broken("op {} has no class", r.name);
}

Derived derive(Op op, Refs src, const Arg& arg, DType dtype) {
  Derived d = derived(op, src, arg, dtype);
  const bool new_shape = !d.made.empty() || row(op).group == OpClass::Leaf;
  if (new_shape && !d.shape().empty()) check_extents(row(op).name, d.shape(), true);
  return d;
}

}  // namespace kontor
