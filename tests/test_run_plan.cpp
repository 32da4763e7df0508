// [plan] finished schedules as text and on disk: they read back, a second start schedules nothing, and what is torn, foreign or
// wrong is made anew.
#include <kontor/functions.h>
#include <kontor/kontor.h>
#include <kontor/nn.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "base/file.h"
#include "graph/recording.h"
#include "runtime/context_state.h"
#include "runtime/run_plan.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace kontor;
namespace fs = std::filesystem;

namespace {

/// Another process's start: a Context with no memory of those before, and a cache on disk that stays.
class Starts {
 public:
  Starts() {
    const char* given = std::getenv("KONTOR_CACHE_DIR");
    if (given != nullptr) before_ = given;
    ::setenv("KONTOR_CACHE_DIR", folder_.path().c_str(), 1);
  }
  ~Starts() {
    if (before_.empty()) ::unsetenv("KONTOR_CACHE_DIR");
    else ::setenv("KONTOR_CACHE_DIR", before_.c_str(), 1);
  }

  struct Start {
    std::vector<float> values;
    Counters counters;
    std::vector<std::string> plans;
  };
  static Start start(const std::function<Tensor()>& program, int64_t budget = 0) {
    return start(program, {.memory_budget = budget});
  }
  static Start start(const std::function<Tensor()>& program, ContextOptions options) {
    options.device = "llvm", options.seed = 3;
    if (options.threads == 0) options.threads = 2;
    Context context(options);
    const Context::Use use(context);
    Start made;
    made.values = program().to_vector<float>();
    made.counters = context.counters();
    context.state().schedules.for_each(
        [&](const auto&, const auto& compiled) { made.plans.push_back(print(compiled->plan())); });
    return made;
  }

  std::vector<fs::path> schedules() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (entry.path().extension() == ".schedule") files.push_back(entry.path());
    return files;
  }
  const std::string& folder() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
  std::string before_;
};

Tensor layers() {
  const Tensor x = Tensor::uniform({64, 32}).realize(), w = Tensor::uniform({32, 48}).realize(),
               v = Tensor::uniform({48, 24}).realize();
  return x.matmul(w).tanh().matmul(v).relu();
}

Tensor steps() {
  nn::Linear layer(16, 4);
  nn::Adam adam(nn::parameters(layer), 0.01);
  const Tensor x = Tensor::uniform({8, 16});
  for (int i = 0; i < 3; i++) {
    const Tensor loss = (layer(x) * layer(x)).mean();
    adam.step(loss);
  }
  return layer(x);
}

Tensor sizes() {
  Variable n("n", 1, 100);
  n.set(37);
  const Tensor x = Tensor::arange(n).cast(DType::F32);
  return (x * 2 + 1).exp().sum() + x.cumsum(0).max();
}

Tensor picked() {
  const Tensor x = Tensor::uniform({40, 8});
  return x.take(Tensor::from(std::vector<int32_t>{3, 39, 0}), 0) + sort(x, 0).slice(0, 0, 3);
}

Tensor folded() {
  const CustomFold decay("plan_decay", {{"s", 3}}, [](std::span<const Tensor> s, std::span<const Tensor> v) {
    return std::vector{s[0] * 0.5 + v[0]};
  });
  return fold(decay, {Tensor::uniform({8, 70})}, 1)[0];
}

// Kernels of one form, that read what they differ in from slots.
Tensor constants() {
  const Tensor x = Tensor::uniform({32});
  Tensor sum = x;
  for (const double c : {-0.0, 0.25, -3.5, 1e30, 7.0}) sum = sum + (x + c).realize().exp().realize().min();
  return sum;
}

}  // namespace

TEST_CASE(
    "[plan] a second start has the bits of the first, schedules and compiles nothing, and its plans read back") {
  struct Row {
    const char* name;
    std::function<Tensor()> program;
    int64_t budget = 0;
  };
  const Row rows[] = {{"layers", layers}, {"pieces", layers, 4096}, {"steps", steps},        {"sizes", sizes},
                      {"picked", picked}, {"folded", folded},       {"constants", constants}};
  for (const auto& [name, program, budget] : rows) {
    INFO(name);
    const Starts starts;
    const auto cold = Starts::start(program, budget), warm = Starts::start(program, budget);
    CHECK(cold.counters.schedule_loads == 0);
    CHECK(cold.counters.schedules > 0);
    CHECK(warm.counters.schedules == cold.counters.schedules);
    CHECK(warm.counters.schedule_loads == warm.counters.schedules);
    CHECK(warm.counters.compiles == 0);
    CHECK(warm.counters.schedule_seconds == 0);
    CHECK(warm.counters.temporary_bytes == cold.counters.temporary_bytes);
    CHECK(std::ranges::equal(warm.values, cold.values, [](float a, float b) {
      return std::bit_cast<int>(a) == std::bit_cast<int>(b);
    }));
    for (const std::string& text : cold.plans) {
      INFO(text);
      CHECK(print(parse_run_plan(text)) == text);
      CHECK(std::ranges::count(warm.plans, text) > 0);
    }
  }
}

