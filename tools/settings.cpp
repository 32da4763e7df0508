// The table of settings, its command line, and what a trainer is made of.
#include "tools/settings.h"

#include <algorithm>
#include <charconv>

#include <kontor/marketplace.h>

#include "base/error.h"
#include "scalify/recipes.h"
#include "tools/castings.h"
#include "tools/validators.h"

namespace kontor::tools {

namespace {

// A count that no run reaches, and that times a batch stays below 2^63.
constexpr int64_t kMost = int64_t{1} << 40;
const CLI::Validator counts = whole(1, kMost), counts_or_none = whole(0, kMost), labels = whole(0, 9),
                     parts = whole(1, 1 << 20), none = {};

// "8,8,8" as numbers. Throws Error that shows what is none.
std::vector<int64_t> numbers(const std::string& text) {
  std::vector<int64_t> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int64_t value = 0;
    const auto [stop, code] = std::from_chars(&text[begin], &text[begin] + (end - begin), value);
    if (code != std::errc() || stop != &text[begin] + (end - begin))
      fail("'{}' in '{}' is not a whole number", text.substr(begin, end - begin), text);
    out.push_back(value);
    begin = end + 1;
    if (begin == text.size()) fail("'{}' ends in a comma", text);
  }
  return out;
}

CLI::Validator numbers_only() {
  const auto check = [](std::string& text) -> std::string {
    try {
      if (numbers(text).empty()) fail("no number is given");
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  };
  return {check, "N,N,.."};
}

std::vector<std::string> plan_names() {
  std::vector<std::string> out;
  for (std::string_view name : marketplace::plan_names()) out.emplace_back(name);
  return out;
}

// clang-format off
const std::vector<SettingRow>& table() {
  using S = Settings;
  static const std::vector<SettingRow> rows = {
    {"method",           &S::method,           Of::All,         Later::Equal, CLI::IsMember({"marketplace", "backprop"}),   "marketplace: forward passes only; backprop"},
    {"plan",             &S::plan,             Of::Marketplace, Later::Equal, CLI::IsMember(plan_names()),  "How vendors are put together, and what is made of their losses (docs/marketplace.md)"},
    {"groups",           &S::groups,           Of::Marketplace, Later::Equal, not_empty(),                  "Layers perturbed together, as \"conv1|conv2+norm1|conv3|conv4+norm2|linear\""},
    {"vendors",          &S::vendors,          Of::Marketplace, Later::Equal, numbers_only(),               "Vendors of each group, as 4,4,8,16,128"},
    {"unit",             &S::unit,             Of::Marketplace, Later::Equal, CLI::IsMember({"per-spec",    "whole"}),         "A step has length lr in each group (per-spec) or in all (whole)"},
    {"probe-scale",      &S::probe_scale,      Of::Marketplace, Later::Equal, number_above(0),              "Deltas have size lr * this"},
    {"noise",            &S::noise,            Of::Marketplace, Later::Equal, CLI::IsMember({"uniform",     "rademacher"}),     "Deltas uniform in their range, or of its ends only"},
    {"antithetic",       &S::antithetic,       Of::Marketplace, Later::Equal, none,                         "Vendors in pairs of opposite deltas"},
    {"update",           &S::update,           Of::Marketplace, Later::Equal, CLI::IsMember({"unit",        "adam"}),              "A step of length lr along the direction, or Adam on the estimated gradient"},
    {"meta-lr",          &S::meta_lr,          Of::Marketplace, Later::Equal, number(0, 1),                 "A second forward pass chooses each spec's lr within +- this part (0: none)"},
    {"upstream",         &S::upstream,         Of::Marketplace, Later::Equal, numbers_only(),               "Paths that each vendor of a group continues, drawn, as 0,2,4 (0: all)"},
    {"one-in",           &S::one_in,           Of::Marketplace, Later::Equal, numbers_only(),               "activity: vendors of each group for one in so many of the drawn samples, as 8,4,1,1,1"},
    {"beta2",            &S::beta2,            Of::Marketplace, Later::Equal, number(0, 1),                 "Adam: decay of the second moment"},
    {"forward-passes",   &S::forward_passes,   Of::Marketplace, Later::Equal, parts,                        "Evaluate a step's samples in this many parts"},
    {"recipe",           &S::recipe,           Of::All,         Later::Equal, not_empty(),             "Formats of products, by scales that are propagated (docs/scalify.md)"},
    {"optimizer",        &S::optimizer,        Of::Backprop,    Later::Equal, CLI::IsMember({"adam",        "sgd"}),               "adam or sgd"},
    {"batch",            &S::batch,            Of::All,         Later::Equal, parts,                        "Samples a step"},
    {"steps",            &S::steps,            Of::All,         Later::Free,  counts,                       "Steps in all, those before a resume included"},
    {"tflop",            &S::tflop,            Of::All,         Later::Free,  number(0),                    "Stop before the work done exceeds this (0: no limit)"},
    {"lr",               &S::lr,               Of::All,         Later::Equal, number_above(0),              "Learning rate; of Marketplace: the length of a step"},
    {"lr-decay",         &S::lr_decay,         Of::All,         Later::Equal, number(0, 1),                 "lr *= 1 - this after each step"},
    {"lr-schedule",      &S::lr_schedule,      Of::All,         Later::Equal, CLI::IsMember({"decay",       "linear"}),         "decay: by --lr-decay; linear: lr falls along a line to 0 at the last step"},
    {"seed",             &S::seed,             Of::All,         Later::Equal, whole_of_64_bits(),           "Of weights, batches and deltas"},
    {"test-every",       &S::test_every,       Of::All,         Later::Free,  counts_or_none,               "Steps from one test to the next (0: a tenth of all); the last step is always tested"},
    {"checkpoint-every", &S::checkpoint_every, Of::All,         Later::Free,  counts_or_none,               "Steps from one checkpoint to the next (0: only at the end)"},
    {"init",             &S::init,             Of::All,         Later::Free,  not_empty(),                  "A model.safetensors to start from, instead of random weights"},
    {"withhold",         &S::withhold,         Of::All,         Later::Equal, labels,                       "Train without the images of this label"},
    {"new-label",        &S::new_label,        Of::All,         Later::Free,  labels,                       "Show test accuracies of this label and of the others apart"},
    {"pool",             &S::pool,             Of::All,         Later::Equal, counts_or_none,               "Train on the first images only, this many (0: all)"},
  };
  return rows;
}
// clang-format on

// The first preset of the method, and of its plan or optimizer where that was given.
const Preset& usual_preset(std::span<const std::string> arguments) {
  Settings wanted;
  put_rows_over<Settings>(table(), wanted, arguments);
  for (const Preset& preset : presets()) {
    Settings s;
    put_rows_over<Settings>(table(), s, split_arguments(preset.arguments));
    if (s.method != wanted.method) continue;
    const bool backprop = s.method == "backprop";
    if (!backprop && has(arguments, "plan") && s.plan != wanted.plan) continue;
    if (backprop && has(arguments, "optimizer") && s.optimizer != wanted.optimizer) continue;
    return preset;
  }
  fail("train: there is no preset of method {}, plan {}", wanted.method, wanted.plan);
}

void check(const Settings& s, std::span<const std::string> given) {
  for (const std::string& argument : given)
    if (is_foreign<Settings>(table(), argument, s.method))
      fail("train: --{} is not of --method {}", name_of(argument), s.method);
  if (!s.groups.empty() && s.vendors.empty())
    fail("train: --groups {} needs --vendors, a count for each group", s.groups);
  if (s.lr_schedule == "linear" && s.lr_decay != 0)
    fail("train: --lr-decay {} is of --lr-schedule decay, not of linear", s.lr_decay);
  if (s.withhold >= 0 && s.withhold == s.new_label)
    fail("train: label {} is withheld and new at once; to learn it, leave --withhold out", s.withhold);
}

marketplace::Options market(const Settings& s) {
  marketplace::Options m;
  m.plan = marketplace::plan_of(s.plan);
  m.unit = s.unit == "whole" ? marketplace::Unit::Whole : marketplace::Unit::PerGroup;
  const std::vector<int64_t> vendors = numbers(s.vendors);
  m.groups = s.groups.empty() ? marketplace::mnist_groups(m.plan, vendors)
                              : marketplace::parse_groups(s.groups, vendors);
  const std::vector<int64_t> upstream = numbers(s.upstream);
  if (!upstream.empty() && upstream.size() != m.groups.size())
    fail("train: --upstream {} has {} counts for {} groups", s.upstream, upstream.size(), m.groups.size());
  for (size_t i = 0; i < upstream.size(); ++i) m.groups[i].upstream = upstream[i];
  const std::vector<int64_t> one_in = numbers(s.one_in);
  if (!one_in.empty() && one_in.size() != m.groups.size())
    fail("train: --one-in {} has {} counts for {} groups", s.one_in, one_in.size(), m.groups.size());
  for (size_t i = 0; i < one_in.size(); ++i) m.groups[i].one_in = one_in[i];
  m.beta2 = s.beta2;
  m.noise = s.noise == "rademacher" ? marketplace::Noise::Rademacher : marketplace::Noise::Uniform;
  m.update = s.update == "adam" ? marketplace::Update::Adam : marketplace::Update::Unit;
  m.antithetic = s.antithetic, m.meta_lr = s.meta_lr, m.forward_passes = s.forward_passes;
  m.lr = s.lr, m.lr_decay = s.lr_decay, m.probe_scale = s.probe_scale, m.seed = s.seed;
  return m;
}

}  // namespace

TableOf<Settings> setting_table() { return table(); }

Settings settings_of(const std::string& preset, std::span<const std::string> arguments) {
  const Preset& row = preset.empty() ? usual_preset(arguments) : find_preset(presets(), preset, "train");
  Settings s;
  put_rows_over<Settings>(table(), s, split_arguments(row.arguments));
  const std::string method = s.method;
  put_rows_over<Settings>(table(), s, arguments);
  if (s.method != method) fail("train: preset {} is of method {}, not of {}", row.name, method, s.method);
  check(s, arguments);
  s.preset = row.name;
  return s;
}

Arguments of_method(std::span<const std::string> arguments, const std::string& method) {
  Arguments out;
  for (const std::string& a : arguments)
    if (!is_foreign<Settings>(table(), a, method)) out.push_back(a);
  return out;
}

std::unique_ptr<nn::Trainer> make_trainer(const Settings& s, nn::MnistCnn& model) {
  nn::Objective objective = reading_wide(model, [](const nn::MnistCnn& m) { return nn::classification(m); });
  std::vector<nn::Parameter> parameters = nn::parameters(model);
  nn::AdamStates states;
  if (s.recipe != "none") {
    const scalify::Recipe recipe = scalify::find_recipe(s.recipe);
    if (s.method == "backprop") keep_masters(parameters, recipe);
    states = scalify::adam_states_of(recipe);
    objective = with_casting(std::move(objective), parameters, recipe);
  }
  if (s.method == "marketplace")
    return std::make_unique<marketplace::Trainer>(parameters, objective, market(s));
  std::unique_ptr<nn::Optimizer> optimizer;
  if (s.optimizer == "adam")
    optimizer = std::make_unique<nn::Adam>(parameters, s.lr, 0.9, 0.999, 1e-8, states);
  else optimizer = std::make_unique<nn::SGD>(parameters, s.lr);
  optimizer->write_stochastically(states.stochastic);
  return std::make_unique<nn::BackpropTrainer>(objective, std::move(optimizer), s.lr_decay);
}

}  // namespace kontor::tools
