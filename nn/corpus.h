// A text to learn: as tokens, of which the last tenth is kept for validation. The file is mapped and never read whole.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "nn/vocabulary.h"

namespace kontor::inline v0 {

/// Windows of a text: tokens [count, context] and those that follow each.
struct Windows {
  int64_t count = 0;
  std::vector<int32_t> ids, next;
  int64_t bytes = 0;  ///< of the tokens that follow, together
};

class Corpus {
 public:
  /// Throws Error if the file has less than 20 bytes. The vocabulary is the bytes that occur in it; of more than 64 MiB, all 256.
  /// With `tokens` above 0, byte pairs learned from what there is to learn from; of more than 8 MiB, from parts of it.
  explicit Corpus(const std::string& path, int64_t tokens = 0);
  /// With the vocabulary of a model. What it lacks is said when it is met.
  Corpus(const std::string& path, Vocabulary vocabulary);

  const std::string& path() const { return path_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  int64_t size() const { return static_cast<int64_t>(file_.bytes().size()); }
  int64_t training() const { return size() - validation(); }  ///< bytes
  int64_t validation() const { return size() / 10; }
  /// Bytes of which a token is made, on average, where there is validation; 1 without pairs.
  double bytes_per_token() const;
  /// Throws Error if training or validation has no window of this context.
  void check_context(int64_t context) const;
  /// The windows of a step, from words on that are drawn: a pure function of seed and step.
  Windows batch(int64_t step, int64_t count, int64_t context, uint64_t seed) const;
  /// How many windows of the validation follow one another, and `count` of them from number `first` on, every `stride`-th. With pairs,
  /// of more than 8 MiB: of parts that begin as far from each other.
  int64_t validation_windows(int64_t context) const;
  Windows validation_batch(int64_t first, int64_t stride, int64_t count, int64_t context) const;

 private:
  std::string path_;
  MappedFile file_;
  Vocabulary vocabulary_;
  std::vector<int32_t> checked_;  // the validation's tokens, if some are pairs
  int64_t checked_bytes_ = 0;

  std::string_view text() const { return file_.text().substr(0, static_cast<size_t>(training())); }
  void encode_validation();
  int64_t last_begin(int64_t context) const;
  std::vector<int32_t> tokens_from(int64_t begin, int64_t most) const;
  void add(Windows& out, const int32_t* tokens, int64_t context) const;
};

}  // namespace kontor::inline v0
