// A run: steps, tests and checkpoints in their order.
#include "tools/run.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

#include <kontor/kontor.h>

#include "base/error.h"
#include "base/file.h"
#include "tools/castings.h"
#include "tools/models.h"
#include "tools/progress.h"
#include "tools/resume.h"

namespace kontor::tools {

namespace fs = std::filesystem;

std::atomic<int> interrupted{0};

void catch_interruptions() {
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int number) { interrupted = number; });
}

Data load_data(const std::string& folder) {
  const std::string from = folder.empty() ? shipped_data("mnist-12k") : folder;
  Data data{from, load_mnist(from, Split::Train), load_mnist(from, Split::Test)};
  if (data.train.rows != data.test.rows || data.train.cols != data.test.cols)
    fail("{}: the training images are of {} x {} pixels, the test images of {} x {}", from, data.train.rows,
         data.train.cols, data.test.rows, data.test.cols);
  return data;
}

Run::Run(const Settings& settings, const Data& data, const std::string& folder, std::string label,
         const std::string& checkpoint)
    : settings_(settings), data_(data), own_(folder), folder_(folder), label_(std::move(label)) {
  choose_data();
  Context::current().seed(settings.seed);
  model_ = std::make_unique<nn::MnistCnn>();
  const std::vector<nn::Parameter> parameters = nn::parameters(*model_);
  for (const nn::Parameter& p : parameters) p.tensor->realize();
  if (!settings.init.empty() && checkpoint.empty()) nn::load_parameters(settings.init, parameters);
  trainer_ = make_trainer(settings, *model_);
  evaluation_ = std::make_unique<Evaluation>(*model_);
  if (!checkpoint.empty()) resume(checkpoint);
}

void Run::choose_data() {
  const Settings& s = settings_;
  const int64_t most = s.pool == 0 ? data_.train.count : s.pool;
  if (most > data_.train.count)
    fail("train: --pool {} of the {} training images in {}", s.pool, data_.train.count, data_.folder);
  train_ = subset(data_.train, [&](int label) { return label != s.withhold; }, most);
  const int apart = static_cast<int>(s.withhold >= 0 ? s.withhold : s.new_label);
  tests_.push_back(subset(data_.test, [&](int label) { return label != apart; }));
  if (apart >= 0) tests_.push_back(subset(data_.test, [&](int label) { return label == apart; }));
  if (train_.count == 0)
    fail("train: no training image in {} has another label than {}", data_.folder, s.withhold);
  for (const Dataset& d : tests_)
    if (d.count == 0) fail("train: the test images in {} are all or none of label {}", data_.folder, apart);
}

void Run::resume(const std::string& checkpoint) {
  const fs::path metrics = fs::path(checkpoint).parent_path() / "metrics.csv";
  if (fs::exists(metrics)) rows_ = read_rows(metrics.string());
  const nn::Metadata metadata = trainer_->load(checkpoint);
  std::erase_if(rows_, [&](const Row& row) { return row.step > trainer_->steps(); });
  const auto it = metadata.find("tflop");
  if (it != metadata.end()) tflop_ = parse_work(it->second, checkpoint);
  else if (!rows_.empty()) tflop_ = rows_.back().tflop;  // a checkpoint of a version that did not say
}

// Steps that the run will have in all.
int64_t Run::planned(double step_tflop) const {
  if (settings_.tflop == 0 || step_tflop <= 0) return settings_.steps;
  const double steps = settings_.tflop / step_tflop;
  return steps < static_cast<double>(settings_.steps) ? static_cast<int64_t>(steps) : settings_.steps;
}

// The learning rate of the step after `done`, where it falls along a line.
void Run::choose_rate(int64_t done, int64_t steps) {
  if (settings_.lr_schedule == "linear" && done < steps)
    trainer_->set_learning_rate(settings_.lr * (1 - static_cast<double>(done) / static_cast<double>(steps)));
}

bool Run::due(int64_t step, int64_t every) const { return every > 0 && step % every == 0; }

void Run::execute() {
  const int64_t first = trainer_->steps();
  Prefetcher batches(train_, Sampler{train_.count, settings_.batch, settings_.seed, Sampling::Replacement},
                     first);
  Progress progress(first, label_);
  double step_tflop = 0;
  if (first > 0 && settings_.tflop == 0) choose_rate(first, settings_.steps);  // these may be others now
  bool last = first >= settings_.steps || (settings_.tflop > 0 && first > 0 && tflop_ >= settings_.tflop);
  while (!last) {
    const Batch batch = batches.next();
    const nn::Metrics m = trainer_->step(images_of(train_, batch), Tensor::from(batch.labels));
    record(m);
    step_tflop = m.operations * 1e-12;
    const int64_t steps = planned(step_tflop);
    choose_rate(m.step, steps);  // before a checkpoint, which has the next step's
    last = m.step >= settings_.steps || interrupted != 0 ||
           (settings_.tflop > 0 && tflop_ + step_tflop > settings_.tflop);
    tell();
    progress.show(m.step, steps, m.loss, m.accuracy, failed_);
    const int64_t every = settings_.test_every > 0 ? settings_.test_every : std::max<int64_t>(1, steps / 10);
    if (last || due(m.step, every)) test(rows_.back());
    if (!last && due(m.step, settings_.checkpoint_every)) checkpoint();
  }
  progress.finish();
  if (rows_.empty())
    rows_.push_back(
        {.step = first, .loss = Row::kNone, .learning_rate = trainer_->learning_rate(), .tflop = tflop_});
  if (std::isnan(rows_.back().test)) test(rows_.back());  // nothing was left to do
  write_files();
}

void Run::record(const nn::Metrics& m) {
  const Row before = rows_.empty() ? Row{} : rows_.back();
  tflop_ += m.operations * 1e-12;
  failed_ += m.failed;
  rows_.push_back({.step = m.step,
                   .loss = m.loss,
                   .accuracy = m.accuracy,
                   .learning_rate = trainer_->learning_rate(),
                   .seconds = before.seconds + m.seconds,
                   .tflop = tflop_});
}

// The trainer's first warning; the progress line counts what follows.
void Run::tell() {
  const std::vector<std::string> warnings = trainer_->take_warnings();
  if (warnings.empty() || std::exchange(told_, true)) return;
  fmt::print(stderr, "{}kontor: {}\n", isatty(STDOUT_FILENO) != 0 ? "\n" : "", warnings.front());
}

void Run::test(Row& row) {
  double right = 0, images = 0;
  for (const Dataset& d : tests_) {
    const double accuracy = evaluation_->accuracy(d);
    right += accuracy * static_cast<double>(d.count), images += static_cast<double>(d.count);
    if (tests_.size() > 1) (&d == &tests_[0] ? row.old : row.fresh) = accuracy;
  }
  row.test = right / images;
}

void Run::checkpoint() {
  write_file(folder_ + "/metrics.csv", format_rows(rows_));
  keep_checkpoint(folder_);
  nn::Metadata about = about_run(settings_, settings_.preset);
  about["model"] = "mnist-cnn", about["tflop"] = fmt::format("{:.17g}", tflop_);
  trainer_->save(folder_ + "/checkpoint.safetensors", about);
}

void Run::write_files() {
  checkpoint();
  const WideParameters wide(nn::parameters(*model_));
  nn::save_parameters(folder_ + "/model.safetensors", wide.parameters,
                      {{"model", "mnist-cnn"}, {"test_accuracy", fmt::format("{:.4f}", rows_.back().test)}});
  write_charts(folder_ + "/curve", charts_of(rows_));
}

}  // namespace kontor::tools
