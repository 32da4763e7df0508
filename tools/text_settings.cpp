// The table of settings of a GPT's training, its presets, and what a checkpoint says of them.
#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "tools/text_run.h"
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
const std::vector<TextSettingRow>& table() {
  using S = TextSettings;
  static const std::vector<TextSettingRow> rows = {
    {"layers",           &S::layers,           Later::Equal, whole(1, 1000),        "Transformer blocks"},
    {"width",            &S::width,            Later::Equal, whole(1, 1 << 16),     "Numbers of a token's vector"},
    {"heads",            &S::heads,            Later::Equal, whole(1, 1 << 16),     "Heads of attention, which divide the width"},
    {"kv-heads",         &S::kv_heads,         Later::Equal, whole(0, 1 << 16),     "Heads of keys and values, shared by those of queries (0: as many)"},
    {"context",          &S::context,          Later::Equal, whole(1, 1 << 20),     "Tokens that a token can see, itself included"},
    {"rotary",           &S::rotary,           Later::Equal, {},                    "Positions as rotations of queries and keys, not as a table"},
    {"vocabulary",       &S::vocabulary,       Later::Equal, vocabularies(),        "chars: a token for each byte that occurs; bpe:N: N of them, bytes and pairs learned from the text"},
    {"dropout",          &S::dropout,          Later::Equal, number(0, 0.99),       "Part of the activations that is dropped in training"},
    {"dtype",            &S::dtype,            Later::Equal, CLI::IsMember({"f32", "bf16", "f16"}), "Of products, f32, bf16 or f16; weights stay f32"},
    {"method",           &S::method,           Later::Equal, CLI::IsMember({"backprop", "marketplace"}), "backprop; marketplace: forward passes only (docs/marketplace.md)"},
    {"plan",             &S::plan,             Later::Equal, CLI::IsMember({"low-rank"}), "marketplace: how vendors are put together"},
    {"probe-scale",      &S::probe_scale,      Later::Equal, number_above(0),       "marketplace: deltas have size lr * this"},
    {"batch",            &S::batch,            Later::Equal, whole(1, 1 << 20),     "Windows of the text a step"},
    {"steps",            &S::steps,            Later::Equal, whole(1, kMost),       "Steps in all, those before a resume included"},
    {"seconds",          &S::seconds,          Later::Free,  number(0),             "As many steps as take about this long (0: as --steps says)"},
    {"lr",               &S::lr,               Later::Equal, number_above(0),       "Learning rate after the warm-up, from which it falls along a cosine"},
    {"least-lr",         &S::least_lr,         Later::Equal, number_above(0),       "Learning rate at the end"},
    {"warmup",           &S::warmup,           Later::Equal, whole(1, kMost),       "Steps in which the learning rate rises"},
    {"decay",            &S::decay,            Later::Equal, number(0),             "Weight decay of matrices and tables (AdamW)"},
    {"beta2",            &S::beta2,            Later::Equal, number(0, 0.99999),    "Decay of Adam's second moments"},
    {"clip",             &S::clip,             Later::Equal, number(0),             "Length that gradients are clipped to (0: none)"},
    {"seed",             &S::seed,             Later::Equal, whole_of_64_bits(),    "Of weights, windows and dropout"},
    {"test-every",       &S::test_every,       Later::Free,  whole(0, kMost),       "Steps from one validation to the next (0: a tenth of all)"},
    {"checkpoint-every", &S::checkpoint_every, Later::Free,  whole(0, kMost),       "Steps from one checkpoint to the next (0: only at the end)"},
    {"sample",           &S::sample,           Later::Free,  whole(0, 100000),      "Bytes of text that are shown with each validation"},
  };
  return rows;
}

constexpr TextPreset kPresets[] = {
    {"minute", "what two cores learn in a minute", "--seconds=60"},
    {"tiny",   "seconds: to see that all works",   "--layers=1 --width=32 --heads=2 --context=32 --batch=8 --steps=100 --warmup=20"},
    {"nano",   "nanoGPT's setting for CPUs: 4 layers of 128, 2000 steps",
               "--layers=4 --lr=1e-3 --least-lr=1e-4 --steps=2000"},
    {"low-rank", "forward passes only: a vendor of rank 1 and its opposite for each sequence",
                 "--method=marketplace --plan=low-rank --width=64 --batch=64 --lr=3e-3 --least-lr=4e-5 --probe-scale=0.33 --warmup=20 --steps=2540"},
};
// clang-format on

