// Models and their training: layers as plain structs, parameters found by walking them, optimisers, weights files.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <kontor/functions.h>
#include <kontor/jit.h>

namespace kontor::inline v0::nn {

/// A tensor of a model under the name of its place in it, as "conv1.weight". Valid while the model stays where it is.
struct Parameter {
  std::string name;
  Tensor* tensor = nullptr;
  bool trained = true;  ///< false: a Statistic, which is kept in files but is not updated by gradients
};

/// A tensor of a model that training changes as it runs, not by gradients: a running mean, for example.
struct Statistic {
  Tensor value;
};

/// What `walk` of a layer is called with: lists the tensors below it, in order.
class Walker {
 public:
  /// A tensor; an empty one (no bias) is left out.
  void operator()(std::string_view name, Tensor& tensor) {
    if (!tensor.empty()) found.push_back({prefix_ + std::string(name), &tensor});
  }
  void operator()(std::string_view name, Statistic& statistic) {
    found.push_back({prefix_ + std::string(name), &statistic.value, false});
  }
  /// A layer, or a vector of layers, whose names are numbers.
  template <class Layer>
    requires requires(Layer& layer, Walker& walker) { layer.walk(walker); }
  void operator()(std::string_view name, Layer& layer) {
    const size_t length = prefix_.size();
    prefix_.append(name).append(".");
    layer.walk(*this);
    prefix_.resize(length);
  }
  template <class Layer>
  void operator()(std::string_view name, std::vector<Layer>& layers) {
    const size_t length = prefix_.size();
    prefix_.append(name).append(".");
    for (size_t i = 0; i < layers.size(); ++i) (*this)(std::to_string(i), layers[i]);
    prefix_.resize(length);
  }

  std::vector<Parameter> found;

