// CUDA: kernels compiled by NVRTC for GPUs that need not be there, and run where one is.
#include <cstring>

#include "backends/cuda/nvrtc.h"
#include "backends/gpu.h"
#include "base/error.h"
#include "codegen/render.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/errors.h"
#include "tests/random_graph.h"

using namespace kontor;

namespace {

std::string compile(const Ref& kernel, const std::string& architecture) {
  return nvrtc::compile({.name = "entry", .text = render_c(kernel, "entry", Dialect::Cuda)}, architecture);
}

bool is_cubin(const std::string& code) {
  return code.size() > 4 && std::memcmp(code.data(), "\177ELF", 4) == 0;
}

}  // namespace

TEST_CASE("[cuda] NVRTC compiles kernels of every form for sm_80 and sm_90") {
  if (std::string why = nvrtc::why_missing(); !why.empty()) KONTOR_SKIP(why);
  for (const char* architecture : {"sm_80", "sm_90"})
    for (auto trees : {hand_made_trees(), warp_trees()})
      for (const char* text : trees) {
        INFO(text);
        CHECK(is_cubin(compile(tree::parse(text), architecture)));
      }
}

TEST_CASE("[cuda] NVRTC compiles every elementwise op and cast in every dtype") {
  if (std::string why = nvrtc::why_missing(); !why.empty()) KONTOR_SKIP(why);
  for (DType dtype : every_dtype) {
    INFO(name(dtype));
    CHECK(is_cubin(compile(elementwise_kernel(dtype, 1000), "sm_80")));
    CHECK(is_cubin(compile(cast_kernel(dtype, every_dtype, 1000), "sm_90")));
  }
}

TEST_CASE("[cuda] NVRTC compiles the kernels of random graphs") {
  if (std::string why = nvrtc::why_missing(); !why.empty()) KONTOR_SKIP(why);
  for (uint64_t seed = 1; seed <= 60; seed++) {
    Schedule made = schedule(random_case(seed).graph, cuda_target());
    for (const ScheduledKernel& k : made.kernels) {
      INFO("seed " << seed << "\n" << tree::print(k.tree));
      CHECK(is_cubin(compile(k.tree, seed % 2 ? "sm_80" : "sm_90")));
    }
  }
}

TEST_CASE("[cuda] floats are neither contracted nor flushed nor divided approximately") {
  if (std::string why = nvrtc::why_missing(); !why.empty()) KONTOR_SKIP(why);
  Ref kernel = tree::parse(
      "kernel k(x f32[64], y f32[64]) -> z f32[64]\n"
      "  global i 64: z[i] = sqrt(x[i] * y[i] + 1.0) / y[i]\n");
  std::string ptx = compile(kernel, "compute_90");
  for (const char* wanted : {"mul.rn.f32", "add.rn.f32", "sqrt.rn.f32", "div.rn.f32"}) {
    INFO(wanted);
    CHECK(ptx.find(wanted) != std::string::npos);
  }
  for (const char* unwanted : {"fma.rn.f32", "mad.rn.f32", ".ftz", ".approx"}) {
    INFO(unwanted);
    CHECK(ptx.find(unwanted) == std::string::npos);
  }
}

// To which the least i16 is the greatest: on an H100 -32768 // -1 was 32767.
TEST_CASE("[cuda] no size of 16 bits is taken by abs.s16") {
  if (std::string why = nvrtc::why_missing(); !why.empty()) KONTOR_SKIP(why);
  for (const Op op : {Op::Abs, Op::IDiv, Op::Mod}) {
    const std::string ptx = compile(op_kernel(op, DType::I16, 64), "compute_90");
    INFO(ptx);
    CHECK(ptx.find("abs.s16") == std::string::npos);
    CHECK(ptx.find("s16") != std::string::npos);
  }
}

