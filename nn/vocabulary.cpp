// Words, and what their bytes become: the pair that was learned first goes first.
#include "nn/vocabulary.h"

#include <algorithm>

#include "base/error.h"

namespace kontor::inline v0 {
namespace {

enum class Kind : uint8_t { Letter, Digit, Space, Sign };

// Bytes of 128 and above are parts of letters, as almost always in UTF-8.
Kind kind_of(char byte) {
  const auto c = static_cast<unsigned char>(byte);
  if (c == ' ' || (c >= '\t' && c <= '\r')) return Kind::Space;
  if (c >= '0' && c <= '9') return Kind::Digit;
  const auto lower = static_cast<unsigned char>(c | 0x20);
  return c >= 128 || (lower >= 'a' && lower <= 'z') ? Kind::Letter : Kind::Sign;
}

// Whether a word begins at i > 0, as far as the bytes beside it say: "a  b" is "a", " ", " b".
bool begins(std::string_view text, size_t i) {
  const bool leads = i + 1 < text.size() && text[i] == ' ' && kind_of(text[i + 1]) != Kind::Space;
  if (leads) return true;
  if (text[i - 1] == ' ' && kind_of(text[i]) != Kind::Space) return false;
  return kind_of(text[i - 1]) != kind_of(text[i]);
}

uint64_t key_of(TokenPair pair) {
  return static_cast<uint64_t>(static_cast<uint32_t>(pair.first)) << 32 | static_cast<uint32_t>(pair.second);
}

}  // namespace

size_t word_length(std::string_view text, size_t begin) {
  const size_t end = std::min(text.size(), begin + longest_word);
  for (size_t i = begin + 1; i < end; ++i)
    if (begins(text, i)) return i - begin;
  return end - begin;
}

size_t join(std::span<int32_t> tokens, TokenPair pair, int32_t token) {
  size_t count = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool here = i + 1 < tokens.size() && TokenPair(tokens[i], tokens[i + 1]) == pair;
    tokens[count++] = here ? token : tokens[i];
    i += here ? 1 : 0;
  }
  return count;
}

Vocabulary::Vocabulary(std::vector<int> bytes, const std::string& source, std::vector<TokenPair> pairs)
    : bytes_(std::move(bytes)), pairs_(std::move(pairs)) {
  check_bytes(source);
  if (!pairs_.empty() && bytes_.size() != 256)
    fail("{}: pairs in a vocabulary of {} bytes, not of all 256", source, bytes_.size());
  if (size() > most_tokens) fail("{}: a vocabulary of {} tokens, more than {}", source, size(), most_tokens);
  for (size_t i = 0; i < pairs_.size(); ++i) add_pair(i, source);
}

void Vocabulary::check_bytes(const std::string& source) {
  tokens_.fill(-1);
  if (bytes_.empty() || bytes_.size() > 256) fail("{}: a vocabulary of {} bytes", source, bytes_.size());
  for (size_t i = 0; i < bytes_.size(); ++i) {
    if (bytes_[i] < 0 || bytes_[i] > 255 || (i > 0 && bytes_[i] <= bytes_[i - 1]))
      fail("{}: {} is out of order in a vocabulary of bytes", source, bytes_[i]);
    tokens_[static_cast<size_t>(bytes_[i])] = static_cast<int64_t>(i);
    texts_.emplace_back(1, static_cast<char>(bytes_[i]));
  }
}

void Vocabulary::add_pair(size_t number, const std::string& source) {
  const auto token = static_cast<int32_t>(bytes_.size() + number);
  const auto [left, right] = pairs_[number];
  if (left < 0 || right < 0 || left >= token || right >= token)
    fail("{}: token {} is the pair {}, {}, which is not of tokens before it", source, token, left, right);
  texts_.push_back(text(left) + text(right));
  if (texts_.back().size() > longest_word)
    fail("{}: token {} is of {} bytes, more than {}", source, token, texts_.back().size(), longest_word);
  if (!merged_.emplace(key_of(pairs_[number]), token).second)
    fail("{}: the pair {}, {} stands twice in the vocabulary", source, left, right);
}

size_t Vocabulary::unknown(std::string_view text) const {
  const auto lacks = [&](char byte) { return token(byte) < 0; };
  return static_cast<size_t>(std::find_if(text.begin(), text.end(), lacks) - text.begin());
}

size_t Vocabulary::word_start(std::string_view text, size_t from) const {
  if (pairs_.empty() || from == 0) return from;
  for (size_t i = from; i < std::min(text.size(), from + longest_word); ++i)
    if (begins(text, i)) return i;
  return from;
}

size_t Vocabulary::encode(std::string_view text, std::vector<int32_t>& out, size_t most) const {
  size_t at = 0;
  const size_t before = out.size();
  while (at < text.size() && out.size() - before < most) {
    const size_t length = pairs_.empty() ? 1 : word_length(text, at);
    encode_word(text.substr(at, length), out);
    at += length;
  }
  return at;
}

// Of all pairs in the word the one with the least token is made first, wherever it stands, as when it was learned.
void Vocabulary::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  const size_t begin = out.size();
  for (const char byte : word) out.push_back(static_cast<int32_t>(token(byte)));
  for (;;) {
    int32_t least = INT32_MAX;
    for (size_t i = begin; i + 1 < out.size(); ++i)
      if (const auto it = merged_.find(key_of({out[i], out[i + 1]})); it != merged_.end())
        least = std::min(least, it->second);
    if (least == INT32_MAX) return;
    out.resize(begin + join(std::span(out).subspan(begin), pairs_[static_cast<size_t>(least) - bytes_.size()],
                            least));
  }
}

}  // namespace kontor::inline v0
