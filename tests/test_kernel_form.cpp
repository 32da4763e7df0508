// [form] kernels that share a program: a tree whose slots are numbered anew and whose constants are slots means the same.
#include "runtime/kernel_form.h"

#include <kontor/kontor.h>

#include <array>
#include <set>

#include "backends/interp/evaluate_tree.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "graph/recording.h"
#include "tests/catch.h"
#include "tests/on_device.h"
#include "tests/random_graph.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

void run_on(Backend& device, const Ref& kernel, std::span<void* const> buffers,
            std::span<const int64_t> scalars) {
  const KernelSource source = source_of(kernel, "entry", device);
  const std::unique_ptr<Program> program =
      device.load(source, device.compile(std::span(&source, 1), {}).at(0));
  const Node* parallel = tree::parallel_loop(*kernel);
  const int64_t shares = parallel ? extent(parallel->src[0]->src[0]) : 1;
  device.launch({.program = program.get(), .buffers = buffers, .scalars = scalars, .shares = shares}, {});
  device.synchronise();
}

/// Whether a device has all dtypes and ops of a tree.
bool renders(Backend& device, const Ref& kernel) {
  try {
    return !source_of(kernel, "entry", device).text.empty();
  } catch (const std::exception&) {
    return false;
  }
}

/// What the parameters hold after a run that starts from random values: on a device, or (null) interpreted.
std::vector<Array> results(Backend* device, const Ref& kernel, std::span<const int64_t> scalars) {
  std::vector<Array> memory;
  std::vector<void*> buffers;
  uint64_t seed = 7;
  for (const Ref& p : tree::params(*kernel)) {
    std::vector<int64_t> shape;
    for (const Ref& d : tree::dims(*p)) shape.push_back(extent(d));
    memory.push_back(random_array(p->dtype, shape, seed++));
  }
  for (Array& a : memory) buffers.push_back(a.bytes.data());
  if (device) run_on(*device, kernel, buffers, scalars);
  else evaluate_tree(kernel, buffers, scalars);
  return memory;
}

bool fixed_sizes(const Ref& kernel) {
  for (const Ref& p : tree::params(*kernel))
    for (const Ref& d : tree::dims(*p))
      if (!d->is_const()) return false;
  return true;
}

std::vector<int64_t> filled(const std::vector<SlotSource>& slots, std::span<const int64_t> scalars) {
  std::vector<int64_t> out;
  for (const SlotSource& s : slots)
    out.push_back(s.scalar >= 0 ? scalars[static_cast<size_t>(s.scalar)] : s.value);
  return out;
}

Context& now() { return Context::current(); }

/// Kernels compiled by what f does, each time for another i.
template <class F>
uint64_t compiles(int64_t times, const F& f) {
  const uint64_t before = now().counters().compiles;
  for (int64_t i = 0; i < times; i++) f(i);
  return now().counters().compiles - before;
}

}  // namespace

TEST_CASE("[form] a tree with all constants as slots means the same, on the interpreter and on LLVM") {
  Backend* llvm = device("llvm");
  constexpr Target target{.threads = 2};
  size_t lifted = 0, compiled = 0;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    const Graph graph = random_case(seed).graph;
    std::vector<int64_t> scalars;
    for (size_t i = 0; i < graph.scalars.size(); i++) scalars.push_back(static_cast<int64_t>(3 + i));
    for (const ScheduledKernel& k : schedule(graph, target).kernels) {
      if (!fixed_sizes(k.tree)) continue;
      const KernelForm form = form_of(k.tree);
      const std::vector<bool> all(form.constants.size(), true);
      const Ref tree = with_own_slots(k.tree, form, all);
      const std::vector<int64_t> slots = filled(slots_of(form, all), scalars);
      lifted += all.size();
      INFO("seed " << seed << "\n" << tree::print(k.tree) << tree::print(tree));
      const std::vector<Array> wanted = results(nullptr, k.tree, scalars);
      for (Backend* device : {static_cast<Backend*>(nullptr), llvm}) {
        if (device == llvm && (!llvm || all.empty() || seed > 100 || !renders(*llvm, k.tree))) continue;
        compiled += device == llvm;
        const std::vector<Array> got = results(device, tree, slots);
        for (size_t i = 0; i < wanted.size(); i++) REQUIRE(difference(got[i], wanted[i]) == "");
      }
    }
  }
  CHECK(lifted > 300);
  CHECK((!llvm || compiled > 50));
}