 private:
  std::string prefix_;
};

/// The tensors of a model: any struct with `template <class V> void walk(V& visit) { visit("name", member); ... }`.
template <class Model>
std::vector<Parameter> parameters(Model& model) {
  Walker walker;
  model.walk(walker);
  return std::move(walker.found);
}

/// What most layers have: a weight, and a bias, which may be empty.
struct Affine {
  Tensor weight, bias;
  template <class V>
  void walk(V& visit) {
    visit("weight", weight), visit("bias", bias);
  }
};

/// x [.., in] -> [.., out]: x weight^T + bias; weight [out, in]. Initial values uniform in +-1/sqrt(in).
struct KONTOR_API Linear : Affine {
  std::shared_ptr<const ProductRecipe> recipe;  ///< how its products are rounded; null: they are not
  Linear() = default;
  Linear(int64_t in, int64_t out, bool with_bias = true);
  Tensor operator()(const Tensor& x) const;
};

/// x [n, in, h, w] -> [n, out, oh, ow]; weight [out, in/groups, h, w]. Initial values uniform in +-1/sqrt(in/groups * size^2).
struct KONTOR_API Conv2d : Affine {
  Pair stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;
  Conv2d() = default;
  Conv2d(int64_t in, int64_t out, Pair size, Pair stride = 1, Pair padding = 0, bool with_bias = true,
         Pair dilation = 1, int64_t groups = 1);
  Tensor operator()(const Tensor& x) const;
};

/// x [n, in, w] -> [n, out, ow], and x [n, in, d, h, w] -> [n, out, od, oh, ow]; as Conv2d.
struct KONTOR_API Conv1d : Affine {
  ConvOptions options;
  Conv1d() = default;
  Conv1d(int64_t in, int64_t out, int64_t size, const ConvOptions& options = {}, bool with_bias = true);
  Tensor operator()(const Tensor& x) const;
};
struct KONTOR_API Conv3d : Affine {
  ConvOptions options;
  Conv3d() = default;
  Conv3d(int64_t in, int64_t out, const std::vector<int64_t>& size, const ConvOptions& options = {},
         bool with_bias = true);
  Tensor operator()(const Tensor& x) const;
};
/// conv_transpose() over as many axes as there are sizes; weight [in, out/groups, size..].
struct KONTOR_API ConvTranspose : Affine {
  ConvOptions options;
  ConvTranspose() = default;
  ConvTranspose(int64_t in, int64_t out, const std::vector<int64_t>& size, const ConvOptions& options = {},
                bool with_bias = true);
  Tensor operator()(const Tensor& x) const;
};

/// x [n, channels, ..]: mean 0 and variance 1 over all but the first two axes, then times weight (1) plus bias (0), [channels].
struct KONTOR_API InstanceNorm : Affine {
  double eps = 1e-5;
  InstanceNorm() = default;
  explicit InstanceNorm(int64_t channels, double eps = 1e-5);
  Tensor operator()(const Tensor& x) const;
};

/// x [n, channels, ..]: the same over each of `groups` groups of channels together (Wu and He 2018).
struct KONTOR_API GroupNorm : Affine {
  int64_t groups = 1;
  double eps = 1e-5;
  GroupNorm() = default;
  GroupNorm(int64_t groups, int64_t channels, double eps = 1e-5);
  Tensor operator()(const Tensor& x) const;
};

/// x [n, channels, ..]: mean 0 and variance 1 of each channel, then times weight (1) plus bias (0): in training those of the batch, a
/// part `momentum` of which goes into the running ones (Ioffe and Szegedy 2015; the running variance is that of n - 1); else the
/// running ones. Batches that are not finite leave them as they are.
struct KONTOR_API BatchNorm : Affine {
  mutable Statistic mean, variance;  ///< [channels], of what was seen in training
  double momentum = 0.1, eps = 1e-5;
  BatchNorm() = default;
  explicit BatchNorm(int64_t channels, double momentum = 0.1, double eps = 1e-5);
  Tensor operator()(const Tensor& x, bool training = false) const;
  template <class V>
  void walk(V& visit) {
    Affine::walk(visit), visit("mean", mean), visit("variance", variance);
  }
};

/// x [.., size]: mean 0 and variance 1 over the last axis, then times weight (1) plus bias (0), [size].
struct KONTOR_API LayerNorm : Affine {
  double eps = 1e-5;
  LayerNorm() = default;
  explicit LayerNorm(int64_t size, double eps = 1e-5);
  Tensor operator()(const Tensor& x) const;
};

/// x [.., size] over its root mean square along the last axis, times weight (1) (Zhang and Sennrich 2019).
struct KONTOR_API RMSNorm {
  Tensor weight;  ///< [size]
  double eps = 1e-6;
  RMSNorm() = default;
  explicit RMSNorm(int64_t size, double eps = 1e-6);
  Tensor operator()(const Tensor& x) const;
  template <class V>
  void walk(V& visit) {
    visit("weight", weight);
  }
};

/// Integers [..] -> rows [.., width] of a table of `count`. Initial values normal. Its gradient adds up a row an integer, in order.
struct KONTOR_API Embedding {
  Tensor weight;  ///< [count, width]
  Embedding() = default;
  Embedding(int64_t count, int64_t width, double deviation = 1);
  Tensor operator()(const Tensor& integers) const { return weight.take(integers); }
  template <class V>
  void walk(V& visit) {
    visit("weight", weight);
  }
};

/// In training a part `rate` of x is 0 and the rest x / (1 - rate), drawn from the Context's random numbers; else x.
KONTOR_API Tensor dropout(const Tensor& x, double rate, bool training);

/// The network of the Marketplace articles for images u8 [n, 1, 28, 28], not normalised -> logits [n, 10]
/// (../shared/spec/marketplace.md, section 1.1).
struct KONTOR_API MnistCnn {
  Conv2d conv1{1, 32, 5}, conv2{32, 32, 5};
  InstanceNorm norm1{32};
  Conv2d conv3{32, 64, 3}, conv4{64, 64, 3};
  InstanceNorm norm2{64};
  Linear linear{576, 10};
  Tensor operator()(const Tensor& images) const;
  template <class V>
  void walk(V& visit) {
    visit("conv1", conv1), visit("conv2", conv2), visit("norm1", norm1), visit("conv3", conv3);
    visit("conv4", conv4), visit("norm2", norm2), visit("linear", linear);
  }
};

/// Part of the rows of logits [n, classes] whose greatest is at the label [n].
KONTOR_API Tensor accuracy(const Tensor& logits, const Tensor& labels);

/// Logits [.., classes] with those of `excluded` so low that they never win and add nothing to a softmax. Throws Error
/// if one is not below the number of classes, or none is left.
KONTOR_API Tensor without_classes(const Tensor& logits, std::span<const int64_t> excluded);

/// Updates parameters by gradients. Under jit the update is a part of the recorded function; what changes from step to
/// step (rate, corrections) are Scalars, so that nothing is compiled again. Keeps pointers to the tensors.
class KONTOR_API Optimizer {
 public:
  Optimizer(std::vector<Parameter> parameters, double lr);
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update; gradients in the order of the parameters. Throws Error if their number or a shape differs. Where
  /// `only_if` (bool, one element; empty: yes) is false, parameters and state stay as they are.
  void step(std::span<const Tensor> gradients, const Tensor& only_if = {});
  /// One update by the gradients of `loss`; none if the loss is not a finite number. An element of a gradient that is not
  /// one counts as 0: a slope that is infinite somewhere ruins no weights.
  void step(const Tensor& loss);
  /// For a batch in parts: keeps sums of gradients beside the parameters. Not while a jit function is recorded.
  void keep_sums();
  /// Adds the gradients of `loss` to the sums. Throws Error if none are kept.
  void accumulate(const Tensor& loss);
  /// One update by the sums' mean over the losses since the last one, as step(loss) would by their mean.
  void apply();
  /// Tensors to keep in a checkpoint beside the parameters, as "conv1.weight.m".
  virtual std::vector<Parameter> state() { return {}; }
  /// How many updates there were; a checkpoint gives it back.
  virtual int64_t steps() const { return 0; }
  virtual void set_steps(int64_t) {}
  virtual std::string_view kind() const = 0;                                ///< "sgd", "adam", "adamw", ..
  const std::vector<Parameter>& parameters() const { return parameters_; }  ///< those that are trained
  const std::vector<Parameter>& statistics() const { return statistics_; }  ///< the others
  /// step(loss) scales gradients down to this length, of all of them as one vector, where they are longer; 0 (as at first): never.
  /// Is recorded with the step. Throws Error if it is negative.
  void clip(double length);
  /// step(loss) computes the gradients of the loss times this, and divides them by it: gradients of f16 activations below 6e-8 would be
  /// 0 (Micikevicius et al. 2018). A power of two; 1 (as at first) changes nothing. Is recorded with the step. Throws Error if it is not
  /// above 0.
  void scale_loss(double factor);
  /// Parameters narrower than f32 are written up or down with the probability of being nearer (a draw), and not to the nearest.
  void write_stochastically(bool yes) { stochastic_ = yes; }

