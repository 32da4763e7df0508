// Text forms read back: loop trees and graphs.
#include <cmath>

#include "base/threefry.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "codegen/tree/verify.h"
#include "graph/index/index.h"
#include "graph/text/expression.h"
#include "graph/text/text.h"
#include "graph/verify.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/op_jobs.h"
#include "tests/random_graph.h"
#include "tests/thinned.h"

using namespace kontor;

static const char* softmax_text = R"(kernel softmax(x f32[4, 6]) -> y f32[4, 6]
  thread i 4
    m max f32; s sum f32; e f32[6]
    loop j 6
      m <- x[i, j]
    loop j 6
      e[j] = sqrt(x[i, j] - m)
      s <- e[j]
    vector j 6 width 8
      y[i, j] = e[j] / s
)";

static const char* matmul_text =
    R"(kernel matmul($0 f32, $1 i64 1..100, a f32[12, $1], b f32[$1, 64]) -> c f32[12, 64]
  thread t 2
    p f32[100, 32]
    loop k $1
      vector l 32 width 16
        p[k, l] = b[k, 32 * t + l]
    loop r 3
      q dot f32[4, 32]
      loop k $1
        unroll i 4
          vector l 32 width 16
            q[i, l] <- a[4 * r + i, k], p[k, l]
      unroll i 4
        vector l 32 width 16
          c[4 * r + i, 32 * t + l] = q[i, l] * $0
)";

