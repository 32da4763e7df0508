// Tensor: a deferred n-dimensional array, its operations, and the Scalars and Variables that they take.
#pragma once
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <kontor/types.h>

namespace kontor::inline v0 {

class Node;
struct TensorState;
struct ScalarState;

/// A counted reference to a node of the graph, opaque to users.
using Handle = std::shared_ptr<const Node>;

/// The dtype of a C++ element type.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, bool>) return DType::Bool;
  else if constexpr (std::is_same_v<T, float>) return DType::F32;
  else if constexpr (std::is_same_v<T, double>) return DType::F64;
  else {
    static_assert(std::is_integral_v<T>, "no dtype for this type");
    constexpr DType table[2][4] = {{DType::U8, DType::U16, DType::U32, DType::U64},
                                   {DType::I8, DType::I16, DType::I32, DType::I64}};
    return table[std::is_signed_v<T>][std::bit_width(sizeof(T)) - 1];
  }
}

/// A bounded integer whose value may change from call to call without compiling again. Usable as a dimension.
class KONTOR_API Variable {
 public:
  /// Takes values lo..hi; starts at hi. Throws Error if lo > hi.
  Variable(std::string_view name, int64_t lo, int64_t hi);
  int64_t value() const;
  /// Throws Error if out of lo..hi.
  void set(int64_t value);

 private:
  friend class Recording;
  Handle node_;
  std::shared_ptr<ScalarState> state_;
};

/// One dimension: a number or an expression of Variables.
class KONTOR_API Dim {
 public:
  Dim(int64_t value) : value_(value) {}
  Dim(const Variable& variable);
  explicit Dim(Handle expression);
  bool is_static() const { return !node_; }
  /// Throws Error if the dimension has no fixed value.
  int64_t value() const;

 private:
  friend class Recording;
  int64_t value_ = 0;
  Handle node_;  // null where value_ says it all
};

using Shape = std::vector<Dim>;

/// A list of axes; negative ones count from the end. Axes() means all.
class Axes {
 public:
  Axes() : all_(true) {}
  template <std::integral T>
  Axes(T axis) : list_{static_cast<int64_t>(axis)} {}
  Axes(std::initializer_list<int64_t> list) : list_(list) {}
  Axes(std::vector<int64_t> list) : list_(std::move(list)) {}
  bool all() const { return all_; }
  const std::vector<int64_t>& list() const { return list_; }

 private:
  bool all_ = false;
  std::vector<int64_t> list_;
};

/// Two numbers, for height and width: `2` means (2, 2).
struct Pair {
  int64_t h = 1, w = 1;
  template <std::integral T>
  Pair(T both) : h(static_cast<int64_t>(both)), w(static_cast<int64_t>(both)) {}
  Pair(int64_t height, int64_t width) : h(height), w(width) {}
};

/// A value with identity whose change costs no compilation: a learning rate, a step. What is recorded takes the value
/// of that moment; a replay of a jit function takes the value at the call.
class KONTOR_API Scalar {
 public:
  explicit Scalar(double value, DType dtype = DType::F32);
  explicit Scalar(int64_t value, DType dtype = DType::I64);
  explicit Scalar(int value, DType dtype = DType::I64) : Scalar(static_cast<int64_t>(value), dtype) {}
  DType dtype() const;
  double value() const;
  int64_t int_value() const;  ///< exact for integer dtypes
  void set(double value);
  void set(int64_t value);
  void set(int value) { set(static_cast<int64_t>(value)); }

 private:
  friend class Recording;
  std::shared_ptr<ScalarState> state_;
};

class Operand;

