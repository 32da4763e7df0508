// [backend] the llvm device, with hand-written IR: compile, link, load, launch; what it refuses and how it says so.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "backends/backend.h"
#include "backends/llvm/blob.h"
#include "backends/llvm/module_loader.h"
#include "base/env.h"
#include "base/sanitizer.h"
#include "kontor/types.h"
#include "runtime/thread_pool.h"
#include "tests/catch.h"

#if defined(KONTOR_ADDRESS_SANITIZER)
#include <sanitizer/lsan_interface.h>
#endif

using namespace kontor;

namespace {

// LLVM's frames don't free what they hold when an exception passes through them; that is not looked for.
struct LeaksAllowed {
#if defined(SANITIZER_LSAN_INTERFACE_H)
  LeaksAllowed() { __lsan_disable(); }
  ~LeaksAllowed() { __lsan_enable(); }
#else
  LeaksAllowed() {}
#endif
};

// The opening of every kernel: pointers of three buffers, the range, scratch and the error word.
const std::string kOpening = R"(define void @k(ptr noalias %args) {
entry:
  %buffers = load ptr, ptr %args, align 8, !invariant.load !0
  %a = load ptr, ptr %buffers, align 8, !invariant.load !0
  %b.at = getelementptr inbounds i8, ptr %buffers, i64 8
  %b = load ptr, ptr %b.at, align 8, !invariant.load !0
  %c.at = getelementptr inbounds i8, ptr %buffers, i64 16
  %c = load ptr, ptr %c.at, align 8, !invariant.load !0
  %scalars.at = getelementptr inbounds i8, ptr %args, i64 8
  %scalars = load ptr, ptr %scalars.at, align 8
  %begin.at = getelementptr inbounds i8, ptr %args, i64 16
  %begin = load i64, ptr %begin.at, align 8
  %end.at = getelementptr inbounds i8, ptr %args, i64 24
  %end = load i64, ptr %end.at, align 8
  %scratch.at = getelementptr inbounds i8, ptr %args, i64 32
  %scratch = load ptr, ptr %scratch.at, align 8
  %error.at = getelementptr inbounds i8, ptr %args, i64 40
  %error = load ptr, ptr %error.at, align 8
)";
const std::string kClosing = "  ret void\n}\n!0 = !{}\n";

std::string kernel(const std::string& body, const std::string& declarations = "") {
  return kOpening + body + kClosing + declarations;
}

// c[i] = a[i]*b[i]+1 for n = scalars[0] elements, each share 64 of them; the last share is masked.
const std::string kFma =
    kernel(R"(
  %n = load i64, ptr %scalars, align 8
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %i.next, %join ]
  %first = mul nuw nsw i64 %i, 64
  %after = add nuw nsw i64 %first, 64
  %bytes = mul nuw nsw i64 %i, 256
  %pa = getelementptr inbounds i8, ptr %a, i64 %bytes
  %pb = getelementptr inbounds i8, ptr %b, i64 %bytes
  %pc = getelementptr inbounds i8, ptr %c, i64 %bytes
  %whole = icmp sle i64 %after, %n
  br i1 %whole, label %full, label %tail
full:
  %fa = load <64 x float>, ptr %pa, align 4, !invariant.load !0
  %fb = load <64 x float>, ptr %pb, align 4, !invariant.load !0
  %fc = call <64 x float> @llvm.fma.v64f32(<64 x float> %fa, <64 x float> %fb, <64 x float> splat (float 1.0))
  store <64 x float> %fc, ptr %pc, align 4
  br label %join
tail:
  %left = sub nsw i64 %n, %first
  %left32 = trunc i64 %left to i32
  %one = insertelement <64 x i32> poison, i32 %left32, i64 0
  %all = shufflevector <64 x i32> %one, <64 x i32> poison, <64 x i32> zeroinitializer
  %mask = icmp slt <64 x i32> LANES, %all
  %ta = call <64 x float> @llvm.masked.load.v64f32.p0(ptr %pa, i32 4, <64 x i1> %mask, <64 x float> zeroinitializer)
  %tb = call <64 x float> @llvm.masked.load.v64f32.p0(ptr %pb, i32 4, <64 x i1> %mask, <64 x float> zeroinitializer)
  %tc = call <64 x float> @llvm.fma.v64f32(<64 x float> %ta, <64 x float> %tb, <64 x float> splat (float 1.0))
  call void @llvm.masked.store.v64f32.p0(<64 x float> %tc, ptr %pc, i32 4, <64 x i1> %mask)
  br label %join
