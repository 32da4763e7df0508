// Texts as tokens: a vocabulary of bytes, and windows drawn by a counter generator.
#include "nn/corpus.h"

#include <algorithm>

#include "base/error.h"
#include "base/threefry.h"

namespace kontor::inline v0 {
namespace {

constexpr uint64_t kWindowUse =
    0x77696e646f77;             // "window": keeps these draws apart from others of the same seed
constexpr int64_t kLeast = 20;  // bytes: of fewer, a tenth has no token with one that follows
constexpr size_t kScanned = size_t{64}
                            << 20;  // bytes: reading more to find what occurs takes longer than learning it

std::vector<int> occurring(std::string_view text) {
  std::array<bool, 256> occurs{};
  if (text.size() > kScanned) occurs.fill(true);
  else
    for (const char c : text) occurs[static_cast<unsigned char>(c)] = true;
  std::vector<int> out;
  for (int b = 0; b < 256; ++b)
    if (occurs[static_cast<size_t>(b)]) out.push_back(b);
  return out;
}

MappedFile mapped(const std::string& path) {
  MappedFile file(path);
  const auto size = static_cast<int64_t>(file.bytes().size());
  if (size < kLeast)
    fail("{}: a text of {} bytes; needs {} to learn from and to check by", path, size, kLeast);
  return file;
}

}  // namespace

Vocabulary::Vocabulary(std::vector<int> bytes, const std::string& source) : bytes_(std::move(bytes)) {
  tokens_.fill(-1);
  if (bytes_.empty() || bytes_.size() > 256) fail("{}: a vocabulary of {} bytes", source, bytes_.size());
  for (size_t i = 0; i < bytes_.size(); ++i) {
    if (bytes_[i] < 0 || bytes_[i] > 255 || (i > 0 && bytes_[i] <= bytes_[i - 1]))
      fail("{}: {} is out of order in a vocabulary of bytes", source, bytes_[i]);
    tokens_[static_cast<size_t>(bytes_[i])] = static_cast<int64_t>(i);
  }
}

Corpus::Corpus(const std::string& path)
    : path_(path), file_(mapped(path)), vocabulary_(occurring(file_.text()), path) {}

Corpus::Corpus(const std::string& path, Vocabulary vocabulary)
    : path_(path), file_(mapped(path)), vocabulary_(std::move(vocabulary)) {}

void Corpus::check_context(int64_t context) const {
  if (context + 1 > validation())
    fail("{}: a context of {} is longer than what there is to check by, {} of {} bytes", path_, context,
         validation(), size());
}

void Corpus::add(Windows& out, int64_t begin, int64_t context) const {
  const std::string_view text =
      file_.text().substr(static_cast<size_t>(begin), static_cast<size_t>(context) + 1);
  for (size_t i = 0; i < text.size(); ++i) {
    const int64_t token = vocabulary_.token(text[i]);
    if (token < 0)
      fail("{}: byte {} at offset {} is not in the vocabulary", path_, static_cast<unsigned char>(text[i]),
           static_cast<size_t>(begin) + i);
    if (i + 1 < text.size()) out.ids.push_back(static_cast<int32_t>(token));
    if (i > 0) out.next.push_back(static_cast<int32_t>(token));
  }
  ++out.count;
}

Windows Corpus::batch(int64_t step, int64_t count, int64_t context, uint64_t seed) const {
  Windows out;
  const uint64_t key = subkey(seed, kWindowUse), begins = static_cast<uint64_t>(training() - context);
  for (int64_t i = 0; i < count; ++i)
    add(out, static_cast<int64_t>(random_below(key, static_cast<uint64_t>(step * count + i), begins)),
        context);
  return out;
}

Windows Corpus::validation_batch(int64_t first, int64_t stride, int64_t count, int64_t context) const {
  Windows out;
  for (int64_t i = 0; i < count; ++i) add(out, training() + (first + i * stride) * context, context);
  return out;
}

}  // namespace kontor::inline v0
