// Groups of threads: tiles of a product in shared memory, matrix instructions, barriers, and what is refused.
#include "codegen/tree/groups.h"

#include <cmath>

#include "backends/gpu.h"
#include "base/error.h"
#include "codegen/moves/moves.h"
#include "codegen/render.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "codegen/tree/verify.h"
#include "graph/functions/functions.h"
#include "graph/graph.h"
#include "graph/scalar.h"
#include "graph/text/text.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/errors.h"

using namespace kontor;

namespace {

constexpr const char* product =
    R"(kernel product(c f32[64, 96], a f32[64, 48], b f32[48, 96], bias f32[96]) -> c
  loop i 64
    loop j 96
      s dot f32
      loop r 48
        s <- a[i, r], b[r, j]
      c[i, j] = max(s + bias[j], 0.0)
)";

// Blocks of 32 x 32, 8 steps at once; a thread has 4 x 4 elements.
constexpr const char* tiled =
    "split i 32 it; split it 4 ie; split j 32 jt; split jt 4 je; split r 8 rk; reorder it; reorder jt; reorder ie; "
    "reorder je; pack r s.0 rk it ie; share p_s 32 4; merge fit fie; reorder frk fit; split frk 4 fv; local fit; local "
    "frk; unroll fv; pack r s.1 rk jt je; share q_s 32 4; merge grk gjt; local grk; unroll gje; unroll ie; unroll je; "
    "local it; local jt; merge i j; global i";

constexpr const char* pairs = R"(kernel pairs(c f32[64, 64], a bf16[64, 96], b bf16[96, 64]) -> c
  loop i 64
    loop j 64
      s pair_dot f32
      loop r 48
        s <- u32(bitcast(u16, a[i, r * 2])) | u32(bitcast(u16, a[i, r * 2 + 1])) << 16_u32, u32(bitcast(u16, b[r * 2, j])) | u32(bitcast(u16, b[r * 2 + 1, j])) << 16_u32
      c[i, j] = s * 2.0
)";

// One block of 64 x 64, 16 pairs at once, by four warps of 32 x 32.
constexpr const char* by_matrix =
    "split i 64 iw; split j 64 jw; split iw 32 im; split im 16 ix; split jw 32 jn; split jn 8 jx; split r 16 rk; split "
    "rk 8 rx; reorder iw; reorder jw; reorder im; reorder jn; reorder ix; reorder jx; reorder rx; pack r s.0 iw im ix "
    "rk rx; share p_s 16 4; merge fiw fim; merge fiw fix; merge frk frx; split frk 4 fv; split fiw 32 ft; unroll fiw; "
    "local ft; local frk; unroll fv; pack r s.1 rk rx jw jn jx; share q_s 64 8; merge grk grx; merge gjw gjn; merge "
    "gjw gjx; split gjw 8 gv; merge grk gjw; local grk; unroll gv; local iw; local jw; unroll im; unroll jn; matrix ix "
    "jx rx; unroll rk; merge i j; global i";

constexpr const char* more_pairs = R"(kernel pairs(c f32[128, 256], a bf16[128, 256], b bf16[256, 256]) -> c
  loop i 128
    loop j 256
      s pair_dot f32
      loop r 128
        s <- u32(bitcast(u16, a[i, r * 2])) | u32(bitcast(u16, a[i, r * 2 + 1])) << 16_u32, u32(bitcast(u16, b[r * 2, j])) | u32(bitcast(u16, b[r * 2 + 1, j])) << 16_u32
      c[i, j] = s + 1.0
)";

// One block of 128 x 256 by eight warps, whose instructions read shared memory; 32 pairs at once, three such panels ahead.
constexpr const char* by_shared_matrix =
    "split i 128 it; split it 64 ix; split j 256 jx; split r 32 rt; split rt 8 rx; reorder it; reorder ix; reorder jx; "
    "reorder rx; pack r s.0 rt rx/4 it ix rx%4 half; share p_s 1024 8; reorder frxd fit fix; reorder frt fit fix; merge "
    "frxm fhalf; merge fit fix; merge fit frt; merge fit frxd; split fit 256 fn; unroll fit; local fn; unroll frxm; "
    "pack r s.1 rt rx/4 jx/8 rx%4 half jx%8; share q_s 64 8; reorder gjxd grxm ghalf; merge grt grxd; merge grt grxm; "
    "merge grt ghalf; merge grt gjxd; split grt 256 gn; unroll grt; local gn; unroll gjxm; local it; matrix ix jx rx; "
    "unroll rt; pipeline r 3 p_s q_s; merge i j; global i";

