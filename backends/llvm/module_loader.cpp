// Where libkontor-llvm.so may be: KONTOR_LLVM, beside the code that runs, in the build tree, in the installed tree.
#include "backends/llvm/module_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "backends/llvm/config.h"
#include "base/env.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/process.h"

namespace kontor::inline v0 {
namespace {

#if defined(__APPLE__)
constexpr const char* kFile = "libkontor-llvm.dylib";
#else
constexpr const char* kFile = "libkontor-llvm.so";
#endif

// What LLVM takes of the address space before it compiles anything: what its static objects cannot get ends the process.
constexpr uint64_t kModuleBytes = 256 << 20;

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
  void* library = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
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

// Exit handlers run in the opposite order of their registration: what is registered after LLVM's static objects were made
// comes before their end. Most are made by the first compile, which therefore has the module to itself, others by the first
// compiles that need them.
constexpr int kFirstCompiles = 100;
enum : int { kNone, kRunning, kDone };
std::atomic<int> first{kNone}, registered{0};
std::atomic<uint32_t> first_by{0};  // process_generation()
std::atomic<bool> gone{false};
std::atomic<int> compiling{0};
std::atomic<uint32_t> opened_by{0};  // process_generation()

void end_compiling() {
  constexpr int kPatience = 10'000;  // milliseconds
  gone = true;
  if (opened_by != process_generation()) return;  // threads of the parent's compile, or none
  for (int i = 0; i < kPatience && compiling > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

const KontorLlvmModule& open_until_exit() {
  const KontorLlvmModule& module = open_llvm_module(places());
  opened_by = process_generation();
  std::atexit(end_compiling);
  return module;
}

}  // namespace

Compiling::Compiling() {
  int none = kNone;
  if (first == kNone) first_by = process_generation();
  is_first_ = first.compare_exchange_strong(none, kRunning);
  // A child has no thread that would end what its parent began.
  while (!is_first_ && first == kRunning && first_by == process_generation() && !gone)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ++compiling;
  if (!gone) return;
  if (is_first_) first = kDone;
  --compiling;
  throw CompilerGone();
}

Compiling::~Compiling() {
  if (registered < kFirstCompiles && ++registered <= kFirstCompiles) std::atexit(end_compiling);
  if (is_first_) first = kDone;
  --compiling;
}

bool compiler_is_gone() { return gone; }

const KontorLlvmModule& open_llvm_module(std::span<const std::string> paths) {
  std::string log;
  for (const std::string& path : paths) {
    if (const KontorLlvmModule* module = open(path, log)) return *module;
  }
  fail("llvm: cannot compile, since the module {} was not opened. Looked for at:{}", kFile, log);
}

const KontorLlvmModule& llvm_module() {
  static const KontorLlvmModule& module = open_until_exit();  // tried again by the next call if it throws
  return module;
}

}  // namespace kontor::inline v0
