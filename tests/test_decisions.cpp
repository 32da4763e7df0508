// [decisions] what is decided of stages, as text: read back it makes the same kernels; edited it is followed, or refused with why;
// and results never depend on it. Random lists over random graphs: tests/random_checks.cpp.
#include <kontor/kontor.h>

#include <cstdlib>

#include "backends/gpu.h"
#include "base/file.h"
#include "codegen/decisions.h"
#include "codegen/program/memory_plan.h"
#include "codegen/tree/text.h"
#include "graph/functions/functions.h"
#include "graph/graph.h"
#include "graph/text/text.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/run_graph.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

constexpr Target cpu{.threads = 2};

Graph graph_of(const char* expression) { return make_graph({parse_expression(expression)}); }

Schedule decided(const char* expression, const char* text) {
  return schedule(graph_of(expression), cpu, parse_decisions(text));
}

std::vector<Array> inputs_of(const Graph& graph) {
  std::vector<Array> out;
  for (const Ref& input : graph.inputs)
    out.push_back(random_array(input->dtype, static_shape(*input), 7 + out.size()));
  return out;
}

constexpr const char* attention_of_docs =
    "matmul(softmax(matmul(f32[4,256,32], f32[4,32,256])), f32[4,256,32])";
constexpr const char* attention =
    sanitized ? "matmul(softmax(matmul(f32[2,64,32], f32[2,32,64])), f32[2,64,32])" : attention_of_docs;
constexpr const char* attention_in_blocks =
    "block dot0 i0 1 dot0 sum3 dot5\n"
    "block dot0 j0 16 dot0 sum3 dot5\n";

}  // namespace

TEST_CASE("[decisions] attention in one kernel: no scores in memory, the same bits") {
  const Graph graph = graph_of(attention);
  const std::vector<Array> inputs = inputs_of(graph);
  const Decisions blocks = parse_decisions(attention_in_blocks);
  const Run apart = run_trees(graph, cpu, inputs), joined = run_trees(graph, cpu, inputs, {}, blocks);
  CHECK(apart.schedule.kernels.size() == 3);
  REQUIRE(joined.schedule.kernels.size() == 1);
  CHECK(joined.schedule.streams.empty());
  CHECK(plan_temporaries(joined.schedule).bytes == 0);
  CHECK(difference(joined.outputs[0], apart.outputs[0]) == "");
  CHECK(difference(apart.outputs[0], evaluate_graph(graph, inputs, {}).outputs[0]) == "");
  const std::string text = tree::print(joined.schedule.kernels[0].tree);
  CHECK(tree::print(tree::parse(text)) == text);
  for (const char* name : {"llvm", "opencl"})
    if (Backend* backend = device(name)) {
      const Decisions with_moves = backend->target().gpu ? Decisions() : blocks;  // a block is a CPU's as yet
      CHECK(difference(run_graph(graph, *backend, inputs, {}, 0, with_moves).outputs[0], apart.outputs[0]) ==
            "");
    }
}

TEST_CASE("[decisions] the kernel in docs/decisions.md is the one that its list makes") {
  const char* source = std::getenv("KONTOR_SOURCE");
  if (!source) KONTOR_SKIP("KONTOR_SOURCE does not say where docs/ is");
  const std::string page = read_file(std::string(source) + "/docs/decisions.md");
  const Schedule made = decided(
      attention_of_docs,
      (std::string(attention_in_blocks) + "moves dot0 none\nmoves sum3 none\nmoves dot5 none\n").c_str());
  REQUIRE(made.kernels.size() == 1);
  CHECK(page.find("```\n" + tree::print(made.kernels[0].tree)) != std::string::npos);
}

TEST_CASE("[decisions] docs/design.md walks an expression through what the steps print") {
  const char* source = std::getenv("KONTOR_SOURCE");
  if (!source) KONTOR_SKIP("KONTOR_SOURCE does not say where docs/ is");
  const std::string page = read_file(std::string(source) + "/docs/design.md");
  const Graph graph = graph_of("sum(relu(matmul(f32[96,64], f32[64,80]) + f32[80]), 1)");
  const Target usual{.threads = 2, .memory_budget = 32 << 20};
  const Schedule chosen = schedule(graph, usual);
  CHECK(page.find(print(chosen.decisions)) != std::string::npos);
  for (const Schedule& shown : {schedule(graph, usual, unfused(chosen.decisions)), chosen})
    for (const ScheduledKernel& k : shown.kernels) CHECK(page.find(tree::print(k.tree)) != std::string::npos);
}

