// Functions: the op table on interp, expressions, error texts, random numbers.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <string>

#include "backends/interp/evaluate_graph.h"
#include "base/file.h"
#include "base/threefry.h"
#include "graph/functions/functions.h"
#include "graph/graph.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/op_table.h"
#include "tests/project_root.h"

using namespace kontor;

static std::vector<Array> inputs_of(const OpCase& row, const Graph& g) {
  std::vector<Array> out;
  for (size_t i = 0; i < g.inputs.size(); i++) {
    Array a = Array::make(g.inputs[i]->dtype, static_shape(*g.inputs[i]));
    a.bytes = input_of(row, g, i);
    out.push_back(std::move(a));
  }
  return out;
}

static std::vector<int64_t> scalars_of(const Graph& g) {
  std::vector<int64_t> out;
  for (const Ref& s : g.scalars) out.push_back(s->op == Op::Scalar ? s->at(1) : s->at(2));
  return out;
}

TEST_CASE("[functions] every row of the op table evaluates") {
  for (const OpCase& row : op_table_thinned()) {
    INFO(row.name);
    Graph g = graph_of(row);
    Evaluation e = evaluate_graph(g, inputs_of(row, g), scalars_of(g));
    CHECK(e.error == "");
    CHECK(e.outputs[0].shape == static_shape(*g.outputs[0]));
  }
}

TEST_CASE("[functions] the op table has a row for every op of a graph and every function") {
  std::set<Op> ops;
  std::string text;
  for (const OpCase& row : op_table()) {
    Graph g = graph_of(row);
    for (const Node* n : topological(g.outputs)) ops.insert(n->op);
    text += std::string(row.expression) + "\n";
  }
  for (Op op : {Op::Variable, Op::Scatter, Op::Copy})
    ops.insert(op);  // by tests of symbols, gradients and devices
  ops.insert(Op::Not);
  for (int i = 0; i < op_count; i++) {
    Op op = static_cast<Op>(i);
    bool internal = is_statement(op) || row(op).group == OpClass::Value || op == Op::Range || op == Op::Slot;
    INFO(row(op).name);
    CHECK((internal || ops.count(op) == 1));
  }
  const std::string infix = "add sub mul div floor_div mod eq ne lt le gt ge bit_and bit_or bit_xor";
  for (const FunctionRow& f : functions()) {
    INFO(f.name);
    bool written = text.find(std::string(f.name) + "(") != std::string::npos;
    CHECK((written || (" " + infix + " ").find(" " + std::string(f.name) + " ") != std::string::npos));
  }
}

namespace {

Ref u64(uint64_t value) { return constant(DType::U64, static_cast<int64_t>(value)); }
Dims dims(std::vector<int64_t> shape) {
  Dims out;
  for (int64_t n : shape) out.push_back(index(n));
  return out;
}

template <class T>
std::vector<T> evaluate(const Ref& root) {
  Graph g = make_graph({root});
  Array a = evaluate_graph(g, {}, scalars_of(g)).outputs[0];
  std::vector<T> out(a.bytes.size() / sizeof(T));
  std::memcpy(out.data(), a.bytes.data(), a.bytes.size());
  return out;
}

}  // namespace

TEST_CASE("[functions] random words are those of the host's Threefry, across a carry of the counter") {
  const uint64_t key = 0x123456789ABCDEFull, counter = 0xFFFFFFFDull;
  std::vector<uint32_t> words = evaluate<uint32_t>(fn::random_words(u64(key), u64(counter), dims({3, 5})));
  std::vector<float> units =
      evaluate<float>(fn::uniform_at(u64(key), u64(counter), dims({15}), 0, 1, DType::F32));
  for (size_t e = 0; e < 15; e++) {
    REQUIRE(words[e] == random_word(key, counter, e));
    REQUIRE(units[e] == unit_float(words[e]));
  }
}

TEST_CASE("[functions] uniform of seed 123456 is the vector of the published implementation") {
  // shared/spec/marketplace.md 1.7 lays words out as all x0, then all x1, and gives block i the counter halves i, i + 3.
  const float published[] = {0.5452135801f, 0.2810745239f, 0.4398590326f,
                             0.6165577173f, 0.0470095873f, 0.5229370594f};
  for (uint32_t i = 0; i < 3; i++) {
    Ref counter = u64(i | uint64_t{i + 3} << 32);
    std::vector<float> pair =
        evaluate<float>(fn::uniform_at(u64(123456), counter, dims({2}), 0, 1, DType::F32));
    REQUIRE(pair[0] == published[i]);
    REQUIRE(pair[1] == published[i + 3]);
  }
}