Ref moved(const char* kernel, const std::string& moves) {
  return apply_moves(tree::parse(kernel), parse_moves(moves));
}

int count(const std::string& text, const std::string& what) {
  int n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) n++;
  return n;
}

std::unique_ptr<Backend> gpu(std::string& why) {
  try {
    return open_backend("cuda");
  } catch (const Error& error) {
    why = error.what();
    return nullptr;
  }
}

}  // namespace

TEST_CASE("[groups] a product in tiles is sound, and text that reads back") {
  for (const auto& [kernel, moves] :
       {std::pair(product, tiled), std::pair(pairs, by_matrix), std::pair(more_pairs, by_shared_matrix)}) {
    const Ref tree = moved(kernel, moves);
    INFO(tree::print(tree));
    CHECK(verify_tree(tree).empty());
    CHECK(tree::print(tree::parse(tree::print(tree))) == tree::print(tree));
    CHECK(tree::group_threads(*tree) == (kernel == product ? 64 : kernel == pairs ? 128 : 256));
  }
}

TEST_CASE("[groups] barriers stand where a place is read after it was written, and the other way round") {
  const std::string text = render_c(moved(product, tiled), "k", Dialect::Cuda);
  INFO(text);
  CHECK(count(text, "__syncthreads();") == 2);
  CHECK(count(text, "__shared__") == 2);
  CHECK(text.find("// group: 64\n") != std::string::npos);
  // 16 bytes at a time: of both operands, of what the panels hold, and of the result.
  CHECK(count(text, "*(int4*)&") == 7);
}

TEST_CASE("[groups] on a GPU tiles have the interpreter's bits") {
  std::string why;
  const std::unique_ptr<Backend> device = gpu(why);
  if (!device) KONTOR_SKIP(why);
  CHECK(differs_from_interp(*device, moved(product, tiled)) == "");
}

TEST_CASE("[groups] on a GPU a matrix instruction multiplies what the loops say") {
  std::string why;
  const std::unique_ptr<Backend> device = gpu(why);
  if (!device) KONTOR_SKIP(why);
  // Whole numbers up to 7: sums of 96 products of them are exact in any order.
  std::vector<uint64_t> whole;
  for (int i = 0; i < 97; i++) whole.push_back(from_double(DType::BF16, i * 5 % 15 - 7).bits);
  const std::vector<std::vector<uint64_t>> values = {{0}, whole, std::vector(whole.begin(), whole.end() - 6)};
  CHECK(differs_from_interp(*device, moved(pairs, by_matrix), {}, values) == "");
  CHECK(differs_from_interp(*device, moved(more_pairs, by_shared_matrix), {}, values) == "");
}

namespace {

/// Graphs of products that tiles divide: operands along either of their axes, batches, what is computed before and after.
constexpr const char* tiled_products[] = {
    "matmul(f32[64,40], f32[40,96])",
    "matmul(transpose(f32[40,64]), f32[40,96])",
    "matmul(f32[64,40], transpose(f32[96,40]))",
    "matmul(transpose(f32[48,128]), transpose(f32[64,48]))",
    "relu(matmul(f32[3,64,32], f32[3,32,64]) + f32[64]) * f32[3,64,64]",
    "matmul(exp(f32[128,32]), f32[32,128])",
    "matmul(f64[64,16], f64[16,64])",
    "matmul(bf16[64,32], bf16[32,64])",
    "matmul(f16[64,32], f16[32,64])",
    "matmul(f32[32,16], f32[16,32])",
    "relu(matmul(f32[64,64], f32[64,64]) + transpose(f32[64,64]))",
    "matmul(transpose(bf16[32,64]), bf16[32,64])",
    "conv2d(f32[4,16,12,12], f32[32,16,5,5])",
    "relu(conv2d(f32[8,8,6,6], f32[64,8,3,3]))",
    "matmul(f32[256,8], f32[8,512])",
};

bool has_groups(const Schedule& made) {
  return std::any_of(made.kernels.begin(), made.kernels.end(),
                     [](const ScheduledKernel& k) { return tree::group_threads(*k.tree) > 1; });
}

Graph graph_of(const char* expression) { return make_graph({parse_expression(expression)}); }

/// What a convolution's gradients make: sums over images and positions, along taps, of pieces of a chain.
Graph gradients_of_convolution() {
  const Ref x = parse_expression("f32[16,16,12,12]"), w = parse_expression("f32[32,16,5,5]");
  const Ref loss = fn::sum(fn::unary("relu", fn::conv2d(x, w, {}, Ints{1, 1}, Ints{0, 0}, Ints{1, 1}, 1)),
                           Ints{0, 1, 2, 3}, false);
  return make_graph(gradient(loss, std::vector<Ref>{x, w}));
}

}  // namespace

