// Layers, and the walk that names their tensors.
#include <algorithm>
#include <cmath>

#include <kontor/nn.h>

#include "base/error.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor::inline v0::nn {

static Tensor uniform_within(const Shape& shape, double fan_in) {
  const double bound = fan_in > 0 ? 1 / std::sqrt(fan_in) : 0;
  return Tensor::uniform(shape, -bound, bound);
}

static Affine affine(const Shape& weight, int64_t out, double fan_in, bool with_bias) {
  Affine made{uniform_within(weight, fan_in), {}};
  if (with_bias) made.bias = uniform_within({out}, fan_in);
  return made;
}

static Affine ones_and_zeros(int64_t size) { return {Tensor::ones({size}), Tensor::zeros({size})}; }

Linear::Linear(int64_t in, int64_t out, bool with_bias)
    : Affine(affine({out, in}, out, static_cast<double>(in), with_bias)) {}

Tensor Linear::operator()(const Tensor& x) const {
  const Tensor product = recipe ? scaled_product(x, weight, *recipe) : x.matmul(weight.transpose());
  return bias.empty() ? product : product + bias;
}

/// A weight [first, second / groups, size..] for `out` outputs, of which each sums over second / groups inputs (or the other way round).
static Affine taps(std::string_view who, int64_t first, int64_t second, const std::vector<int64_t>& size,
                   int64_t groups, int64_t out, bool with_bias) {
  if (groups < 1 || first % groups != 0 || second % groups != 0)
    fail("{}: {} groups of {} and {} channels", who, groups, first, second);
  Shape shape{first, second / groups};
  double fan_in = static_cast<double>(second / groups);
  for (const int64_t n : size) shape.emplace_back(n), fan_in *= static_cast<double>(n);
  return affine(shape, out, fan_in, with_bias);
}

Conv2d::Conv2d(int64_t in, int64_t out, Pair size, Pair by, Pair margin, bool with_bias, Pair apart,
               int64_t in_groups)
    : Affine(taps("Conv2d", out, in, {size.h, size.w}, in_groups, out, with_bias)),
      stride(by),
      padding(margin),
      dilation(apart),
      groups(in_groups) {}

Tensor Conv2d::operator()(const Tensor& x) const {
  return x.conv2d(weight, bias, stride, padding, dilation, groups);
}

Conv1d::Conv1d(int64_t in, int64_t out, int64_t size, const ConvOptions& o, bool with_bias)
    : Affine(taps("Conv1d", out, in, {size}, o.groups, out, with_bias)), options(o) {}
Tensor Conv1d::operator()(const Tensor& x) const { return conv1d(x, weight, bias, options); }

Conv3d::Conv3d(int64_t in, int64_t out, const std::vector<int64_t>& size, const ConvOptions& o,
               bool with_bias)
    : Affine(taps("Conv3d", out, in, size.size() == 1 ? std::vector<int64_t>(3, size[0]) : size, o.groups,
                  out, with_bias)),
      options(o) {}
Tensor Conv3d::operator()(const Tensor& x) const { return conv3d(x, weight, bias, options); }

ConvTranspose::ConvTranspose(int64_t in, int64_t out, const std::vector<int64_t>& size, const ConvOptions& o,
                             bool with_bias)
    : Affine(taps("ConvTranspose", in, out, size, o.groups, out, with_bias)), options(o) {}
Tensor ConvTranspose::operator()(const Tensor& x) const { return conv_transpose(x, weight, bias, options); }

InstanceNorm::InstanceNorm(int64_t channels, double epsilon)
    : Affine(ones_and_zeros(channels)), eps(epsilon) {}

Tensor InstanceNorm::operator()(const Tensor& x) const { return x.instance_norm(weight, bias, eps); }

GroupNorm::GroupNorm(int64_t count, int64_t channels, double epsilon)
    : Affine(ones_and_zeros(channels)), groups(count), eps(epsilon) {
  if (count < 1 || channels % count != 0) fail("GroupNorm: {} groups of {} channels", count, channels);
}