TEST_CASE("[functions] normal numbers have their moments") {
  std::vector<float> x = evaluate<float>(fn::normal_at(u64(1), u64(0), dims({20001}), 3, 2, DType::F32));
  double mean = 0, square = 0, cube = 0;
  for (float v : x) mean += static_cast<double>(v) / static_cast<double>(x.size());
  for (float v : x) {
    double d = (static_cast<double>(v) - mean) / 2;
    square += d * d / static_cast<double>(x.size());
    cube += d * d * d / static_cast<double>(x.size());
  }
  REQUIRE(mean == Approx(3).margin(0.06));
  REQUIRE(square == Approx(1).margin(0.04));
  REQUIRE(cube == Approx(0).margin(0.08));
}

TEST_CASE("[functions] randint covers its range alike, and is the host's random_below") {
  std::vector<int64_t> x = evaluate<int64_t>(fn::randint(dims({6000}), -2, 4, DType::I64));
  std::vector<int> counts(6);
  for (int64_t v : x) {
    REQUIRE((v >= -2 && v < 4));
    counts[static_cast<size_t>(v + 2)]++;
  }
  for (int c : counts) REQUIRE(std::abs(c - 1000) < 150);
}

TEST_CASE("[functions] a permutation names each number once, and draws differ") {
  for (int64_t n : {1, 2, 7, 64, 1000}) {
    std::vector<int64_t> a = evaluate<int64_t>(fn::permutation(index(n), DType::I64)), sorted = a,
                         all(a.size());
    std::vector<int64_t> b = evaluate<int64_t>(fn::permutation(index(n), DType::I64));
    std::sort(sorted.begin(), sorted.end());
    std::iota(all.begin(), all.end(), 0);
    REQUIRE(sorted == all);
    if (n < 64) continue;
    REQUIRE(a != b);
    int64_t fixed = 0, rising = 0;
    for (size_t i = 0; i < a.size(); i++) fixed += a[i] == static_cast<int64_t>(i);
    for (size_t i = 1; i < a.size(); i++) rising += a[i] > a[i - 1];
    REQUIRE(fixed < 8);
    REQUIRE(std::abs(rising - n / 2) < n / 4);
  }
}

