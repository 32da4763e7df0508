// [runtime] values and versions, replay, caches, threads, random numbers, errors: on the device 'interp' unless said.
#include <kontor/kontor.h>

#include <cstdlib>
#include <limits>
#include <numeric>
#include <thread>

#include "base/file.h"
#include "codegen/program/memory_plan.h"
#include "graph/recording.h"
#include "runtime/storage.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;

namespace {

/// A Context of its own for a test, current on this thread.
struct OnDevice {
  explicit OnDevice(const std::string& device = "interp", uint64_t seed = 0)
      : context({.device = device, .threads = 2, .seed = seed}), use(context) {}
  Context context;
  Context::Use use;
  Counters since(const Counters& before) const {
    Counters now = context.counters();
    now.schedules -= before.schedules;
    now.compiles -= before.compiles;
    now.launches -= before.launches;
    now.replays -= before.replays;
    return now;
  }
};

std::vector<float> floats(std::initializer_list<double> list) { return {list.begin(), list.end()}; }

const void* address(const Tensor& t) { return version_of(*node_of(t)).memory->data(); }

}  // namespace

TEST_CASE("[runtime] memory plan: what lives together never overlaps, what does not shares") {
  std::vector<Lifetime> lives;
  uint64_t state = 7;
  const auto next = [&](uint64_t bound) {
    return static_cast<int>((state = state * 6364136223846793005u + 1442695040888963407u) >> 33) %
           static_cast<int>(bound);
  };
  for (int i = 0; i < 200; ++i) {
    const int first = next(60);
    lives.push_back({next(5000) + 1, first, first + next(6)});
  }
  const MemoryPlan plan = plan_memory(lives);
  int64_t most = 0, total = 0;
  for (int k = 0; k < 70; ++k) {
    int64_t alive = 0;
    for (const Lifetime& l : lives) alive += l.first <= k && k <= l.last ? (l.bytes + 63) / 64 * 64 : 0;
    most = std::max(most, alive);
  }
  for (size_t i = 0; i < lives.size(); ++i) {
    total += lives[i].bytes;
    CHECK(plan.offset[i] % 64 == 0);
    CHECK(plan.offset[i] + lives[i].bytes <= plan.bytes);
    for (size_t j = 0; j < i; ++j) {
      const bool together = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
      const bool apart = plan.offset[i] + lives[i].bytes <= plan.offset[j] ||
                         plan.offset[j] + lives[j].bytes <= plan.offset[i];
      REQUIRE((!together || apart));
    }
  }
  CHECK(plan.bytes < most * 5 / 4);
  CHECK(plan.bytes < total / 4);
}

TEST_CASE("[runtime] values come back as they were given, and computed") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    const Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
    CHECK(x.to_vector<float>() == floats({1, 2, 3, 4, 5, 6}));
    CHECK((x * 2 + 1).sum(1).to_vector<float>() == floats({15, 33}));
    CHECK(x.sum().item<float>() == 21);
    CHECK(Tensor::full({2, 2}, 7).to_vector<float>() == floats({7, 7, 7, 7}));
    CHECK(Tensor::arange(4).to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3});
    CHECK(Tensor::zeros({0, 3}).to_vector<float>().empty());
    CHECK(x.transpose().to_vector<float>() == floats({1, 4, 2, 5, 3, 6}));
  }
}

TEST_CASE("[runtime] read: room of another size is refused") {
  OnDevice on;
  float out[2];
  CHECK(error_of([&] { Tensor::ones({3}).read(out, sizeof out); }) ==
        "read: f32[3] has 12 bytes, room for 8 was given");
  CHECK(error_of([&] { Tensor::ones({2}).item<float>(); }) == "item: the tensor has 2 elements");
}

