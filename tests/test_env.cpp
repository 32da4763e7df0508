// [base] the table of environment variables, and the hash.
#include <cstdlib>
#include <set>
#include <string>

#include "base/env.h"
#include "base/hash.h"
#include "kontor/types.h"
#include "tests/catch.h"

using namespace kontor;

namespace {

struct Variable {
  Variable(const char* n, const char* value) : name(n) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name); }
  const char* name;
};

}  // namespace

TEST_CASE("[base] unset, 0 and empty all mean off") {
  ::unsetenv("KONTOR_DEBUG");
  CHECK(env_int(Env::Debug) == 0);
  CHECK_FALSE(env_flag(Env::NoCache));
  for (const char* off : {"", "0"}) {
    const Variable debug("KONTOR_DEBUG", off), cache("KONTOR_NO_CACHE", off), dump("KONTOR_DUMP", off),
        rules("KONTOR_RULE_OFF", off);
    CHECK(env_int(Env::Debug) == 0);
    CHECK_FALSE(env_flag(Env::NoCache));
    CHECK(env_text(Env::Dump).empty());
    CHECK(env_list(Env::RuleOff).empty());
  }
}

TEST_CASE("[base] values of environment variables") {
  const Variable debug("KONTOR_DEBUG", "4"), cache("KONTOR_NO_CACHE", "1"),
      rules("KONTOR_RULE_OFF", "add.zero,,mul.one,");
  CHECK(env_int(Env::Debug) == 4);
  CHECK(env_flag(Env::NoCache));
  CHECK(env_list(Env::RuleOff) == std::vector<std::string>{"add.zero", "mul.one"});
  const Variable threads("KONTOR_THREADS", "two");
  CHECK_THROWS_WITH(env_int(Env::Threads), "KONTOR_THREADS=two: a whole number is expected");
}

TEST_CASE("[base] a misspelt variable is warned of, with the one it may have meant") {
  const Variable typo("KONTOR_DEBGU", "1"), other("KONTOR_WHATEVER_ELSE", "1"), known("KONTOR_DEBUG", "0"),
      foreign("KONTO_X", "1");
  const std::vector<std::string> warnings = env_warnings();
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0] == "KONTOR_DEBGU is set but is no variable of Kontor; did you mean KONTOR_DEBUG?");
  CHECK(warnings[1] == "KONTOR_WHATEVER_ELSE is set but is no variable of Kontor (`kontor env` lists them)");
}

TEST_CASE("[base] the hash is MurmurHash3, and every bit of its input counts") {
  // Values of the reference implementation, MurmurHash3_x64_128 with seed 0.
  CHECK(hash128("").hex() == "00000000000000000000000000000000");
  CHECK(hash128("hello") == Hash128{0xcbd8a7b341bd9b02, 0x5b1e906a48ae1d19});
  std::set<std::string> seen;
  for (size_t length = 0; length < 40; ++length) {
    std::string text(length, 'a');
    CHECK(seen.insert(hash128(text).hex()).second);
    for (size_t bit = 0; bit < 8 * length; ++bit) {
      text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
      CHECK(seen.insert(hash128(text).hex()).second);
      text[bit / 8] = 'a';
    }
  }
  CHECK(hash128("c", hash128("ab")) != hash128("bc", hash128("a")));
}
