// Texts as tokens: what their vocabulary is made of, and windows drawn by a counter generator.
#include "nn/corpus.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/threefry.h"

namespace kontor::inline v0 {
namespace {

constexpr uint64_t kWindowUse =
    0x77696e646f77;             // "window": keeps these draws apart from others of the same seed
constexpr int64_t kLeast = 20;  // bytes: of fewer, a tenth has no token with one that follows
constexpr size_t kScanned = size_t{64}
                            << 20;  // bytes: reading more to find what occurs takes longer than learning it

// Bytes that are made into pairs or tokens at once: of more, parts, as what a longer reading would find is little.
constexpr size_t kRead = size_t{8} << 20, kPart = size_t{1} << 16;

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

// The text, or parts of it that begin as far from each other and have kRead bytes together.
std::vector<std::string_view> parts_of(std::string_view text) {
  if (text.size() <= kRead) return {text};
  std::vector<std::string_view> out;
  constexpr size_t count = kRead / kPart;
  for (size_t i = 0; i < count; ++i) out.push_back(text.substr(i * (text.size() / count), kPart));
  return out;
}

Vocabulary vocabulary_from(std::string_view text, int64_t tokens, const std::string& path) {
  if (tokens == 0) return Vocabulary(occurring(text), path);
  return learn_pairs(parts_of(text.substr(0, text.size() - text.size() / 10)), tokens, path);
}

}  // namespace

Corpus::Corpus(const std::string& path, int64_t tokens)
    : path_(path), file_(mapped(path)), vocabulary_(vocabulary_from(file_.text(), tokens, path)) {
  encode_validation();
}

Corpus::Corpus(const std::string& path, Vocabulary vocabulary)
    : path_(path), file_(mapped(path)), vocabulary_(std::move(vocabulary)) {
  encode_validation();
}

void Corpus::encode_validation() {
  if (vocabulary_.pairs().empty()) return;
  for (const std::string_view part : parts_of(file_.text().substr(text().size()))) {
    vocabulary_.encode(part, checked_);
    checked_bytes_ += static_cast<int64_t>(part.size());
  }
}

double Corpus::bytes_per_token() const {
  if (checked_.empty()) return 1;
  return static_cast<double>(checked_bytes_) / static_cast<double>(checked_.size());
}

// Where the last word begins from which on there are enough tokens, or -1.
int64_t Corpus::last_begin(int64_t context) const {
  const auto needed = static_cast<size_t>(context) + 1;
  if (vocabulary_.pairs().empty()) return training() - static_cast<int64_t>(needed);
  for (size_t read = 16 * needed;; read *= 2) {
    std::vector<int32_t> tokens;
    std::vector<std::pair<size_t, size_t>> words;  // where each begins, and the tokens before it
    size_t at = read < text().size() ? vocabulary_.word_start(text(), text().size() - read) : 0;
    const bool all = at == 0;
    while (at < text().size()) {
      words.emplace_back(at, tokens.size());
      at += vocabulary_.encode(text().substr(at), tokens, 1);
    }
    for (auto word = words.rbegin(); word != words.rend(); ++word)
      if (tokens.size() - word->second >= needed) return static_cast<int64_t>(word->first);
    if (all) return -1;
  }
}

void Corpus::check_context(int64_t context) const {
  if (!checked_.empty() && context + 1 > static_cast<int64_t>(checked_.size()))
    fail("{}: a context of {} tokens is longer than what there is to check by, {} tokens in {} of {} bytes",
         path_, context, checked_.size(), validation(), size());
  if (checked_.empty() && context + 1 > validation())
    fail("{}: a context of {} is longer than what there is to check by, {} of {} bytes", path_, context,
         validation(), size());
  if (last_begin(context) < 0)
    fail("{}: a context of {} is longer than what there is to learn from, {} bytes", path_, context,
         training());
}

void Corpus::add(Windows& out, const int32_t* tokens, int64_t context) const {
  out.ids.insert(out.ids.end(), tokens, tokens + context);
  out.next.insert(out.next.end(), tokens + 1, tokens + context + 1);
  for (int64_t i = 1; i <= context; ++i)
    out.bytes += static_cast<int64_t>(vocabulary_.text(tokens[i]).size());
  ++out.count;
}

std::vector<int32_t> Corpus::tokens_from(int64_t begin, int64_t most) const {
  std::vector<int32_t> out;
  const auto at = static_cast<size_t>(begin);
  if (!vocabulary_.pairs().empty()) {
    vocabulary_.encode(text().substr(at), out, static_cast<size_t>(most));
    return out;
  }
  const std::string_view from = file_.text().substr(at, static_cast<size_t>(most));
  if (const size_t i = vocabulary_.unknown(from); i < from.size())
    fail("{}: byte {} at offset {} is not in the vocabulary", path_, static_cast<unsigned char>(from[i]),
         at + i);
  vocabulary_.encode(from, out);
  return out;
}

Windows Corpus::batch(int64_t step, int64_t count, int64_t context, uint64_t seed) const {
  Windows out;
  const int64_t last = last_begin(context), needed = context + 1;
  const uint64_t key = subkey(seed, kWindowUse), begins = static_cast<uint64_t>(last + 1);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t drawn = random_below(key, static_cast<uint64_t>(step * count + i), begins);
    const size_t begin = vocabulary_.word_start(text(), static_cast<size_t>(drawn));
    std::vector<int32_t> tokens = tokens_from(std::min(static_cast<int64_t>(begin), last), needed);
    // Cut elsewhere, a row without words may be fewer tokens than behind the last place.
    if (static_cast<int64_t>(tokens.size()) < needed) tokens = tokens_from(last, needed);
    add(out, tokens.data(), context);
  }
  return out;
}

int64_t Corpus::validation_windows(int64_t context) const {
  const int64_t tokens = checked_.empty() ? validation() : static_cast<int64_t>(checked_.size());
  return (tokens - 1) / context;
}

Windows Corpus::validation_batch(int64_t first, int64_t stride, int64_t count, int64_t context) const {
  Windows out;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = (first + i * stride) * context;
    if (checked_.empty()) add(out, tokens_from(training() + at, context + 1).data(), context);
    else add(out, &checked_[static_cast<size_t>(at)], context);
  }
  return out;
}

}  // namespace kontor::inline v0
