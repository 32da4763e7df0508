// Tensor, Scalar, Variable, Dim: handles of nodes. Every operation forwards to the function of its name.
#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/guard.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor {

static Handle handle_of(const Ref& node) {
  auto keep = std::make_shared<Ref>(node);
  return Handle(keep, keep->get());
}

// --- the seam

Ref Recording::node(const Tensor& tensor) {
  const std::shared_ptr<TensorState>& state = tensor.state_;
  if (!state) fail("a Tensor without a value is used");
  if (current_tracer && state->trace != current_tracer->id) current_tracer->capture(tensor);
  std::lock_guard lock(state->mutex);
  return state->node;
}

Tensor Recording::tensor(Ref node) {
  Tensor t;
  t.state_ = std::make_shared<TensorState>();
  t.state_->node = std::move(node);
  if (current_tracer != nullptr) {
    t.state_->trace = current_tracer->id;
    current_tracer->made(t.state_);
  }
  return t;
}

void Tensor::left(TensorState& state, const Tensor& handle) noexcept {
  if (current_tracer != nullptr && current_tracer->is_outside(state)) current_tracer->lost();
  if (!state.watched.load(std::memory_order_acquire)) return;
  std::lock_guard lock(state.watch->mutex);
  if (std::erase(state.watch->handles, &handle) > 0) state.watch->changes++;
}

Tensor& Tensor::operator=(Tensor&& other) {
  if (this == &other) return *this;
  if (state_ && current_tracer != nullptr && current_tracer->is_outside(*state_))
    fail(
        "jit: `=`, or an operator like +=, on a Tensor made outside of the function that is being recorded: replays "
        "would not repeat it; use assign(), or return the value");
  if (state_) left(*state_, *this);
  if (other.state_) left(*other.state_, other);
  state_ = std::move(other.state_);
  return *this;
}

Ref scalar_leaf(const std::shared_ptr<ScalarState>& state) {
  int64_t bits = static_cast<int64_t>(state->bits.load());
  return make(Op::Scalar, {}, {.ints = {state->id, bits}, .payload = state}, state->dtype);
}

Ref Recording::node(const Scalar& scalar) { return scalar_leaf(scalar.state_); }
Ref Recording::node(const Variable& variable) { return Ref(variable.node_.get()); }
Ref Recording::node(const Dim& dim) { return dim.node_ ? Ref(dim.node_.get()) : index(dim.value_); }

Dim Recording::dim(const Ref& node) {
  return node->is_const() ? Dim(const_int(*node)) : Dim(handle_of(node));
}

std::vector<Ref> Recording::dims(const Shape& shape) {
  std::vector<Ref> out;
  for (const Dim& d : shape) out.push_back(node(d));
  return out;
}

Ref buffer_leaf(DType dtype, std::vector<Ref> dims, std::shared_ptr<const void> storage, int64_t id,
                int64_t version) {
  return make(Op::Buffer, std::move(dims), {.ints = {id, version}, .payload = std::move(storage)}, dtype);
}

const ScalarState& scalar_state(const Node& leaf) {
  return *static_cast<const ScalarState*>(leaf.arg.payload.get());
}

// --- Scalar, Variable, Dim

static uint64_t bits_of(DType dtype, double value) {
  if (dtype == DType::F64) return std::bit_cast<uint64_t>(value);
  return std::bit_cast<uint32_t>(static_cast<float>(value));
}

static std::shared_ptr<ScalarState> scalar_of(DType dtype) {
  if (dtype != DType::F32 && dtype != DType::F64 && !is_integer(dtype))
    fail("Scalar: {} is not f32, f64 or an integer dtype", name(dtype));
  auto state = std::make_shared<ScalarState>();
  state->id = fresh_id();
  state->dtype = dtype;
  return state;
}

Scalar::Scalar(double value, DType dtype) : state_(scalar_of(dtype)) { set(value); }
Scalar::Scalar(int64_t value, DType dtype) : state_(scalar_of(dtype)) { set(value); }
DType Scalar::dtype() const { return state_->dtype; }