join:
  %i.next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %i.next, %end
  br i1 %more, label %loop, label %done
done:
)",
           R"(declare <64 x float> @llvm.fma.v64f32(<64 x float>, <64 x float>, <64 x float>)
declare <64 x float> @llvm.masked.load.v64f32.p0(ptr, i32, <64 x i1>, <64 x float>)
declare void @llvm.masked.store.v64f32.p0(<64 x float>, ptr, i32, <64 x i1>)
)");

std::string fma_text() {
  std::string lanes = "<";
  for (int i = 0; i < 64; ++i) lanes += (i > 0 ? ", i32 " : "i32 ") + std::to_string(i);
  std::string text = kFma;
  return text.replace(text.find("LANES"), 5, lanes + ">");
}

// c[0..15] = polynomial of a with many constants and a table read by index: .rodata of several sizes, a jump among them.
const std::string kConstants =
    kernel(R"(
  %x = load <16 x float>, ptr %a, align 4
  %p0 = call <16 x float> @llvm.fma.v16f32(<16 x float> %x, <16 x float> splat (float 1.25), <16 x float> splat (float 2.5))
  %p1 = call <16 x float> @llvm.fma.v16f32(<16 x float> %p0, <16 x float> %x, <16 x float> <float 0.0, float 1.0, float 2.0, float 3.0, float 4.0, float 5.0, float 6.0, float 7.0, float 8.0, float 9.0, float 10.0, float 11.0, float 12.0, float 13.0, float 14.0, float 15.0>)
  %which = load i64, ptr %scalars, align 8
  %at = getelementptr inbounds [4 x double], ptr @table, i64 0, i64 %which
  %d = load double, ptr %at, align 8
  %f = fptrunc double %d to float
  %e = call float @helper(float %f)
  %v = insertelement <16 x float> poison, float %e, i64 0
  %s = shufflevector <16 x float> %v, <16 x float> poison, <16 x i32> zeroinitializer
  %r = fadd <16 x float> %p1, %s
  store <16 x float> %r, ptr %c, align 4
)",
           R"(@table = private constant [4 x double] [double 100.0, double 200.0, double 300.0, double 400.0]
define float @helper(float %x) noinline {
  %y = fmul float %x, 0.5
  ret float %y
}
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
)");

struct Cpu {
  explicit Cpu(const char* level) { ::setenv("KONTOR_CPU", level, 1); }
  ~Cpu() { ::unsetenv("KONTOR_CPU"); }
};

bool built_in() {
  return std::any_of(backend_kinds().begin(), backend_kinds().end(),
                     [](const BackendKind* kind) { return kind->name == "llvm"; });
}

std::unique_ptr<Backend> device(const char* level = "native") {
  const Cpu cpu(level);
  return open_backend("llvm");
}