TEST_CASE("[plan] under another budget there is another schedule") {
  const Starts starts;
  (void)Starts::start(layers);
  const auto first = Starts::start(layers, 4096).counters, second = Starts::start(layers, 4096).counters;
  CHECK(first.schedule_loads == 0);
  CHECK(second.schedule_loads == second.schedules);
}

TEST_CASE(
    "[plan] with fast numerics there is another schedule; another number of threads takes what is there") {
  const Starts starts;
  const auto strict = Starts::start(layers), one = Starts::start(layers, {.threads = 1});
  CHECK(one.counters.schedule_loads == one.counters.schedules);
  CHECK(one.values == strict.values);
  const ContextOptions fast{.numerics = "fast"};
  const auto first = Starts::start(layers, fast).counters, second = Starts::start(layers, fast).counters;
  CHECK(first.schedule_loads == 0);
  CHECK(second.schedule_loads == second.schedules);
}

TEST_CASE("[plan] what a program's pass makes of a graph counts, and where it leaves the scalars") {
  const Starts starts;
  const auto difference = [] {
    const Scalar a(2.0), b(5.0);
    const Tensor x = Tensor::ones({3}).realize();
    return x * a - x * b;
  };
  const auto changed = [&](const MapValue& change) {
    Context::current().add_pass("own",
                                [change](std::span<const Tensor> out) { return map_values(out, change); });
    return difference();
  };
  const auto turned = [&] {
    return changed([](const Tensor&, const Operation& o) -> Tensor {
      return o.op == "sub" ? o.inputs[1] - o.inputs[0] : Tensor();
    });
  };
  const auto added = [&] {
    return changed([](const Tensor&, const Operation& o) -> Tensor {
      return o.op == "sub" ? o.inputs[0] + o.inputs[1] : Tensor();
    });
  };
  CHECK(Starts::start(difference).values == std::vector<float>(3, -3));
  CHECK(Starts::start(turned).values == std::vector<float>(3, 3));
  CHECK(Starts::start(added).values == std::vector<float>(3, 7));
  CHECK(Starts::start(turned).values == std::vector<float>(3, 3));
}

TEST_CASE("[plan] checks say from a plan that was read what they said from the one that was made") {
  const Starts starts;
  const auto refused = [] {
    const Tensor x = Tensor::uniform({5, 3});
    return x.take(Tensor::from(std::vector<int32_t>{3, 17}), 0);
  };
  std::vector<std::string> said;
  for (int i = 0; i < 2; i++) try {
      (void)Starts::start(refused);
    } catch (const Error& error) {
      said.push_back(error.what());
    }
  REQUIRE(said.size() == 2);
  CHECK(said[0] == said[1]);
  CHECK(said[0].find("17") != std::string::npos);
}

TEST_CASE("[plan] files on disk: each torn one and each with a byte flipped is ignored, and replaced") {
  const Starts starts;
  const auto program = [] { return Tensor::uniform({7, 5}).matmul(Tensor::uniform({5, 9})).sum(1); };
  const auto cold = Starts::start(program);
  const std::vector<fs::path> files = starts.schedules();
  REQUIRE(!files.empty());
  const fs::path file = files[0];
  const std::string good = read_file(file.string());
  Hash128 key;
  const std::string digits = file.stem().string();
  key.high = std::stoull(digits.substr(0, 16), nullptr, 16);
  key.low = std::stoull(digits.substr(16), nullptr, 16);
  const auto found = [&](const std::string& bytes) {
    replace_file(file.string(), bytes);
    fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
    return KernelCache({starts.folder()}).schedule(key).has_value();
  };
  REQUIRE(found(good));
  for (size_t n = 0; n < good.size(); n++) REQUIRE_FALSE(found(good.substr(0, n)));
  CHECK_FALSE(found(good + "x"));
  for (size_t i = 0; i < good.size(); i++) {
    std::string flipped = good;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
    REQUIRE_FALSE(found(flipped));
  }
  for (const size_t n : {size_t{0}, good.size() / 2, good.size() - 1}) {
    (void)found(good.substr(0, n));
    const auto torn = Starts::start(program);
    CHECK(torn.values == cold.values);
    CHECK(torn.counters.schedule_loads + 1 == torn.counters.schedules);
    CHECK(torn.counters.compiles == 0);
    const auto again = Starts::start(program);
    CHECK(again.counters.schedule_loads == again.counters.schedules);
  }
}

