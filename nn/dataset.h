// Labelled images held in memory, and the batches that a training run draws from them: which samples step t
// gets is a pure function of (seed, t), so a resumed run sees the same batches and any thread may prepare
// them.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kontor::inline v0 {

/// Images u8 [count, rows, cols] and their labels u8 [count], each below `classes`.
struct Dataset {
  int64_t count = 0, rows = 0, cols = 0;
  int classes = 10;
  std::vector<uint8_t> images;
  std::vector<uint8_t> labels;
};

enum class Split : bool { Train, Test };

/// Loads MNIST from a folder with the usual file names, with or without ".gz". Throws Error that lists what
/// was looked for, or says what is wrong with a file (see read_idx), with the counts of images and labels or
/// with a label.
Dataset load_mnist(const std::string& folder, Split split);

/// The samples whose label is (with_labels) or is not (without_labels) one of `labels`, in their order; `classes` stays.
/// Throws Error if a label is not below `classes`, or no sample is left.
Dataset with_labels(const Dataset& data, std::span<const int64_t> labels);
Dataset without_labels(const Dataset& data, std::span<const int64_t> labels);
/// The first `count` samples: a pool to draw from. Throws Error if there are not so many.
Dataset first_samples(const Dataset& data, int64_t count);

/// The images and labels of some samples, in that order: u8 [batch, rows, cols] and u8 [batch].
struct Batch {
  int64_t step = 0;
  std::vector<uint8_t> images;
  std::vector<uint8_t> labels;
};

/// Copies the named samples. Throws Error where an index is out of range.
Batch gather(const Dataset& data, std::span<const int64_t> samples);
/// The same as a dataset of its own.
Dataset chosen_samples(const Dataset& data, std::span<const int64_t> samples);

/// Replacement: each sample is drawn independently, as Marketplace does. Epochs: every sample once, in a new
/// random order each epoch; batches run across the border of epochs, so that all have the same size.
enum class Sampling : bool { Replacement, Epochs };

/// Draws sample numbers below `count`.
struct Sampler {
  int64_t count = 0, batch = 0;
  uint64_t seed = 0;
  Sampling sampling = Sampling::Replacement;

  /// The samples of step 0, 1, ...: [batch].
  std::vector<int64_t> samples(int64_t step) const;
};

/// Prepares batches first, first + 1, ... ahead of their use on a thread of its own, at most `depth` in
/// store. next() is for one consumer; what `make` throws is thrown by the next() that asked for that batch,
/// and by all after it.
class Prefetcher {
 public:
  Prefetcher(std::function<Batch(int64_t step)> make, int64_t first = 0, int depth = 4);
  /// Batches of `data`, which must outlive this. Throws Error where data is empty, or batch not positive.
  Prefetcher(const Dataset& data, const Sampler& sampler, int64_t first = 0, int depth = 4);
  /// Waits for the batch that is being made, drops the rest.
  ~Prefetcher();
  Prefetcher(Prefetcher&&) noexcept;
  Prefetcher& operator=(Prefetcher&&) noexcept;

  Batch next();

 private:
  struct Shared;
  struct End {
    void operator()(Shared* shared) const;
  };
  std::unique_ptr<Shared, End> shared_;
};

}  // namespace kontor::inline v0
