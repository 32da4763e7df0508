// Functions of Tensors beside their methods: order, positions along an axis, arrangements, sums of products, windows, losses, draws.
#pragma once
#include <functional>
#include <optional>

#include <kontor/tensor.h>

namespace kontor::inline v0 {

// ---- Order. NaN is the greatest, -0 equals 0; equal elements keep the order in which they stand, whichever way is sorted.

/// The elements along `axis` in order. Throws Error if there is no such axis.
KONTOR_API Tensor sort(const Tensor& x, int64_t axis = -1, bool descending = false);
/// Where the elements of sort() stand in x; i64.
KONTOR_API Tensor argsort(const Tensor& x, int64_t axis = -1, bool descending = false);
/// The `k` greatest (or least) along `axis` in order, and where they stand (i64). Throws Error if the axis has fewer.
struct TopK {
  Tensor values, indices;
};
KONTOR_API TopK topk(const Tensor& x, int64_t k, int64_t axis = -1, bool largest = true);
/// The element in the middle along `axis` (of all elements), or the mean of the two there; NaN if there is one; integers: f32.
KONTOR_API Tensor median(const Tensor& x);
KONTOR_API Tensor median(const Tensor& x, int64_t axis, bool keepdims = false);
/// How many elements of `sorted` [n] are less than each of `values` [..] (right: or equal); i64. Or `sorted` [.., n] and
/// `values` [.., m], a row for each row.
KONTOR_API Tensor searchsorted(const Tensor& sorted, const Tensor& values, bool right = false);

// ---- Positions of their own. `indices` are integers (negative ones count from the end) of x's rank, on axes other than `axis`
// not longer than x. An index out of range is an Error of the call that computes it.

/// out[i, j] = x[indices[i, j], j] (axis 0): of the shape of `indices`.
KONTOR_API Tensor gather(const Tensor& x, const Tensor& indices, int64_t axis);
/// x with x[indices[i, j], j] = values[i, j] (axis 0); where several go to one place the last of them stays.
KONTOR_API Tensor scatter(const Tensor& x, const Tensor& indices, const Tensor& values, int64_t axis);
/// x with values[i, j] added to x[indices[i, j], j] (axis 0), in the order in which they stand.
KONTOR_API Tensor scatter_add(const Tensor& x, const Tensor& indices, const Tensor& values, int64_t axis);
/// `size` slices along `axis` from `begin` on, which may be a Scalar, a Variable or a Tensor: one kernel serves all values. All must
/// lie inside, else it is an Error: here if `begin` is a number, of the call that computes it if it is not.
KONTOR_API Tensor narrow(const Tensor& x, int64_t axis, const Operand& begin, int64_t size);

/// Where the first `size` elements that are not 0 stand in row-major order (i64 [size]), and what x, to which the mask broadcasts,
/// is there; behind the last of them `fill`. So the shape is known whatever the mask holds.
KONTOR_API Tensor nonzero(const Tensor& mask, int64_t size, int64_t fill = -1);
KONTOR_API Tensor masked_select(const Tensor& x, const Tensor& mask, int64_t size, const Operand& fill = 0);

// ---- Arrangements.

KONTOR_API Tensor full_like(const Tensor& x, const Operand& value);  ///< of x's shape and dtype
inline Tensor zeros_like(const Tensor& x) { return full_like(x, 0); }
inline Tensor ones_like(const Tensor& x) { return full_like(x, 1); }
/// `count` numbers from `begin` to `end`, both included, at equal distances; computed in f64.
KONTOR_API Tensor linspace(double begin, double end, int64_t count, DType dtype = DType::F32);
/// Copies side by side, `repeats` of them along each of the last axes; leading axes may be new.
KONTOR_API Tensor tile(const Tensor& x, const std::vector<int64_t>& repeats);
KONTOR_API Tensor repeat(const Tensor& x, int64_t times,
                         int64_t axis);  ///< each slice so many times in a row
KONTOR_API Tensor roll(const Tensor& x, int64_t shift,
                       int64_t axis);  ///< what leaves at one end enters at the other
/// 0 above (tril) or below (triu) a diagonal of the last two axes; 1: the one above the main diagonal.
KONTOR_API Tensor tril(const Tensor& x, int64_t diagonal = 0);
KONTOR_API Tensor triu(const Tensor& x, int64_t diagonal = 0);
/// The diagonal of the last two axes; of a vector, the square matrix with that diagonal.
KONTOR_API Tensor diag(const Tensor& x, int64_t diagonal = 0);
/// Parts of `size` (the last may be less), or `count` of them; of the given sizes.
KONTOR_API std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t axis = 0);
KONTOR_API std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t axis = 0);
KONTOR_API std::vector<Tensor> chunk(const Tensor& x, int64_t count, int64_t axis = 0);
/// Vectors [n], [m], .. as grids [n, m, ..], along whose axes they run.
KONTOR_API std::vector<Tensor> meshgrid(std::span<const Tensor> vectors);

