// What the values that a recipe rounds come to in a batch: measured beside the training, whose graph stays as it is.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include <kontor/kontor.h>

#include "scalify/scalify.h"
#include "tools/chart.h"

namespace kontor::tools {

/// A value that is rounded, in one batch. Sizes are those of the data, which is the value over its scale.
struct Rounding {
  std::string name;   ///< "forward matmul 3"
  std::string shape;  ///< "[12, 64, 128]"
  DType format = DType::F32;
  bool of_gradient = false;
  std::string exponent;  ///< of the scale, as it is predicted; an expression where one is measured
  double log2_rms = 0, log2_max = 0;   ///< -inf: all of it is 0
  double underflow = 0, overflow = 0;  ///< the parts that become 0 and that are beyond the greatest number
  double sqnr = 0;                     ///< dB
  double seen = 0;  ///< floor(log2 rms) of the value itself: the exponent that would have been exact
};

/// Measures a model's objective (one that scales are propagated through) batch by batch. It has a graph of its own: forward and
/// backward, and no update.
class Telemetry {
 public:
  Telemetry(nn::Objective objective, const std::vector<nn::Parameter>& parameters);
  /// In the order in which the pass met them. Throws Error if the objective asks for no scales.
  std::vector<Rounding> measure(const Tensor& x, const Tensor& labels);
  int64_t rescales() const { return rescales_; }  ///< exponents that are measured when it runs

 private:
  std::vector<Tensor> record(const Tensor& x, const Tensor& labels);
  nn::Objective objective_;
  std::vector<Tensor*> leaves_;
  std::vector<Rounding> about_;    // what is known when it was recorded
  std::vector<double> exponents_;  // of static scales; NaN
  int64_t rescales_ = 0;
  std::function<std::vector<Tensor>(const Tensor&, const Tensor&)> run_;
};

/// Batches of a run, one step after another.
struct TelemetryLog {
  std::vector<int64_t> steps = {};
  std::vector<std::vector<Rounding>> batches = {};
  /// STEM.json, STEM.csv, and as pictures STEM.svg and STEM.png: how far each value lies from where it was predicted, step by step.
  void write(const std::string& stem) const;
};
/// The batches of steps below `below` of a JSON file that a run wrote. Throws Error naming the file.
TelemetryLog read_telemetry(const std::string& path, int64_t below);

}  // namespace kontor::tools