/// A value: copies are independent, an operation records a node and computes nothing. What is needed is computed by
/// realize(), or when it is read. May be used from several threads as an int may: not one object written by two.
/// Every operation throws Error, at the line that records it, if shapes, dtypes or arguments do not fit.
class KONTOR_API Tensor {
 public:
  Tensor() = default;  ///< no value; any use but assignment throws
  Tensor(const Tensor& other) : state_(share(other)) {}
  Tensor(Tensor&& other) noexcept : state_(std::move(other.state_)) {
    if (state_) left(*state_, other);
  }
  /// Throws Error for a Tensor made outside of a jit function while that is recorded: see kontor/jit.h.
  Tensor& operator=(const Tensor& other) { return *this = Tensor(other); }
  Tensor& operator=(Tensor&& other);
  ~Tensor() {
    if (state_) left(*state_, *this);
  }
  Tensor(const Scalar& scalar);
  bool empty() const { return !state_; }

  // Making one. The default dtype is f32.
  static Tensor zeros(const Shape& shape, DType dtype = DType::F32);
  static Tensor ones(const Shape& shape, DType dtype = DType::F32);
  static Tensor full(const Shape& shape, double value, DType dtype = DType::F32);
  static Tensor full(const Shape& shape, const Scalar& value);
  static Tensor eye(int64_t n, DType dtype = DType::F32);
  /// 0..end-1; begin, begin+step, .. before end. Of integers.
  static Tensor arange(const Dim& end, DType dtype = DType::I64);
  static Tensor arange(double begin, double end, double step, DType dtype = DType::F32);
  /// Copies `values`, row-major. Throws Error if their number is not that of the shape.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape);
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape);
  template <class T>
  static Tensor from(const std::vector<T>& values);
  static Tensor from(std::initializer_list<float> values, const Shape& shape);
  /// Copies item_size(dtype) * elements bytes.
  static Tensor from_memory(const void* data, DType dtype, const Shape& shape);

  // Random numbers: a function of the Context's seed and of how many numbers were drawn before.
  /// Floats of `dtype` with low <= x < high.
  static Tensor uniform(const Shape& shape, double low = 0, double high = 1, DType dtype = DType::F32);
  /// Finite always: what would lie beyond the dtype's greatest number is that number.
  static Tensor normal(const Shape& shape, double mean = 0, double deviation = 1, DType dtype = DType::F32);
  /// Integers low..high-1.
  static Tensor randint(const Shape& shape, int64_t low, int64_t high, DType dtype = DType::I64);
  /// 0..n-1 in random order, without a sort or a table (a keyed bijection).
  static Tensor permutation(int64_t n, DType dtype = DType::I64);

  // What it is.
  DType dtype() const;
  int64_t rank() const;
  std::vector<int64_t> shape() const;  ///< throws Error if a dimension has no fixed value
  int64_t size(int64_t axis) const;
  int64_t elements() const;
  Shape dims() const;

  // Its value. These compute what is missing.
  Tensor& realize();
  void read(void* out,
            size_t bytes) const;  ///< row-major elements; throws Error if `bytes` is not their size
  template <class T>
  std::vector<T> to_vector() const;  ///< row-major, cast to T
  template <class T>
  T item() const;                 ///< of a tensor of one element
  std::string to_string() const;  ///< as NumPy prints
  /// Takes the value of `value` (same shape; cast to this dtype). What was recorded from *this before keeps the old one.
  /// The memory is written in place where nobody needs the old value.
  Tensor& assign(const Tensor& value);
  /// The same value under a name: what gradients, transforms and dumps can ask for.
  Tensor mark(std::string_view name) const;
  Tensor detach() const { return unary("detach"); }  ///< the same value, through which no gradient passes

  /// An elementwise function of one tensor by its name in docs/functions.md, which says what each is, as unary("gelu"); throws
  /// Error if there is none. Those of floats take integers as f32.
  Tensor unary(std::string_view name) const;
  // clang-format off
  Tensor neg() const { return unary("neg"); }             Tensor abs() const { return unary("abs"); }
  Tensor sign() const { return unary("sign"); }           Tensor square() const { return unary("square"); }
  Tensor floor() const { return unary("floor"); }         Tensor ceil() const { return unary("ceil"); }
  Tensor round() const { return unary("round"); }         Tensor trunc() const { return unary("trunc"); }
  Tensor isnan() const { return unary("isnan"); }         Tensor isinf() const { return unary("isinf"); }
  Tensor isfinite() const { return unary("isfinite"); }   Tensor logical_not() const { return unary("logical_not"); }
  Tensor bit_not() const { return unary("bit_not"); }     Tensor reciprocal() const { return unary("reciprocal"); }
  Tensor sqrt() const { return unary("sqrt"); }           Tensor rsqrt() const { return unary("rsqrt"); }
  Tensor exp() const { return unary("exp"); }             Tensor exp2() const { return unary("exp2"); }
  Tensor expm1() const { return unary("expm1"); }         Tensor log1p() const { return unary("log1p"); }
  Tensor log() const { return unary("log"); }             Tensor log2() const { return unary("log2"); }
  Tensor log10() const { return unary("log10"); }         Tensor erf() const { return unary("erf"); }
  Tensor sin() const { return unary("sin"); }             Tensor cos() const { return unary("cos"); }
  Tensor tan() const { return unary("tan"); }             Tensor sinh() const { return unary("sinh"); }
  Tensor asin() const { return unary("asin"); }           Tensor cosh() const { return unary("cosh"); }
  Tensor acos() const { return unary("acos"); }           Tensor tanh() const { return unary("tanh"); }
  Tensor atan() const { return unary("atan"); }           Tensor asinh() const { return unary("asinh"); }
  Tensor acosh() const { return unary("acosh"); }         Tensor atanh() const { return unary("atanh"); }
  Tensor relu() const { return unary("relu"); }           Tensor softplus() const { return unary("softplus"); }
  Tensor sigmoid() const { return unary("sigmoid"); }     Tensor hardsigmoid() const { return unary("hardsigmoid"); }
  Tensor silu() const { return unary("silu"); }           Tensor hardswish() const { return unary("hardswish"); }
  Tensor gelu() const { return unary("gelu"); }           Tensor gelu_tanh() const { return unary("gelu_tanh"); }
  Tensor elu() const { return unary("elu"); }             Tensor selu() const { return unary("selu"); }
  Tensor mish() const { return unary("mish"); }           Tensor leaky_relu(double slope = 0.01) const;
  // clang-format on
  Tensor clamp(double low, double high) const;
  Tensor cast(DType dtype) const;
  Tensor bitcast(DType dtype) const;
  template <class T>
  Tensor cast() const {
    return cast(dtype_of<T>());
  }

  // Folds. No axes means all; keepdims leaves them with extent 1. Floats narrower than f32 are summed up in f32 and
  // rounded once.
  Tensor sum(const Axes& axes = {}, bool keepdims = false) const;  ///< bool and small integers sum as 64 bits
  Tensor prod(const Axes& axes = {}, bool keepdims = false) const;
  Tensor max(const Axes& axes = {}, bool keepdims = false) const;  ///< NaN if there is one
  Tensor min(const Axes& axes = {}, bool keepdims = false) const;
  Tensor mean(const Axes& axes = {}, bool keepdims = false) const;  ///< of integers: f32
  /// Mean squared distance from the mean, divided by n - correction, which must be at least 1. Of integers: f32.
  Tensor var(const Axes& axes = {}, bool keepdims = false, int64_t correction = 0) const;
  /// log(sum(exp(x))) without overflow on the way; of integers in f32.
  Tensor logsumexp(const Axes& axes = {}, bool keepdims = false) const;
  Tensor argmax() const;  ///< position in row-major order; i64
  Tensor argmax(int64_t axis,
                bool keepdims = false) const;  ///< the first of equals; NaN counts as the largest
  Tensor argmin() const;
  Tensor argmin(int64_t axis, bool keepdims = false) const;

  // Scans: the shape stays; out[.., j] is what the elements up to j along the axis come to. Long axes run in pieces
  // (docs/numerics.md). Throw Error if there is no such axis.
  Tensor cumsum(int64_t axis) const;   ///< dtypes as of sum()
  Tensor cumprod(int64_t axis) const;  ///< dtypes as of prod()
  Tensor cummax(int64_t axis) const;   ///< NaN from the first NaN on
  Tensor cummin(int64_t axis) const;   ///< NaN from the first NaN on
  Tensor logcumsumexp(
      int64_t axis) const;  ///< log(cumsum(exp(x))) without overflow on the way; of integers in f32
  Tensor any(const Axes& axes = {}, bool keepdims = false) const;
  Tensor all(const Axes& axes = {}, bool keepdims = false) const;

  // Movement: no element is computed or copied.
  Tensor reshape(const Shape& shape) const;  ///< one dimension may be -1
  Tensor flatten(int64_t from = 0) const;
  Tensor permute(const std::vector<int64_t>& order) const;
  Tensor transpose(int64_t a = -2, int64_t b = -1) const;
  Tensor expand(const Shape& shape) const;  ///< leading dimensions may be new; -1 keeps one
  Tensor pad(const std::vector<int64_t>& low_high,
             double value = 0) const;  ///< [low, high] of each axis, in order
  Tensor slice(int64_t axis, int64_t begin, int64_t end = INT64_MAX,
               int64_t step = 1) const;              ///< as Python's
  Tensor select(int64_t axis, int64_t index) const;  ///< one slice, without the axis
  Tensor operator[](int64_t index) const { return select(0, index); }
  Tensor flip(const Axes& axes = {}) const;
  Tensor squeeze(const Axes& axes = {}) const;
  Tensor unsqueeze(int64_t axis) const;
  /// The axis becomes two, o and k: out[.., o, k] = x[.., o*stride + k*dilation].
  Tensor window(int64_t axis, int64_t size, int64_t stride = 1, int64_t dilation = 1) const;
  /// Transpose of window: out[.., i, k] = x[.., (i - k*dilation)/stride, k] where exact and in range, else 0.
  Tensor unwindow(int64_t axis, int64_t extent, int64_t stride = 1, int64_t dilation = 1) const;

  // Products.
  /// [.., i, k] x [.., k, j] -> [.., i, j]; leading axes broadcast; a vector counts as a row on the left, a column on the right.
  Tensor matmul(const Tensor& other) const;
  /// x [n, c, h, w] with weight [o, c/groups, kh, kw] and bias [o] (may be empty): [n, o, oh, ow].
  Tensor conv2d(const Tensor& weight, const Tensor& bias = {}, Pair stride = 1, Pair padding = 0,
                Pair dilation = 1, int64_t groups = 1) const;
  Tensor max_pool2d(Pair size, Pair stride = 0) const;  ///< [n, c, h, w]; stride 0 means the size
  Tensor avg_pool2d(Pair size, Pair stride = 0) const;

  // Along an axis.
  Tensor softmax(int64_t axis = -1) const;
  Tensor log_softmax(int64_t axis = -1) const;
  /// Over the last `axes` axes, then times weight plus bias (of those axes' shape; may be empty).
  Tensor layer_norm(int64_t axes = 1, const Tensor& weight = {}, const Tensor& bias = {},
                    double eps = 1e-5) const;
  /// [n, c, ..]: over all but the first two axes; weight and bias [c] (may be empty).
  Tensor instance_norm(const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5) const;
  Tensor one_hot(int64_t classes, DType dtype = DType::F32) const;  ///< integers [..] -> [.., classes]
  /// Slices at `indices` (integers; negative ones count from the end) along `axis`, which their shape replaces.
  /// An index out of range yields 0 and is an Error of the call that computes it.
  Tensor take(const Tensor& indices, int64_t axis = 0) const;
  /// One element a row: out[i..] = x[i.., indices[i..]] along the last axis; indices as in take().
  Tensor pick(const Tensor& indices) const;
  /// The value with slice(s) from `index` on along `axis` replaced by `value` (functional set-item). A negative index
  /// counts from the end. All slices must lie inside, else nothing is replaced and it is an Error: here if the index is a
  /// number, of the call that computes it if it is a tensor.
  Tensor put(int64_t axis, const Operand& index, const Tensor& value) const;

  Tensor& operator+=(const Operand& b);
  Tensor& operator-=(const Operand& b);
  Tensor& operator*=(const Operand& b);
  Tensor& operator/=(const Operand& b);

 private:
  friend class Recording;
  static std::shared_ptr<TensorState> share(const Tensor& other);
  static void left(TensorState& state, const Tensor& handle) noexcept;
  std::shared_ptr<TensorState> state_;
};

