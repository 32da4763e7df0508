// kontor scalify report, explain: what propagated scales come to in a model, and how in an expression.
#include <cmath>
#include <cstdio>
#include <memory>

#include <kontor/kontor.h>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/recording.h"
#include "graph/shape.h"
#include "scalify/recipes.h"
#include "scalify/scalify.h"
#include "tools/castings.h"
#include "tools/models.h"
#include "tools/text_model.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  std::string model, text, recipe = "fp8";
  int64_t batch = 12;
  uint64_t seed = 1;
};

/// Of the numbers that a value is rounded from and to: their root mean square, the parts that become 0 and the format's greatest, and
/// how far rounding is below them.
struct Measured {
  double log2_rms, underflow, overflow, sqnr;
};

std::vector<Tensor> measures(const scalify::Rounded& r) {
  const Tensor x = tensor_of(r.data).cast(DType::F32), y = tensor_of(r.result).cast(DType::F32);
  const double most = r.format == DType::F8E4M3 ? 448 : r.format == DType::F8E5M2 ? 57344 : 65504;
  const Tensor lost = (y == 0.0).cast(DType::F32) * (x != 0.0).cast(DType::F32);
  return {x.square().mean(), lost.mean(), (x.abs() > most).cast(DType::F32).mean(), (x - y).square().mean()};
}

std::string made_by(const Node& n) {
  if (n.is(Op::Call)) return n.arg.text;
  return std::string(row(n.op).name);
}

void print_row(const scalify::Rounded& r, const Measured& m) {
  fmt::print("{:8} {:9} {:6} {:24} {:>9} {:>8.1f} {:>9.3f} {:>9.3f} {:>7.1f}\n",
             r.of_gradient ? "backward" : "forward", made_by(*r.value), name(r.format),
             describe_shape(r.value->shape), scalify::describe(r.predicted), m.log2_rms, 100 * m.underflow,
             100 * m.overflow, m.sqnr);
}

void report(const Options& o) {
  Context::set_default({.seed = o.seed});
  const TextModel model = load_text_model(o.model);
  const Corpus corpus(o.text.empty() ? shipped_data("tinyshakespeare.txt") : o.text, model.vocabulary);
  const Windows windows = corpus.batch(0, o.batch, model.gpt->options.context, o.seed);
  const std::vector<nn::Parameter> parameters = nn::parameters(*model.gpt);
  const nn::Objective objective =
      with_casting(nn::language_model(*model.gpt, true), parameters, scalify::find_recipe(o.recipe));
  const Tensor loss = objective(ids_of(windows), next_of(windows)).loss;
  std::vector<Tensor> leaves;
  for (const nn::Parameter& p : parameters) leaves.push_back(*p.tensor);
  std::vector<Ref> outputs{node_of(loss)};
  for (const Tensor& g : gradient(loss, leaves)) outputs.push_back(node_of(g));
  const Graph graph = make_graph(outputs);
  const scalify::Result made = scalify::scalify(graph, {.casting = *scalify::asked_for(graph)});

  std::vector<Tensor> all;
  for (const scalify::Rounded& r : made.rounded)
    for (const Tensor& t : measures(r)) all.push_back(t.reshape({1}));
  const std::vector<float> numbers = all.empty() ? std::vector<float>() : cat(all, 0).to_vector<float>();
  fmt::print("{:8} {:9} {:6} {:24} {:>9} {:>8} {:>9} {:>9} {:>7}\n", "", "made by", "format", "shape",
             "exponent", "log2 rms", "to 0, %", "beyond, %", "dB");
  for (size_t i = 0; i < made.rounded.size(); ++i) {
    const float* n = &numbers[4 * i];
    print_row(made.rounded[i],
              {std::log2(std::sqrt(n[0])), n[1], n[2], 10 * std::log10(n[0] / std::max(n[3], 1e-30F))});
  }
  fmt::print("{} values are rounded, {} exponents measured\n", made.rounded.size(), made.rescales);
}

}  // namespace

void add_scalify_report(CLI::App& scalify) {
  CLI::App* what = scalify.add_subcommand(
      "report", "Each value that a training step rounds: its scale, and how well it fits");
  auto o = std::make_shared<Options>();
  what->add_option("model", o->model, "A model of kontor train gpt")->required()->check(not_empty());
  what->add_option("text", o->text, "Its text (default: tinyshakespeare.txt)")->check(not_empty());
  what->add_option("--recipe", o->recipe, "Formats")->capture_default_str()->check(not_empty());
  what->add_option("--batch", o->batch, "Windows of the text")
      ->capture_default_str()
      ->check(whole(1, 1 << 16));
  what->add_option("--seed", o->seed, "Of the windows")->capture_default_str()->check(whole_of_64_bits());
  what->callback([o] { report(*o); });
}

void add_scalify_explain(CLI::App& scalify) {
  CLI::App* what =
      scalify.add_subcommand("explain", "The scale of each value of an expression, from leaves on");
  auto expression = std::make_shared<std::string>();
  what->add_option("expression", *expression, "As of kontor dump; set_scale(x, k) gives a leaf a scale")
      ->required();
  what->callback(
      [expression] { fmt::print("{}", scalify::explain(make_graph({parse_expression(*expression)}), {})); });
}

}  // namespace kontor::tools