double Scalar::value() const {
  uint64_t bits = state_->bits;
  if (state_->dtype == DType::F64) return std::bit_cast<double>(bits);
  if (state_->dtype == DType::F32)
    return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  return state_->dtype == DType::U64 ? static_cast<double>(bits)
                                     : static_cast<double>(static_cast<int64_t>(bits));
}

int64_t Scalar::int_value() const {
  if (!is_float(state_->dtype)) return static_cast<int64_t>(state_->bits.load());
  const double v = value();
  if (!(v >= -0x1p63 && v < 0x1p63)) fail("Scalar: {} is no i64", v);
  return static_cast<int64_t>(v);
}

void Scalar::set(double value) {
  if (is_float(state_->dtype)) {
    state_->bits = bits_of(state_->dtype, value);
    return;
  }
  set(const_int(*fn::number_constant("Scalar", Number::of(value), state_->dtype)));
}

void Scalar::set(int64_t value) {
  if (is_float(state_->dtype)) return set(static_cast<double>(value));
  state_->bits =
      static_cast<uint64_t>(const_int(*fn::number_constant("Scalar", Number::of(value), state_->dtype)));
}

Variable::Variable(std::string_view name, int64_t lo, int64_t hi) : state_(scalar_of(DType::I64)) {
  if (lo > hi) fail("Variable {}: no value in {} .. {}", name, lo, hi);
  state_->bits = static_cast<uint64_t>(hi);
  node_ = handle_of(make(Op::Variable, {},
                         {.ints = {state_->id, lo, hi}, .text = std::string(name), .payload = state_},
                         DType::I64));
}

int64_t Variable::value() const { return static_cast<int64_t>(state_->bits.load()); }

void Variable::set(int64_t value) {
  Bounds b = node_->bounds;
  if (value < b.lo || value > b.hi)
    fail("Variable {}: {} is not in {} .. {}", node_->arg.text, value, b.lo, b.hi);
  state_->bits = static_cast<uint64_t>(value);
}

Dim::Dim(const Variable& variable) : node_(handle_of(Recording::node(variable))) {}
Dim::Dim(Handle expression) : node_(std::move(expression)) {}

int64_t Dim::value() const {
  if (node_) fail("a dimension that depends on a Variable has no fixed value");
  return value_;
}

// --- what a Tensor is

namespace {

Ref of(const Tensor& t) { return Recording::node(t); }
Tensor as(Ref node) { return Recording::tensor(std::move(node)); }
Ref maybe(const Tensor& t) { return t.empty() ? Ref() : of(t); }
AxisList list(const Axes& axes) { return axes.all() ? AxisList() : AxisList(axes.list()); }
Ints pair(Pair p) { return {p.h, p.w}; }
/// A whole number stands with integers too.
Number number(double v) {
  bool whole = v == std::floor(v) && std::abs(v) < 9e15;
  return whole ? Number::of(static_cast<int64_t>(v)) : Number::of(v);
}

std::vector<Ref> all_of(std::span<const Tensor> tensors) {
  std::vector<Ref> out;
  for (const Tensor& t : tensors) out.push_back(of(t));
  return out;
}

}  // namespace

Input Recording::input(const Operand& o) {
  switch (o.kind_) {
    case Operand::Bool:     return Number::of(o.int_ != 0);
    case Operand::Int:      return Number::of(o.int_);
    case Operand::Unsigned: return Number::of(static_cast<uint64_t>(o.int_));
    case Operand::Float:    return Number::of(o.float_);
    default:                return node(o.tensor_);
  }
}

/// A Tensor of the node that `f` records. All operations go through this.
template <class F>
static Tensor record(F&& f) {
  return guarded("recording", [&] { return as(f()); });
}

static Input input(const Operand& o) { return Recording::input(o); }

