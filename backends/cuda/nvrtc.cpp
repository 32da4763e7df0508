// Where libnvrtc is found, and the few functions of it that Kontor uses (NVIDIA, "NVRTC", sections 3 and 4).
#include "backends/cuda/nvrtc.h"

#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "backends/gpu.h"
#include "base/env.h"
#include "base/error.h"
#include "base/lasting.h"

namespace kontor::nvrtc {
namespace {

using Result = int;  // 0: success
using Program = struct ProgramTag*;

// X(member, name in libnvrtc, result, parameters)
#define KONTOR_NVRTC_FUNCTIONS(X)                                                      \
  X(error_text, nvrtcGetErrorString, const char*, (Result))                            \
  X(version, nvrtcVersion, Result, (int*, int*))                                       \
  X(count_architectures, nvrtcGetNumSupportedArchs, Result, (int*))                    \
  X(architectures, nvrtcGetSupportedArchs, Result, (int*))                             \
  X(create, nvrtcCreateProgram, Result,                                                \
    (Program*, const char*, const char*, int, const char* const*, const char* const*)) \
  X(destroy, nvrtcDestroyProgram, Result, (Program*))                                  \
  X(compile, nvrtcCompileProgram, Result, (Program, int, const char* const*))          \
  X(log_size, nvrtcGetProgramLogSize, Result, (Program, size_t*))                      \
  X(log, nvrtcGetProgramLog, Result, (Program, char*))                                 \
  X(ptx_size, nvrtcGetPTXSize, Result, (Program, size_t*))                             \
  X(ptx, nvrtcGetPTX, Result, (Program, char*))                                        \
  X(cubin_size, nvrtcGetCUBINSize, Result, (Program, size_t*))                         \
  X(cubin, nvrtcGetCUBIN, Result, (Program, char*))

struct Api {
#define KONTOR_NVRTC_MEMBER(member, name, result, parameters) result(*member) parameters = nullptr;
  KONTOR_NVRTC_FUNCTIONS(KONTOR_NVRTC_MEMBER)
#undef KONTOR_NVRTC_MEMBER
};

std::vector<std::string> matching(const std::string& pattern) {
  std::vector<std::string> out;
  glob_t found{};
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    for (size_t i = found.gl_pathc; i-- > 0;)
      out.emplace_back(found.gl_pathv[i]);  // the highest version first
  }
  ::globfree(&found);
  return out;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Files to try, in order: what the user names, the loader's search, CUDA toolkits, Python wheels.
std::vector<std::string> candidates() {
  if (std::string chosen = env_text(Env::Nvrtc); !chosen.empty()) return {chosen};
  std::vector<std::string> out;
  for (const char* version : {".13", ".12", ".11.2", ""}) out.push_back(std::string("libnvrtc.so") + version);
  std::vector<std::string> folders;
  for (const char* toolkit : {"CUDA_HOME", "CUDA_PATH"}) {
    if (!variable(toolkit).empty()) folders.push_back(variable(toolkit) + "/lib*");
  }
  folders.insert(folders.end(), {"/usr/local/cuda/lib*", "/usr/local/cuda-*/lib*", "/opt/cuda/lib*"});
  for (const std::string& python :
       {variable("VIRTUAL_ENV") + "/lib", variable("CONDA_PREFIX") + "/lib", variable("HOME") + "/.local/lib",
        std::string("/usr/local/lib"), std::string("/usr/lib")}) {
    for (const char* packages : {"site-packages", "dist-packages"}) {
      for (const char* wheel : {"cu13", "cuda_nvrtc"})
        folders.push_back(fmt::format("{}/python3*/{}/nvidia/{}/lib", python, packages, wheel));
    }
  }
  for (const std::string& folder : folders) {
    for (std::string& file : matching(folder + "/libnvrtc.so.1[0-9]*")) out.push_back(std::move(file));
  }
  return out;
}

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

struct Opened {
  Api api = {};
  std::string error = {};  // empty: it is open
};

Opened open_library() {
  Opened opened;
  std::string log;
  for (const std::string& file : candidates()) {
    void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      log += fmt::format("\n  {}", ::dlerror());
      continue;
    }
    bool whole = true;
#define KONTOR_NVRTC_FIND(member, name, result, parameters) whole &= find(library, #name, opened.api.member);
    KONTOR_NVRTC_FUNCTIONS(KONTOR_NVRTC_FIND)
#undef KONTOR_NVRTC_FIND
    if (whole) return opened;
    log += fmt::format("\n  {}: too old, it lacks functions of NVRTC 11.2", file);
    ::dlclose(library);
  }
  opened.error = fmt::format(
      "cuda: NVRTC was not opened (set KONTOR_NVRTC to libnvrtc.so, or install a CUDA toolkit or the Python package "
      "nvidia-cuda-nvrtc). Tried, besides folders of toolkits and Python packages:{}",
      log);
  return opened;
}

const Opened& opened() {
  static const Opened& library = lasting(open_library());
  return library;
}

const Api& api() {
  if (!opened().error.empty()) throw Error(opened().error);
  return opened().api;
}

void expect(Result code, std::string_view what) {
  if (code != 0) fail("cuda: {} failed: {}", what, api().error_text(code));
}

struct Holder {
  Program program = nullptr;
  ~Holder() {
    if (program != nullptr) api().destroy(&program);
  }
};

using SizeOf = Result (*)(Program, size_t*);
using Fetch = Result (*)(Program, char*);

std::string fetched(Program program, SizeOf size_of, Fetch fetch, std::string_view what) {
  size_t size = 0;
  expect(size_of(program, &size), what);
  std::string out(size, '\0');
  if (size > 0) expect(fetch(program, out.data()), what);
  return out;
}

}  // namespace

std::string compile(const KernelSource& kernel, const std::string& architecture) {
  // No contraction, no flushing, divisions and roots rounded correctly: the bits that every other device has.
  const std::string target = "--gpu-architecture=" + architecture;
  const char* options[] = {target.c_str(),    "--std=c++17",      "--fmad=false",      "--ftz=false",
                           "--prec-div=true", "--prec-sqrt=true", "--disable-warnings"};
  Holder holder;
  const std::string file = kernel.name + ".cu";
  expect(api().create(&holder.program, kernel.text.c_str(), file.c_str(), 0, nullptr, nullptr),
         "nvrtcCreateProgram");
  const Result code = api().compile(holder.program, static_cast<int>(std::size(options)), options);
  if (code != 0) {
    const std::string log = fetched(holder.program, api().log_size, api().log, "nvrtcGetProgramLog");
    fail_to_compile(cuda_backend, kernel,
                    fmt::format("{}, {}\n{}", architecture, api().error_text(code), log.c_str()));
  }
  const bool ptx = architecture.starts_with("compute_");
  return ptx ? fetched(holder.program, api().ptx_size, api().ptx, "nvrtcGetPTX")
             : fetched(holder.program, api().cubin_size, api().cubin, "nvrtcGetCUBIN");
}

std::string why_missing() { return opened().error; }

std::string version() {
  int major = 0, minor = 0;
  expect(api().version(&major, &minor), "nvrtcVersion");
  return fmt::format("{}.{}", major, minor);
}

std::vector<int> architectures() {
  int count = 0;
  expect(api().count_architectures(&count), "nvrtcGetNumSupportedArchs");
  std::vector<int> out(static_cast<size_t>(count));
  if (count > 0) expect(api().architectures(out.data()), "nvrtcGetSupportedArchs");
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace kontor::nvrtc