static const char* odd_text = R"(kernel odd(x f32[9], k i32[9]) -> base sum f32[9], y f32[9], z f64
  lanes sum f32[4]
  clear base
  loop i 9
    if 0 < i & i < 5
      y[i] = x[i - 1 if 0 < i] + -0.0
    else
      let %0 = where(x[i] < 1.5, x[i], -inf) * 3.0
      y[i] = max(%0, -%0) - 1.0000001
    check 1: k[i] != 3_i32 & !(k[i] // 2_i32 % 7_i32 == -1_i32)
    loop i_2 4
      let %1 = x[i] + f32(k[i])
      y[i] = fma(%1, %1, f32(i * i_2 - 3))
    base[i] <- x[i]
    let %2 = x[i] < 0.5 & i < 3
    check 2: !%2
    check 3: %2 | i < 2
  z = f64(merge(lanes)) + 0.1_f64 - f64(sub(i64(nan) // 2, 4) % -3)
)";

TEST_CASE("[text] kernels print as they read") {
  for (const char* text : {softmax_text, matmul_text, odd_text}) {
    Ref kernel = tree::parse(text);
    REQUIRE(tree::print(kernel) == text);
    REQUIRE(tree::print(tree::parse(tree::print(kernel))) == text);
  }
}

TEST_CASE("[text] names are made unique, and shared values are bound where all uses see them") {
  Ref x = tree::param(DType::F32, {index(8)}, 0, "x"),
      y = tree::param(DType::F32, {index(8), index(8)}, 1, "loop");
  Ref i = ix::range(8, "i"), j = ix::range(8, "i");
  Ref value = make(Op::Sqrt, {make(Op::Add, {tree::load(x, {i}), constant(DType::F32, 0.1)})});
  Ref both = make(Op::Mul, {value, value});
  Ref kernel = tree::kernel(
      "k", {x, y},
      {tree::loop(LoopKind::Loop, i,
                  {tree::loop(LoopKind::Loop, j, {tree::store(y, {i, j}, both)}),
                   tree::loop(LoopKind::Loop, j,
                              {tree::store(y, {j, i}, make(Op::Add, {both, tree::load(x, {j})}))})})});
  const char* expected = R"(kernel k(x f32[8]) -> loop_2 f32[8, 8]
  loop i 8
    let %0 = sqrt(x[i] + 0.1)
    let %1 = %0 * %0
    loop i_2 8
      loop_2[i, i_2] = %1
    loop i_2 8
      loop_2[i_2, i] = %1 + x[i_2]
)";
  REQUIRE(tree::print(kernel) == expected);
  REQUIRE(tree::print(tree::parse(expected)) == expected);
}

TEST_CASE("[text] every dtype's constants keep their bits") {
  auto leaf = [](const Node&) { return std::string(); };
  std::vector<Ref> list = {constant(DType::F32, 0.1),
                           constant(DType::F32, -0.0),
                           constant(DType::F32, 1e-42),
                           constant(DType::F64, 0.1),
                           constant(DType::F64, 5e-324),
                           constant(DType::F32, HUGE_VAL),
                           constant(DType::F64, -HUGE_VAL),
                           constant(DType::F64, std::nan("")),
                           constant(DType::F32, -std::nan("")),
                           constant(DType::F16, 65504.0),
                           constant(DType::F8E4M3, 0.015625),
                           constant(DType::F32, 16777216.0),
                           index(INT64_MIN),
                           index(INT64_MAX),
                           constant(DType::U64, int64_t{-1}),
                           constant(DType::I8, int64_t{-128}),
                           constant(DType::U8, int64_t{255}),
                           constant(DType::Bool, int64_t{1}),
                           constant(DType::Bool, int64_t{0})};
  for (const Ref& c : list) {
    std::string text = print_expression(*c, leaf);
    Lexer lexer(" " + text, "constant");
    lexer.next();
    INFO(text);
    Ref back = parse_expression(lexer, [](Lexer&) { return Ref(); });
    REQUIRE(back == c);
    REQUIRE(lexer.peek().kind == Token::End);
  }
}

TEST_CASE("[text] what is wrong with a kernel's text is said with its line") {
  struct Row {
    const char* body;
    const char* message;
  };
  static const Row rows[] = {
      {"  y[0] = q", "kernel text, line 2: 'q' is not declared here"},
      {"  y = x[0]", "kernel text, line 2: 'y' takes 1 indexes here, not 0"},
      {"  y[0] = x[0, 1]", "kernel text, line 2: 'x' takes 1 indexes here, not 2"},
      {"  y[0] = 1", "kernel text, line 2: 'y' is f32, the value i64"},
      {"  y[0] = 1.0 + 2", "kernel text, line 2: add: dtypes differ; sources: f32[] i64[]"},
      {"  y[0] <- 1.0", "kernel text, line 2: 'y' has no fold"},
      {"  y[0.5] = 1.0", "kernel text, line 2: an index must be i64, not f32"},
      {"  loop i 4\n    y[i] = x[i]\n   y[0] = x[0]",
       "kernel text, line 4: the indentation differs from the lines above"},
      {"  loop i 4: y[i] = fma(x[i])", "kernel text, line 2: fma takes 3 values, not 1"},
      {"  y[0] = 3_f31", "kernel text, line 2: unknown dtype 'f31'"},
      {"  y[0] = f32(300_u8)", "kernel text, line 2: 300 does not fit u8"},
      {"  y[0] = f32(99999999999999999999)",
       "kernel text, line 2: '99999999999999999999' is not an integer of 64 bits"},
      {"  y[0] = 1.0 @", "kernel text, line 2: character '@' is not expected"},
      {"  if x[0]: y[0] = 1.0", "kernel text, line 2: a condition must be bool, not f32"},
      {"  y[0] = 12x", "kernel text, line 2: '12x' is not a number"},
      {"  y[0] = 1.0 2.0", "kernel text, line 2: unexpected \"2.0\""},
  };
  for (const Row& r : rows)
    REQUIRE(error_of([&] { tree::parse(std::string("kernel k(x f32[4]) -> y f32[4]\n") + r.body + "\n"); }) ==
            r.message);
  REQUIRE(error_of([] { tree::parse("kernel k($99999999999999999999 f32) -> y f32\n"); }) ==
          "kernel text, line 1: '$99999999999999999999' is no number of a scalar");
  REQUIRE(error_of([] { tree::parse("kernel k(x f32[4]"); }) ==
          "kernel text, line 1: ')' expected before \"end of text\"");
}

static const char* graph_text = R"(graph
  n = variable i64 {1, 100}
  %0 = scalar f32
  %1 = buffer f32[n, 3]
  %2 = buffer i32[5]
  %3 = buffer f32[n]
  %4 = reshape f32[1, 1] %0 1 1
  %5 = expand f32[n, 3] %4 n 3
  %6 = mul f32[n, 3] %1 %5
  %7 = pad f32[n + 2, 3] %6 0.5 1 1 0 0
  %8 = reduce f32[n + 2] {max, 1} %7
  %9 = shrink f32[n] %8 1 n
  %10 = mark f32[n] "w" {0} %9
  %11 = call f32[n] "relu" {2} %10 %8
  %12 = flip f32[n] {0} %11
  %13 = reduce f32 {dot, 0} %12 %3
  %14 = gather f32[5, 3] {0} %1 %2
  %15 = scatter f32[n, 3] {sum, 0} %6 %14 %2
  %16 = window f32[5, 2, 2] {1, 1, 1, 2} %14
  %17 = unwindow f32[5, 3, 2] {1, 1, 1} %16 3
  %18 = permute f32[2, 3, 5] {2, 1, 0} %17
)";

