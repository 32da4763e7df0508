// Charts as SVG and PNG.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <zlib.h>

#include "nn/chart.h"
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

TEST_CASE("[chart] one line in its place, with ticks, names and labels") {
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

TEST_CASE("[chart] values that are not finite break the line; a lone point is a dot") {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::string text = svg({"", "", "", {{"s", {0, 1, 2, 3, 4, 5}, {1, 2, nan, 3, inf, 5}, false}}});
  CHECK(occurrences(text, "<circle") == 2);
  CHECK(occurrences(text, "class=\"line\"") == 2);
  CHECK(occurrences(text, "nan") + occurrences(text, "inf") == 0);
}

TEST_CASE("[chart] no data, one value, tiny and huge ranges") {
  CHECK_NOTHROW(svg({}));
  for (double value : {0.0, 5.0, -3e-9, 1e300, -1e300}) {
    const std::string text = svg({"", "", "", {{"s", {1, 2}, {value, value}, false}}});
    CHECK(occurrences(text, "nan") == 0);
    CHECK(occurrences(text, "class=\"line\"") == 2);
  }
  const std::string wide = svg({"", "", "", {{"s", {1, 2}, {-1.7e308, 1.7e308}, false}}});
  CHECK(occurrences(wide, "nan") == 0);
}

TEST_CASE("[chart] a long series is thinned, its extremes are kept") {
  Series series{"loss", {}, {}, true};
  for (int i = 0; i < 200000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 123456 ? 10.0 : std::sin(i * 0.01));
  }
  const std::string text = svg({"", "", "", {series}});
  CHECK(text.size() < 200000);
  CHECK_THAT(text, Contains("class=\"line faint\"") && Contains(" 62.0L"));  // the top: value 10
}

TEST_CASE("[chart] a series with unlike x and y is refused") {
  CHECK(error_of([] { svg({"", "", "", {{"s", {1, 2}, {1}, false}}}); }) ==
        "chart: series s has 2 x and 1 y");
}

namespace {

// The pixels of a PNG as format_png writes it: no filters.
struct Picture {
  size_t width = 0, height = 0;
  std::string rows;
  uint32_t at(size_t x, size_t y) const {
    uint32_t colour = 0;
    for (size_t c = 0; c < 3; ++c)
      colour = colour << 8 | static_cast<unsigned char>(rows[y * (3 * width + 1) + 1 + 3 * x + c]);
    return colour;
  }
};

uint32_t word(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

Picture read_png(const std::string& bytes) {
  REQUIRE(bytes.substr(0, 8) == "\x89PNG\r\n\x1a\n");
  Picture picture{word(bytes, 16), word(bytes, 20), {}};
  REQUIRE(bytes.substr(37, 4) == "IDAT");
  uLongf size = picture.height * (3 * picture.width + 1);
  picture.rows.resize(size);
  REQUIRE(uncompress(reinterpret_cast<Bytef*>(picture.rows.data()), &size,
                     reinterpret_cast<const Bytef*>(&bytes[41]), word(bytes, 33)) == Z_OK);
  REQUIRE(size == picture.rows.size());
  return picture;
}

Picture png(Chart chart, double scale) { return read_png(format_png({&chart, 1}, scale)); }

int dark_pixels(const Picture& picture) {
  int count = 0;
  for (size_t y = 0; y < picture.height; ++y)
    for (size_t x = 0; x < picture.width; ++x) count += (picture.at(x, y) & 0xff) < 0x80;
  return count;
}

}  // namespace

TEST_CASE("[chart] a PNG shows what the SVG shows, where it shows it") {
  const Chart chart{"Training", "step", "accuracy", {{"", {0, 50, 100}, {0, 1, 0.5}, false, 1}}};
  const Picture picture = png(chart, 2);
  CHECK(picture.width == 1520);
  CHECK(picture.height == 640);
  CHECK(picture.at(0, 0) == 0xffffff);
  // Middle of the line from (66, 268) to (401, 62), in the second colour; nothing beside it.
  CHECK(picture.at(467, 330) == 0xd55e00);
  CHECK(picture.at(467, 350) == 0xffffff);
  // The title's T: a bar, and a stem below its middle.
  CHECK((picture.at(133, 31) & 0xff) < 0xff);
}

TEST_CASE("[chart] letters have strokes; unknown ones are boxes; scale and legend set the size") {
  const auto ink = [](const std::string& text) { return dark_pixels(png({text, "", "", {}}, 2)); };
  const int none = ink("");
  std::string all;
  for (char c = 33; c < 127; ++c) {
    CHECK(ink(std::string(1, c)) > none);
    all += c;
  }
  CHECK(ink("\xe2\x89\xa5") != ink("\xe2\x98\x83"));
  CHECK(ink("\xe2\x98\x83") == ink("\xff"));
  CHECK(png({}, 1).width == 760);
  Chart many;
  for (int i = 0; i < 12; ++i) many.series.push_back({"a series with a long name", {1, 2}, {1, 2}});
  CHECK(png(many, 1).height > 320);
  CHECK(error_of([] { png({}, 0); }) == "chart: a scale of 0; 0.25 to 16 is possible");
}

TEST_CASE("[chart] a logarithmic axis has decades, and leaves out what has no logarithm") {
  Chart chart{"", "", "", {{"s", {0, -1, 0.1, 1, 10, 1000, 10000}, {1, 2, 3, 4, 5, 6, 7}}}, true};
  const std::string text = svg(chart);
  for (const char* tick : {">0.1<", ">1<", ">1000<", ">10000<"}) CHECK_THAT(text, Contains(tick));
  CHECK_THAT(text, Contains("L200.0 "));  // 1 is a fifth of the way from 0.1 to 10000
}
