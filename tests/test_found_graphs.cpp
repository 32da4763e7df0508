// Graphs that random ones were shrunk to, each of which was wrong once: as loop trees for several machines and budgets, on
// the llvm device, and their gradients.
#include <string>

#include "graph/functions/functions.h"
#include "graph/shape.h"
#include "graph/text/text.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/every_way.h"
#include "tests/random_checks.h"

using namespace kontor;

namespace {

struct Found {
  const char* name;
  const char* text;
};

constexpr Found found[] = {
    {"the greatest of one f8e4m3, which has no infinity to begin with",
     "%0 = buffer f8e4m3[1, 2, 1]\n%1 = reduce f8e4m3[2, 1] {max, 0} %0\n%2 = reduce f8e4m3[2] {min, 1} %1\nreturn %2"},
    {"a reshaped copy of its own target",
     "%0 = buffer f32[2, 3]\n%1 = shrink f32[2, 2] %0 0 2 0 2\n%2 = pad f32[3, 2] %1 0.0 0 1 0 0\n"
     "%3 = copy f32[3, 2] %2\n%4 = reshape f32[2, 3] %3 2 3\nreturn %4 -> %0"},
    {"halves compared as doubles, which LLVM took back to halves and to a call of fmaxf",
     "%0 = buffer f16[1]\n%1 = buffer f64[1]\n%2 = reshape f64[1] 0.0_f64 1\n%3 = cast f64[1] %0\n"
     "%4 = lt bool[1] %2 %3\n%5 = where f64[1] %4 %3 %2\n%6 = lt bool[1] %2 %5\n%7 = where f64[1] %6 %5 %1\n"
     "return %7"},
    {"a sum of nothing, cut in pieces",
     "%0 = buffer f64[0, 12, 12, 3, 12]\n%1 = reduce f64 {sum, 0, 1, 2, 3, 4} %0\nreturn %1"},
    {"an unwindow without taps",
     "%0 = buffer f64[1, 27, 0]\n%1 = unwindow f64[1, 31, 0] {1, 1, 1} %0 31\nreturn %1"},
    {"an unwindow whose extent is less than its windows reach",
     "%0 = buffer f64[6, 3]\n%1 = unwindow f64[4, 3] {0, 1, 5} %0 4\nreturn %1"},
    {"a dot over nothing, of views",
     "%0 = buffer f64[1, 1, 1, 4, 0, 2, 1]\n%1 = buffer f64[1, 0, 2, 1]\n"
     "%2 = reshape f64[1, 1, 1, 1, 0, 2, 1] %1 1 1 1 1 0 2 1\n%3 = expand f64[1, 1, 1, 4, 0, 2, 1] %2 1 1 1 4 0 2 1\n"
     "%4 = reduce f64[1, 1, 1, 4] {dot, 4, 5, 6} %0 %3\nreturn %4"},
    {"a row read backwards, of which a constant and a counter switch lanes off",
     "%0 = buffer f32[1, 1, 1]\n%1 = unwindow f32[2, 1, 1] {0, 1, 2} %0 2\n%2 = unwindow f32[2, 9, 1] {1, 1, 4} %1 9\n"
     "return %2"},
    {"lanes of a product that run through a nest whose own rows would have lanes",
     "%0 = buffer f64[3, 1]\n%1 = buffer f64[2, 1]\n%2 = buffer f64[1, 4, 1]\n%3 = buffer f64[3, 1]\n"
     "%4 = buffer f64[1, 3]\n%5 = put f64[3, 1] %0 %1 0 0\n%6 = reshape f64[3, 1, 1] %5 3 1 1\n"
     "%7 = expand f64[3, 4, 1] %6 3 4 1\n%8 = expand f64[3, 4, 1] %2 3 4 1\n"
     "%9 = reduce f64[3, 4] {dot, 2} %7 %8\n%10 = put f64[3, 4] %9 %3 0 1\n"
     "%11 = reduce f64[4] {max, 0} %10\n%12 = reshape f64[1, 4] %11 1 4\n%13 = expand f64[3, 4] %12 3 4\n"
     "%14 = sub f64[3, 4] %10 %13\n%15 = reduce f64 {prod, 0, 1} %5\nreturn %9, %14, %15, %4"},
    {"streams of which each makes room for another, in turn, for ever",
     "%0 = buffer f8e4m3[3, 2, 5, 3]\n%1 = buffer f32[1, 2, 5, 1]\n%2 = buffer f32[1, 2, 5, 1]\n"
     "%3 = buffer f32[1, 2, 5, 1]\n%4 = buffer f32[1, 2, 5, 1]\n%5 = buffer f8e4m3[1, 2, 5, 1]\n"
     "%6 = reduce f8e4m3[2, 5] {max, 0, 3} %0\n%7 = reshape f8e4m3[1, 2, 5, 1] %6 1 2 5 1\n"
     "%8 = cast f32[1, 2, 5, 1] %7\n%9 = reduce f32[2, 5, 1] {max, 0} %8\n"
     "%10 = reshape f32[1, 2, 5, 1] %9 1 2 5 1\n%11 = sub f32[1, 2, 5, 1] %8 %10\n"
     "%12 = max f32[1, 2, 5, 1] %11 %1\n%13 = min f32[1, 2, 5, 1] %12 %2\n"
     "%14 = fma f32[1, 2, 5, 1] %13 %3 %4\n%15 = sub f32[1, 2, 5, 1] %14 %4\n"
     "%16 = cast f8e4m3[1, 2, 5, 1] %15\n%17 = reduce f8e4m3 {max, 0, 1, 2, 3} %16\n"
     "%18 = reshape f8e4m3[1, 1, 1, 1] %17 1 1 1 1\n%19 = expand f8e4m3[1, 2, 5, 1] %18 1 2 5 1\n"
     "%20 = eq bool[1, 2, 5, 1] %16 %19\n%21 = copy f8e4m3[1, 1, 1, 1] %18\n%22 = cast f32[1, 1, 1, 1] %21\n"
     "%23 = reduce f32[1, 1, 1] {sum, 3} %22\n%24 = reshape f32[1, 1, 1, 1] %23 1 1 1 1\n"
     "%25 = mul f32[1, 1, 1, 1] %22 %24\n%26 = cast f8e4m3[1, 1, 1, 1] %25\n%27 = cast f32[1, 1, 1, 1] %26\n"
     "%28 = cast f8e4m3[1, 1, 1, 1] %27\n%29 = reshape f8e4m3 %28\n%30 = cast f32 %29\n"
     "%31 = cast f8e4m3 %30\n%32 = reshape f8e4m3[1, 1, 1, 1] %31 1 1 1 1\n"
     "%33 = expand f8e4m3[1, 2, 5, 1] %32 1 2 5 1\n%34 = where f8e4m3[1, 2, 5, 1] %20 %33 %5\n"
     "%35 = cast f32[1, 2, 5, 1] %34\n%36 = reduce f32[2, 5, 1] {sum, 0} %35\n"
     "%37 = reshape f32[1, 2, 5, 1] %36 1 2 5 1\nreturn %37"},
    {"an operand that is padded with a value which has a gradient of its own",
     "%0 = buffer f64[2, 3]\n%1 = buffer f64\n%2 = buffer f64[2, 4, 5]\n%3 = pad f64[2, 5] %0 %1 0 0 1 1\n%4 = reshape f64[2, 1, 5] %3 2 1 5\n%5 = expand f64[2, 4, 5] %4 2 4 5\n%6 = reduce f64[2, 4] {dot, 2} %5 %2\nreturn %6"},
    {"an index that stands for several lanes, in the last elements of a vector (AVX2)",
     "%0 = buffer f32[33, 3, 2, 1]\n%1 = buffer i64[33, 3, 2]\n%2 = buffer i64[33, 3, 2]\n%3 = buffer u32[33, 3, 2]\n%4 = iota i64[33] 33\n%5 = reshape i64[33, 1, 1] %4 33 1 1\n%6 = expand i64[33, 3, 2] %5 33 3 2\n%7 = gather f32[33, 3, 2] {0, 1, 2, 3} %0 %6 %1 %2 %3\n%8 = reduce f32 {prod, 0, 1, 2} %7\nreturn %8"},
    {"a loop that one value of a kernel folds over and another runs along",
     "%0 = buffer f32[3, 3, 3]\n%1 = buffer f32[1, 1, 1]\n%2 = buffer bool\n%3 = buffer f32\n"
     "%4 = buffer f32[1, 1, 1]\n%5 = buffer f32[1, 1, 1]\n%6 = buffer f32[1, 1, 1]\n"
     "%7 = copy f32[3, 3, 3] %0\n%8 = mul f32[3, 3, 3] %7 %7\n%9 = reduce f32[3, 3] {sum, 0} %7\n"
     "%10 = reshape f32[1, 3, 3] %9 1 3 3\n%11 = shrink f32[3, 3, 1] %7 0 3 0 3 0 1\n"
     "%12 = reshape f32[3, 3] %11 3 3\nreturn %8, %1, %2, %3, %10, %12, %4, %4, %5, %6"},
    {"the terms of an unwindow that is an output too",
     "%0 = buffer bf16[11, 2]\n%1 = buffer i64[11]\n%2 = buffer f32[1, 1, 31]\n%3 = buffer f32[2, 62]\n"
     "%4 = buffer f32[4, 1, 31, 1]\n%5 = buffer f32[1, 1, 31, 8]\n"
     "%6 = unwindow f32[4, 1, 31] {0, 1, 4} %2 4\n%7 = permute f32[4, 31, 1] {0, 2, 1} %6\n"
     "%8 = reshape f32[4, 1, 31, 1] %7 4 1 31 1\n%9 = reduce f32[4, 1, 31] {dot, 3} %4 %8\n"
     "%10 = reshape f32[4, 31] %9 4 31\nreturn %0, %1, %6, %3, %10, %5"},
    {"a dot over an unwindow of zeros has terms in range alone",
     "%0 = buffer f64[3]\n%1 = reshape f64[1, 1] 0.0_f64 1 1\n%2 = unwindow f64[3, 1] {0, 3, 1} %1 3\n"
     "%3 = sub f64[3] %0 %0\n%4 = div f64[3] %0 %3\n%5 = reshape f64[3, 1] %4 3 1\n"
     "%6 = reduce f64[3] {dot, 1} %2 %5\nreturn %6"},
    {"an operand of ten axes that is copied: each loop has a name of its own",
     "%0 = buffer f64[2, 1, 2, 1, 2, 1, 2, 1, 2, 2]\n%1 = buffer f64[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]\n"
     "%2 = reshape f64[2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2] %0 2 1 2 1 2 1 2 1 2 1 2\n"
     "%3 = expand f64[2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2] %1 2 1 2 1 2 1 2 1 2 1 2\n"
     "%4 = reduce f64[2, 1, 2, 1, 2, 1, 2, 1, 2, 1] {dot, 10} %2 %3\nreturn %4"},
    {"a fold over pieces around pieces that overlap",
     "%0 = buffer f32[2, 1, 1, 3]\n"
     "%1 = buffer f32[1, 1, 7, 3, 1]\n"
     "%2 = buffer f32[7, 3, 7]\n"
     "%3 = pad f32[7, 1, 1, 3] %0 0.0 5 0 0 0 0 0 0 0\n"
     "%4 = reshape f32[7, 1, 1, 3, 1] %3 7 1 1 3 1\n"
     "%5 = permute f32[7, 1, 1, 1, 3] {0, 1, 2, 4, 3} %4\n"
     "%6 = permute f32[1, 1, 1, 3, 7] {1, 2, 3, 4, 0} %5\n"
     "%7 = expand f32[1, 1, 7, 3, 7] %6 1 1 7 3 7\n"
     "%8 = expand f32[1, 1, 7, 3, 7] %1 1 1 7 3 7\n"
     "%9 = reduce f32[1, 1, 7] {dot, 3, 4} %7 %8\n"
     "%10 = permute f32[1, 1, 3, 1, 7] {1, 2, 3, 4, 0} %4\n"
     "%11 = reshape f32[3, 1, 7] %10 3 1 7\n"
     "%12 = permute f32[1, 3, 7] {1, 0, 2} %11\n"
     "%13 = expand f32[7, 3, 7] %12 7 3 7\n"
     "%14 = reduce f32[7, 3] {dot, 2} %13 %2\n"
     "return %9, %14"},
    {"a fold that goes on over pieces around a fold over pieces, which it reads",
     "%0 = buffer f32[2, 1, 6, 3, 3, 3, 1]\n%1 = buffer f32[2, 1, 6, 3, 3, 3, 1]\n"
     "%2 = reduce f32[2, 1, 6, 3, 3, 3] {dot, 6} %0 %1\n%3 = permute f32[2, 1, 3, 6, 3, 3] {0, 1, 4, 2, 5, 3} %2\n"
     "%4 = unwindow f32[2, 1, 3, 6, 5, 3] {4, 1, 1} %3 5\n%5 = reduce f32[2, 1, 3, 6, 5] {sum, 5} %4\n"
     "%6 = unwindow f32[2, 1, 7, 6, 5] {2, 1, 1} %5 7\n%7 = reduce f32[2, 1, 7, 5] {sum, 3} %6\nreturn %7"},
    {"a value written in place beside loops that it does not have",
     "%0 = buffer f32[2, 4]\n%1 = buffer f32[1]\n%2 = buffer f32[4]\n%3 = expand f32[4] %1 4\n"
     "%4 = reshape f32[1, 4] %3 1 4\n%5 = expand f32[2, 4] %4 2 4\n%6 = mul f32[2, 4] %0 %5\n"
     "%7 = permute f32[4, 2] {1, 0} %6\nreturn %7, %3 -> %2"},
    {"an element of an axis of nothing: every lane fails, each with an index of its own",
     "%0 = buffer u16[4, 1, 0]\n%1 = buffer i64[4, 1]\n%2 = buffer i64[4, 1]\n%3 = buffer i32[4, 1]\n"
     "%4 = gather u16[4, 1] {0, 1, 2} %0 %1 %2 %3\nreturn %4"},
    {"a dot over the taps of windows of windows: what an unwindow reads is another's position",
     "%0 = buffer f64[1, 1, 4]\n%1 = buffer f64[1, 1, 1, 1, 1, 2, 2]\n%2 = window f64[1, 1, 2, 2] {2, 1, 2, 2} %0\n"
     "%3 = window f64[1, 1, 1, 2, 2] {2, 1, 1, 2} %2\n%4 = window f64[1, 1, 1, 2, 1, 2] {4, 1, 1, 2} %3\n"
     "%5 = permute f64[1, 1, 1, 1, 2, 2] {0, 1, 2, 4, 3, 5} %4\n%6 = reshape f64[1, 1, 1, 1, 1, 2, 2] %5 1 1 1 1 1 2 2\n"
     "%7 = reduce f64[1, 1, 1, 1] {dot, 4, 5, 6} %6 %1\nreturn %7"},
};

Case case_of(const char* text) {
  Case c{parse_graph(std::string("graph\n") + text), {}};
  c.inputs = plain_inputs(c.graph);
  c.scalars = scalars_of(c.graph);
  return c;
}

}  // namespace

