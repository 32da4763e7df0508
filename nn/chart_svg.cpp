// Drawings as SVG, a text of its own that any browser shows.
#include "base/error.h"
#include "nn/drawing.h"

namespace kontor::inline v0 {
namespace {

using namespace drawing;

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

std::string svg_of(const Path& path) {
  std::string data;
  for (const Point& p : path.points)
    data += fmt::format("{}{:.1f} {:.1f}", data.empty() ? 'M' : 'L', p.x, p.y);
  return fmt::format("<path d=\"{}\" class=\"{}\" stroke=\"#{:06x}\"/>\n", data, row_of(path.style).name,
                     path.colour);
}

std::string svg_of(const Dot& dot) {
  return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:g}\" fill=\"#{:06x}\"/>\n", dot.at.x,
                     dot.at.y, dot.radius, dot.colour);
}

std::string svg_of(const Text& text) {
  static constexpr const char* anchors[] = {"", " middle", " end"};
  const std::string turned =
      text.upward ? fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", text.at.x, text.at.y) : "";
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}{}\"{}>{}</text>\n", text.at.x, text.at.y,
                     row_of(text.style).name, anchors[static_cast<size_t>(text.anchor)], turned,
                     escaped(text.text));
}

std::string style_sheet() {
  std::string out = "<style>\ntext { font-family: \"Helvetica Neue\", Helvetica, Arial, sans-serif }\n";
  out += "path { fill: none; stroke-linejoin: round; stroke-linecap: round }\n";
  out += ".middle { text-anchor: middle }\n.end { text-anchor: end }\n";
  for (const StyleRow& row : style_table()) {
    std::string selector;
    for (char c : std::string_view(row.name)) selector += c == ' ' ? '.' : c;
    if (row.size > 0)
      out += fmt::format(".{} {{ font-size: {:g}px; font-weight: {}; fill: #{:06x} }}\n", selector, row.size,
                         row.bold ? 600 : 400, row.colour);
    else
      out += fmt::format(".{} {{ stroke-width: {:g}; stroke-opacity: {:g} }}\n", selector, row.stroke,
                         row.opacity);
  }
  return out + "</style>\n";
}

}  // namespace

std::string format_svg(std::span<const Chart> panels) {
  const Drawing drawing = draw(panels);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\">\n",
      drawing.width, drawing.height);
  out += style_sheet();
  out += "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
  for (const Path& path : drawing.paths) out += svg_of(path);
  for (const Dot& dot : drawing.dots) out += svg_of(dot);
  for (const Text& text : drawing.texts) out += svg_of(text);
  return out + "</svg>\n";
}

}  // namespace kontor::inline v0
