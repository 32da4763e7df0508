// A back end is one kind and one class: a device of the test's own, of which nothing else in Kontor knows.
#include "backends/backend.h"
#include "base/error.h"
#include "codegen/tree/text.h"
#include "graph/functions/functions.h"
#include "runtime/device.h"
#include "runtime/kernels.h"
#include "tests/catch.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

extern const BackendKind abacus;

/// The interpreter behind a language and addresses of its own, which are nobody's memory here.
class Abacus final : public Backend {
 public:
  const BackendKind& kind() const override { return abacus; }
  std::string description() const override { return "beads"; }
  std::string fingerprint() const override { return "abacus 1"; }
  Target target() const override { return {.vector_bytes = 16, .vector_registers = 8}; }

  void* allocate(size_t bytes) override { return moved(interp_->allocate(bytes), away); }
  void release(void* memory) override { interp_->release(moved(memory, -away)); }
  void copy_in(void* device, const void* host, size_t bytes) override {
    interp_->copy_in(moved(device, -away), host, bytes);
  }
  void copy_out(void* host, const void* device, size_t bytes) override {
    interp_->copy_out(host, moved(const_cast<void*>(device), -away), bytes);
  }
  bool host_visible() const override { return false; }

  std::vector<std::string> compile(std::span<const KernelSource> kernels, const ParallelFor&) override {
    std::vector<std::string> out;
    for (const KernelSource& k : kernels) {
      if (!k.text.starts_with(head)) fail("abacus: kernel {} is in another language", k.name);
      out.push_back(k.text.substr(head.size()));
    }
    return out;
  }
  std::string compiler_text(const KernelSource&, std::string_view stage) override {
    fail("abacus: there is no stage '{}'", stage);
  }
  std::unique_ptr<Program> load(const KernelSource& kernel, std::string_view binary) override {
    return interp_->load(kernel, binary);
  }
  void launch(const Launch& launch, const ParallelFor& parallel) override {
    std::vector<void*> buffers;
    for (void* b : launch.buffers) buffers.push_back(moved(b, -away));
    Launch here = launch;
    here.buffers = buffers;
    interp_->launch(here, parallel);
  }
  int64_t synchronise() override { return interp_->synchronise(); }

  static constexpr std::string_view head = "beads\n";

 private:
  static constexpr std::ptrdiff_t away = std::ptrdiff_t{1} << 50;
  std::unique_ptr<Backend> interp_ = open_backend("interp");

  static void* moved(void* memory, std::ptrdiff_t by) {
    return reinterpret_cast<void*>(reinterpret_cast<intptr_t>(memory) + by);
  }
};

const BackendKind abacus = {
    .name = "abacus",
    .source_ending = "beads",
    .render = [](const Ref& kernel, const std::string& entry, const Target&) -> KernelSource {
      return {.name = entry, .text = std::string(Abacus::head) + tree::print(kernel)};
    },
    .open = []() -> std::unique_ptr<Backend> { return std::make_unique<Abacus>(); },
    .keeps_binaries = false,
};

}  // namespace

TEST_CASE("[backend] a device that Kontor does not know is its kind and its class alone") {
  const std::unique_ptr<Backend> device = abacus.open();
  CHECK(device->name() == "abacus");
  const Graph graph = make_graph(
      {parse_expression("softmax(f32[3, 5] * 2, 1)"), parse_expression("matmul(f32[4, 6], f32[6, 2])")});
  std::vector<Array> inputs;
  for (const Ref& i : graph.inputs) inputs.push_back(random_array(i->dtype, static_shape(*i), inputs.size()));
  CHECK(difference(run_graph(graph, *device, inputs), evaluate_graph(graph, inputs, {})) == "");
}

TEST_CASE("[backend] the runtime renders, compiles and loads by a device's kind") {
  const auto device = std::make_shared<Device>(abacus.open());
  KernelStore store(*device);
  const Schedule made = schedule(make_graph({parse_expression("sum(f32[40, 50], 1)")}), device->target());
  CHECK(store.get(made.kernels, {}).size() == made.kernels.size());
  CHECK(store.get(made.kernels, {}).size() == made.kernels.size());  // those that it has
}