/// What stands beside a Tensor in an operation. A C++ number has no dtype of its own and takes that of the Tensor
/// (an integer Tensor with a fraction becomes f32), as in NumPy 2; a whole number that an integer dtype cannot hold is an
/// Error, but for comparisons.
class KONTOR_API Operand {
 public:
  Operand(const Tensor& tensor) : tensor_(tensor) {}
  Operand(const Scalar& scalar) : tensor_(scalar) {}
  Operand(const Variable& variable);
  template <class T>
    requires std::is_arithmetic_v<T>
  Operand(T number) : float_(static_cast<double>(number)) {
    if constexpr (std::is_integral_v<T>) {
      kind_ = std::is_same_v<T, bool> ? Bool : std::in_range<int64_t>(number + T{}) ? Int : Unsigned;
      int_ = static_cast<int64_t>(number);
    } else {
      kind_ = Float;
    }
  }

 private:
  friend class Recording;
  enum { Value, Bool, Int, Unsigned, Float } kind_ = Value;  // Unsigned: beyond int64_t, int_ has its bits
  Tensor tensor_;
  int64_t int_ = 0;
  double float_ = 0;
};

// Elementwise on two operands, broadcast as NumPy does. Dtypes are promoted by PyTorch's table: a float beside an integer
// stays what it is (f32 with i64: f32), of two floats or two integers the wider one; f16 with bf16 and the two f8: f32;
// signed with unsigned: a signed one that holds both, i64 with u64: f64 (docs/numerics.md has the table).
// Comparisons compare the values themselves, whatever their dtypes.
KONTOR_API Tensor add(const Operand& a, const Operand& b);
KONTOR_API Tensor sub(const Operand& a, const Operand& b);
KONTOR_API Tensor mul(const Operand& a, const Operand& b);
KONTOR_API Tensor div(const Operand& a, const Operand& b);  ///< integers divide as f32
/// The greatest whole number not above the exact quotient. Of integers by 0: 0, and an Error of the call that computes it.
KONTOR_API Tensor floor_div(const Operand& a, const Operand& b);
/// The exact remainder, of the divisor's sign, as Python's %. Of integers by 0: as floor_div.
KONTOR_API Tensor mod(const Operand& a, const Operand& b);
KONTOR_API Tensor remainder(const Operand& a, const Operand& b);  ///< mod, as in NumPy and PyTorch; not C's
/// The angle of the point (x, y) in radians, -pi .. pi, with the exceptional cases of C.
KONTOR_API Tensor atan2(const Operand& y, const Operand& x);
KONTOR_API Tensor copysign(const Operand& a, const Operand& b);  ///< -0 has a sign; of integers: f32
KONTOR_API Tensor pow(const Operand& a, const Operand& b);
KONTOR_API Tensor maximum(const Operand& a, const Operand& b);
KONTOR_API Tensor minimum(const Operand& a, const Operand& b);
KONTOR_API Tensor eq(const Operand& a, const Operand& b);
KONTOR_API Tensor ne(const Operand& a, const Operand& b);
KONTOR_API Tensor lt(const Operand& a, const Operand& b);
KONTOR_API Tensor le(const Operand& a, const Operand& b);
KONTOR_API Tensor gt(const Operand& a, const Operand& b);
KONTOR_API Tensor ge(const Operand& a, const Operand& b);
KONTOR_API Tensor logical_and(const Operand& a, const Operand& b);
KONTOR_API Tensor logical_or(const Operand& a, const Operand& b);
KONTOR_API Tensor bit_and(const Operand& a, const Operand& b);
KONTOR_API Tensor bit_or(const Operand& a, const Operand& b);
KONTOR_API Tensor bit_xor(const Operand& a, const Operand& b);
KONTOR_API Tensor shift_left(const Operand& a, const Operand& b);
KONTOR_API Tensor shift_right(const Operand& a, const Operand& b);
/// `condition` (bool) ? a : b, element by element.
KONTOR_API Tensor where(const Tensor& condition, const Operand& a, const Operand& b);
/// a * b + c, rounded once. Floats.
KONTOR_API Tensor fma(const Operand& a, const Operand& b, const Operand& c);

