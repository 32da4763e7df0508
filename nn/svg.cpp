// The SVG writer: ranges and ticks, then grid, lines and legend of each panel.
#include "nn/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/error.h"

namespace kontor::inline v0 {
namespace {

constexpr double kWidth = 760, kHeight = 320;                       // of a panel
constexpr double kLeft = 66, kRight = 24, kTop = 62, kBottom = 52;  // around its plot
constexpr double kCharWidth = 6.7;                                  // of 12 px text, on average

// Okabe and Ito's palette, told apart with any colour vision; without its yellow, too pale on white.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                    "#56b4e9", "#e69f00", "#444444"};

std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '<') result += "&lt;";
    else if (c == '>') result += "&gt;";
    else if (c == '&') result += "&amp;";
    else if (c == '"') result += "&quot;";
    else if (static_cast<unsigned char>(c) < 0x20) result += ' ';  // XML 1.0 forbids control characters
    else result += c;
  }
  return result;
}

/// Differences of larger values would overflow.
bool drawable(double value) { return std::abs(value) <= 1e300; }

struct Axis {
  double low = 0, high = 1, step = 0.25;
  double place(double value) const { return (value - low) / (high - low); }
};

/// A range that holds all finite values, with about `ticks` steps of 1, 2 or 5 times a power of ten.
Axis axis_of(const Chart& chart, std::vector<double> Series::* values, int ticks, bool round_up) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Series& series : chart.series)
    for (double value : series.*values)
      if (drawable(value)) low = std::min(low, value), high = std::max(high, value);
  if (low > high) return {};
  if (high - low <= std::abs(high) * 1e-12) {  // one value: a range around it
    const double margin = high == 0 ? 1 : std::abs(high) * 0.1;
    low -= margin, high += margin;
  }
  const double rough = high / ticks - low / ticks, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double digit = rough / power;
  const double step = (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10) * power;
  if (!std::isfinite(step) || step <= 0) return {};
  if (!round_up) return {low, high, step};
  return {std::floor(low / step) * step, std::ceil(high / step) * step, step};
}

/// A number with the digits that tell it from its neighbours a step away.
std::string tick_text(double value, double step) {
  if (std::abs(value) < step * 1e-6) return "0";
  const double size = std::abs(value);
  if (size >= 1e6 || step < 1e-4) return fmt::format("{:.4g}", value);
  const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return fmt::format("{:.{}f}", value, digits);
}

std::string text_at(double x, double y, const char* classes, const std::string& text, const char* more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\"{}>{}</text>\n", x, y, classes, more,
                     escaped(text));
}

/// Where a panel's data lie on the page.
struct Plot {
  Axis x_axis, y_axis;
  double top;

  double left() const { return kLeft; }
  double right() const { return kWidth - kRight; }
  double bottom() const { return top + kHeight - kTop - kBottom; }
  double x(double value) const { return left() + x_axis.place(value) * (right() - left()); }
  double y(double value) const { return bottom() - y_axis.place(value) * (bottom() - top); }
};

/// Calls `each` with every tick in the axis.
template <class F>
void for_ticks(const Axis& axis, F&& each) {
  const double first = std::ceil(axis.low / axis.step - 1e-9);
  for (int i = 0; i < 100; ++i) {
    const double value = (first + i) * axis.step;
    if (value > axis.high + axis.step * 1e-9) return;
    each(value);
  }
}

std::string grid(const Plot& plot) {
  std::string out;
  for_ticks(plot.y_axis, [&](double value) {
    const double y = plot.y(value);
    out += fmt::format("<path d=\"M{:.1f} {:.1f}H{:.1f}\" class=\"grid\"/>\n", plot.left(), y, plot.right());
    out += text_at(plot.left() - 8, y + 4, "tick end", tick_text(value, plot.y_axis.step));
  });
  for_ticks(plot.x_axis, [&](double value) {
    const double x = plot.x(value);
    out += fmt::format("<path d=\"M{:.1f} {:.1f}v5\" class=\"axis\"/>\n", x, plot.bottom());
    out += text_at(x, plot.bottom() + 19, "tick middle", tick_text(value, plot.x_axis.step));
  });
  return out + fmt::format("<path d=\"M{:.1f} {:.1f}H{:.1f}\" class=\"axis\"/>\n", plot.left(), plot.bottom(),
                           plot.right());
}

struct Point {
  double x, y;
};

