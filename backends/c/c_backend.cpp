// The device "c": kernels as C11 files, which any program can take, compiled here by the system's `cc` and opened as libraries.
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "backends/backend.h"
#include "backends/host_memory.h"
#include "base/descriptor.h"
#include "base/error.h"
#include "codegen/render.h"
#include "codegen/tree/tree.h"

extern char** environ;

namespace kontor {

extern const BackendKind c_backend;

namespace {

constexpr const char* compiler = "cc";
constexpr std::string_view launcher = "_launch";

/// A file in memory: what it holds is gone with its last descriptor. A child finds it under path().
struct MemoryFile {
  Descriptor file;

  explicit MemoryFile(std::string_view bytes) : file(::memfd_create("kontor-c", 0)) {
    if (!file.valid()) fail("c: no file in memory: {}", reason(errno));
    if (const int wrong = write_all(file.get(), std::span(&bytes, 1)))
      fail("c: a file of {} bytes in memory cannot be written: {}", bytes.size(), reason(wrong));
  }
  std::string path() const { return fmt::format("/proc/self/fd/{}", file.get()); }
  std::string read() const {
    std::string bytes;
    ::lseek(file.get(), 0, SEEK_SET);
    if (const int wrong = read_all(file.get(), bytes, 1 << 14))
      fail("c: a file in memory cannot be read: {}", reason(wrong));
    return bytes;
  }
};

/// Runs a program of the path; both its outputs go to `out`. False if it is not there or says that it failed.
bool run(std::vector<std::string> arguments, const MemoryFile& out) {
  std::vector<char*> words;
  for (std::string& a : arguments) words.push_back(a.data());
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out.file.get(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, out.file.get(), 2);
  pid_t child = 0;
  const int wrong = ::posix_spawnp(&child, words[0], &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (wrong != 0) return false;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// What the compiler says of itself. Throws Error where there is none.
std::string version() {
  const MemoryFile said("");
  if (!run({compiler, "--version"}, said))
    fail("device c: no C compiler '{}' was found in PATH (Debian: gcc)", compiler);
  const std::string text = said.read();
  return text.substr(0, text.find('\n'));
}

/// A library of the kernel's text; empty where it does not compile, with `log`. "-S": its assembly. No branch becomes a mask:
/// GCC 12.2 reads 0 under one in a loop of 5 x 6 over (s[v] < 0 ? a[v] : 2.5f) * b[j], s of 64 bits.
std::string compiled(const KernelSource& kernel, const char* as, std::string& log) {
  const MemoryFile source(kernel.text), object(""), said("");
  const bool good =
      run({compiler, "-std=c11", "-O3", "-march=native", "-fno-math-errno", "-fno-tree-loop-if-convert",
           "-fPIC", as, "-x", "c", source.path(), "-o", object.path(), "-lm"},
          said);
  log = said.read();
  return good ? object.read() : "";
}

/// Another text for the same path at each call. A descriptor's number is used again when its file is closed, and the system's
/// loader takes a library of a name that is open already for the one that it has.
std::string spelled_anew(const MemoryFile& file) {
  static std::atomic<uint32_t> calls{0};
  std::string path = "/proc/self/fd/";
  for (uint32_t bits = ++calls; bits != 0; bits >>= 1) path += bits & 1 ? "./" : "/";
  return path + fmt::format("{}", file.file.get());
}

using Entry = void (*)(void* const* buffers, const int64_t* slots, int64_t begin, int64_t end,
                       int64_t* error);

struct CProgram final : Program {
  Entry entry = nullptr;
  void* library = nullptr;

  ~CProgram() override {
    if (library) ::dlclose(library);
  }
};

// Beside the kernel stands a function that calls it with the buffers and slots of a launch.
KernelSource render(const Ref& kernel, const std::string& entry, const Target&) {
  KernelSource source{.name = entry, .text = render_c(kernel, entry, Dialect::C)};
  std::string arguments;
  for (size_t i = 0; i < tree::params(*kernel).size(); i++) arguments += fmt::format("buffers[{}], ", i);
  arguments += "error, begin, end";
  for (const Ref& s : tree::slots(kernel)) arguments += fmt::format(", slots[{}]", s->at(0));
  source.text += fmt::format(
      "\nvoid {0}{1}(void* const* buffers, const long long* slots, long long begin, long long end, long long* error) {{\n"
      "  (void)slots;\n  {0}({2});\n}}\n",
      entry, launcher, arguments);
  return source;
}

// Whatever the machine, so that a kernel is the same text everywhere. Places lie on the stack.
Target any_cpu() { return {.vector_bytes = 32, .vector_registers = 16, .l2 = 256 << 10}; }

class CBackend final : public HostBackend {
 public:
  CBackend() : version_(version()) {}

  const BackendKind& kind() const override { return c_backend; }
  std::string description() const override { return version_; }
  std::string fingerprint() const override { return "c " + version_; }
  Target target() const override { return any_cpu(); }

  std::vector<std::string> compile(std::span<const KernelSource> kernels,
                                   const ParallelFor& parallel) override {
    std::vector<std::string> libraries(kernels.size()), logs(kernels.size());
    parallel(static_cast<int64_t>(kernels.size()), [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); i++)
        libraries[i] = compiled(kernels[i], "-shared", logs[i]);
    });
    for (size_t i = 0; i < kernels.size(); i++)
      if (libraries[i].empty()) fail_to_compile(c_backend, kernels[i], logs[i]);
    return libraries;
  }

  std::string compiler_text(const KernelSource& kernel, std::string_view stage) override {
    if (stage != "asm") fail("c: stage '{}' is not asm", stage);
    std::string log, text = compiled(kernel, "-S", log);
    if (text.empty()) fail_to_compile(c_backend, kernel, log);
    return text;
  }

  std::unique_ptr<Program> load(const KernelSource& kernel, std::string_view binary) override {
    const MemoryFile file(binary);
    auto program = std::make_unique<CProgram>();
    program->library = ::dlopen(spelled_anew(file).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!program->library) fail("c: the library of kernel {} cannot be opened: {}", kernel.name, ::dlerror());
    const std::string name = fmt::format("{}{}", kernel.name, launcher);
    program->entry = reinterpret_cast<Entry>(::dlsym(program->library, name.c_str()));
    if (!program->entry) fail("c: the library of kernel {} has no function {}", kernel.name, name);
    return program;
  }

  void launch(const Launch& launch, const ParallelFor& parallel) override {
    const Entry entry = static_cast<const CProgram&>(*launch.program).entry;
    const auto run_items = [&](int64_t begin, int64_t end) {
      entry(launch.buffers.data(), launch.scalars.data(), begin, end, &error_);
    };
    if (launch.parallel && launch.shares > 1) parallel(launch.shares, run_items);
    else run_items(0, launch.shares);
  }
  int64_t synchronise() override { return std::exchange(error_, 0); }

 private:
  std::string version_;
  int64_t error_ = 0;
};

}  // namespace

const BackendKind c_backend = {
    .name = "c",
    .source_ending = "c",
    .render = render,
    .open = []() -> std::unique_ptr<Backend> { return std::make_unique<CBackend>(); },
    .usual_target = any_cpu,
    .keeps_binaries = false,  // what is opened as a library is what was just compiled
};

}  // namespace kontor
