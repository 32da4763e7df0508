// The registry of back ends, from the list that backends/meson.build makes.
#include "backends/backend.h"

#include <array>

#include "base/error.h"
#include "base/hash.h"
#include "base/private_folder.h"

namespace kontor {

#define KONTOR_BACKEND(name) std::unique_ptr<Backend> open_##name();
#include "backends/backend_list.inc"
#undef KONTOR_BACKEND

namespace {

struct Row {
  std::string_view name;
  std::unique_ptr<Backend> (*open)();
};

constexpr Row kRows[] = {
#define KONTOR_BACKEND(name) {#name, open_##name},
#include "backends/backend_list.inc"
#undef KONTOR_BACKEND
};

constexpr auto kNames = [] {
  std::array<std::string_view, std::size(kRows)> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kRows[i].name;
  return names;
}();

}  // namespace

std::span<const std::string_view> backend_names() { return kNames; }

std::unique_ptr<Backend> open_backend(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return row.open();
  }
  fail("device '{}': this build of Kontor knows {}", name, fmt::join(kNames, ", "));
}

void fail_to_compile(std::string_view device, const KernelSource& kernel, std::string_view extension,
                     std::string_view log) {
  std::string path = "source not kept";
  try {
    path = keep_text(fmt::format("{}-{}.{}", kernel.name, hash128(kernel.text).hex().substr(0, 8), extension),
                     kernel.text);
  } catch (const Error&) {  // the log is worth more than what keeps the text from being kept
  }
  fail("{}: kernel {} does not compile ({}):\n{}", device, kernel.name, path, log);
}

}  // namespace kontor