Tensor GroupNorm::operator()(const Tensor& x) const { return group_norm(x, groups, weight, bias, eps); }

BatchNorm::BatchNorm(int64_t channels, double part, double epsilon)
    : Affine(ones_and_zeros(channels)),
      mean{Tensor::zeros({channels})},
      variance{Tensor::ones({channels})},
      momentum(part),
      eps(epsilon) {
  if (!(part >= 0 && part <= 1)) fail("BatchNorm: a momentum of {}", part);
}

static void take_in(Statistic& running, const Tensor& now, double momentum) {
  const Tensor next = running.value * (1 - momentum) + now.detach().cast(running.value.dtype()) * momentum;
  running.value.assign(where(next.isfinite(), next, running.value));
}

Tensor BatchNorm::operator()(const Tensor& x, bool training) const {
  if (!training) return batch_norm(x, mean.value, variance.value, weight, bias, eps);
  if (x.rank() < 2) fail("BatchNorm: {}: needs [n, channels, ..]", describe(*node_of(x)));
  std::vector<int64_t> over{0};
  for (int64_t a = 2; a < x.rank(); ++a) over.push_back(a);
  take_in(variance, x.var(over, false, 1), momentum);  // which refuses a batch of one element
  const Tensor centre = x.mean(over);
  take_in(mean, centre, momentum);
  return batch_norm(x, centre, x.var(over), weight, bias, eps);
}

LayerNorm::LayerNorm(int64_t size, double epsilon) : Affine(ones_and_zeros(size)), eps(epsilon) {}

Tensor LayerNorm::operator()(const Tensor& x) const { return x.layer_norm(1, weight, bias, eps); }

RMSNorm::RMSNorm(int64_t size, double epsilon) : weight(Tensor::ones({size})), eps(epsilon) {}

Tensor RMSNorm::operator()(const Tensor& x) const {
  return x * (x.square().mean(-1, true) + eps).rsqrt() * weight;
}

Embedding::Embedding(int64_t count, int64_t width, double deviation)
    : weight(Tensor::normal({count, width}, 0, deviation)) {}

Tensor dropout(const Tensor& x, double rate, bool training) {
  if (!(rate >= 0 && rate < 1)) fail("dropout: a rate of {}", rate);
  if (!training || rate == 0) return x;
  return where(Tensor::uniform(x.dims()) >= rate, x * (1 / (1 - rate)), 0);
}

Tensor MnistCnn::operator()(const Tensor& images) const {
  const Ref given = node_of(images);
  if (given->rank() != 4 || !is_int(given->shape[1], 1) || !is_int(given->shape[2], 28) ||
      !is_int(given->shape[3], 28))
    fail("MnistCnn: images {}: needs [n, 1, 28, 28]", describe(*given));
  const Tensor x = images.cast(DType::F32);
  const Tensor low = norm1(conv2(conv1(x).relu()).relu()).max_pool2d(2);
  const Tensor high = norm2(conv4(conv3(low).relu()).relu()).max_pool2d(2);
  return linear(high.flatten(1));
}

Tensor accuracy(const Tensor& logits, const Tensor& labels) {
  return (logits.argmax(-1) == labels.cast(DType::I64)).cast(DType::F32).mean();
}

Tensor without_classes(const Tensor& logits, std::span<const int64_t> excluded) {
  const int64_t classes = logits.size(-1);
  std::vector<float> kept(static_cast<size_t>(classes), 1);
  for (const int64_t c : excluded) {
    if (c < 0 || c >= classes) fail("without_classes: class {} of {}", c, classes);
    kept[static_cast<size_t>(c)] = 0;
  }
  if (std::find(kept.begin(), kept.end(), 1.0F) == kept.end())
    fail("without_classes: all {} classes are excluded", classes);
  return where(Tensor::from(kept) > 0, logits, -1e30);
}

}  // namespace kontor::inline v0::nn
