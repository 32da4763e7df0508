// The checks of options' texts.
#include "tools/validators.h"

#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

namespace kontor::tools {

namespace {

template <class Number>
std::optional<Number> parsed(const std::string& text) {
  Number value{};
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

// Numbers that are their own text: neither 010 nor -0.
template <class Number>
CLI::Validator whole_in(Number least, Number most) {
  const std::string range = fmt::format("[{} - {}]", least, most);
  const auto check = [=](std::string& text) -> std::string {
    const std::optional<Number> value = parsed<Number>(text);
    if (value && std::to_string(*value) == text && *value >= least && *value <= most) return "";
    const char* digits = "-0123456789";
    const bool number = !text.empty() && text.find_first_not_of(digits) == std::string::npos;
    return fmt::format("Value {} not in range {}{}", text, range, number ? "" : ": it is no whole number");
  };
  return {check, fmt::format("INT in {}", range)};
}

CLI::Validator number_in(double least, double most, bool above, const std::string& name) {
  const auto check = [=](std::string& text) -> std::string {
    const std::optional<double> value = parsed<double>(text);
    if (value && std::isfinite(*value) && (above ? *value > least : *value >= least) && *value <= most)
      return "";
    return fmt::format("Value {} not in range {}", text, name);
  };
  return {check, name};
}

}  // namespace

CLI::Validator whole(int64_t least, int64_t most) { return whole_in<int64_t>(least, most); }

CLI::Validator whole_of_64_bits() { return whole_in<uint64_t>(0, std::numeric_limits<uint64_t>::max()); }

CLI::Validator number(double least, double most) {
  const bool open = most == std::numeric_limits<double>::max();
  return number_in(least, most, false,
                   open ? fmt::format("at least {:g}", least) : fmt::format("[{:g} - {:g}]", least, most));
}

CLI::Validator number_above(double least) {
  return number_in(least, std::numeric_limits<double>::max(), true, fmt::format("above {:g}", least));
}

CLI::Validator not_empty() {
  return {[](std::string& text) { return std::string(text.empty() ? "it is empty" : ""); }, "TEXT"};
}

}  // namespace kontor::tools
