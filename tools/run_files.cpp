// The files of a run: metrics.csv and its curves.
#include <sys/resource.h>

#include <charconv>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "tools/run.h"

namespace kontor::tools {

namespace {

constexpr Column kImageColumns[] = {
    {"loss", &Row::loss, "{:.6g}"},
    {"accuracy", &Row::accuracy, "{:.5g}"},
    {"learning_rate", &Row::learning_rate, "{:.6g}"},
    {"seconds", &Row::seconds, "{:.4f}"},
    {"tflop", &Row::tflop, "{:.10g}"},
    {"test_accuracy", &Row::test, "{:.4f}"},
    {"test_old", &Row::old, "{:.4f}"},
    {"test_new", &Row::fresh, "{:.4f}"},
};
constexpr Column kTextColumns[] = {
    {"loss", &Row::loss, "{:.8g}"},          {"learning_rate", &Row::learning_rate, "{:.6g}"},
    {"seconds", &Row::seconds, "{:.4f}"},    {"tflop", &Row::tflop, "{:.10g}"},
    {"tokens", &Row::tokens, "{:.0f}"},      {"validation_loss", &Row::validation, "{:.6f}"},
    {"bits_per_byte", &Row::bits, "{:.6f}"},
};

std::string header(std::span<const Column> columns) {
  std::string out = "step";
  for (const Column& c : columns) out += fmt::format(",{}", c.name);
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
    if (!std::isfinite(row.*y)) continue;
    out.x.push_back(static_cast<double>(row.step)), out.y.push_back(scale * row.*y);
  }
  return out;
}

}  // namespace

std::span<const Column> image_columns() { return kImageColumns; }
std::span<const Column> text_columns() { return kTextColumns; }

std::string format_rows(const std::vector<Row>& rows, std::span<const Column> columns) {
  std::string out = header(columns);
  for (const Row& row : rows) {
    out += std::to_string(row.step);
    for (const Column& c : columns) {
      const double value = row.*c.value;
      out += ',';
      if (std::isfinite(value)) out += fmt::format(fmt::runtime(c.format), value);
    }
    out += '\n';
  }
  return out;
}

std::vector<Row> read_rows(const std::string& path, std::span<const Column> columns) {
  if (!std::filesystem::is_regular_file(path))
    fail("{}: not a regular file", path);  // a pipe would be waited for
  const std::string text = read_file(path);
  const std::string names = header(columns);
  if (!text.starts_with(names)) fail("{}: its columns are not {}", path, names);
  std::vector<Row> rows;
  size_t number = 1;
  for (size_t begin = names.size(); begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    const std::string where = fmt::format("{} line {}", path, ++number);
    Row row{.step = step_of(next_cell(line), where)};
    for (const Column& c : columns) {
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

std::vector<Chart> text_charts(const std::vector<Row>& rows) {
  return {{"Loss",
           "step",
           "cross-entropy",
           {series_of(rows, "training batch", &Row::loss, true, 1),
            series_of(rows, "validation", &Row::validation, false, 1)}}};
}

void keep_checkpoint(const std::string& folder) {
  namespace fs = std::filesystem;
  const std::string path = folder + "/checkpoint.safetensors",
                    before = folder + "/checkpoint-before.safetensors";
  if (!fs::exists(path)) return;
  std::error_code failed;
  fs::remove(before + ".new", failed);
  fs::create_hard_link(path, before + ".new", failed);
  if (failed) fs::copy_file(path, before + ".new", fs::copy_options::overwrite_existing, failed);
  if (!failed) fs::rename(before + ".new", before, failed);
  // Where a run was killed right here, both names are of one file: then a rename does nothing.
  if (std::error_code ignored; !failed) fs::remove(before + ".new", ignored);
  if (failed) fail("{}: the checkpoint could not be kept: {}", before, failed.message());
}

double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void write_charts(const std::string& stem, std::span<const Chart> charts) {
  write_file(stem + ".svg", format_svg(charts));
  write_file(stem + ".png", format_png(charts));
}

}  // namespace kontor::tools
