// What a jit function sees of Tensors outside of it: as the plain function would, call after call, or an Error.
#include <kontor/kontor.h>

#include "tests/catch.h"
#include "tests/errors.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

Tensor numbers(float first) { return Tensor::from(std::vector<float>{first, first + 1}, {2}); }

/// Counts how often its function runs, which a replay does not.
struct Counted {
  int runs = 0;
};

}  // namespace

TEST_CASE("[runtime] jit captures: = between calls is seen, whoever else holds the old value") {
  for (const bool keep : {false, true}) {
    for (const bool assigned : {false, true}) {
      INFO("the old value kept: " << keep << ", assigned before: " << assigned);
      Tensor w = numbers(1);
      if (assigned) w.assign(numbers(1));
      auto f = jit([&](const Tensor& x) { return x * w; });
      const Tensor x = numbers(10);
      CHECK(f(x).to_vector<float>() == std::vector<float>{10, 22});
      const Tensor old = keep ? w : Tensor();
      w = numbers(3);
      CHECK(f(x).to_vector<float>() == std::vector<float>{30, 44});
      w += 1;
      CHECK(f(x).to_vector<float>() == std::vector<float>{40, 55});
      w.assign(numbers(7));
      CHECK(f(x).to_vector<float>() == std::vector<float>{70, 88});
      if (keep) CHECK(old.to_vector<float>() == std::vector<float>{1, 2});
    }
  }
}

TEST_CASE("[runtime] jit captures: moves, swaps and containers are seen") {
  std::vector<Tensor> weights = {numbers(1), numbers(5)};
  Counted counted;
  auto f = jit([&] {
    counted.runs++;
    return weights[0] - weights[1];
  });
  CHECK(f().to_vector<float>() == std::vector<float>{-4, -4});
  std::swap(weights[0], weights[1]);
  CHECK(f().to_vector<float>() == std::vector<float>{4, 4});
  const Tensor last = weights.back();
  weights.pop_back();
  weights.push_back(numbers(0));
  CHECK(f().to_vector<float>() == std::vector<float>{5, 5});
  const int before = counted.runs;
  CHECK(f().to_vector<float>() == std::vector<float>{5, 5});
  CHECK(counted.runs == before);
}

TEST_CASE("[runtime] jit captures: copies taken and dropped elsewhere record nothing again") {
  Tensor w = numbers(1);
  Counted counted;
  auto f = jit([&](const Tensor& x) {
    counted.runs++;
    return x + w;
  });
  for (int i = 0; i < 5; ++i) {
    Tensor copy = w;
    copy = copy * 2;
    CHECK(f(numbers(1)).to_vector<float>() == std::vector<float>{2, 4});
  }
  CHECK(counted.runs <= 2);
}

TEST_CASE("[runtime] jit captures: what is compiled is not compiled again after =") {
  Tensor w = numbers(1);
  auto f = jit([&](const Tensor& x) { return x * w + 1; });
  const Tensor x = numbers(2).realize();
  f(x).to_vector<float>();
  w = numbers(4).realize();
  f(x).to_vector<float>();
  const uint64_t before = Context::current().counters().compiles;
  for (int i = 0; i < 4; ++i) {
    w = numbers(static_cast<float>(i)).realize();
    CHECK(f(x).to_vector<float>()[0] == 2 * static_cast<float>(i) + 1);
  }
  CHECK(Context::current().counters().compiles == before);
}

TEST_CASE("[runtime] jit captures: inside of the function, copies are its own") {
  Tensor w = numbers(1);
  auto f = jit([&](const Tensor& x) {
    Tensor h = w;
    for (int i = 0; i < 3; ++i) h = h + x;
    h += 1;
    Tensor moved = std::move(h);
    return moved;
  });
  for (int i = 0; i < 3; ++i) CHECK(f(numbers(10)).to_vector<float>() == std::vector<float>{32, 36});
  CHECK(w.to_vector<float>() == std::vector<float>{1, 2});
}

