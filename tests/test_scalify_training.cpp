// [scalify] Training with the pass: without rounding it changes no bit of loss, weights and optimiser state; with f16 and f8 no bit
// depends on what the loss is multiplied by; static scales leave nothing to compute when it runs.
#include <kontor/kontor.h>
#include <kontor/transformer.h>

#include <bit>
#include <cmath>
#include <map>

#include "graph/recording.h"
#include "graph/shape.h"
#include "scalify/loss.h"
#include "scalify/placement.h"
#include "tests/catch.h"
#include "tests/on_device.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

using scalify::Casting;

constexpr Casting none{}, fp16{DType::F16, DType::F16, DType::F16},
    fp8{DType::F8E4M3, DType::F8E5M2, DType::F16};

/// The objective with the parameters at the scales that they have now.
nn::Objective scaled(nn::Objective objective, const std::vector<nn::Parameter>& parameters,
                     const Casting& casting) {
  std::vector<std::pair<Tensor*, int64_t>> exponents;
  for (const nn::Parameter& p : parameters)
    if (p.trained) exponents.emplace_back(p.tensor, scalify::exponent_of(*p.tensor));
  return [objective, exponents, casting](const Tensor& x, const Tensor& labels) -> nn::Score {
    nn::Score score = objective(x, labels);
    std::vector<scalify::LeafScale> leaves;
    for (const auto& [tensor, exponent] : exponents) leaves.push_back({*tensor, exponent});
    if (!score.accuracy.empty()) score.accuracy = scalify::with_scales(score.accuracy, leaves);
    return {scalify::scaled_loss(score.loss, leaves, casting), score.accuracy};
  };
}

struct Mlp {
  nn::Linear first{20, 32}, second{32, 5};
  Tensor operator()(const Tensor& x) const { return second(first(x).gelu()); }
  template <class V>
  void walk(V& visit) {
    visit("first", first), visit("second", second);
  }
};

struct Recurrent {
  nn::LSTM lstm{6, 16};
  nn::Linear last{16, 5};
  Tensor operator()(const Tensor& x) const { return last(lstm(x).outputs.select(1, -1)); }
  template <class V>
  void walk(V& visit) {
    visit("lstm", lstm), visit("last", last);
  }
};

struct Batch {
  Tensor x, labels;
};
Batch numbers(const Shape& shape, int64_t count, int64_t classes) {
  return {Tensor::normal(shape).realize(), Tensor::randint({count}, 0, classes).realize()};
}

struct How {
  const Casting* casting = nullptr;  ///< null: without the pass
  double loss_scale = 1;
  double clip = 0;
};

/// Every loss, then all parameters, statistics and optimiser states, as numbers, after some steps.
template <class Model, class MakeBatch, class MakeObjective>
std::vector<float> trained(const How& how, int steps, MakeBatch batch, MakeObjective objective_of,
                           Model model = {}) {
  Context::current().seed(7);
  const std::vector<nn::Parameter> parameters = nn::parameters(model);
  nn::Objective objective = objective_of(model);
  for (const nn::Parameter& p : parameters) {  // the same weights for all, whatever was drawn before
    *p.tensor =
        p.tensor->rank() > 1 ? Tensor::normal(p.tensor->dims(), 0, 0.1) : Tensor::full(p.tensor->dims(), 0.5);
    p.tensor->realize();
  }
  if (how.casting) objective = scaled(objective, parameters, *how.casting);
  auto adam = std::make_unique<nn::AdamW>(nn::decay_groups(parameters, 0.1), 3e-3);
  if (how.loss_scale != 1) adam->scale_loss(how.loss_scale);
  adam->clip(how.clip);
  nn::BackpropTrainer trainer(objective, std::move(adam));
  std::vector<float> out;
  for (int i = 0; i < steps; ++i) {
    const Batch b = batch();
    out.push_back(static_cast<float>(trainer.step(b.x, b.labels).loss));
  }
  nn::Optimizer& optimizer = trainer.optimizer();
  for (const auto& part : {optimizer.parameters(), optimizer.statistics(), optimizer.state()})
    for (const nn::Parameter& p : part) {
      const std::vector<float> values = p.tensor->to_vector<float>();
      out.insert(out.end(), values.begin(), values.end());
    }
  return out;
}