inline Tensor operator+(const Operand& a, const Operand& b) { return add(a, b); }
inline Tensor operator-(const Operand& a, const Operand& b) { return sub(a, b); }
inline Tensor operator*(const Operand& a, const Operand& b) { return mul(a, b); }
inline Tensor operator/(const Operand& a, const Operand& b) { return div(a, b); }
inline Tensor operator%(const Operand& a, const Operand& b) { return mod(a, b); }
inline Tensor operator==(const Operand& a, const Operand& b) { return eq(a, b); }
inline Tensor operator!=(const Operand& a, const Operand& b) { return ne(a, b); }
inline Tensor operator<(const Operand& a, const Operand& b) { return lt(a, b); }
inline Tensor operator<=(const Operand& a, const Operand& b) { return le(a, b); }
inline Tensor operator>(const Operand& a, const Operand& b) { return gt(a, b); }
inline Tensor operator>=(const Operand& a, const Operand& b) { return ge(a, b); }
inline Tensor operator&(const Operand& a, const Operand& b) { return bit_and(a, b); }
inline Tensor operator|(const Operand& a, const Operand& b) { return bit_or(a, b); }
inline Tensor operator^(const Operand& a, const Operand& b) { return bit_xor(a, b); }
inline Tensor operator<<(const Operand& a, const Operand& b) { return shift_left(a, b); }
inline Tensor operator>>(const Operand& a, const Operand& b) { return shift_right(a, b); }
inline Tensor operator-(const Tensor& a) { return a.neg(); }
inline Tensor operator!(const Tensor& a) { return a.logical_not(); }
inline Tensor operator~(const Tensor& a) { return a.bit_not(); }
inline Tensor& Tensor::operator+=(const Operand& b) { return *this = *this + b; }
inline Tensor& Tensor::operator-=(const Operand& b) { return *this = *this - b; }
inline Tensor& Tensor::operator*=(const Operand& b) { return *this = *this * b; }
inline Tensor& Tensor::operator/=(const Operand& b) { return *this = *this / b; }

