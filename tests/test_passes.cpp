// [passes] A program's own passes over graphs: what they change, what is refused, and that keys and jit programs know of them.
#include <kontor/kontor.h>

#include <filesystem>

#include "base/file.h"
#include "graph/recording.h"
#include "runtime/inspect.h"
#include "runtime/passes.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/temporary_folder.h"

using namespace kontor;

namespace {

using Outputs = std::span<const Tensor>;

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// exp(x) is 2 x from here on.
std::vector<Tensor> no_exp(Outputs outputs) {
  return map_values(outputs, [](const Tensor&, const Operation& now) {
    return now.name == "exp" ? now.inputs[1] * 2 : Tensor();
  });
}

/// Every product is one more.
std::vector<Tensor> one_more(Outputs outputs) {
  return map_values(outputs, [](const Tensor&, const Operation& now) {
    return now.op == "mul" ? now.inputs[0] * now.inputs[1] + 1 : Tensor();
  });
}

std::vector<Tensor> as_it_is(Outputs outputs) { return {outputs.begin(), outputs.end()}; }

float first(const Tensor& t) { return t.to_vector<float>()[0]; }

}  // namespace

TEST_CASE("[passes] a program's pass replaces an op, in every graph from then on") {
  for (const char* device : {"interp", "llvm"}) {
    OnDevice on(device);
    const Tensor x = Tensor::full({8}, 3).realize(), five = Tensor::full({8}, 5).realize();
    CHECK(first(x.exp() + 1) > 20);
    on.context.add_pass("no_exp", no_exp);
    CHECK(first(x.exp() + 1) == 7);
    CHECK(first(x.exp()) == 6);
    CHECK(first((x * 2).exp().sum(0, true)) == 96);
    const uint64_t schedules = on.context.counters().schedules;
    CHECK(first(five.exp() + 1) == 11);
    CHECK(on.context.counters().schedules == schedules);  // it has the first one's
  }
}

TEST_CASE("[passes] passes run in the order in which they were added") {
  const auto after = [](std::vector<std::pair<std::string, Pass>> passes) {
    OnDevice on("interp");
    for (auto& [name, pass] : passes) on.context.add_pass(name, pass);
    return first(Tensor::full({4}, 3).realize().exp());
  };
  CHECK(after({{"no_exp", no_exp}, {"one_more", one_more}}) == 7);
  CHECK(after({{"one_more", one_more}, {"no_exp", no_exp}}) == 6);
}

TEST_CASE("[passes] a jit function is recorded again for a pass that came after, and assigns stay in place") {
  OnDevice on("llvm");
  Tensor w = Tensor::full({4}, 1).realize();
  auto step = jit([&](const Tensor& x) {
    w.assign(w + x.exp());
    return w * 2;
  });
  const Tensor x = Tensor::zeros({4}).realize(), two = Tensor::full({4}, 2).realize();
  for (int i = 0; i < 3; ++i) step(x);
  CHECK(first(w) == 4);
  on.context.add_pass("no_exp", no_exp);
  CHECK(first(step(x)) == 8);
  const uint64_t schedules = on.context.counters().schedules;
  CHECK(first(step(two)) == 16);
  CHECK(on.context.counters().schedules == schedules);
}

TEST_CASE("[passes] an output may become what is there already, or a constant") {
  OnDevice on("interp");
  const Tensor x = Tensor::full({4}, 3).realize();
  Tensor y = Tensor::full({4}, 5).realize();
  on.context.add_pass("input", [](Outputs outputs) -> std::vector<Tensor> {
    const Operation op = operation(outputs[0]);
    if (op.op == "sub") return {op.inputs[0]};
    if (op.op == "add") return {Tensor::full({4}, 9)};
    return as_it_is(outputs);
  });
  Tensor z = x - 1;
  CHECK(first(z) == 3);
  z.assign(z * 0);  // has memory of its own
  CHECK(first(z) == 0);
  CHECK(first(x) == 3);
  y.assign(y + 1);
  CHECK(first(y) == 9);
}

TEST_CASE("[passes] what an operation is") {
  const Tensor x = Tensor::full({4, 6}, 3).mark("weights");
  const Operation mark = operation(x), sum = operation(x.sum(1)), called = operation(x.softmax(1));
  CHECK((mark.op == "mark" && mark.name == "weights" && mark.inputs.size() == 1));
  CHECK((sum.op == "reduce" && sum.name == "sum" && sum.numbers == std::vector<int64_t>{1}));
  CHECK((called.op == "call" && called.name == "softmax" && called.inputs.size() == 2));
  CHECK(node_of(called.inputs[1]) == node_of(x));
  CHECK(error_of([] { operation(Tensor()); }) == "a Tensor without a value is used");
}

namespace {

struct Refused {
  const char* says;
  Pass pass;
};

}  // namespace

