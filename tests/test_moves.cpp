// Every move against the interpreter: a kernel's tree before and after means the same, bit for bit, or the move refuses.
#include <algorithm>
#include <cstring>
#include <map>

#include "backends/interp/evaluate_tree.h"
#include "base/threefry.h"
#include "codegen/moves/choose.h"
#include "codegen/moves/moves.h"
#include "codegen/stages/stage.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/text.h"
#include "codegen/tree/walk.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/random_graph.h"
#include "tests/run_graph.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

struct Untouched {  // a kernel before moves, and what the heuristic would do to it
  Ref tree;
  std::vector<Move> moves;
};

std::vector<Untouched> kernels_of(const Graph& graph, const Target& target) {
  ProgramTree program = lower(graph, target);
  program.in_place = graph.target;
  choose_layouts(program, target);
  fuse(program, target);
  choose_in_place(program);
  std::vector<Untouched> out;
  for (const Group& group : program.groups) {
    std::vector<BufferRef> buffers;
    Ref tree = normalise(build_tree(program, group, "k", buffers));
    out.push_back({tree, choose_moves(program, group, tree, target).moves});
  }
  return out;
}

/// What the parameters hold after a run that starts from random values.
std::vector<Array> results(const Ref& kernel) {
  std::vector<Array> memory;
  std::vector<void*> buffers;
  uint64_t seed = 7;
  for (const Ref& p : tree::params(*kernel)) {
    std::vector<int64_t> shape;
    for (const Ref& d : tree::dims(*p)) shape.push_back(extent(d));
    memory.push_back(random_array(p->dtype, shape, seed++));
  }
  for (Array& a : memory) buffers.push_back(a.bytes.data());
  evaluate_tree(kernel, buffers, {});
  return memory;
}

/// "" if both trees mean the same. A move may reorder parameters no more than it may change them.
std::string change(const Ref& before, const Ref& after) {
  std::vector<Array> wanted = results(before), got;
  try {
    got = results(after);
  } catch (const InternalError& error) {
    return error.what();
  }
  for (size_t i = 0; i < wanted.size(); i++)
    if (std::string d = difference(got.at(i), wanted[i]); !d.empty())
      return "parameter " + std::to_string(i) + ": " + d;
  return "";
}

/// "" if the tree's text reads back as the same tree.
std::string text_change(const Ref& kernel) {
  const std::string text = tree::print(kernel);
  std::string again;
  const std::string refused = error_of([&] { again = tree::print(tree::parse(text)); });
  return !refused.empty() ? refused + "\n" + text : again == text ? "" : text + "becomes\n" + again;
}

class Chooser {
 public:
  explicit Chooser(uint64_t seed) : seed_(seed) {}

  Move any(const Ref& kernel) {
    std::vector<const Node*> loops = walk::loops_in(kernel);
    const Node& loop = *loops[below(loops.size())];
    Move m{static_cast<MoveKind>(below(static_cast<uint64_t>(MoveKind::Sink) + 1)),
           loop[0]->arg.text,
           0,
           "",
           {}};
    const std::string another = (*loops[below(loops.size())])[0]->arg.text;
    constexpr int64_t factors[] = {2, 3, 4, 5, 16, -2, -3, -8}, widths[] = {0, 4, 8, 16, 64};
    if (m.kind == MoveKind::Split) m.factor = factors[below(std::size(factors))], m.other = m.loop + "x";
    if (m.kind == MoveKind::Vectorise) m.factor = widths[below(std::size(widths))];
    if (m.kind == MoveKind::Merge) m.other = another;
    if (m.kind == MoveKind::Reorder && below(2)) m.through = {another};
    std::span<const Ref> params = tree::params(*kernel);
    if (m.kind == MoveKind::Pack) m.other = params[below(params.size())]->arg.text;
    if (std::string sum = any_fold(kernel); m.kind == MoveKind::Pack && !sum.empty() && below(2))
      m.other = sum + (below(2) ? ".0" : ".1");
    if (m.kind == MoveKind::Join) m.loop = params[below(params.size())]->arg.text;
    if (m.kind == MoveKind::Matrix) m.through = {another};
    const std::string place = any_place(kernel);
    if (m.kind == MoveKind::Prefetch) m.other = place;
    if (m.kind == MoveKind::Share || m.kind == MoveKind::Part) m.loop = place;
    if (m.kind == MoveKind::Part) m.factor = factors[below(5)];
    if (m.kind == MoveKind::Share && below(2)) m.factor = 4, m.other = "1";
    return m;
  }

 private:
  uint64_t seed_, counter_ = 0;
  uint64_t below(uint64_t n) { return random_below(seed_, counter_++, n); }

  std::string any_place(const Ref& kernel) {
    std::vector<std::string> names;
    for (const Node* n : topological(std::span(&kernel, 1)))
      if (n->op == Op::Place && tree::space(*n) == Space::Local) names.push_back(n->arg.text);
    return names.empty() ? "none" : names[below(names.size())];
  }