TEST_CASE("[decisions] a chain of two products, block by block") {
  const Graph graph = graph_of("matmul(relu(matmul(f32[96,64], f32[64,80])), f32[80,48])");
  const std::vector<Array> inputs = inputs_of(graph);
  const Schedule chosen = schedule(graph, cpu);
  CHECK(chosen.kernels.size() == 2);
  for (const char* rows : {"8", "24", "96"}) {
    const Decisions given = parse_decisions(fmt::format("block dot0 i0 {}", rows));
    const Run run = run_trees(graph, cpu, inputs, {}, given);
    CHECK(run.schedule.kernels.size() == 1);
    CHECK(difference(run.outputs[0], evaluate_graph(graph, inputs, {}).outputs[0]) == "");
    if (Backend* llvm = device("llvm"))
      CHECK(difference(run_graph(graph, *llvm, inputs, {}, 0, given).outputs[0], run.outputs[0]) == "");
  }
}

TEST_CASE("[decisions] levels and layouts are followed") {
  const char* rows = "softmax(f32[64, 512])";
  CHECK(schedule(graph_of(rows), cpu).kernels.size() == 1);
  CHECK(decided(rows, "store max0").kernels.size() == 2);
  const Schedule apart = schedule(graph_of(rows), cpu, unfused(schedule(graph_of(rows), cpu).decisions));
  CHECK(apart.kernels.size() == 4);
  for (const ScheduledKernel& k : apart.kernels) CHECK(k.moves.empty());
  const Schedule tiled = decided("matmul(f32[96,64], f32[64,80])", "layout dot0 i0 j0 copied");
  CHECK(tiled.decisions.of(Matter::Layout, "dot0")->text() == "layout dot0 i0 j0 copied");
  CHECK(tiled.kernels.size() == 2);  // one copies
  const Schedule moved = decided("f32[640] + 1", "moves v0 split i0 8 i0b; unroll i0b");
  CHECK(moved.kernels.at(0).moves == "split i0 8 i0b; unroll i0b");
}

TEST_CASE("[decisions] a schedule's own list makes it again, and without fusion it runs") {
  const char* expressions[] = {attention,
                               "matmul(f32[96,64], sum(tanh(f32[64,128,512]), 2))",
                               "relu(matmul(f32[96,64], f32[64,80]))",
                               "matmul(matmul(f32[128,128], tanh(f32[128,256])), transpose(f32[48,256]))",
                               "matmul(f32[128,128], transpose(matmul(f32[256,64], f32[64,128])))",
                               "layer_norm(f32[64, 512], 1, f32[512], f32[512])",
                               "cumsum(f32[64, 256], 1)",
                               "relu(conv2d(f32[8, 16, 24, 24], f32[32, 16, 5, 5], f32[32]))"};
  std::vector<Graph> graphs;
  for (const char* expression : expressions) graphs.push_back(graph_of(expression));
  // A temporary that one reader has laid out anew while others go along it as they found it.
  const Ref tanh = parse_expression("tanh(f32[64, 128, 512])"), a = parse_expression("f32[96, 64]"),
            b = parse_expression("f32[128, 96, 512]"), sum = fn::sum(tanh, Ints{2}, false);
  const Ref product = fn::matmul(b, fn::permute(tanh, {1, 2, 0}));
  graphs.push_back(make_graph({fn::matmul(a, sum), product}));
  graphs.push_back(make_graph({sum, product}));
  for (const Graph& graph : graphs) {
    INFO(print(graph));
    const Schedule chosen = schedule(graph, cpu);
    const Schedule again = schedule(graph, cpu, parse_decisions(print(chosen.decisions)));
    CHECK(print(again.decisions) == print(chosen.decisions));
    REQUIRE(again.kernels.size() == chosen.kernels.size());
    for (size_t k = 0; k < chosen.kernels.size(); k++)
      CHECK(tree::print(again.kernels[k].tree) == tree::print(chosen.kernels[k].tree));
    CHECK(schedule(graph, cpu, unfused(chosen.decisions)).kernels.size() >= chosen.kernels.size());
  }
}