TEST_CASE("[runtime] assign: what was recorded before keeps the old value") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    Tensor x = Tensor::from({1, 2, 3}, {3});
    const Tensor before = x + 10, copy = x;
    x.assign(x * 2);
    const Tensor after = x + 10;
    CHECK(x.to_vector<float>() == floats({2, 4, 6}));
    CHECK(before.to_vector<float>() == floats({11, 12, 13}));
    CHECK(copy.to_vector<float>() == floats({1, 2, 3}));
    CHECK(after.to_vector<float>() == floats({12, 14, 16}));
    x.assign(x + 1);
    x.assign(x * x);
    CHECK(x.to_vector<float>() == floats({9, 25, 49}));
    CHECK(after.to_vector<float>() == floats({12, 14, 16}));
  }
}

TEST_CASE("[runtime] assign: elements that other elements still read are not overwritten") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    std::vector<float> values(1000);
    std::iota(values.begin(), values.end(), 0.0f);
    Tensor x = Tensor::from(values, {1000});
    x.assign(x.flip(0));
    std::vector<float> flipped(values.rbegin(), values.rend());
    CHECK(x.to_vector<float>() == flipped);
    x.assign(x.reshape({10, 100}).transpose().reshape({1000}));
    const std::vector<float> turned = x.to_vector<float>();
    for (size_t i = 0; i < 1000; ++i) REQUIRE(turned[i] == flipped[(i % 10) * 100 + i / 10]);
  }
}

TEST_CASE("[runtime] assign: two tensors that swap their values") {
  OnDevice on("llvm");
  Tensor a = Tensor::from({1, 2}, {2}), b = Tensor::from({3, 4}, {2});
  const Tensor old = a;
  a.assign(b + 0);
  b.assign(old + 0);
  realize_all(std::vector<Tensor*>{&a, &b});
  CHECK(a.to_vector<float>() == floats({3, 4}));
  CHECK(b.to_vector<float>() == floats({1, 2}));
}

TEST_CASE("[runtime] assign: a long chain of pending assigns is computed, and dropped without recursion") {
  OnDevice on;
  Tensor x = Tensor::zeros({2});
  for (int i = 0; i < 50; ++i) x.assign(x + 1);
  CHECK(x.to_vector<float>() == floats({50, 50}));
  for (int i = 0; i < 200'000; ++i) x.assign(x + 1);
  x = Tensor();
}

TEST_CASE("[runtime] assign: shapes must agree, dtypes are cast") {
  OnDevice on;
  Tensor x = Tensor::zeros({2, 3});
  CHECK(error_of([&] { x.assign(Tensor::zeros({3})); }) == "assign: f32[2, 3] = f32[3]: shapes differ");
  x.assign(Tensor::full({2, 3}, 5, DType::I32));
  CHECK(x.dtype() == DType::F32);
  CHECK(x.sum().item<float>() == 30);
}

TEST_CASE("[runtime] assign: what reads the value before in another shape reads it before it is written") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    Tensor w = Tensor::full({1, 1}, 5.0);
    w.realize();
    const Tensor doubled = w * 2;
    Tensor before = w.reshape({1});
    w.assign(w + 1);
    Tensor y = before + doubled.reshape({1});
    realize_all(std::vector<Tensor*>{&y, &w});
    CHECK(y.item<float>() == 15);
    CHECK(w.item<float>() == 6);
  }
}

TEST_CASE("[runtime] assign: a put is written in place beside what reads it, and stores its own rows alone") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    Tensor keys = Tensor::zeros({1, 2, 32, 16});
    keys.realize();
    const void* place = address(keys);
    for (int64_t at : {0, 7, 31, 7}) {
      const Tensor row = Tensor::uniform({1, 2, 1, 16}), query = Tensor::uniform({1, 2, 1, 16});
      Tensor wanted = Tensor::from(keys.to_vector<float>(), {1, 2, 32, 16}).put(2, at, row) * 1;
      for (Tensor x : {wanted, row, query}) x.realize();
      keys.assign(keys.put(2, Scalar(at), row));
      Tensor scores = query.matmul(keys.permute({0, 1, 3, 2}));
      realize_all(std::vector<Tensor*>{&scores, &keys});
      CHECK(address(keys) == place);
      CHECK(keys.to_vector<float>() == wanted.to_vector<float>());
      CHECK(scores.to_vector<float>() == query.matmul(wanted.permute({0, 1, 3, 2})).to_vector<float>());
    }
  }
}