TEST_CASE("[cuda] a kernel that does not compile is told with NVRTC's log and the dumped source") {
  if (std::string why = nvrtc::why_missing(); !why.empty()) KONTOR_SKIP(why);
  KernelSource source{.name = "wrong",
                      .text = "// slots:\nextern \"C\" __global__ void wrong() { no_such_name = 1; }\n"};
  std::string text = error_of([&] { nvrtc::compile(source, "sm_80"); });
  for (const char* part :
       {"cuda: kernel wrong does not compile", "/wrong-", ".cu)", "sm_80", "no_such_name"}) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("[cuda] memory and launches of the device") {
  std::unique_ptr<Backend> device;
  try {
    device = open_backend("cuda");
  } catch (const Error& error) {
    KONTOR_SKIP(error.what());
  }
  CHECK_FALSE(device->host_visible());
  CHECK(device->target().gpu);
  CHECK(device->description().find("sm_") != std::string::npos);
  CHECK(error_of([&] { device->allocate(size_t{1} << 50); }).find("1125899906842624 bytes") !=
        std::string::npos);
  CHECK(error_of([&] { device->load({.name = "k", .text = ""}, "no binary"); }).find("damaged") !=
        std::string::npos);

  // Failed checks are kept until the next synchronise() and no longer.
  Ref kernel = tree::parse(
      "kernel k(x i32[5]) -> y i32[5]\n  global i 5\n    y[i] = x[i] + 1_i32\n    check 3: x[i] < 4_i32");
  KernelSource source{.name = "k", .text = render_c(kernel, "k", Dialect::Cuda)};
  std::unique_ptr<Program> program = device->load(source, device->compile(std::span(&source, 1), {}).at(0));
  int32_t x[5] = {0, 1, 2, 3, 4}, y[5] = {};
  void* memory[] = {device->allocate(sizeof x), device->allocate(sizeof y)};
  device->copy_in(memory[0], x, sizeof x);
  device->launch({.program = program.get(), .buffers = memory, .scalars = {}, .shares = 5}, {});
  CHECK(device->synchronise() == 3);
  CHECK(device->synchronise() == 0);
  device->copy_out(y, memory[1], sizeof y);
  CHECK(y[4] == 5);
  for (void* m : memory) device->release(m);
}

TEST_CASE("[cuda] on a GPU the kernels have the interpreter's bits") {
  std::unique_ptr<Backend> device;
  try {
    device = open_backend("cuda");
  } catch (const Error& error) {
    KONTOR_SKIP(error.what());
  }
  float scale = 0.75f;
  int64_t scalars[3] = {0, -1, 20};
  std::memcpy(&scalars[0], &scale, sizeof scale);
  for (auto trees : {hand_made_trees(), warp_trees()})
    for (const char* text : trees) {
      INFO(text);
      CHECK(differs_from_interp(*device, tree::parse(text), scalars) == "");
    }
  for (DType dtype : every_dtype) {
    INFO(name(dtype));
    auto values = combinations(dtype, 4200);
    CHECK(differs_from_interp(*device, elementwise_kernel(dtype, 4200), {}, values) == "");
    CHECK(differs_from_interp(*device, cast_kernel(dtype, every_dtype, 128), {}, values) == "");
  }
}

// Of the emulated driver itself, which tests/e2e/test_cuda.py puts in NVIDIA's place.
TEST_CASE("[cuda] a kernel that writes nothing is no success") {
  std::unique_ptr<Backend> device;
  try {
    device = open_backend("cuda");
  } catch (const Error& error) {
    KONTOR_SKIP(error.what());
  }
  if (device->description().find("Emulated") == std::string::npos) KONTOR_SKIP("a real driver does not tell");
  const auto launched = [&](const std::string& body) {
    KernelSource source{
        .name = "k",
        .text =
            "// slots:\nextern \"C\" __global__ void k(int* x, unsigned int* error) {\n  " + body + "\n}\n"};
    std::unique_ptr<Program> program = device->load(source, device->compile(std::span(&source, 1), {}).at(0));
    void* memory[] = {device->allocate(4)};
    const std::string failure = error_of([&] {
      device->launch({.program = program.get(), .buffers = memory, .scalars = {}, .shares = 1}, {});
    });
    device->release(memory[0]);
    return failure;
  };
  CHECK_THAT(launched("(void)x;"), Catch::Matchers::Contains("CUDA_ERROR_LAUNCH_FAILED"));
  CHECK(launched("if (threadIdx.x == 0) *x = 1;") == "");
  CHECK(launched("if (threadIdx.x == 0) *error = 1;") == "");
  CHECK(device->synchronise() == 1);
}
