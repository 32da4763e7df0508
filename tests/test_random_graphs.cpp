// Random graphs made of the function table: the loop trees that schedule() makes, what devices make of them, and their
// gradients, against evaluate_graph, bit for bit, and against finite differences. A failure prints its seed, and the
// graph shrunk in the text that parse_graph reads.
//
// The seeds are fresh each time, and printed. KONTOR_TEST_SEED=n starts at that one; KONTOR_TEST_COUNT=n tries that many
// and no more. tests/random-graphs runs these checks over hundreds of thousands.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "codegen/tree/text.h"
#include "graph/text/text.h"
#include "tests/catch.h"
#include "tests/random_checks.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

uint64_t fresh_seed() {
  static const uint64_t seed = setting("KONTOR_TEST_SEED", std::random_device()() % 1000000000);
  return seed;
}

using MakeCheck = std::function<Check(uint64_t seed)>;

/// Whether the seed's case holds; what is wrong with it becomes a failure of the test.
bool holds(uint64_t seed, const CaseOptions& options, const MakeCheck& check, Coverage& coverage) {
  const Trial trial = try_seed(seed, options, check(seed), true, &coverage);
  if (trial.difference.empty()) SUCCEED();
  else FAIL_CHECK(trial.report + "again: KONTOR_TEST_SEED=" + std::to_string(seed) + " KONTOR_TEST_COUNT=1");
  return trial.difference.empty();
}

/// `count` seeds; stops after three failures.
Coverage run_seeds(uint64_t count, const CaseOptions& options, const MakeCheck& check,
                   uint64_t most = UINT64_MAX) {
  const uint64_t first = fresh_seed();
  count = std::min(setting("KONTOR_TEST_COUNT", count), most);
  std::printf("random graphs: seeds %llu to %llu\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first + count - 1));
  Coverage covered;
  int failures = 0;
  for (uint64_t seed = first; seed < first + count && failures < 3; seed++)
    failures += !holds(seed, options, check, covered);
  return covered;
}

constexpr CaseOptions with_gradients{.draws = true, .gradients = true};

void run_on(const char* name, uint64_t count) {
  std::string why;
  Backend* backend = device(name, &why);
  if (!backend) KONTOR_SKIP(why);
  CaseOptions options = with_gradients;
  // PoCL's compiler takes most of the time under sanitizers, and is none of ours to look into.
  const uint64_t most = sanitized && backend->name() == "opencl" ? 5 : UINT64_MAX;
  run_seeds(count, options, [&](uint64_t) { return on_device(*backend); }, most);
}

}  // namespace

TEST_CASE(
    "[random] graphs: loop trees for CPUs, GPUs and small budgets, every producer before every consumer") {
  const std::vector<Cell> cells = all_cells();
  const uint64_t round = cells.size() / 2;  // seeds that are made for each cell once
  const MakeCheck check = [](uint64_t seed) { return lowered(some_target(seed)); };
  Coverage covered = run_seeds(round + 1, with_gradients, check);
  if (std::getenv("KONTOR_TEST_COUNT")) return;
  for (uint64_t more = 1; more <= 30; more++)  // what few arguments fit is tried again
    for (size_t cell : covered.missing())
      holds(cell / 2 + round * (fresh_seed() / round + 1 + more), with_gradients, check, covered);
  std::string missing;
  for (size_t cell : covered.missing()) missing += describe(cells[cell]) + "\n";
  INFO("a function whose arguments are seldom accepted needs a row in tests/random_arguments.cpp");
  CHECK(missing == "");
}

TEST_CASE("[random] graphs: decided by hand") {
  run_seeds(300, with_gradients, [](uint64_t seed) { return decided(some_target(seed), seed); });
  if (Backend* llvm = device("llvm"))
    run_seeds(60, with_gradients, [&](uint64_t seed) { return decided(*llvm, seed); });
}

TEST_CASE("[random] graphs: gradients against finite differences") {
  uint64_t measured = 0, count = 0;
  run_seeds(1500, {.smooth = true, .draws = true}, [&](uint64_t seed) -> Check {
    count++;
    return [&measured, seed](const Case& c) {
      bool slope = false;
      std::string wrong = check_gradients(c, some_target(seed % 2 ? 6 : seed % 4 ? 4 : 0), &slope);
      measured += slope;
      return wrong;
    };
  });
  if (!std::getenv("KONTOR_TEST_COUNT")) CHECK(4 * measured > count);
}

TEST_CASE("[random] graphs: interp") { run_on("interp", 200); }
TEST_CASE("[random] graphs: llvm") { run_on("llvm", 400); }
TEST_CASE("[random] graphs: opencl") { run_on("opencl", 25); }
TEST_CASE("[random] graphs: c") { run_on("c", 15); }
TEST_CASE("[random] graphs: cuda") { run_on("cuda", 60); }

TEST_CASE("[random] graphs: loop trees read back") {
  run_seeds(100, {}, [](uint64_t) -> Check {
    return [](const Case& c) -> std::string {
      for (const ScheduledKernel& k : schedule(c.graph, Target{.threads = 2}).kernels) {
        std::string text = tree::print(k.tree);
        if (tree::print(tree::parse(text)) != text) return "does not print as it reads:\n" + text;
      }
      return "";
    };
  });
}

TEST_CASE("[random] graphs: print and parse") {
  run_seeds(400, with_gradients, [](uint64_t) -> Check {
    return [](const Case& c) -> std::string {
      const std::string text = print(c.graph);
      const Graph again = parse_graph(text);
      if (print(again) != text) return "prints otherwise than it reads:\n" + print(again);
      return graph_key(again) == graph_key(c.graph) ? "" : "reads as a graph of another key";
    };
  });
}

TEST_CASE("[random] a case is the same for the same seed") {
  for (uint64_t seed = 1; seed <= 5; seed++) {
    const Case a = random_case(seed), b = random_case(seed);
    CHECK(print(a.graph) == print(b.graph));
    CHECK(a.inputs == b.inputs);
    CHECK(a.scalars.size() == b.scalars.size());
  }
}

TEST_CASE("[random] a failure shrinks to what matters") {
  // Anything that holds a tanh "fails": what is left is one tanh of one element.
  const auto has_tanh = [](const Case& c) {
    for (const Node* n : topological(c.graph.outputs))
      if (n->op == Op::Call && n->arg.text == "tanh") return true;
    return false;
  };
  int found = 0;
  for (uint64_t seed = 1; found < thinned(3) && seed < 30000; seed++) {
    const Case c = random_case(seed);
    if (!has_tanh(c)) continue;
    found++;
    const Case small = shrink(c, has_tanh);
    INFO(describe(small));
    CHECK(has_tanh(small));
    CHECK(small.graph.outputs.size() == 1);
    CHECK(topological(small.graph.outputs).size() <= 45);
    CHECK(describe(small).find("input ") == std::string::npos);
  }
  CHECK(found == thinned(3));
}
