// Datasets, samplers and the thread that works ahead of the training loop.
#include "nn/dataset.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

#include <unistd.h>

#include "base/error.h"
#include "base/lasting.h"
#include "base/process.h"
#include "base/threefry.h"
#include "nn/idx.h"

namespace kontor::inline v0 {
namespace {

constexpr uint64_t kSampleUse =
    0x73616d706c65;  // "sample": keeps these draws apart from others of the same seed

/// The name with or without ".gz"; the plain file first, since it is quicker to read.
std::string find_idx(const std::string& folder, const std::string& name) {
  for (const char* ending : {"", ".gz"}) {
    const std::string path = folder + "/" + name + ending;
    if (::access(path.c_str(), F_OK) == 0) return path;
  }
  fail(
      "no MNIST in {}: neither {} nor {}.gz is there (looked for {{train,t10k}}-images-idx3-ubyte[.gz] and "
      "{{train,t10k}}-labels-idx1-ubyte[.gz])",
      folder, name, name);
}

void check_labels(const std::string& path, const Dataset& data) {
  for (size_t i = 0; i < data.labels.size(); ++i)
    if (data.labels[i] >= data.classes)
      fail("{}: label {} at offset {} is not below {}", path, data.labels[i], 8 + i, data.classes);
}

}  // namespace

Dataset load_mnist(const std::string& folder, Split split) {
  const std::string prefix = split == Split::Train ? "train" : "t10k";
  const std::string image_path = find_idx(folder, prefix + "-images-idx3-ubyte");
  const std::string label_path = find_idx(folder, prefix + "-labels-idx1-ubyte");
  IdxFile images(image_path, 3), labels(label_path, 1);
  const std::vector<int64_t>& size = images.shape();
  if (size[0] != labels.shape()[0])
    fail("{} holds {} images, but {} holds {} labels", image_path, size[0], label_path, labels.shape()[0]);
  if (size[0] == 0 || size[1] == 0 || size[2] == 0)
    fail("{}: no image: {} x {} x {}", image_path, size[0], size[1], size[2]);
  Dataset data;
  data.count = size[0];
  data.rows = size[1];
  data.cols = size[2];
  data.labels = labels.read();
  check_labels(label_path, data);
  data.images = images.read();
  return data;
}

Dataset chosen_samples(const Dataset& data, std::span<const int64_t> samples) {
  Batch all = gather(data, samples);
  return {static_cast<int64_t>(samples.size()),
          data.rows,
          data.cols,
          data.classes,
          std::move(all.images),
          std::move(all.labels)};
}

namespace {

Dataset by_label(const Dataset& data, std::span<const int64_t> labels, bool with) {
  std::vector<bool> named(static_cast<size_t>(data.classes));
  for (const int64_t l : labels) {
    if (l < 0 || l >= data.classes) fail("dataset: label {} is not below {}", l, data.classes);
    named[static_cast<size_t>(l)] = true;
  }
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < data.count; ++i)
    if (named[data.labels[static_cast<size_t>(i)]] == with) samples.push_back(i);
  if (samples.empty())
    fail("dataset: none of {} samples is left {} labels {}", data.count, with ? "with" : "without",
         fmt::join(labels, ","));
  return chosen_samples(data, samples);
}

}  // namespace

Dataset with_labels(const Dataset& data, std::span<const int64_t> labels) {
  return by_label(data, labels, true);
}

Dataset without_labels(const Dataset& data, std::span<const int64_t> labels) {
  return by_label(data, labels, false);
}

Dataset first_samples(const Dataset& data, int64_t count) {
  if (count < 1 || count > data.count) fail("dataset: the first {} of {} samples", count, data.count);
  std::vector<int64_t> samples(static_cast<size_t>(count));
  std::iota(samples.begin(), samples.end(), 0);
  return chosen_samples(data, samples);
}