TEST_CASE("[decisions] a level for which no moves are known runs as it is, right") {
  struct Row {
    const char *expression, *decision;
  };
  for (const Row& row :
       {Row{"sum(matmul(f32[64,128], f32[128,256]), 1)", "at dot0 i1"}, Row{attention, "at dot0 j3"},
        Row{"softmax(matmul(f32[64,128], f32[128,256]))", "at dot0 i4"},
        Row{"matmul(f32[128,128], transpose(matmul(f32[64,64], f32[64,128])))", "at dot0 dot1"},
        Row{"matmul(f32[3,64], transpose(f32[48,64]))", "layout dot0 j0 i0 turned"},
        Row{"matmul(f32[3,64], transpose(f32[48,64]))", "layout dot0 j0 i0 copied"}}) {
    INFO(row.expression << ": " << row.decision);
    const Graph graph = graph_of(row.expression);
    const std::vector<Array> inputs = inputs_of(graph);
    const Decisions given = parse_decisions(row.decision);
    const Evaluation wanted = evaluate_graph(graph, inputs, {});
    if (!sanitized)
      CHECK(difference(run_trees(graph, cpu, inputs, {}, given).outputs[0], wanted.outputs[0]) == "");
    if (Backend* llvm = device("llvm"))
      CHECK(difference(run_graph(graph, *llvm, inputs, {}, 0, given).outputs[0], wanted.outputs[0]) == "");
  }
}

TEST_CASE("[decisions] as text: what is wrong with it is said, with its line") {
  const auto reads = [](const char* text) { return print(parse_decisions(text)); };
  CHECK(reads("  at max1   j3 # a comment\n\n# nothing\nstream none") == "at max1 j3\nstream none\n");
  CHECK(reads("") == "");
  CHECK(error_of([&] { reads("store a\nput b"); }) ==
        "decisions, line 2: 'put' is not one of layout, store, at, inline, fuse, stream, block, moves");
  CHECK(error_of([&] { reads("store"); }) == "decisions, line 1: 'store' of which stage?");
  CHECK(error_of([&] { reads("at a"); }) ==
        "decisions, line 1: 'at a' has 0 words after the stage; it takes 1");
  CHECK(error_of([&] { reads("store a b"); }) ==
        "decisions, line 1: 'store a b' has 1 words after the stage; it takes 0");
  CHECK(error_of([&] { reads("block a"); }) ==
        "decisions, line 1: 'block a' has 0 words after the stage; it takes 2 or more");
  CHECK(error_of([&] { reads("store a\nat a i"); }) ==
        "decisions: 'store a' and 'at a i' are both about the level of one stage");
}

