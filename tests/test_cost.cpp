// [cost] the cost model: its estimates against what is counted by hand, and that the passes ask it.
#include "codegen/cost.h"

#include "backends/gpu.h"
#include "codegen/program/memory_plan.h"
#include "codegen/schedule.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "tests/catch.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

constexpr Target avx512{.threads = 2, .memory_budget = 32 << 20};
constexpr Target avx2{.vector_bytes = 32, .vector_registers = 16, .threads = 2};

Schedule made(const std::string& expression, const Target& target = avx512) {
  return schedule(make_graph({parse_expression(expression)}), target);
}

bool says(const Schedule& s, const std::string& note) { return s.notes.find(note) != std::string::npos; }

/// x[i] multiplied by itself so many times: i, its extent, the place of x, a load and the products.
Ref power(DType dtype, int products) {
  const Ref x = tree::load(tree::param(dtype, {index(100)}, 0, "x"), {ix::range(100, "i")});
  Ref value = x;
  for (int k = 0; k < products; k++) value = make(Op::Mul, {value, x});
  return value;
}

int64_t lanes_of_power(DType dtype, int products, const Target& target) {
  const Ref value = power(dtype, products);
  return cost::lanes_of_map(std::span(&value, 1), dtype, target);
}

std::vector<Ref> dims(std::initializer_list<int64_t> extents) {
  std::vector<Ref> out;
  for (int64_t e : extents) out.push_back(index(e));
  return out;
}

}  // namespace

TEST_CASE("[cost] iterations, elements and bytes") {
  const Ref n = tree::slot(DType::I64, 0, {1, 5000}), few = tree::slot(DType::I64, 1, {1, 40});
  const std::vector<Ref> nest = {ix::range(7, "i"), ix::range(n, "j"), ix::range(few, "k")};
  CHECK(cost::iterations(nest) == 7 * 1024 * 40);
  CHECK(cost::iterations(nest, INT64_MAX) == 7 * 5000 * 40);
  CHECK(cost::iterations({}) == 1);
  CHECK(cost::elements(std::vector<Ref>{index(3), n, index(0)}) == 3 * 5000);
  CHECK(cost::most_bytes(DType::F32, dims({64, 80})) == 20480);
  CHECK(cost::most_bytes(DType::BF16, dims({64, 80})) == 10240);
  CHECK(cost::rounded(cost::most_bytes(DType::F64, dims({int64_t{1} << 40, int64_t{1} << 19}))) == int64_t{1}
                                                                                                       << 50);
}

TEST_CASE("[cost] work: an operation for the iteration, a quarter for each node") {
  const Ref square = power(DType::F32, 1);  // 5 nodes: 100, i, x, the load, the product
  CHECK(cost::work(100, std::span(&square, 1)) == 225);
  CHECK(made("f32[1000] * 2 + 1").kernels.at(0).work == 3000);  // and 2, 1, the sum: 8 nodes
  // A product of two loads adds the second one and its place; indexes and extents: i 5, j 6, k 7.
  CHECK(made("matmul(f32[5,7], f32[7,6])").kernels.at(0).work == 5 * 6 * 7 * (1 + 10 * 0.25));
}

TEST_CASE("[cost] operations: what two stages read is stored from eight on") {
  const auto stages = [](const std::string& value) {
    const Ref v = parse_expression(value);
    Graph graph = make_graph({fn::sum(v, Ints{0}, false), fn::max(v, Ints{1}, false)});
    return schedule(graph, avx512).decisions.all().size();
  };
  const std::string x = "f32[300,200]", six = "minimum(maximum(sqrt(" + x + "), 1), 7)";  // a root is 4
  const size_t apart = stages(x);
  CHECK(stages(six) == apart);
  CHECK(stages(six + " - " + x) == apart);
  CHECK(stages("maximum(" + six + " - " + x + ", 2)") > apart);
  CHECK(stages("sqrt(sqrt(" + x + "))") > apart);
}

TEST_CASE("[cost] operands of a dot: picked by data they are stored, by counters read where they lie") {
  const auto kernels = [](const std::string& left) {
    const Schedule s = made("matmul(" + left + ", f32[256,256])");
    const std::string& moves = s.kernels.back().moves;
    CHECK((moves.find("pack j") != std::string::npos && moves.find("unroll i") != std::string::npos));
    return s.kernels.size();
  };
  const size_t alone = kernels("f32[256,256]");
  CHECK(kernels("take(f32[256,256], cast(arange(0, 256), i64), 0)") == alone);
  for (const char* picked : {"take(f32[256,256], i64[256], 0)", "take(f32[256,256], i64[256], 1)",
                             "sort(f32[256,256], 1)", "take(f32[256,256], argmax(f32[256,9], 1), 0)"})
    CHECK(kernels(picked) >= alone);
}