Tensor::Tensor(const Scalar& scalar) : Tensor(as(Recording::node(scalar))) {}
Operand::Operand(const Variable& variable) : tensor_(as(Recording::node(variable))) {}

DType Tensor::dtype() const { return of(*this)->dtype; }
int64_t Tensor::rank() const { return static_cast<int64_t>(of(*this)->rank()); }

std::vector<int64_t> Tensor::shape() const {
  Ref x = of(*this);
  if (!has_static_shape(*x)) fail("shape: {} depends on a Variable; see dims()", describe(*x));
  return static_shape(*x);
}

int64_t Tensor::size(int64_t axis) const {
  Ref x = of(*this);
  return Recording::dim(x->shape[static_cast<size_t>(fn::axis_of("size", *x, axis))]).value();
}

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int64_t n : shape()) count *= n;
  return count;
}

Shape Tensor::dims() const {
  Shape out;
  for (const Ref& d : of(*this)->shape) out.push_back(Recording::dim(d));
  return out;
}

// --- operations: a line each

// clang-format off
Tensor Tensor::zeros(const Shape& s, DType d) { return record([&] { return fn::full(Recording::dims(s), 0, d); }); }
Tensor Tensor::ones(const Shape& s, DType d) { return record([&] { return fn::full(Recording::dims(s), 1, d); }); }
Tensor Tensor::full(const Shape& s, double v, DType d) { return record([&] { return fn::full(Recording::dims(s), v, d); }); }
Tensor Tensor::full(const Shape& s, const Scalar& v) { return record([&] { return fn::full(Recording::dims(s), Recording::node(v), v.dtype()); }); }
Tensor Tensor::eye(int64_t n, DType d) { return record([&] { return fn::eye(index(n), d); }); }
Tensor Tensor::arange(const Dim& end, DType d) { return record([&] { return fn::cast(fn::iota(Recording::node(end), is_float(d) ? DType::I64 : d), d); }); }
Tensor Tensor::arange(double b, double e, double s, DType d) { return record([&] { return fn::arange(b, e, s, d); }); }
Tensor Tensor::uniform(const Shape& s, double lo, double hi, DType d) { return record([&] { return fn::uniform(Recording::dims(s), lo, hi, d); }); }
Tensor Tensor::normal(const Shape& s, double m, double dev, DType d) { return record([&] { return fn::normal(Recording::dims(s), m, dev, d); }); }
Tensor Tensor::randint(const Shape& s, int64_t lo, int64_t hi, DType d) { return record([&] { return fn::randint(Recording::dims(s), lo, hi, d); }); }
Tensor Tensor::permutation(int64_t n, DType d) { return record([&] { return fn::permutation(index(n), d); }); }

Tensor Tensor::mark(std::string_view name) const { return record([&] { return fn::mark(of(*this), std::string(name)); }); }
Tensor Tensor::unary(std::string_view name) const { return record([&] { return fn::unary(name, of(*this)); }); }
Tensor Tensor::leaky_relu(double slope) const { return record([&] { return fn::leaky_relu(of(*this), slope); }); }
Tensor Tensor::clamp(double lo, double hi) const { return record([&] { return fn::clamp(of(*this), number(lo), number(hi)); }); }
Tensor Tensor::cast(DType d) const { return record([&] { return fn::cast(of(*this), d); }); }
Tensor Tensor::bitcast(DType d) const { return record([&] { return fn::bitcast(of(*this), d); }); }