TEST_CASE("[groups] products that tiles divide have them, and are sound") {
  for (const char* text : tiled_products) {
    INFO(text);
    const Schedule made = schedule(graph_of(text), cuda_target());
    CHECK(has_groups(made));
    for (const ScheduledKernel& k : made.kernels) CHECK(verify_tree(k.tree).empty());
  }
}

TEST_CASE("[groups] products of nothing have no tiles") {
  for (const char* text : {"matmul(f32[0,64], f32[64,64])", "matmul(f32[64,0], f32[0,64])",
                           "matmul(f32[0,1,1], f32[0,1,2])", "matmul(f32[0,1,1,1], f32[1,1,1,2])"}) {
    INFO(text);
    for (const ScheduledKernel& k : schedule(graph_of(text), cuda_target()).kernels)
      CHECK(verify_tree(k.tree).empty());
  }
}

TEST_CASE("[groups] on a GPU products in tiles have the interpreter's bits") {
  std::string why;
  const std::unique_ptr<Backend> device = gpu(why);
  if (!device) KONTOR_SKIP(why);
  for (const char* text : tiled_products)
    for (const ScheduledKernel& k : schedule(graph_of(text), cuda_target()).kernels) {
      INFO(text << "\n" << tree::print(k.tree));
      CHECK(differs_from_interp(*device, k.tree) == "");
    }
  const Schedule made = schedule(gradients_of_convolution(), cuda_target());
  CHECK(has_groups(made));
  for (const ScheduledKernel& k : made.kernels) {
    INFO(tree::print(k.tree));
    CHECK(differs_from_interp(*device, k.tree) == "");
  }
}

namespace {

// Tiles of 64 x 64, the first in four turns of its panels.
constexpr const char* fast_products[] = {
    "matmul(bf16[64,256], bf16[256,128])", "matmul(bf16[64,128], transpose(bf16[192,128])) + bf16[192]",
    "matmul(transpose(bf16[128,64]), bf16[128,64])", "relu(matmul(bf16[3,64,96], bf16[3,96,64]))"};

Target fast_target(int capability) {
  Target target = cuda_target(usual_gpu_memory, capability);
  target.fast = true;
  target.natives.shared_matrices = capability == 90;
  return target;
}

/// Of operands up to 7: sums of up to 2^18 products of them are exact in any order.
std::vector<std::vector<uint64_t>> whole_numbers_in_bf16() {
  std::vector<uint64_t> whole;
  for (int i = 0; i < 97; i++) whole.push_back(from_double(DType::BF16, i * 5 % 15 - 7).bits);
  return std::vector(4, whole);
}

}  // namespace

TEST_CASE("[groups] on a GPU fast products of bf16 go by matrix instructions") {
  std::string why;
  const std::unique_ptr<Backend> device = gpu(why);
  if (!device) KONTOR_SKIP(why);
  for (const char* text : fast_products)
    for (const int capability : {80, 90})
      for (const ScheduledKernel& k : schedule(graph_of(text), fast_target(capability)).kernels) {
        const std::string source = render_c(k.tree, "k", Dialect::Cuda);
        INFO(text << "\n" << tree::print(k.tree));
        CHECK(count(source, capability == 80 ? "mma_m16n8k16_bf16(&" : "wgmma_m64n") > 0);
        CHECK((count(source, "end_of_copies();") > 0) == (capability == 90));
        CHECK(differs_from_interp(*device, k.tree, {}, whole_numbers_in_bf16()) == "");
      }
}

TEST_CASE("[groups] a copy that is not waited for is found by simulated threads") {
  std::string why;
  const std::unique_ptr<Backend> device = gpu(why);
  if (!device) KONTOR_SKIP(why);
  if (device->description().find("Emulated") == std::string::npos) KONTOR_SKIP("a real device may be lucky");
  const Ref tree = schedule(graph_of(fast_products[0]), fast_target(90)).kernels.at(0).tree;
  const std::string whole = render_c(tree, "entry", Dialect::Cuda);
  const size_t loop = whole.find("await_copies_", whole.find("await_copies_", whole.find("__global__")) + 1);
  const auto with = [&](const std::string& what, const std::string& instead) {
    std::string text = whole;
    const size_t at = text.find(what, loop);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), instead);
  };
  const auto runs_right = [&](const std::string& text) {
    return differs_from_interp(*device, tree, {}, whole_numbers_in_bf16(), text) == "";
  };
  CHECK(runs_right(whole));
  CHECK_FALSE(runs_right(with("await_copies_2();", "")));
  CHECK_FALSE(runs_right(with("__syncthreads();", "")));
  CHECK_FALSE(runs_right(with("end_of_copies();", "")));
}

