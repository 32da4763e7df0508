// kontor scalify export: a model's linear layers in FP8 with scales, as vLLM and Hugging Face read them.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "nn/scaled_weights.h"
#include "tools/text_model.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  std::string model, out, layout = "tensor";
};

void export_model(const Options& o) {
  const TextModel model = load_text_model(o.model);
  const nn::ScaleLayout layout = o.layout == "tensor" ? nn::ScaleLayout::Tensor : nn::ScaleLayout::Blocks;
  std::vector<nn::ScaledWeight> weights;
  std::vector<nn::Parameter> others;
  const std::vector<nn::NamedLinear> layers = nn::linears(*model.gpt);
  for (const nn::Parameter& p : nn::parameters(*model.gpt)) {
    const bool scaled = std::any_of(layers.begin(), layers.end(),
                                    [&](const nn::NamedLinear& l) { return &l.layer->weight == p.tensor; });
    if (scaled) weights.push_back(nn::scaled_weight(p.name, *p.tensor, layout));
    else others.push_back(p);
  }
  nn::Metadata about = about_model(model.gpt->options, model.vocabulary);
  about["scales"] = o.layout;
  nn::save_scaled(o.out, weights, others, about);
  fmt::print("{}: {} weights in f8e4m3 with scales, {} tensors as they were\n", o.out, weights.size(),
             others.size());
}

}  // namespace

void add_scalify_export(CLI::App& scalify) {
  CLI::App* verb = scalify.add_subcommand(
      "export", "Linear layers in FP8 with scales beside them, as vLLM and Hugging Face read them");
  auto o = std::make_shared<Options>();
  verb->add_option("model", o->model, "A model of kontor train gpt")->required()->check(not_empty());
  verb->add_option("out", o->out, "The file to write")->required()->check(not_empty());
  verb->add_option("--layout", o->layout,
                   "tensor: one weight_scale each; blocks: weight_scale_inv for each 128 x 128")
      ->capture_default_str()
      ->check(CLI::IsMember({"tensor", "blocks"}));
  verb->callback([o] { export_model(*o); });
}

}  // namespace kontor::tools
