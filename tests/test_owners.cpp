// Who owns a value: whether an assign may write over the memory of the one before, for each kind of owner.
#include <kontor/jit.h>

#include "graph/recording.h"
#include "runtime/storage.h"
#include "tests/catch.h"
#include "tests/on_device.h"

using namespace kontor;

static const void* address(const Tensor& t) { return version_of(*node_of(t)).memory->data(); }
static double first(const Tensor& t) { return t.mean().item<float>(); }

namespace {

/// What is held while `x` (1) becomes x + 1.
struct Held {
  std::vector<Tensor> tensors;
  double value = 1;  ///< of each of them afterwards
};

struct OwnerCase {
  const char* name;
  bool in_place;
  Held (*before)(Tensor& x, Tensor& alike);  ///< what is held before the assign
  Held (*after)(Tensor& x,
                Tensor& alike) = nullptr;  ///< and behind it; null: such a case is one for jit functions too
};

Held nobody(Tensor&, Tensor&) { return {}; }

const OwnerCase cases[] = {
    {"nobody", true, nobody},
    {"a copy of the Tensor", false, [](Tensor& x, Tensor&) { return Held{{x}, 1}; }},
    {"a copy that is gone", true, [](Tensor& x, Tensor&) { return Tensor(x), Held{}; }},
    {"an expression", false, [](Tensor& x, Tensor&) { return Held{{x * 3}, 3}; }},
    {"an expression of an expression", false, [](Tensor& x, Tensor&) { return Held{{x * 3 + 1}, 4}; }},
    {"an expression that is gone", true, [](Tensor& x, Tensor&) { return (x * 3 + 1), Held{}; }},
    {"an expression that was computed", true,
     [](Tensor& x, Tensor&) { return Held{{(x * 3).realize()}, 3}; }},
    {"a Tensor recorded alike", false, [](Tensor&, Tensor& alike) { return Held{{alike.realize()}, 1}; },
     nobody},
    {"an expression of the new value", true, nobody, [](Tensor& x, Tensor&) { return Held{{x * 3}, 6}; }},
    {"an expression of the new value, which is computed first", true, nobody,
     [](Tensor& x, Tensor&) {
       const Tensor y = x * 3, z = y + 1;
       return Tensor(y).realize(), Held{{z}, 7};
     }},
    {"a copy of the new value", true, nobody, [](Tensor& x, Tensor&) { return Held{{x}, 2}; }},
};

void check(const Held& held) {
  for (const Tensor& t : held.tensors) CHECK(first(t) == held.value);
}

}  // namespace

TEST_CASE("[runtime] owners: a value is written over exactly if nobody else can read it") {
  for (const char* device : {"interp", "llvm"}) {
    for (const OwnerCase& c : cases) {
      INFO(device << ": " << c.name);
      OnDevice on(device);
      Tensor x = Tensor::ones({64}), alike = Tensor::ones({64});
      x.realize();
      const void* place = address(x);
      const Held before = c.before(x, alike);
      x.assign(x + 1);
      const Held after = c.after ? c.after(x, alike) : Held{};
      x.realize();
      CHECK((address(x) == place) == c.in_place);
      CHECK(first(x) == 2);
      check(before);
      check(after);
    }
  }
}

TEST_CASE("[runtime] owners: the same of what a jit function assigns") {
  for (const char* device : {"interp", "llvm"}) {
    for (const OwnerCase& c : cases) {
      if (c.after) continue;
      INFO(device << ": " << c.name);
      OnDevice on(device);
      Tensor x = Tensor::zeros({64}).realize(), alike;
      auto step = jit([&] { x.assign(x + 1); });
      for (int i = 0; i < 3; ++i) step();
      x.assign(Tensor::ones({64}) * 1);
      x.realize();
      const void* place = address(x);
      const Held before = c.before(x, alike);
      step();
      CHECK((address(x) == place) == c.in_place);
      CHECK(first(x) == 2);
      check(before);
    }
  }
}