TEST_CASE("[text] graphs print as they read") {
  std::string text = graph_text;
  text +=
      "  %19 = reshape f32[n * 3] %1 (n * 3)\n"
      "  %20 = iota i32[n * 3] (n * 3)\n"
      "  %21 = cast f32[n * 3] %20\n"
      "  %22 = add f32[n * 3] %19 %21\n"
      "  %23 = put f32[n * 3] %19 %22 (n % 2)\n"
      "  %24 = bitcast i32[n * 3] %23\n"
      "  %25 = copy f32[n] %12\n"
      "  return %13, %15, %18, %24, -1.5, %25 -> %3\n";
  Graph graph = parse_graph(text);
  REQUIRE(print(graph) == text);
  Graph again = parse_graph(print(graph));
  REQUIRE(graph_key(again) == graph_key(graph));
  REQUIRE(print(again) == text);
  REQUIRE(graph.inputs.size() == 3);
  REQUIRE(graph.scalars.size() == 2);
  REQUIRE(graph.target == std::vector<int>{-1, -1, -1, -1, -1, 2});
}

TEST_CASE("[text] a graph of nodes made in C++ reads back") {
  Ref x = make(Op::Buffer, {index(2), index(3)}, {.ints = {fresh_id(), 0}}, DType::F64);
  Ref unread = make(Op::Buffer, {index(7)}, {.ints = {fresh_id(), 2}}, DType::U8);
  Ref m = make(Op::Mark, {x}, {.ints = {fresh_id()}, .text = "a \"quoted\" name"});
  Ref sum = make(Op::Reduce, {make(Op::Mul, {m, x})}, {.ints = {0, 1}});
  Graph graph = make_graph({sum, make(Op::Cast, {x}, {}, DType::F16)});
  graph.inputs.push_back(unread);
  Graph again = parse_graph(print(graph));
  REQUIRE(graph_key(again) == graph_key(graph));
  REQUIRE(again.inputs.size() == 2);
  REQUIRE(print(again) == print(graph));
}

TEST_CASE("[text] what is wrong with a graph's text is said with its line") {
  struct Row {
    const char* line;
    const char* message;
  };
  static const Row rows[] = {
      {"%1 = ad f32[2] %0 %0", "unknown op 'ad'"},
      {"%1 = add f32[2] %0 %7", "'%7' is not defined above"},
      {"%1 = add f32[3] %0 %0", "add: gives f32[2], the text says f32[3]"},
      {"%1 = add f32[2] %0", "add: takes 2 sources, not 1"},
      {"%1 = call f32[2] \"\" %0 %0", "call: has no name"},
      {"%1 = add i32[2] %0 %0", "add: gives f32[2], the text says i32[2]"},
      {"%1 = idiv f32[2] %0 %0", "idiv: source is not an integer; sources: f32[2] f32[2]"},
      {"%1 = load f32[2] %0", "load belongs to loop trees, not to a graph"},
      {"%0 = neg f32[2] %0", "'%0' is defined twice"},
      {"%1 = permute f32[2] {1} %0", "permute: its axes do not fit f32[2] and 1 sources"},
      {"%1 = reduce f32 {som, 0} %0", "unknown fold \"som\""},
      {"%1 = reduce f32 {sum, 4} %0", "reduce: its axes do not fit f32[2] and 1 sources"},
      {"%1 = window f32[0, 3] {0, 1, 1, 3} %0", "window: the window is larger than f32[2]"},
      {"%1 = shrink f32[2] %0 1 2", "shrink: takes more than there is of f32[2]"},
      {"%1 = reshape f32[3] %0 3", "reshape: number of elements changes; sources: f32[2] i64[]"},
      {"%1 = reshape f32[2] %0 2.0", "reshape: a size is not an i64 of 0 or more"},
      {"%1 = buffer f32[-1]", "buffer: a dimension is not an i64 of 0 or more"},
      {"%1 = buffer f31[1]", "unknown dtype 'f31'"},
      {"%1 = gather f32[2] {0} %0 %0", "gather: bad index tensor; sources: f32[2] f32[2]"},
      {"%1 = mark f32[2] \"w %0", "a quote is not closed"},
      {"n = variable i64 {3, 1}", "variable: is an i64 with {lowest, highest}"},
      {"%1 = neg f32[2] %0 ]", "a value expected before \"]\""},
  };
  for (const Row& r : rows) {
    INFO(r.line);
    std::string text = std::string("graph\n  %0 = buffer f32[2]\n  ") + r.line + "\n  return %0\n";
    REQUIRE(error_of([&] { parse_graph(text); }) == std::string("graph text, line 3: ") + r.message);
  }
  REQUIRE(error_of([] {
            parse_graph("graph\n  %0 = iota i64[2] 2\n  %1 = copy i64[%0] %0\n  return %1\n");
          }) == "graph text, line 3: copy: a dimension is not an i64 of 0 or more");
  REQUIRE(error_of([] { parse_graph(""); }) == "graph text, line 1: 'graph' expected before \"end of text\"");
  REQUIRE(error_of([] { parse_graph("graph\n  %0 = buffer f32[2]\n"); }) != "");
}

