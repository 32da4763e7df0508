// The C renderer: its text, and its kernels on OpenCL against the interpreter, bit for bit.
#include <cstring>
#include <memory>
#include <string>

#include "codegen/schedule.h"
#include "codegen/tree_text.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/errors.h"

using namespace kontor;

namespace {

constexpr DType all_dtypes[] = {DType::Bool,   DType::U8,  DType::I8,   DType::U16, DType::I16,
                                DType::U32,    DType::I32, DType::U64,  DType::I64, DType::F8E4M3,
                                DType::F8E5M2, DType::F16, DType::BF16, DType::F32, DType::F64};

/// The device, or null with the reason why it cannot be opened.
std::unique_ptr<Backend> try_open(const char* name, std::string& reason) {
  try {
    return open_backend(name);
  } catch (const Error& error) {
    reason = error.what();
    return nullptr;
  }
}

/// Each argument against each: x runs fast, y slower, z slowest.
std::vector<std::vector<uint64_t>> combinations(const std::vector<uint64_t>& values, size_t count) {
  std::vector<std::vector<uint64_t>> out(3);
  for (size_t i = 0; i < count; i++) {
    out[0].push_back(values[i % values.size()]);
    out[1].push_back(values[i / values.size() % values.size()]);
    out[2].push_back(values[(i * 7 + i / 5) % values.size()]);
  }
  return out;
}

const char* const kTrees[] = {
    R"(kernel softmax(x f32[40, 33]) -> y f32[40, 33]
  global i 40
    m max f32; s sum f32; e f32[33]
    loop j 33: m <- x[i, j]
    loop j 33
      let %1 = x[i, j] - m
      e[j] = %1 * %1
      s <- e[j]
    loop j 33: y[i, j] = e[j] / s + x[i, j - 1 if 0 < j]
)",
    R"(kernel lanes(x f32[70, 128], y f32[70, 128]) -> z f32[70]
  global i 70
    q dot f32[16]
    loop j 8
      unroll l 16: q[l] <- x[i, j * 16 + l], y[i, j * 16 + l]
    z[i] = merge(q)
)",
    R"(kernel blocks(x f32[6, 64]) -> z f32[6, 3]
  global i 6
    q sum f32[3, 4]
    loop b 3
      loop j 5: q[b, j % 4] <- x[i, b * 5 + j]
    loop b 3: z[i, b] = merge(q[b]) * 2.0
)",
    // A scan: what is read in a loop is what was folded so far, and afterwards all of it.
    R"(kernel scan(x i32[10, 20]) -> y i32[10, 20], z i32[10]
  global i 10
    p sum i32
    loop j 20
      y[i, j] = p
      p <- x[i, j]
    z[i] = p
)",
    // One work item does it all: a histogram, with elements that are met more than once.
    R"(kernel histogram(x u8[300], w i32[300]) -> h sum i32[256]
  clear h
  loop i 300: h[i64(x[i])] <- w[i]
)",
    R"(kernel branches($0 f32, $2 i64 1..100, x f32[50], k i64[50]) -> y f32[50], b bool[50]
  global i 50
    if i < $2
      y[i] = x[k[i] if 0 <= k[i] & k[i] < 50] * $0
    else
      y[i] = x[i] + $0
    b[i] = x[i] < 0.0 | i == 3
    check 5: i < $2
)",
    R"(kernel sequential(x f64[9]) -> y f64[9], s f64
  p sum f64
  loop i 9
    p <- x[i]
    y[i] = p / 3.0_f64
  s = p
)",
};

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

extern "C" __global__ void scale_1(const float* x, float* y, unsigned int* error, long long s1_bits) {
  const float s1 = __uint_as_float((unsigned int)s1_bits);
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < 8) {
    float s = 0.0f;
    const long long v0 = i * 16;
    for (long long j = 0; j < 16; j++) {
      s = s + x[v0 + j];
    }
    const float v2 = s;
    for (long long j = 0; j < 16; j++) {
      const long long v1 = v0 + j;
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
  for (const char* text : kTrees) {
    INFO(text);
    REQUIRE(differs_from_interp(*device, tree::parse(text), scalars) == "");
  }
}

TEST_CASE("[render_c] OpenCL: every elementwise op in every dtype has the interpreter's bits") {
  std::string reason;
  std::unique_ptr<Backend> device = try_open("opencl", reason);
  if (!device) KONTOR_SKIP(reason);
  constexpr size_t count = 4200;
  for (DType dtype : all_dtypes) {
    INFO(name(dtype));
    auto values = combinations(special_values(dtype), count);
    CHECK(differs_from_interp(*device, elementwise_kernel(dtype, count), {}, values) == "");
    CHECK(differs_from_interp(*device, elementwise_kernel(dtype, 1000)) == "");
  }
}

TEST_CASE("[render_c] OpenCL: casts between all dtypes have the interpreter's bits") {
  std::string reason;
  std::unique_ptr<Backend> device = try_open("opencl", reason);
  if (!device) KONTOR_SKIP(reason);
  for (DType dtype : all_dtypes) {
    INFO(name(dtype));
    std::vector<std::vector<uint64_t>> values = {special_values(dtype)};
    CHECK(differs_from_interp(*device, cast_kernel(dtype, all_dtypes, 128), {}, values) == "");
  }
}
