// One training run: its data, its steps, what it records and the files it leaves.
#pragma once
#include <atomic>
#include <csignal>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <kontor/nn.h>

#include "nn/dataset.h"
#include "tools/chart.h"
#include "tools/evaluate.h"
#include "tools/own_folder.h"
#include "tools/settings.h"

namespace kontor::tools {

/// The signal that asked for an end, or 0: runs end after the step they are at, with a checkpoint.
extern std::atomic<int> interrupted;
/// Ctrl-C and SIGTERM set `interrupted` from now on.
void catch_interruptions();

/// What a run is trained and tested on.
struct Data {
  std::string folder;
  Dataset train, test;
};
/// The four files of MNIST in a folder ("": data/mnist-12k, which comes with Kontor).
Data load_data(const std::string& folder);
/// The images of some labels only; the first `most` of them.
template <class Keep>
Dataset subset(const Dataset& data, Keep&& keep, int64_t most = std::numeric_limits<int64_t>::max()) {
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < data.count && static_cast<int64_t>(samples.size()) < most; ++i)
    if (keep(data.labels[static_cast<size_t>(i)])) samples.push_back(i);
  return chosen_samples(data, samples);
}

/// A row of metrics.csv; the tests' columns are NaN where there was none, `old` and `fresh` where no label is new.
struct Row {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  int64_t step = 0;
  double loss = 0, accuracy = kNone, learning_rate = 0, seconds = 0, tflop = 0;
  double test = kNone, old = kNone, fresh = kNone;
  double validation = kNone, bits = kNone, tokens = kNone;  // of texts: nats a token, bits a byte
};
/// A column of metrics.csv behind the step.
struct Column {
  const char* name;
  double Row::* value;
  const char* format;
};
std::span<const Column> image_columns();
std::span<const Column> text_columns();
std::string format_rows(const std::vector<Row>& rows, std::span<const Column> columns = image_columns());
/// Throws Error naming the line that is none.
std::vector<Row> read_rows(const std::string& path, std::span<const Column> columns = image_columns());
/// The TFLOP that a checkpoint says were done. Throws Error if that is no such number.
double parse_work(const std::string& text, const std::string& checkpoint);

class Run {
 public:
  /// Of the default Context, whose random numbers begin anew. `label` stands before the progress ("" says nothing).
  /// With a `checkpoint` it goes on from that, with the rows of the metrics.csv beside it. Throws Error if another run
  /// has the folder.
  Run(const Settings& settings, const Data& data, const std::string& folder, std::string label = "",
      const std::string& checkpoint = "");
  /// Trains until the steps or the work are done or a signal comes, and writes the files.
  void execute();

  const std::vector<Row>& rows() const { return rows_; }
  const Dataset& training_data() const { return train_; }

 private:
  Settings settings_;
  const Data& data_;
  OwnFolder own_;
  std::string folder_, label_;
  Dataset train_;
  std::vector<Dataset> tests_;  // one, or that of the old labels and that of the new one
  std::unique_ptr<nn::MnistCnn> model_;
  std::unique_ptr<nn::Trainer> trainer_;
  std::unique_ptr<Evaluation> evaluation_;
  std::vector<Row> rows_;
  double tflop_ = 0;    // work done, exact where the rows are rounded
  int64_t failed_ = 0;  // losses that were not finite
  bool told_ = false;

  void choose_data();
  void resume(const std::string& checkpoint);
  void tell();
  int64_t planned(double step_tflop) const;
  void choose_rate(int64_t done, int64_t steps);
  bool due(int64_t step, int64_t every) const;
  void record(const nn::Metrics& metrics);
  void test(Row& row);
  void checkpoint();
  void write_files();
};

/// Keeps a folder's newest checkpoint as the one before it: at every moment there is a whole one under the usual name.
void keep_checkpoint(const std::string& folder);
/// Peak memory of the process.
double peak_megabytes();
/// Loss and accuracies of one run.
std::vector<Chart> charts_of(const std::vector<Row>& rows);
/// Losses of training and validation.
std::vector<Chart> text_charts(const std::vector<Row>& rows);
/// Writes `stem`.svg and `stem`.png.
void write_charts(const std::string& stem, std::span<const Chart> charts);

}  // namespace kontor::tools