TEST_CASE("[functions] mistakes are named with their values") {
  struct Mistake {
    const char *expression, *message;
  };
  // clang-format off
  const Mistake mistakes[] = {
      {"matmul(f32[2, 3], f32[4, 5])", "matmul: f32[2, 3] x f32[4, 5]: inner sizes 3 and 4 differ"},
      {"matmul(f32[2, 3, 4], f32[3, 4, 5])", "matmul: f32[2, 3, 4] x f32[3, 4, 5]: leading sizes 2 and 3 differ"},
      {"f32[2, 3] + f32[2, 4]", "add: f32[2, 3] x f32[2, 4]: sizes 3 and 4 of axis -1 differ"},
      {"u8[3] + 300", "add: 300 does not fit in u8"},
      {"u32[3] + -1", "add: -1 does not fit in u32"},
      {"f32[3] & f32[3]", "bit_and: takes integers, not f32"},
      {"bool[3] - bool[3]", "sub: bool from bool; use bit_xor or logical_not"},
      {"neg(bool[3])", "neg: bool[3]: takes numbers"},
      {"sum(f32[2, 3], [2])", "sum: f32[2, 3]: no axis 2"},
      {"sum(f32[2, 3], [0, -2])", "sum: f32[2, 3]: an axis is named twice in (0, -2)"},
      {"max(f32[2, 0], [1])", "max: f32[2, 0]: axis 1 has no elements"},
      {"reshape(f32[2, 3], [4, 2])", "reshape: f32[2, 3] to [4, 2]: 6 elements become 8"},
      {"reshape(f32[2, 3], [4, -1])", "reshape: f32[2, 3] to [4, -1]: 6 elements become 4"},
      {"reshape(f32[2, 3], [-1, -1])", "reshape: f32[2, 3] to [-1, -1]: more than one -1"},
      {"permute(f32[2, 3], [0, 0])", "permute: f32[2, 3]: (0, 0) does not name each axis once"},
      {"expand(f32[2, 3], [2, 4])", "expand: f32[2, 3] to [2, 4]: only dimensions of 1 expand"},
      {"pad(f32[2], [1])", "pad: f32[2]: 1 numbers given, needs low and high of each axis"},
      {"pad(f32[2], [1, -1])", "pad: f32[2]: -1 is negative"},
      {"slice(f32[4], 0, 1, 3, 0)", "slice: f32[4]: a step of 0"},
      {"select(f32[4], 0, 4)", "select: f32[4]: no index 4 on axis 0"},
      {"squeeze(f32[4], [0])", "squeeze: f32[4]: axis 0 has not size 1"},
      {"window(f32[4], 0, 5)", "window: f32[4]: axis 0 is shorter than 5 taps at distance 1"},
      {"cat([f32[2, 3], f32[3, 3]], 1)", "cat: f32[2, 3] x f32[3, 3]: shapes differ elsewhere than on axis 1"},
      {"stack([f32[2], f32[3]])", "stack: f32[2] x f32[3]: shapes differ"},
      {"conv2d(f32[1, 3, 8, 8], f32[4, 2, 3, 3])", "conv2d: f32[1, 3, 8, 8] x f32[4, 2, 3, 3]: channels 3 and 2 x 1 groups differ"},
      {"conv2d(f32[3, 8, 8], f32[4, 3, 3, 3])", "conv2d: f32[3, 8, 8] x f32[4, 3, 3, 3]: needs x [n, c, h, w] and weight [o, c/groups, kh, kw]"},
      {"cross_entropy(f32[4, 10], f32[4])", "cross_entropy: f32[4, 10] by f32[4]: needs logits [.., classes] and integer labels [..]"},
      {"cross_entropy(f32[4, 10], i64[5])", "cross_entropy: f32[4, 10] by i64[5]: needs one label for each row"},
      {"layer_norm(f32[2, 3], 1, f32[2])", "layer_norm: f32[2, 3]: weight and bias are [2], not [3]"},
      {"take(f32[4], f32[2])", "take: f32[4] by f32[2]: indices are integers"},
      {"pick(f32[4, 5], i32[3])", "pick: f32[4, 5] by i32[3]: needs one index for each row"},
      {"put(f32[4, 5], 0, 1, f32[4])", "put: f32[4] into f32[4, 5] on axis 0: shapes differ elsewhere"},
      {"bitcast(f32[2], u8)", "bitcast: f32[2] to u8: 32 and 8 bits"},
      {"one_hot(f32[2], 3)", "one_hot: f32[2]: takes integers"},
      {"randint([3], 5, 5)", "randint: no integer in 5 .. 5"},
      {"uniform([3], 2, 1)", "uniform: from 2 to 1"},
      {"pow(i32[3], -1)", "pow: an integer to the power -1; cast to a float first"},
      {"softmax(f32[2, 3], 2)", "softmax: f32[2, 3]: no axis 2"},
      {"sofmax(f32[2])", "there is no function 'sofmax'; did you mean 'softmax'?"},
      {"softmax(f32[2], axes=0)", "softmax has no argument 'axes' (x, axis=-1)"},
      {"softmax()", "softmax: 'x' is missing (x, axis=-1)"},
      {"softmax(f32[2], 0, 1)", "softmax: 3 arguments, takes 2 (x, axis=-1)"},
      {"sum(f32[2], 0.5)", "sum: argument 2: needs whole numbers"},
      {"f32[2] +", "'end of text' is not expected"},
      {"f33[2]", "'f33' is no name, function or dtype"},
      {"", "empty"},
      {"f32[2] f32[3]", "nothing expected after the expression, not 'f32'"},
  };
  // clang-format on
  for (const Mistake& m : mistakes) {
    INFO(m.expression);
    CHECK(error_of([&] { parse_expression(m.expression); }) ==
          std::string("expression, line 1: ") + m.message);
  }
}

TEST_CASE("[functions] expressions: names, strength, defaults") {
  Ref x = parse_expression("x = f32[2, 3]; -x * 2 + x / (x - 1)");
  REQUIRE(x->op == Op::Add);
  REQUIRE(make_graph({x}).inputs.size() == 1);
  Ref y = parse_expression("softmax(matmul(f32[64, 512], f32[512, 512]), axis=0)");
  REQUIRE(y->arg.text == "softmax");
  REQUIRE(y->arg.ints == std::vector<int64_t>{0});
  REQUIRE(static_shape(*y) == std::vector<int64_t>{64, 512});
}

TEST_CASE("[functions] docs/functions.md is what the table says") {
  std::string root = project_root();
  if (root.empty()) KONTOR_SKIP("the project's source is not here");
  std::string path = root + "/docs/functions.md";
  if (std::getenv("KONTOR_UPDATE_GOLDEN")) write_file(path, functions_page());
  INFO("KONTOR_UPDATE_GOLDEN=1 renews docs/functions.md");
  CHECK(read_file(path) == functions_page());
}