TEST_CASE("[text] the graphs of the op table and of its gradients read back") {
  for (const OpCase& row : op_table()) {
    INFO(row.name);
    std::vector<Graph> graphs = {value_job(row).graph};
    if (row.gradient) graphs.push_back(gradient_job(row).graph);
    for (const Graph& graph : graphs) {
      const Graph again = parse_graph(print(graph));
      CHECK(print(again) == print(graph));
      CHECK(graph_key(again) == graph_key(graph));
    }
  }
}

namespace {

/// A text with one thing wrong: characters taken away or put in, a line lost, doubled or moved, a number that is too large.
std::string damaged(std::string text, uint64_t seed) {
  uint64_t counter = 0;
  const auto below = [&](size_t n) { return static_cast<size_t>(random_below(seed, counter++, n)); };
  const size_t at = below(text.size());
  const size_t line = text.rfind('\n', at) + 1, end = std::min(text.find('\n', at), text.size() - 1) + 1;
  const std::string whole = text.substr(line, end - line);
  constexpr std::string_view pieces[] = {"-1",
                                         "99999999999999999999",
                                         "9223372036854775807",
                                         "0",
                                         "[",
                                         "}",
                                         "%1",
                                         "\"",
                                         "f8e4m3",
                                         "nan",
                                         "\xff",
                                         " ",
                                         "{0, 1}",
                                         "sum",
                                         "x",
                                         "load"};
  switch (below(7)) {
    case 0: return text.erase(at, 1 + below(6));
    case 1: return text.insert(at, pieces[below(std::size(pieces))]);
    case 2:
      return text.replace(at, std::min<size_t>(1 + below(3), text.size() - at),
                          pieces[below(std::size(pieces))]);
    case 3:  return text.erase(line, whole.size());
    case 4:  return text.insert(line, whole);
    case 5:  return text.substr(0, at);
    default: return text.erase(line, whole.size()).insert(text.rfind('\n', below(text.size())) + 1, whole);
  }
}

}  // namespace

TEST_CASE("[text] a damaged graph is an Error or a sound graph") {
  int refused = 0, sound = 0;
  for (uint64_t seed = 1; seed <= thinned<uint64_t>(2000); seed++) {
    const std::string text = damaged(print(random_case(seed % 60 + 1).graph), seed);
    INFO("seed " << seed << "\n" << text);
    try {
      const Graph graph = parse_graph(text);
      REQUIRE(verify(graph) == std::vector<std::string>{});
      sound++;
    } catch (const Error&) {
      refused++;
    }
  }
  CHECK(refused > thinned(700));
  CHECK(sound > thinned(50));
}

TEST_CASE("[text] a damaged loop tree is an Error or a tree that the verifier can judge") {
  int refused = 0, judged = 0;
  std::vector<std::string> texts;
  for (uint64_t seed = 1; seed <= 40; seed++)
    for (const ScheduledKernel& k : schedule(random_case(seed).graph, Target{.threads = 2}).kernels)
      texts.push_back(tree::print(k.tree));
  for (uint64_t seed = 1; seed <= thinned<uint64_t>(2000); seed++) {
    const std::string text = damaged(texts[seed % texts.size()], seed);
    INFO("seed " << seed << "\n" << text);
    try {
      verify_tree(tree::parse(text));
      judged++;
    } catch (const Error&) {
      refused++;
    }
  }
  CHECK(refused > thinned(500));
  CHECK(judged > thinned(50));
}