/// The square root of var().
KONTOR_API Tensor stddev(const Tensor& x, const Axes& axes = {}, bool keepdims = false,
                         int64_t correction = 0);
/// (sum |x|^order)^(1/order) over axes; order may be 0 (how many are not 0) or infinite (the greatest).
KONTOR_API Tensor norm(const Tensor& x, const Axes& axes = {}, bool keepdims = false, double order = 2);

// ---- Folds of a program's own: docs/folds.md.

struct CustomFoldState;

/// One of the numbers that a fold's state is made of. `identity`, what it begins with, is a number that its dtype holds, or infinite;
/// Void: the dtype of the first value (f32 where that is a narrower float).
struct StatePart {
  std::string name;
  Operand identity;
  DType dtype = DType::Void;
};
/// What a state becomes: its parts and the values of one element (or the parts of a later state), all of rank 0, and what the parts are
/// then, in order, each of its own dtype. Elementwise operations and numbers only.
using FoldStep =
    std::function<std::vector<Tensor>(std::span<const Tensor> state, std::span<const Tensor> values)>;

/// A fold: a state, and the step by which elements are folded into it one after another. `step` is called when the first values of
/// their dtypes are folded, with placeholders, and what it records is the fold. `join` makes one state of two, of which the
/// second is of the elements behind those of the first; the identities must change nothing. With it a long fold runs in pieces side by
/// side, and, where `commutative` says that the order of what is joined does not matter, in lanes; without it, in one chain. The order
/// hangs on shapes alone (docs/numerics.md).
class KONTOR_API CustomFold {
 public:
  /// Names are identifiers; 1 to 8 parts. Throws Error for names or identities that are none, and for a fold without a step.
  CustomFold(std::string_view name, std::vector<StatePart> state, FoldStep step, FoldStep join = {},
             bool commutative = false);
  const std::string& name() const;

  CustomFoldState& state() const { return *state_; }  ///< for the library only

 private:
  std::shared_ptr<CustomFoldState> state_;
};
/// The parts of the state to which elements come, folded over `axes` in row-major order: their shape is that of the values, which broadcast,
/// without the axes (keepdims: with extent 1). Floats narrower than f32 come to the step as f32. Of no elements: the identities. Has no
/// gradient. Throws Error that names the fold and what its step records that it may not.
KONTOR_API std::vector<Tensor> fold(const CustomFold& by, std::span<const Tensor> values,
                                    const Axes& axes = {}, bool keepdims = false);
inline std::vector<Tensor> fold(const CustomFold& by, std::initializer_list<Tensor> values,
                                const Axes& axes = {}, bool keepdims = false) {
  return fold(by, std::span(values.begin(), values.size()), axes, keepdims);
}
/// What the elements up to each along `axis` come to, of the values' shape: of a fold whose state is one part, of the dtype of all values.
KONTOR_API Tensor scan(const CustomFold& by, std::span<const Tensor> values, int64_t axis);
inline Tensor scan(const CustomFold& by, std::initializer_list<Tensor> values, int64_t axis) {
  return scan(by, std::span(values.begin(), values.size()), axis);
}

// ---- Sums of products.

KONTOR_API Tensor outer(const Tensor& a, const Tensor& b);  ///< [n] x [m] -> [n, m]; others are flattened
/// Summed over the last `axes` axes of a and the first of b.
KONTOR_API Tensor tensordot(const Tensor& a, const Tensor& b, int64_t axes = 2);
/// "ij,jk->ik": a letter an axis; those that are not in the result are summed over. A letter twice in one term is its diagonal,
/// "..." stands for axes that broadcast; without "->" the letters that stand once, in order. Throws Error where the formula does
/// not fit the tensors.
KONTOR_API Tensor einsum(std::string_view formula, std::span<const Tensor> tensors);
inline Tensor einsum(std::string_view formula, std::initializer_list<Tensor> tensors) {
  return einsum(formula, std::span(tensors.begin(), tensors.size()));
}

// ---- Windows over the axes behind the first two of x [n, c, ..]; one number for all of these axes, or one for each.

