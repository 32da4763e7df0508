// Defines a model of its own and trains it twice: by gradients, and by Marketplace with forward passes only.
#include <kontor/kontor.h>

#include <cmath>
#include <cstdio>
#include <memory>

using kontor::Tensor;
namespace nn = kontor::nn;
namespace marketplace = kontor::marketplace;

// Two layers; `walk` names what is trained.
struct Model {
  nn::Linear hidden{2, 64}, output{64, 3};
  Tensor operator()(const Tensor& x) const { return output(hidden(x).tanh()); }
  template <class V>
  void walk(V& visit) {
    visit("hidden", hidden), visit("output", output);
  }
};

struct Data {
  Tensor x, labels;
};

// Three arms of a spiral: points in the plane [n, 2] and the arm each lies on.
Data spiral(int n) {
  std::vector<float> points;
  std::vector<uint8_t> arms;
  for (int i = 0; i < n; ++i) {
    const float radius = static_cast<float>(i) / static_cast<float>(n),
                angle = 3 * radius + 2.0943951f * static_cast<float>(i % 3);
    points.insert(points.end(), {2 * radius * std::cos(angle), 2 * radius * std::sin(angle)});
    arms.push_back(static_cast<uint8_t>(i % 3));
  }
  return {Tensor::from(points, {n, 2}), Tensor::from(arms, {n})};
}

void train(const char* name, nn::Trainer& trainer, const Data& data, int steps) {
  nn::Metrics m;
  for (int step = 0; step < steps; ++step) m = trainer.step(data.x, data.labels);
  std::printf("%s: %d steps, loss %.3f, accuracy %.2f\n", name, steps, m.loss, m.accuracy);
}

int main() {
  const Data data = spiral(192);

  Model taught;
  nn::BackpropTrainer backprop(nn::classification(taught),
                               std::make_unique<nn::Adam>(nn::parameters(taught), 0.02));
  train("backprop", backprop, data, 200);

  // Vendors try deltas of each layer, more of them where less has to be evaluated again; the model's layers are found.
  Model offered;
  marketplace::Trainer market(nn::parameters(offered), nn::classification(offered),
                              {.lr = 0.3, .lr_decay = 2e-3});
  train("marketplace", market, data, 1000);

  nn::save_parameters("model.safetensors", nn::parameters(offered));
}
