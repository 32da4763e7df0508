// Depth: no recursion over a user's graph. Chains far longer than any stack is deep are recorded, differentiated, scheduled,
// run, printed and freed.
#include <kontor/kontor.h>

#include <cmath>
#include <functional>

#include "graph/graph.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "graph/transforms/batch.h"
#include "graph/transforms/incremental.h"
#include "graph/verify.h"
#include "tests/catch.h"
#include "tests/on_device.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

using Floats = std::vector<float>;

Tensor repeated(Tensor x, int64_t times, const std::function<Tensor(const Tensor&)>& step) {
  for (int64_t i = 0; i < times; i++) x = step(x);
  return x;
}

struct Step {
  const char* name;
  std::function<Tensor(const Tensor&)> of;
  double value;  // what each element has grown by a step, from 0
};

// Elementwise, movement, wrappers, indexed: one chain each.
const Step steps[] = {
    {"add", [](const Tensor& x) { return x + 1; }, 1},
    {"where", [](const Tensor& x) { return where(x < -1, x, x + 1); }, 1},
    {"mark", [](const Tensor& x) { return (x + 1).mark("m"); }, 1},
    {"cast", [](const Tensor& x) { return (x.cast(DType::F64) + 1).cast(DType::F32); }, 1},
    {"flip", [](const Tensor& x) { return x.flip() + 1; }, 1},
    {"transpose", [](const Tensor& x) { return x.reshape({2, 2}).transpose().reshape({4}) + 1; }, 1},
    {"roll", [](const Tensor& x) { return cat({x.slice(0, 1), x.slice(0, 0, 1)}) + 1; }, 1},
    {"shift", [](const Tensor& x) { return x.slice(0, 1).pad({0, 1}, 0) * 0 + x + 1; }, 1},
    {"put", [](const Tensor& x) { return (x + 1).put(0, 0, (x + 1).slice(0, 0, 1)); }, 1},
    {"take", [](const Tensor& x) { return x.take(Tensor::arange(4)) + 1; }, 1},
    {"fold", [](const Tensor& x) { return x + (x - x).max() + 1; }, 1},
};

}  // namespace

TEST_CASE("[depth] a chain of 1,000,000 nodes is recorded, differentiated, scheduled and run") {
  OnDevice on;
  const int64_t length = sanitized ? 50'000 : 1'000'000;
  Tensor x = Tensor::from({1, 2, 3, 4}, {4});
  Tensor y = repeated(x, length, [](const Tensor& t) { return t * 1.000001; });
  Tensor slope = gradient(y.sum(), {x})[0];
  Tensor* both[] = {&y, &slope};
  realize_all(std::span<Tensor* const>(both));
  float wanted = 1, c = 1.000001f;
  for (int64_t i = 0; i < length; i++) wanted *= c;
  CHECK(y.to_vector<float>()[0] == wanted);
  CHECK(slope.to_vector<float>() == Floats(4, wanted));
}

TEST_CASE("[depth] 3,000 tanh with their gradient") {
  OnDevice on;
  const int64_t length = thinned(3000);
  Tensor x = Tensor::from({0.25, -0.5}, {2});
  Tensor y = repeated(x, length, [](const Tensor& t) { return t.tanh(); });
  Tensor slope = gradient(y.sum(), {x})[0];
  Tensor* both[] = {&y, &slope};
  realize_all(std::span<Tensor* const>(both));
  CHECK(y.to_vector<float>()[0] == Approx(std::sqrt(1.5 / static_cast<double>(length))).epsilon(0.02));
  CHECK(slope.to_vector<float>()[0] > 0);
}

TEST_CASE("[depth] chains of every kind of node") {
  OnDevice on("interp");
  for (const Step& step : steps) {
    INFO(step.name);
    const int64_t length = thinned(2'000);
    Tensor x = Tensor::from({0, 0, 0, 0}, {4});
    Tensor y = repeated(x, length, step.of);
    const std::vector<Ref> outputs{node_of(y), node_of(gradient(y.sum(), {x})[0])};
    CHECK(parse_graph(print(make_graph(outputs))).outputs.size() == 2);
    const BatchedLeaf three{node_of(x), node_of(stack({x, x, x}))};
    CHECK(batch(outputs, std::span(&three, 1))[0]->rank() == 2);
    const Slab second{node_of(x), 0, index(1), node_of(Tensor::from({5.f}, {1}))};
    CHECK(incremental(outputs, std::span(&second, 1)).size() == 2);
    CHECK(y.to_vector<float>() == Floats(4, static_cast<float>(step.value * length)));
  }
}

TEST_CASE("[depth] a Tensor that is assigned many times before it is read") {
  OnDevice on("interp");
  Tensor x = Tensor::from({0, 1}, {2}), y = x;
  for (int i = 0; i < 20'000; i++) {
    x += 1;
    if (i == 10'000) y = x;
  }
  CHECK(x.to_vector<float>() == Floats{20'000, 20'001});
  CHECK(y.to_vector<float>() == Floats{10'001, 10'002});
  auto many = jit([](const Tensor& t) { return repeated(t, 5'000, [](const Tensor& u) { return u + 1; }); });
  CHECK(many(y).to_vector<float>() == Floats{15'001, 15'002});
}

TEST_CASE("[depth] a loss that is summed up over many steps") {
  OnDevice on("interp");
  const int64_t many = sanitized ? 1'000 : 20'000;
  Tensor x = Tensor::from({1., 2.}, {2}), w = Tensor::from({3., 5.}, {2});
  Tensor loss = Tensor::zeros({}, DType::F64);
  for (int64_t i = 0; i < many; i++)
    loss = loss + (x * w + i).sum();  // each of its own: equal ones are one node
  Tensor slope = gradient(loss, {w})[0];
  CHECK(loss.item<double>() == static_cast<double>(13 * many + many * (many - 1)));
  CHECK(slope.to_vector<double>() ==
        std::vector<double>{static_cast<double>(many), static_cast<double>(2 * many)});
}

TEST_CASE("[depth] long sums of many terms are cut into kernels of bounded length") {
  OnDevice on;
  std::vector<Tensor> terms;
  for (int i = 0; i < 5'000; i++) terms.push_back(Tensor::from({static_cast<float>(i % 7), 1}, {2}));
  while (terms.size() > 1) {  // a balanced tree: no path is long
    std::vector<Tensor> next;
    for (size_t i = 0; i + 1 < terms.size(); i += 2) next.push_back(terms[i] + terms[i + 1]);
    if (terms.size() % 2) next.push_back(terms.back());
    terms = next;
  }
  float wanted = 0;
  for (int i = 0; i < 5'000; i++) wanted += static_cast<float>(i % 7);
  CHECK(terms[0].to_vector<float>() == Floats{wanted, 5000});
}
