// The progress line.
#include "tools/progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <fmt/format.h>

namespace kontor::tools {

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Progress::Progress(int64_t first, std::string label)
    : first_(first), label_(std::move(label)), begin_(now()), terminal_(isatty(STDOUT_FILENO) != 0) {}

// As minutes and seconds; a rate that was measured over no time makes no number of it.
static std::string clock_text(double seconds) {
  if (!(seconds < 1e9)) return "?";
  const auto whole = static_cast<int64_t>(seconds);
  return fmt::format("{:d}:{:02d}", whole / 60, whole % 60);
}

Progress::~Progress() { finish(); }

bool Progress::due(int64_t step, int64_t last) {
  const double t = now();
  if (step < last && t - shown_ < (terminal_ ? 0.1 : 5.0)) return false;
  shown_ = t;
  return true;
}

double Progress::rate(int64_t step) const { return static_cast<double>(step - first_) / (shown_ - begin_); }

void Progress::print(int64_t step, int64_t last, const std::string& middle) {
  const double left = static_cast<double>(std::max<int64_t>(0, last - step)) / rate(step);
  fmt::print("{}{}step {:>5}/{}  loss {:.4f}  {}  {} left{}", terminal_ ? "\r" : "", label_, step, last,
             loss_, middle, clock_text(left), terminal_ ? "\x1b[K" : "\n");
  std::fflush(stdout);
}

void Progress::show(int64_t step, int64_t last, double loss, double accuracy, int64_t failed) {
  // Single batches are noisy: the line shows a mean over about the last twenty.
  const double weight = any_ ? 0.05 : 1;
  loss_ += weight * (loss - loss_), accuracy_ += weight * (accuracy - accuracy_);
  any_ = true;
  if (!due(step, last)) return;
  const std::string lost = failed > 0 ? fmt::format("  {} losses not finite", failed) : "";
  print(step, last, fmt::format("accuracy {:5.1f} %{}  {:.1f} steps/s", 100 * accuracy_, lost, rate(step)));
}

void Progress::show_text(int64_t step, int64_t last, double loss, double tokens, double validation) {
  loss_ += (any_ ? 0.05 : 1) * (loss - loss_);
  any_ = true;
  if (!due(step, last)) return;
  const std::string checked = validation == validation ? fmt::format("validation {:.4f}  ", validation) : "";
  print(step, last, fmt::format("{}{:.0f} tokens/s", checked, tokens * rate(step)));
}

void Progress::say(const std::string& line) {
  fmt::print("{}{}\n", terminal_ && any_ ? "\r\x1b[K" : "", line);
  std::fflush(stdout);
}

void Progress::finish() {
  if (terminal_ && any_) fmt::print("\n");
  any_ = false;
}

}  // namespace kontor::tools