size_t differences(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return a.size() + b.size();
  size_t count = 0;
  for (size_t i = 0; i < a.size(); ++i)
    count += std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]);
  return count;
}

std::vector<float> mlp(const How& how, int steps) {
  return trained<Mlp>(
      how, steps, [] { return numbers({16, 20}, 16, 5); }, [](Mlp& m) { return nn::classification(m); });
}
std::vector<float> cnn(const How& how, int steps) {
  return trained<nn::MnistCnn>(
      how, steps, [] { return numbers({4, 1, 28, 28}, 4, 10); },
      [](nn::MnistCnn& m) { return nn::classification(m); });
}
std::vector<float> lstm(const How& how, int steps) {
  return trained<Recurrent>(
      how, steps, [] { return numbers({8, 5, 6}, 8, 5); },
      [](Recurrent& m) { return nn::classification(m); });
}
std::vector<float> gpt(const How& how, int steps) {
  const auto tokens = [] { return Tensor::randint({4, 12}, 0, 17).realize(); };
  return trained<nn::Gpt>(
      how, steps, [&] { return Batch{tokens(), tokens()}; },
      [](nn::Gpt& m) { return nn::language_model(m, true); },
      nn::Gpt({.vocabulary = 17, .context = 12, .layers = 2, .width = 32, .heads = 2}));
}

}  // namespace

TEST_CASE("[scalify] training has the same bits with the pass and without") {
  OnDevice on;
  CHECK(differences(mlp({}, 20), mlp({&none}, 20)) == 0);
  CHECK(differences(lstm({}, 10), lstm({&none}, 10)) == 0);
  CHECK(differences(gpt({.clip = 1}, 10), gpt({&none, 1, 1}, 10)) == 0);
  CHECK(differences(cnn({}, 3), cnn({&none}, 3)) == 0);
}

TEST_CASE("[scalify] what is compared can tell: formats change bits") {
  OnDevice on;
  const std::vector<float> f32 = gpt({}, 10), f16 = gpt({&fp16}, 10), f8 = gpt({&fp8}, 10);
  CHECK(differences(f32, f16) > f32.size() / 2);
  CHECK(differences(f16, f8) > f32.size() / 2);
  CHECK(std::abs(f8[9] - f32[9]) < 0.02 * f32[9]);
  CHECK(std::abs(f16[9] - f32[9]) < 0.002 * f32[9]);
}

TEST_CASE("[scalify] no bit depends on what the loss is multiplied by") {
  OnDevice on;
  for (const Casting* casting : {&fp16, &fp8}) {
    const std::vector<float> wanted = gpt({casting, 1}, 6);
    for (int k : {-60, -20, -1, 20, 60}) {
      INFO("loss times 2^" << k);
      CHECK(differences(wanted, gpt({casting, std::ldexp(1.0, k)}, 6)) == 0);
    }
  }
}

TEST_CASE("[scalify] without scales f8 depends on what the loss is multiplied by") {
  OnDevice on;
  Casting plain = fp8;
  plain.scales = false;
  CHECK(differences(gpt({&plain, 1}, 6), gpt({&plain, std::ldexp(1.0, -20)}, 6)) > 0);
}

namespace {

/// How often each op stands in the graphs of a step, and their inputs.
std::map<std::string, int> ops_of_a_step(const How& how) {
  OnDevice on;
  std::map<std::string, int> out;
  on.context.add_pass("count", [&](std::span<const Tensor> outputs) -> std::vector<Tensor> {
    if (outputs.size() < 4) return {outputs.begin(), outputs.end()};  // no step
    return map_values(outputs, [&](const Tensor&, const Operation& now) {
      out[std::string(now.op)]++;
      return Tensor();
    });
  });
  mlp(how, 2);
  return out;
}

}  // namespace

