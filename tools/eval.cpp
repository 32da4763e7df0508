// kontor eval: the accuracy of a saved model, and some digits with what it takes them for; the loss of a GPT.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>

#include <kontor/kontor.h>
#include <nlohmann/json.hpp>

#include "backends/backend.h"
#include "base/error.h"
#include "tools/castings.h"
#include "tools/evaluate.h"
#include "tools/models.h"
#include "tools/run.h"
#include "tools/text_model.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

constexpr int64_t evaluation_batch = 250;

Batch rows(const Dataset& data, int64_t begin, int64_t count) {
  std::vector<int64_t> samples(static_cast<size_t>(count));
  std::iota(samples.begin(), samples.end(), begin);
  return gather(data, samples);
}

}  // namespace

Tensor images_of(const Dataset& data, const Batch& batch) {
  return Tensor::from(batch.images, {static_cast<int64_t>(batch.labels.size()), 1, data.rows, data.cols});
}

Evaluation::Evaluation(const nn::MnistCnn& model)
    : evaluator_(reading_wide(model, [](const nn::MnistCnn& m) { return nn::classification(m); })) {}

double Evaluation::accuracy(const Dataset& data) {
  for (int64_t begin = 0; begin < data.count; begin += evaluation_batch) {
    const Batch batch = rows(data, begin, std::min(evaluation_batch, data.count - begin));
    evaluator_.add(images_of(data, batch), Tensor::from(batch.labels));
  }
  return evaluator_.result().accuracy;
}

namespace {

struct Options {
  std::string model, data, device;
  int64_t show = 6, withhold = -1;
  bool json = false;
};

// Two rows of an image as one line of half blocks.
std::string line_of(const uint8_t* image, int64_t cols, int64_t row) {
  std::string out;
  for (int64_t c = 0; c < cols; c++) {
    const bool top = image[row * cols + c] > 96, bottom = image[(row + 1) * cols + c] > 96;
    out += top && bottom ? "█" : top ? "▀" : bottom ? "▄" : " ";
  }
  return out;
}

void show_digits(const nn::MnistCnn& model, const Dataset& test, int64_t count) {
  count = std::min(count, test.count);
  if (count == 0) return;
  const Batch batch = rows(test, 0, count);
  const std::vector<int64_t> taken = model(images_of(test, batch)).argmax(1).to_vector<int64_t>();
  for (int64_t first = 0; first < count; first += 3) {
    const int64_t last = std::min(first + 3, count);
    for (int64_t r = 2; r + 3 < test.rows; r += 2) {
      for (int64_t i = first; i < last; i++)
        fmt::print("{} ",
                   line_of(&batch.images[static_cast<size_t>(i * test.rows * test.cols)], test.cols, r));
      fmt::print("\n");
    }
    for (int64_t i = first; i < last; i++) {
      const int label = batch.labels[static_cast<size_t>(i)];
      const int64_t as = taken[static_cast<size_t>(i)];
      fmt::print("{:<29}",
                 fmt::format("  taken for {}{}", as, as == label ? "" : fmt::format(", is {}", label)));
    }
    fmt::print("\n\n");
  }
}

// The accuracy on all images, and on those that are, or are not, of a withheld label.
struct Part {
  std::string name, text;
  double accuracy;
  int64_t images;
};

std::vector<Part> parts_of(const nn::MnistCnn& model, const Dataset& test, int64_t withheld) {
  Evaluation evaluation(model);
  if (withheld < 0) return {{"accuracy", "test accuracy", evaluation.accuracy(test), test.count}};
  const Dataset old = subset(test, [&](int label) { return label != withheld; }),
                fresh = subset(test, [&](int label) { return label == withheld; });
  if (old.count == 0 || fresh.count == 0)
    fail("eval: {} of {} images have label {}", fresh.count, test.count, withheld);
  const double a = evaluation.accuracy(old), b = evaluation.accuracy(fresh);
  const double all = (a * static_cast<double>(old.count) + b * static_cast<double>(fresh.count)) /
                     static_cast<double>(test.count);
  return {{"accuracy", "test accuracy", all, test.count},
          {"accuracy_old", fmt::format("without label {}:", withheld), a, old.count},
          {"accuracy_new", fmt::format("label {} alone:", withheld), b, fresh.count}};
}

void print_json(const Options& o, const std::string& data, const std::vector<Part>& parts) {
  nlohmann::ordered_json out = {{"model", o.model}, {"data", data}, {"images", parts[0].images}};
  for (const Part& p : parts) out[p.name] = p.accuracy;
  fmt::print("{}\n", out.dump(1));
}

// Of a GPT: how well it tells what follows, on the last tenth of a text.
void eval_text(const Options& o) {
  const TextModel model = load_text_model(o.model);
  const std::string file = o.data.empty() ? shipped_data("tinyshakespeare.txt") : o.data;
  const Corpus corpus(file, model.vocabulary);
  corpus.check_context(model.gpt->options.context);
  const TextLoss loss = TextEvaluation(*model.gpt, corpus).loss();
  if (o.json) {
    const nlohmann::ordered_json out = {{"model", o.model},
                                        {"data", file},
                                        {"validation_loss", loss.nats},
                                        {"bits_per_byte", loss.bits_per_byte}};
    return fmt::print("{}\n", out.dump(1));
  }
  fmt::print("validation loss {:.4f}, {:.3f} bits a byte of the last {} of {}\n", loss.nats,
             loss.bits_per_byte, corpus.validation(), file);
}

void run(const Options& o) {
  Context::set_default({.device = o.device, .threads = 0, .seed = 0});
  const nn::Metadata about = nn::load_metadata(o.model);
  const auto kind = about.find("model");
  if (kind != about.end() && kind->second == "gpt") return eval_text(o);
  const std::string data = o.data.empty() ? shipped_data("mnist-12k") : o.data;
  if (kind != about.end() && kind->second != "mnist-cnn")
    fail("{}: a model of kind '{}'; eval knows mnist-cnn and gpt", o.model, kind->second);
  nn::MnistCnn model;
  const std::vector<nn::Parameter> parameters = nn::parameters(model);
  nn::load_parameters(o.model, parameters);
  const Dataset test = load_mnist(data, Split::Test);
  const std::vector<Part> parts = parts_of(model, test, o.withhold);
  if (o.json) return print_json(o, data, parts);
  show_digits(model, test, o.show);
  for (const Part& p : parts)
    fmt::print("{} {:.2f} % of {} images from {}\n", p.text, 100 * p.accuracy, p.images, data);
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("eval", "The accuracy of a saved model, or a GPT's loss on a text");
  auto o = std::make_shared<Options>();
  verb->add_option("model", o->model, "A model.safetensors of kontor train")->required();
  verb->add_option("--data", o->data,
                   "Folder with the IDX files of MNIST, or a text (default: what comes with Kontor)")
      ->check(not_empty());
  verb->add_option("--device", o->device, device_names())->check(not_empty());
  verb->add_option("--show", o->show, "How many digits to show")
      ->check(whole(0, 1000))
      ->capture_default_str();
  verb->add_option("--withhold", o->withhold, "Show accuracies of this label and of the others apart")
      ->check(whole(0, 9));
  verb->add_flag("--json", o->json, "As JSON");
  verb->callback([o] { run(*o); });
}

}  // namespace kontor::tools
