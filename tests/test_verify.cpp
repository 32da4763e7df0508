// The verifiers: each rule has a graph or tree that breaks it, and says so; sound ones are silent.
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "codegen/tree/verify.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "graph/verify.h"
#include "tests/catch.h"
#include "tests/random_graph.h"

using namespace kontor;

namespace {

Ref buffer(std::vector<Ref> dims, DType dtype = DType::F32) {
  return make(Op::Buffer, std::move(dims), {.ints = {fresh_id(), 0}}, dtype);
}

std::string all(const std::vector<std::string>& mistakes) {
  std::string out;
  for (const std::string& m : mistakes) out += m + "\n";
  return out;
}

std::string wrong(const Ref& output) { return all(verify(make_graph({output}))); }

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

}  // namespace

TEST_CASE("[verify] what is wrong with a graph is said") {
  Ref x = buffer({index(2), index(2)});
  CHECK(wrong(make(Op::Neg, {x})).empty());
  CHECK_THAT(wrong(make(Op::Permute, {x}, {.ints = {0, 0}})),
             StartsWith("permute.order: permute f32[2, 2]: order 0, 0"));
  CHECK_THAT(wrong(make(Op::Flip, {x}, {.ints = {7}})), StartsWith("axes: flip f32[2, 2]: axes 7 of 2 axes"));
  CHECK_THAT(wrong(make(Op::Reduce, {x}, {.ints = {0, 1, 1}})), StartsWith("axes: reduce"));
  CHECK_THAT(wrong(make(Op::Window, {x}, {.ints = {0, 1, 0, 2}})), Contains("dilation or size is 0"));
  CHECK_THAT(wrong(make(Op::Shrink, {x, index(1), index(2), index(0), index(2)})),
             StartsWith("boxes: shrink f32[2, 2]: axis 0: 2 elements from 1 are not in 2"));
  CHECK_THAT(wrong(make(Op::Pad, {x, constant(DType::F32, 0.0), index(0), index(0), index(0), index(-1)})),
             Contains("source 5 is at most -1"));
  CHECK_THAT(wrong(make(Op::Const, {}, {.ints = {300}}, DType::U8)),
             StartsWith("constant: const u8[]: 300 is not"));
  CHECK_THAT(wrong(make(Op::Scalar, {}, {}, DType::F32)), StartsWith("identity: scalar"));
  CHECK_THAT(wrong(make(Op::Call, {x}, {})), StartsWith("call: call f32[2, 2]: has no name"));
  CHECK_THAT(wrong(ix::range(4, "i")), StartsWith("level: range i64[]: is an op of loop trees"));
  CHECK_THAT(wrong(buffer({constant(DType::F32, 2.0)})), Contains("dimensions: buffer"));
  Ref at = buffer({index(2)}, DType::I64);
  CHECK_THAT(wrong(make(Op::Scatter, {x, buffer({index(2), index(2)}), at}, {.ints = {99, 0}})),
             StartsWith("fold: scatter f32[2, 2]: names no fold"));
}

TEST_CASE("[verify] what is wrong with a graph's lists is said") {
  Ref x = buffer({index(2)}), y = buffer({index(3)});
  Graph g = make_graph({make(Op::Neg, {x})});
  g.inputs.clear();
  CHECK_THAT(all(verify(g)), StartsWith("inputs: a buffer is not among them"));
  g.inputs = {y};
  g.target = {0};
  CHECK_THAT(all(verify(g)), StartsWith("targets: output 0 is f32[2], its target f32[3]"));
  g.target = {5};
  CHECK_THAT(all(verify(g)), StartsWith("targets: output 0 goes to input 5 of 1"));
  CHECK_THROWS_AS(require_sound(g, "test"), InternalError);
}