  static std::string any_fold(const Ref& kernel) {
    for (const Node* n : topological(std::span(&kernel, 1)))
      if (n->op == Op::FoldStep) return n->src[0]->arg.text;
    return "";
  }
};

constexpr Target cpu{.threads = 2};

}  // namespace

TEST_CASE("[moves] the heuristic's, one by one") {
  for (uint64_t seed = 1; seed <= thinned(uint64_t{150}); seed++)
    for (const Untouched& k : kernels_of(random_case(seed).graph, cpu)) {
      Ref tree = k.tree;
      for (const Move& m : k.moves) {
        Ref next = apply(tree, m);
        INFO("seed " << seed << ": " << to_string(std::span(&m, 1)) << "\n"
                     << tree::print(tree) << tree::print(next));
        REQUIRE(change(tree, next) == "");
        REQUIRE(text_change(next) == "");
        tree = next;
      }
      REQUIRE(to_string(parse_moves(to_string(k.moves))) == to_string(k.moves));
    }
}

TEST_CASE("[moves] the heuristic's for panels of computed values and for taps in range, one by one") {
  Ref x = parse_expression("f32[6, 4, 9, 9]"), w = parse_expression("f32[16, 4, 3, 3]"),
      g = parse_expression("f32[6, 16, 4, 4]");
  Ref loss = fn::sum(fn::mul(fn::conv2d(x, w, {}, {2}, {0}, {1}, 1), g), {}, false);
  std::vector<Ref> wrt{x};
  for (const Ref& value :
       {parse_expression("matmul(f32[66, 64], abs(f32[64, 140]))"),
        parse_expression("matmul(f32[66, 70], transpose(f32[140, 70]))"), gradient(loss, wrt)[0]}) {
    std::string moves;
    for (const Untouched& k : kernels_of(make_graph({value}), cpu)) {
      Ref tree = k.tree;
      for (const Move& m : k.moves) {
        Ref next = apply(tree, m);
        INFO(to_string(std::span(&m, 1)) << "\n" << tree::print(tree) << tree::print(next));
        REQUIRE(change(tree, next) == "");
        tree = next;
      }
      moves += to_string(k.moves);
    }
    INFO(moves);
    if (value->rank() == 2) CHECK(moves.find("_sum.1") != std::string::npos);
    else
      CHECK(moves.find("unroll j1; reorder j1; vectorise i1") !=
            std::string::npos);  // along others the taps vary
  }
}

TEST_CASE("[moves] any, in any order: equal or refused") {
  std::map<MoveKind, int> applied;
  // What makes GPU's kernels wants loops and places of a certain form: tests/test_groups.cpp.
  const MoveKind wanted[] = {MoveKind::Split,     MoveKind::Reorder, MoveKind::Merge,  MoveKind::Join,
                             MoveKind::Vectorise, MoveKind::Unroll,  MoveKind::Thread, MoveKind::Global,
                             MoveKind::Local,     MoveKind::Lane,    MoveKind::Pack};
  const auto all_seen = [&] {
    return std::ranges::all_of(wanted, [&](MoveKind kind) { return applied[kind] > 0; });
  };
  for (uint64_t seed = 1; seed <= thinned(uint64_t{200}) || (seed <= 400 && !all_seen()); seed++)
    for (const Untouched& k : kernels_of(random_case(seed).graph, cpu)) {
      if (walk::loops_in(k.tree).empty()) continue;
      Chooser chooser(seed);
      Ref tree = k.tree;
      for (int step = 0; step < (sanitized ? 12 : 5); step++) {
        Move m = chooser.any(tree);
        Ref next;
        std::string refused = error_of([&] { next = apply(tree, m); });
        if (!refused.empty()) continue;
        INFO("seed " << seed << ": " << to_string(std::span(&m, 1)) << "\n"
                     << tree::print(tree) << tree::print(next));
        CHECK(change(tree, next) == "");
        CHECK(text_change(next) == "");
        applied[m.kind]++;
        tree = next;
        if (walk::loops_in(tree).empty()) break;
      }
    }
  for (const MoveKind kind : wanted) {
    INFO("move " << static_cast<int>(kind));
    CHECK(applied[kind] > 0);
  }
}

TEST_CASE("[moves] a row in parts, dimensions as one: equal") {
  const Ref row = tree::parse(
      "kernel k(x f32[4, 128], y f32[4, 128]) -> y\n  loop i 4\n    v f32[128]\n"
      "    loop j 128: v[j] = x[i, j] * 2.0\n    loop l 128: y[i, l] = v[127 - l]\n");
  CHECK(change(row, apply_moves(row, parse_moves("part v 64"))) == "");
  const Ref map = tree::parse(
      "kernel k(x f32[4, 128], y f32[4, 128]) -> y\n  loop i 4\n    loop j 128: y[i, j] = x[i, j] * 2.0\n");
  const Ref joined = apply_moves(map, parse_moves("merge i j; join x; join y"));
  CHECK(tree::dims(*tree::params(*joined)[0]).size() == 1);
  CHECK(tree::print(joined).find("//") == std::string::npos);
}

