// Attention, transformer blocks and GPT: of all places at once, and of one place that sees those before it.
#include <cmath>

#include <kontor/transformer.h>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor::inline v0::nn {

namespace {

constexpr double kDeviation = 0.02;  // of initial weights, as GPT-2's

Linear linear(int64_t in, int64_t out, bool bias, double deviation = kDeviation) {
  Linear layer;
  layer.weight = Tensor::normal({out, in}, 0, deviation);
  if (bias) layer.bias = Tensor::zeros({out});
  return layer;
}

LayerNorm layer_norm(int64_t size, bool bias) {
  LayerNorm layer(size);
  if (!bias) layer.bias = {};
  return layer;
}

void need_positive(std::string_view who, std::string_view name, int64_t value) {
  if (value < 1) fail("{}: {} {}", who, value, name);
}

BlockOptions checked(BlockOptions o) {
  need_positive("attention", "numbers wide", o.width);
  need_positive("attention", "heads", o.heads);
  if (o.kv_heads == 0) o.kv_heads = o.heads;
  need_positive("attention", "heads of keys", o.kv_heads);
  if (o.width % o.heads != 0) fail("attention: {} heads do not divide a width of {}", o.heads, o.width);
  if (o.heads % o.kv_heads != 0)
    fail("attention: {} heads of keys do not divide {} of queries", o.kv_heads, o.heads);
  if (o.rotary && o.width / o.heads % 2 != 0)
    fail("attention: rotary positions of heads of an odd size, {}", o.width / o.heads);
  if (!is_float(o.dtype)) fail("attention: products of {}", name(o.dtype));
  return o;
}

/// x through a layer whose weights are used in the dtype of x.
Tensor through(const Linear& layer, const Tensor& x) {
  Linear own;
  own.recipe = layer.recipe;
  own.weight = layer.weight.cast(x.dtype());
  if (!layer.bias.empty()) own.bias = layer.bias.cast(x.dtype());
  return own(x);
}

int64_t head_size(const BlockOptions& o) { return o.width / o.heads; }

/// What the joint projection of x [batch, n, width] has: [batch, heads, n, size] each.
struct Projections {
  Tensor queries, keys, values;
};

Projections projections(const BlockOptions& o, const Tensor& all, const Operand& from) {
  const Dim batch = all.dims()[0], n = all.dims()[1];
  const int64_t size = head_size(o);
  const auto part = [&](int64_t first, int64_t heads) {
    const Tensor numbers = all.slice(-1, first * size, (first + heads) * size);
    return numbers.reshape({batch, n, heads, size}).transpose(1, 2);
  };
  Projections p{part(0, o.heads), part(o.heads, o.kv_heads), part(o.heads + o.kv_heads, o.kv_heads)};
  if (o.rotary) p.queries = rotary(p.queries, from), p.keys = rotary(p.keys, from);
  return p;
}

/// [batch, heads, n, size] -> [batch, n, width].
Tensor side_by_side(const Tensor& heads, int64_t width) {
  return heads.transpose(1, 2).reshape({heads.dims()[0], heads.dims()[2], width});
}

/// Attention of what the joint projection gives.
Tensor attend(const Attention& layer, const Tensor& joint, bool training) {
  const BlockOptions& o = layer.options;
  const double dropped = training ? o.dropout : 0;
  const Projections p = projections(o, joint, 0);
  const Tensor mixed = nn::attention(p.queries, p.keys, p.values, {.causal = true, .dropout = dropped});
  return dropout(through(layer.project, side_by_side(mixed, o.width)), o.dropout, training);
}

/// layer(f(x)), of which f(x) is not kept for the gradients: it is computed again where the weights' is.
template <class F>
Tensor through_again(const Linear& layer, const Tensor& x, const F& f) {
  return checkpoint([&](const Tensor& t) { return through(layer, f(t)); }, x);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& o) {
  return tensor_of(fn::attention(node_of(q), node_of(k), node_of(v), o.mask.empty() ? Ref() : node_of(o.mask),
                                 o.causal, o.window, o.scale, o.dropout));
}

Tensor rotary(const Tensor& x, const Operand& from, double base) {
  if (x.rank() < 2 || x.size(-1) % 2 != 0)
    fail("rotary: {}: needs [.., n, size] of an even size", describe(*node_of(x)));
  const int64_t half = x.size(-1) / 2;
  const Tensor place = (Tensor::arange(x.dims()[x.dims().size() - 2]) + from).cast(DType::F32).unsqueeze(1);
  const Tensor number = Tensor::arange(half).cast(DType::F32);
  const Tensor angle = place * (number * (-std::log(base) / static_cast<double>(half))).exp();
  const Tensor cos = angle.cos().cast(x.dtype()), sin = angle.sin().cast(x.dtype());
  const Tensor a = x.slice(-1, 0, half), b = x.slice(-1, half);
  return cat({a * cos - b * sin, b * cos + a * sin}, -1);
}

Attention::Attention(const BlockOptions& given)
    : options(checked(given)),
      joint(linear(options.width, (options.heads + 2 * options.kv_heads) * head_size(options), options.bias)),
      project(linear(options.width, options.width, options.bias)) {}

Tensor Attention::operator()(const Tensor& x, bool training) const {
  return attend(*this, through(joint, x), training);
}

Tensor Attention::step(const Tensor& x, const Tensor& at, KeyValues& past) const {
  const Projections p = projections(options, through(joint, x), at);
  past.keys.assign(past.keys.put(2, at, p.keys));
  past.values.assign(past.values.put(2, at, p.values));
  const Tensor seen = (Tensor::arange(past.keys.size(2)) <= at).unsqueeze(0);
  const Tensor mixed = nn::attention(p.queries, past.keys, past.values, {.mask = seen});
  return through(project, side_by_side(mixed, options.width));
}

TransformerBlock::TransformerBlock(const BlockOptions& o)
    : norm1(layer_norm(o.width, o.bias)),
      norm2(layer_norm(o.width, o.bias)),
      attention(o),
      up(linear(o.width, 4 * o.width, o.bias)),
      down(linear(4 * o.width, o.width, o.bias)),
      dropout(o.dropout) {}

Tensor TransformerBlock::mlp(const Tensor& x, bool training) const {
  const Tensor hidden =
      through_again(up, x, [&](const Tensor& t) { return norm2(t).cast(attention.options.dtype); });
  const Tensor out = through_again(down, hidden, [](const Tensor& t) { return t.gelu(); });
  return nn::dropout(out, dropout, training).cast(x.dtype());
}

Tensor TransformerBlock::operator()(const Tensor& x, bool training) const {
  const Tensor joint = through_again(attention.joint, x,
                                     [&](const Tensor& t) { return norm1(t).cast(attention.options.dtype); });
  const Tensor mixed = attend(attention, joint, training);
  const Tensor h = x + mixed.cast(x.dtype());
  return h + mlp(h, training);
}

Tensor TransformerBlock::step(const Tensor& x, const Tensor& at, KeyValues& past) const {
  const Tensor mixed = attention.step(norm1(x).cast(attention.options.dtype), at, past);
  const Tensor h = x + mixed.cast(x.dtype());
  return h + mlp(h, false);
}

Gpt::Gpt(const GptOptions& o) : options(o) {
  need_positive("gpt", "tokens in the vocabulary", o.vocabulary);
  need_positive("gpt", "places of context", o.context);
  need_positive("gpt", "layers", o.layers);
  const BlockOptions block = checked({o.width, o.heads, o.kv_heads, o.dropout, o.bias, o.rotary, o.dtype});
  tokens = Embedding(o.vocabulary, o.width, kDeviation);
  if (!o.rotary) positions = Embedding(o.context, o.width, kDeviation);
  // What many layers add to the residual stream adds up to the size of one.
  const double added = kDeviation / std::sqrt(2 * static_cast<double>(o.layers));
  for (int64_t i = 0; i < o.layers; ++i) {
    blocks.emplace_back(block);
    blocks.back().attention.project = linear(o.width, o.width, o.bias, added);
    blocks.back().down = linear(4 * o.width, o.width, o.bias, added);
  }
  norm = layer_norm(o.width, o.bias);
}

Tensor Gpt::operator()(const Tensor& ids, bool training) const {
  const int64_t length = ids.size(-1);
  if (length > options.context) fail("gpt: {} tokens for a context of {}", length, options.context);
  Tensor x = tokens(ids).cast(DType::F32);  // also where weights are narrow: what layers add up is not
  if (!options.rotary) x = x + positions.weight.slice(0, 0, length).cast(DType::F32);
  x = dropout(x, options.dropout, training);
  for (const TransformerBlock& block : blocks) x = block(x, training);
  return logits(x);
}

Tensor Gpt::logits(const Tensor& x) const {
  const DType dtype = options.dtype;
  return norm(x).cast(dtype).matmul(tokens.weight.transpose().cast(dtype)).cast(DType::F32);
}

Tensor Gpt::step(const Tensor& id, const Tensor& at, std::vector<KeyValues>& past) const {
  Tensor x = tokens(id).cast(DType::F32);
  if (!options.rotary) x = x + positions(at).cast(DType::F32);
  x = x.reshape({1, 1, options.width});
  for (size_t i = 0; i < blocks.size(); ++i) x = blocks[i].step(x, at, past[i]);
  return logits(x).reshape({options.vocabulary});
}

std::vector<KeyValues> Gpt::no_past() const {
  std::vector<KeyValues> past(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockOptions& o = blocks[i].attention.options;
    const Shape shape{1, o.kv_heads, options.context, head_size(o)};
    past[i] = {Tensor::zeros(shape, o.dtype), Tensor::zeros(shape, o.dtype)};
    past[i].keys.realize(), past[i].values.realize();
  }
  return past;
}

}  // namespace kontor::inline v0::nn
