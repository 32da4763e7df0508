// [bits] Fifty training steps of the MNIST network leave equal weights for AVX2 and AVX-512, for 1, 2, 3 threads, and
// stopped and resumed at step 20.
#include <kontor/kontor.h>

#include <cstdlib>
#include <functional>

#include "nn/dataset.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/project_root.h"
#include "tests/temporary_folder.h"

using namespace kontor;
namespace mp = kontor::marketplace;

namespace {

constexpr int64_t steps = 50, stop = 20, batch = 6;

/// A llvm device of one instruction set.
struct OnCpu {
  OnCpu(const char* cpu, int threads, uint64_t seed)
      : set(cpu), context({.device = "llvm", .threads = threads, .seed = seed}), use(context) {}
  struct Setting {
    explicit Setting(const char* cpu) { ::setenv("KONTOR_CPU", cpu, 1); }
    ~Setting() { ::unsetenv("KONTOR_CPU"); }
  } set;
  Context context;
  Context::Use use;
};

using Make = std::function<std::unique_ptr<nn::Trainer>(nn::MnistCnn&)>;

std::unique_ptr<nn::Trainer> backprop(nn::MnistCnn& net) {
  return std::make_unique<nn::BackpropTrainer>(nn::classification(net),
                                               std::make_unique<nn::Adam>(nn::parameters(net), 1e-3), 1e-3);
}

std::unique_ptr<nn::Trainer> vendors(nn::MnistCnn& net, mp::Plan plan, std::vector<int64_t> counts) {
  mp::Options options{.plan = plan, .groups = mp::mnist_groups(plan, counts)};
  return std::make_unique<mp::Trainer>(nn::parameters(net), nn::classification(net), options);
}

using Weights = std::vector<std::vector<float>>;

/// Trains up to `steps`, from the checkpoint if there is one; leaves one at `stop` if it starts from the beginning.
Weights train(const Dataset& data, const Make& make, const std::string& checkpoint, bool resumed) {
  const Sampler sampler{data.count, batch, 1, Sampling::Replacement};
  nn::MnistCnn net;
  const std::unique_ptr<nn::Trainer> trainer = make(net);
  if (resumed) trainer->load(checkpoint);
  while (trainer->steps() < steps) {
    const Batch b = gather(data, sampler.samples(trainer->steps()));
    trainer->step(Tensor::from(b.images, {batch, 1, 28, 28}), Tensor::from(b.labels));
    if (!resumed && trainer->steps() == stop) trainer->save(checkpoint);
  }
  Weights out;
  for (const nn::Parameter& p : nn::parameters(net)) out.push_back(p.tensor->to_vector<float>());
  return out;
}

/// Name of the first parameter that differs; "" if none does.
std::string difference(const Weights& a, const Weights& b) {
  nn::MnistCnn names;
  const std::vector<nn::Parameter> parameters = nn::parameters(names);
  for (size_t i = 0; i < a.size(); i++)
    if (a[i] != b[i]) return parameters[i].name;
  return "";
}

bool opens(const char* cpu) {
  return error_of([&] { OnCpu(cpu, 1, 0); }).empty();
}

void same_bits(const Make& make) {
  if (project_root().empty()) KONTOR_SKIP("the project's source, which has data/mnist-12k, is not here");
  if (!opens("native")) KONTOR_SKIP("the llvm device does not open here");
  const bool wide = opens("avx512");
  const Dataset data = load_mnist(project_root() + "/data/mnist-12k", Split::Test);
  TemporaryFolder folder;
  Weights first;
  for (const char* cpu : {"avx2", "avx512"}) {
    if (cpu == std::string("avx512") && !wide) continue;
    for (int threads : {1, 2, 3}) {
      OnCpu on(cpu, threads, 7);
      const Weights now = train(data, make, folder / "checkpoint.safetensors", false);
      if (first.empty()) first = now;
      INFO(cpu << ", " << threads << " threads");
      CHECK(difference(now, first) == "");
    }
    OnCpu on(wide && cpu == std::string("avx2") ? "avx512" : cpu, 2, 99);  // resumed on the other one
    INFO("stopped on " << cpu << " and resumed");
    CHECK(difference(train(data, make, folder / "checkpoint.safetensors", true), first) == "");
  }
  OnCpu on("native", 1, 7);
  nn::MnistCnn untrained;
  CHECK(first[0] != untrained.conv1.weight.to_vector<float>());
  if (!wide) KONTOR_SKIP("AVX2 only: the processor has no AVX-512");
}

}  // namespace

TEST_CASE("[bits] backprop with Adam") { same_bits(backprop); }

TEST_CASE("[bits] the star plan") {
  same_bits([](nn::MnistCnn& net) { return vendors(net, mp::Plan::Star, {2, 1, 2, 1, 3}); });
}

TEST_CASE("[bits] the full plan") {
  same_bits([](nn::MnistCnn& net) { return vendors(net, mp::Plan::Full, {2, 2, 2}); });
}
