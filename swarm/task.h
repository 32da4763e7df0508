// What a run trains: a model that its manifest names, with data; and the bytes of both, which everybody can check.
#pragma once
#include <memory>

#include <kontor/nn.h>

#include "swarm/crypto.h"

namespace kontor::swarm {

class Task {
 public:
  virtual ~Task() = default;
  /// Inputs and labels of one sample each, `samples` below count().
  virtual std::pair<Tensor, Tensor> batch(std::span<const uint64_t> samples) const = 0;
  virtual uint64_t count() const = 0;
  virtual nn::Objective objective() = 0;
  /// Loss and accuracy (NaN: there is none) on data that is not trained on.
  virtual nn::Metrics test() = 0;
  virtual Digest data_root() const = 0;
  /// The trained parameters, realized, f32.
  const std::vector<nn::Parameter>& parameters() const { return parameters_; }
  std::vector<std::vector<float>> weights() const;
  void set_weights(std::span<const std::vector<float>> weights);

 protected:
  template <class Model>
  void adopt(Model& model) {
    for (nn::Parameter& p : nn::parameters(model))
      if (p.trained) parameters_.push_back(std::move(p));
    realize_parameters();
  }
  void realize_parameters();
  std::vector<nn::Parameter> parameters_;
};

/// "mnist-small" (970 parameters), "mnist-cnn" (the network of the Marketplace articles), with the four files of MNIST in the folder
/// `data`; "gpt" (2 layers that are 64 wide, of bytes), with a text file. Initial weights follow from the seed.
/// Throws Error that lists the names.
std::unique_ptr<Task> make_task(const std::string& model, uint64_t seed, const std::string& data);
/// Names of the models and whether their data is a text.
bool is_text(const std::string& model);
std::vector<std::string> model_names();

/// The root of a state: a Merkle tree over the names and shapes, then over the bytes of each parameter in pieces of 2^20.
Digest state_root(const Task& task);
Digest root_of_pieces(std::span<const View> parts);

}  // namespace kontor::swarm
