// Limits of the texts that are read: how deep they nest, and what a number is.
#include "base/error.h"
#include "codegen/tree/text.h"
#include "codegen/tree/verify.h"
#include "graph/functions/functions.h"
#include "graph/graph.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "tests/catch.h"
#include "tests/errors.h"

using namespace kontor;

namespace {

std::string repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; i++) out += text;
  return out;
}

std::string kernel(const std::string& value) {
  return "kernel k(a f32[4], $0 i64) -> b f32[4]\n  loop i 4\n    b[i] = " + value + "\n";
}

std::string nested_loops(int depth) {
  std::string out = "kernel k() -> b f32\n";
  for (int i = 0; i < depth; i++) out += std::string(static_cast<size_t>(i) + 2, ' ') + "loop i 1\n";
  return out + std::string(static_cast<size_t>(depth) + 2, ' ') + "b = 1.0\n";
}

}  // namespace

TEST_CASE("[text limits] what nests too deep is an Error, in every text that is read") {
  const int deep = 10'000;
  const std::string open = repeat("(", deep), close = repeat(")", deep);
  const std::string texts[] = {
      error_of([&] { parse_expression(open + "1" + close); }),
      error_of([&] { parse_expression(repeat("abs(", deep) + "f32[2]" + close); }),
      error_of([&] { parse_expression(repeat("-", deep) + "f32[2]"); }),
      error_of([&] { parse_expression(repeat("[", deep) + repeat("]", deep)); }),
      error_of([&] { parse_expression(repeat("f32[2] + (", deep) + "1" + close); }),
      error_of([&] {
        parse_graph("graph\n  n = variable i64 {0, 9}\n  %0 = buffer f32[" + repeat("n+(", 9990) + "n" +
                    repeat(")", 9990) + "]\n  return %0\n");
      }),
      error_of([&] { tree::parse(kernel(open + "1.0" + close)); }),
      error_of([&] { tree::parse(kernel(repeat("a[", deep) + "i" + repeat("]", deep))); }),
      error_of([&] { tree::parse(kernel(repeat("-", deep) + "a[i]")); }),
      error_of([&] { tree::parse(nested_loops(2'000)); }),
  };
  for (const std::string& text : texts) CHECK(text.find("nested more than 512 deep") != std::string::npos);
}

TEST_CASE("[text limits] what is long without being nested is read, or refused with a message") {
  const std::string terms = repeat("n + ", 100'000) + "n";
  CHECK(error_of([&] {
          parse_graph("graph\n  n = variable i64 {0, 9}\n  %0 = buffer f32[" + terms + "]\n  return %0\n");
        }).find("a dimension is computed in more than 200 steps") != std::string::npos);
  CHECK(error_of([&] {
          tree::parse(kernel("f32(" + repeat("i + ", 100'000) + "i)"));
        }).find("a value of more than 10000 operations one after another") != std::string::npos);
  CHECK(parse_expression(repeat("1 + ", 100'000) + "f32[2]")->rank() == 1);
}

TEST_CASE("[text limits] kernels of long expressions print and read back") {
  Ref a = tree::param(DType::F32, {index(4)}, 0, "a"), b = tree::param(DType::F32, {index(4)}, 1, "b");
  Ref i = ix::range(4, "i"), x = tree::load(a, {i}), value = x;
  for (int k = 0; k < 3'000; k++) value = make(Op::Neg, {make(Op::Mul, {value, make(Op::Add, {x, value})})});
  Ref tree = tree::kernel("k", {a, b}, {tree::loop(LoopKind::Loop, i, {tree::store(b, {i}, value)})});
  const std::string text = tree::print(tree);
  CHECK(tree::print(tree::parse(text)) == text);
  Ref once = x;  // nothing is used twice: names are for depth alone
  for (int k = 0; k < 3'000; k++) once = make(Op::Neg, {make(Op::Sqrt, {once})});
  tree = tree::kernel("k", {a, b}, {tree::loop(LoopKind::Loop, i, {tree::store(b, {i}, once)})});
  CHECK(tree::print(tree::parse(tree::print(tree))) == tree::print(tree));
}

TEST_CASE("[text limits] what a number is") {
  struct Row {
    const char *text, *says;  // "" if it is one
  };
  const Row rows[] = {
      {"0", ""},
      {"12", ""},
      {"1.5", ""},
      {"0.5", ""},
      {"1e3", ""},
      {"2e-3", ""},
      {"0x1p3", ""},
      {"0x1.8p-3", ""},
      {"010", "'010' is not a number"},
      {"00", "'00' is not a number"},
      {"0x10", "'0x10' is not a number"},
      {"0x", "'0x' is not a number"},
      {"1e", "'1e' is not a number"},
      {"1e+", "'1e+' is not a number"},
      {"0x1p", "'0x1p' is not a number"},
      {"1z", "'1z' is not a number"},
      {"9223372036854775808", "9223372036854775808"},
      {"1e999", "1e999"},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    const std::string text = error_of([&] { parse_expression(std::string("f32[2] + ") + row.text); });
    CHECK((row.says[0] == '\0' ? text == "" : text.find(row.says) != std::string::npos));
    const std::string of_tree = error_of([&] {
      const bool whole = std::string(row.text).find_first_of(".ep") == std::string::npos;
      tree::parse(kernel(whole ? std::string("f32(") + row.text + ")" : row.text));
    });
    CHECK((row.says[0] == '\0' ? of_tree == "" : of_tree.find(row.says) != std::string::npos));
  }
  CHECK(parse_expression("0x1p3 + 0 * i64[1]")->dtype == DType::F32);
  CHECK(const_float(*parse_expression("0x1p3")) == 8);
  CHECK(const_int(*parse_expression("-9223372036854775808")) == INT64_MIN);
  CHECK(error_of([] { parse_expression("f32[2] + 1_u8"); }).find("1_u8") != std::string::npos);
  CHECK(error_of([] { parse_expression("f32[010]"); }).find("'010' is not a number") != std::string::npos);
}

TEST_CASE("[text limits] indexes of an edited kernel that overflow wrap, and are found to lie outside") {
  for (const char* at : {"i * 9223372036854775807 * 3", "i + 9223372036854775807 + 9223372036854775807",
                         "(i - 9223372036854775807 - 1) // -1", "(i + 1) * -9223372036854775807 - i * 5"}) {
    INFO(at);
    const Ref tree = tree::parse(kernel(std::string("a[") + at + "]"));
    CHECK(!verify_tree(tree).empty());
  }
}
