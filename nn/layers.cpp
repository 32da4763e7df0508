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

Linear::Linear(int64_t in, int64_t out, bool with_bias)
    : weight(uniform_within({out, in}, static_cast<double>(in))),
      bias(with_bias ? uniform_within({out}, static_cast<double>(in)) : Tensor()) {}

Tensor Linear::operator()(const Tensor& x) const {
  const Tensor product = x.matmul(weight.transpose());
  return bias.empty() ? product : product + bias;
}

static double taps(int64_t in, Pair size) {
  return static_cast<double>(in) * static_cast<double>(size.h) * static_cast<double>(size.w);
}

Conv2d::Conv2d(int64_t in, int64_t out, Pair size, Pair by, Pair margin, bool with_bias)
    : weight(uniform_within({out, in, size.h, size.w}, taps(in, size))),
      bias(with_bias ? uniform_within({out}, taps(in, size)) : Tensor()),
      stride(by),
      padding(margin) {}

Tensor Conv2d::operator()(const Tensor& x) const { return x.conv2d(weight, bias, stride, padding); }

InstanceNorm::InstanceNorm(int64_t channels, double epsilon)
    : weight(Tensor::ones({channels})), bias(Tensor::zeros({channels})), eps(epsilon) {}

Tensor InstanceNorm::operator()(const Tensor& x) const { return x.instance_norm(weight, bias, eps); }

LayerNorm::LayerNorm(int64_t size, double epsilon)
    : weight(Tensor::ones({size})), bias(Tensor::zeros({size})), eps(epsilon) {}

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
