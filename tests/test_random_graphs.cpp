// Random graphs: the loop trees that schedule() makes, and what devices make of them, against evaluate_graph, bit for bit.
// A failure prints the seed and the graph shrunk. RANDOM_GRAPH_SEED=n runs one seed, RANDOM_GRAPH_COUNT=n that many.
#include <cstdlib>
#include <string>

#include "backends/gpu.h"
#include "codegen/tree_text.h"
#include "graph/text.h"
#include "tests/catch.h"
#include "tests/random_graph.h"
#include "tests/run_graph.h"

using namespace kontor;

using Runner = std::function<Run(const Case&)>;

// "" if the runner gives what evaluate_graph gives.
static std::string verdict(const Case& c, const Runner& runner) {
  try {
    return difference(runner(c), evaluate_graph(c.graph, c.inputs));
  } catch (const std::exception& thrown) {
    return std::string("throws: ") + thrown.what();
  }
}

static std::string report(uint64_t seed, const std::string& first, const Case& failing,
                          const Runner& runner) {
  Case small = shrink(failing, [&](const Case& c) { return !verdict(c, runner).empty(); });
  std::string text = "seed " + std::to_string(seed) + ": " + first + "\nshrunk: " + verdict(small, runner) +
                     "\n" + print(small.graph);
  try {
    for (const ScheduledKernel& k : runner(small).schedule.kernels)
      text += k.moves + "\n" + tree::print(k.tree);
  } catch (const std::exception&) {}
  return text;
}

static uint64_t setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

// Seeds beyond the first ones that found something once.
constexpr uint64_t found_something[] = {1799, 1985, 2194};

static void run_seeds(uint64_t count, const Runner& runner) {
  uint64_t first = setting("RANDOM_GRAPH_SEED", 1);
  bool one = std::getenv("RANDOM_GRAPH_SEED") != nullptr;
  count = one ? 1 : setting("RANDOM_GRAPH_COUNT", count);
  std::vector<uint64_t> seeds;
  for (uint64_t s = first; s < first + count; s++) seeds.push_back(s);
  if (!one) seeds.insert(seeds.end(), std::begin(found_something), std::end(found_something));
  int failures = 0;
  for (uint64_t seed : seeds) {
    if (failures == 3) break;
    Case c = random_case(seed);
    std::string found = verdict(c, runner);
    if (found.empty()) {
      SUCCEED();
      continue;
    }
    failures++;
    FAIL_CHECK(report(seed, found, c, runner));
  }
}

TEST_CASE("[random] graphs: loop trees for a CPU") {
  run_seeds(300, [](const Case& c) { return run_trees(c.graph, Limits{.threads = 2}, c.inputs); });
}

TEST_CASE("[random] graphs: loop trees for a small CPU") {
  Limits small{
      .vector_bytes = 16, .vector_registers = 16, .l1 = 4096, .l2 = 32768, .place_bytes = 2048, .threads = 4};
  run_seeds(200, [&](const Case& c) { return run_trees(c.graph, small, c.inputs); });
}

TEST_CASE("[random] graphs: loop trees in pieces, under memory budgets that are too small") {
  for (int64_t budget : {1, 256, 2048})
    run_seeds(budget == 1 ? 400 : 100, [&](const Case& c) {
      return run_trees(c.graph, Limits{.threads = 2, .memory_budget = budget, .budget_is_asked = true},
                       c.inputs);
    });
}

TEST_CASE("[random] graphs: loop trees for a GPU") {
  run_seeds(200, [](const Case& c) { return run_trees(c.graph, gpu_limits(), c.inputs); });
}

TEST_CASE("[random] graphs: loop trees read back") {
  run_seeds(60, [](const Case& c) {
    Run run = run_graph(c.graph, *device("interp"), c.inputs);
    for (const ScheduledKernel& k : run.schedule.kernels) {
      std::string text = tree::print(k.tree);
      if (tree::print(tree::parse(text)) != text) throw InternalError("does not print as it reads:\n" + text);
    }
    return run;
  });
}

TEST_CASE("[random] graphs: llvm") {
  std::string why;
  Backend* llvm = device("llvm", &why);
  if (!llvm) KONTOR_SKIP(why);
  run_seeds(150, [&](const Case& c) { return run_graph(c.graph, *llvm, c.inputs); });
}

TEST_CASE("[random] graphs: opencl") {
  std::string why;
  Backend* opencl = device("opencl", &why);
  if (!opencl) KONTOR_SKIP(why);
  run_seeds(25, [&](const Case& c) { return run_graph(c.graph, *opencl, c.inputs); });
}

TEST_CASE("[random] graphs: cuda") {
  std::string why;
  Backend* cuda = device("cuda", &why);
  if (!cuda) KONTOR_SKIP(why);
  run_seeds(60, [&](const Case& c) { return run_graph(c.graph, *cuda, c.inputs); });
}

TEST_CASE("[random] graphs: print and parse") {
  for (uint64_t seed = 1; seed <= 200; seed++) {
    Graph graph = random_case(seed).graph;
    Graph again = parse_graph(print(graph));
    INFO("seed " << seed);
    REQUIRE(graph_key(again) == graph_key(graph));
    REQUIRE(print(again) == print(graph));
  }
}