inline Tensor exp(const Tensor& x) { return x.exp(); }
inline Tensor log(const Tensor& x) { return x.log(); }
inline Tensor sin(const Tensor& x) { return x.sin(); }
inline Tensor cos(const Tensor& x) { return x.cos(); }
inline Tensor tanh(const Tensor& x) { return x.tanh(); }
inline Tensor erf(const Tensor& x) { return x.erf(); }
inline Tensor sqrt(const Tensor& x) { return x.sqrt(); }
inline Tensor abs(const Tensor& x) { return x.abs(); }
inline Tensor relu(const Tensor& x) { return x.relu(); }
inline Tensor gelu(const Tensor& x) { return x.gelu(); }
inline Tensor sigmoid(const Tensor& x) { return x.sigmoid(); }
inline Tensor softmax(const Tensor& x, int64_t axis = -1) { return x.softmax(axis); }
inline Tensor log_softmax(const Tensor& x, int64_t axis = -1) { return x.log_softmax(axis); }
inline Tensor matmul(const Tensor& a, const Tensor& b) { return a.matmul(b); }

/// Tensors one after another along `axis`; together along a new one.
KONTOR_API Tensor cat(std::span<const Tensor> tensors, int64_t axis = 0);
KONTOR_API Tensor stack(std::span<const Tensor> tensors, int64_t axis = 0);
inline Tensor cat(std::initializer_list<Tensor> t, int64_t axis = 0) {
  return cat(std::span(t.begin(), t.size()), axis);
}
inline Tensor stack(std::initializer_list<Tensor> t, int64_t axis = 0) {
  return stack(std::span(t.begin(), t.size()), axis);
}
/// y[.., j] = y[.., j-1] * a[.., j] + b[.., j] along `axis` of the shape to which both broadcast, from 0, each step rounded once:
/// moving averages, state spaces, discounted sums. Throws Error if they are no floats or there is no such axis.
KONTOR_API Tensor linear_scan(const Operand& a, const Operand& b, int64_t axis);
/// -log softmax(logits)[label] of each row: logits [.., classes], integer labels [..] -> [..]; take its mean for a loss.
KONTOR_API Tensor cross_entropy(const Tensor& logits, const Tensor& labels);
/// d loss / d x for each x of `wrt`. `loss` has one element; each x is realized or assigned (a leaf) or marked.
/// An x that the loss does not depend on has gradient 0.
KONTOR_API std::vector<Tensor> gradient(const Tensor& loss, std::span<const Tensor> wrt);
inline std::vector<Tensor> gradient(const Tensor& loss, std::initializer_list<Tensor> wrt) {
  return gradient(loss, std::span(wrt.begin(), wrt.size()));
}
/// Computes several values together, so that they share work and kernels.
KONTOR_API void realize_all(std::span<Tensor* const> tensors);
KONTOR_API void realize_all(std::span<Tensor> tensors);

