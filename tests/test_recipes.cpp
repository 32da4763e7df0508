// [recipes] built-in recipes and their text form; what it refuses; layers that train by them.
#include "scalify/recipes.h"

#include <algorithm>
#include <cmath>

#include <kontor/kontor.h>

#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"

using namespace kontor;
using namespace kontor::scalify;
using Catch::Matchers::Contains;

TEST_CASE("[recipes] each built-in one reads back as it is printed, and says where it is from") {
  CHECK(recipes().size() == 14);
  for (const Recipe& r : recipes()) {
    INFO(print(r));
    CHECK(parse_recipe(print(r), r.name) == r);
    CHECK(!r.about.empty());
    CHECK(find_recipe(r.name) == r);
  }
}

TEST_CASE("[recipes] a text, with remarks, overrides and blocks of each kind") {
  const Recipe r = parse_recipe(R"(# mine
recipe mine
about  a try
weight f4e2m1 scale=e4m3 block=16x16   # tiles
activation f8e4m3 scale=f32
gradient f4e2m1 scale=pow2 block=32 rounding=stochastic hadamard
state f8e4m3 scale=f32 block=0
layer blocks.0.* all f32
layer blocks.?.down weight f8e4m3 scale=propagated rescale=placed
)",
                                "mine.txt");
  CHECK(r.name == "mine");
  CHECK(r.about == "a try");
  CHECK(r.of(Role::Weight).block == std::vector<int64_t>{16, 16});
  CHECK(r.of(Role::Activation).block.empty());
  CHECK(r.of(Role::Gradient).block == std::vector<int64_t>{1, 32});
  CHECK((r.of(Role::Gradient).stochastic && r.of(Role::Gradient).hadamard));
  CHECK(r.of(Role::State).block == std::vector<int64_t>{1, 0});
  CHECK(r.of(Role::Master).format == "f32");
  CHECK(r.of(Role::Gradient, "blocks.0.up").format == "f32");
  CHECK(r.of(Role::Gradient, "blocks.10.up").format == "f4e2m1");
  CHECK(r.of(Role::Weight, "blocks.0.down").rescale == Rescale::Placed);  // the last line that fits
  CHECK(r.propagates());
  CHECK(parse_recipe(print(r), "again") == r);
}

TEST_CASE("[recipes] mistakes are named, with their line and what there is") {
  const auto said = [](const char* line) {
    return error_of([&] { parse_recipe(std::string("recipe r\n") + line, "f.txt"); });
  };
  CHECK(said("weight f8") ==
        "f.txt, line 2: format: unknown format 'f8'; known: f4e2m1 f8e4m3 f8e5m2 f16 bf16 f32");
  CHECK(
      said("weights f16") ==
      "f.txt, line 2: unknown role 'weights'; known: weight activation gradient state master communication");
  CHECK(
      said("layer a.* wight f16") ==
      "f.txt, line 2: unknown role 'wight'; known: weight activation gradient state master communication all");
  CHECK_THAT(said("weight f16 scale=amax"),
             Contains("unknown kind of scale 'amax'; known: none f32 e8m0 pow2 e4m3"));
  CHECK_THAT(said("weight f16 block=12y3"), Contains("'12y3' is no block"));
  CHECK_THAT(said("weight f16 scale=f32 block=1x2x3"), Contains("is no block"));
  CHECK_THAT(said("weight f16 block=32"), Contains("a scale that is measured"));
  CHECK_THAT(said("weight f16 rounding=up"), Contains("'rounding=up' is none of"));
  CHECK_THAT(said("weight f16 scale=propagated rescale=daily"), Contains("known: none norms each placed"));
  CHECK_THAT(said("weight f16\nweight f16"), Contains("line 3: weight stands twice"));
  CHECK_THAT(said("weight"), Contains("no format"));
  CHECK(error_of([] { parse_recipe("weight f16\n", "g.txt"); }) == "g.txt: no line says 'recipe NAME'");
  CHECK(
      error_of([] { find_recipe("fp9"); }) ==
      "there is no recipe 'fp9'; there are: f32-pass fp16 fp8 fp8-placed fp8-unscaled fp8-paper-1 fp8-paper-2 fp8-paper-3 fp8-paper-4 fp8-current "
      "mxfp8 fp8-block mxfp4 nvfp4, and files, with a '.' or '/' in their names");
  const Recipe r = parse_recipe("recipe r\nlayer blocks.9.* all f32\n", "h");
  const std::vector<std::string> layers{"blocks.0.up", "blocks.0.down"};
  CHECK(error_of([&] { check_layers(r, layers); }) ==
        "recipe r: no layer is called 'blocks.9.*'; there are: blocks.0.up blocks.0.down");
  CHECK_THAT(error_of([] { product_recipe(find_recipe("fp8"), "x"); }),
             Contains("scales of activation are propagated"));
}

