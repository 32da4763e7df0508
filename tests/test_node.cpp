// Nodes: interning, freeing, shapes.
#include <thread>
#include <unordered_map>

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
  REQUIRE_THROWS_AS(make(Op::Permute, {buffer({2, 3})}, {.ints = {0, 2}}), InternalError);
}

TEST_CASE("[node] window and bounds") {
  Ref w = make(Op::Window, {buffer({1, 28})}, {.ints = {1, 1, 1, 5}});
  REQUIRE(static_shape(*w) == std::vector<int64_t>{1, 24, 5});
  Ref i = ix::range(8, "i");
  REQUIRE(ix::add(ix::mul(i, index(3)), index(2))->bounds == Bounds{2, 23});
  REQUIRE(ix::mod(i, index(8)) == i);
}

TEST_CASE("[node] a NodeMap is a std::unordered_map that keeps the order of insertion") {
  std::vector<Ref> nodes = {buffer({4})};
  for (int i = 0; i < 3000; i++) nodes.push_back(make(i % 3 ? Op::Neg : Op::Sqrt, {nodes.back()}));
  NodeMap<std::string> map;
  NodeSet set;
  std::unordered_map<const Node*, std::string> wanted;
  std::vector<const Node*> order;
  for (size_t i = 0; i < 6000; i++) {
    const Node* n = nodes[i * i * 31 % nodes.size()].get();
    const std::string value = std::to_string(i);
    const bool is_new = wanted.emplace(n, value).second;
    if (is_new) order.push_back(n);
    REQUIRE(map.contains(n) != is_new);
    REQUIRE(set.insert(n) == is_new);
    REQUIRE(map.emplace(n, value).second == is_new);
    if (i % 7 == 0) map[n] = wanted[n] = "again";
  }
  REQUIRE(order.size() < nodes.size());
  REQUIRE(map.size() == wanted.size());
  for (const Ref& n : nodes) {
    const auto it = map.find(n.get());
    REQUIRE((it == map.end()) == !wanted.contains(n.get()));
    if (it != map.end()) REQUIRE(it->second == wanted.at(n.get()));
    else REQUIRE_THROWS_AS(map.at(n.get()), InternalError);
  }
  REQUIRE(std::vector<const Node*>(set.begin(), set.end()) == order);
  size_t at = 0;
  for (const auto& [node, value] : map) REQUIRE(node == order[at++]);
  map.clear();
  REQUIRE(map.find(order[0]) == map.end());
}

TEST_CASE("[runtime] walks of several threads over one graph see the same") {
  Ref x = buffer({4});
  for (int i = 0; i < 20000; i++) x = make(Op::Add, {x, make(Op::Neg, {x})});
  const std::vector<const Node*> wanted = topological(std::span(&x, 1));
  REQUIRE(wanted.size() == 40002);  // and the extent
  std::vector<std::thread> threads;
  std::atomic<int> same = 0;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&] {
      for (int i = 0; i < 10; i++) same += topological(std::span(&x, 1)) == wanted;
    });
  for (std::thread& t : threads) t.join();
  REQUIRE(same == 40);
}