TEST_CASE("[random] graphs that were wrong once") {
  for (const Found& f : found) {
    INFO(f.name);
    const Case c = case_of(f.text);
    for (uint64_t seed = 0; seed < 8; seed++) CHECK(verdict(c, lowered(some_target(seed))) == "");
    const DType dtype = c.graph.inputs[0]->dtype;
    if (dtype == DType::F64)
      CHECK(verdict(c, [](const Case& of) { return check_gradients(of, some_target(6)); }) == "");
    for (const Cpu& cpu : cpus()) {
      INFO(cpu.name);
      CHECK(verdict(c, on_device(*cpu.backend)) == "");
    }
  }
}

TEST_CASE("[random] the gradient of a product over windows of windows") {
  struct Taps {
    int64_t size, stride, dilation;
  };
  const Taps some[] = {{2, 1, 1}, {2, 2, 1}, {2, 1, 2}, {3, 3, 1}, {1, 1, 1}};
  for (const Taps& outer : some)
    for (const Taps& inner : some)
      for (int64_t axis : {0, 1}) {  // windows of the windows' positions, or of their taps
        const Ref x = parse_expression("f64[11]");
        const Ref once = fn::window(x, 0, outer.size, outer.stride, outer.dilation);
        if (extent(once->shape[static_cast<size_t>(axis)]) <= (inner.size - 1) * inner.dilation) continue;
        const Ref twice = fn::window(once, axis, inner.size, inner.stride, inner.dilation);
        const Ref factor = parse_expression("f64" + describe_shape(twice->shape));
        for (const Ints& axes : {Ints{1, 2}, Ints{0, 2}, Ints{0, 1}, Ints{0, 1, 2}}) {
          Case c;
          c.graph = make_graph({fn::reduce(Fold::Dot, {twice, factor}, axes, false)});
          c.inputs = plain_inputs(c.graph);
          INFO(print(c.graph));
          CHECK(verdict(c, [](const Case& of) { return check_gradients(of, some_target(6)); }) == "");
        }
      }
}

TEST_CASE("[graph] what is padded with is one number") {
  const Ref x = parse_expression("f32[3]"), one = parse_expression("f32[1]");
  CHECK(error_of([&] { fn::pad(x, {1, 1}, one); }) == "pad: f32[3]: the value is f32[1], not one number");
  CHECK_THROWS_AS(make(Op::Pad, {x, one, index(1), index(1)}), InternalError);
}