TEST_CASE("[recipes] what is kept from step to step: weights, moments, gradients of weights") {
  const Recipe fp8 = find_recipe("fp8");
  CHECK(fp8.is_for_graph());
  CHECK(master_of(fp8) == DType::F16);
  CHECK(weight_gradient_of(fp8) == DType::F8E5M2);
  const nn::AdamStates states = adam_states_of(fp8);
  CHECK((states.stochastic && states.wide && states.m.format == "f8e4m3" && states.v.scale == "f32"));
  CHECK((states.m.block == std::vector<int64_t>{1, 128}));
  const nn::AdamStates paper = adam_states_of(find_recipe("fp8-paper-4"));
  CHECK((!paper.stochastic && paper.m.format == "f16" && paper.m.scale == "pow2" && paper.m.block.empty()));
  const nn::AdamStates plain = adam_states_of(find_recipe("mxfp8"));
  CHECK((!plain.stochastic && !plain.wide && plain.m.format == "f32"));
  const auto said = [](const char* line) {
    const Recipe r = parse_recipe(std::string("recipe r\n") + line, "f.txt");
    return error_of([&] { master_of(r), weight_gradient_of(r); });
  };
  CHECK(said("master f8e4m3") == "recipe r: master weights in f8e4m3: there are f32, f16 and bf16");
  CHECK(said("communication f8e5m2 scale=f32") ==
        "recipe r: communication: gradients of weights have scales that are propagated");
  CHECK(said("communication f4e2m1 scale=propagated") ==
        "recipe r: communication: f4e2m1 is no format of a whole byte");
}

namespace {

using Numbers = std::vector<float>;

Numbers numbers(int64_t n, uint64_t seed) {
  Numbers out;
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (int64_t i = 0; i < n; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    out.push_back(static_cast<float>(static_cast<double>(state >> 33) / 0x1p30 - 1) *
                  (i % 13 == 0 ? 6.F : 0.4F));
  }
  return out;
}

Numbers read(const Tensor& x) { return x.to_vector<float>(); }

double distance(const Numbers& a, const Numbers& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); i++)
    difference += std::pow(double{a[i]} - double{b[i]}, 2), size += std::pow(double{b[i]}, 2);
  return std::sqrt(difference / size);
}

/// rows x inner, inner x columns, summed here; `a` may be read transposed.
Numbers product(const Numbers& a, const Numbers& b, size_t rows, size_t inner, size_t columns, bool a_turned,
                bool b_turned) {
  Numbers out(rows * columns);
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < columns; j++) {
      double sum = 0;
      for (size_t k = 0; k < inner; k++)
        sum += double{a_turned ? a[k * rows + i] : a[i * inner + k]} *
               double{b_turned ? b[j * inner + k] : b[k * columns + j]};
      out[i * columns + j] = static_cast<float>(sum);
    }
  return out;
}

}  // namespace

