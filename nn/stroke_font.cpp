// A font of strokes for pictures: each letter a few lines on a grid, rounded where it says so.
#include <algorithm>
#include <array>
#include <string_view>

#include "nn/drawing.h"

namespace kontor::inline v0::drawing {
namespace {

// Capitals are 12 units high, small letters 8. A stroke is a list of points, each x as a hexadecimal digit and y as a
// letter, A = -4 to E = 0, the baseline, to Q = 12. A stroke that opens with ~ is a quadratic B-spline of its points,
// closed where the last is the first; strokes are parted by blanks.
constexpr double kUnit = 0.06;  // of the font size
constexpr double kGap = 2.8;    // between letters
struct Glyph {
  char32_t code;
  int width;
  std::string_view strokes;
};

// clang-format off
constexpr Glyph kGlyphs[] = {
    {' ', 2, ""},
    {'!', 0, "0Q0I 0E0F"},
    {'"', 3, "0Q0N 3Q3N"},
    {'#', 8, "1E3Q 5E7Q 0I8I 0M8M"},
    {'$', 8, "~8O8Q0Q0K8K8E0E0G 4R4D"},
    {'%', 11, "~0L4L4Q0Q0L ~7EbEbJ7J7E 9Q2E"},
    {'&', 9, "~9E2L2Q6Q6M0J0E7E8J"},
    {'\'', 0, "0Q0N"},
    {'(', 3, "~3R0O0F3C"},
    {')', 3, "~0R3O3F0C"},
    {'*', 6, "3P3J 0O6K 6O0K"},
    {'+', 8, "0J8J 4F4N"},
    {',', 1, "1F0C"},
    {'-', 4, "0I4I"},
    {'.', 0, "0E0F"},
    {'/', 6, "0C6Q"},
    {'0', 8, "~0E8E8Q0Q0E"},
    {'1', 4, "0N4Q4E"},
    {'2', 8, "~0N0Q8Q8K4I0E 0E8E"},
    {'3', 8, "~0O0Q7Q7K3K ~3K8K8E0E0G"},
    {'4', 8, "6E6Q0H8H"},
    {'5', 8, "7Q1Q0K ~0K2M8M8E0E0G"},
    {'6', 8, "~7P4Q0Q0E8E8L0L0H"},
    {'7', 8, "0Q8Q3E"},
    {'8', 8, "~1L7L7Q1Q1L ~0E8E8L0L0E"},
    {'9', 8, "~1F4E8E8Q0Q0J8J8N"},
    {':', 0, "0E0F 0K0L"},
    {';', 1, "1F0C 1K1L"},
    {'<', 7, "7N0J7F"},
    {'=', 7, "0H7H 0L7L"},
    {'>', 7, "0N7J0F"},
    {'?', 6, "~0O0Q6Q6K3K3H 3E3F"},
    {'@', 10, "~7M2M2H7H7M ~7M7HaHaQ0Q0D8D"},
    {'A', 8, "0E4Q8E 1H7H"},
    {'B', 8, "0E0Q ~0Q4Q7Q7K4K0K ~0K5K8K8E5E0E"},
    {'C', 9, "~9N9Q0Q0E9E9H"},
    {'D', 9, "0E0Q ~0Q3Q9Q9E3E0E"},
    {'E', 7, "7Q0Q0E7E 0K6K"},
    {'F', 7, "7Q0Q0E 0K6K"},
    {'G', 9, "~9N9Q0Q0E9E9K 9K5K"},
    {'H', 8, "0Q0E 8Q8E 0K8K"},
    {'I', 0, "0Q0E"},
    {'J', 6, "~6Q6I6E0E0H"},
    {'K', 8, "0Q0E 8Q0I 3L8E"},
    {'L', 7, "0Q0E7E"},
    {'M', 10, "0E0Q5GaQaE"},
    {'N', 8, "0E0Q8E8Q"},
    {'O', 10, "~0EaEaQ0Q0E"},
    {'P', 8, "0E0Q ~0Q4Q8Q8J4J0J"},
    {'Q', 10, "~0EaEaQ0Q0E 6HaD"},
    {'R', 8, "0E0Q ~0Q4Q8Q8J4J0J 4J8E"},
    {'S', 8, "~8N8Q0Q0K8K8E0E0H"},
    {'T', 8, "0Q8Q 4Q4E"},
    {'U', 8, "~0Q0J0E8E8J8Q"},
    {'V', 8, "0Q4E8Q"},
    {'W', 12, "0Q3E6Q9EcQ"},
    {'X', 8, "0Q8E 8Q0E"},
    {'Y', 8, "0Q4K8Q 4K4E"},
    {'Z', 8, "0Q8Q0E8E"},
    {'[', 3, "3R0R0C3C"},
    {'\\', 6, "0Q6C"},
    {']', 3, "0R3R3C0C"},
    {'^', 6, "0M3Q6M"},
    {'_', 7, "0C7C"},
    {'`', 2, "0Q2O"},
    {'a', 7, "7M7E ~7E7M0M0E7E"},
    {'b', 7, "0Q0E ~0E7E7M0M0E"},
    {'c', 6, "~6L6M0M0E6E6F"},
    {'d', 7, "7Q7E ~7E7M0M0E7E"},
    {'e', 7, "0I7I ~7I7M0M0E7E7G"},
    {'f', 4, "~4Q1Q1N1E 0M4M"},
    {'g', 7, "~7M7E7A0A0C ~7E7M0M0E7E"},
    {'h', 6, "0Q0E ~0I0M6M6I6E"},
    {'i', 0, "0M0E 0P0Q"},
    {'j', 2, "~2M2E2A0A 2P2Q"},
    {'k', 6, "0Q0E 6M0G 2I6E"},
    {'l', 0, "0Q0E"},
    {'m', 10, "0M0E ~0I0M5M5I5E ~5I5MaMaIaE"},
    {'n', 6, "0M0E ~0I0M6M6I6E"},
    {'o', 7, "~0E7E7M0M0E"},
    {'p', 7, "0M0A ~0E7E7M0M0E"},
    {'q', 7, "7M7A ~7E7M0M0E7E"},
    {'r', 3, "0M0E ~0I0M3M"},
    {'s', 6, "~6K6M0M0I6I6E0E0G"},
    {'t', 4, "~1P1H1E4E 0M4M"},
    {'u', 6, "~0M0I0E6E6I 6M6E"},
    {'v', 6, "0M3E6M"},
    {'w', 10, "0M2E5M8EaM"},
    {'x', 6, "0M6E 6M0E"},
    {'y', 6, "0M3E 6M2B0B"},
    {'z', 6, "0M6M0E6E"},
    {'{', 4, "~4R2R2L0J ~0J2H2C4C"},
    {'|', 0, "0R0B"},
    {'}', 4, "~0R2R2L4J ~4J2H2C0C"},
    {'~', 7, "~0I0L3L4H7H7K"},
    {U'\u00b1', 8, "0K8K 4G4O 0E8E"},
    {U'\u00b7', 0, "0I0J"},
    {U'\u00d7', 7, "0G7M 7G0M"},
    {U'\u2013', 7, "0I7I"},
    {U'\u2264', 7, "7O0K7G 0E7E"},
    {U'\u2265', 7, "0O7K0G 0E7E"},
};
// clang-format on

constexpr Glyph kUnknown{0, 7, "0E7E7Q0Q0E"};

const Glyph& glyph_of(char32_t code) {
  const auto* found =
      std::find_if(std::begin(kGlyphs), std::end(kGlyphs), [&](const Glyph& g) { return g.code == code; });
  return found == std::end(kGlyphs) ? kUnknown : *found;
}

/// The next character of UTF-8 text, of which `at` is moved on; bytes that are none count one by one.
char32_t next_code(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(i < text.size() ? text[i] : 0); };
  const unsigned char first = byte(at++);
  const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
  char32_t code = more == 0 ? first : first & (0x3Fu >> more);
  for (int i = 0; i < more && (byte(at) & 0xC0) == 0x80; ++i) code = code << 6 | (byte(at++) & 0x3Fu);
  return code;
}

/// Corners cut at a quarter and three quarters of their edges, again and again, tend to a quadratic B-spline (Chaikin).
std::vector<Point> rounded(std::vector<Point> points) {
  const bool closed = points.front().x == points.back().x && points.front().y == points.back().y;
  const auto between = [](Point a, Point b, double t) {
    return Point{a.x + t * (b.x - a.x), a.y + t * (b.y - a.y)};
  };
  for (int round = 0; round < 3; ++round) {
    std::vector<Point> cut;
    for (size_t i = 0; i + 1 < points.size(); ++i) {
      const bool first = i == 0 && !closed, last = i + 2 == points.size() && !closed;
      cut.push_back(first ? points[i] : between(points[i], points[i + 1], 0.25));
      cut.push_back(last ? points[i + 1] : between(points[i], points[i + 1], 0.75));
    }
    if (closed) cut.push_back(cut.front());
    points = std::move(cut);
  }
  return points;
}

std::vector<Point> stroke_of(std::string_view stroke) {
  const bool round = stroke.starts_with('~');
  if (round) stroke.remove_prefix(1);
  std::vector<Point> points;
  for (size_t i = 0; i + 1 < stroke.size(); i += 2) {
    const char x = stroke[i];
    points.push_back(
        {static_cast<double>(x <= '9' ? x - '0' : x - 'a' + 10), static_cast<double>(stroke[i + 1] - 'E')});
  }
  return round ? rounded(std::move(points)) : points;
}

}  // namespace

Strokes strokes_of(const std::string& text) {
  Strokes out;
  for (size_t at = 0; at < text.size();) {
    const Glyph& glyph = glyph_of(next_code(text, at));
    for (size_t begin = 0; begin < glyph.strokes.size();) {
      const size_t end = std::min(glyph.strokes.find(' ', begin), glyph.strokes.size());
      std::vector<Point> line = stroke_of(glyph.strokes.substr(begin, end - begin));
      for (Point& p : line) p = {out.width + p.x * kUnit, p.y * kUnit};
      out.lines.push_back(std::move(line));
      begin = end + 1;
    }
    out.width += (glyph.width + kGap) * kUnit;
  }
  if (out.width > 0) out.width -= kGap * kUnit;
  return out;
}

}  // namespace kontor::inline v0::drawing
