// Models of sequences: LSTM and GRU; transformers: attention, blocks of it, a GPT to train as any model of kontor/nn.h, and text from
// it, token by token.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <kontor/nn.h>

namespace kontor::inline v0::nn {

/// A Linear layer of a model under the name of its place in it, as "blocks.0.up". Valid while the model stays where it is.
struct NamedLinear {
  std::string name;
  Linear* layer = nullptr;
};
/// What `walk` of a layer is called with to find those, as Walker finds tensors.
class LinearWalker {
 public:
  void operator()(std::string_view name, Linear& layer) {
    found.push_back({prefix_ + std::string(name), &layer});
  }
  template <class T>
  void operator()(std::string_view name, T& member) {
    if constexpr (requires { member.walk(*this); }) {
      const size_t length = prefix_.size();
      prefix_.append(name).append(".");
      member.walk(*this);
      prefix_.resize(length);
    }
  }
  template <class Layer>
  void operator()(std::string_view name, std::vector<Layer>& layers) {
    for (size_t i = 0; i < layers.size(); ++i)
      (*this)(std::string(name) + "." + std::to_string(i), layers[i]);
  }

  std::vector<NamedLinear> found;

 private:
  std::string prefix_;
};
template <class Model>
std::vector<NamedLinear> linears(Model& model) {
  LinearWalker walker;
  model.walk(walker);
  return std::move(walker.found);
}

/// What a recurrent layer leaves: the hidden state after each step [batch, n, size], and its states after the last, [batch, size].
struct Recurrence {
  Tensor outputs, hidden, cell;  ///< a GRU has no cell
};
/// x [batch, n, in], step by step (Hochreiter and Schmidhuber 1997), from states [batch, size] (none: 0). Initial values uniform in
/// +-1/sqrt(size). The number of steps is fixed, and the graph has each; its backward pass computes gates again in one product.
struct KONTOR_API LSTM {
  Linear input, state;  ///< of input, forget, cell and output gate, one after another
  LSTM() = default;
  LSTM(int64_t in, int64_t size, bool with_bias = true);
  Recurrence operator()(const Tensor& x, const Tensor& hidden = {}, const Tensor& cell = {}) const;
  template <class V>
  void walk(V& visit) {
    visit("input", input), visit("state", state);
  }
};
/// The same with reset and update gates (Cho et al. 2014; the reset gate is applied behind the product, as PyTorch does).
struct KONTOR_API GRU {
  Linear input, state;  ///< of reset gate, update gate and new state
  GRU() = default;
  GRU(int64_t in, int64_t size, bool with_bias = true);
  Recurrence operator()(const Tensor& x, const Tensor& hidden = {}) const;
  template <class V>
  void walk(V& visit) {
    visit("input", input), visit("state", state);
  }
};

struct AttentionOptions {
  Tensor mask = {};     ///< [.., n, m]: bool, may be seen; or floats, added to the scores
  bool causal = false;  ///< query n-1 stands at key m-1, and none sees what is behind it
  int64_t window = 0;   ///< none sees a key that is so many places away, or more; 0: all do
  double scale = 0;     ///< 0: 1 / sqrt(d)
  double dropout = 0;   ///< part of the weights that is dropped
};
/// softmax(q k^T * scale + mask) v of q [.., heads, n, d], k [.., heads, m, d], v [.., heads, m, e] -> [.., heads, n, e]. The
/// heads of k and v may be fewer, and each is shared by as many of q; axes before them broadcast. A query that a bool mask,
/// `causal` or `window` lets see nothing is 0. Throws Error where sizes do not fit (Vaswani et al. 2017).
KONTOR_API Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                            const AttentionOptions& options = {});

/// x [.., n, size], whose rows stand at places from, from + 1, ..: numbers i and i + size/2 of each are turned by the angle place *
/// base^(-2i/size) (Su et al. 2021). Throws Error if the size is odd.
KONTOR_API Tensor rotary(const Tensor& x, const Operand& from = 0, double base = 1e4);

/// Keys and values of the places so far, [1, heads of keys, context, size] each.
struct KeyValues {
  Tensor keys, values;
};

struct BlockOptions {
  int64_t width = 0, heads = 1;
  int64_t kv_heads = 0;  ///< heads of keys and values; 0: as many
  double dropout = 0;    ///< of attention's weights and of what is added to the residual stream
  bool bias = true, rotary = false;
  /// Of the operands of products and of what attention keeps: a narrower one than that of the weights and of the residual stream, which
  /// stay as they are (Micikevicius et al. 2018).
  DType dtype = DType::F32;
};

