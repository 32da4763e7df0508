// The table of functions that users call, calls by name, and the page of docs made from it.
#include "graph/functions/functions.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/lasting.h"
#include "graph/functions/unary.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor {

namespace {

// --- arguments of a typed function, from those of a call by name

template <class T>
struct Conversion;  // name: in docs and bindings; from: of an Argument

[[noreturn]] void mismatch(std::string_view wanted) { throw Error(fmt::format("needs {}", wanted)); }

const Number& only_number(const Argument& a, std::string_view wanted) {
  if (a.kind != Argument::Number) mismatch(wanted);
  return a.numbers[0];
}

int64_t whole(const Number& n) {
  if (n.kind == Number::Float || n.kind == Number::Unsigned) mismatch("whole numbers");
  return n.i;
}

Ints whole_numbers(const Argument& a) {
  if (a.kind != Argument::Numbers && a.kind != Argument::Number) mismatch("whole numbers");
  Ints out;
  for (const Number& n : a.numbers) out.push_back(whole(n));
  return out;
}

template <>
struct Conversion<Ref> {
  static constexpr std::string_view name = "tensor";
  static Ref from(const Argument& a) {
    if (a.kind == Argument::None) return {};
    if (a.kind == Argument::Tensor) return a.tensors[0];
    const Number& n = only_number(a, "a tensor");
    const Input number(n);
    return fn::number_constant("number", n, fn::operand_dtype("number", std::span(&number, 1)));
  }
};
template <>
struct Conversion<std::vector<Ref>> {  // also a shape: a list of numbers
  static constexpr std::string_view name = "tensors";
  static std::vector<Ref> from(const Argument& a) {
    if (a.kind == Argument::Tensors || a.kind == Argument::Tensor) return a.tensors;
    std::vector<Ref> out;
    for (int64_t n : whole_numbers(a)) out.push_back(index(n));
    return out;
  }
};
template <>
struct Conversion<Input> {
  static constexpr std::string_view name = "operand";
  static Input from(const Argument& a) {
    return a.kind == Argument::Tensor ? Input(a.tensors[0]) : Input(only_number(a, "a tensor or a number"));
  }
};
template <>
struct Conversion<int64_t> {
  static constexpr std::string_view name = "int";
  static int64_t from(const Argument& a) { return whole(only_number(a, "a whole number")); }
};
template <>
struct Conversion<std::optional<int64_t>> {
  static constexpr std::string_view name = "int or none";
  static std::optional<int64_t> from(const Argument& a) {
    if (a.kind == Argument::None) return {};
    return Conversion<int64_t>::from(a);
  }
};
template <>
struct Conversion<double> {
  static constexpr std::string_view name = "float";
  static double from(const Argument& a) { return only_number(a, "a number").f; }
};
template <>
struct Conversion<bool> {
  static constexpr std::string_view name = "bool";
  static bool from(const Argument& a) { return only_number(a, "true or false").f != 0; }
};
template <>
struct Conversion<DType> {
  static constexpr std::string_view name = "dtype";
  static DType from(const Argument& a) {
    if (a.kind != Argument::Dtype) mismatch("a dtype");
    return a.dtype;
  }
};
template <>
struct Conversion<Ints> {
  static constexpr std::string_view name = "ints";
  static Ints from(const Argument& a) { return whole_numbers(a); }
};
template <>
struct Conversion<AxisList> {
  static constexpr std::string_view name = "axes";
  static AxisList from(const Argument& a) {
    if (a.kind == Argument::None) return {};
    return whole_numbers(a);
  }
};
template <>
struct Conversion<std::string> {
  static constexpr std::string_view name = "text";
  static std::string from(const Argument& a) {
    if (a.kind != Argument::Text) mismatch("a text in quotes");
    return a.text;
  }
};

template <class T>
auto converted(const Argument& a, size_t position) {
  try {
    return Conversion<std::decay_t<T>>::from(a);
  } catch (const Error& e) {
    fail("argument {}: {}", position + 1, e.what());
  }
}

template <auto Function>
struct Adapted;
template <class... A, Ref (*Function)(A...)>
struct Adapted<Function> {
  static constexpr std::array<std::string_view, sizeof...(A)> types{Conversion<std::decay_t<A>>::name...};
  static Ref call(const FunctionRow&, std::span<const Argument> arguments) {
    return with(arguments, std::index_sequence_for<A...>());
  }
  template <size_t... I>
  static Ref with(std::span<const Argument> arguments, std::index_sequence<I...>) {
    return Function(converted<A>(arguments[I], I)...);
  }
};

// --- the table

#define KONTOR_FUNCTION(name, group, parameters, doc) \
  {#name, group, parameters, doc, Adapted<&fn::name>::types, &Adapted<&fn::name>::call}

// clang-format off
constexpr FunctionRow table[] = {
    KONTOR_FUNCTION(full,          "make",    "shape, value, dtype=f32", "A tensor that is `value` everywhere."),
    KONTOR_FUNCTION(iota,          "make",    "n, dtype=i64", "0, 1, .. n-1."),
    KONTOR_FUNCTION(arange,        "make",    "begin, end, step=1.0, dtype=f32", "begin, begin+step, .. before end; computed in f64."),
    KONTOR_FUNCTION(eye,           "make",    "n, dtype=f32", "The identity matrix [n, n]."),
    KONTOR_FUNCTION(linspace,      "make",    "begin, end, count, dtype=f32", "`count` numbers from begin to end, both included; computed in f64."),
    KONTOR_FUNCTION(uniform,       "make",    "shape, low=0.0, high=1.0, dtype=f32", "Random numbers with low <= x < high, of 23 random bits each (f64: 52)."),
    KONTOR_FUNCTION(normal,        "make",    "shape, mean=0.0, deviation=1.0, dtype=f32", "Normally distributed random numbers (Box and Muller), all of them finite."),
    KONTOR_FUNCTION(randint,       "make",    "shape, low, high, dtype=i64", "Random integers low .. high-1."),
    KONTOR_FUNCTION(permutation,   "make",    "n, dtype=i64", "0 .. n-1 in random order: a keyed bijection, no sort."),

    KONTOR_FUNCTION(truncated_normal, "make", "shape, mean=0.0, deviation=1.0, low=-2.0, high=2.0, dtype=f32", "Normally distributed random numbers of which low <= x < high."),

    KONTOR_FUNCTION(add,           "elementwise", "a, b", "a + b."),
    KONTOR_FUNCTION(sub,           "elementwise", "a, b", "a - b."),
    KONTOR_FUNCTION(mul,           "elementwise", "a, b", "a * b."),
    KONTOR_FUNCTION(div,           "elementwise", "a, b", "a / b; integers divide as f32."),
    KONTOR_FUNCTION(floor_div,     "elementwise", "a, b", "The floor of the exact quotient; an integer divided by 0 yields 0 and is an error."),
    KONTOR_FUNCTION(mod,           "elementwise", "a, b", "The exact remainder, of the sign of b."),
    KONTOR_FUNCTION(remainder,     "elementwise", "a, b", "mod: as NumPy's and PyTorch's, not as C's fmod or remainder."),
    KONTOR_FUNCTION(atan2,         "elementwise", "y, x", "The angle of the point (x, y), -pi .. pi; C's exceptional cases."),
    KONTOR_FUNCTION(copysign,      "elementwise", "a, b", "a with the sign of b, whose -0 counts; integers come as f32."),
    KONTOR_FUNCTION(leaky_relu,    "elementwise", "x, slope=0.01", "x > 0: x, else slope * x."),
    KONTOR_FUNCTION(pow,           "elementwise", "a, b", "a to the power b, with the exceptional cases of C."),
    KONTOR_FUNCTION(maximum,       "elementwise", "a, b", "The greater; NaN if one is."),
    KONTOR_FUNCTION(minimum,       "elementwise", "a, b", "The lesser; NaN if one is."),
    KONTOR_FUNCTION(fma,           "elementwise", "a, b, c", "a * b + c, rounded once."),
    KONTOR_FUNCTION(eq,            "elementwise", "a, b", "a == b."),
    KONTOR_FUNCTION(ne,            "elementwise", "a, b", "a != b."),
    KONTOR_FUNCTION(lt,            "elementwise", "a, b", "a < b."),
    KONTOR_FUNCTION(le,            "elementwise", "a, b", "a <= b."),
    KONTOR_FUNCTION(gt,            "elementwise", "a, b", "a > b."),
    KONTOR_FUNCTION(ge,            "elementwise", "a, b", "a >= b."),
    KONTOR_FUNCTION(logical_and,   "elementwise", "a, b", "Both are not 0."),
    KONTOR_FUNCTION(logical_or,    "elementwise", "a, b", "One is not 0."),
    KONTOR_FUNCTION(bit_and,       "elementwise", "a, b", "Bits set in both integers."),
    KONTOR_FUNCTION(bit_or,        "elementwise", "a, b", "Bits set in one of the integers."),
    KONTOR_FUNCTION(bit_xor,       "elementwise", "a, b", "Bits that differ."),
    KONTOR_FUNCTION(shift_left,    "elementwise", "a, b", "a shifted left by b bits; 0 by its width or more."),
    KONTOR_FUNCTION(shift_right,   "elementwise", "a, b", "a shifted right by b bits; signed numbers keep their sign."),
    KONTOR_FUNCTION(where,         "elementwise", "condition, a, b", "a where the condition (bool) holds, else b."),
    KONTOR_FUNCTION(clamp,         "elementwise", "x, low, high", "The nearest value within [low, high]."),
    KONTOR_FUNCTION(cast,          "elementwise", "x, dtype", "In another dtype; float to integer truncates and saturates, NaN becomes 0."),
    KONTOR_FUNCTION(bitcast,       "elementwise", "x, dtype", "The same bits in another dtype of the same width."),
    KONTOR_FUNCTION(mark,          "elementwise", "x, name", "x under a name, for gradients and transforms."),

    KONTOR_FUNCTION(sum,           "fold", "x, axes=none, keepdims=false", "Sum; bool and small integers sum in 64 bits, floats narrower than f32 in f32."),
    KONTOR_FUNCTION(prod,          "fold", "x, axes=none, keepdims=false", "Product."),
    KONTOR_FUNCTION(max,           "fold", "x, axes=none, keepdims=false", "Greatest; NaN if there is one."),
    KONTOR_FUNCTION(min,           "fold", "x, axes=none, keepdims=false", "Least; NaN if there is one."),
    KONTOR_FUNCTION(mean,          "fold", "x, axes=none, keepdims=false", "The sum divided by the number of elements; of integers in f32."),
    KONTOR_FUNCTION(var,           "fold", "x, axes=none, keepdims=false, correction=0", "Mean squared distance from the mean; divides by n - correction, at least 1."),
    KONTOR_FUNCTION(stddev,        "fold",    "x, axes=none, keepdims=false, correction=0", "The square root of `var`."),
    KONTOR_FUNCTION(norm,          "fold",    "x, axes=none, keepdims=false, order=2.0", "(sum |x|^order)^(1/order); order 0 counts what is not 0, an infinite one is the greatest (or least)."),
    KONTOR_FUNCTION(logsumexp,     "fold", "x, axes=none, keepdims=false", "log(sum(exp(x))) without overflow on the way; of integers in f32."),
    KONTOR_FUNCTION(any,           "fold", "x, axes=none, keepdims=false", "Whether one is not 0."),
    KONTOR_FUNCTION(all,           "fold", "x, axes=none, keepdims=false", "Whether none is 0."),
    KONTOR_FUNCTION(argmax,        "fold", "x, axis=none, keepdims=false", "Position of the greatest (the first of equals; NaN counts as greatest)."),
    KONTOR_FUNCTION(argmin,        "fold", "x, axis=none, keepdims=false", "Position of the least (the first of equals; NaN counts as least)."),

    KONTOR_FUNCTION(cumsum,        "scan", "x, axis", "Sum of the elements up to each along an axis; dtypes as of `sum`."),
    KONTOR_FUNCTION(cumprod,       "scan", "x, axis", "Product of the elements up to each."),
    KONTOR_FUNCTION(cummax,        "scan", "x, axis", "Greatest of the elements up to each; NaN from the first NaN on."),
    KONTOR_FUNCTION(cummin,        "scan", "x, axis", "Least of the elements up to each; NaN from the first NaN on."),
    KONTOR_FUNCTION(logcumsumexp,  "scan", "x, axis", "log(cumsum(exp(x))), without overflow on the way."),
    KONTOR_FUNCTION(linear_scan,   "scan", "a, b, axis", "y[j] = y[j-1] * a[j] + b[j] along an axis (of the shape to which both broadcast), from 0, each step rounded once: moving averages, state spaces, discounted sums."),

    KONTOR_FUNCTION(sort,          "order",   "x, axis=-1, descending=false", "The elements along an axis in order, equal ones as they stand; NaN counts as greatest."),
    KONTOR_FUNCTION(argsort,       "order",   "x, axis=-1, descending=false", "Positions of the elements in the order of `sort`."),
    KONTOR_FUNCTION(topk,          "order",   "x, k, axis=-1, largest=true", "The k greatest (or least) along an axis, in order."),
    KONTOR_FUNCTION(argtopk,       "order",   "x, k, axis=-1, largest=true", "Positions of the k greatest (or least), in order."),
    KONTOR_FUNCTION(median,        "order",   "x, axis=none, keepdims=false", "The one in the middle, or the mean of the two there; NaN if there is one; of integers in f32."),
    KONTOR_FUNCTION(searchsorted,  "order",   "sorted, values, right=false", "How many of the last axis of `sorted` are less than each value (right: or equal): one row, or one for each row of values."),

    KONTOR_FUNCTION(gather,        "index",   "x, indices, axis", "x at positions of their own along an axis: out[i, j] = x[indices[i, j], j] (axis 0)."),
    KONTOR_FUNCTION(scatter,       "index",   "x, indices, values, axis", "x with x[indices[i, j], j] = values[i, j] (axis 0); of several for one place, the last."),
    KONTOR_FUNCTION(scatter_add,   "index",   "x, indices, values, axis", "x with values[i, j] added to x[indices[i, j], j] (axis 0), one after another."),
    KONTOR_FUNCTION(narrow,        "index",   "x, axis, begin, size", "`size` slices from `begin` on, which may be a tensor; all of them lie inside, else it is an error."),

    KONTOR_FUNCTION(nonzero,       "index",   "mask, size, fill=-1", "Where the first `size` elements that are not 0 stand, in row-major order; `fill` behind the last of them."),
    KONTOR_FUNCTION(masked_select, "index",   "x, mask, size, fill=0", "The first `size` elements of x where the mask is not 0, in row-major order; `fill` behind the last of them."),
    KONTOR_FUNCTION(bernoulli,     "draw",    "p", "true with the probability p of each element."),
    KONTOR_FUNCTION(multinomial,   "draw",    "weights, count, replacement=false", "Positions along the last axis, drawn by weights that need not sum to 1 (negative ones count as 0): each once at most, or (replacement) put back. Where all are 0, or fewer are not than are drawn, the rest has no order."),

    KONTOR_FUNCTION(full_like,     "arrange", "x, value", "A tensor of x's shape and dtype that is `value` everywhere."),
    KONTOR_FUNCTION(tile,          "arrange", "x, repeats", "Copies side by side, so many along each of the last axes."),
    KONTOR_FUNCTION(repeat,        "arrange", "x, times, axis", "Each slice so many times in a row."),
    KONTOR_FUNCTION(roll,          "arrange", "x, shift, axis", "What leaves an axis at one end enters at the other."),
    KONTOR_FUNCTION(tril,          "arrange", "x, diagonal=0", "0 above a diagonal of the last two axes."),
    KONTOR_FUNCTION(triu,          "arrange", "x, diagonal=0", "0 below a diagonal of the last two axes."),
    KONTOR_FUNCTION(diag,          "arrange", "x, diagonal=0", "A diagonal of the last two axes; of a vector, the matrix that has it."),

    KONTOR_FUNCTION(outer,         "product", "a, b", "All products of an element of a and one of b, both flattened: [n, m]."),
    KONTOR_FUNCTION(tensordot,     "product", "a, b, axes=2", "Products summed over the last axes of a and the first of b."),
    KONTOR_FUNCTION(einsum,        "product", "formula, tensors", "Sums of products as a formula: 'ij,jk->ik'; repeated letters and '...' as in NumPy."),

    KONTOR_FUNCTION(reshape,       "movement", "x, shape", "The same elements in another shape; one dimension may be -1."),
    KONTOR_FUNCTION(flatten,       "movement", "x, from=0", "The axes from `from` on as one."),
    KONTOR_FUNCTION(permute,       "movement", "x, order", "Axes in another order."),
    KONTOR_FUNCTION(transpose,     "movement", "x, a=-2, b=-1", "Two axes exchanged."),
    KONTOR_FUNCTION(expand,        "movement", "x, shape", "Broadcast: dimensions of 1 grow, leading ones may be new, -1 keeps one."),
    KONTOR_FUNCTION(pad,           "movement", "x, low_high, value=0", "`value` around x: low and high of each axis."),
    KONTOR_FUNCTION(slice,         "movement", "x, axis, begin, end=9223372036854775807, step=1", "x[begin:end:step] along an axis, as in Python."),
    KONTOR_FUNCTION(select,        "movement", "x, axis, index", "One slice, without its axis."),
    KONTOR_FUNCTION(flip,          "movement", "x, axes=none", "Axes backwards."),
    KONTOR_FUNCTION(squeeze,       "movement", "x, axes=none", "Without axes of size 1."),
    KONTOR_FUNCTION(unsqueeze,     "movement", "x, axis", "With a new axis of size 1."),
    KONTOR_FUNCTION(window,        "movement", "x, axis, size, stride=1, dilation=1", "The axis becomes two: out[.., o, k] = x[.., o*stride + k*dilation]."),
    KONTOR_FUNCTION(unwindow,      "movement", "x, axis, extent, stride=1, dilation=1", "Transpose of window: out[.., i, k] = x[.., (i - k*dilation)/stride, k] where exact, else 0."),
    KONTOR_FUNCTION(cat,           "movement", "tensors, axis=0", "One after another along an axis."),
    KONTOR_FUNCTION(stack,         "movement", "tensors, axis=0", "Side by side along a new axis."),

    KONTOR_FUNCTION(matmul,        "model", "a, b", "[.., i, k] x [.., k, j]; leading axes broadcast, vectors are a row and a column."),
    KONTOR_FUNCTION(conv2d,        "model", "x, weight, bias=none, stride=1, padding=0, dilation=1, groups=1", "x [n, c, h, w], weight [o, c/groups, kh, kw], bias [o]."),
    KONTOR_FUNCTION(conv1d,        "model", "x, weight, bias=none, stride=1, padding=0, dilation=1, groups=1", "x [n, c, w], weight [o, c/groups, kw], bias [o]."),
    KONTOR_FUNCTION(conv3d,        "model", "x, weight, bias=none, stride=1, padding=0, dilation=1, groups=1", "x [n, c, d, h, w], weight [o, c/groups, kd, kh, kw], bias [o]."),
    KONTOR_FUNCTION(conv_transpose, "model", "x, weight, bias=none, stride=1, padding=0, output_padding=0, dilation=1, groups=1", "What a convolution does to its gradient: x [n, c, ..] over one to three axes, weight [c, o/groups, k..], bias [o]; each axis is (n - 1) * stride - 2 * padding + (k - 1) * dilation + output_padding + 1 long."),
    KONTOR_FUNCTION(max_pool,      "model", "x, size, stride=0, padding=0, dilation=1, ceil=false", "Greatest in each window of the axes behind the first two, one to three of them; stride 0 means the size; ceil: also in windows that begin inside and reach beyond the end."),
    KONTOR_FUNCTION(avg_pool,      "model", "x, size, stride=0, padding=0, ceil=false, count_padding=true", "Mean of each window, as `max_pool`; the zeros around count as elements, or not."),
    KONTOR_FUNCTION(max_pool2d,    "model", "x, size, stride=0", "Greatest in each window of [n, c, h, w]; stride 0 means the size."),
    KONTOR_FUNCTION(avg_pool2d,    "model", "x, size, stride=0", "Mean of each window of [n, c, h, w]; stride 0 means the size."),
    KONTOR_FUNCTION(scalify,       "scaling", "loss, forward=f32, gradient=f32, values=f32, scales=true", "The loss itself, by which graphs are scaled that have it or its gradients: products read `forward` and `gradient` numbers, layers make `values`, each at a power of two of its own (scales=false: as they are)."),
    KONTOR_FUNCTION(set_scale,     "scaling", "x, exponent", "x itself; its scale is 2^exponent."),
    KONTOR_FUNCTION(rebalance,     "scaling", "x, exponent", "x itself; its scale is 2^exponent times what it was."),
    KONTOR_FUNCTION(stop_scale,    "scaling", "x", "x itself; its scale is 1."),
    KONTOR_FUNCTION(dynamic_rescale, "scaling", "x, norm=l2, backward=false", "x itself; its scale is the power of two below a norm of it (max, l1: the mean magnitude, l2: the root mean square), or that of its gradient."),
    KONTOR_FUNCTION(cast_forward,  "scaling", "x, dtype", "x itself; where values have scales, rounded to a narrower float at its own."),
    KONTOR_FUNCTION(cast_backward, "scaling", "x, dtype", "x itself, whose gradient is rounded so."),
    KONTOR_FUNCTION(scaled_data,   "scaling", "x", "x divided by its scale; x itself where values have none."),
    KONTOR_FUNCTION(scale_of,      "scaling", "x", "The scale of x; 1 where values have none."),

    KONTOR_FUNCTION(softmax,       "model", "x, axis=-1", "exp(x - max) times the reciprocal of its sum, along an axis."),
    KONTOR_FUNCTION(log_softmax,   "model", "x, axis=-1", "The logarithm of softmax."),
    KONTOR_FUNCTION(cross_entropy, "model", "logits, labels, smoothing=0.0, ignored=none", "-log_softmax(logits)[label] of each row; labels are integers; smoothing: so much of a label is spread over all classes; 0 of rows whose label is ignored."),
    KONTOR_FUNCTION(nll,           "model", "x, labels, ignored=none", "-x[label] of each row of logarithms; 0 of rows whose label is ignored."),
    KONTOR_FUNCTION(mse,           "model", "x, targets", "The mean of (x - targets)^2 over all elements."),
    KONTOR_FUNCTION(binary_cross_entropy, "model", "x, targets", "-(t log x + (1 - t) log(1 - x)) of each probability x and target t; a logarithm is -100 at least."),
    KONTOR_FUNCTION(binary_cross_entropy_with_logits, "model", "x, targets", "The same of sigmoid(x), without overflow on the way."),
    KONTOR_FUNCTION(layer_norm,    "model", "x, axes=1, weight=none, bias=none, eps=1e-5", "Normalised over the last `axes` axes, times weight plus bias."),
    KONTOR_FUNCTION(batch_norm,    "model", "x, mean=none, variance=none, weight=none, bias=none, eps=1e-5", "Normalised by mean [c] and variance [c], or by those over all axes but the second, times weight [c] plus bias [c]."),
    KONTOR_FUNCTION(group_norm,    "model", "x, groups, weight=none, bias=none, eps=1e-5", "Normalised over all axes but the first for each of so many groups of channels, times weight [c] plus bias [c]."),
    KONTOR_FUNCTION(instance_norm, "model", "x, weight=none, bias=none, eps=1e-5", "Normalised over all but the first two axes, times weight [c] plus bias [c]."),
    KONTOR_FUNCTION(attention,     "model", "q, k, v, mask=none, causal=false, window=0, scale=0.0, dropout=0.0", "softmax(q k^T * scale + mask) v of q [.., heads, n, d], k [.., heads, m, d], v [.., heads, m, e]; the heads of k and v may be fewer, each for as many of q; mask: bool (seen) or floats (added), [.., n, m]; causal: the last query at the last key, none looks ahead; window: none looks further than to window - 1 places; scale 0: 1/sqrt(d); a query that sees nothing is 0."),
    KONTOR_FUNCTION(one_hot,       "model", "x, classes, dtype=f32", "1 at the integer's place of a new last axis, else 0."),
    KONTOR_FUNCTION(take,          "model", "x, indices, axis=0", "Slices at integer positions (negative ones from the end)."),
    KONTOR_FUNCTION(pick,          "model", "x, indices", "x[i.., indices[i..]] along the last axis (negative ones from the end)."),
    KONTOR_FUNCTION(put,           "model", "x, axis, index, value", "x with the slices from `index` on (a negative one counts from the end) replaced; all of them lie inside, else it is an error."),
};
// clang-format on
#undef KONTOR_FUNCTION

constexpr std::string_view one_tensor[] = {Conversion<Ref>::name};

Ref call_unary(const FunctionRow& row, std::span<const Argument> arguments) {
  return record_unary(*find_unary(row.name), converted<Ref>(arguments[0], 0));
}

/// The table above, with the unary table's rows behind the other elementwise functions.
std::vector<FunctionRow> all_rows() {
  std::vector<FunctionRow> rows(std::begin(table), std::end(table)), unary;
  for (const UnaryRow& u : unary_table())
    unary.push_back({u.name, "elementwise", "x", u.doc, one_tensor, call_unary});
  auto after = std::find_if(rows.begin(), rows.end(), [](const FunctionRow& r) { return r.group == "fold"; });
  rows.insert(after, unary.begin(), unary.end());
  return rows;
}

size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> cost(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) cost[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = cost[0];
    cost[0] = i;
    for (size_t j = 1; j <= b.size(); j++) {
      size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = cost[j];
      cost[j] = std::min({replaced, cost[j] + 1, cost[j - 1] + 1});
    }
  }
  return cost[b.size()];
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

Argument default_of(const Parameter& p) {
  if (p.fallback == "none") return {};
  if (p.fallback == "true" || p.fallback == "false")
    return {.kind = Argument::Number, .numbers = {Number::of(p.fallback == "true")}};
  if (p.type == "dtype") return {.kind = Argument::Dtype, .dtype = parse_dtype(p.fallback)};
  std::string text(p.fallback);
  if (p.type == "text") return {.kind = Argument::Text, .text = text};
  bool whole = text.find_first_of(".e") == std::string::npos;
  return {
      .kind = Argument::Number,
      .numbers = {whole ? Number::of(static_cast<int64_t>(std::stoll(text))) : Number::of(std::stod(text))}};
}

}  // namespace

std::span<const FunctionRow> functions() {
  static const std::vector<FunctionRow>& rows = lasting(all_rows());
  return rows;
}

const FunctionRow& find_function(std::string_view name) {
  for (const FunctionRow& r : functions())
    if (r.name == name) return r;
  const FunctionRow* nearest = nullptr;
  for (const FunctionRow& r : functions())
    if (!nearest || distance(r.name, name) < distance(nearest->name, name)) nearest = &r;
  fail("there is no function '{}'; did you mean '{}'?", name, nearest->name);
}

Ref fn::unary(std::string_view name, const Ref& x) {
  if (const UnaryRow* row = find_unary(name)) return record_unary(*row, x);
  const FunctionRow& other = find_function(name);
  fail("unary: {}({}) is no function of one tensor", name, other.parameters);
}

std::vector<Parameter> parameters(const FunctionRow& row) {
  std::vector<Parameter> out;
  std::string_view rest = row.parameters;
  while (!rest.empty()) {
    size_t comma = rest.find(',');
    std::string_view one = trimmed(rest.substr(0, comma));
    size_t equals = one.find('=');
    Parameter p{one.substr(0, equals), row.types[out.size()], {}};
    if (equals != std::string_view::npos) p.fallback = one.substr(equals + 1);
    if (p.name == "shape") p.type = "shape";
    out.push_back(p);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return out;
}

Ref call_function(const FunctionRow& row, std::vector<Argument> arguments) {
  std::vector<Parameter> wanted = parameters(row);
  if (arguments.size() > wanted.size())
    fail("{}: {} arguments, takes {} ({})", row.name, arguments.size(), wanted.size(), row.parameters);
  arguments.resize(wanted.size());
  for (size_t i = 0; i < wanted.size(); i++) {
    if (arguments[i].kind != Argument::None) continue;
    if (wanted[i].fallback.empty())
      fail("{}: '{}' is missing ({})", row.name, wanted[i].name, row.parameters);
    arguments[i] = default_of(wanted[i]);
  }
  return row.function(row, arguments);
}

std::string functions_page() {
  std::string out =
      "# Functions\n\nGenerated from the function tables (`graph/functions/functions.cpp`, `unary.cpp`). Operands are tensors or numbers; shapes broadcast as in\nNumPy; a number takes the dtype of the tensor beside it.\n";
  std::string_view group;
  for (const FunctionRow& r : functions()) {
    if (r.group != group) out += fmt::format("\n## {}\n\n| function | what it is |\n|---|---|\n", r.group);
    group = r.group;
    std::string list;
    for (const Parameter& p : parameters(r)) {
      list += fmt::format("{}{}: {}", list.empty() ? "" : ", ", p.name, p.type);
      if (!p.fallback.empty())
        list += fmt::format(" = {}", p.fallback == "9223372036854775807" ? "end" : p.fallback);
    }
    out += fmt::format("| `{}({})` | {} |\n", r.name, list, r.doc);
  }
  return out;
}

}  // namespace kontor
