// kontor scalify report, explain: what propagated scales come to in a model, and how in an expression.
#include <cstdio>
#include <memory>

#include <kontor/kontor.h>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "scalify/recipes.h"
#include "scalify/scalify.h"
#include "tools/castings.h"
#include "tools/models.h"
#include "tools/telemetry.h"
#include "tools/text_model.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  std::string model, text, out;
  std::vector<std::string> recipes{"fp8"};
  int64_t batch = 12;
  uint64_t seed = 1;
};

void print_row(const Rounding& r) {
  fmt::print("{:24} {:6} {:24} {:>9} {:>5.0f} {:>8.1f} {:>8.1f} {:>9.3f} {:>9.3f} {:>7.1f}\n", r.name,
             name(r.format), r.shape, r.exponent, r.seen, r.log2_rms, r.log2_max, 100 * r.underflow,
             100 * r.overflow, r.sqnr);
}

void print_table(const std::vector<Rounding>& values) {
  fmt::print("{:24} {:6} {:24} {:>9} {:>5} {:>8} {:>8} {:>9} {:>9} {:>7}\n", "made by", "format", "shape",
             "exponent", "seen", "log2 rms", "log2 max", "to 0, %", "beyond, %", "dB");
  for (const Rounding& r : values) print_row(r);
}

void report(const Options& o) {
  Context::set_default({.seed = o.seed});
  const TextModel model = load_text_model(o.model);
  const Corpus corpus(o.text.empty() ? shipped_data("tinyshakespeare.txt") : o.text, model.vocabulary);
  const Windows windows = corpus.batch(0, o.batch, model.gpt->options.context, o.seed);
  const std::vector<nn::Parameter> parameters = nn::parameters(*model.gpt);
  for (const std::string& recipe : o.recipes) {
    const nn::Objective objective = nn::language_model(*model.gpt, true);
    const Example batch{ids_of(windows), next_of(windows)};
    const scalify::Recipe format = scalify::find_recipe(recipe);
    const std::vector<scalify::Correction> corrections =
        calibrated(objective, parameters, format, std::span(&batch, 1));
    Telemetry telemetry(with_casting(objective, parameters, format, corrections), parameters);
    const std::vector<Rounding> values = telemetry.measure(batch.x, batch.labels);
    if (o.recipes.size() > 1) fmt::print("{}\n", recipe);
    print_table(values);
    fmt::print("{} values are rounded, {} exponents measured\n", values.size(), telemetry.rescales());
    for (const scalify::Correction& c : corrections)
      fmt::print("corrected by 2^{}{}: {}\n", c.by, c.of_gradient ? ", measured in each step" : "", c.about);
    if (!o.out.empty())
      TelemetryLog{.steps = {0}, .batches = {values}}.write(fmt::format("{}/{}", o.out, recipe));
  }
}

}  // namespace

void add_scalify_report(CLI::App& scalify) {
  CLI::App* what = scalify.add_subcommand(
      "report", "Each value that a training step rounds: its scale, and how well it fits");
  auto o = std::make_shared<Options>();
  what->add_option("model", o->model, "A model of kontor train gpt")->required()->check(not_empty());
  what->add_option("text", o->text, "Its text (default: tinyshakespeare.txt)")->check(not_empty());
  what->add_option("--recipe", o->recipes, "Formats; several: what the same values would be in each")
      ->capture_default_str()
      ->delimiter(',')
      ->allow_extra_args(false);
  what->add_option("--out", o->out, "A folder for the same as RECIPE.json, .csv, .svg and .png")
      ->check(not_empty());
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