/// Of each run of points in the same half pixel column, the first, lowest, highest and last: the rest cannot
/// be seen.
std::vector<Point> thinned(const std::vector<Point>& points) {
  std::vector<Point> result;
  for (size_t begin = 0; begin < points.size();) {
    size_t end = begin, low = begin, high = begin;
    const auto column = [&](size_t i) { return std::floor(points[i].x * 2); };
    for (; end < points.size() && column(end) == column(begin); ++end) {
      if (points[end].y < points[low].y) low = end;
      if (points[end].y > points[high].y) high = end;
    }
    size_t kept[] = {begin, std::min(low, high), std::max(low, high), end - 1};
    for (size_t i = 0; i < 4; ++i)
      if (i == 0 || kept[i] != kept[i - 1]) result.push_back(points[kept[i]]);
    begin = end;
  }
  return result;
}

std::string line(const std::vector<Point>& points, const char* colour, bool faint) {
  if (points.empty()) return "";
  if (points.size() == 1)
    return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", points[0].x,
                       points[0].y, colour);
  std::string path;
  for (const Point& point : thinned(points))
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L', point.x, point.y);
  return fmt::format("<path d=\"{}\" class=\"{}\" stroke=\"{}\"/>\n", path, faint ? "line faint" : "line",
                     colour);
}

std::string curve(const Plot& plot, const Series& series, const char* colour) {
  if (series.x.size() != series.y.size())
    fail("chart: series {} has {} x and {} y", series.name, series.x.size(), series.y.size());
  std::string out;
  std::vector<Point> run;
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (drawable(series.x[i]) && drawable(series.y[i])) {
      run.push_back({plot.x(series.x[i]), plot.y(series.y[i])});
      continue;
    }
    out += line(run, colour, series.faint);
    run.clear();
  }
  return out + line(run, colour, series.faint);
}

/// UTF-8 characters, not bytes.
double text_width(const std::string& text) {
  const auto starts = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return kCharWidth * static_cast<double>(starts);
}

/// One row from the right edge: swatch and name of each series.
std::string legend(const Chart& chart, double y) {
  double width = 0;
  for (const Series& series : chart.series) width += 26 + text_width(series.name) + 16;
  double x = std::max(kLeft, kWidth - kRight - width + 16);
  std::string out;
  size_t colour = 0;
  for (const Series& series : chart.series) {
    out += fmt::format("<path d=\"M{:.1f} {:.1f}h20\" class=\"{}\" stroke=\"{}\"/>\n", x, y - 4,
                       series.faint ? "line faint" : "line", kColours[colour++ % std::size(kColours)]);
    out += text_at(x + 26, y, "name", series.name);
    x += 26 + text_width(series.name) + 16;
  }
  return out;
}

std::string panel(const Chart& chart, double top) {
  const Plot plot{axis_of(chart, &Series::x, 8, false), axis_of(chart, &Series::y, 5, true), top + kTop};
  std::string out = text_at(kLeft, top + 26, "title", chart.title);
  out += legend(chart, top + 48);
  out += grid(plot);
  const double middle = (plot.top + plot.bottom()) / 2;
  out += text_at((plot.left() + plot.right()) / 2, plot.bottom() + 40, "label middle", chart.x_label);
  out += text_at(18, middle, "label middle", chart.y_label,
                 fmt::format(" transform=\"rotate(-90 18 {:.1f})\"", middle).c_str());
  // Faint lines first, so that they don't cover the others.
  for (bool faint : {true, false})
    for (size_t i = 0; i < chart.series.size(); ++i)
      if (chart.series[i].faint == faint)
        out += curve(plot, chart.series[i], kColours[i % std::size(kColours)]);
  return out;
}

constexpr const char* kStyle = R"(<style>
text { font-family: "Helvetica Neue", Helvetica, Arial, sans-serif; font-size: 12px; fill: #333 }
.title { font-size: 15px; font-weight: 600; fill: #111 }
.tick { fill: #666; font-size: 11px }
.label { fill: #444 }
.middle { text-anchor: middle }
.end { text-anchor: end }
.grid { stroke: #e6e6e6; stroke-width: 1; fill: none }
.axis { stroke: #888; stroke-width: 1; fill: none }
.line { stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; fill: none }
.faint { stroke-width: 1; stroke-opacity: 0.4 }
</style>
)";

}  // namespace

std::string format_svg(std::span<const Chart> panels) {
  const double height = kHeight * static_cast<double>(panels.size());
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\">\n",
      kWidth, height);
  out += kStyle;
  out += "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
  double top = 0;
  for (const Chart& chart : panels) {
    out += panel(chart, top);
    top += kHeight;
  }
  return out + "</svg>\n";
}

}  // namespace kontor::inline v0
