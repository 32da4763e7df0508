// Golden files: text that a test makes, compared with a file in tests/golden that is kept.
#pragma once
#include <string>
#include <string_view>

namespace kontor {

/// "" if `text` is what tests/golden/NAME.txt holds; else the first lines that differ and the command that renews the
/// file. With KONTOR_UPDATE_GOLDEN=1 in the environment it writes the file instead.
std::string golden_difference(std::string_view name, const std::string& text);

}  // namespace kontor