struct ConvOptions {
  std::vector<int64_t> stride = {1}, padding = {0}, dilation = {1};
  int64_t groups = 1;
  std::vector<int64_t> output_padding = {0};  ///< of a transposed one: so much longer at the end
};
/// x [n, c, w] with weight [o, c/groups, kw] and bias [o] (may be empty): [n, o, ow]. Throws Error where sizes do not fit.
KONTOR_API Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                         const ConvOptions& options = {});
/// x [n, c, d, h, w] with weight [o, c/groups, kd, kh, kw].
KONTOR_API Tensor conv3d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                         const ConvOptions& options = {});
/// What a convolution over one to three axes does to its gradient: x [n, c, ..] with weight [c, o/groups, k..]: [n, o, ..], each axis
/// (n - 1) * stride - 2 * padding + (k - 1) * dilation + output_padding + 1 long.
KONTOR_API Tensor conv_transpose(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                                 const ConvOptions& options = {});

struct PoolOptions {
  std::vector<int64_t> stride = {0};  ///< 0: the size
  std::vector<int64_t> padding = {0}, dilation = {1};
  bool ceil = false;          ///< also windows that begin inside and reach beyond the end
  bool count_padding = true;  ///< zeros around count as elements of a mean
};
/// The greatest in each window over one to three axes.
KONTOR_API Tensor max_pool(const Tensor& x, const std::vector<int64_t>& size,
                           const PoolOptions& options = {});
/// The mean of each. Throws Error if a dilation is given.
KONTOR_API Tensor avg_pool(const Tensor& x, const std::vector<int64_t>& size,
                           const PoolOptions& options = {});

/// x [n, c, ..] by mean and variance [c], or (both empty) by those of x over all axes but the second; weight and bias [c] may be empty.
KONTOR_API Tensor batch_norm(const Tensor& x, const Tensor& mean = {}, const Tensor& variance = {},
                             const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5);
/// Mean 0 and variance 1 of each of so many groups of channels.
KONTOR_API Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight = {},
                             const Tensor& bias = {}, double eps = 1e-5);

// ---- Losses. Of labels (integers [..]) one a row of x [.., classes], 0 where the label is `ignored`.

struct LabelOptions {
  double smoothing = 0;  ///< so much of each label is spread over all classes alike (Szegedy et al. 2016)
  std::optional<int64_t> ignored = {};
};
KONTOR_API Tensor cross_entropy(const Tensor& logits, const Tensor& labels, const LabelOptions& options);
/// The mean over the rows that are not ignored; NaN if all are.
KONTOR_API Tensor mean_cross_entropy(const Tensor& logits, const Tensor& labels,
                                     const LabelOptions& options = {});
/// -x[label] of logarithms of probabilities.
KONTOR_API Tensor nll(const Tensor& x, const Tensor& labels, std::optional<int64_t> ignored = {});
KONTOR_API Tensor mse(const Tensor& a, const Tensor& b);  ///< the mean of (a - b)^2 over all elements
/// -(t log x + (1 - t) log(1 - x)) of each probability and target (take its mean); a logarithm is -100 at least.
KONTOR_API Tensor binary_cross_entropy(const Tensor& x, const Tensor& targets);
KONTOR_API Tensor binary_cross_entropy_with_logits(const Tensor& x,
                                                   const Tensor& targets);  ///< of sigmoid(x)

// ---- Narrow formats: values as numbers of few bits, with a scale for each block of them.

/// How values are rounded. Blocks are extents along the last axes (0: a whole axis; none: the tensor is one block).
struct Quantisation {
  std::string format = "f32";  ///< f4e2m1 f8e4m3 f8e5m2 f16 bf16 f32
  /// none; f32: amax / greatest; e8m0: OCP MX's power of two, pow2: the least that saturates nothing; e4m3: NVFP4's two levels
  std::string scale = "none";
  std::vector<int64_t> block = {};
  bool stochastic =
      false;  ///< up or down with the probability of being nearer: a draw; else to the nearest, ties to even
};
/// x is about data * scales * whole: data of x's shape (f4e2m1 in f8e4m3, which holds its numbers), a scale a block (f32, of kind e4m3
/// f8e4m3), one for all of them (f32; empty but for e4m3). NaN makes its block's scale NaN, infinities count as the greatest number.
struct QuantisedTensor {
  Tensor data, scales, whole;
};
/// Throws Error for words that name nothing, and for blocks that do not fit x.
KONTOR_API QuantisedTensor quantise(const Tensor& x, const Quantisation& how);
KONTOR_API Tensor dequantise(const QuantisedTensor& x, const std::vector<int64_t>& block);  ///< f32
/// What is left of x when it was quantised and dequantised, in its dtype. The gradient passes as it comes.
KONTOR_API Tensor fake_quantise(const Tensor& x, const Quantisation& how);
/// x in a float dtype narrower than f32, not bf16; up or down with the probability of being nearer: a draw.
KONTOR_API Tensor stochastic_cast(const Tensor& x, DType dtype);
/// Two numbers of f4e2m1 a byte (u8 [.., n / 2]), and back (f8e4m3); powers of two as codes of E8M0 (u8), and back (f32).
KONTOR_API Tensor pack_e2m1(const Tensor& x);
KONTOR_API Tensor unpack_e2m1(const Tensor& bytes);
KONTOR_API Tensor to_e8m0(const Tensor& scales);
KONTOR_API Tensor from_e8m0(const Tensor& codes);
/// Each 16 numbers along an axis times a random orthogonal matrix: signs by `seed`, then Hadamard's over 4; inverse: undone.
KONTOR_API Tensor hadamard(const Tensor& x, int64_t axis = -1, int64_t seed = 0, bool inverse = false);