TEST_CASE("[runtime] assign: in place where nobody needs the old value, and the update allocates nothing") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    Tensor w = Tensor::ones({64}), m = Tensor::zeros({64}), v = Tensor::zeros({64});
    const Tensor g = Tensor::full({64}, 0.5);
    std::vector<Tensor*> all{&w, &m, &v};
    const auto step = [&] {
      m.assign(m * 0.9 + g * 0.1);
      v.assign(v * 0.99 + g * g * 0.01);
      w.assign(w - m / (v.sqrt() + 1e-8) * 0.01);
    };
    realize_all(all);
    step();
    realize_all(all);
    const void* places[] = {address(w), address(m), address(v)};
    const uint64_t live = on.context.counters().live_bytes;
    step();
    realize_all(all);
    CHECK(address(w) == places[0]);
    CHECK(address(m) == places[1]);
    CHECK(address(v) == places[2]);
    CHECK(on.context.counters().live_bytes == live);

    const Tensor kept = w * 1;  // needs the value of now
    step();
    realize_all(all);
    CHECK(address(w) != places[0]);
    CHECK(address(m) == places[1]);
    CHECK(kept.to_vector<float>()[0] != w.to_vector<float>()[0]);
  }
}

TEST_CASE("[runtime] realize takes along the pending assigns of what its graph reads") {
  OnDevice on;
  Tensor w = Tensor::full({4}, 2).realize();
  const Tensor loss = (w * w).sum();
  w.assign(w - w * 0.5);
  CHECK(loss.item<float>() == 16);
  const Counters before = on.context.counters();
  CHECK(w.to_vector<float>() == floats({1, 1, 1, 1}));
  CHECK(on.since(before).launches == 0);
}

TEST_CASE("[runtime] what was computed is not computed again") {
  OnDevice on;
  const Tensor x = Tensor::from({1, 2, 3, 4}, {4});
  Tensor y = (x * x).sum();
  const Tensor z = y + 1, again = (x * x).sum();
  y.realize();
  Counters before = on.context.counters();
  CHECK(again.item<float>() == 30);  // the same expression
  CHECK(on.since(before).launches == 0);
  before = on.context.counters();
  CHECK(z.item<float>() == 31);
  const Tensor copy = y;
  CHECK(copy.item<float>() == 30);
  CHECK(on.since(before).launches == 1);
}

TEST_CASE("[runtime] tensors recorded alike share memory until one is assigned to") {
  OnDevice on("llvm");
  Tensor a = Tensor::zeros({1000}), b = Tensor::zeros({1000}), c = Tensor::zeros({1000});
  realize_all(std::vector<Tensor*>{&a, &b});
  c.realize();
  CHECK(address(a) == address(b));
  CHECK(address(a) == address(c));
  a.assign(a + 1);
  b.assign(b + 2);
  realize_all(std::vector<Tensor*>{&a, &b});
  c.assign(c + 3);
  c.realize();
  CHECK(a.sum().item<float>() == 1000);
  CHECK(b.sum().item<float>() == 2000);
  CHECK(c.sum().item<float>() == 3000);
  CHECK(on.context.counters().live_bytes < 13'000);
}

TEST_CASE("[runtime] a copy of an assigned tensor goes its own way") {
  OnDevice on("llvm");
  Tensor a = Tensor::ones({4});
  a.assign(a + 1);
  Tensor b = a;
  b.assign(b * 10);
  a.assign(a * 3);
  CHECK(b.to_vector<float>() == floats({20, 20, 20, 20}));
  CHECK(a.to_vector<float>() == floats({6, 6, 6, 6}));
}

TEST_CASE("[runtime] a loop with a decaying Scalar schedules and compiles nothing after its second step") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    Tensor w = Tensor::full({8}, 1.0);
    Scalar rate(0.5);
    Counters before;
    float expected = 1;
    for (int step = 0; step < 20; ++step) {
      if (step == 2) before = on.context.counters();
      w.assign(w - w * rate);
      w.realize();
      expected = expected - expected * static_cast<float>(rate.value());
      rate.set(rate.value() * 0.9);
    }
    const Counters made = on.since(before);
    CHECK(made.schedules == 0);
    CHECK(made.compiles == 0);
    CHECK(made.replays == 18);
    CHECK(w.to_vector<float>()[3] == Approx(expected));
  }
}

