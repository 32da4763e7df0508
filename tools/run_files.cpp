// The files of a run: metrics.csv and its curves.
#include <charconv>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "tools/run.h"

namespace kontor::tools {

namespace {

struct Column {
  const char* name;
  double Row::* value;
  const char* format;
};
constexpr Column kColumns[] = {
    {"loss", &Row::loss, "{:.6g}"},
    {"accuracy", &Row::accuracy, "{:.5g}"},
    {"learning_rate", &Row::learning_rate, "{:.6g}"},
    {"seconds", &Row::seconds, "{:.4f}"},
    {"tflop", &Row::tflop, "{:.10g}"},
    {"test_accuracy", &Row::test, "{:.4f}"},
    {"test_old", &Row::old, "{:.4f}"},
    {"test_new", &Row::fresh, "{:.4f}"},
};

std::string header() {
  std::string out = "step";
  for (const Column& c : kColumns) out += fmt::format(",{}", c.name);
  return out + "\n";
}

// A text that is a finite number and nothing else, or an Error.
double finite_number(std::string_view text, const std::string& where) {
  double value = 0;
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || stop != text.data() + text.size() || !std::isfinite(value))
    fail("{}: '{}' is not a number", where, text);
  return value;
}

// The text up to the next comma, which is cut off the line with it.
std::string_view next_cell(std::string_view& line) {
  const size_t end = std::min(line.find(','), line.size());
  const std::string_view cell = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return cell;
}

int64_t step_of(std::string_view cell, const std::string& where) {
  const double value = finite_number(cell, where);
  if (!(value >= 0 && value <= 0x1p40) || value != std::floor(value))
    fail("{}: there is no step {}", where, cell);
  return static_cast<int64_t>(value);
}

Series series_of(const std::vector<Row>& rows, const char* name, double Row::* y, bool faint, double scale) {
  Series out{.name = name, .x = {}, .y = {}, .faint = faint};
  for (const Row& row : rows) {
    if (std::isnan(row.*y)) continue;
    out.x.push_back(static_cast<double>(row.step)), out.y.push_back(scale * row.*y);
  }
  return out;
}

}  // namespace

std::string format_rows(const std::vector<Row>& rows) {
  std::string out = header();
  for (const Row& row : rows) {
    out += std::to_string(row.step);
    for (const Column& c : kColumns) {
      const double value = row.*c.value;
      out += ',';
      if (!std::isnan(value)) out += fmt::format(fmt::runtime(c.format), value);
    }
    out += '\n';
  }
  return out;
}

std::vector<Row> read_rows(const std::string& path) {
  if (!std::filesystem::is_regular_file(path))
    fail("{}: not a regular file", path);  // a pipe would be waited for
  const std::string text = read_file(path);
  if (!text.starts_with(header())) fail("{}: its columns are not {}", path, header());
  std::vector<Row> rows;
  size_t number = 1;
  for (size_t begin = header().size(); begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    const std::string where = fmt::format("{} line {}", path, ++number);
    Row row{.step = step_of(next_cell(line), where)};
    for (const Column& c : kColumns) {
      const std::string_view cell = next_cell(line);
      row.*c.value = cell.empty() ? Row::kNone : finite_number(cell, where);
    }
    if (!(row.tflop >= 0) || !(row.seconds >= 0)) fail("{}: neither work nor time can be less than 0", where);
    rows.push_back(row);
    begin = end + 1;
  }
  return rows;
}

double parse_work(const std::string& text, const std::string& checkpoint) {
  const double value = finite_number(text, checkpoint + ": tflop");
  if (value < 0) fail("{}: tflop: {} cannot have been done", checkpoint, text);
  return value;
}

std::vector<Chart> charts_of(const std::vector<Row>& rows) {
  Chart loss{"Loss", "step", "cross-entropy", {series_of(rows, "loss", &Row::loss, true, 1)}};
  Chart accuracy{"Accuracy",
                 "step",
                 "%",
                 {series_of(rows, "training batch", &Row::accuracy, true, 100),
                  series_of(rows, "test", &Row::test, false, 100)}};
  if (!std::isnan(rows.back().old)) {
    accuracy.series.push_back(series_of(rows, "test, old labels", &Row::old, false, 100));
    accuracy.series.push_back(series_of(rows, "test, new label", &Row::fresh, false, 100));
  }
  return {std::move(loss), std::move(accuracy)};
}

void write_charts(const std::string& stem, std::span<const Chart> charts) {
  write_file(stem + ".svg", format_svg(charts));
  write_file(stem + ".png", format_png(charts));
}

}  // namespace kontor::tools
