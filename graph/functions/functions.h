// The functions that users call, at node level: Tensor's methods, expressions, docs and bindings all go through these.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/folds.h"

namespace kontor {

/// A number without a dtype of its own: it takes that of the tensor beside it.
struct Number {
  enum Kind : uint8_t {
    Bool,
    Int,
    Unsigned,
    Float
  } kind = Float;  ///< Unsigned: beyond int64_t, i has its bits
  int64_t i = 0;
  double f = 0;
  static Number of(int64_t value) { return {Int, value, static_cast<double>(value)}; }
  static Number of(uint64_t value) {
    return {value >> 63 ? Unsigned : Int, static_cast<int64_t>(value), static_cast<double>(value)};
  }
  static Number of(double value) { return {Float, 0, value}; }
  static Number of(bool value) { return {Bool, value, static_cast<double>(value)}; }
};

/// An operand: a node, or (where it is null) a number.
struct Input {
  Ref node;
  Number number;
  Input(Ref n) : node(std::move(n)) {}
  Input(Number n) : number(n) {}
  Input(double n) : number(Number::of(n)) {}
  Input(int64_t n) : number(Number::of(n)) {}
  Input(int n) : number(Number::of(static_cast<int64_t>(n))) {}
};

using Ints = std::vector<int64_t>;
using Dims = std::vector<Ref>;
/// Axes of a fold; none means all.
using AxisList = std::optional<Ints>;

// Every function checks its arguments and throws Error in the style "name: f32[2, 3] x f32[4]: what is wrong".
namespace fn {

// Shapes and dtypes.
int64_t axis_of(std::string_view who, const Node& x,
                int64_t axis);  ///< 0..rank-1 of a possibly negative axis
Ints axes_of(std::string_view who, const Ref& x, const AxisList& axes);  ///< sorted, each once; none: all
/// 0, 1, .. count-1 to compare integers x with: of x's dtype if that holds them.
Ref numbers_for(const Ref& x, const Ref& count);
/// Throws Error if indices are no integers.
void check_indices(std::string_view who, const Ref& x, const Ref& indices);
Ref from_start(const Ref& indices,
               const Ref& dim);  ///< negative ones count from the end; what is out of range stays so
Ref along(const Dims& shape, size_t axis);  ///< the position along an axis of each element of a shape; i64
Dims broadcast_shape(std::string_view who, std::span<const Ref> tensors);
Ref broadcast(const Ref& x, const Dims& shape);   ///< leading axes may be new, dimensions of 1 expand
Ref splat(const Ref& scalar, const Dims& shape);  ///< a value of rank 0, everywhere
Ref fill(DType dtype, double value, const Dims& shape);
Ref as_float(const Ref& x);  ///< integers as f32
/// What sums of this dtype are computed in: f32 for the floats that are narrower. Rounded once, by a cast at the end.
DType accumulator(DType dtype);
Ref in_accumulator(const Ref& x);  ///< x in accumulator(dtype)
Ref widened(const Ref& x);  ///< integers narrower than 64 bits as such: what their sums are, as in NumPy
/// Throws Error if it is not the dtype of a value.
void check_dtype(std::string_view who, DType dtype);
DType operand_dtype(std::string_view who, std::span<const Input> operands);
/// Operands in one dtype, broadcast to one shape, to which `also_shaped` may belong.
std::vector<Ref> align(std::string_view who, std::span<const Input> operands, DType dtype,
                       const Ref& also_shaped = {});
/// A number as a constant of `dtype`; throws Error if an integer dtype cannot hold it.
Ref number_constant(std::string_view who, const Number& number, DType dtype);
/// A Call: `body` is what it computes, written in terms of `args`.
Ref call(std::string_view name, const Ref& body, std::vector<Ref> args, Ints attributes = {});

// Making.
Ref full(const Dims& shape, const Input& value, DType dtype);
Ref iota(const Ref& extent, DType dtype);  ///< 0, 1, .. as a vector
Ref arange(double begin, double end, double step, DType dtype);
Ref eye(const Ref& n, DType dtype);

// Elementwise.
Ref cast(const Ref& x, DType dtype);
Ref bitcast(const Ref& x, DType dtype);
Ref neg(const Ref& x);
Ref abs(const Ref& x);
Ref sign(const Ref& x);
Ref floor(const Ref& x);
Ref ceil(const Ref& x);
Ref logical_not(const Ref& x);
Ref bit_not(const Ref& x);
Ref square(const Ref& x);
Ref sqrt(const Ref& x);
Ref isnan(const Ref& x);
Ref add(const Input& a, const Input& b);
Ref sub(const Input& a, const Input& b);
Ref mul(const Input& a, const Input& b);
Ref div(const Input& a, const Input& b);
Ref floor_div(const Input& a, const Input& b);
Ref mod(const Input& a, const Input& b);
inline Ref remainder(const Input& a, const Input& b) { return mod(a, b); }
Ref maximum(const Input& a, const Input& b);
Ref minimum(const Input& a, const Input& b);
Ref eq(const Input& a, const Input& b);
Ref ne(const Input& a, const Input& b);
Ref lt(const Input& a, const Input& b);
Ref le(const Input& a, const Input& b);
Ref gt(const Input& a, const Input& b);
Ref ge(const Input& a, const Input& b);
Ref logical_and(const Input& a, const Input& b);
Ref logical_or(const Input& a, const Input& b);
Ref bit_and(const Input& a, const Input& b);
Ref bit_or(const Input& a, const Input& b);
Ref bit_xor(const Input& a, const Input& b);
Ref shift_left(const Input& a, const Input& b);
Ref shift_right(const Input& a, const Input& b);
Ref where(const Ref& condition, const Input& a, const Input& b);
Ref fma(const Input& a, const Input& b, const Input& c);
Ref clamp(const Ref& x, const Input& low, const Input& high);
Ref detach(const Ref& x);
bool is_detached(const Node& n);  ///< whether detach made it
Ref mark(const Ref& x, const std::string& name);

// Elementwise, decomposed (graph/functions/unary.cpp, mathematics.cpp).
/// exp, relu, ..: the function of one tensor of this name. Throws Error if there is none.
Ref unary(std::string_view name, const Ref& x);
Ref pow(const Input& a, const Input& b);
Ref atan2(const Input& y, const Input& x);
Ref copysign(const Input& a, const Input& b);
Ref leaky_relu(const Ref& x, double slope);

// Folds.
Ref reduce(Fold fold, const std::vector<Ref>& sources, const Ints& axes,
           bool keepdims);  ///< axes sorted, >= 0
/// One part of what a fold whose state has several comes to. Values are states themselves, of the fold's dtypes.
Ref part_of(Fold fold, size_t part, const std::vector<Ref>& values, const Ints& axes, bool keepdims);
Ref sum(const Ref& x, const AxisList& axes, bool keepdims);
Ref prod(const Ref& x, const AxisList& axes, bool keepdims);
Ref max(const Ref& x, const AxisList& axes, bool keepdims);
Ref min(const Ref& x, const AxisList& axes, bool keepdims);
Ref mean(const Ref& x, const AxisList& axes, bool keepdims);
Ref var(const Ref& x, const AxisList& axes, bool keepdims, int64_t correction);
Ref logsumexp(const Ref& x, const AxisList& axes, bool keepdims);
Ref any(const Ref& x, const AxisList& axes, bool keepdims);
Ref all(const Ref& x, const AxisList& axes, bool keepdims);
Ref argmax(const Ref& x, std::optional<int64_t> axis, bool keepdims);
Ref argmin(const Ref& x, std::optional<int64_t> axis, bool keepdims);

// Scans (graph/functions/scans.cpp).
/// The same from the fold's identity.
Ref running(std::string_view who, Fold fold, const std::vector<Ref>& values, int64_t axis);
Ref cumsum(const Ref& x, int64_t axis);
Ref cumprod(const Ref& x, int64_t axis);
Ref cummax(const Ref& x, int64_t axis);
Ref cummin(const Ref& x, int64_t axis);
Ref logcumsumexp(const Ref& x, int64_t axis);
Ref linear_scan(const Input& a, const Input& b, int64_t axis);
/// What a fold that begins with `start` (of the shape of the values without the axis) has come to after each of the values
/// along an axis >= 0; in the pieces that docs/numerics.md promises. A fold that joins no partial results is one chain.
Ref running(Fold fold, const std::vector<Ref>& values, const Ref& start, int64_t axis);
/// h[j] = g[j] + slope[j+1] * h[j+1] (no slope: 1): what a scan hands back through its steps, from the end of the axis.
Ref from_the_end(const Ref& slope, const Ref& g, int64_t axis);
/// x one place further along an axis >= 0: `first` (of x's shape without the axis), then all but x's last element.
Ref shifted(const Ref& x, const Ref& first, int64_t axis);

// Order (graph/functions/order.cpp). NaN is the greatest; of equal ones the first comes first, whichever way.
Ref sort(const Ref& x, int64_t axis, bool descending);
Ref argsort(const Ref& x, int64_t axis, bool descending);          ///< i64
Ref topk(const Ref& x, int64_t k, int64_t axis, bool largest);     ///< in order
Ref argtopk(const Ref& x, int64_t k, int64_t axis, bool largest);  ///< i64
Ref median(const Ref& x, std::optional<int64_t> axis, bool keepdims);
Ref searchsorted(const Ref& sorted, const Ref& values, bool right);  ///< i64

// Along an axis, at positions of their own (graph/functions/indexing.cpp): indices [.., m, ..] of x's rank, on other axes not
// longer than x, integers of which negative ones count from the end.
Ref gather(const Ref& x, const Ref& indices, int64_t axis);
Ref scatter(const Ref& x, const Ref& indices, const Ref& values, int64_t axis);  ///< of several, the last
Ref scatter_add(const Ref& x, const Ref& indices, const Ref& values, int64_t axis);
/// `size` slices from `begin` on, a number or an integer of rank 0 that is checked when it is known.
Ref narrow(const Ref& x, int64_t axis, const Input& begin, int64_t size);
/// The first `size` of the elements, in row-major order, that are not 0: where they stand (i64), and what x is there; behind the last
/// of them `fill`.
Ref nonzero(const Ref& mask, int64_t size, int64_t fill);
Ref masked_select(const Ref& x, const Ref& mask, int64_t size, const Input& fill);

// Arrangements (graph/functions/arrangements.cpp).
Ref full_like(const Ref& x, const Input& value);
Ref linspace(double begin, double end, int64_t count, DType dtype);
Ref tile(const Ref& x, const Ints& repeats);
Ref repeat(const Ref& x, int64_t times, int64_t axis);
Ref roll(const Ref& x, int64_t shift, int64_t axis);
Ref tril(const Ref& x, int64_t diagonal);
Ref triu(const Ref& x, int64_t diagonal);
Ref diag(const Ref& x, int64_t diagonal);
Ref stddev(const Ref& x, const AxisList& axes, bool keepdims, int64_t correction);
Ref norm(const Ref& x, const AxisList& axes, bool keepdims, double order);

// Sums of products (graph/functions/einsum.cpp).
Ref outer(const Ref& a, const Ref& b);
Ref tensordot(const Ref& a, const Ref& b, int64_t axes);
Ref einsum(const std::string& formula, const std::vector<Ref>& tensors);

// Movement.
Ref reshape(const Ref& x, const Dims& shape);  ///< one dimension may be -1
Ref flatten(const Ref& x, int64_t from);
Ref permute(const Ref& x, const Ints& order);
Ref transpose(const Ref& x, int64_t a, int64_t b);
Ref expand(const Ref& x, const Dims& shape);  ///< as broadcast; -1 keeps a dimension
Ref pad(const Ref& x, const Ints& low_high, const Input& value);
Ref shrink(const Ref& x, const Dims& begin, const Dims& size);  ///< not checked
Ref slice(const Ref& x, int64_t axis, int64_t begin, int64_t end, int64_t step);
Ref select(const Ref& x, int64_t axis, int64_t index);
Ref flip(const Ref& x, const AxisList& axes);
Ref squeeze(const Ref& x, const AxisList& axes);
Ref unsqueeze(const Ref& x, int64_t axis);
Ref window(const Ref& x, int64_t axis, int64_t size, int64_t stride, int64_t dilation);
Ref unwindow(const Ref& x, int64_t axis, const Ref& extent, int64_t stride, int64_t dilation);
Ref cat(const std::vector<Ref>& tensors, int64_t axis);
Ref stack(const std::vector<Ref>& tensors, int64_t axis);

// Products and what models are made of.
Ref matmul(const Ref& a, const Ref& b);
/// Sum of products, by fma; of integers, which have none, by multiplication and addition. Operands are in their
/// accumulator already: cast before they are broadcast, they are cast once for each of their own elements.
Ref dot(const Ref& a, const Ref& b, const Ints& axes);

// Losses (graph/functions/losses.cpp); of labels: one a row, 0 of those that are `ignored`.
Ref cross_entropy(const Ref& logits, const Ref& labels, double smoothing, std::optional<int64_t> ignored);
Ref cross_entropy_of_rows(const Ref& logits, const Ref& labels);  ///< without either
Ref nll(const Ref& x, const Ref& labels, std::optional<int64_t> ignored);
Ref binary_cross_entropy(const Ref& x, const Ref& targets);
Ref binary_cross_entropy_with_logits(const Ref& x, const Ref& targets);
Ref mse(const Ref& a, const Ref& b);

// Windows (graph/functions/convolution.cpp). Stride, padding, dilation, size: one number, or one for each axis.
/// x [n, c, w], weight [o, c/groups, kw], bias [o] or null.
Ref conv1d(const Ref& x, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
           const Ints& dilation, int64_t groups);
Ref conv2d(const Ref& x, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
           const Ints& dilation, int64_t groups);
Ref conv3d(const Ref& x, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
           const Ints& dilation, int64_t groups);
/// x [n, c, ..], weight [c, o/groups, k..] of one to three axes.
Ref conv_transpose(const Ref& x, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
                   const Ints& output_padding, const Ints& dilation, int64_t groups);
Ref max_pool(const Ref& x, const Ints& size, const Ints& stride, const Ints& padding, const Ints& dilation,
             bool ceil);
Ref avg_pool(const Ref& x, const Ints& size, const Ints& stride, const Ints& padding, bool ceil,
             bool count_padding);
Ref max_pool2d(const Ref& x, const Ints& size, const Ints& stride);
Ref avg_pool2d(const Ref& x, const Ints& size, const Ints& stride);

Ref softmax(const Ref& x, int64_t axis);
Ref log_softmax(const Ref& x, int64_t axis);
/// By `mean` and `variance` [c], or by those of x over all axes but the second; null: so.
Ref batch_norm(const Ref& x, const Ref& mean, const Ref& variance, const Ref& weight, const Ref& bias,
               double eps);
Ref group_norm(const Ref& x, int64_t groups, const Ref& weight, const Ref& bias, double eps);
Ref layer_norm(const Ref& x, int64_t axes, const Ref& weight, const Ref& bias, double eps);
Ref instance_norm(const Ref& x, const Ref& weight, const Ref& bias, double eps);
Ref one_hot(const Ref& x, int64_t classes, DType dtype);
/// softmax(q k^T * scale + mask) v (graph/functions/attention.cpp); mask may be null, a scale of 0 is 1/sqrt(d).
Ref attention(const Ref& q, const Ref& k, const Ref& v, const Ref& mask, bool causal, int64_t window,
              double scale, double dropout);
Ref take(const Ref& x, const Ref& indices, int64_t axis);
Ref pick(const Ref& x, const Ref& indices);
Ref element_of_rows(const Ref& x, const Ref& at);  ///< x[i.., at[i..]], where none counts from the end
/// x[.., begin + 0 .. begin + count-1, ..] along `axis`, where begin is an i64 of rank 0 that is checked when it is known.
Ref slices_from(const Ref& x, int64_t axis, const Ref& begin, const Ref& count);
Ref put(const Ref& x, int64_t axis, const Input& index, const Ref& value);

// Controls of Scalify (graph/functions/scaling.cpp): x itself, of floats, unless the pass runs.
/// The pass runs on the graphs that have this loss. f32: not rounded; scales: false rounds values as they are, at a scale of 1.
Ref scalify(const Ref& loss, DType forward, DType gradient, DType values, bool scales);
Ref set_scale(const Ref& x, int64_t exponent);  ///< the scale is 2^exponent
Ref rebalance(const Ref& x, int64_t exponent);  ///< 2^exponent times what it was
Ref stop_scale(const Ref& x);                   ///< the scale is 1
/// By "max", "l1" (mean) or "l2" (root mean square) of x, or of its gradient.
Ref dynamic_rescale(const Ref& x, const std::string& norm, bool backward);
Ref cast_forward(const Ref& x, DType dtype);
Ref cast_backward(const Ref& x, DType dtype);
Ref scaled_data(const Ref& x);  ///< what x is divided by its scale
Ref scale_of(const Ref& x);     ///< f32 of rank 0

// Random numbers (graph/functions/random.cpp). Key and counter are u64 nodes of rank 0; element e has word e mod 2 of block
// counter + e div 2 (32-bit draws) or block counter + e (64-bit draws: f64, randint).
Ref random_words(const Ref& key, const Ref& counter, const Dims& shape);  ///< u32
Ref uniform_at(const Ref& key, const Ref& counter, const Dims& shape, double low, double high, DType dtype);
Ref normal_at(const Ref& key, const Ref& counter, const Dims& shape, double mean, double deviation,
              DType dtype);
Ref uniform(const Dims& shape, double low, double high, DType dtype);
Ref normal(const Dims& shape, double mean, double deviation, DType dtype);
Ref randint(const Dims& shape, int64_t low, int64_t high, DType dtype);
Ref permutation(const Ref& n, DType dtype);
/// Of the normal distribution, what lies in low <= x < high.
Ref truncated_normal(const Dims& shape, double mean, double deviation, double low, double high, DType dtype);
// By weights (graph/functions/sampling.cpp).
Ref bernoulli(const Ref& p);  ///< bool
Ref multinomial(const Ref& weights, int64_t count, bool replacement);

}  // namespace fn

/// An argument of a function called by name.
struct Argument {
  enum Kind : uint8_t { None, Tensor, Tensors, Number, Numbers, Dtype, Text } kind = None;
  std::vector<Ref> tensors = {};
  std::vector<kontor::Number> numbers = {};
  DType dtype = DType::Void;
  std::string text = {};
};

/// One function: what docs, bindings and expressions know of it.
struct FunctionRow {
  std::string_view name, group;
  std::string_view parameters;              ///< "x, axis=-1": names and defaults
  std::string_view doc;                     ///< one line
  std::span<const std::string_view> types;  ///< of the parameters: tensor, operand, int, axes, ...
  Ref (*function)(const FunctionRow& row, std::span<const Argument> arguments);
};

struct Parameter {
  std::string_view name, type, fallback;  ///< no fallback: must be given
};

std::span<const FunctionRow> functions();
/// Throws Error if there is no such function, with the nearest names.
const FunctionRow& find_function(std::string_view name);
std::vector<Parameter> parameters(const FunctionRow& row);
/// Calls by name; arguments in order, absent ones take their defaults.
Ref call_function(const FunctionRow& row, std::vector<Argument> arguments);

/// The value of an expression such as "x = f32[64, 512]; softmax(matmul(x, f32[512, 512]) + 1, axis=0)". Each literal
/// like f32[64, 512] is a Buffer leaf without storage. Throws Error with the position of what is wrong.
Ref parse_expression(std::string_view text);

/// docs/functions.md: the table as a page.
std::string functions_page();

}  // namespace kontor