TEST_CASE("[verify] what is wrong with a tree is said") {
  using namespace tree;
  auto dims = [](int64_t n) { return std::vector<Ref>{index(n)}; };
  Ref x = param(DType::F32, dims(8), 0, "x"), y = param(DType::F32, dims(8), 1, "y"),
      s = place(DType::F32, {}, "s", 0);
  Ref i = ix::range(8, "i"), j = ix::range(8, "j");
  auto wrong_in = [&](const std::vector<Ref>& body) { return all(verify_tree(kernel("k", {x, y}, body))); };
  auto over = [&](const Ref& range, std::vector<Ref> body, LoopKind kind = LoopKind::Loop,
                  int64_t width = 0) { return loop(kind, range, std::move(body), width); };
  Ref copy = store(y, {i}, load(x, {i}));
  CHECK(wrong_in({over(i, {copy})}).empty());
  CHECK_THAT(wrong_in({over(i, {store(y, {i}, load(x, {j}))})}),
             StartsWith("range: `j`: loop 'j' is not around"));
  CHECK_THAT(wrong_in({over(i, {fold(s, {}, {load(x, {i})})})}),
             StartsWith("declared: `s <- x[i]`: place 's' is not"));
  CHECK_THAT(wrong_in({over(i, {s}), over(j, {fold(s, {}, {load(x, {j})})})}), StartsWith("declared: "));
  CHECK_THAT(wrong_in({over(i, {store(y, {ix::add(i, 1)}, load(x, {i}))})}),
             StartsWith("bounds: `y[i + 1] = x[i]`: index 0 of 'y' is 8, outside 0..7 at i = 7"));
  CHECK(wrong_in({over(i, {store(y, {i}, load(x, {ix::add(i, 1)}, ix::lt(i, 7)))})}).empty());
  CHECK(wrong_in({over(i, {branch(ix::lt(i, 7), {store(y, {i}, load(x, {ix::add(i, 1)}))})})}).empty());
  CHECK_THAT(wrong_in({over(i, {branch(ix::lt(i, 7), {}, {store(y, {i}, load(x, {ix::add(i, 1)}))})})}),
             StartsWith("bounds: `x[i + 1]`"));
  CHECK_THAT(wrong_in({over(i, {over(j, {copy})})}),
             StartsWith("writer: `y[i] = x[i]`: writes one element in each iteration of 'j'"));
  const Ref at = tree::place(DType::I64, {}, "at", static_cast<int>(Fold::Sum));
  const auto to_place = [&](const Ref& step) {
    return wrong_in(
        {over(i, {at, fold(at, {}, {step}), store(y, {ix::mod(load(at, {}), 8)}, load(x, {i}))})});
  };
  CHECK_THAT(to_place(index(1)), StartsWith("writer: "));  // each iteration's is the same
  CHECK(to_place(i).find("writer: ") == std::string::npos);
  CHECK_THAT(wrong_in({over(i, {over(i, {copy})})}), StartsWith("loop: "));
  CHECK_THAT(wrong_in({over(i, {copy}, LoopKind::Vector, 3)}), Contains("has width 3"));
  CHECK_THAT(wrong_in({over(j, {over(i, {copy}, LoopKind::Thread)})}),
             Contains("is parallel inside a serial loop"));
  CHECK_THAT(wrong_in({over(j, {over(i, {copy}, LoopKind::Vector, 8)}, LoopKind::Vector, 8)}),
             Contains("is a vector loop in a vector loop"));
  CHECK_THAT(wrong_in({over(i, {make(Op::Store, {y, i, i, load(x, {i})})})}), StartsWith("rank: "));
  CHECK_THAT(wrong_in({over(i, {store(y, {i}, constant(DType::I32, int64_t{1}))})}),
             Contains("writes i32 to a place of f32"));
  CHECK_THAT(wrong_in({over(i, {fold(y, {i}, {load(x, {i})})})}), Contains("without a fold"));
  CHECK_THAT(wrong_in({over(i, {store(y, {load(x, {i})}, load(x, {i}))})}), StartsWith("index.dtype: "));
  CHECK_THAT(wrong_in({over(i, {branch(i, {copy})})}), Contains("its condition is not bool"));
  CHECK_THAT(wrong_in({check(ix::lt(index(0), index(1)), 0)}), Contains("id is below 1"));
  CHECK_THAT(wrong_in({over(i, {load(x, {i})})}), Contains("is a value where a statement belongs"));
  CHECK_THAT(wrong_in({over(i, {store(y, {i}, make(Op::Scalar, {}, {.ints = {1}}, DType::F32))})}),
             StartsWith("op: "));
  Ref p = place(DType::F32, {index(6)}, "p", 0);
  CHECK_THAT(wrong_in({p, store(y, {index(0)}, merge(p, {}))}), StartsWith("merge: "));
  CHECK_THAT(all(verify_tree(kernel("k", {y, x}, {}))), StartsWith("parameters: "));
  Ref n = slot(DType::I64, 0, {1, 9}), r = ix::range(n, "r");
  CHECK_THAT(wrong_in({over(r, {copy}, LoopKind::Unroll)}), Contains("extent is no constant"));
  Ref array = make(Op::Reshape, {constant(DType::F32, 1.0), index(1)});
  CHECK_THAT(wrong_in({over(i, {store(y, {i}, array)})}), Contains("reshape does not belong"));
  CHECK_THROWS_AS(require_sound_tree(kernel("k", {y, x}, {}), "test"), InternalError);
}

TEST_CASE("[verify] what the scheduler makes is sound") {
  for (uint64_t seed = 1; seed <= 150; seed++) {
    Case c = random_case(seed);
    REQUIRE(verify(c.graph).empty());
    for (const ScheduledKernel& k : schedule(c.graph, Target{.threads = 2}).kernels) {
      INFO("seed " << seed << "\n" << tree::print(k.tree));
      REQUIRE(all(verify_tree(k.tree)) == "");
    }
  }
}

TEST_CASE("[verify] each rule has a name of its own") {
  std::vector<std::string_view> names;
  for (const NodeCheck& c : graph_checks()) names.push_back(c.name);
  for (const TreeCheck& c : tree_checks()) names.push_back(c.name);
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
}
