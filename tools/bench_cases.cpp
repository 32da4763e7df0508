// Cases of `kontor bench`: products, memory-bound work, training steps, and what the engine itself costs.
#include "tools/bench_cases.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include <kontor/functions.h>
#include <kontor/kontor.h>
#include <kontor/marketplace.h>
#include <kontor/nn.h>
#include <kontor/transformer.h>

#include "base/error.h"
#include "graph/functions/random.h"
#include "graph/recording.h"
#include "runtime/context_state.h"
#include "runtime/inspect.h"
#include "tools/gpt.h"
#include "tools/models.h"

namespace kontor::tools {

namespace {

using Run = std::function<void()>;
using Body = std::function<Tensor(std::span<const Tensor>)>;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Repeats until the budget's seconds are over, three times at least; the first two runs (recording, and the first
/// replay) don't count. `parts` divides each time.
Measured repeat(const Run& run, const Budget& budget, double parts = 1) {
  run(), run();
  std::vector<double> times;
  const double begin = now();
  while (times.size() < 3 || (now() - begin < budget.seconds && times.size() < 100'000)) {
    const double t = now();
    run();
    times.push_back((now() - t) / parts);
  }
  std::sort(times.begin(), times.end());
  const auto count = static_cast<double>(times.size());
  return {.value = times[times.size() / 2],
          .best = times.front(),
          .mean = std::accumulate(times.begin(), times.end(), 0.0) / count,
          .runs = static_cast<int64_t>(times.size())};
}

Measured once(double value) { return {.value = value, .best = value, .mean = value, .runs = 1}; }

/// One jit function on inputs that are made once.
Run functions_of(std::vector<Tensor> inputs,
                 std::function<std::vector<Tensor>(std::span<const Tensor>)> body) {
  for (Tensor& t : inputs) t.realize();
  auto function = jit(std::move(body));
  return [function, inputs]() mutable {
    function(inputs);
    Context::current().synchronise();
  };
}

Run function_of(std::vector<Tensor> inputs, Body body) {
  return functions_of(std::move(inputs),
                      [body](std::span<const Tensor> in) { return std::vector<Tensor>{body(in)}; });
}

BenchCase timed(std::string name, std::function<Run()> make) {
  return {std::move(name), [make](const Budget& budget) { return repeat(make(), budget); }};
}

/// Run once: bench/run.py times the whole process, from its start to the line that this prints.
BenchCase process(std::string name, std::function<Run()> make) {
  return {std::move(name), [make](const Budget&) {
            make()();
            return once(0);
          }};
}

// --- Products ---------------------------------------------------------------------------------------------------------

Run matmul(const Shape& a, const Shape& b, DType dtype = DType::F32) {
  return function_of({Tensor::normal(a).cast(dtype), Tensor::normal(b).cast(dtype)},
                     [](std::span<const Tensor> in) { return in[0].matmul(in[1]); });
}

/// Of bf16, in the promised order of arithmetic or the machine's.
BenchCase matmul_bf16(int64_t n, const std::string& numerics) {
  return {fmt::format("matmul_bf16_{}{}", n, numerics == "fast" ? "_fast" : ""), [=](const Budget& budget) {
            Context context({.device = {}, .threads = budget.threads, .seed = 1, .numerics = numerics});
            const Context::Use use(context);
            return repeat(matmul({n, n}, {n, n}, DType::BF16), budget);
          }};
}

struct Convolution {
  int64_t channels, out, size, kernel;
};
constexpr int64_t kBatch = 128;
constexpr Convolution kConvolutions[] = {{1, 32, 28, 5}, {32, 32, 24, 5}, {32, 64, 10, 3}, {64, 64, 8, 3}};

Run convolution(const Convolution& c) {
  return function_of({Tensor::normal({kBatch, c.channels, c.size, c.size}),
                      Tensor::normal({c.out, c.channels, c.kernel, c.kernel})},
                     [](std::span<const Tensor> in) { return in[0].conv2d(in[1]); });
}

/// The gradient with respect to input (0) or weight (1), given that of the output.
Run convolution_gradient(const Convolution& c, size_t wrt) {
  const int64_t out = c.size - c.kernel + 1;
  return function_of(
      {Tensor::normal({kBatch, c.channels, c.size, c.size}),
       Tensor::normal({c.out, c.channels, c.kernel, c.kernel}), Tensor::normal({kBatch, c.out, out, out})},
      [wrt](std::span<const Tensor> in) {
        return gradient((in[0].conv2d(in[1]) * in[2]).sum(), {in[wrt]})[0];
      });
}

/// Heads of attention in which a query sees what came before it, and (if `back`) the gradients of all three operands.
Run attention_of(const Shape& shape, bool back) {
  std::vector<Tensor> inputs;
  for (int i = 0; i < (back ? 4 : 3); ++i) inputs.push_back(Tensor::normal(shape));
  return functions_of(inputs, [back](std::span<const Tensor> in) -> std::vector<Tensor> {
    const Tensor out = nn::attention(in[0], in[1], in[2], {.causal = true});
    if (!back) return {out};
    std::vector<Tensor> all = gradient((out * in[3]).sum(), {in[0], in[1], in[2]});
    all.push_back(out);
    return all;
  });
}

// A matmul whose weights are perturbed for each of four vendors, as a step of Marketplace has it, beside the same with
// weights that are there already.
constexpr int64_t kVendors = 4, kIn = 1024, kOut = 1024;

Run perturbed(int64_t batch, std::function<Tensor(const Shape&)> noise) {
  return function_of({Tensor::normal({batch, kIn}), Tensor::normal({kIn, kOut})},
                     [noise](std::span<const Tensor> in) {
                       return in[0].matmul(in[1] + noise({kVendors, kIn, kOut}) * 1e-3);
                     });
}

Tensor uniform_noise(const Shape& shape) { return Tensor::uniform(shape, -1, 1); }

/// Plus or minus one, by one random bit each.
Tensor rademacher_noise(const Shape& shape) {
  Dims dims;
  int64_t count = 1;
  for (const Dim& d : shape) dims.push_back(index(d.value())), count *= d.value();
  RandomSource& source = random_source();
  const Ref counter = source.counter(index(count / 64));  // a block has 64 bits
  return tensor_of(fn::rademacher_at(source.key(), counter, dims, DType::F32));
}

std::vector<BenchCase> products() {
  std::vector<BenchCase> all;
  for (int64_t n : {1024, 2048}) {
    all.push_back(timed(fmt::format("matmul_{}", n), [n] { return matmul({n, n}, {n, n}); }));
    for (const char* numerics : {"strict", "fast"}) all.push_back(matmul_bf16(n, numerics));
  }
  for (int64_t n : {4096, 8192}) {
    all.push_back(timed(fmt::format("matmul_{}", n), [n] { return matmul({n, n}, {n, n}); }));
    all.push_back(matmul_bf16(n, "fast"));
  }
  int number = 0;
  for (const Convolution& c : kConvolutions) {
    const std::string name = fmt::format("conv{}", ++number);
    all.push_back(timed(name, [c] { return convolution(c); }));
    all.push_back(timed(name + "_dx", [c] { return convolution_gradient(c, 0); }));
    all.push_back(timed(name + "_dw", [c] { return convolution_gradient(c, 1); }));
  }
  for (int64_t batch : {512, 128}) {
    all.push_back(timed(fmt::format("vendors_{}", batch),
                        [batch] { return matmul({batch, kIn}, {kVendors, kIn, kOut}); }));
  }
  all.push_back(timed("perturbed_512", [] { return perturbed(512, uniform_noise); }));
  all.push_back(timed("perturbed_128", [] { return perturbed(128, rademacher_noise); }));
  all.push_back(timed("attention", [] { return attention_of({8, 1024, 64}, false); }));
  all.push_back(timed("attention_step", [] { return attention_of({8, 1024, 64}, true); }));
  return all;
}

// --- Memory-bound -----------------------------------------------------------------------------------------------------

BenchCase of_one(std::string name, const Shape& shape, std::function<Tensor(const Tensor&)> body) {
  return timed(std::move(name), [shape, body] {
    return function_of({Tensor::uniform(shape)}, [body](std::span<const Tensor> in) { return body(in[0]); });
  });
}

/// To a narrow dtype, and back to f32.
std::vector<BenchCase> conversions(int64_t elements) {
  std::vector<BenchCase> all;
  for (const DType narrow : {DType::BF16, DType::F16, DType::F8E4M3, DType::F8E5M2}) {
    all.push_back(of_one(fmt::format("to_{}", name(narrow)), {elements},
                         [narrow](const Tensor& x) { return x.cast(narrow); }));
    all.push_back(timed(fmt::format("from_{}", name(narrow)), [=] {
      return function_of({Tensor::uniform({elements}).cast(narrow)},
                         [](std::span<const Tensor> in) { return in[0].cast(DType::F32); });
    }));
  }
  return all;
}

std::vector<BenchCase> memory_bound() {
  constexpr int64_t large = int64_t{64} << 20;
  std::vector<BenchCase> all = conversions(large);
  std::vector<BenchCase> rest = {
      of_one("sum_64m", {large}, [](const Tensor& x) { return x.sum(); }),
      of_one("exp_64m", {large}, [](const Tensor& x) { return x.exp(); }),
      of_one("cumsum_64m", {large}, [](const Tensor& x) { return x.cumsum(0); }),
      of_one("sum_rows", {65536, 1024}, [](const Tensor& x) { return x.sum({0}); }),
      of_one("cumsum_rows", {65536, 1024}, [](const Tensor& x) { return x.cumsum(0); }),
      of_one("sort_1m", {1 << 20}, [](const Tensor& x) { return sort(x); }),
      of_one("sort_rows", {1024, 1024}, [](const Tensor& x) { return sort(x); }),
      of_one("topk_1m", {1 << 20},
             [](const Tensor& x) {
               const TopK top = topk(x, 100);
               return cat({top.values, top.indices.cast(DType::F32)});
             }),
      of_one("softmax", {16384, 4096}, [](const Tensor& x) { return x.softmax(); }),
      of_one("argmax", {16384, 4096}, [](const Tensor& x) { return x.argmax(1); }),
      of_one("argmax_long", {64, 1 << 20}, [](const Tensor& x) { return x.argmax(1); }),
      of_one("logsumexp", {16384, 4096}, [](const Tensor& x) { return x.logsumexp({1}); }),
      of_one("logsumexp_long", {64, 1 << 20}, [](const Tensor& x) { return x.logsumexp({1}); }),
      of_one("var", {16384, 4096}, [](const Tensor& x) { return x.var({1}); }),
      of_one("var_long", {64, 1 << 20}, [](const Tensor& x) { return x.var({1}); })};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

// --- Training ---------------------------------------------------------------------------------------------------------

/// A model with a trainer and one batch; the time of a step does not depend on what is in it.
struct Training {
  nn::MnistCnn model;
  std::unique_ptr<nn::Trainer> trainer;
  Tensor images, labels;

  Training(int64_t batch, const std::function<std::unique_ptr<nn::Trainer>(nn::MnistCnn&)>& make)
      : trainer(make(model)),
        images(Tensor::randint({batch, 1, 28, 28}, 0, 256, DType::U8).realize()),
        labels(Tensor::randint({batch}, 0, 10, DType::U8).realize()) {}
  void step() { trainer->step(images, labels); }
};

Run step_of(std::shared_ptr<Training> training) {
  return [training] { training->step(); };
}

Run backprop_step() {
  return step_of(std::make_shared<Training>(kBatch, [](nn::MnistCnn& model) {
    auto adam = std::make_unique<nn::Adam>(nn::parameters(model), 1e-3);
    return std::make_unique<nn::BackpropTrainer>(nn::classification(model), std::move(adam));
  }));
}

/// A step of a GPT by Adam, on one batch.
Run gpt_step_of(const GptShape& shape) {
  auto model = std::make_shared<nn::Gpt>(nn::GptOptions{.vocabulary = shape.vocabulary,
                                                        .context = shape.context,
                                                        .layers = shape.layers,
                                                        .width = shape.width,
                                                        .heads = shape.heads});
  auto trainer = std::make_shared<nn::BackpropTrainer>(
      nn::language_model(*model), std::make_unique<nn::Adam>(nn::parameters(*model), 1e-3));
  const auto tokens = [&] {
    return Tensor::randint({shape.batch, shape.context}, 0, shape.vocabulary, DType::U8).realize();
  };
  return [model, trainer, ids = tokens(), next = tokens()] {
    trainer->step(ids, next);
    Context::current().synchronise();
  };
}
/// A token of greedy generation, its weights of this dtype; the text begins anew where the context is full.
BenchCase token_of(std::string case_name, const GptShape& shape, DType dtype) {
  return timed(std::move(case_name), [=]() -> Run {
    auto model = std::make_shared<nn::Gpt>(nn::GptOptions{.vocabulary = shape.vocabulary,
                                                          .context = shape.context,
                                                          .layers = shape.layers,
                                                          .width = shape.width,
                                                          .heads = shape.heads,
                                                          .dtype = dtype});
    for (const nn::Parameter& p : nn::parameters(*model))
      if (p.tensor->rank() > 1) *p.tensor = p.tensor->cast(dtype).realize();
    auto generator = std::make_shared<nn::Generator>(*model, nn::Choice{.temperature = 0});
    return [model, generator, left = int64_t{0}, context = shape.context]() mutable {
      if (left == 0) {
        generator->restart();
        generator->read(0);
        left = context - 1;
      }
      generator->next();
      --left;
    };
  });
}

constexpr GptShape kSmallGpt{.layers = 2, .width = 128, .heads = 4, .context = 128, .batch = 8},
    kGpt{.layers = 6, .width = 384, .heads = 6, .context = 256, .batch = 8};

struct MarketCase {
  std::string name;
  marketplace::Plan plan;
  std::vector<int64_t> vendors;
  int64_t batch;
};

Run market_step(const MarketCase& c) {
  return step_of(std::make_shared<Training>(c.batch, [&c](nn::MnistCnn& model) {
    marketplace::Options options;
    options.plan = c.plan;
    options.groups = marketplace::mnist_groups(c.plan, c.vendors);
    return std::make_unique<marketplace::Trainer>(nn::parameters(model), nn::classification(model), options);
  }));
}

const MarketCase kMarkets[] = {
    {"v2_n8", marketplace::Plan::Full, {8, 8, 8}, 512},
    {"v2_n4", marketplace::Plan::Full, {4, 4, 4}, 512},
    {"star", marketplace::Plan::Star, {4, 4, 8, 16, 128}, 32},
    {"block_star", marketplace::Plan::BlockStar, {4, 2, 8, 8, 64}, 64},
};

std::vector<BenchCase> training() {
  std::vector<BenchCase> all = {timed("mnist_step", backprop_step), process("first_step", backprop_step)};
  all.push_back(timed("gpt_2", [] { return gpt_step_of(kSmallGpt); }));
  all.push_back(timed("gpt_6", [] { return gpt_step_of(kGpt); }));
  for (const char* name : {"first_gpt_6", "second_gpt_6"})
    all.push_back(process(name, [] { return gpt_step_of(kGpt); }));
  all.push_back(token_of("token", kGpt, DType::F32));
  all.push_back(token_of("token_bf16", kGpt, DType::BF16));
  for (const MarketCase& c : kMarkets) all.push_back(timed(c.name, [&c] { return market_step(c); }));
  all.push_back(process("first_v2_n8", [] { return market_step(kMarkets[0]); }));
  return all;
}

// --- The engine itself ------------------------------------------------------------------------------------------------

Run chain() {
  const auto body = [](std::span<const Tensor> in) {
    Tensor x = in[0];
    for (int i = 0; i < 64; ++i) x = x.matmul(in[1]);
    return x;
  };
  return function_of({Tensor::normal({16, 16}), Tensor::normal({16, 16})}, body);
}

/// Seconds a kernel: those of a replay by what it launches.
Measured replay(const Budget& budget) {
  const Run run = chain();
  run(), run();
  const uint64_t before = Context::current().counters().launches;
  run();
  const auto launches = static_cast<double>(Context::current().counters().launches - before);
  return repeat(run, budget, launches);
}

/// Seconds to schedule, render and compile a kernel of the training step, mean over its distinct ones, none of them found
/// in a cache.
Measured compile(const Budget& budget) {
  setenv("KONTOR_NO_CACHE", "1", 1);
  std::vector<double> each;
  const double begin = now();
  do {
    Context context({.device = {}, .threads = budget.threads, .seed = 1});
    const Context::Use use(context);
    backprop_step()();
    const Counters c = context.counters();
    each.push_back((c.schedule_seconds + c.render_seconds + c.compile_seconds) /
                   static_cast<double>(c.compiles));
  } while (now() - begin < budget.seconds);
  unsetenv("KONTOR_NO_CACHE");
  std::sort(each.begin(), each.end());
  return {.value = each[each.size() / 2], .best = each.front(), .mean = each[each.size() / 2], .runs = 1};
}

BenchCase scheduling(std::string name, std::string model) {
  return timed(std::move(name), [model]() -> Run {
    const std::optional<Graph> named = named_graph(model);
    if (!named) fail("bench: no model '{}'; there are {}", model, model_names());
    const auto graph = std::make_shared<Graph>(*named);
    const Target target = inspect::target_of(Context::current().device());
    return [graph, target] { schedule(*graph, target); };
  });
}

std::vector<BenchCase> engine() {
  return {{"replay_64", replay},
          {"compile_kernel", compile},
          scheduling("schedule_step", "mnist-cnn:step"),
          scheduling("schedule_star", "mnist-cnn:star"),
          scheduling("schedule_block_star", "mnist-cnn:block-star"),
          scheduling("schedule_gpt_2", "gpt:2x128"),
          scheduling("schedule_gpt_6", "gpt:6x384"),
          scheduling("schedule_gpt_12", "gpt:12x384")};
}

// --- Memory -----------------------------------------------------------------------------------------------------------

/// Bytes that the memory plan gives to temporaries: the most of all that was scheduled.
double planned_bytes() {
  int64_t most = 0;
  Context::current().state().schedules.for_each(
      [&](const auto&, const auto& schedule) { most = std::max(most, schedule->arena_bytes()); });
  return static_cast<double>(most);
}

double resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

// Planned bytes are those of steps that stream over their samples in pieces of as many as plain inference has, which this
// budget asks of them; resident ones those of a whole process under a budget of 32 MiB.
constexpr int64_t kPiece = 64, kSamples = 512, kPieceBudget = 8'900'000, kProcessBudget = 32 << 20;

void check_pieces() {
  Context::current().state().schedules.for_each([](const auto&, const auto& schedule) {
    for (const ScheduledStream& s : schedule->plan().streams)
      if (s.extent == kSamples && s.chunk != kPiece)
        fail("bench: a stream over {} samples has pieces of {}, not of {}", s.extent, s.chunk, kPiece);
  });
}

/// Two steps, then the planned bytes.
BenchCase planned(std::string name, std::function<Run()> make) {
  return {
      std::move(name), [make](const Budget& budget) {
        Context context({.device = {}, .threads = budget.threads, .seed = 1, .memory_budget = kPieceBudget});
        const Context::Use use(context);
        const Run run = make();
        run(), run();
        check_pieces();
        return once(planned_bytes());
      }};
}

/// Two steps, then the most that the process has had in memory: in a process of its own.
BenchCase resident(std::string name, std::function<Run()> make) {
  return {std::move(name), [make](const Budget& budget) {
            Context context(
                {.device = {}, .threads = budget.threads, .seed = 1, .memory_budget = kProcessBudget});
            const Context::Use use(context);
            const Run run = make();
            run(), run();
            return once(resident_bytes());
          }};
}

Run inference(int64_t samples) {
  auto model = std::make_shared<nn::MnistCnn>();
  Tensor images = Tensor::randint({samples, 1, 28, 28}, 0, 256, DType::U8).realize();
  auto function = jit([model](const Tensor& x) { return (*model)(x); });
  return [function, images]() mutable {
    function(images);
    Context::current().synchronise();
  };
}

std::vector<BenchCase> memories() {
  std::vector<BenchCase> all = {planned("plan_inference", [] { return inference(kPiece); }),
                                resident("rss_inference", [] { return inference(kSamples); })};
  for (int64_t n : {8, 16}) {
    const MarketCase c{"", marketplace::Plan::Full, {n, n, n}, kSamples};
    const auto step = [c] { return market_step(c); };
    all.push_back(planned(fmt::format("plan_v2_n{}", n), step));
    all.push_back(resident(fmt::format("rss_v2_n{}", n), step));
  }
  return all;
}

std::vector<BenchCase> make_cases() {
  std::vector<BenchCase> all;
  for (auto make : {products, memory_bound, training, engine, growth_cases, memories}) {
    for (BenchCase& c : make()) all.push_back(std::move(c));
  }
  return all;
}

}  // namespace

std::span<const BenchCase> bench_cases() {
  static const std::vector<BenchCase> table = make_cases();
  return table;
}

}  // namespace kontor::tools
