// A run on a text: steps, validations, samples and checkpoints in their order.
#include "tools/text_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <kontor/kontor.h>
#include <kontor/marketplace.h>

#include "base/error.h"
#include "base/file.h"
#include "scalify/recipes.h"
#include "tools/castings.h"
#include "tools/progress.h"

namespace kontor::tools {

namespace fs = std::filesystem;

namespace {

// Windows of a validation on the way: 16 K tokens at a context of 64, a second's work at most.
constexpr int64_t kWindowsOnTheWay = 256;
// Steps after which a run that is to take some seconds knows how many it will have.
constexpr int64_t kMeasured = 20;
// What the loss is multiplied by for gradients in f16: those of 2,048 tokens' mean come to 2 at most, and 1e-8 of them is left.
constexpr double kLossScale = 4096;

/// Rounds the products of the model's linear layers as the recipe says.
void round_products(const scalify::Recipe& recipe, nn::Gpt& model) {
  std::vector<std::string> layers;
  for (const nn::NamedLinear& l : nn::linears(model)) {
    layers.push_back(l.name);
    l.layer->recipe = std::make_shared<const ProductRecipe>(scalify::product_recipe(recipe, l.name));
  }
  scalify::check_layers(recipe, layers);
}

// Steps whose work is measured before a run that is to do some work knows how many it will have, and how many before them have another.
struct WorkMeasured {
  int64_t before, steps;
};
WorkMeasured work_measured(const TextSettings& s) {
  const bool feedback = s.method == "marketplace" && s.plan == "feedback";
  return feedback ? WorkMeasured{marketplace::FeedbackOptions().all_in_first, 20} : WorkMeasured{0, 1};
}

/// The first batches of the run.
std::vector<Example> first_batches(const TextSettings& s, const Corpus& corpus) {
  constexpr int64_t count = 3;
  std::vector<Example> out;
  for (int64_t i = 0; i < count; ++i) {
    const Windows windows = corpus.batch(i, s.batch, s.context, s.seed);
    out.push_back({ids_of(windows), next_of(windows)});
  }
  return out;
}

/// What is trained, of a model that reads its parameters as f32.
nn::Objective objective_of(const TextSettings& s, const nn::Gpt& model) {
  return reading_wide(model, [training = s.method != "marketplace"](const nn::Gpt& m) {
    return nn::language_model(m, training);
  });
}

/// Where the recipe's scales were corrected is left in `corrections`.
std::unique_ptr<nn::Trainer> trainer_of(const TextSettings& s, nn::Gpt& model, const Corpus& corpus,
                                        std::vector<scalify::Correction>& corrections) {
  const std::vector<nn::Parameter> parameters = nn::parameters(model);
  const bool forward_only = s.method == "marketplace";
  if (forward_only && s.plan == "feedback") {
    marketplace::FeedbackOptions o{.lr = s.lr, .beta2 = s.beta2, .seed = s.seed};
    return std::make_unique<marketplace::FeedbackTrainer>(parameters, nn::language_model(model), o);
  }
  nn::Objective objective = objective_of(s, model);
  nn::AdamStates states;
  if (s.recipe != "none") {
    const scalify::Recipe recipe = scalify::find_recipe(s.recipe);
    if (!forward_only) keep_masters(parameters, recipe);
    states = scalify::adam_states_of(recipe);
    if (!recipe.is_for_graph()) {
      round_products(recipe, model);
    } else {
      corrections = calibrated(objective, parameters, recipe, first_batches(s, corpus));
      objective = with_casting(objective, parameters, recipe, corrections);
    }
  }
  if (forward_only) {
    marketplace::Options o;
    o.plan = marketplace::plan_of(s.plan), o.update = marketplace::Update::Adam;
    o.lr = s.lr, o.lr_decay = 0, o.probe_scale = s.probe_scale, o.beta2 = s.beta2, o.seed = s.seed;
    return std::make_unique<marketplace::Trainer>(parameters, std::move(objective), std::move(o));
  }
  auto adam =
      std::make_unique<nn::AdamW>(nn::decay_groups(parameters, s.decay), s.lr, 0.9, s.beta2, 1e-8, states);
  adam->clip(s.clip);
  if (s.dtype == "f16") adam->scale_loss(kLossScale);
  return std::make_unique<nn::BackpropTrainer>(std::move(objective), std::move(adam));
}

// Deviations of nn::Gpt's are 0.02. With so small ones slopes below a layer are small beside those above it, and noise shows little.
void widen(nn::Gpt& model) {
  const double of_tables = 0.2 / 0.02,
               of_matrices = 1 / std::sqrt(3.0 * static_cast<double>(model.options.width)) / 0.02;
  for (const nn::Parameter& p : nn::parameters(model)) {
    if (p.tensor->rank() < 2) continue;
    p.tensor->assign(*p.tensor * (p.name.starts_with("blocks.") ? of_matrices : of_tables));
  }
}

}  // namespace

TextRun::TextRun(const TextSettings& settings, const Corpus& corpus, const std::string& folder,
                 const std::string& from, std::string label)
    : settings_(settings), corpus_(corpus), own_(folder), folder_(folder), label_(std::move(label)) {
  corpus.check_context(settings.context);
  Context::current().seed(settings.seed);
  const TextSettings& s = settings_;
  model_ = std::make_unique<nn::Gpt>(nn::GptOptions{.vocabulary = corpus.vocabulary().size(),
                                                    .context = s.context,
                                                    .layers = s.layers,
                                                    .width = s.width,
                                                    .heads = s.heads,
                                                    .kv_heads = s.kv_heads,
                                                    .dropout = s.dropout,
                                                    .rotary = s.rotary,
                                                    .dtype = parse_dtype(s.dtype)});
  if (s.init == "wide") widen(*model_);
  for (const nn::Parameter& p : nn::parameters(*model_)) p.tensor->realize();
  std::vector<scalify::Correction> corrections;
  trainer_ = trainer_of(s, *model_, corpus, corrections);
  evaluation_ = std::make_unique<TextEvaluation>(
      *model_, corpus, reading_wide(*model_, [](const nn::Gpt& m) { return nn::language_model(m); }));
  if (s.telemetry_every > 0)
    telemetry_ = std::make_unique<Telemetry>(with_casting(objective_of(s, *model_), nn::parameters(*model_),
                                                          scalify::find_recipe(s.recipe), corrections),
                                             nn::parameters(*model_));
  generator_ = std::make_unique<nn::Generator>(*model_, nn::Choice{.temperature = 0.8, .seed = s.seed});
  if (!from.empty()) resume(from);
}

int64_t TextRun::parameters() const {
  int64_t count = 0;
  for (const nn::Parameter& p : nn::parameters(*model_)) count += p.tensor->elements();
  return count;
}

std::string TextRun::kept() const {
  auto* trainer = dynamic_cast<nn::BackpropTrainer*>(trainer_.get());
  if (!trainer) return "";
  const auto bytes_each = [&](const std::vector<nn::Parameter>& tensors) {
    double bytes = 0;
    for (const nn::Parameter& p : tensors)
      bytes += static_cast<double>(p.tensor->elements() * item_size(p.tensor->dtype()));
    return bytes / static_cast<double>(parameters());
  };
  DType format = DType::F32;
  if (settings_.recipe != "none") {
    const scalify::Recipe recipe = scalify::find_recipe(settings_.recipe);
    if (recipe.is_for_graph()) format = scalify::weight_gradient_of(recipe);
  }
  const double weights = bytes_each(nn::parameters(*model_)),
               moments = bytes_each(trainer->optimizer().state()),
               gradients = static_cast<double>(item_size(format));
  return fmt::format("{:.2f} bytes a parameter: weights {:.2f}, moments {:.2f}, gradients {:.2f}",
                     weights + moments + gradients, weights, moments, gradients);
}

void TextRun::resume(const std::string& checkpoint) {
  const fs::path metrics = fs::path(checkpoint).parent_path() / "metrics.csv",
                 telemetry = fs::path(checkpoint).parent_path() / "telemetry.json";
  if (fs::exists(metrics)) rows_ = read_rows(metrics.string(), text_columns());
  const nn::Metadata metadata = trainer_->load(checkpoint);
  std::erase_if(rows_, [&](const Row& row) { return row.step > trainer_->steps(); });
  if (telemetry_ && fs::exists(telemetry)) log_ = read_telemetry(telemetry.string(), trainer_->steps());
  if (const auto it = metadata.find("text_bytes");
      it != metadata.end() && it->second != std::to_string(corpus_.size()))
    fail("{}: was trained on a text of {} bytes, not of the {} of {}", checkpoint, it->second, corpus_.size(),
         corpus_.path());
  if (const auto it = metadata.find("tflop"); it != metadata.end())
    tflop_ = parse_work(it->second, checkpoint);
}

// How many steps the seconds or the work that were asked for are enough for; the learning rate has hardly depended on it yet.
void TextRun::plan(int64_t done, double seconds, double step_tflop) {
  const double each = seconds / static_cast<double>(done);
  const double left = (settings_.tflop - tflop_) / step_tflop;
  const double enough = settings_.tflop > 0 ? static_cast<double>(done) + left : settings_.seconds / each;
  const int64_t least = settings_.tflop > 0 ? done : done + 1;
  settings_.steps = std::max(least, static_cast<int64_t>(std::min(enough, 0x1p40)));
  settings_.seconds = settings_.tflop = 0;
}

void TextRun::execute() {
  const int64_t first = trainer_->steps();
  const TextSettings& s = settings_;
  Progress progress(first, label_);
  double begin = 0;  // the seconds of the first step, which compiles
  bool last = !s.open() && first >= s.steps;
  while (!last) {
    const int64_t step = trainer_->steps();
    const int64_t warmup = std::min(s.warmup, std::max<int64_t>(s.steps / 2, 1));
    trainer_->set_learning_rate(
        nn::WarmupCosine{s.lr, std::min(s.least_lr, s.lr), s.open() ? s.warmup : warmup, s.steps}.at(step));
    const Windows windows = corpus_.batch(step, s.batch, s.context, s.seed);
    look(step, windows);
    const nn::Metrics m = trainer_->step(ids_of(windows), next_of(windows));
    record(m);
    if (m.step == first + 1) begin = m.seconds;
    const WorkMeasured work = work_measured(s);
    if (s.tflop > 0 && m.step == first + work.before + work.steps) {
      const auto before = rows_.rbegin() + work.steps;
      plan(m.step, 0,
           (tflop_ - (before == rows_.rend() ? 0 : before->tflop)) / static_cast<double>(work.steps));
    } else if (s.seconds > 0 && m.step == first + kMeasured) {
      plan(m.step, rows_.back().seconds - begin, 0);
    }
    const bool enough = s.tflop > 0 && tflop_ + m.operations * 1e-12 > s.tflop;
    last = (!s.open() && m.step >= s.steps) || enough || interrupted != 0;
    const int64_t every = s.test_every > 0 ? s.test_every : std::max<int64_t>(s.steps / 10, 1);
    if (!last && !s.open() && m.step % every == 0) {
      validate(kWindowsOnTheWay);
      if (s.sample > 0 && std::isfinite(rows_.back().validation))
        progress.say(sample_of(*generator_, corpus_.vocabulary(), s.sample));
    }
    double checked = Row::kNone;
    for (auto row = rows_.rbegin(); row != rows_.rend() && std::isnan(checked); ++row)
      checked = row->validation;
    progress.show_text(m.step, s.open() ? 0 : s.steps, m.loss, static_cast<double>(s.batch * s.context),
                       checked);
    if (!last && s.checkpoint_every > 0 && m.step % s.checkpoint_every == 0) checkpoint();
  }
  progress.finish();
  if (rows_.empty())
    rows_.push_back({.step = first, .loss = Row::kNone, .learning_rate = s.lr, .tflop = tflop_, .tokens = 0});
  validate(0);
  write_files();
}

// What the step after `step` others rounds, where that is asked for. It drops what that step drops, which draws the same again.
void TextRun::look(int64_t step, const Windows& windows) {
  if (!telemetry_ || step % settings_.telemetry_every != 0) return;
  const uint64_t drawn = Context::current().random_counter();
  log_.steps.push_back(step);
  log_.batches.push_back(telemetry_->measure(ids_of(windows), next_of(windows)));
  Context::current().set_random_counter(drawn);
}

void TextRun::validate(int64_t most_windows) {
  const TextLoss loss = evaluation_->loss(most_windows);
  rows_.back().validation = loss.nats, rows_.back().bits = loss.bits_per_byte;
}

void TextRun::record(const nn::Metrics& m) {
  const Row before = rows_.empty() ? Row{.tokens = 0} : rows_.back();
  tflop_ += m.operations * 1e-12;
  rows_.push_back({.step = m.step,
                   .loss = m.loss,
                   .learning_rate = trainer_->learning_rate(),
                   .seconds = before.seconds + m.seconds,
                   .tflop = tflop_,
                   .tokens = before.tokens + static_cast<double>(settings_.batch * settings_.context)});
}

void TextRun::checkpoint() {
  write_file(folder_ + "/metrics.csv", format_rows(rows_, text_columns()));
  if (telemetry_) log_.write(folder_ + "/telemetry");
  keep_checkpoint(folder_);
  nn::Metadata about = about_model(model_->options, corpus_.vocabulary());
  about["settings"] = equal_text(text_setting_table(), settings_);
  about["text_bytes"] = std::to_string(corpus_.size());
  about["tflop"] = fmt::format("{:.17g}", tflop_);
  trainer_->save(folder_ + "/checkpoint.safetensors", about);
}

void TextRun::write_files() {
  checkpoint();
  nn::Metadata about = about_model(model_->options, corpus_.vocabulary());
  about["validation_loss"] = fmt::format("{:.6f}", rows_.back().validation);
  const WideParameters wide(nn::parameters(*model_));
  nn::save_parameters(folder_ + "/model.safetensors", wide.parameters, about);
  write_charts(folder_ + "/curve", text_charts(rows_));
}

}  // namespace kontor::tools
