// The table of settings of a GPT's training, its presets, and what a checkpoint says of them.
#include "tools/text_settings.h"

#include "nn/vocabulary.h"
#include "scalify/recipes.h"
#include "tools/validators.h"

namespace kontor::tools {

namespace {

constexpr int64_t kMost = int64_t{1} << 40;

CLI::Validator vocabularies() {
  const auto check = [](std::string& text) -> std::string {
    if (text == "chars") return "";
    std::string count = text.starts_with("bpe:") ? text.substr(4) : "";
    if (count.empty()) return fmt::format("'{}' is neither chars nor bpe:N", text);
    return whole(257, Vocabulary::most_tokens)(count);
  };
  return {check, "chars or bpe:N"};
}

// clang-format off
const std::vector<RowOf<TextSettings>>& table() {
  using S = TextSettings;
  static const std::vector<RowOf<TextSettings>> rows = {
    {"layers",           &S::layers,           Of::Model,       Later::Equal, whole(1, 1000),        "Transformer blocks"},
    {"width",            &S::width,            Of::Model,       Later::Equal, whole(1, 1 << 16),     "Numbers of a token's vector"},
    {"heads",            &S::heads,            Of::Model,       Later::Equal, whole(1, 1 << 16),     "Heads of attention, which divide the width"},
    {"kv-heads",         &S::kv_heads,         Of::Model,       Later::Equal, whole(0, 1 << 16),     "Heads of keys and values, shared by those of queries (0: as many)"},
    {"context",          &S::context,          Of::Model,       Later::Equal, whole(1, 1 << 20),     "Tokens that a token can see, itself included"},
    {"rotary",           &S::rotary,           Of::Model,       Later::Equal, {},                    "Positions as rotations of queries and keys, not as a table"},
    {"vocabulary",       &S::vocabulary,       Of::Model,       Later::Equal, vocabularies(),        "chars: a token for each byte that occurs; bpe:N: N of them, bytes and pairs learned from the text"},
    {"dropout",          &S::dropout,          Of::Model,       Later::Equal, number(0, 0.99),       "Part of the activations that is dropped in training"},
    {"dtype",            &S::dtype,            Of::Model,       Later::Equal, CLI::IsMember({"f32", "bf16", "f16"}), "Of products, f32, bf16 or f16; weights stay f32"},
    {"recipe",           &S::recipe,           Of::All,         Later::Equal, not_empty(),           "Formats of products and of Adam's moments: a name of `kontor scalify recipes`, or a file; none: f32"},
    {"method",           &S::method,           Of::All,         Later::Equal, CLI::IsMember({"backprop", "marketplace"}), "backprop; marketplace: forward passes only (docs/marketplace.md)"},
    {"plan",             &S::plan,             Of::Marketplace, Later::Equal, CLI::IsMember({"low-rank", "feedback"}), "marketplace: how vendors are put together"},
    {"probe-scale",      &S::probe_scale,      Of::Marketplace, Later::Equal, number_above(0),       "marketplace: deltas have size lr * this"},
    {"init",             &S::init,             Of::All,         Later::Equal, CLI::IsMember({"gpt2", "wide"}), "Initial weights: gpt2, of deviation 0.02; wide: matrices 1/sqrt(3 width), tables 0.2, as feedback needs them"},
    {"batch",            &S::batch,            Of::All,         Later::Equal, whole(1, 1 << 20),     "Windows of the text a step"},
    {"steps",            &S::steps,            Of::All,         Later::Equal, whole(1, kMost),       "Steps in all, those before a resume included"},
    {"seconds",          &S::seconds,          Of::All,         Later::Free,  number(0),             "As many steps as take about this long (0: as --steps says)"},
    {"tflop",            &S::tflop,            Of::All,         Later::Free,  number(0),             "As many steps as this work is enough for (0: as --steps says)"},
    {"lr",               &S::lr,               Of::All,         Later::Equal, number_above(0),       "Learning rate after the warm-up, from which it falls along a cosine"},
    {"least-lr",         &S::least_lr,         Of::All,         Later::Equal, number_above(0),       "Learning rate at the end"},
    {"warmup",           &S::warmup,           Of::All,         Later::Equal, whole(1, kMost),       "Steps in which the learning rate rises"},
    {"decay",            &S::decay,            Of::Backprop,    Later::Equal, number(0),             "Weight decay of matrices and tables (AdamW)"},
    {"beta2",            &S::beta2,            Of::All,         Later::Equal, number(0, 0.99999),    "Decay of Adam's second moments"},
    {"clip",             &S::clip,             Of::Backprop,    Later::Equal, number(0),             "Length that gradients are clipped to (0: none)"},
    {"seed",             &S::seed,             Of::All,         Later::Equal, whole_of_64_bits(),    "Of weights, windows and dropout"},
    {"test-every",       &S::test_every,       Of::All,         Later::Free,  whole(0, kMost),       "Steps from one validation to the next (0: a tenth of all)"},
    {"checkpoint-every", &S::checkpoint_every, Of::All,         Later::Free,  whole(0, kMost),       "Steps from one checkpoint to the next (0: only at the end)"},
    {"telemetry-every",  &S::telemetry_every,  Of::Backprop,    Later::Free,  whole(0, kMost),       "Steps from one look at what a recipe rounds to the next (0: none; docs/scalify.md)"},
    {"sample",           &S::sample,           Of::All,         Later::Free,  whole(0, 100000),      "Bytes of text that are shown with each validation"},
  };
  return rows;
}

constexpr Preset kPresets[] = {
    {"minute", "what two cores learn in a minute", "--seconds=60"},
    {"tiny",   "seconds: to see that all works",   "--layers=1 --width=32 --heads=2 --context=32 --batch=8 --steps=100 --warmup=20"},
    {"nano",   "nanoGPT's setting for CPUs: 4 layers of 128, 2000 steps",
               "--layers=4 --lr=1e-3 --least-lr=1e-4 --steps=2000"},
    {"low-rank", "forward passes only: a vendor of rank 1 and its opposite for each sequence",
                 "--method=marketplace --plan=low-rank --width=64 --batch=64 --lr=3e-3 --least-lr=4e-5 --probe-scale=0.33 --warmup=20 --steps=2540"},
    {"feedback", "forward passes only: noise teaches matrices that predict slopes from the error at the logits",
                 "--method=marketplace --plan=feedback --width=64 --init=wide --batch=16 --lr=5e-3 --least-lr=1e-5 --warmup=20 --tflop=1.2"},
};
// clang-format on

TextSettings saved_settings(const std::string& checkpoint) {
  TextSettings out;
  const Arguments words = saved_arguments(checkpoint);
  if (words.empty()) fail("{}: is no checkpoint: it says nothing of 'settings'", checkpoint);
  try {
    put_rows_over<TextSettings>(table(), out, words);
  } catch (const CLI::ParseError& error) {
    fail("{}: its settings: {}", checkpoint, error.what());
  }
  return out;
}

// The first preset of the method, and of its plan where that was given.
const Preset& usual_preset(const Arguments& words) {
  TextSettings wanted;
  put_rows_over<TextSettings>(table(), wanted, words);
  for (const Preset& preset : kPresets) {
    TextSettings s;
    put_rows_over<TextSettings>(table(), s, split_arguments(preset.arguments));
    if (s.method == wanted.method && (!has(words, "plan") || s.plan == wanted.plan)) return preset;
  }
  return kPresets[0];
}

void check(const TextSettings& s, const Arguments& words) {
  for (const std::string& word : words)
    if (is_foreign<TextSettings>(table(), word, s.method))
      fail("train gpt: --{} is not of --method {}", name_of(word), s.method);
  if (s.plan == "feedback" && has(words, "probe-scale"))
    fail("train gpt: --probe-scale is of --plan low-rank, not of feedback");
  if (s.method == "marketplace" && s.plan == "feedback" && s.dtype != "f32")
    fail("train gpt: --plan feedback has products of f32, not of {}", s.dtype);
  if (s.recipe != "none" && s.dtype != "f32") fail("train gpt: --recipe {} is of --dtype f32", s.recipe);
  if (s.telemetry_every > 0 && (s.recipe == "none" || !scalify::find_recipe(s.recipe).is_for_graph()))
    fail("train gpt: --telemetry-every {} is of a recipe whose scales are propagated, not of {}",
         s.telemetry_every, s.recipe);
  const bool forward_only = s.method == "marketplace";
  if (forward_only && s.plan == "feedback" && s.recipe != "none")
    fail("train gpt: --plan feedback takes no --recipe {}", s.recipe);
  if (forward_only && s.dropout != 0)
    fail("train gpt: --dropout {}: a vendor and its opposite must see the same network", s.dropout);
}

// Of steps, seconds and work what was given counts, and not what the preset says of the others.
void choose_end(TextSettings& s, const Arguments& words) {
  const bool steps = has(words, "steps"), seconds = has(words, "seconds"), tflop = has(words, "tflop");
  if (steps + seconds + tflop > 1) fail("train gpt: either --steps or --seconds or --tflop");
  if (steps || tflop) s.seconds = 0;
  if (steps || seconds) s.tflop = 0;
}

}  // namespace

TableOf<TextSettings> text_setting_table() { return table(); }
std::span<const Preset> text_presets() { return kPresets; }

int64_t vocabulary_tokens(const std::string& text) {
  return text.starts_with("bpe:") ? std::stoll(text.substr(4)) : 0;
}

TextSettings text_settings_of(const std::string& preset, const Arguments& words) {
  const Preset& row = preset.empty() ? usual_preset(words) : find_preset(kPresets, preset, "train gpt");
  TextSettings s;
  put_rows_over<TextSettings>(table(), s, split_arguments(row.arguments));
  put_rows_over<TextSettings>(table(), s, words);
  choose_end(s, words);
  check(s, words);
  return s;
}

TextSettings text_settings_to_resume(const std::string& checkpoint, const Arguments& words) {
  const TextSettings was = saved_settings(checkpoint);
  TextSettings wanted = was;
  put_rows_over<TextSettings>(table(), wanted, words);
  wanted.seconds = wanted.tflop = 0;
  check_equal(text_setting_table(), was, wanted, checkpoint, [](auto&...) { return false; });
  return wanted;
}

}  // namespace kontor::tools
