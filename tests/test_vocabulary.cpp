// Byte pairs: against a learner that counts everything again for each pair, and what a corpus makes of them.
#include <algorithm>
#include <cctype>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "nn/corpus.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

using Tokens = std::vector<int32_t>;

int kind(char byte) {
  const auto c = static_cast<unsigned char>(byte);
  if (c >= 128) return 1;
  return std::isspace(c) ? 0 : std::isalpha(c) ? 1 : std::isdigit(c) ? 2 : 3;
}

// Read from the left: a row of one kind, with the space before it if that stands alone there.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> out;
  for (size_t i = 0; i < text.size();) {
    const bool leads = text[i] == ' ' && i + 1 < text.size() && kind(text[i + 1]) != 0;
    const int of = kind(text[i + (leads ? 1 : 0)]);
    size_t end = i + (leads ? 1 : 0);
    while (end < text.size() && kind(text[end]) == of) ++end;
    if (of == 0 && end < text.size() && text[end - 1] == ' ' && end - 1 > i) --end;
    end = std::min(end, i + 64);
    out.push_back(text.substr(i, end - i));
    i = end;
  }
  return out;
}

Tokens joined(const Tokens& in, TokenPair pair, int32_t token) {
  Tokens out;
  for (const int32_t t : in) {
    out.push_back(t);
    if (out.size() > 1 && out[out.size() - 2] == pair.first && t == pair.second) {
      out.pop_back();
      out.back() = token;
    }
  }
  return out;
}

Tokens bytes_of(const std::string& word) {
  Tokens out;
  for (const char c : word) out.push_back(static_cast<unsigned char>(c));
  return out;
}

std::vector<TokenPair> pairs_of(const std::string& text, size_t count) {
  std::vector<Tokens> words;
  for (const std::string& word : words_of(text)) words.push_back(bytes_of(word));
  std::vector<TokenPair> out;
  while (out.size() < count) {
    std::map<TokenPair, int> occurs;
    for (const Tokens& w : words)
      for (size_t i = 0; i + 1 < w.size(); ++i) ++occurs[{w[i], w[i + 1]}];
    int most = 1;
    TokenPair best;
    for (const auto& [pair, n] : occurs)
      if (n > most) most = n, best = pair;
    if (most < 2) break;
    for (Tokens& w : words) w = joined(w, best, static_cast<int32_t>(256 + out.size()));
    out.push_back(best);
  }
  return out;
}

Tokens encoded(const std::string& text, const std::vector<TokenPair>& pairs) {
  Tokens out;
  for (const std::string& word : words_of(text)) {
    Tokens tokens = bytes_of(word);
    for (size_t i = 0; i < pairs.size(); ++i)
      tokens = joined(tokens, pairs[i], static_cast<int32_t>(256 + i));
    out.insert(out.end(), tokens.begin(), tokens.end());
  }
  return out;
}

std::string random_text(std::mt19937& random, size_t length) {
  static const std::string alphabets[] = {"aab", "ab  ", "abc .\n1", "aAbB,;  \n\t09\xC3\xA9"};
  const std::string& letters = alphabets[random() % 4];
  std::string out;
  for (size_t i = 0; i < length; ++i)
    out += random() % 50 == 0 ? static_cast<char>(random() % 256) : letters[random() % letters.size()];
  if (random() % 3 == 0) out.insert(length / 2, 200, letters[0]);  // longer than a word
  return out;
}

std::string decoded(const Vocabulary& v, const Tokens& tokens) {
  std::string out;
  for (const int32_t t : tokens) out += v.text(t);
  return out;
}

std::vector<int> all_bytes() {
  std::vector<int> out;
  for (int i = 0; i < 256; ++i) out.push_back(i);
  return out;
}

}  // namespace

TEST_CASE("[vocabulary] pairs are those that a count of everything finds, and texts come back") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const std::string text = random_text(random, 20 + random() % 600), other = random_text(random, 300);
    const int64_t size = 257 + static_cast<int64_t>(random() % 60);
    const Vocabulary v = learn_pairs({text}, size, "text");
    REQUIRE(v.pairs() == pairs_of(text, static_cast<size_t>(size - 256)));
    for (const std::string& t : {text, other, std::string()}) {
      Tokens tokens;
      CHECK(v.encode(t, tokens) == t.size());
      REQUIRE(tokens == encoded(t, v.pairs()));
      REQUIRE(decoded(v, tokens) == t);
    }
  }
}

