// Opening libcuda.
#include "backends/cuda/cuda_api.h"

#include <dlfcn.h>

#include <string>

#include "backends/gpu.h"
#include "base/error.h"

namespace kontor::cuda {
namespace {

// The second is where containers and WSL put it.
constexpr const char* kFiles[] = {"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1", "libcuda.so"};

Api open_api() {
  std::string log;
  void* library = open_library(kFiles, log);
  if (library == nullptr) fail("cuda: NVIDIA's driver was not opened:{}", log);
  Api api;
#define KONTOR_CUDA_FIND(member, name, parameters)                              \
  api.member = reinterpret_cast<decltype(api.member)>(::dlsym(library, #name)); \
  if (api.member == nullptr) fail("cuda: the driver has no function " #name);
  KONTOR_CUDA_FUNCTIONS(KONTOR_CUDA_FIND)
#undef KONTOR_CUDA_FIND
  return api;
}

}  // namespace

const Api& api() {
  static const Api opened = open_api();
  return opened;
}

void expect(Result code, std::string_view what) {
  if (code == kSuccess) return;
  const char *name = nullptr, *text = nullptr;
  api().error_name(code, &name);
  api().error_text(code, &text);
  fail("cuda: {} failed: {} ({})", what, name != nullptr ? name : fmt::format("error {}", code).c_str(),
       text != nullptr ? text : "unknown");
}

}  // namespace kontor::cuda