TEST_CASE("[runtime] a Variable as a dimension: other sizes schedule and compile nothing") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    Variable n("n", 1, 100);
    auto sum = jit([&] { return Tensor::arange(n).sum(); });
    for (int64_t size : {10, 100, 1, 37}) {
      n.set(size);
      CHECK((Tensor::arange(n) * 2).to_vector<int64_t>().size() == static_cast<size_t>(size));
      CHECK((Tensor::arange(n) + Tensor::arange(n).sum() * 2).to_vector<int64_t>()[0] == size * (size - 1));
      CHECK(sum().item<int64_t>() == size * (size - 1) / 2);
    }
    CHECK(on.context.counters().schedules == 3);
    CHECK(on.context.counters().replays == 9);
  }
}

TEST_CASE("[runtime] equal kernels of different graphs share a program") {
  OnDevice on("llvm");
  const Tensor a = Tensor::from({1, 2, 3}, {3}), b = Tensor::from({4, 5, 6}, {3});
  CHECK((a + 1).to_vector<float>() == floats({2, 3, 4}));
  const Counters before = on.context.counters();
  CHECK((b + 1).to_vector<float>() == floats({5, 6, 7}));
  CHECK(on.since(before).schedules == 0);
  CHECK(on.since(before).compiles == 0);
}

TEST_CASE("[runtime] random tensors differ, whatever order they are realized in") {
  std::vector<float> first, second;
  for (bool reversed : {false, true}) {
    OnDevice on("interp", 3);
    const Tensor a = Tensor::uniform({5}), b = Tensor::uniform({5});
    if (reversed) b.to_vector<float>();
    const std::vector<float> x = a.to_vector<float>(), y = b.to_vector<float>();
    CHECK(x != y);
    if (reversed) {
      CHECK(x == first);
      CHECK(y == second);
    }
    first = x;
    second = y;
  }
  OnDevice on("interp", 4);
  CHECK(Tensor::uniform({5}).to_vector<float>() != first);
  const uint64_t counter = on.context.random_counter();
  const std::vector<float> third = Tensor::uniform({5}).to_vector<float>();
  on.context.set_random_counter(counter);
  CHECK(Tensor::uniform({5}).to_vector<float>() == third);
}

TEST_CASE("[runtime] several threads record and compute in one Context") {
  OnDevice on("llvm");
  const Tensor shared = Tensor::from({1, 2, 3, 4}, {4});
  std::vector<std::thread> threads;
  std::vector<double> sums(4, 0);
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Context::Use use(on.context);
      Tensor own = Tensor::zeros({4});
      for (int i = 0; i < 25; ++i) {
        own.assign(own + shared * static_cast<double>(t));
        if (i % 5 == 0) own.realize();
      }
      sums[t] = own.sum().item<double>();
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(sums == std::vector<double>{0, 250, 500, 750});
}

TEST_CASE("[runtime] jit: several threads call one function, the first time too") {
  OnDevice on("llvm");
  auto f = jit([](const Tensor& x, const auto&... more) { return ((x * 2) + ... + more); });
  std::vector<std::thread> threads;
  std::vector<float> sums(4, 0);
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Context::Use use(on.context);
      const Tensor x = Tensor::full({8}, static_cast<double>(t));
      for (int i = 0; i < 10; ++i) sums[t] += (i % 2 ? f(x, x) : f(x)).sum().template item<float>();
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(sums == floats({0, 200, 400, 600}));
}

