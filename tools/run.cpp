// A run: steps, tests and checkpoints in their order.
#include "tools/run.h"

#include <chrono>
#include <cmath>
#include <filesystem>

#include <kontor/kontor.h>

#include "base/error.h"
#include "base/file.h"
#include "tools/models.h"
#include "tools/progress.h"

namespace kontor::inline v0::tools {

namespace fs = std::filesystem;

std::atomic<bool> interrupted{false};

Data load_data(const std::string& folder) {
  const std::string from = folder.empty() ? shipped_data("mnist-12k") : folder;
  return {from, load_mnist(from, Split::Train), load_mnist(from, Split::Test)};
}

Run::Run(const Settings& settings, const Data& data, std::string folder, std::string label)
    : settings_(settings), data_(data), folder_(std::move(folder)), label_(std::move(label)) {
  make_folders(folder_);
  choose_data();
  Context::current().seed(settings.seed);
  model_ = std::make_unique<nn::MnistCnn>();
  const std::vector<nn::Parameter> parameters = nn::parameters(*model_);
  for (const nn::Parameter& p : parameters) p.tensor->realize();
  if (!settings.init.empty()) nn::load_parameters(settings.init, parameters);
  trainer_ = make_trainer(settings, *model_);
  evaluation_ = std::make_unique<Evaluation>(*model_);
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
  trainer_->load(checkpoint);
  const fs::path metrics = fs::path(checkpoint).parent_path() / "metrics.csv";
  if (!fs::exists(metrics)) return;
  rows_ = read_rows(metrics.string());
  std::erase_if(rows_, [&](const Row& row) { return row.step > trainer_->steps(); });
}

// Steps that the run will have in all.
int64_t Run::planned(double step_tflop) const {
  if (settings_.tflop == 0 || step_tflop <= 0) return settings_.steps;
  return std::min(settings_.steps, static_cast<int64_t>(settings_.tflop / step_tflop));
}

bool Run::due(int64_t step, int64_t every) const { return every > 0 && step % every == 0; }

void Run::execute() {
  const int64_t first = trainer_->steps();
  Prefetcher batches(train_, Sampler{train_.count, settings_.batch, settings_.seed, Sampling::Replacement},
                     first);
  Progress progress(first, label_);
  const auto work = [&] { return rows_.empty() ? 0 : rows_.back().tflop; };
  double step_tflop = 0;
  bool last = first >= settings_.steps || (settings_.tflop > 0 && first > 0 && work() >= settings_.tflop);
  while (!last) {
    const Batch batch = batches.next();
    const nn::Metrics m = trainer_->step(images_of(train_, batch), Tensor::from(batch.labels));
    record(m);
    step_tflop = m.operations * 1e-12;
    const int64_t steps = planned(step_tflop);
    last = m.step >= settings_.steps || interrupted ||
           (settings_.tflop > 0 && work() + step_tflop > settings_.tflop);
    progress.show(m.step, steps, m.loss, m.accuracy);
    const int64_t every = settings_.test_every > 0 ? settings_.test_every : std::max<int64_t>(1, steps / 10);
    if (last || due(m.step, every)) test(rows_.back());
    if (!last && due(m.step, settings_.checkpoint_every)) checkpoint();
  }
  progress.finish();
  if (rows_.empty())
    rows_.push_back({.step = first, .loss = Row::kNone, .learning_rate = trainer_->learning_rate()});
  if (std::isnan(rows_.back().test)) test(rows_.back());  // nothing was left to do
  write_files();
}

void Run::record(const nn::Metrics& m) {
  const Row before = rows_.empty() ? Row{} : rows_.back();
  rows_.push_back({.step = m.step,
                   .loss = m.loss,
                   .accuracy = m.accuracy,
                   .learning_rate = trainer_->learning_rate(),
                   .seconds = before.seconds + m.seconds,
                   .tflop = before.tflop + m.operations * 1e-12});
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

// The newest checkpoint and the one before it; at every moment there is a whole one under the usual name.
void Run::checkpoint() {
  const std::string path = folder_ + "/checkpoint.safetensors",
                    before = folder_ + "/checkpoint-before.safetensors";
  write_file(folder_ + "/metrics.csv", format_rows(rows_));
  std::error_code failed;
  if (fs::exists(path)) {
    fs::remove(before + ".new", failed);
    fs::create_hard_link(path, before + ".new", failed);
    if (failed) fs::copy_file(path, before + ".new", fs::copy_options::overwrite_existing, failed);
    if (!failed) fs::rename(before + ".new", before, failed);
    if (failed) fail("{}: the checkpoint could not be kept: {}", before, failed.message());
  }
  trainer_->save(path, {{"model", "mnist-cnn"}});
}

void Run::write_files() {
  checkpoint();
  const std::vector<nn::Parameter> parameters = nn::parameters(*model_);
  nn::save_parameters(folder_ + "/model.safetensors", parameters,
                      {{"model", "mnist-cnn"}, {"test_accuracy", fmt::format("{:.4f}", rows_.back().test)}});
  write_charts(folder_ + "/curve", charts_of(rows_));
}

}  // namespace kontor::inline v0::tools