TEST_CASE("[scalify] scales that are static leave nothing to compute") {
  std::map<std::string, int> plain = ops_of_a_step({}), scaled_ = ops_of_a_step({&fp8});
  // What scales could be computed with: bits, shifts, exponentials; and values they could be read from.
  for (const char* op : {"bitcast", "shl", "shr", "and", "or", "sqrt", "buffer", "scalar"}) {
    INFO(op);
    CHECK(scaled_[op] == plain[op]);
  }
  CHECK(scaled_["cast"] > plain["cast"]);
}

TEST_CASE("[scalify] gradients are fitted anew where a norm hands them back, and nothing changes") {
  OnDevice on;
  nn::Gpt model({.vocabulary = 17, .context = 12, .layers = 2, .width = 32, .heads = 2});
  std::vector<Tensor> leaves;
  for (const nn::Parameter& p : nn::parameters(model)) leaves.push_back(p.tensor->realize());
  const Tensor ids = Tensor::randint({2, 12}, 0, 17).realize();
  const Tensor loss = nn::language_model(model)(ids, ids).loss;
  const Tensor fitted = scalify::with_fitted_norms(loss);
  int rescales = 0;
  std::vector<Ref> outputs;
  for (const Tensor& g : gradient(fitted, leaves)) outputs.push_back(node_of(g));
  for (const Node* n : topological(outputs))
    rescales += n->is(Op::Call) && n->arg.text == "dynamic_rescale" && n->arg.ints[1] == 0;
  CHECK(rescales == 5);  // two a layer, and the last norm
  const std::vector<Tensor> plain = gradient(loss, leaves);
  for (size_t i = 0; i < leaves.size(); ++i) {
    const Tensor scaled = scalify_loss(fitted, DType::F32, DType::F32, DType::F32);
    CHECK(differences(gradient(scaled, leaves)[i].to_vector<float>(), plain[i].to_vector<float>()) == 0);
  }
}

namespace {

/// How the values that a graph rounds are sized: log2 of the root mean square of each, and of its data.
struct Sizes {
  std::vector<double> values = {}, data = {};
  std::vector<scalify::Rounded> rounded = {};
};
Sizes sizes_of(const Graph& graph, const scalify::Options& options) {
  Sizes out;
  out.rounded = scalify::scalify(graph, options).rounded;
  for (const scalify::Rounded& r : out.rounded) {
    out.values.push_back(
        std::log2(tensor_of(r.value).cast(DType::F32).square().mean().sqrt().item<double>()));
    out.data.push_back(out.values.back() - static_cast<double>(r.predicted.fixed));
  }
  return out;
}

}  // namespace

TEST_CASE("[scalify] scales are corrected where values leave a format's flat range, and nowhere else") {
  OnDevice on;
  const Tensor x = (Tensor::normal({16, 32}) * 1e-3).realize(), w = Tensor::normal({32, 32}).realize();
  const auto graph_of = [&](const Tensor& loss) {
    const Ref asked = node_of(scalify_loss(loss, DType::F32, DType::F32, DType::F32));
    std::vector<Ref> outputs{asked};
    for (const Tensor& g : gradient(tensor_of(asked), {x, w})) outputs.push_back(node_of(g));
    return make_graph(outputs);
  };
  const Tensor loss = (x.matmul(w).tanh().matmul(w) * 1e4).square().mean();
  for (const int64_t wrong : {0, 9, -30}) {  // x's exponent, which is -10
    scalify::Options options{.casting = fp8};
    options.leaves.emplace(node_of(x).get(), wrong);
    const Sizes before = sizes_of(graph_of(loss), options);
    const std::vector<scalify::Correction> made =
        scalify::place(graph_of(loss), node_of(loss), options, before.values);
    REQUIRE(!made.empty());
    INFO(made[0].about);
    CHECK(made[0].by == -9 - wrong);
    const Tensor corrected = scalify::with_corrections(loss, made);
    const Sizes after = sizes_of(graph_of(corrected), options);
    int worse = 0;
    for (size_t i = 0; i < after.data.size(); ++i) {
      const scalify::FlatRange flat = scalify::flat_range(after.rounded[i].format);
      if (after.rounded[i].predicted.is_static())
        worse += after.data[i] < flat.low || after.data[i] > flat.high;
    }
    CHECK(worse == 0);
    CHECK(made.size() < after.data.size());
  }
  scalify::Options right{.casting = fp8};
  right.leaves.emplace(node_of(x).get(), -10);
  const Tensor easy = x.matmul(w).sum();
  CHECK(scalify::place(graph_of(easy), node_of(easy), right, sizes_of(graph_of(easy), right).values).empty());
}