Tensor Tensor::sum(const Axes& a, bool k) const { return record([&] { return fn::sum(of(*this), list(a), k); }); }
Tensor Tensor::prod(const Axes& a, bool k) const { return record([&] { return fn::prod(of(*this), list(a), k); }); }
Tensor Tensor::max(const Axes& a, bool k) const { return record([&] { return fn::max(of(*this), list(a), k); }); }
Tensor Tensor::min(const Axes& a, bool k) const { return record([&] { return fn::min(of(*this), list(a), k); }); }
Tensor Tensor::mean(const Axes& a, bool k) const { return record([&] { return fn::mean(of(*this), list(a), k); }); }
Tensor Tensor::var(const Axes& a, bool k, int64_t c) const { return record([&] { return fn::var(of(*this), list(a), k, c); }); }
Tensor Tensor::argmax() const { return record([&] { return fn::argmax(of(*this), {}, false); }); }
Tensor Tensor::argmax(int64_t axis, bool k) const { return record([&] { return fn::argmax(of(*this), axis, k); }); }
Tensor Tensor::argmin() const { return record([&] { return fn::argmin(of(*this), {}, false); }); }
Tensor Tensor::argmin(int64_t axis, bool k) const { return record([&] { return fn::argmin(of(*this), axis, k); }); }
Tensor Tensor::cumsum(int64_t axis) const { return record([&] { return fn::cumsum(of(*this), axis); }); }
Tensor Tensor::cumprod(int64_t axis) const { return record([&] { return fn::cumprod(of(*this), axis); }); }
Tensor Tensor::cummax(int64_t axis) const { return record([&] { return fn::cummax(of(*this), axis); }); }
Tensor Tensor::cummin(int64_t axis) const { return record([&] { return fn::cummin(of(*this), axis); }); }
Tensor Tensor::logcumsumexp(int64_t axis) const { return record([&] { return fn::logcumsumexp(of(*this), axis); }); }
Tensor Tensor::logsumexp(const Axes& a, bool k) const { return record([&] { return fn::logsumexp(of(*this), list(a), k); }); }
Tensor Tensor::any(const Axes& a, bool k) const { return record([&] { return fn::any(of(*this), list(a), k); }); }
Tensor Tensor::all(const Axes& a, bool k) const { return record([&] { return fn::all(of(*this), list(a), k); }); }

Tensor Tensor::reshape(const Shape& s) const { return record([&] { return fn::reshape(of(*this), Recording::dims(s)); }); }
Tensor Tensor::flatten(int64_t from) const { return record([&] { return fn::flatten(of(*this), from); }); }
Tensor Tensor::permute(const std::vector<int64_t>& order) const { return record([&] { return fn::permute(of(*this), order); }); }
Tensor Tensor::transpose(int64_t a, int64_t b) const { return record([&] { return fn::transpose(of(*this), a, b); }); }
Tensor Tensor::expand(const Shape& s) const { return record([&] { return fn::expand(of(*this), Recording::dims(s)); }); }
Tensor Tensor::pad(const std::vector<int64_t>& lh, double v) const { return record([&] { return fn::pad(of(*this), lh, number(v)); }); }
Tensor Tensor::slice(int64_t a, int64_t b, int64_t e, int64_t s) const { return record([&] { return fn::slice(of(*this), a, b, e, s); }); }
Tensor Tensor::select(int64_t axis, int64_t i) const { return record([&] { return fn::select(of(*this), axis, i); }); }
Tensor Tensor::flip(const Axes& a) const { return record([&] { return fn::flip(of(*this), list(a)); }); }
Tensor Tensor::squeeze(const Axes& a) const { return record([&] { return fn::squeeze(of(*this), list(a)); }); }
Tensor Tensor::unsqueeze(int64_t axis) const { return record([&] { return fn::unsqueeze(of(*this), axis); }); }
Tensor Tensor::window(int64_t a, int64_t n, int64_t s, int64_t d) const { return record([&] { return fn::window(of(*this), a, n, s, d); }); }
Tensor Tensor::unwindow(int64_t a, int64_t n, int64_t s, int64_t d) const { return record([&] { return fn::unwindow(of(*this), a, index(n), s, d); }); }

