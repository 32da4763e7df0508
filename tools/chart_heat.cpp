// The layout of a heat map: a field for each value, names of rows at the left, of columns below, and what the colours mean.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tools/drawing.h"

namespace kontor::tools::drawing {
namespace {

constexpr double kLeft = 190, kTop = 44, kRight = 90, kBottom = 52, kRow = 13, kFields = 480;
constexpr Colour kLow = 0x0072b2, kHigh = 0xd55e00, kMiddle = 0xf7f7f7, kNothing = 0x999999;

Colour mixed(Colour from, Colour to, double part) {
  Colour out = 0;
  for (const int shift : {16, 8, 0}) {
    const double a = from >> shift & 255, b = to >> shift & 255;
    out |= static_cast<Colour>(std::lround(a + (b - a) * part)) << shift;
  }
  return out;
}

/// From blue (-limit and below) over near white (0) to orange (limit and above); grey: no number.
Colour colour_of(double value, double limit) {
  if (std::isnan(value)) return kNothing;
  const double part = std::clamp(value / limit, -1.0, 1.0);
  return part < 0 ? mixed(kMiddle, kLow, -part) : mixed(kMiddle, kHigh, part);
}

void add_scale(Drawing& out, double limit, double x, double top) {
  constexpr int fields = 16;
  constexpr double height = 9;
  for (int i = 0; i <= fields; ++i) {
    const double value = limit * (1 - 2.0 * i / fields), y = top + height * i;
    out.areas.push_back({{x, y}, 14, height, colour_of(value, limit)});
    if (i % 4 == 0)
      out.texts.push_back({{x + 20, y + 8}, Style::Tick, Anchor::Start, false, fmt::format("{:+g}", value)});
  }
}

}  // namespace

Drawing draw(const HeatMap& map) {
  Drawing out;
  const double rows = static_cast<double>(map.rows.size());
  out.width = kLeft + kFields + kRight, out.height = kTop + std::max(rows * kRow, 170.0) + kBottom;
  out.texts.push_back({{16, 26}, Style::Title, Anchor::Start, false, map.title});
  const double width = kFields / static_cast<double>(std::max<size_t>(map.columns.size(), 1));
  for (size_t i = 0; i < map.rows.size(); ++i) {
    const double y = kTop + kRow * static_cast<double>(i);
    out.texts.push_back({{kLeft - 6, y + 10}, Style::Tick, Anchor::End, false, map.rows[i]});
    if (i >= map.values.size() || map.values[i].size() != map.columns.size())
      fail("chart: row {} has other than {} values", map.rows[i], map.columns.size());
    for (size_t j = 0; j < map.columns.size(); ++j)
      out.areas.push_back(
          {{kLeft + width * static_cast<double>(j), y}, width, kRow, colour_of(map.values[i][j], map.limit)});
  }
  const double below = kTop + rows * kRow;
  constexpr double name_width = 60;
  double free_from = 0;
  for (size_t j = 0; j < map.columns.size(); ++j) {
    const double x = kLeft + width * (static_cast<double>(j) + 0.5);
    if (x < free_from) continue;
    out.texts.push_back({{x, below + 16}, Style::Tick, Anchor::Middle, false, map.columns[j]});
    free_from = x + name_width;
  }
  out.texts.push_back({{kLeft + kFields / 2, below + 38}, Style::Label, Anchor::Middle, false, map.x_label});
  add_scale(out, map.limit, kLeft + kFields + 14, kTop);
  return out;
}

}  // namespace kontor::tools::drawing