/// How the operands of a layer's three products are rounded: those of inputs and weights, and, backwards, of gradients. A block of one
/// row lies along the axis that the product sums over, whichever that is; others stay where they are.
struct ProductRecipe {
  Quantisation input, weight, gradient;
  bool hadamard =
      false;  ///< before weight gradients' products both operands are turned by it, along the rows that are summed over
};
/// x [.., in] with weight [out, in]: [.., out]. Sums are in f32.
KONTOR_API Tensor scaled_product(const Tensor& x, const Tensor& weight, const ProductRecipe& recipe);

// ---- Random numbers, as Tensor::uniform().

KONTOR_API Tensor bernoulli(const Tensor& p);  ///< bool: true with the probability of each element
/// Positions along the last axis (i64 [.., count]), drawn by weights that need not sum to 1, negative ones as 0: each once at most, or
/// put back. Throws Error if there are fewer than `count` to be drawn once.
KONTOR_API Tensor multinomial(const Tensor& weights, int64_t count, bool replacement = false);
/// Of the normal distribution, what lies in low <= x < high. Throws Error if nothing of it does.
KONTOR_API Tensor truncated_normal(const Shape& shape, double mean = 0, double deviation = 1, double low = -2,
                                   double high = 2, DType dtype = DType::F32);

// ---- Memory for time.

/// `value`, of whose computation from `inputs` nothing is kept for a gradient: that computes it again, once it is needed.
KONTOR_API Tensor checkpointed(const Tensor& value, std::span<const Tensor> inputs);
/// f(inputs..) so: a layer of a deep model, for example (Chen et al. 2016). The values and gradients are the same.
template <class F, class... T>
Tensor checkpoint(F&& f, const T&... inputs) {
  const Tensor all[] = {Tensor(inputs)...};
  return checkpointed(f(inputs...), all);
}

// ---- Scales (docs/scalify.md). What these give is x itself, except in graphs that have a loss of scalify_loss() or its gradients: there
// every float is data times a power of two, its scale, which follows from those of what it is computed from. Only floats have one:
// others throw Error.

/// The loss itself. Products of graphs that have it or its gradients read numbers of `forward` and, of gradients, of `gradient`; layers
/// make `values`. Each is rounded at its scale (`scales` false: as it is); f32: not at all.
KONTOR_API Tensor scalify_loss(const Tensor& loss, DType forward = DType::F32, DType gradient = DType::F32,
                               DType values = DType::F32, bool scales = true);
KONTOR_API Tensor set_scale(const Tensor& x, int64_t exponent);  ///< the scale is 2^exponent
KONTOR_API Tensor rebalance(const Tensor& x, int64_t exponent);  ///< it is 2^exponent times what it was
KONTOR_API Tensor stop_scale(const Tensor& x);                   ///< it is 1
enum class RescaleBy { Max, L1, L2 };  ///< the greatest, the mean magnitude, the root mean square
/// The scale becomes the power of two below a norm of x, which is measured when it runs; `backward`: that of x's gradient does.
KONTOR_API Tensor dynamic_rescale(const Tensor& x, RescaleBy norm = RescaleBy::L2, bool backward = false);
KONTOR_API Tensor cast_forward(const Tensor& x, DType dtype);   ///< rounded to a narrower float, at its scale
KONTOR_API Tensor cast_backward(const Tensor& x, DType dtype);  ///< its gradient is rounded so
KONTOR_API Tensor scaled_data(const Tensor& x);                 ///< x divided by its scale
KONTOR_API Tensor scale_of(const Tensor& x);                    ///< f32 [], 1 where values have none

}  // namespace kontor::inline v0
