// [devices] Values of one Context's device in the graphs of another's: copied where its kernels cannot use that memory.
#include <kontor/kontor.h>

#include <thread>

#include "graph/recording.h"
#include "runtime/storage.h"
#include "tests/catch.h"

using namespace kontor;

namespace {

using Floats = std::vector<float>;

constexpr const char* devices[] = {"interp", "llvm", "c", "opencl", "cuda"};

/// A Context of the device, or null where there is none.
std::unique_ptr<Context> open(const char* device) {
  try {
    return std::make_unique<Context>(ContextOptions{.device = device, .threads = 1});
  } catch (const Error&) {
    return nullptr;
  }
}

std::string device_of(const Tensor& t) {
  return std::string(version_of(*node_of(t)).memory->device().name());
}

void exchange(Context& first, Context& second) {
  Tensor x, w, y;
  {
    const Context::Use use(first);
    x = Tensor::from({1, 2, 3}, {3});
    w = Tensor::from({4, 5, 6}, {3});
  }
  const Context::Use use(second);
  y = Tensor::from({10, 20, 30}, {3});
  CHECK((x * y + w).to_vector<float>() == Floats{14, 45, 96});  // of both
  CHECK(device_of(x) == first.device());                        // where it was
  CHECK(x.to_vector<float>() == Floats{1, 2, 3});

  const Tensor kept = w * 1;
  w.assign(w + x);  // in the place of a value that lies elsewhere
  CHECK(w.to_vector<float>() == Floats{5, 7, 9});
  CHECK(kept.to_vector<float>() == Floats{4, 5, 6});

  auto step = jit([&](const Tensor& t) {
    w.assign(w + t);
    return w * 2;
  });
  for (const Floats& doubled : {Floats{12, 18, 24}, Floats{14, 22, 30}, Floats{16, 26, 36}})
    CHECK(step(x).to_vector<float>() == doubled);
  const Context::Use back(first);
  CHECK((w - x).to_vector<float>() == Floats{7, 11, 15});
  CHECK((y + x).sum().item<float>() == 66);
}

}  // namespace

TEST_CASE("[devices] values of both devices in one graph, assigned, and under jit") {
  int pairs = 0;
  for (const char* a : devices) {
    for (const char* b : devices) {
      const std::unique_ptr<Context> first = open(a), second = open(b);
      if (!first || !second) continue;
      INFO(a << " and " << b);
      exchange(*first, *second);
      pairs++;
    }
  }
  CHECK(pairs >= 4);
}

TEST_CASE("[devices] a graph of several kernels, each kept") {
  for (const char* device : devices) {
    const std::unique_ptr<Context> context = open(device);
    if (!context) continue;
    INFO(device);
    const Context::Use use(*context);
    const Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2});
    for (int i = 0; i < 2; ++i) {
      CHECK(x.matmul(x).matmul(x).sum(0).to_vector<float>() == Floats{118, 172});
      CHECK((x + 1).sum().item<float>() == 14);
    }
  }
}

TEST_CASE("[devices] a value outlives its Context") {
  for (const char* device : devices) {
    Tensor x;
    {
      const std::unique_ptr<Context> gone = open(device);
      if (!gone) continue;
      const Context::Use use(*gone);
      x = Tensor::from({1, 2, 3}, {3});
    }
    Context context({.device = "interp"});
    const Context::Use use(context);
    CHECK((x + 1).to_vector<float>() == Floats{2, 3, 4});
  }
}

TEST_CASE("[devices] a device computes in one thread while another copies its values away") {
  for (const char* device : devices) {
    const std::unique_ptr<Context> owner = open(device);
    if (!owner) continue;
    INFO(device);
    Tensor x;
    {
      const Context::Use use(*owner);
      x = Tensor::full({1000}, 2).realize();
    }
    std::thread busy([&] {
      const Context::Use use(*owner);
      Tensor sum = Tensor::zeros({1000}).realize();
      for (int i = 0; i < 200; ++i) sum.assign(sum + 1).realize();
    });
    Context context({.device = "interp", .threads = 1});
    const Context::Use use(context);
    for (int i = 0; i < 20; ++i) CHECK((x * i).sum().item<float>() == 2000.f * static_cast<float>(i));
    busy.join();
  }
}