TEST_CASE("[groups] a matrix in shared memory lies in blocks, or is refused") {
  const Ref tree = schedule(graph_of(fast_products[1]), fast_target(90)).kernels.at(0).tree;
  std::string text = tree::print(tree);
  CHECK(render_c(tree, "k", Dialect::Cuda).find("wgmma_m64n64k16_bf16(&") != std::string::npos);
  const std::string good = "row 512 pad 8", bad = "row 8 pad 4";
  REQUIRE(text.find(good) != std::string::npos);
  text.replace(text.find(good), good.size(), bad);
  CHECK_THROWS_WITH(render_c(tree::parse(text), "k", Dialect::Cuda),
                    Catch::Matchers::Contains("is not in blocks of 8 x 8 numbers"));
}

// Groups that threads would run otherwise than the text says.
TEST_CASE("[groups] what threads do not have, or others write at the same time, is refused") {
  const auto refused = [](const std::string& body) {
    const Ref tree = tree::parse("kernel k(x f32[64, 64], y f32[64, 64]) -> y\n  global b 64\n" + body);
    const std::vector<std::string> mistakes = verify_tree(tree);
    return mistakes.empty() ? "" : mistakes[0];
  };
  CHECK(refused("    local t 64: y[b, t] = x[b, t]\n") == "");
  CHECK_THAT(refused("    local t 2048: y[b, t // 32] = x[b, t // 32]\n"),
             Catch::Matchers::Contains("2048 threads"));
  CHECK_THAT(refused("    s f32\n    local t 64: s = x[b, t]\n    y[b, 0] = s\n"),
             Catch::Matchers::Contains("'s'"));
  CHECK_THAT(refused("    s f32[64]\n    local t 64: s[t] = x[b, t]\n    local t 64: y[b, t] = s[63 - t]\n"),
             Catch::Matchers::Contains("'s' is read by other threads than have it"));
  CHECK_THAT(refused("    s f32[8, 8]\n    local t 8\n      local u 8: s[t, u] = x[b, t * 8 + u]\n"
                     "    local t 8\n      local u 8: y[b, t * 8 + u] = s[u, t]\n"),
             Catch::Matchers::Contains("other threads have elements of 's'"));
  CHECK_THAT(
      refused(
          "    shared s f32[65]\n    s[64] = 0.0\n    local t 64\n      s[t] = x[b, t]\n      y[b, t] = s[t + 1]\n"),
      Catch::Matchers::Contains("reads of 's' what another stores"));
  CHECK(refused(
            "    shared s f32[64]\n    local t 64: s[t] = x[b, t]\n    local t 64: y[b, t] = s[63 - t]\n") ==
        "");
  CHECK_THAT(refused("    local t 64: y[b, t] = y[b, 63 - t]\n"),
             Catch::Matchers::Contains("reads of 'y' what another stores"));
  CHECK_THAT(
      refused("    local t 8\n      y[b, t] = y[b, t] + 1.0\n      local u 8: y[b, t * 8 + u] = x[b, t]\n"),
      Catch::Matchers::Contains("reads of 'y' what another stores"));
  CHECK_THAT(
      refused("    local t 8\n      s sum f32\n      local u 8: s <- x[b, t * 8 + u]\n      y[b, t] = s\n"),
      Catch::Matchers::Contains("declared outside of that"));
  CHECK_THAT(refused("    local t 64\n      shared s f32[64]\n      s[t] = x[b, t]\n      y[b, t] = s[t]\n"),
             Catch::Matchers::Contains("declared by one thread"));
  CHECK_THAT(refused("    shared s f32[64]\n    loop t 64: s[t] = x[b, t]\n    loop t 64: y[b, t] = s[t]\n"),
             Catch::Matchers::Contains("no loop is"));
  CHECK_THAT(
      refused(
          "    shared s f32[64, 1024]\n    local t 64: s[t, 0] = x[b, t]\n    local t 64: y[b, t] = s[63 - t, 0]\n"),
      Catch::Matchers::Contains("a group shares 262144 bytes"));
  CHECK_THAT(refused("    matrix t 8: y[b, t] = x[b, t]\n"), Catch::Matchers::Contains("matrix instruction"));
  CHECK_THAT(error_of([] { moved(product, "local i; local j"); }), Catch::Matchers::Contains("6144 threads"));
  CHECK_THAT(error_of([] { moved(product, "share s"); }), Catch::Matchers::Contains("it has a fold"));
  CHECK_THAT(error_of([] { moved(product, "share zz"); }), Catch::Matchers::Contains("no such place"));
}