TEST_CASE("[runtime] a failed check reaches the caller with what it says, once") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    const Tensor x = Tensor::from({1, 2, 3}, {3});
    const Tensor bad = x.take(Tensor::from(std::vector<int64_t>{0, 7}, {2}));
    CHECK(error_of([&] { bad.to_vector<float>(); }) == "take: index 7 is out of range for axis 0 of size 3");
    CHECK(bad.to_vector<float>() == floats({1, 0}));
    const Tensor ints = Tensor::from(std::vector<int64_t>{6, 8}, {2});
    Tensor divided = floor_div(ints, Tensor::from(std::vector<int64_t>{0, 2}, {2}));
    CHECK(error_of([&] { divided.realize(); }) == "integer division by zero");
    CHECK_NOTHROW(on.context.synchronise());
    CHECK(divided.to_vector<int64_t>() == std::vector<int64_t>{0, 4});
  }
}

TEST_CASE("[runtime] memory that cannot be had: the error names the size") {
  OnDevice on("llvm");
  CHECK(error_of([] { Tensor::zeros({int64_t{1} << 50}).realize(); }).find("4503599627370496 bytes") !=
        std::string::npos);
  CHECK(Tensor::ones({2}).sum().item<float>() == 2);  // nothing is broken by it
}

TEST_CASE("[runtime] freed memory is used again") {
  OnDevice on("llvm");
  const void* first = nullptr;
  for (int i = 0; i < 3; ++i) {
    Tensor x = Tensor::full({1000}, i).realize();
    if (i == 0) first = address(x);
    CHECK(address(x) == first);
  }
  CHECK(on.context.counters().peak_bytes < 10'000);
}

TEST_CASE("[runtime] jit: recorded once, replayed with other inputs and Scalars") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    int recorded = 0;
    Scalar scale(2.0);
    auto f = jit([&](const Tensor& x, const Tensor& y) {
      ++recorded;
      return x * scale + y;
    });
    for (int i = 0; i < 4; ++i) {
      scale.set(2.0 + i);
      const Tensor x = Tensor::full({3}, i), y = Tensor::from({1, 2, 3}, {3});
      const float fi = static_cast<float>(i), s = 2 + fi;
      CHECK(f(x, y).to_vector<float>() == std::vector<float>{fi * s + 1, fi * s + 2, fi * s + 3});
    }
    CHECK(recorded == 1);
    CHECK(f(Tensor::ones({2}), Tensor::zeros({2})).to_vector<float>() == floats({5, 5}));
    CHECK(recorded == 2);
  }
}

TEST_CASE("[runtime] jit: state goes on from call to call, and outside assigns are seen") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    Tensor w = Tensor::full({4}, 1.0), total = Tensor::zeros({});
    auto step = jit([&](const Tensor& x) {
      const Tensor loss = (w * x).sum();
      w.assign(w + x);
      total.assign(total + loss);
      return loss;
    });
    const Tensor x = Tensor::ones({4});
    CHECK(step(x).item<float>() == 4);
    CHECK(step(x).item<float>() == 8);
    const Counters before = on.context.counters();
    CHECK(step(x).item<float>() == 12);
    CHECK(step(x).item<float>() == 16);
    CHECK(on.since(before).schedules == 0);
    CHECK(on.since(before).compiles == 0);
    CHECK(on.context.counters().live_bytes == before.live_bytes);
    CHECK(w.to_vector<float>() == floats({5, 5, 5, 5}));
    CHECK(total.item<float>() == 40);

    const Tensor snapshot = w;
    const Tensor pending = w * 10;
    CHECK(step(x).item<float>() == 20);
    CHECK(snapshot.to_vector<float>() == floats({5, 5, 5, 5}));
    CHECK(pending.to_vector<float>() == floats({50, 50, 50, 50}));
    w.assign(Tensor::zeros({4}));
    CHECK(step(x).item<float>() == 0);
    CHECK(w.to_vector<float>() == floats({1, 1, 1, 1}));
    w = Tensor::full({4}, 3.0);
    CHECK(step(x).item<float>() == 12);
    CHECK(w.to_vector<float>() == floats({4, 4, 4, 4}));
  }
}