Batch gather(const Dataset& data, std::span<const int64_t> samples) {
  const auto size = static_cast<size_t>(data.rows * data.cols);
  Batch batch;
  batch.images.resize(samples.size() * size);
  batch.labels.resize(samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i] < 0 || samples[i] >= data.count)
      fail("sample {} of a dataset of {}", samples[i], data.count);
    const auto at = static_cast<size_t>(samples[i]);
    std::memcpy(&batch.images[i * size], &data.images[at * size], size);
    batch.labels[i] = data.labels[at];
  }
  return batch;
}

std::vector<int64_t> Sampler::samples(int64_t step) const {
  if (count <= 0 || batch <= 0 || step < 0)
    fail("sampler: step {}, batch {} of {} samples", step, batch, count);
  const uint64_t key = subkey(seed, kSampleUse), total = static_cast<uint64_t>(count);
  std::vector<int64_t> result(static_cast<size_t>(batch));
  uint64_t place = static_cast<uint64_t>(step) * static_cast<uint64_t>(batch);
  for (int64_t& sample : result) {
    const uint64_t drawn = sampling == Sampling::Replacement
                               ? random_below(key, place, total)
                               : permuted(subkey(key, place / total), total, place % total);
    sample = static_cast<int64_t>(drawn);
    ++place;
  }
  return result;
}

struct Prefetcher::Shared {
  std::function<Batch(int64_t)> make;
  int64_t step;
  size_t depth;
  const uint32_t generation = process_generation();

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Batch> store;   // guarded by mutex, as the two below
  std::exception_ptr error;  // ends the store: nothing follows it
  bool stop = false;
  std::thread thread;

  void run() {
    try {
      for (;; ++step) {
        {
          std::unique_lock lock(mutex);
          changed.wait(lock, [&] { return stop || store.size() < depth; });
          if (stop) return;
        }
        Batch batch = make(step);
        batch.step = step;
        put(std::move(batch));
      }
    } catch (...) {
      std::lock_guard lock(mutex);
      error = std::current_exception();
    }
    changed.notify_all();
  }

  void put(Batch batch) {
    std::lock_guard lock(mutex);
    store.push_back(std::move(batch));
    changed.notify_all();
  }

  ~Shared() {
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    changed.notify_all();
    if (thread.joinable()) thread.join();
  }
};

Prefetcher::Prefetcher(std::function<Batch(int64_t step)> make, int64_t first, int depth)
    : shared_(new Shared) {
  if (depth < 1) fail("prefetch: depth {}", depth);
  shared_->make = std::move(make);
  shared_->step = first;
  shared_->depth = static_cast<size_t>(depth);
  try {
    shared_->thread = std::thread(&Shared::run, shared_.get());
  } catch (const std::system_error& error) {
    fail("prefetch: no thread can be started: {}", error.what());
  }
}

Prefetcher::Prefetcher(const Dataset& data, const Sampler& sampler, int64_t first, int depth)
    : Prefetcher(
          [&data, sampler](int64_t step) {
            const std::vector<int64_t> samples = sampler.samples(step);
            return gather(data, samples);
          },
          first, depth) {
  // Said here and not by the first next(), since it is the caller's mistake.
  if (sampler.batch <= 0 || sampler.count <= 0 || sampler.count > data.count)
    fail("prefetch: batch {} of {} samples, from a dataset of {}", sampler.batch, sampler.count, data.count);
}

// In a forked child the thread is gone, and what it waited on would be waited for in vain.
void Prefetcher::End::operator()(Shared* shared) const {
  if (shared->generation == process_generation()) delete shared;
  else keep_forever(shared);
}

Prefetcher::~Prefetcher() = default;
Prefetcher::Prefetcher(Prefetcher&&) noexcept = default;
Prefetcher& Prefetcher::operator=(Prefetcher&&) noexcept = default;

Batch Prefetcher::next() {
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return !shared_->store.empty() || shared_->error; });
  if (shared_->store.empty()) std::rethrow_exception(shared_->error);
  Batch batch = std::move(shared_->store.front());
  shared_->store.pop_front();
  lock.unlock();
  shared_->changed.notify_all();
  return batch;
}

}  // namespace kontor::inline v0
