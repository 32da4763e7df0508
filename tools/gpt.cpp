// GPT-2's layers (Radford et al. 2019): embeddings, blocks of causal attention and an MLP, cross-entropy, Adam.
#include "tools/gpt.h"

#include <cmath>
#include <limits>

#include <kontor/kontor.h>
#include <kontor/nn.h>

#include "graph/recording.h"

namespace kontor::tools {

namespace {

Tensor leaf(const Shape& shape, DType dtype = DType::F32) {
  return tensor_of(buffer_leaf(dtype, Recording::dims(shape), nullptr, fresh_id(), 0));
}

nn::Linear linear(int64_t in, int64_t out, bool with_bias = true) {
  nn::Linear layer;
  layer.weight = leaf({out, in});
  if (with_bias) layer.bias = leaf({out});
  return layer;
}

nn::LayerNorm layer_norm(int64_t size) {
  nn::LayerNorm layer;
  layer.weight = leaf({size});
  layer.bias = leaf({size});
  return layer;
}

struct Block {
  int64_t heads, width;
  nn::LayerNorm norm1 = layer_norm(width), norm2 = layer_norm(width);
  nn::Linear joint = linear(width, 3 * width), project = linear(width, width);
  nn::Linear up = linear(width, 4 * width), down = linear(4 * width, width);

  Tensor attention(const Tensor& x) const {
    const int64_t batch = x.size(0), length = x.size(1), size = width / heads;
    const Tensor all = joint(x).reshape({batch, length, 3, heads, size}).permute({2, 0, 3, 1, 4});
    const Tensor at = Tensor::arange(length);
    const Tensor causal = at.unsqueeze(0) <= at.unsqueeze(1);
    const Tensor scores = all[0].matmul(all[1].transpose()) / std::sqrt(static_cast<double>(size));
    const Tensor mixed = where(causal, scores, -1e9).softmax().matmul(all[2]);
    return project(mixed.permute({0, 2, 1, 3}).reshape({batch, length, width}));
  }

  Tensor operator()(const Tensor& x) const {
    const Tensor h = x + attention(norm1(x));
    return h + down(up(norm2(h)).gelu());
  }

  template <class V>
  void walk(V& visit) {
    visit("norm1", norm1), visit("joint", joint), visit("project", project);
    visit("norm2", norm2), visit("up", up), visit("down", down);
  }
};

struct Gpt {
  explicit Gpt(const GptShape& s)
      : tokens(leaf({s.vocabulary, s.width})),
        positions(leaf({s.context, s.width})),
        norm(layer_norm(s.width)),
        head(linear(s.width, s.vocabulary, false)) {
    for (int64_t i = 0; i < s.layers; i++) blocks.push_back(Block{.heads = s.heads, .width = s.width});
  }

  Tensor operator()(const Tensor& ids) const {
    Tensor x = tokens.take(ids) + positions;
    for (const Block& block : blocks) x = block(x);
    return head(norm(x));
  }

  template <class V>
  void walk(V& visit) {
    visit("tokens", tokens), visit("positions", positions), visit("blocks", blocks);
    visit("norm", norm), visit("head", head);
  }

  Tensor tokens, positions;
  std::vector<Block> blocks;
  nn::LayerNorm norm;
  nn::Linear head;
};

/// What is wanted, and where it goes: as nn::Adam, nothing changes where the loss is not finite.
struct Updates {
  Tensor finite;
  std::vector<Ref> outputs, targets;
  void set(const Tensor& target, const Tensor& value) {
    outputs.push_back(node_of(where(finite, value, target)));
    targets.push_back(node_of(target));
  }
};

void adam(Updates& updates, const Tensor& x, const Tensor& g) {
  static const Scalar rate(1e-3), first(1.0), second(1.0);
  constexpr double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  const Tensor m_before = leaf(x.dims()), v_before = leaf(x.dims());
  const Tensor m = m_before * beta1 + g * (1 - beta1), v = v_before * beta2 + g * g * (1 - beta2);
  updates.set(x, x - m * first * rate / ((v * second).sqrt() + eps));
  updates.set(m_before, m);
  updates.set(v_before, v);
}

}  // namespace

Graph gpt_step(const GptShape& shape) {
  Gpt model(shape);
  const Tensor ids = leaf({shape.batch, shape.context}, DType::I32);
  const Tensor next = leaf({shape.batch, shape.context}, DType::I32);
  const Tensor loss = cross_entropy(model(ids), next).mean();
  std::vector<Tensor> weights;
  for (const nn::Parameter& p : nn::parameters(model)) weights.push_back(*p.tensor);
  const std::vector<Tensor> gradients = gradient(loss, weights);
  Updates updates{.finite = loss.abs() < std::numeric_limits<double>::infinity(),
                  .outputs = {node_of(loss)},
                  .targets = {Ref()}};
  for (size_t i = 0; i < weights.size(); i++) adam(updates, weights[i], gradients[i]);
  return make_graph(updates.outputs, updates.targets);
}

}  // namespace kontor::tools
