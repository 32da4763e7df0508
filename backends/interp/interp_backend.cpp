// The device "interp": host memory; a kernel's text is the printed loop tree, and its binary is that text.
#include <cstdlib>
#include <cstring>
#include <utility>

#include "backends/backend.h"
#include "backends/interp/evaluate_tree.h"
#include "base/error.h"
#include "codegen/tree/text.h"

namespace kontor {

extern const BackendKind interp_backend;

namespace {

KernelSource render(const Ref& kernel, const std::string& entry, const Target&) {
  return {.name = entry, .text = tree::print(kernel)};
}

struct TreeProgram : Program {
  Ref kernel;
};

class Interp : public Backend {
 public:
  const BackendKind& kind() const override { return interp_backend; }
  std::string description() const override { return "interpreter of loop trees (slow; runs everywhere)"; }
  std::string fingerprint() const override { return "interp " KONTOR_VERSION; }
  Target target() const override { return {.vector_bytes = 32, .vector_registers = 16}; }

  void* allocate(size_t bytes) override {
    size_t padded = (bytes + 127) / 64 * 64;
    if (padded < bytes) fail("interp: {} bytes cannot be allocated", bytes);
    void* memory = std::aligned_alloc(64, padded);
    if (!memory) fail("interp: out of memory for {} bytes", bytes);
    return memory;
  }
  void release(void* memory) override { std::free(memory); }
  void copy_in(void* device, const void* host, size_t bytes) override { copy(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { copy(host, device, bytes); }
  bool host_visible() const override { return true; }

  std::vector<std::string> compile(std::span<const KernelSource> kernels, const ParallelFor&) override {
    std::vector<std::string> out;
    for (const KernelSource& k : kernels) {
      tree::parse(k.text);
      out.push_back(k.text);
    }
    return out;
  }

  std::string compiler_text(const KernelSource&, std::string_view stage) override {
    fail("interp: there is no stage '{}': loop trees are run as they are", stage);
  }

  std::unique_ptr<Program> load(const KernelSource&, std::string_view binary) override {
    auto program = std::make_unique<TreeProgram>();
    program->kernel = tree::parse(binary);
    return program;
  }

  void launch(const Launch& launch, const ParallelFor&) override {
    auto& program = static_cast<TreeProgram&>(*launch.program);
    int64_t failed = evaluate_tree(program.kernel, launch.buffers, launch.scalars);
    if (failed && !error_) error_ = failed;
  }

  int64_t synchronise() override { return std::exchange(error_, 0); }

 private:
  int64_t error_ = 0;

  static void copy(void* to, const void* from, size_t bytes) {
    if (bytes) std::memcpy(to, from, bytes);
  }
};

}  // namespace

const BackendKind interp_backend = {
    .name = "interp",
    .source_ending = "tree",
    .render = render,
    .open = []() -> std::unique_ptr<Backend> { return std::make_unique<Interp>(); },
    .keeps_binaries = false,
};

}  // namespace kontor
