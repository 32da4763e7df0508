// Tensor::to_string: a value as NumPy prints it (numpy/_core/arrayprint.py with its default options).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>

#include <kontor/tensor.h>
#include "graph/dtype.h"

namespace kontor {
namespace {

constexpr size_t kLineWidth = 75;
constexpr int kPrecision = 8;
constexpr int64_t kThreshold = 1000,
                  kEdge = 3;  // more elements than the first are shown as edges of the second

// The digits of a finite number in one of the two notations, no more than kPrecision after the point; what round-trips
// its type if that is shorter. With a point, without trailing zeros: "1." and "1.5e+08".
template <class T>
std::string digits(T value, std::chars_format format) {
  char text[512];
  auto end = std::to_chars(text, text + sizeof text, value, format).ptr;
  auto fraction = [&] {
    const std::string_view all(text, static_cast<size_t>(end - text));
    const size_t point = all.find('.'), exponent = std::min(all.find('e'), all.size());
    return point == std::string_view::npos ? 0 : static_cast<int>(exponent - point) - 1;
  };
  if (fraction() > kPrecision) end = std::to_chars(text, text + sizeof text, value, format, kPrecision).ptr;
  const std::string all(text, end);
  const size_t e = std::min(all.find('e'), all.size());
  std::string mantissa = all.substr(0, e);
  if (mantissa.find('.') == std::string::npos) return mantissa + '.' + all.substr(e);
  mantissa.erase(mantissa.find_last_not_of('0') + 1);
  return mantissa + all.substr(e);
}

// That many digits after the point, in the scientific notation.
template <class T>
std::string exact_digits(T value, int fraction) {
  char text[64];
  const auto format = std::chars_format::scientific;
  return {text, std::to_chars(text, text + sizeof text, value, format, fraction).ptr};
}

// Widths common to all elements shown of a float tensor.
struct FloatLayout {
  bool scientific = false;
  size_t left = 0, right = 0, precision = 0;
};

template <class T>
bool wants_scientific(std::span<const T> values) {
  T low = 0, high = 0;
  for (T v : values) {
    if (!std::isfinite(v) || v == 0) continue;
    high = std::max(high, std::abs(v));
    low = low == 0 ? std::abs(v) : std::min(low, std::abs(v));
  }
  return high >= T(1e8) || (low != 0 && (low < T(0.0001) || high / low > T(1000)));
}

template <class T>
FloatLayout float_layout(std::span<const T> values) {
  FloatLayout layout{.scientific = wants_scientific(values)};
  const auto format = layout.scientific ? std::chars_format::scientific : std::chars_format::fixed;
  size_t exponent = 0;
  for (T v : values) {
    if (!std::isfinite(v)) continue;
    const std::string text = digits(v, format);
    const size_t point = text.find('.'), e = std::min(text.find('e'), text.size());
    layout.left = std::max(layout.left, point);
    layout.precision = std::max(layout.precision, e - point - 1);
    exponent = std::max(exponent, text.size() - e);
  }
  layout.right = layout.precision + exponent;
  for (T v : values) {  // nan, inf and -inf take the whole width
    if (std::isfinite(v)) continue;
    const size_t width = std::isinf(v) && v < 0 ? 4 : 3;
    layout.left = std::max(layout.left + layout.right + 1, width) - layout.right - 1;
  }
  return layout;
}

std::string padded_left(std::string text, size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

template <class T>
std::string float_text(T value, const FloatLayout& layout) {
  const size_t width = layout.left + layout.right + 1;
  if (std::isnan(value)) return padded_left("nan", width);
  if (std::isinf(value)) return padded_left(value < 0 ? "-inf" : "inf", width);
  std::string text =
      digits(value, layout.scientific ? std::chars_format::scientific : std::chars_format::fixed);
  if (layout.scientific) {
    const size_t fraction = text.find('e') - text.find('.') - 1;
    // The others' digits go on exactly, not with zeros.
    if (fraction < layout.precision) text = exact_digits(value, static_cast<int>(layout.precision));
    return padded_left(text, width);
  }
  text.append(layout.precision - (text.size() - text.find('.') - 1), ' ');
  return padded_left(text, width);
}

// A single number, as Python prints it: the digits that round-trip its type.
template <class T>
std::string scalar_text(T value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const T size = std::abs(value);
  const bool fixed = size == 0 || (size >= T(1e-4) && size < T(1e16));
  char text[64];
  auto end = std::to_chars(text, text + sizeof text, value,
                           fixed ? std::chars_format::fixed : std::chars_format::scientific)
                 .ptr;
  const std::string out(text, end);
  return fixed && out.find('.') == std::string::npos ? out + ".0" : out;
}

// The elements that are shown, all or the edges of each axis, in order: positions in the row-major tensor.
void shown(const std::vector<int64_t>& shape, bool edges, size_t axis, int64_t base,
           std::vector<int64_t>& out) {
  if (axis == shape.size()) {
    out.push_back(base);
    return;
  }
  for (int64_t i = 0; i < shape[axis]; ++i) {
    if (edges && shape[axis] > 2 * kEdge && i == kEdge) i = shape[axis] - kEdge;
    shown(shape, edges, axis + 1, base * shape[axis] + i, out);
  }
}

// Lays the texts of the shown elements out in brackets and lines.
class Brackets {
 public:
  Brackets(const std::vector<int64_t>& shape, bool edges, const std::vector<std::string>& words)
      : shape_(shape), edges_(edges), words_(words) {}

  std::string text() { return axis(0, " ", kLineWidth); }

 private:
  bool summary(size_t axis) const { return edges_ && shape_[axis] > 2 * kEdge; }

  std::string axis(size_t n, const std::string& indent, size_t width) {
    const int64_t count = summary(n) ? 2 * kEdge : shape_[n];
    const std::string all =
        n + 1 == shape_.size() ? line(n, count, indent, width) : rows(n, count, indent, width);
    return '[' + all.substr(indent.size()) + ']';
  }

  // The innermost axis: words, broken into lines where they get too long.
  std::string line(size_t n, int64_t count, const std::string& indent, size_t width) {
    std::string done, current = indent;
    auto add = [&](const std::string& word) {
      if (current.size() + word.size() > width - 1 && current.size() > indent.size()) {
        done += current.substr(0, current.find_last_not_of(' ') + 1) + "\n";
        current = indent;
      }
      current += word;
    };
    for (int64_t i = 0; i < count; ++i) {
      if (summary(n) && i == kEdge) add("..."), current += " ";
      add(words_[next_++]);
      if (i + 1 < count) current += " ";
    }
    return done + current;
  }

  std::string rows(size_t n, int64_t count, const std::string& indent, size_t width) {
    const std::string gap(shape_.size() - n - 1, '\n');
    std::string all;
    for (int64_t i = 0; i < count; ++i) {
      if (summary(n) && i == kEdge) all += indent + "..." + gap;
      all += indent + axis(n + 1, indent + " ", width - 1);
      if (i + 1 < count) all += gap;
    }
    return all;
  }

  const std::vector<int64_t>& shape_;
  bool edges_;
  const std::vector<std::string>& words_;
  size_t next_ = 0;
};

std::vector<std::string> words_of(const std::vector<bool>& values, bool alone) {
  std::vector<std::string> out;
  for (bool v : values) out.push_back(v ? (alone ? "True" : " True") : "False");
  return out;
}

template <class T>
std::vector<std::string> words_of(const std::vector<T>& values, bool alone) {
  std::vector<std::string> out;
  if constexpr (std::is_floating_point_v<T>) {
    const FloatLayout layout = float_layout(std::span<const T>(values));
    for (T v : values) out.push_back(alone ? scalar_text(v) : float_text(v, layout));
  } else {
    size_t width = 0;
    for (T v : values) out.push_back(std::to_string(v));
    for (const std::string& word : out) width = std::max(width, word.size());
    for (std::string& word : out) word = padded_left(word, width);
  }
  return out;
}

template <class T>
std::string print(const Tensor& tensor) {
  const std::vector<int64_t> shape = tensor.shape();
  const std::vector<T> all = tensor.to_vector<T>();
  if (all.empty()) return "[]";
  const bool edges = static_cast<int64_t>(all.size()) > kThreshold;
  std::vector<int64_t> positions;
  shown(shape, edges, 0, 0, positions);
  std::vector<T> values;
  for (int64_t p : positions) values.push_back(all[static_cast<size_t>(p)]);
  const std::vector<std::string> words = words_of(values, shape.empty());
  return shape.empty() ? words[0] : Brackets(shape, edges, words).text();
}

}  // namespace

std::string Tensor::to_string() const {
  switch (dtype()) {
    case DType::Bool: return print<bool>(*this);
    case DType::F64:  return print<double>(*this);
    case DType::U64:  return print<uint64_t>(*this);
    default:          return is_float(dtype()) ? print<float>(*this) : print<int64_t>(*this);
  }
}

}  // namespace kontor
