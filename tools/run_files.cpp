// The files of a run: metrics.csv and its curves.
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "tools/run.h"

namespace kontor::inline v0::tools {

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

// A number of a line, of which `line` is cut off; NaN where there is none.
double next_number(std::string_view& line, const std::string& where) {
  const size_t end = std::min(line.find(','), line.size());
  const std::string_view cell = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  double value = Row::kNone;
  const auto [stop, code] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (!cell.empty() && (code != std::errc() || stop != cell.data() + cell.size()))
    fail("{}: '{}' is not a number", where, cell);
  return value;
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
  const std::string text = read_file(path);
  if (!text.starts_with(header())) fail("{}: its columns are not {}", path, header());
  std::vector<Row> rows;
  size_t number = 1;
  for (size_t begin = header().size(); begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    const std::string where = fmt::format("{} line {}", path, ++number);
    Row row{.step = static_cast<int64_t>(next_number(line, where))};
    for (const Column& c : kColumns) row.*c.value = next_number(line, where);
    rows.push_back(row);
    begin = end + 1;
  }
  return rows;
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

}  // namespace kontor::inline v0::tools
