// Models by name, and the root of a state.
#include "swarm/task.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <kontor/transformer.h>

#include "base/error.h"
#include "base/file.h"
#include "nn/dataset.h"

namespace kontor::swarm {

namespace {

constexpr size_t piece_bytes = size_t{1} << 20;

/// Images as 7 x 7 means -> 16 -> 10.
struct MnistSmall {
  nn::Linear hidden{49, 16}, last{16, 10};
  Tensor operator()(const Tensor& images) const {
    const Tensor means = (images.cast(DType::F32) / 255.0).avg_pool2d(4).flatten(1);
    return last(hidden((means - 0.13) / 0.3).relu());
  }
  template <class V>
  void walk(V& visit) {
    visit("hidden", hidden), visit("last", last);
  }
};

template <class Model>
class ImageTask final : public Task {
 public:
  explicit ImageTask(const std::string& data)
      : train_(load_mnist(data, Split::Train)),
        test_(load_mnist(data, Split::Test)),
        evaluator_(objective()) {
    adopt(model_);
  }
  std::pair<Tensor, Tensor> batch(std::span<const uint64_t> samples) const override {
    return tensors(gather(train_, std::vector<int64_t>(samples.begin(), samples.end())));
  }
  uint64_t count() const override { return static_cast<uint64_t>(train_.count); }
  nn::Objective objective() override { return nn::classification(model_); }
  nn::Metrics test() override {
    constexpr int64_t at_once = 500;
    for (int64_t first = 0; first < test_.count; first += at_once) {
      std::vector<int64_t> some;
      for (int64_t i = first; i < std::min(first + at_once, test_.count); ++i) some.push_back(i);
      const auto [x, labels] = tensors(gather(test_, some));
      evaluator_.add(x, labels);
    }
    return evaluator_.result();
  }
  Digest data_root() const override {
    const View parts[] = {train_.images, train_.labels};
    return root_of_pieces(parts);
  }

 private:
  Dataset train_, test_;
  Model model_;
  nn::Evaluator evaluator_;

  std::pair<Tensor, Tensor> tensors(const Batch& b) const {
    const auto n = static_cast<int64_t>(b.labels.size());
    return {Tensor::from(b.images, {n, 1, train_.rows, train_.cols}), Tensor::from(b.labels, {n})};
  }
};

/// A GPT of bytes: windows of 64 of a text, of which the last tenth is for tests.
class TextTask final : public Task {
 public:
  explicit TextTask(const std::string& path) : text_(read_file(path)), evaluator_(objective()) {
    if (text_.size() < 100 * window) fail("{}: {} bytes are too few", path, text_.size());
    adopt(model_);
  }
  std::pair<Tensor, Tensor> batch(std::span<const uint64_t> samples) const override {
    std::vector<uint8_t> ids, next;
    for (const uint64_t s : samples) {
      for (size_t i = 0; i < window; ++i) ids.push_back(byte(s + i)), next.push_back(byte(s + i + 1));
    }
    const auto n = static_cast<int64_t>(samples.size());
    return {Tensor::from(ids, {n, window}), Tensor::from(next, {n, window})};
  }
  uint64_t count() const override { return text_.size() / 10 * 9 - window; }
  nn::Objective objective() override { return nn::language_model(model_); }
  nn::Metrics test() override {
    for (uint64_t first = count() + window; first + 16 * window < count() + 128 * window;
         first += 16 * window) {
      std::vector<uint64_t> some;
      for (uint64_t i = 0; i < 16 && first + (i + 1) * window < text_.size(); ++i)
        some.push_back(first + i * window);
      if (some.empty()) break;  // a short text ends before 128 windows
      const auto [x, next] = batch(some);
      evaluator_.add(x, next);
    }
    return evaluator_.result();
  }
  Digest data_root() const override {
    const View parts[] = {view_of(text_)};
    return root_of_pieces(parts);
  }

 private:
  static constexpr int64_t window = 64;
  std::string text_;
  nn::Gpt model_{nn::GptOptions{.vocabulary = 256, .context = window, .layers = 2, .width = 64, .heads = 4}};
  nn::Evaluator evaluator_;
  uint8_t byte(uint64_t i) const { return static_cast<uint8_t>(text_[i]); }
};

struct ModelRow {
  const char* name;
  bool text;
  std::unique_ptr<Task> (*make)(const std::string& data);
};
template <class T>
std::unique_ptr<Task> made(const std::string& data) {
  return std::make_unique<T>(data);
}
constexpr ModelRow models[] = {{"mnist-small", false, made<ImageTask<MnistSmall>>},
                               {"mnist-cnn", false, made<ImageTask<nn::MnistCnn>>},
                               {"gpt", true, made<TextTask>}};

const ModelRow& row_of(const std::string& name) {
  for (const ModelRow& r : models)
    if (name == r.name) return r;
  fail("swarm: no model '{}'; there are: {}", name, fmt::join(model_names(), ", "));
}

void add_pieces(std::vector<Digest>& leaves, View bytes) {
  for (size_t at = 0; at < bytes.size(); at += piece_bytes)
    leaves.push_back(merkle_leaf(bytes.subspan(at, std::min(piece_bytes, bytes.size() - at))));
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> out;
  for (const ModelRow& r : models) out.emplace_back(r.name);
  return out;
}

bool is_text(const std::string& model) { return row_of(model).text; }

std::unique_ptr<Task> make_task(const std::string& model, uint64_t seed, const std::string& data) {
  const ModelRow& row = row_of(model);
  Context::current().seed(seed);
  return row.make(data);
}

void Task::realize_parameters() {
  for (const nn::Parameter& p : parameters_) {
    if (p.tensor->dtype() != DType::F32) fail("swarm: parameter {} is not of f32", p.name);
    p.tensor->realize();
  }
}

std::vector<std::vector<float>> Task::weights() const {
  std::vector<std::vector<float>> out;
  for (const nn::Parameter& p : parameters_) out.push_back(p.tensor->to_vector<float>());
  return out;
}

void Task::set_weights(std::span<const std::vector<float>> weights) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Tensor& own = *parameters_[i].tensor;
    const std::vector<int64_t> sizes = own.shape();
    own.assign(Tensor::from(weights[i], Shape(sizes.begin(), sizes.end()))).realize();
  }
}

Digest root_of_pieces(std::span<const View> parts) {
  std::vector<Digest> leaves;
  for (const View& p : parts) add_pieces(leaves, p);
  return merkle_root(leaves);
}

// Bytes of floats are those of a little-endian machine, which all are that Kontor runs on.
Digest state_root(const Task& task) {
  std::string layout;
  for (const nn::Parameter& p : task.parameters())
    layout += fmt::format("{} f32[{}]\n", p.name, fmt::join(p.tensor->shape(), ", "));
  std::vector<Digest> leaves{merkle_leaf(view_of(layout))};
  std::vector<uint8_t> bytes;
  for (const nn::Parameter& p : task.parameters()) {
    bytes.resize(static_cast<size_t>(p.tensor->elements()) * sizeof(float));
    p.tensor->read(bytes.data(), bytes.size());
    add_pieces(leaves, bytes);
  }
  return merkle_root(leaves);
}

}  // namespace kontor::swarm
