// Nodes: interning, freeing, shapes.
#include "graph/index/index.h"
#include "graph/node.h"
#include "graph/shape.h"
#include "tests/catch.h"

using namespace kontor;

static Ref buffer(std::vector<int64_t> dims, DType dtype = DType::F32) {
  std::vector<Ref> shape;
  for (int64_t d : dims) shape.push_back(index(d));
  return make(Op::Buffer, shape, {.ints = {fresh_id(), 0}}, dtype);
}

TEST_CASE("[node] equal nodes are one node") {
  Ref x = buffer({2, 3});
  REQUIRE(make(Op::Add, {x, x}) == make(Op::Add, {x, x}));
  REQUIRE_FALSE(make(Op::Add, {x, x}) == make(Op::Mul, {x, x}));
  REQUIRE_FALSE(buffer({2, 3}) == x);
  REQUIRE(describe(*x) == "f32[2, 3]");
}

TEST_CASE("[node] a chain of a million nodes is freed without recursion") {
  size_t before = live_nodes();
  {
    Ref x = buffer({4});
    for (int i = 0; i < 1000000; i++) x = make(Op::Neg, {x});
    REQUIRE(live_nodes() >= before + 1000000);
  }
  REQUIRE(live_nodes() <= before + 1);  // the constant 4 may stay alive elsewhere
}

TEST_CASE("[node] sources that do not fit are refused") {
  REQUIRE_THROWS_AS(make(Op::Add, {buffer({2, 3}), buffer({3, 2})}), InternalError);
  REQUIRE_THROWS_AS(make(Op::Reshape, {buffer({2, 3}), index(7)}), InternalError);
}

TEST_CASE("[node] window and bounds") {
  Ref w = make(Op::Window, {buffer({1, 28})}, {.ints = {1, 1, 1, 5}});
  REQUIRE(static_shape(*w) == std::vector<int64_t>{1, 24, 5});
  Ref i = ix::range(8, "i");
  REQUIRE(ix::add(ix::mul(i, index(3)), index(2))->bounds == Bounds{2, 23});
  REQUIRE(ix::mod(i, index(8)) == i);
}
