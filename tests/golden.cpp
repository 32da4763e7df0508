// See golden.h.
#include "tests/golden.h"

#include <climits>
#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace kontor {

namespace {

std::filesystem::path golden_folder() {
  const char* source = std::getenv("KONTOR_SOURCE");
  if (source) return std::filesystem::path(source) / "tests" / "golden";
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / ".." / ".." / "tests" / "golden";
}

std::string line_of(const std::string& text, size_t begin) {
  return text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace

std::string golden_difference(std::string_view name, const std::string& text) {
  std::filesystem::path path = golden_folder() / (std::string(name) + ".txt");
  const char* update = std::getenv("KONTOR_UPDATE_GOLDEN");
  if (update && std::string_view(update) == "1") {
    std::filesystem::create_directories(path.parent_path());
    if (!std::filesystem::exists(path) || read_file(path.string()) != text) write_file(path.string(), text);
    return "";
  }
  std::string how =
      fmt::format("\nif that is what it should be now: KONTOR_UPDATE_GOLDEN=1 tests/run --build build unit");
  if (!std::filesystem::exists(path)) return fmt::format("{} does not exist{}", path.string(), how);
  std::string kept = read_file(path.string());
  if (kept == text) return "";
  size_t line = 1;
  for (size_t a = 0, b = 0;; line++) {
    if (line_of(kept, a) != line_of(text, b))
      return fmt::format("{} line {}\n  kept: {}\n  now:  {}{}", path.string(), line, line_of(kept, a),
                         line_of(text, b), how);
    size_t next_a = kept.find('\n', a), next_b = text.find('\n', b);
    if (next_a == std::string::npos || next_b == std::string::npos) break;
    a = next_a + 1, b = next_b + 1;
  }
  return fmt::format("{}: one is longer than the other{}", path.string(), how);
}

}  // namespace kontor