  Scalar lr;

 protected:
  virtual void update(std::span<const Tensor> gradients) = 0;
  /// state.assign(value) in its dtype, under the condition of step().
  void set(Tensor& state, const Tensor& value) const;
  void write(size_t parameter, const Tensor& value) const;  ///< the same of a parameter
  std::vector<Parameter> parameters_, statistics_;
  bool stochastic_ = false;

 private:
  std::vector<Tensor> gradients_of(const Tensor& loss) const;
  Tensor only_if_;
  double clip_ = 0, loss_scale_ = 1;
  std::vector<Tensor> sums_;      // none before keep_sums()
  Tensor losses_, losses_count_;  // since the last update
};

/// v = momentum v + g; x -= lr v (PyTorch's form), or x -= lr (g + momentum v) (Nesterov). Without momentum there is no state.
class KONTOR_API SGD final : public Optimizer {
 public:
  SGD(std::vector<Parameter> parameters, double lr, double momentum = 0, bool nesterov = false);
  std::vector<Parameter> state() override;
  std::string_view kind() const override { return "sgd"; }

 private:
  void update(std::span<const Tensor> gradients) override;
  double momentum_;
  bool nesterov_;
  std::vector<Tensor> velocity_;
};

/// v = alpha v + (1 - alpha) g^2; u = g / (sqrt(v) + eps); x -= lr u, or by b = momentum b + u (Hinton 2012, PyTorch's form).
class KONTOR_API RMSprop final : public Optimizer {
 public:
  RMSprop(std::vector<Parameter> parameters, double lr = 1e-2, double alpha = 0.99, double eps = 1e-8,
          double momentum = 0);
  std::vector<Parameter> state() override;
  std::string_view kind() const override { return "rmsprop"; }

