// The layout of charts: ranges and ticks, then grid, lines and legend of each panel, as marks.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "tools/drawing.h"

namespace kontor::tools::drawing {
namespace {

constexpr double kWidth = 760, kHeight = 320;                       // of a panel with one row of legend
constexpr double kLeft = 66, kRight = 24, kTop = 62, kBottom = 52;  // around its plot
constexpr double kLegendRow = 18;
constexpr double kCharWidth = 6.7;  // of 12 px text, on average

// Okabe and Ito's palette, told apart with any colour vision; without its yellow, too pale on white.
constexpr Colour kColours[] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0x56b4e9, 0xe69f00, 0x444444};

// clang-format off
constexpr StyleRow kStyles[] = {
    {Style::Title,  15, true,  0, 1,   0x111111},
    {Style::Tick,   11, false, 0, 1,   0x666666},
    {Style::Label,  12, false, 0, 1,   0x444444},
    {Style::Name,   12, false, 0, 1,   0x333333},
    {Style::Grid,   0,  false, 1, 1,   0xe6e6e6},
    {Style::Axis,   0,  false, 1, 1,   0x888888},
    {Style::Line,   0,  false, 2, 1,   0x333333},
    {Style::Faint,  0,  false, 1, 0.4, 0x333333},
};
// clang-format on

/// Differences of larger values would overflow.
bool drawable(double value) { return std::abs(value) <= 1e300; }

struct Axis {
  double low = 0, high = 1, step = 0.25;
  bool log = false;  // low and high are decimal logarithms
  double place(double value) const { return ((log ? std::log10(value) : value) - low) / (high - low); }
  bool shows(double value) const { return drawable(value) && (!log || value > 0); }
};

/// A step of 1, 2 or 5 times a power of ten, about `ticks` of them from low to high.
double round_step(double low, double high, int ticks) {
  const double rough = high / ticks - low / ticks, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double digit = rough / power;
  return (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10) * power;
}

struct AxisKind {
  int ticks;
  bool round_up, log;
};

/// A range that holds all values that can be drawn.
Axis axis_of(const Chart& chart, std::vector<double> Series::* values, AxisKind kind) {
  Axis axis{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), 1, kind.log};
  for (const Series& series : chart.series)
    for (double value : series.*values)
      if (axis.shows(value)) axis.low = std::min(axis.low, value), axis.high = std::max(axis.high, value);
  if (axis.low > axis.high) return {};
  if (kind.log) axis.low = std::log10(axis.low), axis.high = std::log10(axis.high);
  if (axis.high - axis.low <= std::abs(axis.high) * 1e-12) {  // one value: a range around it
    const double margin = axis.high == 0 ? 1 : std::abs(axis.high) * 0.1;
    axis.low -= margin, axis.high += margin;
  }
  if (kind.log) return axis;
  axis.step = round_step(axis.low, axis.high, kind.ticks);
  if (!std::isfinite(axis.step) || axis.step <= 0) return {};
  if (kind.round_up) {
    axis.low = std::floor(axis.low / axis.step) * axis.step;
    axis.high = std::ceil(axis.high / axis.step) * axis.step;
  }
  return axis;
}