TEST_CASE("[scalify] a correction is of the same value where draws are recorded one by one and in a jit") {
  OnDevice on;
  const Tensor x = Tensor::normal({4, 6}).realize(), first = Tensor::normal({6, 10}).realize(),
               second = Tensor::normal({10, 14}).realize(), third = Tensor::normal({14, 3}).realize();
  const auto corrected = [&](const Tensor& from) {
    Tensor y = from;
    for (const Tensor& w : {first, second, third}) y = nn::dropout(y, 0.5, true).matmul(w).tanh();
    const Tensor loss = y.square().mean();
    std::vector<std::string> at;
    for (size_t i = 0; i < 100; ++i) {
      const scalify::Correction one{.value = i, .by = 1};
      const Ref root = node_of(scalify::with_corrections(loss, std::span(&one, 1)));
      for (const Node* n : topological(std::span(&root, 1)))
        if (n->is(Op::Call) && n->arg.text == "rebalance")
          at.push_back(fmt::format("{} {}", describe(*(*n)[1]), row((*n)[1]->op).name));
    }
    return at;
  };
  const std::vector<std::string> wanted = corrected(x);
  std::vector<std::string> seen;
  jit([&](const Tensor& from) {
    seen = corrected(from);
    return from + 1.0;
  })(x);
  CHECK(wanted.size() > 12);
  CHECK(seen == wanted);
}

TEST_CASE("[scalify] a gradient that a sum hands to both of its sources is corrected for both") {
  OnDevice on;
  const Tensor x = Tensor::normal({8, 12}).realize(), w = Tensor::normal({12, 20}).realize(),
               h = Tensor::normal({8, 16}).realize(), u = Tensor::normal({16, 20}).realize();
  const Tensor loss = (x.matmul(w) + h.matmul(u)).square().mean();
  const scalify::Options options{.casting = fp8};
  const auto graph_of = [&](const Tensor& of) {
    const Tensor asked = scalify_loss(of, DType::F32, DType::F32, DType::F32);
    std::vector<Ref> outputs{node_of(asked)};
    for (const Tensor& g : gradient(asked, {w, u})) outputs.push_back(node_of(g));
    return make_graph(outputs);
  };
  const Graph graph = graph_of(loss);
  std::vector<double> sizes;  // gradients far from where they are predicted, all else where it is
  for (const scalify::Rounded& r : scalify::scalify(graph, options).rounded)
    sizes.push_back(static_cast<double>(r.predicted.fixed) + (r.of_gradient ? 40 : 0));
  const std::vector<scalify::Correction> made = scalify::place(graph, node_of(loss), options, sizes);
  REQUIRE(made.size() == 1);
  CHECK(made[0].of_gradient);
  int gradients = 0;
  const Graph after = graph_of(scalify::with_corrections(loss, made));
  for (const scalify::Rounded& r : scalify::scalify(after, options).rounded) {
    gradients += r.of_gradient;
    CHECK(r.predicted.is_static() != r.of_gradient);
  }
  CHECK(gradients == 3);  // of the sum, of w, of u
}

// Minutes: build/tests/unit '[long]'
TEST_CASE("[scalify] 1,000 steps have the same bits with the pass and without", "[.long]") {
  OnDevice on;
  CHECK(differences(mlp({}, 1000), mlp({&none}, 1000)) == 0);
  CHECK(differences(lstm({}, 1000), lstm({&none}, 1000)) == 0);
  CHECK(differences(gpt({.clip = 1}, 1000), gpt({&none, 1, 1}, 1000)) == 0);
  CHECK(differences(cnn({}, 1000), cnn({&none}, 1000)) == 0);
}