TEST_CASE("[runtime] jit: a function that only reads sees what another one assigns") {
  OnDevice on;
  Tensor w = Tensor::full({2}, 1.0);
  auto read = jit([&](const Tensor& x) { return w * x; });
  auto grow = jit([&] { w.assign(w * 2); });
  const Tensor one = Tensor::ones({2});
  for (float expected : {1.0f, 2.0f, 4.0f, 8.0f}) {
    CHECK(read(one).to_vector<float>() == std::vector<float>(2, expected));
    grow();
  }
  Tensor average = w;
  average.assign(average * 0);
  CHECK(read(one).to_vector<float>() == floats({16, 16}));
  grow();
  CHECK(read(one).to_vector<float>() == floats({32, 32}));
  CHECK(average.to_vector<float>() == floats({0, 0}));
}

TEST_CASE("[runtime] jit: a tensor and its snapshot part after the first call") {
  OnDevice on;
  Tensor w = Tensor::full({2}, 1.0).realize();
  const Tensor start = w;
  auto step = jit([&] {
    w.assign(w + 1);
    return w - start;
  });
  CHECK(step().to_vector<float>() == floats({1, 1}));
  CHECK(step().to_vector<float>() == floats({2, 2}));
  CHECK(step().to_vector<float>() == floats({3, 3}));
}

TEST_CASE("[runtime] jit: random draws go on as without it") {
  std::vector<std::vector<float>> plain, jitted;
  {
    OnDevice on("interp", 11);
    for (int i = 0; i < 3; ++i)
      plain.push_back((Tensor::uniform({6}) + Tensor::uniform({6})).to_vector<float>());
    plain.push_back(Tensor::uniform({6}).to_vector<float>());
  }
  OnDevice on("interp", 11);
  auto f = jit([] { return Tensor::uniform({6}) + Tensor::uniform({6}); });
  for (int i = 0; i < 3; ++i) jitted.push_back(f().to_vector<float>());
  jitted.push_back(Tensor::uniform({6}).to_vector<float>());
  CHECK(plain == jitted);
  CHECK(plain[0] != plain[1]);
}

TEST_CASE("[runtime] jit: state that the function makes at its first call is state") {
  OnDevice on;
  Tensor w = Tensor::zeros({2}), momentum;
  auto step = jit([&](const Tensor& g) {
    if (momentum.empty()) momentum = Tensor::zeros({2});
    momentum.assign(momentum * 0.5 + g);
    w.assign(w + momentum);
  });
  const Tensor g = Tensor::ones({2});
  for (int i = 0; i < 3; ++i) step(g);
  CHECK(momentum.to_vector<float>() == floats({1.75, 1.75}));
  CHECK(w.to_vector<float>() == floats({4.25, 4.25}));
}

TEST_CASE("[runtime] jit: an error inside leaves nothing half-done") {
  OnDevice on;
  Tensor w = Tensor::full({2}, 1.0);
  const uint64_t counter = on.context.random_counter();
  bool broken = true;
  auto step = jit([&](const Tensor& x) {
    w.assign(w + x + Tensor::uniform({2}) * 0);
    if (broken) throw std::runtime_error("stop");
    return w * 1;
  });
  CHECK_THROWS_AS(step(Tensor::ones({2})), std::runtime_error);
  CHECK(on.context.random_counter() == counter);
  CHECK(w.to_vector<float>() == floats({1, 1}));
  broken = false;
  CHECK(step(Tensor::ones({2})).to_vector<float>() == floats({2, 2}));
  CHECK(w.to_vector<float>() == floats({2, 2}));
}

TEST_CASE("[runtime] jit: reading a value while it records is refused") {
  OnDevice on;
  auto f = jit([](const Tensor& x) { return x + x.sum().item<float>(); });
  CHECK(error_of([&] { f(Tensor::ones({2})); }) ==
        "read: the value of f32[] is asked for while jit records a function; return it from the "
        "function instead");
  Tensor leaked;
  auto g = jit([&](const Tensor& x) {
    leaked = x + 1;
    return x;
  });
  CHECK_THROWS_AS(g(Tensor::ones({2})), Error);  // already where it is left behind
  CHECK_THROWS_AS(leaked.to_vector<float>(), Error);
  Scalar rate(1.0);
  auto h = jit([&](const Tensor& x) {
    const Tensor y = x * rate;
    rate.set(2.0);
    return y;
  });
  CHECK_THROWS_AS(h(Tensor::ones({2})), Error);
}

