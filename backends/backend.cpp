// The kinds of devices, from the list that backends/meson.build makes.
#include "backends/backend.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/private_folder.h"

namespace kontor {

#define KONTOR_BACKEND(name) extern const BackendKind name##_backend;
#include "backends/backend_list.inc"
#undef KONTOR_BACKEND

std::span<const BackendKind* const> backend_kinds() {
  static constexpr const BackendKind* kinds[] = {
#define KONTOR_BACKEND(name) &name##_backend,
#include "backends/backend_list.inc"
#undef KONTOR_BACKEND
  };
  return kinds;
}

std::string device_names() {
  std::string names;
  const std::span<const BackendKind* const> kinds = backend_kinds();
  for (const BackendKind* kind : kinds)
    names.append(names.empty() ? "" : kind == kinds.back() ? " or " : ", ").append(kind->name);
  return names;
}

const BackendKind& backend_kind(std::string_view name) {
  for (const BackendKind* kind : backend_kinds())
    if (kind->name == name) return *kind;
  fail("device '{}': this build of Kontor knows {}", name, device_names());
}

std::unique_ptr<Backend> open_backend(std::string_view name) { return backend_kind(name).open(); }

void fail_to_compile(const BackendKind& kind, const KernelSource& kernel, std::string_view log) {
  std::string path = "source not kept";
  try {
    path = keep_text(
        fmt::format("{}-{}.{}", kernel.name, hash128(kernel.text).hex().substr(0, 8), kind.source_ending),
        kernel.text);
  } catch (const Error&) {  // the log is worth more than what keeps the text from being kept
  }
  fail("{}: kernel {} does not compile ({}):\n{}", kind.name, kernel.name, path, log);
}

}  // namespace kontor
