// One training of a GPT on a text: its settings, its steps and the files it leaves.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/own_folder.h"
#include "tools/run.h"
#include "tools/telemetry.h"
#include "tools/text_model.h"
#include "tools/text_settings.h"

namespace kontor::tools {

class TextRun {
 public:
  /// Of the default Context, whose random numbers begin anew. With a `checkpoint` it goes on from that; `label` stands
  /// before the progress. Throws Error if another run has the folder, or the text is too short.
  TextRun(const TextSettings& settings, const Corpus& corpus, const std::string& folder,
          const std::string& checkpoint, std::string label = "");
  /// Trains until the steps are done or a signal comes, and writes the files.
  void execute();
  const std::vector<Row>& rows() const { return rows_; }
  int64_t parameters() const;
  /// Bytes a parameter of what training keeps from step to step, and of gradients; "" where the method has none of these.
  std::string kept() const;

 private:
  TextSettings settings_;
  const Corpus& corpus_;
  OwnFolder own_;
  std::string folder_, label_;
  std::unique_ptr<nn::Gpt> model_;
  std::unique_ptr<nn::Trainer> trainer_;
  std::unique_ptr<TextEvaluation> evaluation_;
  std::unique_ptr<nn::Generator> generator_;
  std::unique_ptr<Telemetry> telemetry_;  // null: none is asked for
  TelemetryLog log_;
  std::vector<Row> rows_;
  double tflop_ = 0;

  void resume(const std::string& checkpoint);
  void plan(int64_t done, double seconds, double step_tflop);
  void record(const nn::Metrics& metrics);
  void look(int64_t step, const Windows& windows);
  void validate(int64_t most_windows);
  void checkpoint();
  void write_files();
};

}  // namespace kontor::tools
