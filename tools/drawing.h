// A picture as a list of marks, between the layout of charts and what paints them.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tools/chart.h"

namespace kontor::tools::drawing {

struct Point {
  double x = 0, y = 0;  ///< from the upper left corner
};

using Colour = uint32_t;  ///< 0xrrggbb

enum class Style : uint8_t { Title, Tick, Label, Name, Grid, Axis, Line, Faint };

/// How marks of a style look. `size` is that of text, `stroke` the width of lines; one of the two is 0.
struct StyleRow {
  Style style;
  double size;
  bool bold;
  double stroke, opacity;
  Colour colour;  ///< where a mark has none of its own
};
std::span<const StyleRow> style_table();
const StyleRow& row_of(Style style);

enum class Anchor : uint8_t { Start, Middle, End };

struct Text {
  Point at;  ///< on the baseline
  Style style;
  Anchor anchor;
  bool upward;  ///< turned by a quarter to the left around `at`
  std::string text;
};

struct Path {
  std::vector<Point> points;
  Style style;
  Colour colour;
};

struct Dot {
  Point at;
  double radius;
  Colour colour;
};

/// A filled rectangle.
struct Area {
  Point corner;  ///< upper left
  double width, height;
  Colour colour;
};

/// Areas and paths lie over each other in their order, then come dots and text.
struct Drawing {
  double width = 0, height = 0;
  std::vector<Area> areas = {};
  std::vector<Path> paths;
  std::vector<Dot> dots;
  std::vector<Text> texts;
};

/// The panels, or the map, laid out.
Drawing draw(std::span<const Chart> panels);
Drawing draw(const HeatMap& map);

}  // namespace kontor::tools::drawing
