// The device "llvm": kernels as native code of the host.
#include <cstdlib>
#include <cstring>
#include <utility>

#include "backends/backend.h"
#include "backends/host_memory.h"
#include "backends/llvm/blob.h"
#include "backends/llvm/config.h"
#include "backends/llvm/host.h"
#include "backends/llvm/module_loader.h"
#include "base/env.h"
#include "base/error.h"
#include "base/lasting.h"
#include "base/memory.h"
#include "codegen/render.h"

namespace kontor {

extern const BackendKind llvm_backend;
namespace {

using Entry = void (*)(const KernelArgs*);

class LlvmProgram final : public Program {
 public:
  LlvmProgram(LoadedCode code, int64_t scratch)
      : entry(reinterpret_cast<Entry>(const_cast<void*>(code.entry))),
        scratch_bytes(static_cast<size_t>(scratch)),
        code_(std::move(code)) {}

  const Entry entry;
  const size_t scratch_bytes;

 private:
  LoadedCode code_;
};

// Scratch memory of a thread; it grows to the largest place that a kernel asked for.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  void* of(size_t bytes) {
    if (bytes > size_) grow(bytes);
    return memory_;
  }

 private:
  void grow(size_t bytes) {
    constexpr size_t page = 4096;
    std::free(memory_);
    size_ = (bytes + page - 1) / page * page;
    memory_ = std::aligned_alloc(page, size_);
    if (memory_ == nullptr) {
      size_ = 0;
      fail("llvm: out of memory: {} bytes of scratch asked for", bytes);
    }
  }

  void* memory_ = nullptr;
  size_t size_ = 0;
};

// What one compile gives back.
struct Compiled {
  std::string output, error;
};

void keep_output(void* context, KontorLlvmOutput kind, const char* data, size_t size) {
  auto& [wanted, compiled] = *static_cast<std::pair<KontorLlvmOutput, Compiled>*>(context);
  if (kind == KONTOR_LLVM_ERROR) compiled.error.assign(data, size);
  if (kind == wanted) compiled.output.assign(data, size);
}

KernelSource render(const Ref& kernel, const std::string& entry, const Target& target) {
  KernelSource source{.name = entry, .text = {}};
  source.text = render_llvm(kernel, entry, target, source.scratch_bytes);
  return source;
}

class LlvmBackend final : public HostBackend {
 public:
  explicit LlvmBackend(HostCpu cpu)
      : cpu_(std::move(cpu)), features_(cpu_.features()), target_(host_target(cpu_)) {
    fingerprint_ = fmt::format("llvm {} {}{} {}", KONTOR_LLVM_VERSION, cpu_.level, features_, cpu_.identity);
  }

  const BackendKind& kind() const override { return llvm_backend; }
  std::string description() const override {
    return fmt::format("{}, {}, LLVM {}", cpu_.model, cpu_.level, KONTOR_LLVM_VERSION);
  }
  std::string fingerprint() const override { return fingerprint_; }
  Target target() const override { return target_; }

  std::vector<std::string> compile(std::span<const KernelSource> kernels,
                                   const ParallelFor& parallel) override;
  std::string compiler_text(const KernelSource& kernel, std::string_view stage) override;
  std::unique_ptr<Program> load(const KernelSource& kernel, std::string_view binary) override;

  void launch(const Launch& launch, const ParallelFor& parallel) override;
  int64_t synchronise() override { return std::exchange(error_, 0); }

 private:
  Compiled run_compiler(const KernelSource& kernel, KontorLlvmOutput output) const;

  HostCpu cpu_;
  std::string features_;
  Target target_;
  std::string fingerprint_;
  CodeArena arena_;
  int64_t error_ = 0;
};

Compiled LlvmBackend::run_compiler(const KernelSource& kernel, KontorLlvmOutput output) const {
  KontorLlvmRequest request{};
  request.ir = kernel.text.c_str();
  request.ir_size = kernel.text.size();
  request.entry = kernel.name.c_str();
  request.cpu = cpu_.llvm_name.c_str();
  request.features = features_.c_str();
  request.tune = "";
  request.vector_bits = static_cast<unsigned>(cpu_.vector_bytes) * 8;
  request.outputs = 1u << output;
#ifndef NDEBUG
  request.verify = 1;
#endif
  std::pair<KontorLlvmOutput, Compiled> result{output, {}};
  llvm_module().compile(&request, keep_output, &result);
  return std::move(result.second);
}