// Each planted fault is one that simulated threads find.
TEST_CASE("[groups] a barrier that is left out is found by simulated threads") {
  std::string why;
  const std::unique_ptr<Backend> device = gpu(why);
  if (!device) KONTOR_SKIP(why);
  if (device->description().find("Emulated") == std::string::npos) KONTOR_SKIP("a real device may be lucky");
  const Ref tree = moved(product, tiled);
  const std::string whole = render_c(tree, "product", Dialect::Cuda);
  const auto run = [&](const std::string& text) {
    const KernelSource source{.name = "product", .text = text};
    const std::unique_ptr<Program> program =
        device->load(source, device->compile(std::span(&source, 1), {}).at(0));
    std::vector<void*> memory;
    for (const size_t count : std::initializer_list<size_t>{64 * 96, 64 * 48, 48 * 96, 96}) {
      std::vector<float> values(count);
      for (size_t i = 0; i < count; i++) values[i] = static_cast<float>(i * 7 % 11) - 4;
      memory.push_back(device->allocate(4 * count));
      device->copy_in(memory.back(), values.data(), 4 * count);
    }
    device->launch({.program = program.get(), .buffers = memory, .scalars = {}, .shares = 6 * 64}, {});
    std::vector<float> result(64 * 96);
    device->copy_out(result.data(), memory[0], 4 * result.size());
    for (void* m : memory) device->release(m);
    return result;
  };
  const std::vector<float> right = run(whole);
  for (size_t at = whole.find("__syncthreads();"); at != std::string::npos;
       at = whole.find("__syncthreads();", at + 1)) {
    std::string without = whole;
    without.erase(at, std::string("__syncthreads();").size());
    CHECK(run(without) != right);
  }
}

TEST_CASE("[groups] on a GPU a row is read once and kept in a warp's registers") {
  std::string why;
  const std::unique_ptr<Backend> device = gpu(why);
  for (const char* text : {"softmax(f32[3,1024])", "layer_norm(f32[5,512])", "log_softmax(f32[2,4096])",
                           "softmax(bf16[3,512])"}) {
    const Schedule made = schedule(graph_of(text), cuda_target());
    INFO(text << "\n" << tree::print(made.kernels.back().tree));
    CHECK(made.kernels.size() == 1);
    const Node& kernel = *made.kernels.back().tree;
    int loads = 0;  // in lanes
    for (const Node* n : topological(std::span(&made.kernels.back().tree, 1)))
      loads +=
          n->op == Op::Load && n->src[0] == tree::params(kernel)[1] && tree::at(*n).back()->op != Op::Const;
    CHECK(loads == 1);
    if (device) CHECK(differs_from_interp(*device, made.kernels.back().tree) == "");
  }
  if (!device) KONTOR_SKIP(why);
}

TEST_CASE("[groups] a row that a product reads is not kept in a warp") {
  const Schedule made = schedule(graph_of("matmul(exp(f32[65536,1024]), f32[1024,64])"), cuda_target());
  CHECK(made.kernels.size() == 2);
  CHECK(tree::group_threads(*made.kernels[1].tree) > 1);
}

// Simulated threads would wait for ever, or read too early, if a barrier were thought to have run in a branch that did not.
TEST_CASE("[groups] what may not run is no barrier for what follows") {
  const std::string text = render_c(tree::parse(R"(kernel k(x f32[8, 64], y f32[8, 64]) -> y
  global b 8
    shared p f32[64]
    shared q f32[64]
    local t 64: p[t] = x[b, t]
    if b < 4
      local t 64: q[t] = x[b, t] * 2.0
      local t 64: y[b, t] = q[63 - t]
    local t 64: y[b, t] = p[63 - t]
)"),
                                    "k", Dialect::Cuda);
  INFO(text);
  CHECK(count(text, "__syncthreads();") == 2);
}