Tensor Tensor::matmul(const Tensor& b) const { return record([&] { return fn::matmul(of(*this), of(b)); }); }
Tensor Tensor::conv2d(const Tensor& w, const Tensor& b, Pair stride, Pair padding, Pair dilation, int64_t groups) const {
  return record([&] { return fn::conv2d(of(*this), of(w), maybe(b), pair(stride), pair(padding), pair(dilation), groups); });
}
Tensor Tensor::max_pool2d(Pair size, Pair stride) const { return record([&] { return fn::max_pool2d(of(*this), pair(size), pair(stride)); }); }
Tensor Tensor::avg_pool2d(Pair size, Pair stride) const { return record([&] { return fn::avg_pool2d(of(*this), pair(size), pair(stride)); }); }
Tensor Tensor::softmax(int64_t axis) const { return record([&] { return fn::softmax(of(*this), axis); }); }
Tensor Tensor::log_softmax(int64_t axis) const { return record([&] { return fn::log_softmax(of(*this), axis); }); }
Tensor Tensor::layer_norm(int64_t axes, const Tensor& w, const Tensor& b, double eps) const { return record([&] { return fn::layer_norm(of(*this), axes, maybe(w), maybe(b), eps); }); }
Tensor Tensor::instance_norm(const Tensor& w, const Tensor& b, double eps) const { return record([&] { return fn::instance_norm(of(*this), maybe(w), maybe(b), eps); }); }
Tensor Tensor::one_hot(int64_t classes, DType d) const { return record([&] { return fn::one_hot(of(*this), classes, d); }); }
Tensor Tensor::take(const Tensor& i, int64_t axis) const { return record([&] { return fn::take(of(*this), of(i), axis); }); }
Tensor Tensor::pick(const Tensor& i) const { return record([&] { return fn::pick(of(*this), of(i)); }); }
Tensor Tensor::put(int64_t axis, const Operand& i, const Tensor& v) const { return record([&] { return fn::put(of(*this), axis, input(i), of(v)); }); }

#define KONTOR_BINARY(name) Tensor v0::name(const Operand& a, const Operand& b) { return record([&] { return fn::name(input(a), input(b)); }); }
KONTOR_BINARY(add) KONTOR_BINARY(sub) KONTOR_BINARY(mul) KONTOR_BINARY(div) KONTOR_BINARY(floor_div) KONTOR_BINARY(mod)
KONTOR_BINARY(remainder) KONTOR_BINARY(atan2) KONTOR_BINARY(copysign)
KONTOR_BINARY(pow) KONTOR_BINARY(maximum) KONTOR_BINARY(minimum) KONTOR_BINARY(eq) KONTOR_BINARY(ne) KONTOR_BINARY(lt)
KONTOR_BINARY(le) KONTOR_BINARY(gt) KONTOR_BINARY(ge) KONTOR_BINARY(logical_and) KONTOR_BINARY(logical_or)
KONTOR_BINARY(bit_and) KONTOR_BINARY(bit_or) KONTOR_BINARY(bit_xor) KONTOR_BINARY(shift_left) KONTOR_BINARY(shift_right)
#undef KONTOR_BINARY

Tensor v0::where(const Tensor& c, const Operand& a, const Operand& b) { return record([&] { return fn::where(of(c), input(a), input(b)); }); }
Tensor v0::fma(const Operand& a, const Operand& b, const Operand& c) { return record([&] { return fn::fma(input(a), input(b), input(c)); }); }
Tensor v0::cat(std::span<const Tensor> t, int64_t axis) { return record([&] { return fn::cat(all_of(t), axis); }); }
Tensor v0::stack(std::span<const Tensor> t, int64_t axis) { return record([&] { return fn::stack(all_of(t), axis); }); }
Tensor v0::linear_scan(const Operand& a, const Operand& b, int64_t axis) { return record([&] { return fn::linear_scan(input(a), input(b), axis); }); }
Tensor v0::cross_entropy(const Tensor& logits, const Tensor& labels) { return record([&] { return fn::cross_entropy(of(logits), of(labels), 0, {}); }); }
// clang-format on

}  // namespace kontor