/// A number with the digits that tell it from its neighbours a step away.
std::string tick_text(double value, double step) {
  if (std::abs(value) < step * 1e-6) return "0";
  const double size = std::abs(value);
  if (size >= 1e6 || step < 1e-4) return fmt::format("{:.4g}", value);
  const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return fmt::format("{:.{}f}", value, digits);
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

/// Calls `each` with every tick in the axis and its text.
template <class F>
void for_ticks(const Axis& axis, F&& each) {
  const double first = std::ceil(axis.low / axis.step - 1e-9);
  for (int i = 0; i < 100; ++i) {
    const double value = (first + i) * axis.step;
    if (value > axis.high + axis.step * 1e-9) return;
    each(value, tick_text(value, axis.step));
  }
}

/// Of a logarithmic axis: 1, 2 and 5 times powers of ten; the powers alone where it is long.
template <class F>
void for_log_ticks(const Axis& axis, F&& each) {
  const bool is_long = axis.high - axis.low > 3;
  for (double decade = std::floor(axis.low); decade <= axis.high; ++decade) {
    for (double digit : {1.0, 2.0, 5.0}) {
      const double value = digit * std::pow(10.0, decade), place = axis.place(value);
      if ((is_long && digit != 1) || place < -1e-9 || place > 1 + 1e-9) continue;
      each(value, fmt::format("{:g}", value));
    }
  }
}

Path line_from(Point from, Point to, Style style) { return {{from, to}, style, row_of(style).colour}; }

void add_grid(Drawing& out, const Plot& plot) {
  for_ticks(plot.y_axis, [&](double value, const std::string& text) {
    const double y = plot.y(value);
    out.paths.push_back(line_from({plot.left(), y}, {plot.right(), y}, Style::Grid));
    out.texts.push_back({{plot.left() - 8, y + 4}, Style::Tick, Anchor::End, false, text});
  });
  const auto x_tick = [&](double value, const std::string& text) {
    const double x = plot.x(value);
    out.paths.push_back(line_from({x, plot.bottom()}, {x, plot.bottom() + 5}, Style::Axis));
    out.texts.push_back({{x, plot.bottom() + 19}, Style::Tick, Anchor::Middle, false, text});
  };
  if (plot.x_axis.log) for_log_ticks(plot.x_axis, x_tick);
  else for_ticks(plot.x_axis, x_tick);
  out.paths.push_back(line_from({plot.left(), plot.bottom()}, {plot.right(), plot.bottom()}, Style::Axis));
}

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

void add_line(Drawing& out, const std::vector<Point>& points, Style style, Colour colour) {
  if (points.empty()) return;
  if (points.size() == 1) out.dots.push_back({points[0], 3, colour});
  else out.paths.push_back({thinned(points), style, colour});
}

Style style_of(const Series& series) { return series.faint ? Style::Faint : Style::Line; }

Colour colour_of(const Chart& chart, const Series& series) {
  const auto own = static_cast<size_t>(&series - chart.series.data());
  return kColours[(series.colour < 0 ? own : static_cast<size_t>(series.colour)) % std::size(kColours)];
}

void add_curve(Drawing& out, const Plot& plot, const Series& series, Colour colour) {
  if (series.x.size() != series.y.size())
    fail("chart: series {} has {} x and {} y", series.name, series.x.size(), series.y.size());
  std::vector<Point> run;
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (plot.x_axis.shows(series.x[i]) && plot.y_axis.shows(series.y[i])) {
      run.push_back({plot.x(series.x[i]), plot.y(series.y[i])});
      continue;
    }
    add_line(out, run, style_of(series), colour);
    run.clear();
  }
  add_line(out, run, style_of(series), colour);
}

/// UTF-8 characters, not bytes.
double text_width(const std::string& text) {
  const auto starts = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return kCharWidth * static_cast<double>(starts);
}

struct LegendRow {
  std::vector<const Series*> series;
  double width = 0;
};

double legend_width(const Series& series) { return 26 + text_width(series.name) + 16; }

/// The named series, in rows no wider than the plot.
std::vector<LegendRow> legend_rows(const Chart& chart) {
  std::vector<LegendRow> rows(1);
  for (const Series& series : chart.series) {
    if (series.name.empty()) continue;
    const double width = rows.back().width + legend_width(series);
    if (!rows.back().series.empty() && width > kWidth - kLeft - kRight) rows.emplace_back();
    rows.back().series.push_back(&series);
    rows.back().width += legend_width(series);
  }
  return rows;
}

/// Swatch and name of each series, from the right edge.
void add_legend(Drawing& out, const Chart& chart, const std::vector<LegendRow>& rows, double y) {
  for (const LegendRow& row : rows) {
    double x = std::max(kLeft, kWidth - kRight - row.width + 16);
    for (const Series* series : row.series) {
      out.paths.push_back({{{x, y - 4}, {x + 20, y - 4}}, style_of(*series), colour_of(chart, *series)});
      out.texts.push_back({{x + 26, y}, Style::Name, Anchor::Start, false, series->name});
      x += legend_width(*series);
    }
    y += kLegendRow;
  }
}

/// Adds a panel below what there is.
void add_panel(Drawing& out, const Chart& chart) {
  const std::vector<LegendRow> rows = legend_rows(chart);
  const double top = out.height, legend = kLegendRow * static_cast<double>(rows.size() - 1);
  const Plot plot{axis_of(chart, &Series::x, {8, false, chart.log_x}),
                  axis_of(chart, &Series::y, {5, true, false}), top + kTop + legend};
  out.texts.push_back({{kLeft, top + 26}, Style::Title, Anchor::Start, false, chart.title});
  add_legend(out, chart, rows, top + 48);
  add_grid(out, plot);
  const double middle = (plot.top + plot.bottom()) / 2, centre = (plot.left() + plot.right()) / 2;
  out.texts.push_back({{centre, plot.bottom() + 40}, Style::Label, Anchor::Middle, false, chart.x_label});
  out.texts.push_back({{18, middle}, Style::Label, Anchor::Middle, true, chart.y_label});
  // Faint lines first, so that they don't cover the others.
  for (bool faint : {true, false})
    for (const Series& series : chart.series)
      if (series.faint == faint) add_curve(out, plot, series, colour_of(chart, series));
  out.height += kHeight + legend;
}

}  // namespace

std::span<const StyleRow> style_table() { return kStyles; }
const StyleRow& row_of(Style style) { return kStyles[static_cast<size_t>(style)]; }

Drawing draw(std::span<const Chart> panels) {
  Drawing out;
  out.width = kWidth;
  for (const Chart& chart : panels) add_panel(out, chart);
  return out;
}

}  // namespace kontor::tools::drawing
