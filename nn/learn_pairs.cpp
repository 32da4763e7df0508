// Byte pairs of a text: how often each stands in the words that differ, kept up to date as pairs become tokens.
#include <algorithm>
#include <numeric>
#include <queue>

#include "base/error.h"
#include "nn/vocabulary.h"

namespace kontor::inline v0 {
namespace {

struct Word {
  std::vector<int32_t> tokens;
  int64_t count = 0;  // in the texts
};

struct Place {
  int64_t count = 0;            // of the pair, in all words
  std::vector<uint32_t> words;  // that have it, or had it; each may stand there several times
};

/// What is next, and how often it occurred when it was noted: no less than now.
struct Candidate {
  int64_t count;
  TokenPair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

struct PairHash {
  size_t operator()(TokenPair p) const {
    const uint64_t key = static_cast<uint64_t>(p.first) << 32 | static_cast<uint32_t>(p.second);
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15) >> 20);
  }
};

class Learner {
 public:
  explicit Learner(const std::vector<std::string_view>& texts) {
    std::unordered_map<std::string_view, uint32_t> numbers;
    for (const std::string_view text : texts)
      for (size_t at = 0; at < text.size();) {
        const std::string_view word = text.substr(at, word_length(text, at));
        const auto [it, fresh] = numbers.emplace(word, static_cast<uint32_t>(words_.size()));
        if (fresh) words_.push_back({tokens_of(word)});
        ++words_[it->second].count;
        at += word.size();
      }
    for (uint32_t w = 0; w < words_.size(); ++w) add(w, 1, -1);
    for (const auto& [pair, place] : places_) next_.push({place.count, pair});
  }

  std::vector<TokenPair> learn(size_t most) {
    std::vector<TokenPair> out;
    while (out.size() < most && !next_.empty()) {
      const Candidate best = next_.top();
      next_.pop();
      const int64_t now = places_[best.pair].count;
      if (now != best.count) {
        if (now > 0) next_.push({now, best.pair});
      } else if (now < 2) {
        break;
      } else {
        merge(best.pair, static_cast<int32_t>(256 + out.size()));
        out.push_back(best.pair);
      }
    }
    return out;
  }

 private:
  std::vector<Word> words_;
  std::unordered_map<TokenPair, Place, PairHash> places_;
  std::priority_queue<Candidate> next_;

  static std::vector<int32_t> tokens_of(std::string_view word) {
    std::vector<int32_t> out;
    for (const char c : word) out.push_back(static_cast<unsigned char>(c));
    return out;
  }

  // Counts the pairs of a word in (sign 1) or out (-1); those of a new token are told where they are. At first all are.
  void add(uint32_t w, int64_t sign, int32_t fresh) {
    const Word& word = words_[w];
    for (size_t i = 0; i + 1 < word.tokens.size(); ++i) {
      const TokenPair pair{word.tokens[i], word.tokens[i + 1]};
      Place& place = places_[pair];
      place.count += sign * word.count;
      const bool here = fresh < 0 || pair.first == fresh || pair.second == fresh;
      if (sign > 0 && here && (place.words.empty() || place.words.back() != w)) place.words.push_back(w);
    }
  }

  void merge(TokenPair pair, int32_t token) {
    std::vector<uint32_t> words = std::move(places_[pair].words);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (const uint32_t w : words) {
      std::vector<int32_t>& tokens = words_[w].tokens;
      std::vector<int32_t> joined = tokens;
      joined.resize(join(joined, pair, token));
      if (joined.size() == tokens.size()) continue;  // it was part of another by now
      add(w, -1, token);
      tokens = std::move(joined);
      add(w, 1, token);
    }
    for (const uint32_t w : words) note(words_[w], token);
  }

  // Pairs of a new token are candidates; of the others the counts only fell, or came back to what they were.
  void note(const Word& word, int32_t token) {
    for (size_t i = 0; i + 1 < word.tokens.size(); ++i) {
      const TokenPair pair{word.tokens[i], word.tokens[i + 1]};
      if (pair.first == token || pair.second == token) next_.push({places_[pair].count, pair});
    }
  }
};

}  // namespace

Vocabulary learn_pairs(const std::vector<std::string_view>& texts, int64_t size, const std::string& source) {
  if (size <= 256 || size > Vocabulary::most_tokens)
    fail("{}: a vocabulary of {} tokens; 256 bytes and their pairs are 257 to {}", source, size,
         Vocabulary::most_tokens);
  std::vector<int> bytes(256);
  std::iota(bytes.begin(), bytes.end(), 0);
  return Vocabulary(std::move(bytes), source, Learner(texts).learn(static_cast<size_t>(size) - 256));
}

}  // namespace kontor::inline v0