/// Causal self-attention of several heads, x [batch, n, width] -> the same: one projection to queries, keys and values.
struct KONTOR_API Attention {
  BlockOptions options;
  Linear joint, project;
  Attention() = default;
  /// Throws Error if heads do not divide the width, or heads of keys those of queries.
  explicit Attention(const BlockOptions& options);
  Tensor operator()(const Tensor& x, bool training = false) const;
  /// The same of one place `at` (i64 of rank 0), x [1, 1, width], which sees what `past` has of the places before; it is put there.
  Tensor step(const Tensor& x, const Tensor& at, KeyValues& past) const;
  template <class V>
  void walk(V& visit) {
    visit("joint", joint), visit("project", project);
  }
};

/// x + attention(norm(x)), then x + mlp(norm(x)), whose hidden layer is four times as wide (gelu).
struct KONTOR_API TransformerBlock {
  LayerNorm norm1, norm2;
  Attention attention;
  Linear up, down;
  double dropout = 0;
  TransformerBlock() = default;
  explicit TransformerBlock(const BlockOptions& options);
  Tensor operator()(const Tensor& x, bool training = false) const;
  Tensor step(const Tensor& x, const Tensor& at, KeyValues& past) const;
  template <class V>
  void walk(V& visit) {
    visit("norm1", norm1), visit("attention", attention), visit("norm2", norm2), visit("up", up),
        visit("down", down);
  }

 private:
  Tensor mlp(const Tensor& x, bool training) const;
};

struct GptOptions {
  int64_t vocabulary = 0, context = 0, layers = 2, width = 128, heads = 4, kv_heads = 0;
  double dropout = 0;
  bool bias = false, rotary = false;  ///< rotary: in place of a table of positions
  DType dtype = DType::F32;           ///< of products, as in BlockOptions; logits are f32
};

/// GPT-2's language model (Radford et al. 2019): tokens [batch, n] -> logits [batch, n, vocabulary]; the table of tokens is the
/// output's matrix too.
struct KONTOR_API Gpt {
  GptOptions options;
  Embedding tokens, positions;
  std::vector<TransformerBlock> blocks;
  LayerNorm norm;
  Gpt() = default;
  /// Throws Error that names the option that cannot be.
  explicit Gpt(const GptOptions& options);
  Tensor operator()(const Tensor& ids, bool training = false) const;
  /// Logits [vocabulary] behind one token (integer of rank 0) at a place.
  Tensor step(const Tensor& id, const Tensor& at, std::vector<KeyValues>& past) const;
  std::vector<KeyValues> no_past() const;  ///< zeros, realized
  template <class V>
  void walk(V& visit) {
    visit("tokens", tokens);
    if (!options.rotary) visit("positions", positions);
    visit("blocks", blocks), visit("norm", norm);
  }

 private:
  Tensor logits(const Tensor& x) const;
};

/// Cross-entropy of a model that maps tokens [batch, n] to logits, for the tokens that follow. The model must outlive it.
template <class Model>
Objective language_model(const Model& model, bool training = false) {
  return [&model, training](const Tensor& ids, const Tensor& next) -> Score {
    return cross_entropy(model(ids, training), next).mean();
  };
}

/// How a token is chosen from logits, in this order.
struct Choice {
  double repetition_penalty =
      1;  ///< logits of tokens that were seen: divided by it if positive, else times it (Keskar et al. 2019)
  double temperature = 1;  ///< logits are divided by it; 0: the greatest is taken
  int64_t top_k = 0;       ///< only the greatest so many; 0: all
  double top_p = 1;        ///< only the greatest that have this probability together (Holtzman et al. 2020)
  uint64_t seed = 0;
};

/// Writes on from tokens: one jit function of one token, which keeps keys and values of those before, so that after the first token
/// nothing is scheduled or compiled, and the tokens are the same for any number of threads. Where the context is full, the later half of
/// it is read again. The model must outlive it.
class KONTOR_API Generator {
 public:
  /// Throws Error that names a choice that cannot be.
  Generator(const Gpt& model, const Choice& choice);
  ~Generator();
  /// Takes a token as read. Throws Error if the vocabulary has no such token.
  void read(int64_t token);
  /// Chooses the token that follows, and reads it. Throws Error if nothing was read.
  int64_t next();
  /// As if nothing had been read or chosen; nothing is scheduled anew.
  void restart();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kontor::inline v0::nn
