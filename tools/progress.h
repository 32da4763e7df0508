// The line that shows how a run goes: rewritten in place on a terminal, else a plain line now and then.
#pragma once
#include <cstdint>
#include <string>

namespace kontor::tools {

class Progress {
 public:
  /// After step `first`, which was done before; `label` stands before each line.
  explicit Progress(int64_t first, std::string label = "");
  /// Of `last` steps; `failed`: losses that were not finite so far.
  void show(int64_t step, int64_t last, double loss, double accuracy, int64_t failed);
  /// The same of texts: `tokens` a step, the newest loss of the validation (NaN: none yet).
  void show_text(int64_t step, int64_t last, double loss, double tokens, double validation);
  /// A line of its own above the progress.
  void say(const std::string& line);
  void finish();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  int64_t first_;
  std::string label_;
  double begin_, shown_ = 0, loss_ = 0, accuracy_ = 0;
  bool terminal_, any_ = false;

  bool due(int64_t step, int64_t last);
  double rate(int64_t step) const;
  void print(int64_t step, int64_t last, const std::string& middle);
};

}  // namespace kontor::tools
