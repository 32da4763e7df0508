// Charts: where marks are laid, and that Cairo paints them there, as SVG and PNG.
#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/errors.h"
#include "tools/drawing.h"

using namespace kontor;
using namespace kontor::tools;
using namespace kontor::tools::drawing;

namespace {

Drawing laid_out(const Chart& chart) { return draw({&chart, 1}); }

bool has_text(const Drawing& drawing, const std::string& text) {
  return std::any_of(drawing.texts.begin(), drawing.texts.end(),
                     [&](const Text& t) { return t.text == text; });
}

std::vector<Path> paths_of(const Drawing& drawing, Style style) {
  std::vector<Path> found;
  for (const Path& path : drawing.paths)
    if (path.style == style) found.push_back(path);
  return found;
}

bool is_finite(const Drawing& drawing) {
  for (const Path& path : drawing.paths)
    for (const Point& p : path.points)
      if (!std::isfinite(p.x) || !std::isfinite(p.y)) return false;
  return std::all_of(drawing.texts.begin(), drawing.texts.end(), [](const Text& t) {
    return std::isfinite(t.at.x) && std::isfinite(t.at.y) && t.text.find("nan") == std::string::npos;
  });
}

}  // namespace

TEST_CASE("[chart] one line in its place, with ticks, names and labels") {
  const Drawing drawing =
      laid_out({"Training", "step", "accuracy", {{"a < b & c", {0, 50, 100}, {0, 1, 0.5}, false}}});
  for (const char* text : {"a < b & c", "Training", "accuracy", "step", "0", "0.2", "1.0", "100"}) {
    INFO(text);
    CHECK(has_text(drawing, text));
  }
  const std::vector<Path> lines = paths_of(drawing, Style::Line);
  REQUIRE(lines.size() == 2);  // legend and curve
  // The plot is 670 x 206 from (66, 62): the ends are its corners, y of 0.5 its middle.
  const std::vector<Point>& curve = lines[1].points;
  REQUIRE(curve.size() == 3);
  const double wanted[][2] = {{66, 268}, {401, 62}, {736, 165}};
  for (size_t i = 0; i < 3; i++) {
    CHECK(curve[i].x == Approx(wanted[i][0]));
    CHECK(curve[i].y == Approx(wanted[i][1]));
  }
}

TEST_CASE("[chart] values that are not finite break the line; a lone point is a dot") {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const Drawing drawing = laid_out({"", "", "", {{"s", {0, 1, 2, 3, 4, 5}, {1, 2, nan, 3, inf, 5}, false}}});
  CHECK(drawing.dots.size() == 2);
  CHECK(paths_of(drawing, Style::Line).size() == 2);
  CHECK(is_finite(drawing));
}

TEST_CASE("[chart] no data, one value, tiny and huge ranges") {
  CHECK_NOTHROW(laid_out({}));
  for (double value : {0.0, 5.0, -3e-9, 1e300, -1e300}) {
    const Drawing drawing = laid_out({"", "", "", {{"s", {1, 2}, {value, value}, false}}});
    CHECK(is_finite(drawing));
    CHECK(paths_of(drawing, Style::Line).size() == 2);
  }
  CHECK(is_finite(laid_out({"", "", "", {{"s", {1, 2}, {-1.7e308, 1.7e308}, false}}})));
}

TEST_CASE("[chart] a long series is thinned, its extremes are kept") {
  Series series{"loss", {}, {}, true};
  for (int i = 0; i < 200000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 123456 ? 10.0 : std::sin(i * 0.01));
  }
  const std::vector<Path> lines = paths_of(laid_out({"", "", "", {series}}), Style::Faint);
  REQUIRE(lines.size() == 2);
  const std::vector<Point>& curve = lines[1].points;
  CHECK(curve.size() < 6000);
  CHECK(std::min_element(curve.begin(), curve.end(), [](Point a, Point b) { return a.y < b.y; })->y ==
        Approx(62));
}

TEST_CASE("[chart] a series with unlike x and y is refused") {
  CHECK(error_of([] { laid_out({"", "", "", {{"s", {1, 2}, {1}, false}}}); }) ==
        "chart: series s has 2 x and 1 y");
}

TEST_CASE("[chart] a logarithmic axis has decades, and leaves out what has no logarithm") {
  const Drawing drawing =
      laid_out({"", "", "", {{"s", {0, -1, 0.1, 1, 10, 1000, 10000}, {1, 2, 3, 4, 5, 6, 7}}}, true});
  for (const char* tick : {"0.1", "1", "1000", "10000"}) CHECK(has_text(drawing, tick));
  const std::vector<Path> lines = paths_of(drawing, Style::Line);
  REQUIRE(lines.size() == 2);
  CHECK(lines[1].points[1].x == Approx(200));  // 1 is a fifth of the way from 0.1 to 10000
}

