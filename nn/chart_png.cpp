// Drawings as PNG: strokes with soft edges, text by the font of stroke_font.cpp, packed by zlib.
#include <zlib.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "nn/drawing.h"

namespace kontor::inline v0 {
namespace {

using namespace drawing;

/// Pixels of three bytes on white; coordinates are pixels.
class Canvas {
 public:
  Canvas(int64_t width, int64_t height)
      : width_(width),
        height_(height),
        pixels_(static_cast<size_t>(3 * width * height), 255),
        cover_(static_cast<size_t>(width * height), 0) {}

  /// Lines of one width with round ends and corners, of even tone where they cross each other.
  void stroke(const std::vector<std::vector<Point>>& lines, double width, Colour colour, double opacity) {
    for (const std::vector<Point>& line : lines)
      for (size_t i = 0; i < line.size(); ++i) cover(line[i > 0 ? i - 1 : 0], line[i], width / 2);
    for (size_t at : touched_) {
      blend(&pixels_[3 * at], colour, opacity * static_cast<double>(cover_[at]));
      cover_[at] = 0;
    }
    touched_.clear();
  }

  int64_t width() const { return width_; }
  int64_t height() const { return height_; }
  const uint8_t* row(int64_t y) const { return &pixels_[static_cast<size_t>(3 * width_ * y)]; }

 private:
  static void blend(uint8_t* pixel, Colour colour, double weight) {
    for (int c = 0; c < 3; ++c) {
      const double target = (colour >> (16 - 8 * c)) & 255, now = pixel[c];
      pixel[c] = static_cast<uint8_t>(std::lround(now + weight * (target - now)));
    }
  }

  static double distance(Point p, Point a, Point b) {
    const double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
    const double t = length > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length, 0.0, 1.0) : 0.0;
    return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
  }

  static int64_t pixel(double at, int64_t size) {
    return static_cast<int64_t>(std::clamp(at, 0.0, static_cast<double>(size)));
  }

  // Each pixel is covered as far as its middle lies inside the edge, over one pixel.
  void cover(Point a, Point b, double radius) {
    const double reach = radius + 1;
    const int64_t left = pixel(std::min(a.x, b.x) - reach, width_),
                  top = pixel(std::min(a.y, b.y) - reach, height_);
    const int64_t right = pixel(std::max(a.x, b.x) + reach + 1, width_);
    const int64_t bottom = pixel(std::max(a.y, b.y) + reach + 1, height_);
    for (int64_t y = top; y < bottom; ++y) {
      for (int64_t x = left; x < right; ++x) {
        const Point middle{static_cast<double>(x) + 0.5, static_cast<double>(y) + 0.5};
        const double inside = std::clamp(radius + 0.5 - distance(middle, a, b), 0.0, 1.0);
        const auto at = static_cast<size_t>(y * width_ + x);
        if (inside <= static_cast<double>(cover_[at])) continue;
        if (cover_[at] == 0) touched_.push_back(at);
        cover_[at] = static_cast<float>(inside);
      }
    }
  }

  int64_t width_, height_;
  std::vector<uint8_t> pixels_;
  std::vector<float> cover_;
  std::vector<size_t> touched_;
};

void write(Canvas& canvas, const Text& text, double scale) {
  const StyleRow& row = row_of(text.style);
  Strokes strokes = strokes_of(text.text);
  const double shift = text.anchor == Anchor::Start ? 0 : text.anchor == Anchor::Middle ? 0.5 : 1;
  for (std::vector<Point>& line : strokes.lines) {
    for (Point& p : line) {
      const double along = (p.x - shift * strokes.width) * row.size, up = p.y * row.size;
      p = text.upward ? Point{text.at.x - up, text.at.y - along} : Point{text.at.x + along, text.at.y - up};
      p.x *= scale, p.y *= scale;
    }
  }
  canvas.stroke(strokes.lines, row.size * (row.bold ? 0.125 : 0.095) * scale, row.colour, 1);
}

void append(std::string& out, uint32_t word) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((word >> shift) & 255);
}

// PNG specification, third edition, section 5.3: length, type, data, CRC of the last two.
void append_chunk(std::string& out, const std::string& type, const std::string& data) {
  append(out, static_cast<uint32_t>(data.size()));
  const std::string body = type + data;
  out += body;
  append(out, static_cast<uint32_t>(
                  crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))));
}

std::string packed(const Canvas& canvas) {
  std::string rows;
  for (int64_t y = 0; y < canvas.height(); ++y) {
    rows += '\0';  // no filter
    rows.append(reinterpret_cast<const char*>(canvas.row(y)), static_cast<size_t>(3 * canvas.width()));
  }
  uLongf size = compressBound(rows.size());
  std::string out(size, '\0');
  if (compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(rows.data()),
                rows.size(), Z_BEST_COMPRESSION) != Z_OK)
    fail("chart: zlib has no memory for a picture of {} x {}", canvas.width(), canvas.height());
  out.resize(size);
  return out;
}

std::string encode(const Canvas& canvas) {
  std::string header;
  append(header, static_cast<uint32_t>(canvas.width()));
  append(header, static_cast<uint32_t>(canvas.height()));
  header += std::string("\x08\x02\x00\x00\x00", 5);  // eight bits, red green blue, not interlaced
  std::string out = "\x89PNG\r\n\x1a\n";
  append_chunk(out, "IHDR", header);
  append_chunk(out, "IDAT", packed(canvas));
  append_chunk(out, "IEND", "");
  return out;
}

}  // namespace

std::string format_png(std::span<const Chart> panels, double scale) {
  if (!(scale >= 0.25 && scale <= 16)) fail("chart: a scale of {}; 0.25 to 16 is possible", scale);
  const Drawing drawing = draw(panels);
  Canvas canvas(std::lround(drawing.width * scale), std::max(1L, std::lround(drawing.height * scale)));
  for (const Path& path : drawing.paths) {
    std::vector<Point> points = path.points;
    for (Point& p : points) p.x *= scale, p.y *= scale;
    const StyleRow& row = row_of(path.style);
    canvas.stroke({points}, row.stroke * scale, path.colour, row.opacity);
  }
  for (const Dot& dot : drawing.dots)
    canvas.stroke({{{dot.at.x * scale, dot.at.y * scale}}}, 2 * dot.radius * scale, dot.colour, 1);
  for (const Text& text : drawing.texts) write(canvas, text, scale);
  return encode(canvas);
}

}  // namespace kontor::inline v0