// The roundings are those of fake_quantise(), which tests/test_quantise.cpp holds; that each operand has its own, and along which axis, is
// said here again.
TEST_CASE("[recipes] the three products of a layer have their operands rounded along what they sum over") {
  OnDevice on;
  constexpr size_t n = 33, in = 40, out = 24;
  const Tensor x = Tensor::from(numbers(n * in, 1), {3, 11, in}),
               w = Tensor::from(numbers(out * in, 2), {out, in}),
               g = Tensor::from(numbers(n * out, 3), {3, 11, out});
  for (const char* name : {"fp8-current", "mxfp8", "fp8-block"}) {
    INFO(name);
    const ProductRecipe r = product_recipe(find_recipe(name), "up");
    const auto along = [](Quantisation q, bool last) {
      if (!last && q.block.size() == 2 && q.block[0] == 1) std::swap(q.block[0], q.block[1]);
      return q;
    };
    const auto rounded = [&](const Tensor& t, const Quantisation& q, bool last) {
      return read(fake_quantise(t, along(q, last)));
    };
    const Tensor rows = x.reshape({n, in}), up = g.reshape({n, out});
    const Tensor y = scaled_product(x, w, r);
    CHECK(y.shape() == std::vector<int64_t>{3, 11, out});
    CHECK(distance(read(y), product(rounded(rows, r.input, true), rounded(w, r.weight, true), n, in, out,
                                    false, true)) < 1e-6);
    const Tensor wrt[] = {x, w};
    const std::vector<Tensor> slopes = gradient((scaled_product(x, w, r) * g).sum(), wrt);
    CHECK(distance(read(slopes[0]), product(rounded(up, r.gradient, true), rounded(w, r.weight, false), n,
                                            out, in, false, false)) < 1e-6);
    CHECK(distance(read(slopes[1]), product(rounded(up, r.gradient, false), rounded(rows, r.input, false),
                                            out, n, in, true, false)) < 1e-6);
    CHECK(distance(read(y), read(rows.matmul(w.transpose()))) < 0.05);
  }
}

TEST_CASE("[recipes] with four bits gradients are near, and right on average") {
  OnDevice on;
  constexpr size_t n = 33, in = 40, out = 24;
  const Tensor x = Tensor::from(numbers(n * in, 1), {n, in}),
               w = Tensor::from(numbers(out * in, 2), {out, in}),
               g = Tensor::from(numbers(n * out, 3), {n, out});
  for (const char* name : {"mxfp4", "nvfp4"}) {
    INFO(name);
    ProductRecipe r = product_recipe(find_recipe(name), "up");
    r.input.format = r.weight.format =
        "f32";  // so that only the gradient's rounding is left, which is to be right on average
    const Tensor wrt[] = {x, w};
    const Numbers exact_x = product(read(g), read(w), n, out, in, false, false),
                  exact_w = product(read(g), read(x), out, n, in, true, false);
    Numbers sum_x(exact_x.size()), sum_w(exact_w.size());
    constexpr int draws = 64;
    double once = 0;
    for (int i = 0; i < draws; i++) {
      const std::vector<Tensor> slopes = gradient((scaled_product(x, w, r) * g).sum(), wrt);
      const Numbers dx = read(slopes[0]), dw = read(slopes[1]);
      once += distance(dw, exact_w) / draws;
      for (size_t k = 0; k < dx.size(); k++) sum_x[k] += dx[k] / draws;
      for (size_t k = 0; k < dw.size(); k++) sum_w[k] += dw[k] / draws;
    }
    CHECK((once > 0.02 && once < 0.4));
    CHECK(distance(sum_w, exact_w) < 0.25 * once);  // as 1 / sqrt(64) would have it, twice
    CHECK(distance(sum_x, exact_x) < 0.1);
  }
}

TEST_CASE("[recipes] a recipe of f32 is no recipe, bit for bit") {
  OnDevice on;
  nn::Linear plain(24, 16), rounded = plain;
  rounded.recipe = std::make_shared<const ProductRecipe>();
  const Tensor x = Tensor::from(numbers(5 * 24, 4), {5, 24});
  CHECK(read(plain(x)) == read(rounded(x)));
}

TEST_CASE("[recipes] the linear layers of a model have names") {
  OnDevice on;
  nn::Gpt model({.vocabulary = 11, .context = 8, .layers = 2, .width = 16, .heads = 2});
  std::vector<std::string> names;
  for (const nn::NamedLinear& l : nn::linears(model)) names.push_back(l.name);
  CHECK(names == std::vector<std::string>{"blocks.0.attention.joint", "blocks.0.attention.project",
                                          "blocks.0.up", "blocks.0.down", "blocks.1.attention.joint",
                                          "blocks.1.attention.project", "blocks.1.up", "blocks.1.down"});
  const std::vector<nn::Parameter> parameters = nn::parameters(model);
  for (const nn::NamedLinear& l : nn::linears(model))
    CHECK(std::any_of(parameters.begin(), parameters.end(), [&](const nn::Parameter& p) {
      return p.name == l.name + ".weight" && p.tensor == &l.layer->weight;
    }));
}
