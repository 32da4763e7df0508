// Texts as tokens: bytes, and pairs of tokens that stand side by side often (byte-pair encoding, Sennrich et al. 2016).
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kontor::inline v0 {

/// Two tokens that become one.
using TokenPair = std::pair<int32_t, int32_t>;

/// How long the word is that begins at a place of a text: letters, digits, spaces or other signs in a row, with the one space before
/// them; longest_word bytes at most.
size_t word_length(std::string_view text, size_t begin);
inline constexpr size_t longest_word = 64;
/// Makes one token of each such pair, from the left on: "aaa" has one. Returns how many tokens there are then.
size_t join(std::span<int32_t> tokens, TokenPair pair, int32_t token);

/// Tokens t < bytes().size() are bytes, ascending; those behind are pairs of tokens before them, in the order in which they are
/// made of each word of a text.
class Vocabulary {
 public:
  static constexpr int64_t most_tokens = 1 << 16;

  /// Throws Error that names the source if the bytes are none, more than 256, or not ascending; if there are pairs and a byte is
  /// missing; or a pair is not of tokens before it, stands twice, or is longer than a word.
  Vocabulary(std::vector<int> bytes, const std::string& source, std::vector<TokenPair> pairs = {});
  int64_t size() const { return static_cast<int64_t>(bytes_.size() + pairs_.size()); }
  const std::vector<int>& bytes() const { return bytes_; }
  const std::vector<TokenPair>& pairs() const { return pairs_; }
  /// The bytes of a token.
  const std::string& text(int64_t token) const { return texts_[static_cast<size_t>(token)]; }
  /// -1: it has no such byte.
  int64_t token(char byte) const { return tokens_[static_cast<unsigned char>(byte)]; }

  /// Where the first byte stands that is no token; the size of the text: all are.
  size_t unknown(std::string_view text) const;
  /// Appends the tokens of a text whose bytes are all known, in time linear in it: of whole words, until there are `most` of them or
  /// more. Returns how many bytes were read.
  size_t encode(std::string_view text, std::vector<int32_t>& out, size_t most = SIZE_MAX) const;
  /// The first place from there on where a word begins, as far as the bytes beside it say; if the longest word has none, there.
  size_t word_start(std::string_view text, size_t from) const;

 private:
  std::vector<int> bytes_;
  std::vector<TokenPair> pairs_;
  std::array<int64_t, 256> tokens_{};
  std::vector<std::string> texts_;
  std::unordered_map<uint64_t, int32_t> merged_;  // a pair as one number: its token
  void check_bytes(const std::string& source);
  void add_pair(size_t number, const std::string& source);
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;
};

/// Of `size` tokens: all bytes, and pairs learned from the texts: again and again the pair that occurs most often within their words,
/// of equals that with the lesser tokens. Fewer where none occurs twice. In time n log n of the bytes of words that differ.
/// Throws Error if the size is not above 256, or above most_tokens.
Vocabulary learn_pairs(const std::vector<std::string_view>& texts, int64_t size, const std::string& source);

}  // namespace kontor::inline v0