TEST_CASE("[vocabulary] any bytes come back, and as many tokens as were asked for in whole words") {
  std::string any;
  for (int round = 0; round < 3; ++round)
    for (int i = 0; i < 256; ++i) any += static_cast<char>(i);
  const Vocabulary v = learn_pairs({any, "to be or not to be"}, 400, "text");
  Tokens tokens;
  v.encode(any, tokens);
  CHECK(decoded(v, tokens) == any);
  tokens.clear();
  const size_t read = v.encode("to be or not", tokens, 2);
  CHECK(decoded(v, tokens) == std::string("to be or not").substr(0, read));
  CHECK(tokens.size() >= 2);
}

TEST_CASE("[vocabulary] what cannot be is refused") {
  const std::vector<int> bytes = all_bytes();
  std::vector<TokenPair> doubles;  // tokens of 2, 4, .. 128 bytes
  for (int32_t i = 0; i < 7; ++i) doubles.emplace_back(i == 0 ? 97 : 255 + i, i == 0 ? 97 : 255 + i);
  struct Row {
    std::vector<int> bytes;
    std::vector<TokenPair> pairs;
    const char* part;
  };
  const Row rows[] = {
      {{}, {}, "f: a vocabulary of 0 bytes"},
      {{1, 1}, {}, "f: 1 is out of order"},
      {{1, 300}, {}, "f: 300 is out of order"},
      {{1, 2}, {{0, 1}}, "f: pairs in a vocabulary of 2 bytes, not of all 256"},
      {bytes, {{0, 256}}, "f: token 256 is the pair 0, 256, which is not of tokens before it"},
      {bytes, {{-1, 2}}, "f: token 256 is the pair -1, 2"},
      {bytes, {{1, 2}, {1, 2}}, "f: the pair 1, 2 stands twice"},
      {bytes, doubles, "f: token 262 is of 128 bytes, more than 64"},
  };
  for (const Row& row : rows) {
    INFO(row.part);
    CHECK_THAT(error_of([&] { Vocabulary(row.bytes, "f", row.pairs); }), Contains(row.part));
  }
  CHECK_THAT(error_of([] { learn_pairs({"a"}, 256, "f"); }), Contains("f: a vocabulary of 256 tokens"));
}

TEST_CASE(
    "[corpus] windows of pairs are of the text, one after another in validation, and drawn by seed and step") {
  TemporaryFolder folder;
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    const std::string text = random_text(random, 2000), path = folder / "text";
    write_file(path, text);
    const Corpus corpus(path, 300);
    const int64_t context = 8;
    corpus.check_context(context);
    const std::string learned = text.substr(0, static_cast<size_t>(corpus.training())),
                      checked = text.substr(static_cast<size_t>(corpus.training()));
    REQUIRE(corpus.vocabulary().pairs() == pairs_of(learned, 44));
    for (int64_t step = 0; step < 20; ++step) {
      const Windows w = corpus.batch(step, 5, context, 3);
      REQUIRE(w.ids == corpus.batch(step, 5, context, 3).ids);
      REQUIRE(w.ids.size() == 5 * static_cast<size_t>(context));
      int64_t bytes = 0;
      for (size_t i = 0; i < 5; ++i) {
        Tokens window(w.ids.begin() + static_cast<ptrdiff_t>(i * 8),
                      w.ids.begin() + static_cast<ptrdiff_t>(i * 8 + 8));
        window.push_back(w.next[i * 8 + 7]);
        CHECK(learned.find(decoded(corpus.vocabulary(), window)) != std::string::npos);
        for (size_t k = 0; k < 7; ++k) REQUIRE(w.next[i * 8 + k] == w.ids[i * 8 + k + 1]);
        bytes +=
            static_cast<int64_t>(decoded(corpus.vocabulary(), {window.begin() + 1, window.end()}).size());
      }
      CHECK(w.bytes == bytes);
    }
    const Tokens all = encoded(checked, corpus.vocabulary().pairs());
    const int64_t windows = corpus.validation_windows(context);
    REQUIRE(windows == (static_cast<int64_t>(all.size()) - 1) / context);
    const Windows w = corpus.validation_batch(0, 1, windows, context);
    CHECK(w.ids == Tokens(all.begin(), all.begin() + static_cast<ptrdiff_t>(windows * context)));
    CHECK_THAT(error_of([&] { corpus.check_context(1000); }),
               Contains("a context of 1000 tokens is longer than"));
  }
}
