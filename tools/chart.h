// Learning curves as pictures: one description of panels, written as SVG or as PNG.
#pragma once
#include <span>
#include <string>
#include <vector>

namespace kontor::tools {

/// A line through the points (x[i], y[i]), in the order given. A value that is not finite breaks the line.
struct Series {
  std::string name;  ///< in the legend; "" stands in none
  std::vector<double> x, y;
  /// Thin and pale, for what is too noisy to be read point by point (the loss of each step).
  bool faint = false;
  int colour = -1;  ///< place in the palette; -1: the series' own place in the chart
};

/// One panel: series over common axes. The ranges follow from the data and end at round numbers.
struct Chart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_x = false;  ///< decades are equally long; x that is not positive is left out
};

/// A field for each row and column, coloured by its value: blue below 0, orange above, grey where it is NaN.
struct HeatMap {
  std::string title, x_label;
  std::vector<std::string> rows = {}, columns = {};  ///< their names
  std::vector<std::vector<double>> values = {};      ///< [row][column]
  double limit = 12;                                 ///< from which on a colour is full
};

/// The panels one below the other, 760 wide, 320 high and more where a legend needs several rows. A series of any
/// length is thinned to what the pixels can show. Throws Error where a series has unlike numbers of x and y. Letters are
/// those of the system's sans-serif font, as outlines.
std::string format_svg(std::span<const Chart> panels);
/// The same picture as the bytes of a PNG file, `scale` pixels a unit, 0.25 to 16.
std::string format_png(std::span<const Chart> panels, double scale = 2);
/// The same of a heat map, 760 wide and as high as its rows need. Throws Error where a row has another number of values than there are
/// columns.
std::string format_svg(const HeatMap& map);
std::string format_png(const HeatMap& map, double scale = 2);

}  // namespace kontor::tools