// LLVM ends the process where memory is out, so it is asked for before. Measured with LLVM 19 (`kontor train --steps 1` with
// an empty cache and a full one, 103 kernels of up to 79 KB of text): 70 MB with LLVM itself, 15 to 30 MB more for each thread
// that compiles at the same time. A thread's heap takes 64 MB of the address space.
static uint64_t compile_bytes(const KernelSource& kernel) {
  return (uint64_t{64} << 20) + 400 * uint64_t{kernel.text.size()};
}

// Whether the kernels can be compiled at the same time. Throws Error where one of them alone needs more than is left.
static bool require_memory_for(std::span<const KernelSource> kernels) {
  uint64_t together = 0;
  const KernelSource* largest = nullptr;
  for (const KernelSource& kernel : kernels) {
    together += compile_bytes(kernel);
    if (largest == nullptr || kernel.text.size() > largest->text.size()) largest = &kernel;
  }
  if (largest == nullptr) return true;
  const MemoryLeft left = memory_left();
  if (compile_bytes(*largest) > left.bytes)
    fail(
        "llvm: out of memory: kernel {} of {} bytes of text needs about {} MB to compile, {} MB are left (limit of {})",
        largest->name, largest->text.size(), compile_bytes(*largest) >> 20, left.bytes >> 20, left.limit);
  return together <= left.bytes;
}

std::vector<std::string> LlvmBackend::compile(std::span<const KernelSource> kernels,
                                              const ParallelFor& parallel) {
  llvm_module();  // opened before threads start, so that its error is thrown once
  std::vector<Compiled> compiled(kernels.size());
  const auto compile_some = [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      compiled[i] = run_compiler(kernels[i], KONTOR_LLVM_OBJECT);
  };
  const bool at_once = require_memory_for(kernels);
  (at_once ? parallel : ParallelFor{})(static_cast<int64_t>(kernels.size()), compile_some);
  std::vector<std::string> blobs;
  for (size_t i = 0; i < kernels.size(); ++i) {
    if (!compiled[i].error.empty()) fail_to_compile(llvm_backend, kernels[i], compiled[i].error);
    blobs.push_back(make_blob(link_flat(compiled[i].output, kernels[i].name), fingerprint_));
  }
  return blobs;
}

std::unique_ptr<Program> LlvmBackend::load(const KernelSource& kernel, std::string_view binary) {
  return std::make_unique<LlvmProgram>(arena_.load(binary, fingerprint_), kernel.scratch_bytes);
}

std::string LlvmBackend::compiler_text(const KernelSource& kernel, std::string_view stage) {
  if (stage != "ir" && stage != "asm") fail("llvm: stage '{}' is not one of ir, asm", stage);
  require_memory_for(std::span(&kernel, 1));
  Compiled compiled = run_compiler(kernel, stage == "ir" ? KONTOR_LLVM_IR : KONTOR_LLVM_ASSEMBLY);
  if (!compiled.error.empty()) fail_to_compile(llvm_backend, kernel, compiled.error);
  return std::move(compiled.output);
}

void LlvmBackend::launch(const Launch& launch, const ParallelFor& parallel) {
  const auto& program = static_cast<const LlvmProgram&>(*launch.program);
  const auto run = [&](int64_t begin, int64_t end) {
    const KernelArgs args{launch.buffers.data(),
                          launch.scalars.data(),
                          begin,
                          end,
                          of_thread<Scratch>().of(program.scratch_bytes),
                          &error_};
    program.entry(&args);
  };
  if (launch.parallel && launch.shares > 1) {
    parallel(launch.shares, run);
  } else {
    run(0, launch.shares);
  }
}

}  // namespace

const BackendKind llvm_backend = {
    .name = "llvm",
    .source_ending = "ll",
    .render = render,
    .open = []() -> std::unique_ptr<Backend> {
      return std::make_unique<LlvmBackend>(host_cpu(env_text(Env::Cpu)));
    },
};

}  // namespace kontor