TEST_CASE("[passes] mistakes name the pass and the values, and compute nothing") {
  static const Tensor outside = Tensor::full({2, 3}, 1);
  const Refused refused[] = {
      {"pass 'own': it returns 0 values for 1 outputs", [](Outputs) { return std::vector<Tensor>(); }},
      {"pass 'own': output 0 is f32[2, 3], and it returns f32[3, 2]",
       [](Outputs o) { return std::vector<Tensor>{o[0].transpose(0, 1)}; }},
      {"pass 'own': output 0 is f32[2, 3], and it returns f16[2, 3]",
       [](Outputs o) { return std::vector<Tensor>{o[0].cast(DType::F16)}; }},
      {"pass 'own': add f32[2, 3] becomes f32[2]: a value keeps its dtype and shape",
       [](Outputs o) {
         return map_values(o, [](const Tensor&, const Operation& now) {
           return now.op == "add" ? now.inputs[0].sum(1) : Tensor();
         });
       }},
      {"pass 'own': a Tensor without a value is used", [](Outputs) { return std::vector<Tensor>(1); }},
      {"pass 'own': only operations are recorded here: nothing can be read, realized or assigned, or asked of the Context",
       [](Outputs o) { return std::vector<Tensor>{Tensor(o[0]).realize()}; }},
      {"pass 'own': only operations are recorded here: nothing can be read, realized or assigned, or asked of the Context",
       [](Outputs o) { return std::vector<Tensor>{o[0] + Tensor::from({1, 2, 3}, {3})}; }},
      {"pass 'own': it reads a scalar, u64[], that is none of the graph's: new values can only be computed from those there are",
       [](Outputs o) { return std::vector<Tensor>{o[0] + Tensor::uniform({2, 3})}; }},
      {"pass 'own': it reads a buffer, f32[2, 3], that is none of the graph's: new values can only be computed from those there are",
       [](Outputs o) { return std::vector<Tensor>{o[0] + outside}; }},
      {"pass 'own': add: f32[2, 3] x f32[4]: sizes 3 and 4 of axis -1 differ",
       [](Outputs o) { return std::vector<Tensor>{o[0] + Tensor::full({4}, 1)}; }},
      {"pass 'own': its own words",
       [](Outputs) -> std::vector<Tensor> { throw std::runtime_error("its own words"); }},
      {"pass 'own' throws something that is no std::exception",
       [](Outputs) -> std::vector<Tensor> { throw 1; }},
  };
  for (const Refused& r : refused) {
    OnDevice on("interp");
    const_cast<Tensor&>(outside).realize();
    const Tensor x = Tensor::full({2, 3}, 1).realize();
    on.context.add_pass("own", r.pass);
    const Tensor y = x + 1;
    CHECK(error_of([&] { y.to_vector<float>(); }) == r.says);
    auto step = jit([](const Tensor& t) { return t + 1; });
    CHECK(error_of([&] { step(x); }) == r.says);
    CHECK(first(x) == 1);
  }
  OnDevice on("interp");
  on.context.add_pass("own", as_it_is);
  CHECK(error_of([&] { on.context.add_pass("own", no_exp); }) == "add_pass: there is a pass 'own' already");
  CHECK(error_of([&] { on.context.add_pass("rules", no_exp); }) ==
        "add_pass: there is a pass 'rules' already");
  CHECK(error_of([&] { on.context.add_pass("", no_exp); }) == "add_pass: a pass without a name");
  CHECK(error_of([&] { on.context.add_pass("none", {}); }) == "add_pass: pass 'none' has no function");
}

TEST_CASE("[passes] the graph after each pass is text, by the pass's name") {
  const TemporaryFolder folder;
  setenv("KONTOR_DUMP", ("passes:" + folder / "dump").c_str(), 1);
  {
    OnDevice on("llvm");
    unsetenv("KONTOR_DUMP");
    on.context.add_pass("as_it_is", as_it_is);
    on.context.add_pass("no_exp", no_exp);
    CHECK(first(Tensor::full({8}, 3).realize().exp()) == 6);
  }
  { const OnDevice quiet("interp"); }  // what the environment says now
  std::string text;
  for (const auto& file : std::filesystem::directory_iterator(folder / "dump")) {
    CHECK(file.path().extension() == ".passes");
    const std::string one = read_file(file.path());
    if (contains(one, "\"exp\"")) text = one;
  }
  size_t at = 0;
  for (const char* part :
       {"== recorded\ngraph\n", "call f32[8] \"exp\"", "== as_it_is\nthe same\n", "== no_exp\ngraph\n",
        "mul f32[8]", "== rules\n", "== lower\nkernel ", "== layout\nlayout ", "== fuse\nstore ",
        "== stream\nstream none\n", "== build\nkernel ", "== moves\nmoves "}) {
    INFO(part);
    at = text.find(part, at);
    REQUIRE(at != std::string::npos);
  }
}
