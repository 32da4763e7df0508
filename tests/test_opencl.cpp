// The device "opencl": memory, binaries, errors, and Tensors on it.
#include <kontor/kontor.h>

#include <cstring>

#include "backends/backend.h"
#include "codegen/render.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

KernelSource source_of_text(const char* text) {
  Ref kernel = tree::parse(text);
  return {.name = "k", .text = render_c(kernel, "k", Dialect::OpenCL)};
}

struct OnOpencl {
  Context context{{.device = "opencl", .threads = 1, .seed = 3}};
  Context::Use use{context};
};

}  // namespace

TEST_CASE("[opencl] a place in the middle of a buffer is an address like any other") {
  std::string why;
  Backend* opencl = device("opencl", &why);
  if (!opencl) KONTOR_SKIP(why);
  KernelSource source = source_of_text("kernel k(x i32[3]) -> y i32[3]\n  global i 3: y[i] = x[i] + 1_i32");
  std::unique_ptr<Program> program = opencl->load(source, opencl->compile(std::span(&source, 1), {}).at(0));
  int32_t values[64];
  for (int i = 0; i < 64; i++) values[i] = i * i;
  auto* memory = static_cast<std::byte*>(opencl->allocate(sizeof values));
  opencl->copy_in(memory, values, sizeof values);
  void* buffers[] = {memory + 16, memory + 64};
  opencl->launch({.program = program.get(), .buffers = buffers, .scalars = {}, .shares = 3}, {});
  CHECK(opencl->synchronise() == 0);
  int32_t found[5];
  opencl->copy_out(found, memory + 60, sizeof found);
  opencl->release(memory);
  CHECK(std::vector<int32_t>(found, found + 5) == std::vector<int32_t>{225, 17, 26, 37, 361});
  CHECK_THROWS_AS(opencl->copy_out(found, memory, 4), InternalError);
}

TEST_CASE("[opencl] a failed check sets the error word until the next synchronise()") {
  std::string why;
  Backend* opencl = device("opencl", &why);
  if (!opencl) KONTOR_SKIP(why);
  KernelSource source = source_of_text(
      "kernel k(x i32[3]) -> y i32[3]\n  global i 3\n    y[i] = x[i]\n    check 9: x[i] < 2_i32");
  std::unique_ptr<Program> program = opencl->load(source, opencl->compile(std::span(&source, 1), {}).at(0));
  const int32_t values[3] = {0, 1, 2};
  void* buffers[] = {opencl->allocate(sizeof values), opencl->allocate(sizeof values)};
  opencl->copy_in(buffers[0], values, sizeof values);
  opencl->launch({.program = program.get(), .buffers = buffers, .scalars = {}, .shares = 3}, {});
  CHECK(opencl->synchronise() == 9);
  CHECK(opencl->synchronise() == 0);
  for (void* b : buffers) opencl->release(b);
}

TEST_CASE("[opencl] what cannot be compiled or loaded or allocated is told") {
  std::string why;
  Backend* opencl = device("opencl", &why);
  if (!opencl) KONTOR_SKIP(why);
  KernelSource wrong{.name = "wrong", .text = "// slots:\n__kernel void wrong() { no_such_name = 1; }\n"};
  std::string text = error_of([&] { opencl->compile(std::span(&wrong, 1), {}); });
  INFO(text);
  CHECK(text.find("opencl: kernel wrong does not compile (") == 0);
  CHECK(text.find(".cl)") != std::string::npos);
  CHECK(text.find("no_such_name") != std::string::npos);

  KernelSource source = source_of_text(
      "kernel k(x i32[3]) -> y i32[3]\n  global i 3\n    y[i] = x[i]\n    check 9: x[i] < 2_i32");
  std::string binary = opencl->compile(std::span(&source, 1), {}).at(0);
  std::string other = binary;
  other.replace(other.find("opencl "), 7, "OPENCL ");
  CHECK(error_of([&] { opencl->load(source, other); }).find("a compiled kernel is for 'OPENCL ") == 0);
  CHECK(error_of([&] { opencl->load(source, binary.substr(0, 20)); }) ==
        "a compiled kernel is damaged or of another version of Kontor");
  KernelSource unmarked{.name = "k", .text = "__kernel void k() {}\n"};
  CHECK(error_of([&] {
          opencl->compile(std::span(&unmarked, 1), {});
        }).find("has lost the line '// slots:'") != std::string::npos);
  CHECK(error_of([&] { opencl->compiler_text(source, "asm"); }).find("opencl: there is no stage 'asm'") == 0);
  CHECK(error_of([&] { opencl->allocate(size_t{1} << 56); }).find("72057594037927936 bytes") !=
        std::string::npos);
}

TEST_CASE("[opencl] Tensors with temporaries and gradients and updates in place") {
  std::string why;
  if (!device("opencl", &why)) KONTOR_SKIP(why);
  auto trained = [](const char* name) {
    Context context({.device = name, .threads = 1, .seed = 3});
    Context::Use use(context);
    Tensor w = Tensor::arange(12).cast(DType::F32).reshape({4, 3}) * 0.05f - 0.2f;
    Tensor x = (Tensor::arange(20).cast(DType::F32) * 0.1f).sin().reshape({5, 4});
    realize_all(std::vector<Tensor*>{&w});
    for (int i = 0; i < 3; i++) {
      Tensor loss = (x.matmul(w).softmax(1).log() * -1.0f).mean();
      w.assign(w - gradient(loss, {w})[0] * 0.1f);
    }
    return w.to_vector<float>();
  };
  CHECK(trained("opencl") == trained("interp"));
  OnOpencl on;
  CHECK(Tensor::arange(1000).sum().item<int64_t>() == 499500);
  const Tensor ones = Tensor::from(std::vector<int32_t>{1, 2}, {2});
  const Tensor zero = Tensor::from(std::vector<int32_t>{0, 1}, {2});
  CHECK(error_of([&] { floor_div(ones, zero).to_vector<int32_t>(); }) != "");
}