TEST_CASE("[form] trees that differ in what their form leaves open have equal keys, others have not") {
  const auto tree_of = [](const Tensor& t) {
    return schedule(make_graph({node_of(t)}), {.threads = 2}).kernels.at(0).tree;
  };
  OnDevice on("interp");
  const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {3, 2}).realize();
  const KernelForm a = form_of(tree_of(x * 3.5 + 1)), b = form_of(tree_of(x * 0.3 + 7));
  CHECK(a.key == b.key);
  CHECK(a.constants.size() == 2);
  CHECK(a.constants != b.constants);
  CHECK(form_of(tree_of(x[1])).key == form_of(tree_of(x[2])).key);
  std::set<std::string> keys;
  for (const Tensor& t : {x * 3.5, x + 3.5, x.slice(0, 0, 2) * 3.5, x.cast(DType::F64) * 3.5,
                          x.pad({0, 1, 0, 0}) * 3.5, x.slice(0, 0, 3, 2) * 3.5})
    keys.insert(form_of(tree_of(t)).key);
  CHECK(keys.size() == 6);
}

TEST_CASE("[form] constants that differ from graph to graph cost no compile") {
  for (const char* name : {"interp", "llvm"}) {
    OnDevice on(name);
    const Tensor x = Tensor::arange(200).reshape({50, 4}).cast(DType::F32).realize();
    std::vector<float> got, wanted;
    const auto keep = [&](const std::vector<float>& values) {
      got.insert(got.end(), values.begin(), values.end());
    };
    INFO(name);
    CHECK(compiles(50, [&](int64_t i) { keep(Tensor(x[i]).realize().to_vector<float>()); }) <= 3);
    CHECK(compiles(50, [&](int64_t i) { keep(x.slice(0, i, i + 1).realize().to_vector<float>()); }) <= 3);
    for (int repeat = 0; repeat < 2; repeat++)
      for (int j = 0; j < 200; j++) wanted.push_back(static_cast<float>(j));
    CHECK(compiles(50, [&](int64_t i) {
            const double c = static_cast<double>(i) + .5;
            keep((x[3] * c).realize().to_vector<float>());
            for (float v : {12.f, 13.f, 14.f, 15.f}) wanted.push_back(v * static_cast<float>(c));
          }) <= 3);
    CHECK(got == wanted);
    CHECK(compiles(50, [&](int64_t i) { Tensor::full({5}, static_cast<double>(i) + .5).realize(); }) <= 3);
    CHECK(compiles(50, [&](int64_t i) { (x.cast(DType::I32) + i).realize(); }) <= 3);
  }
}

TEST_CASE(
    "[form] constants that a rule takes away, and those that a kernel was built on, keep their meaning") {
  OnDevice on("llvm");
  const Tensor x = Tensor::from({1, -2, 3, 7}, {4}).realize();
  for (int c : {3, 2, 1, 0, -1, 4, 5}) {
    INFO(c);
    std::vector<float> wanted, modulo;
    for (float v : {1.f, -2.f, 3.f, 7.f}) {
      wanted.push_back(v * static_cast<float>(c) + static_cast<float>(c));
      const int n = static_cast<int>(v), d = c == 0 ? 1 : c;
      modulo.push_back(static_cast<float>(((n % d) + d) % d));
    }
    CHECK((x * c + c).to_vector<float>() == wanted);
    CHECK((x.cast(DType::I64) % (c == 0 ? 1 : c)).cast(DType::F32).to_vector<float>() == modulo);
  }
  for (int64_t n = 1; n <= 4; n++)
    CHECK(x.slice(0, 0, n).sum().item<float>() ==
          std::array{1.f, -1.f, 2.f, 9.f}[static_cast<size_t>(n - 1)]);
}

TEST_CASE("[form] draws, and outputs that differ in constants, share a program within one graph") {
  OnDevice on("llvm");
  CHECK(compiles(1, [](int64_t) {
          std::vector<Tensor> draws;
          for (int i = 0; i < 50; i++) draws.push_back(Tensor::uniform({5}));
          realize_all(draws);
          std::set<float> distinct;
          for (const Tensor& t : draws) distinct.insert(t.to_vector<float>()[2]);
          CHECK(distinct.size() == 50);
        }) == 1);
  const Tensor x = Tensor::from({1, 2, 3}, {3}).realize();
  CHECK(compiles(1, [&](int64_t) {
          std::vector<Tensor> all;
          for (int i = 0; i < 500; i++) all.push_back(x * i + 1);
          realize_all(all);
          for (int i = 0; i < 500; i += 7)
            REQUIRE(all[static_cast<size_t>(i)].to_vector<float>()[2] == static_cast<float>(3 * i + 1));
        }) <= 4);
}

TEST_CASE("[form] draws have the same numbers whether their kernels share a program or not") {
  std::vector<float> alone, together;
  for (int i = 0; i < 6; i++) {
    OnDevice on("llvm");
    now().set_random_counter(static_cast<uint64_t>(i));
    alone.push_back(Tensor::uniform({1}).item<float>());
  }
  OnDevice on("llvm");
  std::vector<Tensor> draws;
  for (int i = 0; i < 6; i++) draws.push_back(Tensor::uniform({1}));
  realize_all(draws);
  for (const Tensor& t : draws) together.push_back(t.item<float>());
  CHECK(alone == together);
}
