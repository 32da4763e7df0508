// The C renderer: its text, and its kernels on OpenCL against the interpreter, bit for bit.
#include <cstring>
#include <memory>
#include <string>

#include "codegen/render.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/errors.h"

using namespace kontor;

namespace {

/// The device, or null with the reason why it cannot be opened.
std::unique_ptr<Backend> try_open(const char* name, std::string& reason) {
  try {
    return open_backend(name);
  } catch (const Error& error) {
    reason = error.what();
    return nullptr;
  }
}

std::string texts_of(const Ref& kernel) {
  return render_c(kernel, "entry", Dialect::OpenCL) + render_c(kernel, "entry", Dialect::Cuda);
}

}  // namespace

TEST_CASE("[render_c] a kernel as it is written by hand") {
  Ref kernel = tree::parse(R"(
kernel scale($1 f32, x f32[8, 16]) -> y f32[8, 16]
  global i 8
    s sum f32
    loop j 16: s <- x[i, j]
    loop j 16: y[i, j] = x[i, j] / s * $1
)");
  REQUIRE(render_c(kernel, "scale_1", Dialect::Cuda) ==
          R"(// kernel scale($1 f32, x f32[8, 16]) -> y f32[8, 16]
// slots: 1

extern "C" __global__ void scale_1(const float* __restrict__ x, float* __restrict__ y, long long* error, long long s1_bits) {
  const float s1 = __uint_as_float((unsigned int)s1_bits);
  const int i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < 8) {
    float s = 0.0f;
    const int v0 = i * 16;
    #pragma unroll 16
    for (int j = 0; j < 16; j++) {
      s = s + x[v0 + j];
    }
    const float v2 = s;
    for (int j = 0; j < 16; j++) {
      const int v1 = v0 + j;
      y[v1] = x[v1] / v2 * s1;
    }
  }
}
)");
}

TEST_CASE("[render_c] names that C or a dialect keeps for itself") {
  std::string text = texts_of(tree::parse(
      "kernel k(float f32[4], error f32[4]) -> v1 f32[4]\n global for 4: v1[for] = float[for] + error[for]"));
  for (const char* name : {"float_[", "v1_[", "error_[", "for_ "})
    REQUIRE(text.find(name) != std::string::npos);
}

TEST_CASE("[render_c] a kernel whose work items would all write one element is refused") {
  Ref kernel = tree::parse("kernel k(x f32[4]) -> y f32[4], z f32\n global i 4: y[i] = x[i]\n z = x[0]");
  REQUIRE_THROWS_AS(texts_of(kernel), InternalError);
}

TEST_CASE("[render_c] OpenCL: loops, folds, merges, guards, branches, checks") {
  std::string reason;
  std::unique_ptr<Backend> device = try_open("opencl", reason);
  if (!device) KONTOR_SKIP(reason);
  float scale = 0.75f;
  int64_t scalars[3] = {0, -1, 20};
  std::memcpy(&scalars[0], &scale, sizeof scale);
  for (const char* text : hand_made_trees()) {
    INFO(text);
    REQUIRE(differs_from_interp(*device, tree::parse(text), scalars) == "");
  }
}

TEST_CASE("[render_c] OpenCL: every elementwise op in every dtype has the interpreter's bits") {
  std::string reason;
  std::unique_ptr<Backend> device = try_open("opencl", reason);
  if (!device) KONTOR_SKIP(reason);
  constexpr size_t count = 4200;
  for (DType dtype : every_dtype) {
    INFO(name(dtype));
    auto values = combinations(dtype, count);
    CHECK(differs_from_interp(*device, elementwise_kernel(dtype, count), {}, values) == "");
    CHECK(differs_from_interp(*device, elementwise_kernel(dtype, 1000)) == "");
  }
}

TEST_CASE("[render_c] OpenCL: casts between all dtypes have the interpreter's bits") {
  std::string reason;
  std::unique_ptr<Backend> device = try_open("opencl", reason);
  if (!device) KONTOR_SKIP(reason);
  for (DType dtype : every_dtype) {
    INFO(name(dtype));
    std::vector<std::vector<uint64_t>> values = {special_values(dtype)};
    CHECK(differs_from_interp(*device, cast_kernel(dtype, every_dtype, 128), {}, values) == "");
  }
}