 private:
  void update(std::span<const Tensor> gradients) override;
  double alpha_, eps_, momentum_;
  std::vector<Tensor> v_, b_;
};

/// How Adam keeps its moments: rounded, with scales beside them, of v its root, which spans half as many powers of two. Format f32: in the
/// parameter's dtype, as it is, or (wide) in f32. `stochastic`: Optimizer::write_stochastically().
struct AdamStates {
  Quantisation m = {}, v = {};
  bool stochastic = false, wide = false;
};
/// Adam with bias correction (Kingma and Ba 2015, algorithm 1). One kernel a parameter.
class KONTOR_API Adam : public Optimizer {
 public:
  Adam(std::vector<Parameter> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999,
       double eps = 1e-8, const AdamStates& states = {});
  ~Adam() override;
  std::vector<Parameter> state() override;
  int64_t steps() const override;
  void set_steps(int64_t steps) override;
  std::string_view kind() const override { return "adam"; }

 protected:
  std::vector<double> decays_;  ///< x -= lr * decay * x before the update, a number a parameter; empty: none

 private:
  void update(std::span<const Tensor> gradients) override;
  struct Corrections;
  struct Moments;
  void keep(Moments& moments, size_t i, const Tensor& value) const;
  double beta1_, beta2_, eps_;
  std::unique_ptr<Moments> m_, v_;
  std::shared_ptr<Corrections> corrections_;
};

/// Parameters that decay alike.
struct ParameterGroup {
  std::vector<Parameter> parameters;
  double decay = 0;
};
/// Matrices and tables, which decay, and vectors (biases, norms), which do not.
KONTOR_API std::vector<ParameterGroup> decay_groups(std::span<const Parameter> parameters, double decay);

/// Adam with decay of the weights apart from the gradient (Loshchilov and Hutter 2019): x -= lr * decay * x.
class KONTOR_API AdamW final : public Adam {
 public:
  AdamW(std::span<const ParameterGroup> groups, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999,
        double eps = 1e-8, const AdamStates& states = {});
  std::string_view kind() const override { return "adamw"; }
};

/// x -= lr (sign(beta1 m + (1 - beta1) g) + decay x); m = beta2 m + (1 - beta2) g (Chen et al. 2023).
class KONTOR_API Lion final : public Optimizer {
 public:
  explicit Lion(std::span<const ParameterGroup> groups, double lr = 1e-4, double beta1 = 0.9,
                double beta2 = 0.99);
  std::vector<Parameter> state() override;
  std::string_view kind() const override { return "lion"; }

 private:
  void update(std::span<const Tensor> gradients) override;
  double beta1_, beta2_;
  std::vector<double> decays_;  // a number a parameter
  std::vector<Tensor> m_;
};

/// A learning rate that rises along a line to `peak` in the first `warmup` steps and falls along a cosine to `least` at the last
/// of `steps` (Loshchilov and Hutter 2017).
struct KONTOR_API WarmupCosine {
  double peak = 1e-3, least = 1e-4;
  int64_t warmup = 100, steps = 1000;
  double at(int64_t step) const;  ///< of the step with this number, from 0
};

using Metadata = std::map<std::string, std::string>;

/// Writes the tensors as a safetensors file, atomically. Throws Error if a name stands twice.
KONTOR_API void save_parameters(const std::string& path, std::span<const Parameter> parameters,
                                const Metadata& metadata = {});
/// Reads them back, and returns the metadata. Throws Error that lists the tensors that are missing, superfluous, or of
/// another shape or dtype; then nothing is changed.
KONTOR_API Metadata load_parameters(const std::string& path, std::span<const Parameter> parameters);
KONTOR_API Metadata load_metadata(const std::string& path);

/// What a model is trained on, as recorded for one batch.
struct Score {
  Tensor loss;      ///< one float: the mean over the batch
  Tensor accuracy;  ///< one float, or empty
  Score(Tensor mean_loss, Tensor mean_accuracy = {})
      : loss(std::move(mean_loss)), accuracy(std::move(mean_accuracy)) {}
};

/// A function of (x, labels) that records loss and accuracy of a model. Must depend on its arguments and the model alone.
class Objective {
 public:
  template <class F>
    requires std::is_invocable_r_v<Score, F&, const Tensor&, const Tensor&>
  Objective(F function)
      : function_(std::make_shared<F>(std::move(function))),
        call_([](void* f, const Tensor& x, const Tensor& labels) -> Score {
          return (*static_cast<F*>(f))(x, labels);
        }) {}
  Score operator()(const Tensor& x, const Tensor& labels) const { return call_(function_.get(), x, labels); }

