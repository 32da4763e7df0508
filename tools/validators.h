// What the text of an option must be. CLI11's own checks let NaN through every range, read 2^64 as 2^64 - 1 and 010 as 8.
#pragma once
#include <cstdint>
#include <limits>

#include <CLI/CLI.hpp>

namespace kontor::tools {

/// A whole number, decimal and without leading zeros, of a range.
CLI::Validator whole(int64_t least, int64_t most);
/// Any of 64 bits without a sign.
CLI::Validator whole_of_64_bits();
/// A finite number of a range, or above the least.
CLI::Validator number(double least, double most = std::numeric_limits<double>::max());
CLI::Validator number_above(double least);
/// An empty text is a script's variable that was not set, never a choice.
CLI::Validator not_empty();

}  // namespace kontor::tools
