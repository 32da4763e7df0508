// kontor generate: text of a trained GPT, token by token as it is chosen.
#include <algorithm>
#include <cstdio>

#include <kontor/kontor.h>

#include "backends/backend.h"
#include "base/error.h"
#include "tools/run.h"
#include "tools/text_model.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  std::string model, prompt, device, dtype;
  int64_t tokens = 500;
  int threads = 0;
  nn::Choice choice{.temperature = 0.8, .seed = 1};
};

void run(const Options& o) {
  Context::set_default({.device = o.device, .threads = o.threads, .seed = 0});
  TextModel model = load_text_model(o.model);
  if (!o.dtype.empty()) narrow_weights(model, parse_dtype(o.dtype));
  std::vector<int32_t> prompt = encode(model.vocabulary, o.prompt, "generate: --prompt");
  if (prompt.empty()) prompt = {static_cast<int32_t>(first_token(model.vocabulary))};
  nn::Generator generator(*model.gpt, o.choice);
  catch_interruptions();
  // Of a prompt longer than the context, what would be forgotten at once is not read.
  const auto most = static_cast<size_t>(model.gpt->options.context);
  for (size_t i = prompt.size() - std::min(prompt.size(), most); i < prompt.size(); ++i)
    generator.read(prompt[i]);
  fmt::print("{}", o.prompt);
  Printer printer;
  for (int64_t i = 0; i < o.tokens && interrupted == 0; ++i) {
    fmt::print("{}", printer.put(model.vocabulary.text(generator.next())));
    std::fflush(stdout);
  }
  fmt::print("{}\n", printer.rest());
  if (interrupted != 0) throw Exit{128 + interrupted};
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("generate", "Write text with a model of kontor train gpt");
  auto o = std::make_shared<Options>();
  verb->add_option("model", o->model, "A model.safetensors of kontor train gpt")->required();
  verb->add_option("--prompt", o->prompt,
                   "Text to go on from (default: a new line, or the first byte that it knows)")
      ->check(not_empty());
  verb->add_option("--tokens", o->tokens, "How many to write")
      ->capture_default_str()
      ->check(whole(0, int64_t{1} << 40));
  verb->add_option("--temperature", o->choice.temperature,
                   "How far to stray from the likeliest (0: not at all)")
      ->capture_default_str()
      ->check(number(0));
  verb->add_option("--top-k", o->choice.top_k, "Choose among the likeliest so many only (0: all)")
      ->capture_default_str()
      ->check(whole(0, 1 << 20));
  verb->add_option("--top-p", o->choice.top_p,
                   "Choose among the likeliest that have this probability together")
      ->capture_default_str()
      ->check(number(1e-9, 1));
  verb->add_option("--repetition-penalty", o->choice.repetition_penalty,
                   "Make what was written less likely by this factor (1: no)")
      ->capture_default_str()
      ->check(number_above(0));
  verb->add_option("--seed", o->choice.seed, "Of the choices")
      ->capture_default_str()
      ->check(whole_of_64_bits());
  verb->add_option("--dtype", o->dtype,
                   "Of weights and products: f32, bf16 or f16 (default: weights f32, products as trained)")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  verb->add_option("--threads", o->threads, "Threads (0: one a core)")->check(whole(0, 4096));
  verb->add_option("--device", o->device, device_names())->check(not_empty());
  verb->callback([o] { run(*o); });
}

}  // namespace kontor::tools