TEST_CASE("[plan] a kernel that has left the cache: the schedule is made anew, and the kernel") {
  const Starts starts;
  const auto cold = Starts::start(layers);
  for (const auto& entry : fs::directory_iterator(starts.folder()))
    if (entry.path().extension() == ".kernel") fs::remove(entry.path());
  const auto again = Starts::start(layers);
  CHECK(again.values == cold.values);
  CHECK(again.counters.schedule_loads == 0);
  CHECK(again.counters.compiles == cold.counters.compiles);
  CHECK(Starts::start(layers).counters.compiles == 0);
}

TEST_CASE(
    "[plan] texts with a valid checksum that are no plan, or none of the graph, are refused by an Error") {
  const Starts starts;
  const auto cold = Starts::start(layers, 4096);
  const auto longest =
      std::ranges::max_element(cold.plans, {}, [](const std::string& text) { return text.size(); });
  const std::string& good = *longest;
  const auto refused = [](const std::string& text) {
    try {
      (void)parse_run_plan(text);
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  size_t refusals = 0;
  for (size_t n = 0; n < good.size(); n++) refusals += refused(good.substr(0, n));  // a whole line less reads
  CHECK(refusals > good.size() / 2);
  refusals = 0;
  for (size_t i = 0; i < good.size(); i++)
    for (const char c : {' ', '9', '-', '$', 'x', '"', '\n', '\xff'}) {
      std::string changed = good;
      changed[i] = c;
      refusals += refused(changed);
    }
  CHECK(refusals > good.size());
}

TEST_CASE("[plan] a plan that is not of the graph is refused") {
  const Tensor x = Tensor::uniform({4, 3}).realize();
  const Graph graph = make_graph({node_of(x * 2)});
  const std::string head = "plan\n  arena 128\n",
                    buffers = "  buffer input 0 f32[4, 3]\n  buffer output 0 f32[4, 3]\n",
                    launch = "  launch \"00000000000000010000000000000002\" 1 buffers 0 1 operations 12\n";
  REQUIRE_NOTHROW(require_fits(parse_run_plan(head + buffers + launch), graph));
  const std::string stream = "  stream i 8 by 4, 0 to 0: $0 / 1\n";
  REQUIRE_NOTHROW(require_fits(parse_run_plan(head + buffers + stream + launch), graph));
  const std::string wrong[] = {
      head + launch,
      head + "  buffer input 1 f32[4, 3]\n  buffer output 0 f32[4, 3]\n" + launch,
      head + "  buffer input 0 f16[4, 3]\n  buffer output 0 f32[4, 3]\n" + launch,
      head + buffers + "  buffer output 0 f32[4, 3]\n" + launch,
      head + "  buffer input 0 f32[4, 3]\n  buffer output 0 f32[4, 3] in place\n" + launch,
      head + buffers + "  buffer temporary 64 f32[17]\n" + launch,
      head + buffers + "  buffer temporary 1 f32[1]\n" + launch,
      head + buffers + "  buffer temporary 0 f32[9223372036854775807]\n" + launch,
      head + buffers + "  slot $0 i64 1..9\n  buffer temporary 0 f32[$0]\n" + launch,
      head + buffers + "  launch \"00000000000000010000000000000002\" 1 buffers 0 2 operations 12\n",
      head + buffers + "  launch \"00000000000000010000000000000002\" 1 buffers 0 1 slots $0 operations 12\n",
      head + buffers + "  stream i 8 by 4, 0 to 1: $0 / 1\n" + launch,
      head + buffers + "  stream i 8 by 0, 0 to 0: $0 / 1\n" + launch,
      head + buffers + "  stream i 8 by 9, 0 to 0: $0 / 1\n" + launch,
      head + buffers + "  stream i 8 by 4, 0 to 0: $0 / 0\n" + launch,
      head + buffers + "  stream i 8 by 4, 0 to 0: $99999999 / 1\n" + launch,
  };
  for (const std::string& text : wrong) {
    INFO(text);
    CHECK_THROWS_AS(require_fits(parse_run_plan(text), graph), Error);
  }
  const Graph assigned = make_graph({node_of(x * 2)}, {node_of(x)});
  const std::string output_in_place = "  buffer input 0 f32[4, 3]\n  buffer output 0 f32[4, 3] in place\n",
                    input_in_place = "  buffer input 0 f32[4, 3] in place\n  buffer output 0 f32[4, 3]\n";
  REQUIRE_NOTHROW(require_fits(parse_run_plan(head + output_in_place + launch), assigned));
  CHECK_THROWS_AS(require_fits(parse_run_plan(head + input_in_place + launch), assigned), Error);
}