TEST_CASE("[decisions] what can't be followed is refused with why") {
  struct Row {
    const char *expression, *decisions, *why;
  };
  const char* rows = "softmax(f32[64, 512])";
  const char* product = "matmul(f32[96,64], f32[64,80])";
  const char* total = "sum(f32[64, 512], 0)";
  const Row table[] = {
      {rows, "store max9", "no stage has that name"},
      {rows, "moves max0 none", "no kernel of its own has that name"},
      {rows, "at max0 k7",
       "its first reader is in no kernel that has 'k7', and none beside it with equal loops can take it in"},
      {rows, "at max0 j3", "its readers read it at 1 of the loops around there alone"},
      {rows, "layout max0 k9", "no vectors can run along 'k9'; its loops are i0"},
      {product, "layout dot0 j0 i0",
       "how the operand is read is as_stored, computed, panel, copied or turned"},
      {product, "layout dot0 i0 j0 as_stored", "the operand does not lie along that loop"},
      {product, "layout dot0 j0 i0 turned",
       "the operand does not lie along the steps, or blocks don't divide it"},
      {product, "layout dot0 j0 i0 computed",
       "the operand is no temporary that this stage alone reads, or a panel of it is too large"},
      {product, "layout dot0 j0 i0 panel", "a panel of it is too large, or too short to pay"},
      {product, "moves dot0 split i9 4 x", "no loop 'i9' in kernel k0_dot_96_80; it has: i0 j0 r0_0"},
      {product, "moves dot0 lane i0", "the device has no loops of 'lane i0'"},
      {product, "moves dot0 global i0", "the device has no loops of 'global i0'"},
      {total, "moves sum0 vectorise i0 1024", "vectorise i0: 512 lanes are more than 64"},
      {product, "layout dot0 j0 i0 as_stored in i0", "behind 'in' stands each of its loops once"},
      {product, "layout dot0 j0 i0 as_stored in j0 i0", "an output lies in memory as its caller wants it"},
      {product, "moves dot0 fold i0", "not a move: 'fold i0'"},
      {product, "stream dot0 i0", "it needs a loop of the stage and a number of elements"},
      {product, "stream dot0 i9 8", "the loops of dot0 are i0, j0"},
      {product, "stream max0 i0 8", "no stage is called max0"},
      {product, "stream dot0 i0 8 max0", "no stage is called max0"},
      {product, "stream dot0 i0 0", "pieces are multiples of 1, 96 at most, not 0"},
      {product, "stream dot0 i0 97", "pieces are multiples of 1, 96 at most, not 97"},
      {product, "stream dot0 i0 many", "pieces are multiples of 1, 96 at most, not many"},
      {product, "block dot0 i0 7", "7 does not divide 96, and pieces must not overlap"},
      {total, "stream sum0 i0 512 ; 3", "no stage is called ;"},
  };
  for (const Row& row : table) {
    INFO(row.decisions);
    CHECK(error_of([&] { decided(row.expression, row.decisions); }) ==
          fmt::format("the decision '{}' can't be followed: {}", row.decisions, row.why));
  }
  CHECK(
      error_of([&] { decided(product, "block dot0 i0 8\nmoves dot0 thread i0"); }) ==
      "the decision 'block dot0 i0 8' can't be followed: kernel k0_dot_8_80 has a parallel loop of its own; its moves may "
      "have none");
  CHECK(error_of([&] { decided(attention, "block dot0 i0 2\nstream dot0 j0 16"); }) ==
        "the decision 'block dot0 i0 2' can't be followed: stream j0 lies inside, whose pieces are launches");
  const Graph large = graph_of("matmul(relu(matmul(f32[8192,64], f32[64,8192])), f32[8192,64])");
  CHECK(
      error_of([&] { schedule(large, cpu, parse_decisions("block dot0 i0 4096")); }) ==
      "the decision 'block dot0 i0 4096' can't be followed: a piece would keep 136314880 bytes on chip, where 8388608 have room");
  const Target asked{.threads = 2, .memory_budget = 1 << 20, .budget_is_asked = true};
  CHECK(
      error_of([&] { schedule(large, asked, parse_decisions("block dot0 i0 64")); }) ==
      "the decision 'block dot0 i0 64' can't be followed: pieces on 2 threads would keep 4259840 bytes, for a budget of 1048576");
  CHECK(error_of([&] { schedule(graph_of(product), gpu_target(), parse_decisions("block dot0 i0 8")); }) ==
        "the decision 'block dot0 i0 8' can't be followed: on a GPU pieces are launches as yet");
  CHECK(error_of([&] { schedule(graph_of(product), gpu_target(), parse_decisions("layout dot0 i0")); }) ==
        "the decision 'layout dot0 i0' can't be followed: on a GPU layouts are no decision");
}

TEST_CASE("[decisions] KONTOR_DECISIONS: a file for several graphs, each behind its key") {
  // e2e/test_decisions.py runs models by their own lists; here is what is wrong with a file.
  setenv("KONTOR_DECISIONS", "/nowhere/decisions", 1);
  const auto compute = [] {
    Context context({.device = "interp"});
    Context::Use use(context);
    return (Tensor::from({1, 2}, {2}) + 1).to_vector<float>();
  };
  const std::string error = error_of(compute);
  unsetenv("KONTOR_DECISIONS");
  CHECK(error.find("/nowhere/decisions") != std::string::npos);
  CHECK(compute() == std::vector<float>{2, 3});
}