 private:
  std::shared_ptr<void> function_;
  Score (*call_)(void* function, const Tensor& x, const Tensor& labels);
};

/// Cross-entropy and accuracy of a model that maps x to logits. The model must outlive it.
template <class Model>
Objective classification(const Model& model) {
  return [&model](const Tensor& x, const Tensor& labels) -> Score {
    const Tensor logits = model(x);
    return {cross_entropy(logits, labels).mean(), accuracy(logits, labels)};
  };
}

/// The same without some classes: their logits count as -infinity, so that they have no part in loss or accuracy.
template <class Model>
Objective classification(const Model& model, std::vector<int64_t> excluded) {
  return [&model, excluded = std::move(excluded)](const Tensor& x, const Tensor& labels) -> Score {
    const Tensor logits = without_classes(model(x), excluded);
    return {cross_entropy(logits, labels).mean(), accuracy(logits, labels)};
  };
}

/// Operations of the products (matmul, conv2d, ..) that the values need: two a multiply-add.
KONTOR_API double product_operations(std::span<const Tensor> values);

/// What one step, or an evaluation, came to.
struct Metrics {
  int64_t step = 0;       ///< steps done
  double loss = 0;        ///< mean over the batch, before the update
  double accuracy = 0;    ///< NaN where the objective records none
  double seconds = 0;     ///< of this step
  double operations = 0;  ///< of this step's products; backward counted as twice forward
  int64_t failed = 0;  ///< Marketplace: losses of vendors or paths that are not finite; they have no weight
};

/// A way to train: one step a batch, and all there is to go on from later.
class KONTOR_API Trainer {
 public:
  virtual ~Trainer();
  /// Throws Error if the loss is not a finite number; parameters and state are then as before the step, so that training
  /// can go on, with a smaller learning rate for example.
  Metrics step(const Tensor& x, const Tensor& labels);
  int64_t steps() const { return steps_; }
  virtual double learning_rate() const = 0;
  /// From the next step on; the decay goes on from it. Throws Error if it is not positive.
  virtual void set_learning_rate(double lr) = 0;
  /// What went wrong without stopping anything since the last call.
  std::vector<std::string> take_warnings() { return std::exchange(warnings_, {}); }
  /// Parameters, state of the method, the Context's random numbers, and `more`, in one safetensors file.
  void save(const std::string& path, const Metadata& more = {});
  /// Goes on from a file of save(): the steps after it have the same bits. Returns the metadata. Throws Error if the
  /// file is of another method, or of other settings that have to be equal.
  Metadata load(const std::string& path);

 protected:
  virtual Metrics run(const Tensor& x, const Tensor& labels) = 0;
  virtual std::vector<Parameter> tensors() = 0;
  virtual Metadata settings() const = 0;            ///< must be equal to go on
  virtual Metadata progress() const { return {}; }  ///< is taken over
  virtual void prepare(const Metadata&) {}          ///< settings were compared, tensors() not yet read
  /// Takes over what progress() said, which load() has seen to be numbers.
  virtual void restore(const Metadata&) {}
  /// The number of this name; throws Error if there is none.
  static double number(const Metadata& metadata, const std::string& key);
  int64_t steps_ = 0;
  std::vector<std::string> warnings_;
};

/// Training by gradients: forward, backward and update are one jit function. Or, so that larger batches fit in memory, one of forward and
/// backward for each of so many equal parts of a batch, and one of the update by the mean of their gradients.
class KONTOR_API BackpropTrainer final : public Trainer {
 public:
  BackpropTrainer(Objective objective, std::unique_ptr<Optimizer> optimizer, double lr_decay = 0,
                  int64_t parts = 1);
  ~BackpropTrainer() override;
  double learning_rate() const override;
  void set_learning_rate(double lr) override;
  Optimizer& optimizer();

 private:
  Metrics run(const Tensor& x, const Tensor& labels) override;
  std::vector<Parameter> tensors() override;
  Metadata settings() const override;
  Metadata progress() const override;
  void restore(const Metadata& metadata) override;
  struct State;
  std::unique_ptr<State> state_;
};

/// Mean loss and accuracy over batches, without training.
class KONTOR_API Evaluator {
 public:
  explicit Evaluator(Objective objective);
  ~Evaluator();
  void add(const Tensor& x, const Tensor& labels);
  /// Of all batches since the last result(), each weighted by its first axis.
  Metrics result();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kontor::inline v0::nn