TEST_CASE("[runtime] jit captures: = and += on a Tensor from outside are refused while recording") {
  Tensor w = numbers(1), assigned = numbers(1), target = numbers(1);
  assigned.assign(numbers(1));
  const auto refused = [](auto f) { return error_of([&] { f(); }); };
  const std::string why = "jit: `=`, or an operator like +=, on a Tensor made outside";
  CHECK_THAT(refused(jit([&] { w = w * 2; })), Contains(why));
  CHECK_THAT(refused(jit([&] { w += 1; })), Contains(why));
  CHECK_THAT(refused(jit([&] { assigned -= 1; })), Contains(why));
  CHECK_THAT(refused(jit([&] {
               target.assign(target + 1);
               target = target * 2;
             })),
             Contains(why));
  CHECK_THAT(refused(jit([&] { std::swap(w, assigned); })), Contains("jit: "));
  CHECK_THAT(refused(jit([&] { Tensor taken = std::move(w); })),
             Contains("moves or destroys a Tensor made outside"));
}

TEST_CASE(
    "[runtime] jit captures: a value of one call left outside is refused, one that all calls share is not") {
  Tensor left, w = numbers(1);
  CHECK_THAT(error_of([&] { jit([&](const Tensor& x) { left = x * 2; })(w); }),
             Contains("jit: the function leaves f32[2] in a Tensor outside"));
  left = Tensor();
  CHECK_THAT(error_of([&] { jit([&] { left = w.sum(); })(); }), Contains("leaves f32[] in a Tensor outside"));
  left = Tensor();
  CHECK_THAT(error_of([&] { jit([&] { left = Tensor::uniform({3}); })(); }), Contains("leaves f32[3]"));
  left = Tensor();
  std::vector<Tensor> list;
  CHECK_THAT(error_of([&] { jit([&](const Tensor& x) { list.push_back(x + 1); })(w); }),
             Contains("leaves f32[2] in a Tensor outside"));
  Tensor cached;
  auto f = jit([&](const Tensor& x) {
    if (cached.empty()) cached = Tensor::arange(2).cast(DType::F32) * 3;
    return x + cached;
  });
  for (int i = 0; i < 3; ++i) CHECK(f(numbers(1)).to_vector<float>() == std::vector<float>{1, 5});
  CHECK(cached.to_vector<float>() == std::vector<float>{0, 3});
}

TEST_CASE("[runtime] jit captures: the plain function and the jit one agree through a random history") {
  // The same operations on two worlds, one of which calls its function through jit.
  struct World {
    std::vector<Tensor> weights = {numbers(1), numbers(2), numbers(3)};
    std::vector<Tensor> kept;
  };
  for (unsigned seed = 1; seed <= 40; ++seed) {
    World plain, other;
    auto body = [](World& world, const Tensor& x) {
      world.weights[1].assign(world.weights[1] * 0.5 + x);
      return world.weights[0] * x + world.weights[1] - world.weights[2];
    };
    auto f = jit([&](const Tensor& x) { return body(other, x); });
    unsigned random = seed;
    for (int i = 0; i < 12; ++i) {
      random = random * 1664525 + 1013904223;
      const unsigned what = random >> 28, which = (random >> 20) % 3;
      for (World* world : {&plain, &other}) {
        Tensor& w = world->weights[which];
        if (what < 3) w = numbers(static_cast<float>(i));
        else if (what < 5) w += 1;
        else if (what < 7) w.assign(w * 2);
        else if (what < 9) world->kept.push_back(w);
        else if (what < 10 && !world->kept.empty()) w = world->kept.front();
        else if (what < 11) std::swap(w, world->weights[(which + 1) % 3]);
      }
      const Tensor x = numbers(static_cast<float>(i % 4));
      INFO("seed " << seed << ", call " << i << ", last change " << what << " of " << which);
      CHECK(f(x).to_vector<float>() == body(plain, x).to_vector<float>());
    }
    for (size_t k = 0; k < plain.kept.size(); ++k)
      CHECK(plain.kept[k].to_vector<float>() == other.kept[k].to_vector<float>());
  }
}