TEST_CASE("[cost] threads: of x * 2 + 1, three operations an element, from 2^16 operations on") {
  CHECK(made("f32[21845] * 2 + 1").kernels.at(0).moves.find("thread") == std::string::npos);
  CHECK(made("f32[21846] * 2 + 1").kernels.at(0).moves.find("thread") != std::string::npos);
  for (const int threads : {1, 2, 7}) {
    CHECK(cost::enough_shares(4 * threads, {.threads = threads}));
    CHECK_FALSE(cost::enough_shares(4 * threads - 1, {.threads = threads}));
  }
}

TEST_CASE("[cost] room: rows of 64 KiB stay in the loop, longer ones go to memory") {
  CHECK(made("softmax(f32[64,16384])").kernels.size() == 1);
  const Schedule longer = made("softmax(f32[64,16448])");
  CHECK(longer.kernels.size() == 2);
  CHECK(says(longer, "65792 bytes of it would be kept inside the loop"));
}

TEST_CASE("[cost] memory: a temporary of 2^30 rows of 4 floats is 16 GiB, and is streamed") {
  const Schedule s = made("matmul(tanh(matmul(f32[1073741824,2], f32[2,4])), f32[4,3])");
  CHECK(says(s, "stream: 17179869184 bytes of temporaries"));
  CHECK(plan_temporaries(s).bytes <= avx512.memory_budget);
}

TEST_CASE("[cost] work items: a GPU is not left idle by rows") {
  const Target gpu = cuda_target(int64_t{1} << 36);
  CHECK(says(made("softmax(f32[128,512])", gpu), "128 work items are too few for a GPU"));
  CHECK(made("softmax(f32[16384,64])", gpu).kernels.size() == 1);
  CHECK(made("softmax(f32[16,64])", gpu).kernels.size() == 1);  // costs less than a launch
}

TEST_CASE("[cost] lanes of a map: four vectors of few operations, one of many") {
  // The place and the load are floats too.
  const auto [few, some, many] = std::array{22, 78, 79};
  CHECK(lanes_of_power(DType::F32, few, avx512) == 64);
  CHECK(lanes_of_power(DType::F32, few, avx2) == 32);
  CHECK(lanes_of_power(DType::F64, few, avx512) == 32);
  CHECK(lanes_of_power(DType::BF16, few, avx512) == 64);
  CHECK(lanes_of_power(DType::F32, few + 1, avx512) == 32);
  CHECK(lanes_of_power(DType::F32, some, avx512) == 32);
  CHECK(lanes_of_power(DType::F32, many, avx512) == 16);
  CHECK(lanes_of_power(DType::BF16, many, avx512) == 16);  // computed in f32
}

TEST_CASE("[cost] tiles of a dot: their sums, a row of vectors and one that is broadcast fit the registers") {
  for (const int64_t registers : {16, 32})
    for (int64_t length = 1; length <= 130; length += 3)
      for (int64_t rows = 1; rows <= thinned(200); rows++)
        for (const bool share_ways : {false, true}) {
          const int64_t width = registers / 2, needed = (length + width - 1) / width;
          const cost::Tile t = cost::tile_of(length, width, rows, share_ways, registers);
          INFO(length << " x " << rows << " on " << registers << ": " << t.vectors << " x " << t.rows);
          const int64_t wasted = (needed + t.vectors - 1) / t.vectors * t.vectors - needed;
          REQUIRE(t.vectors * t.rows + t.vectors + 1 <= registers);
          REQUIRE(t.rows <= rows);
          REQUIRE((wasted * 8 <= needed || t.vectors == 1));
          REQUIRE((!share_ways || t.rows <= 8));
        }
  const cost::Tile square = cost::tile_of(1024, 16, 1024, false, 32);
  CHECK(square.vectors == 4);
  CHECK(square.rows == 6);
  CHECK(cost::tile_of(1024, 16, 64, false, 32).rows == 4);  // 4 divides 64, 6 does not
}
