// The line that shows how a run goes: rewritten in place on a terminal, else a plain line now and then.
#pragma once
#include <cstdint>

namespace kontor::inline v0::tools {

class Progress {
 public:
  /// From step `first` (done already) to `last`.
  Progress(int64_t first, int64_t last);
  void show(int64_t step, double loss, double accuracy);
  void finish();

 private:
  int64_t first_, last_;
  double begin_, shown_ = 0, loss_ = 0, accuracy_ = 0;
  bool terminal_, any_ = false;
};

}  // namespace kontor::inline v0::tools