std::string option(const TextSettingRow& row, const std::string& value) {
  return fmt::format("--{}={}", row.name, value);
}

std::string value_text(const TextSettings& settings, const TextSettingRow& row) {
  return std::visit([&](auto member) { return fmt::format("{}", settings.*member); }, row.member);
}

TextSettings saved_settings(const std::string& checkpoint) {
  const nn::Metadata metadata = nn::load_metadata(checkpoint);
  const auto it = metadata.find("settings");
  if (it == metadata.end()) fail("{}: is no checkpoint: it says nothing of 'settings'", checkpoint);
  const Json list = parse_json(it->second, checkpoint + ": settings");
  if (!list.is_array()) fail("{}: its settings are no list", checkpoint);
  Arguments words;
  for (const Json& word : list) {
    if (!word.is_string() || !word.get<std::string>().starts_with("--"))
      fail("{}: its settings have {} where an option is to be", checkpoint, word.dump());
    words.push_back(word.get<std::string>());
  }
  TextSettings out;
  try {
    put_over(out, words);
  } catch (const CLI::ParseError& error) {
    fail("{}: its settings: {}", checkpoint, error.what());
  }
  return out;
}

}  // namespace

std::span<const TextSettingRow> text_setting_table() { return table(); }
std::span<const TextPreset> text_presets() { return kPresets; }

int64_t vocabulary_tokens(const std::string& text) {
  return text.starts_with("bpe:") ? std::stoll(text.substr(4)) : 0;
}

void add_text_settings(CLI::App& verb, TextSettings& settings) {
  for (const TextSettingRow& row : table()) {
    const auto add = [&](auto member) {
      auto& value = settings.*member;
      const std::string name = fmt::format("--{}", row.name);
      if constexpr (std::is_same_v<decltype(value), bool&>) return verb.add_flag(name, value, row.help);
      else return verb.add_option(name, value, row.help);
    };
    std::visit(add, row.member)->check(row.check)->take_last();
  }
}

void put_over(TextSettings& settings, Arguments words) {
  CLI::App parser;
  add_text_settings(parser, settings);
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  parser.parse(std::move(words));
}

Arguments given_text_settings(const CLI::App& verb) {
  Arguments out;
  for (const TextSettingRow& row : table()) {
    const CLI::Option* given = verb.get_option(fmt::format("--{}", row.name));
    if (given->count() > 0) out.push_back(option(row, given->results().back()));
  }
  return out;
}

TextSettings text_settings_of(const std::string& preset, const Arguments& words) {
  std::string known;
  for (const TextPreset& p : kPresets) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", p.name);
    if (!preset.empty() && preset != p.name) continue;
    TextSettings s;
    put_over(s, split_arguments(p.arguments));
    put_over(s, words);
    const auto starts = [&](const char* name) {
      return std::any_of(words.begin(), words.end(), [&](auto& w) { return w.starts_with(name); });
    };
    if (starts("--steps=") && starts("--seconds=")) fail("train gpt: either --steps or --seconds");
    if (starts("--steps=")) s.seconds = 0;  // the preset's
    const bool forward_only = s.method == "marketplace";
    const auto foreign = forward_only ? std::array{"decay", "clip"} : std::array{"plan", "probe-scale"};
    for (const char* name : foreign)
      if (starts(fmt::format("--{}=", name).c_str()))
        fail("train gpt: --{} is not of --method {}", name, s.method);
    if (forward_only && s.dropout != 0)
      fail("train gpt: --dropout {}: a vendor and its opposite must see the same network", s.dropout);
    return s;
  }
  fail("train gpt: no preset '{}'; there are {}", preset, known);
}

std::string text_settings_text(const TextSettings& settings) {
  Json list = Json::array();
  for (const TextSettingRow& row : table())
    if (row.later == Later::Equal) list.push_back(option(row, value_text(settings, row)));
  return list.dump();
}

TextSettings text_settings_to_resume(const std::string& checkpoint, const Arguments& words) {
  const TextSettings was = saved_settings(checkpoint);
  TextSettings wanted = was;
  put_over(wanted, words);
  wanted.seconds = 0;
  std::string old, now;
  for (const TextSettingRow& row : table()) {
    const std::string a = value_text(was, row), b = value_text(wanted, row);
    if (row.later == Later::Free || a == b) continue;
    old += " " + option(row, a), now += " " + option(row, b);
  }
  if (!old.empty()) fail("{}: was trained with{}, not with{}", checkpoint, old, now);
  return wanted;
}

}  // namespace kontor::tools