namespace {

class Picture {
 public:
  explicit Picture(const std::string& png) {
    Bytes bytes{png, 0};
    surface_ = cairo_image_surface_create_from_png_stream(read, &bytes);
    REQUIRE(cairo_surface_status(surface_) == CAIRO_STATUS_SUCCESS);
  }
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;
  ~Picture() { cairo_surface_destroy(surface_); }

  int width() const { return cairo_image_surface_get_width(surface_); }
  int height() const { return cairo_image_surface_get_height(surface_); }
  uint32_t at(int x, int y) const {
    uint32_t pixel = 0;
    const unsigned char* row = cairo_image_surface_get_data(surface_) +
                               static_cast<ptrdiff_t>(y) * cairo_image_surface_get_stride(surface_);
    std::memcpy(&pixel, row + 4 * x, 4);
    return pixel & 0xffffff;
  }
  int dark_pixels() const {
    int count = 0;
    for (int y = 0; y < height(); ++y)
      for (int x = 0; x < width(); ++x) count += (at(x, y) & 0xff) < 0x80;
    return count;
  }

 private:
  struct Bytes {
    const std::string& text;
    size_t at;
  };
  static cairo_status_t read(void* from, unsigned char* out, unsigned count) {
    auto& bytes = *static_cast<Bytes*>(from);
    if (bytes.text.size() - bytes.at < count) return CAIRO_STATUS_READ_ERROR;
    std::memcpy(out, bytes.text.data() + bytes.at, count);
    bytes.at += count;
    return CAIRO_STATUS_SUCCESS;
  }
  cairo_surface_t* surface_;
};

std::string png(const Chart& chart, double scale) { return format_png({&chart, 1}, scale); }

}  // namespace

TEST_CASE("[chart] a PNG has the marks where they were laid") {
  const Picture picture(
      png({"Training", "step", "accuracy", {{"", {0, 50, 100}, {0, 1, 0.5}, false, 1}}}, 2));
  CHECK(picture.width() == 1520);
  CHECK(picture.height() == 640);
  CHECK(picture.at(0, 0) == 0xffffff);
  // Middle of the line from (66, 268) to (401, 62), in the second colour; nothing beside it.
  CHECK(picture.at(467, 330) == 0xd55e00);
  CHECK(picture.at(467, 350) == 0xffffff);
}

TEST_CASE("[chart] text is painted, whatever its bytes; scale and legend set the size") {
  const auto ink = [](const std::string& text) { return Picture(png({text, "", "", {}}, 2)).dark_pixels(); };
  const int none = ink("");
  for (const char* text : {"A", "\xe2\x89\xa5 80", "\xff", "a\xe2\x98", "\x01"}) CHECK(ink(text) >= none);
  CHECK(ink("loss") > none);
  CHECK(Picture(png({}, 1)).width() == 760);
  Chart many;
  for (int i = 0; i < 12; ++i) many.series.push_back({"a series with a long name", {1, 2}, {1, 2}});
  CHECK(Picture(png(many, 1)).height() > 320);
  CHECK(error_of([] { png({}, 0); }) == "chart: a scale of 0; 0.25 to 16 is possible");
}

TEST_CASE("[chart] an SVG is a picture of the same size") {
  const Chart chart{"Training", "step", "accuracy", {{"", {0, 50, 100}, {0, 1, 0.5}, false, 1}}};
  const std::string text = format_svg({&chart, 1});
  CHECK(text.find("<svg") != std::string::npos);
  CHECK(text.find("viewBox=\"0 0 760 320\"") != std::string::npos);
  CHECK(text.find("</svg>") != std::string::npos);
}

TEST_CASE("[chart] a heat map has a field for each value, coloured from blue over white to orange") {
  const HeatMap map{.title = "t",
                    .x_label = "step",
                    .rows = {"a", "b"},
                    .columns = {"0", "16"},
                    .values = {{-12, 0}, {99, std::nan("")}}};
  const Drawing d = draw(map);
  std::vector<Colour> fields;
  for (size_t i = 0; i < 4; ++i) fields.push_back(d.areas[i].colour);
  CHECK(fields == std::vector<Colour>{0x0072b2, 0xf7f7f7, 0xd55e00, 0x999999});
  CHECK(d.areas[0].corner.y == d.areas[1].corner.y);
  CHECK(d.areas[2].corner.y > d.areas[0].corner.y);
  CHECK(d.areas[1].corner.x == d.areas[0].corner.x + d.areas[0].width);
  CHECK(format_svg(map).find("<svg") != std::string::npos);
  CHECK(format_png(map, 1).substr(1, 3) == "PNG");
  HeatMap wrong = map;
  wrong.values[1].pop_back();
  CHECK(error_of([&] { format_svg(wrong); }) == "chart: row b has other than 2 values");
  CHECK_NOTHROW(format_svg(HeatMap{.title = "empty", .x_label = ""}));
}
