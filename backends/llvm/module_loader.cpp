// Where libkontor-llvm.so may be: KONTOR_LLVM, beside the code that runs, in the build tree, in the installed tree.
#include "backends/llvm/module_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "backends/llvm/config.h"
#include "base/env.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/sanitizer.h"

namespace kontor {
namespace {

#if defined(__APPLE__)
constexpr const char* kFile = "libkontor-llvm.dylib";
#else
constexpr const char* kFile = "libkontor-llvm.so";
#endif

// What LLVM takes of the address space before it compiles anything: what its static objects cannot get ends the process.
constexpr uint64_t kModuleBytes = 256 << 20;

// What the module brings along goes before what the program has (module/lasting.cpp). Sanitizers do not allow that: their
// programs must not end while they compile.
#if defined(RTLD_DEEPBIND) && !defined(KONTOR_ADDRESS_SANITIZER) && !defined(KONTOR_THREAD_SANITIZER)
constexpr int kOpening = RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND;
#else
constexpr int kOpening = RTLD_LAZY | RTLD_LOCAL;
#endif

// The folder of the library or program that this function is part of.
std::string own_folder() {
  Dl_info info;
  if (::dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr)
    return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::vector<std::string> places() {
  if (const std::string chosen = env_text(Env::Llvm); !chosen.empty()) return {chosen};
  const std::string own = own_folder();
  std::vector<std::string> folders = {own,
                                      own + "/kontor",
                                      own + "/backends/llvm",
                                      own + "/../backends/llvm",
                                      own + "/" + KONTOR_MODULE_FROM_BIN,
                                      KONTOR_MODULE_DIR};
  for (std::string& folder : folders) folder += std::string("/") + kFile;
  return folders;
}

const KontorLlvmModule* open(const std::string& path, std::string& log) {
  if (::access(path.c_str(), R_OK) != 0) {
    log += fmt::format("\n  {}: not there", path);
    return nullptr;
  }
  require_memory(kModuleBytes, "llvm: the module that compiles");
  void* library = ::dlopen(path.c_str(), kOpening);
  if (library == nullptr) {
    log += fmt::format("\n  {}: {}", path, ::dlerror());
    return nullptr;
  }
  const auto* module = static_cast<const KontorLlvmModule*>(::dlsym(library, "kontor_llvm_module"));
  if (module != nullptr && module->abi == KONTOR_LLVM_ABI) return module;
  log += fmt::format("\n  {}: of another version of Kontor", path);
  ::dlclose(library);
  return nullptr;
}

}  // namespace

const KontorLlvmModule& open_llvm_module(std::span<const std::string> paths) {
  std::string log;
  for (const std::string& path : paths) {
    if (const KontorLlvmModule* module = open(path, log)) return *module;
  }
  fail("llvm: cannot compile, since the module {} was not opened. Looked for at:{}", kFile, log);
}

const KontorLlvmModule& llvm_module() {
  static const KontorLlvmModule& module =
      open_llvm_module(places());  // tried again by the next call if it throws
  return module;
}

}  // namespace kontor