// Whether this processor has the level.
bool can_open(const char* level) {
  try {
    device(level);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::unique_ptr<Program> build(Backend& backend, const std::string& text, int64_t scratch = 0) {
  const KernelSource source{"k", text, scratch};
  return backend.load(source, backend.compile({&source, 1}, {})[0]);
}

std::string error_of(Backend& backend, const std::string& text) {
  try {
    build(backend, text);
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

std::vector<float> numbers(size_t count, uint32_t seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525 + 1013904223;
    value = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-28f;
  }
  return values;
}

std::vector<float> run_fma(Backend& backend, Program& program, size_t count, const ParallelFor& parallel) {
  std::vector<float> a = numbers(count, 1), b = numbers(count, 2), c(count + 64, -7.0f);
  void* buffers[] = {a.data(), b.data(), c.data()};
  const int64_t scalars[] = {static_cast<int64_t>(count)};
  backend.launch({&program, buffers, scalars, static_cast<int64_t>((count + 63) / 64), true}, parallel);
  CHECK(backend.synchronise() == 0);
  for (size_t i = count; i < c.size(); ++i) REQUIRE(c[i] == -7.0f);  // nothing behind the end is written
  c.resize(count);
  return c;
}

}  // namespace

#define NEEDS_LLVM() \
  if (!built_in()) KONTOR_SKIP("this build has no llvm device")

TEST_CASE("[backend] llvm: fma with a masked tail, any size, any number of threads") {
  NEEDS_LLVM();
  const auto backend = device();
  const auto program = build(*backend, fma_text());
  ThreadPool pool(3);
  for (const size_t count : {1u, 63u, 64u, 65u, 1000u, 100003u}) {
    std::vector<float> expected = numbers(count, 1);
    const std::vector<float> b = numbers(count, 2);
    for (size_t i = 0; i < count; ++i) expected[i] = std::fma(expected[i], b[i], 1.0f);
    CHECK(run_fma(*backend, *program, count, {}) == expected);
    CHECK(run_fma(*backend, *program, count, pool.parallel_for()) == expected);
  }
}

TEST_CASE("[backend] llvm: AVX2 and AVX-512 give equal bits") {
  NEEDS_LLVM();
  if (!can_open("avx512")) KONTOR_SKIP("the processor has no AVX-512");
  const auto wide = device("avx512"), narrow = device("avx2");
  CHECK(wide->target().vector_bytes == 64);
  CHECK(narrow->target().vector_bytes == 32);
  CHECK(wide->fingerprint() != narrow->fingerprint());
  CHECK(has(wide->compiler_text({"k", fma_text()}, "asm"), "zmm"));
  CHECK(narrow->compiler_text({"k", fma_text()}, "asm").find("zmm") == std::string::npos);
  const auto wide_program = build(*wide, fma_text()), narrow_program = build(*narrow, fma_text());
  CHECK(run_fma(*wide, *wide_program, 4099, {}) == run_fma(*narrow, *narrow_program, 4099, {}));
}

TEST_CASE("[backend] llvm: a multiply and an add are not contracted") {
  NEEDS_LLVM();
  const auto backend = device();
  const auto program = build(*backend, kernel(R"(
  %x = load <16 x float>, ptr %a, align 4
  %y = load <16 x float>, ptr %b, align 4
  %m = fmul <16 x float> %x, %x
  %s = fadd <16 x float> %m, %y
  store <16 x float> %s, ptr %c, align 4
)"));
  std::vector<float> a(16, 1.0f + 0x1p-12f), b(16, -1.0f), c(16);
  void* buffers[] = {a.data(), b.data(), c.data()};
  backend->launch({program.get(), buffers, {}, 1, false}, {});
  const float rounded = a[0] * a[0];
  CHECK(c[3] == rounded - 1.0f);
  CHECK(c[3] != std::fma(a[0], a[0], -1.0f));
}

TEST_CASE("[backend] llvm: constants and functions of a kernel are found wherever the code lies") {
  NEEDS_LLVM();
  for (const char* level : {"avx2", "avx512"}) {
    if (!can_open(level)) continue;
    const auto backend = device(level);
    std::vector<std::unique_ptr<Program>> programs;
    for (int copy = 0; copy < 3; ++copy) programs.push_back(build(*backend, kConstants));
    for (int64_t which = 0; which < 4; ++which) {
      std::vector<float> a = numbers(16, 5), c(16);
      void* buffers[] = {a.data(), nullptr, c.data()};
      backend->launch({programs[static_cast<size_t>(which % 3)].get(), buffers, {&which, 1}, 1, false}, {});
      for (size_t i = 0; i < 16; ++i) {
        const float inner = std::fma(a[i], 1.25f, 2.5f);
        CHECK(c[i] == std::fma(inner, a[i], static_cast<float>(i)) + 50.0f * static_cast<float>(which + 1));
      }
    }
  }
}

TEST_CASE("[backend] llvm: each thread has scratch memory; kernels set the error word") {
  NEEDS_LLVM();
  const auto backend = device();
  // Fills scratch with the share's number, reads it back; share 77 stores error 42.
  const auto program = build(*backend, kernel(R"(
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %i.next, %join ]
  %last = getelementptr inbounds i64, ptr %scratch, i64 131071
  store i64 %i, ptr %scratch, align 64
  store i64 %i, ptr %last, align 8
  %x = load volatile i64, ptr %scratch, align 8
  %y = load volatile i64, ptr %last, align 8
  %sum = add i64 %x, %y
  %out = getelementptr inbounds i64, ptr %c, i64 %i
  store i64 %sum, ptr %out, align 8
  %bad = icmp eq i64 %i, 77
  br i1 %bad, label %fail, label %join
fail:
  store i32 42, ptr %error, align 4
  br label %join
join:
  %i.next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %i.next, %end
  br i1 %more, label %loop, label %done
done:
)"),
                             1 << 20);
  ThreadPool pool(4);
  std::vector<int64_t> out(1000);
  void* buffers[] = {nullptr, nullptr, out.data()};
  backend->launch({program.get(), buffers, {}, 50, true}, pool.parallel_for());
  CHECK(backend->synchronise() == 0);
  backend->launch({program.get(), buffers, {}, 1000, true}, pool.parallel_for());
  CHECK(backend->synchronise() == 42);
  CHECK(backend->synchronise() == 0);
  for (size_t i = 0; i < out.size(); ++i) REQUIRE(out[i] == 2 * static_cast<int64_t>(i));
}

TEST_CASE("[backend] llvm: what does not compile is an Error with the compiler's log and the source's path") {
  NEEDS_LLVM();
  const auto backend = device();
  const std::string syntax =
      error_of(*backend, "define void @k(ptr %args) {\n  %x = fadd float 1.0\n  ret void\n}\n");
  has(syntax, "expected ','");
  has(syntax, "ret void");  // the line where it was missed
  has(syntax, ".ll");
  has(error_of(*backend, "define void @other(ptr %args) {\n  ret void\n}\n"), "@k");
  has(error_of(*backend, kernel("  %x = add float 1.0, 2.0\n")), "invalid operand type");
  has(error_of(
          *backend,
          kernel(
              "  %x = load float, ptr %a\n  %y = call float @llvm.exp.f32(float %x)\n  store float %y, ptr %c\n",
              "declare float @llvm.exp.f32(float)\n")),
      "expf");
  has(error_of(*backend, kernel("  call void @llvm.memset.p0.i64(ptr %c, i8 0, i64 100000, i1 false)\n",
                                "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n")),
      "memset");
  has(error_of(*backend, kernel("  call void @elsewhere()\n", "declare void @elsewhere()\n")), "elsewhere");
  has(error_of(*backend, kernel("  store ptr @word, ptr %c\n", "@word = global i32 7\n")), "writable data");
  has(error_of(
          *backend,
          kernel(
              "  %p = load ptr, ptr @pointers\n  store ptr %p, ptr %c\n  %q = ptrtoint ptr %args to i64\n"
              "  %r = getelementptr [2 x ptr], ptr @pointers, i64 0, i64 %q\n  %s = load ptr, ptr %r\n  store ptr %s, ptr %c\n",
              "@x = private constant i32 1\n@y = private constant i32 2\n@pointers = private constant [2 x ptr] [ptr @x, ptr @y]\n")),
      "llvm: the kernel");
  CHECK_NOTHROW(build(*backend, fma_text()));  // a failure leaves the compiler usable
}

TEST_CASE("[backend] llvm: IR that the code generator cannot lower is an Error, not the end of the process") {
  NEEDS_LLVM();
  const auto backend = device();
  has(error_of(*backend, kernel("  call void asm sideeffect \"\", \"{nonsense}\"(i32 1)\n")), "nonsense");
  // Of AVX512-FP16, which no kernel is compiled for.
  const std::string sum =
      "declare <32 x half> @llvm.x86.avx512fp16.add.ph.512(<32 x half>, <32 x half>, i32)\n";
  const LeaksAllowed allowed;
  const std::string log = error_of(*backend, kernel(R"(
  %x = load <32 x half>, ptr %a, align 4
  %z = call <32 x half> @llvm.x86.avx512fp16.add.ph.512(<32 x half> %x, <32 x half> %x, i32 4)
  store <32 x half> %z, ptr %c, align 4
)",
                                                    sum));
  has(log, "llvm: kernel k does not compile");  // the rest is LLVM's wording
  CHECK_NOTHROW(build(*backend, fma_text()));
}

TEST_CASE("[backend] llvm: several kernels compile on several threads, results in order") {
  NEEDS_LLVM();
  const auto backend = device();
  std::vector<KernelSource> sources;
  for (int k = 0; k < 24; ++k) {
    sources.push_back({"k", kernel("  store i64 " + std::to_string(k * k) + ", ptr %c, align 8\n")});
  }
  ThreadPool pool(4);
  const std::vector<std::string> binaries = backend->compile(sources, pool.parallel_for());
  REQUIRE(binaries.size() == sources.size());
  CHECK(binaries == backend->compile(sources, {}));  // the same bytes each time
  for (size_t k = 0; k < sources.size(); ++k) {
    int64_t out = -1;
    void* buffers[] = {nullptr, nullptr, &out};
    const auto program = backend->load(sources[k], binaries[k]);
    backend->launch({program.get(), buffers, {}, 1, false}, {});
    CHECK(out == static_cast<int64_t>(k * k));
  }
  sources[7].text = "nonsense";
  CHECK_THROWS_AS(backend->compile(sources, pool.parallel_for()), Error);
}

TEST_CASE("[backend] llvm: a binary that is damaged or of another machine is refused") {
  NEEDS_LLVM();
  const auto backend = device();
  const KernelSource source{"k", fma_text()};
  const std::string good = backend->compile({&source, 1}, {})[0];
  for (const size_t at :
       {size_t{0}, size_t{8}, size_t{12}, size_t{16}, size_t{24}, size_t{40}, size_t{64}, good.size() - 1}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    INFO("byte " << at);
    CHECK_THROWS_AS(backend->load(source, bad), Error);
  }
  CHECK_THROWS_AS(backend->load(source, good.substr(0, 63)), Error);
  CHECK_THROWS_AS(backend->load(source, good.substr(0, good.size() - 1)), Error);
  CHECK_THROWS_AS(backend->load(source, ""), Error);
  if (can_open("avx512"))
    CHECK_THROWS_WITH(device("avx2")->load(source, good),
                      Catch::Matchers::StartsWith("llvm: a binary of another machine"));
  CHECK_NOTHROW(backend->load(source, good));
}

TEST_CASE("[backend] llvm: code runs from shared pages and from pages of its own") {
  NEEDS_LLVM();
  const auto backend = device();
  const KernelSource source{"k", kConstants};
  const std::string blob = backend->compile({&source, 1}, {})[0];
  for (const bool shared : {true, false}) {
    CodeArena arena(shared);
    std::vector<LoadedCode> loaded;
    const auto load = [&](size_t copies) {
      while (loaded.size() < copies) loaded.push_back(arena.load(blob, backend->fingerprint()));
    };
    load(5000);
    const size_t bytes = arena.mapped_bytes();
    for (int again = 0; again < 4; ++again) {  // some stay everywhere: what is between them is used again
      for (size_t i = 0; i < 500; i++) loaded[i] = loaded[i * 10];
      loaded.resize(500);
      load(5000);
      CHECK(arena.mapped_bytes() == bytes);
    }
    loaded.erase(loaded.begin(), loaded.begin() + 4900);  // the rest keeps its memory
    for (const LoadedCode& code : loaded) {
      std::vector<float> a(16, 0.0f), c(16);
      void* buffers[] = {a.data(), nullptr, c.data()};
      const int64_t which = 1;
      const KernelArgs args{buffers, &which, 0, 1, nullptr, nullptr};
      reinterpret_cast<void (*)(const KernelArgs*)>(const_cast<void*>(code.entry))(&args);
      REQUIRE(c[15] == 115.0f);
    }
    loaded.clear();
    CHECK(arena.mapped_bytes() == 0);
  }
}

TEST_CASE("[backend] llvm: memory is aligned, reused after a release, and its end is an Error") {
  NEEDS_LLVM();
  const auto backend = device();
  std::vector<void*> blocks;
  for (const size_t bytes : {0u, 1u, 64u, 65u, 1000u, 4097u, 1u << 20, (2u << 20) + 1, 5u << 20}) {
    blocks.push_back(backend->allocate(bytes));
    CHECK(reinterpret_cast<uintptr_t>(blocks.back()) % 64 == 0);
    std::memset(blocks.back(), 1, bytes);
  }
  for (void* block : blocks) backend->release(block);
  CHECK(backend->allocate(5 << 20) == blocks.back());
  backend->release(nullptr);
  CHECK_THROWS_AS(backend->allocate(size_t{1} << 60), Error);
  CHECK_THROWS_WITH(backend->allocate(size_t{1} << 46),
                    Catch::Matchers::StartsWith("llvm: out of memory: 70368744177664 bytes"));
}

TEST_CASE("[backend] llvm: where the module is not found, the error lists where it was looked for") {
  NEEDS_LLVM();
  const std::string text = __FILE__, absent = "/nowhere/libkontor-llvm.so";
  const std::string paths[] = {absent, text};
  std::string message;
  try {
    open_llvm_module(paths);
  } catch (const Error& error) {
    message = error.what();
  }
  has(message, "/nowhere/libkontor-llvm.so: not there");
  has(message, text + ": ");
}

TEST_CASE("[backend] unknown devices and instruction sets are named with those that are known") {
  NEEDS_LLVM();
  const Cpu cpu("sse9");
  CHECK_THROWS_WITH(open_backend("llvm"), "KONTOR_CPU=sse9: avx2, avx512 and native are known");
  CHECK_THROWS_WITH(open_backend("abacus"),
                    Catch::Matchers::StartsWith("device 'abacus': this build of Kontor knows "));
}
