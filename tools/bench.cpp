// kontor bench: repeats one case and prints the median time of a run. bench/run.py holds these against peers.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>

#include <kontor/kontor.h>
#include <kontor/nn.h>

#include "base/error.h"
#include "tools/verbs.h"

namespace kontor::inline v0::tools {

namespace {

using Run = std::function<void()>;

Run of(std::vector<Tensor> inputs, std::function<Tensor(std::span<const Tensor>)> body) {
  for (Tensor& t : inputs) t.realize();
  auto function = jit([body](std::span<const Tensor> in) { return std::vector<Tensor>{body(in)}; });
  return [function, inputs]() mutable {
    function(inputs);
    Context::current().synchronise();
  };
}

Run convolution(int64_t channels, int64_t out, int64_t size, int64_t kernel) {
  return of({Tensor::normal({128, channels, size, size}), Tensor::normal({out, channels, kernel, kernel})},
            [](std::span<const Tensor> in) { return in[0].conv2d(in[1]); });
}

Run training_step() {
  auto model = std::make_shared<nn::MnistCnn>();
  auto adam = std::make_unique<nn::Adam>(nn::parameters(*model), 1e-3);
  auto trainer = std::make_shared<nn::BackpropTrainer>(nn::classification(*model), std::move(adam));
  Tensor images = Tensor::randint({128, 1, 28, 28}, 0, 256, DType::U8).realize();
  Tensor labels = Tensor::randint({128}, 0, 10, DType::U8).realize();
  return [model, trainer, images, labels] { trainer->step(images, labels); };
}

Tensor chain(std::span<const Tensor> in) {
  Tensor x = in[0];
  for (int i = 0; i < 64; i++) x = x.matmul(in[1]);
  return x;
}

Run start() {
  return [] { (Tensor::ones({1000}) * 2 + 1).sum().item<float>(); };
}

constexpr int64_t large = int64_t{64} << 20;

const std::map<std::string, std::function<Run()>>& cases() {
  static const std::map<std::string, std::function<Run()>> table = {
      {"matmul_1024",
       [] {
         return of({Tensor::normal({1024, 1024}), Tensor::normal({1024, 1024})},
                   [](std::span<const Tensor> in) { return in[0].matmul(in[1]); });
       }},
      {"conv1", [] { return convolution(1, 32, 28, 5); }},
      {"conv2", [] { return convolution(32, 32, 24, 5); }},
      {"conv3", [] { return convolution(32, 64, 10, 3); }},
      {"conv4", [] { return convolution(64, 64, 8, 3); }},
      {"sum_64m",
       [] { return of({Tensor::uniform({large})}, [](std::span<const Tensor> in) { return in[0].sum(); }); }},
      {"exp_64m",
       [] { return of({Tensor::uniform({large})}, [](std::span<const Tensor> in) { return in[0].exp(); }); }},
      {"softmax",
       [] {
         return of({Tensor::uniform({16384, 4096})},
                   [](std::span<const Tensor> in) { return in[0].softmax(); });
       }},
      {"mnist_step", training_step},
      {"replay_64", [] { return of({Tensor::normal({16, 16}), Tensor::normal({16, 16})}, chain); }},
      {"first_step", training_step},
      {"start_cold", start},
      {"start_warm", start},
  };
  return table;
}

const std::map<std::string, double> parts = {{"replay_64", 64}};  // a run's seconds are divided by this

struct Options {
  std::vector<std::string> names;
  int threads = 0;
  double seconds = 2;
  bool json = false;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median_time(const std::string& name, const Run& run, double budget) {
  run();
  if (name == "first_step" || name.starts_with("start_")) return 0;  // timed from outside, as a whole process
  run();
  std::vector<double> times;
  const double begin = now();
  while (times.size() < 5 || (now() - begin < budget && times.size() < 100000)) {
    const double t = now();
    run();
    times.push_back(now() - t);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2), times.end());
  const auto part = parts.find(name);
  return times[times.size() / 2] / (part == parts.end() ? 1 : part->second);
}

void run_cases(const Options& options) {
  std::string known;
  for (const auto& [name, make] : cases()) known += " " + name;
  if (options.names.empty()) return fmt::print("cases:{}\n", known);
  Context::set_default({.device = {}, .threads = options.threads, .seed = 1});
  for (const std::string& name : options.names) {
    const auto it = cases().find(name);
    if (it == cases().end()) {
      fmt::print(stderr, "kontor: no case '{}'; there are:{}\n", name, known);
      throw Exit{77};
    }
    const double seconds = median_time(name, it->second(), options.seconds);
    const int threads = Context::current().threads();
    if (options.json)
      fmt::print("{{\"case\": \"{}\", \"threads\": {}, \"seconds\": {:.9g}}}\n", name, threads, seconds);
    else fmt::print("{:12} {} threads  {:.6f} ms\n", name, threads, seconds * 1e3);
  }
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("bench", "Times one or more cases; without one, names them");
  auto options = std::make_shared<Options>();
  verb->add_option("case", options->names, "Names of cases");
  verb->add_option("--threads", options->threads, "Threads (0: one a core)")->check(CLI::Range(0, 4096));
  verb->add_option("--seconds", options->seconds, "How long to repeat each")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "One JSON object a line");
  verb->callback([options] { run_cases(*options); });
}

}  // namespace kontor::inline v0::tools
