// The SVG writer of learning curves.
#include <cmath>
#include <limits>
#include <vector>

#include "nn/svg.h"
#include "tests/catch.h"
#include "tests/errors.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

int occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

std::string svg(Chart chart) { return format_svg({&chart, 1}); }

}  // namespace

TEST_CASE("[svg] one line in its place, with ticks, names and labels") {
  const std::string text =
      svg({"Training", "step", "accuracy", {{"a < b & c", {0, 50, 100}, {0, 1, 0.5}, false}}});
  // The plot is 670 x 206 from (66, 62): the ends are its corners, y of 0.5 its middle.
  CHECK_THAT(text, Contains("M66.0 268.0L401.0 62.0L736.0 165.0"));
  CHECK_THAT(text, Contains(">a &lt; b &amp; c<") && Contains(">Training<") && Contains(">accuracy<"));
  for (const char* tick : {">0.0<", ">0.2<", ">1.0<", ">100<"}) {
    if (std::string(tick) == ">0.0<") CHECK_THAT(text, Contains(">0<"));
    else CHECK_THAT(text, Contains(tick));
  }
  CHECK(occurrences(text, "class=\"line\"") == 2);  // legend and curve
}

TEST_CASE("[svg] values that are not finite break the line; a lone point is a dot") {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::string text = svg({"", "", "", {{"s", {0, 1, 2, 3, 4, 5}, {1, 2, nan, 3, inf, 5}, false}}});
  CHECK(occurrences(text, "<circle") == 2);
  CHECK(occurrences(text, "class=\"line\"") == 2);
  CHECK(occurrences(text, "nan") + occurrences(text, "inf") == 0);
}

TEST_CASE("[svg] no data, one value, tiny and huge ranges") {
  CHECK_NOTHROW(svg({}));
  for (double value : {0.0, 5.0, -3e-9, 1e300, -1e300}) {
    const std::string text = svg({"", "", "", {{"s", {1, 2}, {value, value}, false}}});
    CHECK(occurrences(text, "nan") == 0);
    CHECK(occurrences(text, "class=\"line\"") == 2);
  }
  const std::string wide = svg({"", "", "", {{"s", {1, 2}, {-1.7e308, 1.7e308}, false}}});
  CHECK(occurrences(wide, "nan") == 0);
}

TEST_CASE("[svg] a long series is thinned, its extremes are kept") {
  Series series{"loss", {}, {}, true};
  for (int i = 0; i < 200000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 123456 ? 10.0 : std::sin(i * 0.01));
  }
  const std::string text = svg({"", "", "", {series}});
  CHECK(text.size() < 200000);
  CHECK_THAT(text, Contains("class=\"line faint\"") && Contains(" 62.0L"));  // the top: value 10
}

TEST_CASE("[svg] a series with unlike x and y is refused") {
  CHECK(error_of([] { svg({"", "", "", {{"s", {1, 2}, {1}, false}}}); }) ==
        "chart: series s has 2 x and 1 y");
}