TEST_CASE("[runtime] jit: inputs, captured tensors and old values may be returned as they are") {
  OnDevice on;
  Tensor w = Tensor::full({2}, 1.0);
  auto f = jit([&](const Tensor& x) {
    const Tensor old = w;
    w.assign(w + x);
    return std::vector<Tensor>{x, old, w, x * 0};
  });
  for (int i = 0; i < 3; ++i) {
    const std::vector<Tensor> out = f(Tensor::ones({2}));
    const float fi = static_cast<float>(i);
    CHECK(out[0].to_vector<float>() == floats({1, 1}));
    CHECK(out[1].to_vector<float>() == floats({fi + 1, fi + 1}));
    CHECK(out[2].to_vector<float>() == floats({fi + 2, fi + 2}));
    CHECK(out[3].to_vector<float>() == floats({0, 0}));
  }
}

TEST_CASE("[runtime] jit: within another one it is part of it") {
  OnDevice on;
  auto twice = jit([](const Tensor& x) { return x * 2; });
  auto f = jit([&](const Tensor& x) { return twice(x) + 1; });
  CHECK(f(Tensor::ones({2})).to_vector<float>() == floats({3, 3}));
  CHECK(f(Tensor::full({2}, 4)).to_vector<float>() == floats({9, 9}));
  CHECK(twice(Tensor::ones({2})).to_vector<float>() == floats({2, 2}));
}

TEST_CASE("[runtime] jit: a function may outlive the Context it ran in") {
  auto f = jit([](const Tensor& x) { return x + 1; });
  Tensor kept;
  {
    OnDevice on("llvm");
    kept = f(Tensor::ones({2}));
  }
  OnDevice on("llvm");
  CHECK(f(Tensor::ones({2})).to_vector<float>() == floats({2, 2}));
  CHECK(kept.to_vector<float>() == floats({2, 2}));
}

TEST_CASE("[runtime] values move between Contexts") {
  Context other({.device = "llvm", .threads = 1});
  Tensor x;
  {
    Context::Use use(other);
    x = Tensor::from({1, 2, 3}, {3});
  }
  OnDevice on("interp");
  CHECK((x * 2).to_vector<float>() == floats({2, 4, 6}));
}

TEST_CASE("[runtime] a kernel cache that cannot be written is a warning, told once") {
  const TemporaryFolder folder;
  write_file(folder / "file", "no folder");
  const char* before = std::getenv("KONTOR_CACHE_DIR");
  const std::string kept = before != nullptr ? before : "";
  setenv("KONTOR_CACHE_DIR", (folder / "file/cache").c_str(), 1);
  {
    OnDevice on("llvm");
    CHECK((Tensor::ones({7}) * 3).sum().item<float>() == 21);
    const std::vector<std::string> warnings = on.context.take_warnings();
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find(folder / "file/cache") != std::string::npos);
    CHECK(on.context.take_warnings().empty());
  }
  kept.empty() ? unsetenv("KONTOR_CACHE_DIR") : setenv("KONTOR_CACHE_DIR", kept.c_str(), 1);
}

TEST_CASE("[runtime] a convolution's gradient adds no 0 * weight at the borders") {
  for (const char* device : {"interp", "llvm"}) {
    INFO(device);
    OnDevice on(device);
    const float inf = std::numeric_limits<float>::infinity();
    Tensor x = Tensor::ones({1, 1, 4, 4}).realize(),
           w = Tensor::from(std::vector<float>{inf, 2, 3, 4}, {1, 1, 2, 2});
    const std::vector<float> d = gradient(x.conv2d(w).sum(), {x})[0].to_vector<float>();
    CHECK(d == std::vector<float>{inf, inf, inf, 2, inf, inf, inf, 6, inf, inf, inf, 6, 3, 7, 7, 4});
  }
}

TEST_CASE("[runtime] an unknown device is named, with those there are") {
  CHECK_THROWS_AS(Context({.device = "abacus"}), Error);
}
