// A text to learn: bytes as tokens, of which the last tenth is kept for validation. The file is mapped and never read whole.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace kontor::inline v0 {

/// The bytes that are tokens, ascending; token t is bytes[t].
class Vocabulary {
 public:
  /// Throws Error that names the source if they are none, more than 256, or not ascending.
  Vocabulary(std::vector<int> bytes, const std::string& source);
  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  const std::vector<int>& bytes() const { return bytes_; }
  char byte(int64_t token) const { return static_cast<char>(bytes_[static_cast<size_t>(token)]); }
  /// -1: it has no such byte.
  int64_t token(char byte) const { return tokens_[static_cast<unsigned char>(byte)]; }

 private:
  std::vector<int> bytes_;
  std::array<int64_t, 256> tokens_{};
};

/// Windows of a text: tokens [count, context] and those that follow each.
struct Windows {
  int64_t count = 0;
  std::vector<int32_t> ids, next;
};

class Corpus {
 public:
  /// Throws Error if the file has less than 20 bytes. The vocabulary is what occurs in it; of more than 64 MiB, all 256 bytes.
  explicit Corpus(const std::string& path);
  /// With the vocabulary of a model. What it lacks is said when it is met.
  Corpus(const std::string& path, Vocabulary vocabulary);

  const std::string& path() const { return path_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  int64_t size() const { return static_cast<int64_t>(file_.bytes().size()); }
  int64_t training() const { return size() - validation(); }  ///< bytes
  int64_t validation() const { return size() / 10; }
  /// Throws Error if training or validation has no window of this context.
  void check_context(int64_t context) const;
  /// The windows of a step: a pure function of seed and step.
  Windows batch(int64_t step, int64_t count, int64_t context, uint64_t seed) const;
  /// How many windows of the validation follow one another, and `count` of them from number `first` on, every `stride`-th.
  int64_t validation_windows(int64_t context) const { return (validation() - 1) / context; }
  Windows validation_batch(int64_t first, int64_t stride, int64_t count, int64_t context) const;

 private:
  std::string path_;
  MappedFile file_;
  Vocabulary vocabulary_;
  void add(Windows& out, int64_t begin, int64_t context) const;
};

}  // namespace kontor::inline v0