/// NumPy's .npy format, version 1 (C order).
KONTOR_API Tensor load_npy(const std::string& path);
KONTOR_API void save_npy(const std::string& path, const Tensor& tensor);

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape) {
  int64_t count = 1;
  for (const Dim& d : shape) count *= d.value();
  if (count != static_cast<int64_t>(values.size()))
    throw Error("from: " + std::to_string(values.size()) + " values for a shape of " + std::to_string(count) +
                " elements");
  return from_memory(values.data(), dtype_of<T>(), shape);
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  if constexpr (std::is_same_v<T, bool>) {
    std::vector<uint8_t> bytes(values.begin(), values.end());
    return from(bytes, shape).template cast<bool>();
  } else {
    return from(std::span<const T>(values), shape);
  }
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values) {
  return from(values, {static_cast<int64_t>(values.size())});
}

inline Tensor Tensor::from(std::initializer_list<float> values, const Shape& shape) {
  return from(std::span<const float>(values.begin(), values.size()), shape);
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  if (dtype() != dtype_of<T>()) return cast(dtype_of<T>()).template to_vector<T>();
  Tensor value = *this;
  value.realize();  // a dimension that depends on a Variable is now fixed
  size_t count = static_cast<size_t>(value.elements());
  if constexpr (std::is_same_v<T, bool>) {
    std::vector<uint8_t> bytes(count);
    value.read(bytes.data(), count);
    return {bytes.begin(), bytes.end()};
  } else {
    std::vector<T> out(count);
    value.read(out.data(), count * sizeof(T));
    return out;
  }
}

template <class T>
T Tensor::item() const {
  if (elements() != 1) throw Error("item: the tensor has " + std::to_string(elements()) + " elements");
  return to_vector<T>()[0];
}

}  // namespace kontor::inline v0
