// kontor train: trains the MNIST network with forward passes only, or by backprop.
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>

#include <kontor/kontor.h>
#include <kontor/marketplace.h>
#include <kontor/nn.h>

#include "base/error.h"
#include "base/file.h"
#include "nn/dataset.h"
#include "nn/chart.h"
#include "tools/evaluate.h"
#include "tools/models.h"
#include "tools/progress.h"
#include "tools/verbs.h"

namespace kontor::inline v0::tools {

namespace {

struct Options {
  std::string dataset = "mnist", method = "marketplace", plan = "star", unit = "per-spec", groups,
              optimizer = "adam";
  std::vector<int64_t> vendors;
  int64_t batch = 0, steps = 0, test_every = 0;
  double lr = 0, lr_decay = -1, probe_scale = 0;
  uint64_t seed = 1;
  std::string device, data, out = "out/mnist", resume;
  int threads = 0;
};

std::atomic<bool> interrupted{false};

// What an option is where it is not given: settings that learn well (bench/RESULTS.md).
struct Defaults {
  int64_t batch, steps;
  double lr, lr_decay, probe_scale;
};
Defaults defaults_of(const Options& o) {
  if (o.method == "backprop") return {64, 400, o.optimizer == "adam" ? 1e-3 : 1e-2, 0, 0};
  if (o.plan == "full") return {512, 1000, 0.1, 1e-5, 0.1};
  return {32, 2400, 0.25, 1e-3, 0.01};
}

void fill_in(Options& o) {
  const Defaults d = defaults_of(o);
  if (o.batch == 0) o.batch = d.batch;
  if (o.steps == 0) o.steps = d.steps;
  if (o.lr == 0) o.lr = d.lr;
  if (o.lr_decay < 0) o.lr_decay = d.lr_decay;
  if (o.probe_scale == 0) o.probe_scale = d.probe_scale;
  if (o.test_every == 0) o.test_every = std::max<int64_t>(1, o.steps / 10);
}

marketplace::Options market(const Options& o) {
  marketplace::Options m;
  m.plan = o.plan == "full" ? marketplace::Plan::Full : marketplace::Plan::Star;
  m.unit = o.unit == "whole" ? marketplace::Unit::Whole : marketplace::Unit::PerGroup;
  m.groups = o.groups.empty() ? marketplace::mnist_groups(m.plan, o.vendors)
                              : marketplace::parse_groups(o.groups, o.vendors);
  m.lr = o.lr, m.lr_decay = o.lr_decay, m.probe_scale = o.probe_scale, m.seed = o.seed;
  return m;
}

std::unique_ptr<nn::Trainer> make_trainer(const Options& o, nn::MnistCnn& model) {
  const nn::Objective objective = nn::classification(model);
  std::vector<nn::Parameter> parameters = nn::parameters(model);
  if (o.method == "marketplace")
    return std::make_unique<marketplace::Trainer>(parameters, objective, market(o));
  std::unique_ptr<nn::Optimizer> optimizer;
  if (o.optimizer == "adam") optimizer = std::make_unique<nn::Adam>(parameters, o.lr);
  else optimizer = std::make_unique<nn::SGD>(parameters, o.lr);
  return std::make_unique<nn::BackpropTrainer>(objective, std::move(optimizer), o.lr_decay);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// One training run: its records, and the files it leaves.
class Run {
 public:
  Run(const Options& o)
      : o_(o),
        data_(o.data.empty() ? shipped_data("mnist-12k") : o.data),
        train_(load_mnist(data_, Split::Train)),
        test_(load_mnist(data_, Split::Test)) {
    Context::set_default({.device = o.device, .threads = o.threads, .seed = o.seed});
    make_folders(o.out);
    model_ = std::make_unique<nn::MnistCnn>();
    for (const nn::Parameter& p : nn::parameters(*model_)) p.tensor->realize();
    trainer_ = make_trainer(o, *model_);
    if (!o.resume.empty()) trainer_->load(o.resume);
    evaluation_ = std::make_unique<Evaluation>(*model_);
  }

  void execute() {
    announce();
    const int64_t first = trainer_->steps();
    Prefetcher batches(train_, Sampler{train_.count, o_.batch, o_.seed, Sampling::Replacement}, first);
    Progress progress(first, o_.steps);
    bool last = first >= o_.steps;
    while (!last) {
      const Batch batch = batches.next();
      const double begin = now();
      const nn::Metrics m = trainer_->step(images_of(train_, batch), Tensor::from(batch.labels));
      training_seconds_ += now() - begin;
      progress.show(m.step, m.loss, m.accuracy);
      last = m.step == o_.steps || interrupted;
      record(m, last || m.step % o_.test_every == 0);
    }
    progress.finish();
    if (trainer_->steps() == first) test();  // nothing was left to do
    finish();
  }

 private:
  const Options& o_;
  std::string data_;
  Dataset train_, test_;
  std::unique_ptr<nn::MnistCnn> model_;
  std::unique_ptr<nn::Trainer> trainer_;
  std::unique_ptr<Evaluation> evaluation_;
  std::string csv_ = "step,loss,accuracy,learning_rate,seconds,tflop,test_accuracy\n";
  Series loss_{.name = "loss", .x = {}, .y = {}, .faint = true},
      accuracy_{.name = "training batch", .x = {}, .y = {}, .faint = true},
      test_accuracy_{.name = "test", .x = {}, .y = {}};
  double training_seconds_ = 0, operations_ = 0, last_accuracy_ = NAN, last_loss_ = NAN;

  void announce() const {
    fmt::print("{} {}, {} training and {} test images from {}\n", o_.method,
               o_.method == "marketplace" ? o_.plan : o_.optimizer, train_.count, test_.count, data_);
    fmt::print("device {}, {} threads; batch {}, steps {}, lr {:g}, decay {:g}, seed {}\n",
               Context::current().device(), Context::current().threads(), o_.batch, o_.steps, o_.lr,
               o_.lr_decay, o_.seed);
    std::fflush(stdout);
  }

  // A row of metrics.csv; the test accuracy is empty where there was no test.
  void record(const nn::Metrics& m, bool tested) {
    operations_ += m.operations;
    last_loss_ = m.loss;
    if (tested) test();
    csv_ += fmt::format("{},{:.6g},{:.5g},{:.6g},{:.4f},{:.6g},{}\n", m.step, m.loss, m.accuracy,
                        trainer_->learning_rate(), training_seconds_, operations_ * 1e-12,
                        tested ? fmt::format("{:.4f}", last_accuracy_) : "");
    const double step = static_cast<double>(m.step);
    loss_.x.push_back(step), loss_.y.push_back(m.loss);
    accuracy_.x.push_back(step), accuracy_.y.push_back(100 * m.accuracy);
  }

  void test() {
    last_accuracy_ = evaluation_->accuracy(test_);
    test_accuracy_.x.push_back(static_cast<double>(trainer_->steps()));
    test_accuracy_.y.push_back(100 * last_accuracy_);
  }

  void finish() {
    const std::string folder = o_.out + "/";
    const nn::Metadata about = {{"model", "mnist-cnn"},
                                {"test_accuracy", fmt::format("{:.4f}", last_accuracy_)}};
    trainer_->save(folder + "checkpoint.safetensors", about);
    const std::vector<nn::Parameter> parameters = nn::parameters(*model_);
    nn::save_parameters(folder + "model.safetensors", parameters, about);
    write_file(folder + "metrics.csv", csv_);
    const Chart charts[] = {{"Loss", "step", "cross-entropy", {loss_}},
                            {"Accuracy", "step", "%", {accuracy_, test_accuracy_}}};
    write_file(folder + "curve.svg", format_svg(charts));
    print_table();
    if (interrupted) {
      fmt::print("stopped; go on with: kontor train --resume {}checkpoint.safetensors\n", folder);
      throw Exit{130};
    }
  }

  void print_table() const {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    fmt::print(
        "\n  steps           {}\n  loss            {:.4f}\n  test accuracy   {:.2f} %\n  training time   {:.1f} s\n"
        "  work            {:.2f} TFLOP, {:.1f} GFLOP/s\n  peak memory     {:.0f} MB\n",
        trainer_->steps(), last_loss_, 100 * last_accuracy_, training_seconds_, operations_ * 1e-12,
        training_seconds_ > 0 ? operations_ * 1e-9 / training_seconds_ : 0.0,
        static_cast<double>(usage.ru_maxrss) / 1024);
    fmt::print("  files           {}/: model.safetensors checkpoint.safetensors metrics.csv curve.svg\n",
               o_.out);
  }
};

void check(const Options& o) {
  if (o.dataset != "mnist") fail("train: no dataset '{}'; there is: mnist", o.dataset);
  if (o.method == "backprop" && (!o.vendors.empty() || !o.groups.empty()))
    fail("train: --vendors and --groups are of --method marketplace, not of backprop");
  if (!o.groups.empty() && o.vendors.empty())
    fail("train: --groups {} needs --vendors, a count for each group", o.groups);
}

void add_numbers(CLI::App* verb, Options& o) {
  verb->add_option("--batch", o.batch, "Samples a step (32; full: 512; backprop: 64)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_option("--steps", o.steps, "Steps in all, those before a resume included (2400)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_option("--test-every", o.test_every,
                   "Steps from one test to the next (a tenth of all); the last step is always tested")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_option("--lr", o.lr, "Learning rate: the length of a step (0.25)")->check(CLI::PositiveNumber);
  verb->add_option("--lr-decay", o.lr_decay, "lr *= 1 - this after each step (1e-3)")
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--probe-scale", o.probe_scale, "Deltas are uniform in +-lr * this (0.01)")
      ->check(CLI::PositiveNumber);
  verb->add_option("--seed", o.seed, "Of weights, batches and deltas")->capture_default_str();
  verb->add_option("--threads", o.threads, "Threads (0: one a core)")->check(CLI::Range(0, 4096));
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("train", "Train a network, by default with forward passes only");
  auto o = std::make_shared<Options>();
  verb->add_option("dataset", o->dataset, "mnist")->capture_default_str();
  verb->add_option("--method", o->method, "marketplace: forward passes only; backprop")
      ->check(CLI::IsMember({"marketplace", "backprop"}))
      ->capture_default_str();
  verb->add_option("--plan", o->plan, "star: one group at a time around a leader; full: vendors crossed (V2)")
      ->check(CLI::IsMember({"star", "full"}))
      ->capture_default_str();
  verb->add_option("--groups", o->groups,
                   "Layers perturbed together, as \"conv1|conv2+norm1|conv3|conv4+norm2|linear\"");
  verb->add_option("--vendors", o->vendors, "Vendors of each group, as 4,4,8,16,128")->delimiter(',');
  verb->add_option("--unit", o->unit, "A step has length lr in each group (per-spec) or in all (whole)")
      ->check(CLI::IsMember({"per-spec", "whole"}))
      ->capture_default_str();
  verb->add_option("--optimizer", o->optimizer, "Of backprop: adam or sgd")
      ->check(CLI::IsMember({"adam", "sgd"}))
      ->capture_default_str();
  add_numbers(verb, *o);
  verb->add_option("--device", o->device, "llvm, opencl, cuda or interp");
  verb->add_option("--data", o->data,
                   "Folder with the four IDX files of MNIST (default: mnist-12k, which comes with Kontor)");
  verb->add_option("--out", o->out, "Folder for model, checkpoint, metrics and curve")->capture_default_str();
  verb->add_option("--resume", o->resume, "Go on from this checkpoint");
  verb->callback([o] {
    check(*o);
    fill_in(*o);
    std::signal(SIGINT, [](int) { interrupted = true; });
    Run(*o).execute();
  });
}

}  // namespace kontor::inline v0::tools
