// Drawings painted by Cairo, as SVG and as PNG.
#include "tools/chart.h"

#include <cairo-svg.h>
#include <cairo.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "tools/drawing.h"

namespace kontor::tools {
namespace {

using namespace drawing;

using Surface = std::unique_ptr<cairo_surface_t, decltype(&cairo_surface_destroy)>;
using Brush = std::unique_ptr<cairo_t, decltype(&cairo_destroy)>;

void check(cairo_status_t status) {
  if (status != CAIRO_STATUS_SUCCESS) fail("chart: cairo: {}", cairo_status_to_string(status));
}

void choose(cairo_t* to, Colour colour, double opacity) {
  cairo_set_source_rgba(to, (colour >> 16) / 255.0, (colour >> 8 & 255) / 255.0, (colour & 255) / 255.0,
                        opacity);
}

void paint(cairo_t* to, const Area& area) {
  cairo_rectangle(to, area.corner.x, area.corner.y, area.width, area.height);
  choose(to, area.colour, 1);
  cairo_fill(to);
}

void paint(cairo_t* to, const Path& path) {
  const StyleRow& row = row_of(path.style);
  for (const Point& p : path.points) cairo_line_to(to, p.x, p.y);
  cairo_set_line_width(to, row.stroke);
  choose(to, path.colour, row.opacity);
  cairo_stroke(to);
}

void paint(cairo_t* to, const Dot& dot) {
  cairo_arc(to, dot.at.x, dot.at.y, dot.radius, 0, 2 * std::numbers::pi);
  choose(to, dot.colour, 1);
  cairo_fill(to);
}

/// The text with U+FFFD in place of what is not UTF-8, which Cairo refuses.
std::string readable(const std::string& text) {
  const auto replace = nlohmann::json::error_handler_t::replace;
  return nlohmann::json::parse(nlohmann::json(text).dump(-1, ' ', false, replace)).get<std::string>();
}

void paint(cairo_t* to, const Text& text) {
  const StyleRow& row = row_of(text.style);
  const std::string words = readable(text.text);
  cairo_select_font_face(to, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                         row.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(to, row.size);
  cairo_text_extents_t extents;
  cairo_text_extents(to, words.c_str(), &extents);
  const double before = text.anchor == Anchor::Start ? 0 : text.anchor == Anchor::Middle ? 0.5 : 1;
  cairo_save(to);
  cairo_translate(to, text.at.x, text.at.y);
  if (text.upward) cairo_rotate(to, -std::numbers::pi / 2);
  cairo_move_to(to, -before * extents.x_advance, 0);
  choose(to, row.colour, 1);
  cairo_show_text(to, words.c_str());
  cairo_restore(to);
}

void paint(cairo_surface_t* surface, const Drawing& drawing, double scale) {
  const Brush brush(cairo_create(surface), cairo_destroy);
  cairo_t* to = brush.get();
  cairo_scale(to, scale, scale);
  choose(to, 0xffffff, 1);
  cairo_paint(to);
  cairo_set_line_cap(to, CAIRO_LINE_CAP_ROUND);
  cairo_set_line_join(to, CAIRO_LINE_JOIN_ROUND);
  for (const Area& area : drawing.areas) paint(to, area);
  for (const Path& path : drawing.paths) paint(to, path);
  for (const Dot& dot : drawing.dots) paint(to, dot);
  for (const Text& text : drawing.texts) paint(to, text);
  check(cairo_status(to));
}

cairo_status_t append(void* out, const unsigned char* bytes, unsigned count) {
  static_cast<std::string*>(out)->append(reinterpret_cast<const char*>(bytes), count);
  return CAIRO_STATUS_SUCCESS;
}

std::string as_svg(const Drawing& drawing) {
  std::string out;
  const Surface surface(cairo_svg_surface_create_for_stream(append, &out, drawing.width, drawing.height),
                        cairo_surface_destroy);
  paint(surface.get(), drawing, 1);
  cairo_surface_finish(surface.get());
  check(cairo_surface_status(surface.get()));
  return out;
}

std::string as_png(const Drawing& drawing, double scale) {
  const auto pixels = [&](double size) { return std::max(1, static_cast<int>(std::lround(size * scale))); };
  const Surface surface(
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, pixels(drawing.width), pixels(drawing.height)),
      cairo_surface_destroy);
  paint(surface.get(), drawing, scale);
  std::string out;
  check(cairo_surface_write_to_png_stream(surface.get(), append, &out));
  return out;
}

void check_scale(double scale) {
  if (!(scale >= 0.25 && scale <= 16)) fail("chart: a scale of {}; 0.25 to 16 is possible", scale);
}

}  // namespace

std::string format_svg(std::span<const Chart> panels) { return as_svg(draw(panels)); }
std::string format_png(std::span<const Chart> panels, double scale) {
  check_scale(scale);
  return as_png(draw(panels), scale);
}
std::string format_svg(const HeatMap& map) { return as_svg(draw(map)); }
std::string format_png(const HeatMap& map, double scale) {
  check_scale(scale);
  return as_png(draw(map), scale);
}

}  // namespace kontor::tools
