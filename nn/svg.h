// Learning curves as SVG, a text of its own that any browser shows.
#pragma once
#include <span>
#include <string>
#include <vector>

namespace kontor::inline v0 {

/// A line through the points (x[i], y[i]), in the order given. A value that is not finite breaks the line.
struct Series {
  std::string name;
  std::vector<double> x, y;
  /// Thin and pale, for what is too noisy to be read point by point (the loss of each step).
  bool faint = false;
};

/// One panel: series over common axes. The ranges follow from the data and end at round numbers.
struct Chart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
};

/// The panels one below the other, 760 x 320 each. A series of any length is thinned to what the pixels can
/// show. Throws Error where a series has unlike numbers of x and y.
std::string format_svg(std::span<const Chart> panels);

}  // namespace kontor::inline v0