TEST_CASE("[moves] pack of what is read under an if deeper in the loop is refused") {
  Ref kernel = tree::parse(R"(kernel k(x f32[25], n i64[1]) -> y f32[4, 30]
  loop i 4
    loop j 30
      if j < 10
        y[i, j] = x[j] * 2.0
      else
        if 25 <= j
          y[i, j] = x[j - 5]
        else
          y[i, j] = 1.0
)");
  CHECK(error_of([&] { pack(kernel, "x", "i"); }) == "pack i: it is read under a condition");
  CHECK(error_of([&] { pack(split(kernel, "j", -8, "j1"), "x", "i"); }) ==
        "pack i: it is read under a condition");
}

TEST_CASE("[moves] pack of what is found by values computed inside the loop is refused") {
  Ref kernel = tree::parse(R"(kernel k(x f32[25], at i64[4]) -> y f32[4]
  loop i 4
    p i64
    p = at[i]
    y[i] = x[p]
)");
  CHECK(error_of([&] { pack(kernel, "x", "i"); }) == "pack i: it reads 'p', a place of the kernel");
}

TEST_CASE("[moves] pack of a parameter that the loop writes is refused") {
  Ref kernel = tree::parse(R"(kernel k(v f32[4, 32], x f32[32]) -> y f32[4, 32]
  loop i 4
    loop j 32: v[i, j] = x[j] * 2.0
    loop j 32: y[i, j] = v[i, j] + 1.0
)");
  CHECK(error_of([&] { pack(kernel, "v", "i"); }) == "pack i: it reads 'v', which is written in the loop");
}

TEST_CASE("[moves] a text that is no move is refused") {
  for (const char* text : {"spilt i 4", "split", "split i 99999999999999999999", "split i 4x i1", "at"})
    CHECK(error_of([&] { parse_moves(text); }) == "not a move: '" + std::string(text) + "'");
}

TEST_CASE("[moves] what would change the order of a fold is refused") {
  Ref kernel = tree::parse(R"(kernel k(x f32[4, 5]) -> y f32
  p sum f32
  loop i 4
    loop j 5
      p <- x[i, j]
  y = p
)");
  REQUIRE(error_of([&] { reorder(kernel, "i", {}); }) ==
          "reorder i: inside j it would change the order in which 'p' is folded");
}

TEST_CASE("[moves] lanes are refused where threads of a warp would have to see each other") {
  const auto why = [](const std::string& body) {
    return why_no_lanes(tree::parse("kernel k(x f32[9, 64]) -> y f32[9, 64], z f32[9]\n" + body), "l");
  };
  const std::string sum = "  global i 9\n    s sum f32[64]\n    loop l 64: s[l] <- x[i, l]\n";
  CHECK(why(sum + "    z[i] = merge(s)\n") == "");
  CHECK(why(sum + "    loop l 64: y[i, l] = x[i, l] * merge(s)\n") == "");
  CHECK(why(sum + "    t sum f32[64]\n    loop l 64: t[l] <- x[i, l] * merge(s)\n    z[i] = merge(t)\n") ==
        "");
  CHECK(why(sum + "    loop l 64: s[l] <- x[i, l] * merge(s)\n    z[i] = merge(s)\n") ==
        "lanes are merged inside it");
  CHECK(why(sum + "    z[i] = s[3]\n") == "'s' is read otherwise too");
  CHECK(why(sum + "    loop j 64: y[i, j] = s[j]\n") == "'s' is read otherwise too");
  CHECK(why(sum + "    s[0] <- x[i, 0]\n    z[i] = merge(s)\n") == "'s' is written otherwise too");
  CHECK(why("  global i 9\n    loop l 64: y[i, l] = y[i, 63 - l]\n") ==
        "it reads of 'y' what other lanes store");
  CHECK(why("  global i 9\n    loop l 64: y[i, l] = y[i, l] + 1.0\n") == "");
  CHECK(why("  global i 9\n    loop l 64: y[i, 0] = x[i, l]\n") == "'y' is written otherwise too");
  CHECK(why("  global i 9\n    loop l 64\n      loop j 2: y[i, l] = x[i, j]\n") ==
        "more than folds stand in it");
  CHECK(why("  thread i 9\n    loop l 64: y[i, l] = x[i, l]\n") == "threads of a CPU share the kernel out");
  CHECK(why("  global i 9\n    loop l i + 1: y[i, l] = x[i, l]\n") == "its extent varies");
}
