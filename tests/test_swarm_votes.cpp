// [swarm] losses, codes, ranks, bans and privacy: numbers in, numbers out.
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "swarm/trust.h"
#include "swarm/votes.h"
#include "tests/catch.h"

using namespace kontor;
using namespace kontor::swarm;

TEST_CASE("swarm: losses become integers, codes keep their order, ranks are centred", "[swarm]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinite = std::numeric_limits<float>::infinity();
  CHECK(integer_loss(nan) == 0xFFFFFF);
  CHECK(integer_loss(infinite) == 0xFFFFFF);
  CHECK(integer_loss(-infinite) == 0xFFFFFF);
  CHECK(integer_loss(1e9f) == 0xFFFFFE);
  CHECK(integer_loss(-1) == 0);
  CHECK(integer_loss(1.5f) == 3 << 15);
  CHECK(difference(nan, 1) == (1 << 23) - 1);
  CHECK(difference(nan, nan) == 0);
  CHECK(difference(1, 2) == -65536);
  std::mt19937 random(3);
  for (int i = 0; i < 2000; ++i) {
    const auto draw = [&] {
      return static_cast<int32_t>(random() >> (8 + random() % 24)) * (random() % 2 ? 1 : -1) / 2;
    };
    const int32_t a = draw(), b = draw();
    for (const int64_t width : {1, 8, 24}) {
      if (a >= b) continue;
      INFO(a << " " << b << " " << width);
      if (width == 1) CHECK(code_of(a, width) >= code_of(b, width));  // a set bit says that it is good
      else CHECK(code_of(a, width) <= code_of(b, width));
      CHECK(code_of(a, width) < (1u << width));
    }
  }
  for (const size_t n : {size_t{0}, size_t{1}, size_t{2}, size_t{9}, size_t{100}}) {
    std::vector<uint32_t> codes(n);
    for (uint32_t& c : codes) c = static_cast<uint32_t>(random() % 7);
    const std::vector<int32_t> c = coefficients(codes, 24);
    for (size_t i = 0; i < n; ++i) {
      int32_t less = 0;
      for (size_t j = 0; j < n; ++j) less += codes[j] < codes[i] || (codes[j] == codes[i] && j < i);
      CHECK(c[i] == static_cast<int32_t>(n) - 1 - 2 * less);
    }
    CHECK(std::accumulate(c.begin(), c.end(), 0) == 0);
  }
  CHECK(coefficients(std::vector<uint32_t>{1, 0}, 1) == std::vector<int32_t>{1, -1});
}

TEST_CASE("swarm: bans follow from what flips can explain, privacy from the flips", "[swarm]") {
  CHECK(contradicts(1, 100, 1, 0));
  CHECK_FALSE(contradicts(1, -100, 1, 0));
  CHECK_FALSE(contradicts(1, 3, 1, 10));
  CHECK(contradicts(code_of(1000, 24), 900, 24, 50));
  CHECK_FALSE(contradicts(code_of(1000, 24), 900, 24, 100));
  for (const int64_t width :
       {1, 8, 24}) {  // an honest worker is within the tolerance, and one that is at it is
    for (int32_t found = -12; found <= 12; ++found) {
      for (int32_t own = -30; own <= 30; ++own) {
        INFO(width << " " << found << " " << own);
        if (std::abs(own - found) <= 10) CHECK_FALSE(contradicts(code_of(own, width), found, width, 10));
        else if (width == 24) CHECK(contradicts(code_of(own, width), found, width, 10));
      }
    }
  }
  CHECK(contradicts(1, 10, 1, 10));  // nothing below 0 is within 10 of it
  CHECK(contradicts(0, -11, 1, 10));
  Bans strict(3, 0);
  CHECK_FALSE(strict.add(0, false));
  CHECK(strict.add(1, true));
  CHECK((strict.is_banned(1) && !strict.is_banned(0) && strict.count() == 1));
  // With flips of 0.2: an honest worker, checked ten thousand times, stays; one that mirrors all goes within 30 checks.
  Bans bans(2, 0.2);
  std::mt19937 random(1);
  for (int i = 0; i < 10000; ++i) bans.add(0, random() % 5 == 0);
  CHECK_FALSE(bans.is_banned(0));
  for (int i = 0; i < 30; ++i) bans.add(1, random() % 5 != 0);
  CHECK(bans.is_banned(1));
  CHECK(tail(3, 2, 0.5) == Approx(0.5));
  CHECK(privacy(0.2, 1).report == Approx(1.386294));
  CHECK(privacy(0.3, 1).report == Approx(0.847298));
  CHECK(privacy(0.4, 1).report == Approx(0.405465));
  CHECK(privacy(0.4, 1000).advanced < privacy(0.4, 1000).sum);
  CHECK(std::isinf(privacy(0, 1).report));
}
