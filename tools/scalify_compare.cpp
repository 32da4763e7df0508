// kontor scalify compare: what recipes do to a GPT's loss, with controls that must fail, as tables and pictures.
#include <algorithm>
#include <memory>

#include <kontor/kontor.h>

#include "base/error.h"
#include "scalify/recipes.h"
#include "tools/models.h"
#include "tools/study.h"
#include "tools/text_settings.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

/// What is asked of a recipe: how far its validation loss may be above, or (the control) must be above that of f32, per cent.
struct Asked {
  const char* recipe;
  Check::Bound bound;
  double percent;
};

/// A comparison: the model, how long it is trained, and what is asked of each recipe.
struct Comparison {
  const char* name;
  const char* about;
  const char* model;
  int64_t steps;
  std::vector<uint64_t> seeds;
  std::vector<Asked> asked;
};

constexpr Check::Bound AtMost = Check::Bound::AtMost, AtLeast = Check::Bound::AtLeast,
                       Near = Check::Bound::Near;

const std::vector<Comparison>& comparisons() {
  // clang-format off
  static const std::vector<Comparison> all{
      {"parity", "validation loss of a GPT of 2 layers of 64 against f32, the same seeds",
       "--layers=2 --width=64 --heads=4 --context=64 --batch=16 --lr=2e-3 --least-lr=2e-4", 800, {1, 2, 3, 4, 5},
       {{"f32-pass", Near, 0}, {"fp16", AtMost, 0.1}, {"fp8", AtMost, 0.5}, {"mxfp8", AtMost, 0.5}, {"nvfp4", AtMost, 2},
        {"fp8-unscaled", AtLeast, 5}}},
      // A third of the gaps of the paper's table 3: 2.87, 2.92, 2.92 and 2.93 to 2.87.
      {"paper", "the four rows of Scalify's table 3 (arXiv 2407.17353), in a GPT of 4 layers of 128",
       "--layers=4 --width=128 --heads=4 --context=64 --batch=16 --lr=1e-3 --least-lr=1e-4", 800, {1, 2, 3, 4, 5},
       {{"fp8-paper-1", AtMost, 0.1}, {"fp8-paper-2", AtMost, 0.58}, {"fp8-paper-3", AtMost, 0.58}, {"fp8-paper-4", AtMost, 0.7}}},
      // In seconds, for CI: losses of so few steps lie further apart.
      {"short", "one seed and 120 steps of the same: what would be grossly wrong",
       "--layers=2 --width=64 --heads=4 --context=64 --batch=16 --lr=2e-3 --least-lr=2e-4", 120, {1},
       {{"f32-pass", Near, 0}, {"fp16", AtMost, 0.3}, {"fp8", AtMost, 1.5}, {"mxfp8", AtMost, 1.5}, {"fp8-unscaled", AtLeast, 2}}},
  };
  // clang-format on
  return all;
}

struct Options {
  std::string name = "parity", text, out;
  std::vector<uint64_t> seeds;
  std::vector<std::string> recipes;
  int threads = 0;
  int64_t steps = 0;
};

Study study_of(const Comparison& c, const Options& o) {
  Study study{.name = std::string("scalify-") + c.name, .about = c.about};
  study.seeds = o.seeds.empty() ? c.seeds : o.seeds;
  const int64_t steps = o.steps > 0 ? o.steps : c.steps;
  const auto add = [&](const std::string& label, const std::string& recipe) {
    Arguments words = split_arguments(c.model);
    words.push_back(fmt::format("--steps={}", steps));
    words.push_back("--recipe=" + recipe);
    study.runs.push_back({label, "minute", words});
  };
  add("f32", "none");
  for (const Asked& a : c.asked) {
    if (!o.recipes.empty() && std::ranges::find(o.recipes, a.recipe) == o.recipes.end()) continue;
    add(a.recipe, a.recipe);
    study.checks.push_back({.run = a.recipe,
                            .column = &Row::validation,
                            .at = static_cast<double>(steps),
                            .bound = a.bound,
                            .expected = a.percent,
                            .minus = "f32",
                            .relative = true});
  }
  study.judged = o.steps == 0;
  return study;
}

void run(const Options& o) {
  std::string known;
  for (const Comparison& c : comparisons()) {
    known += fmt::format(" {}", c.name);
    if (o.name != c.name) continue;
    const Study study = study_of(c, o);
    for (const StudyRun& r : study.runs) text_settings_of(r.preset, r.arguments);  // mistakes before work
    catch_interruptions();
    Context::set_default({.threads = o.threads, .seed = 0});
    const std::string text = o.text.empty() ? shipped_data("tinyshakespeare.txt") : o.text;
    return run_study(study, TextSubject(text), o.out.empty() ? "out/" + study.name : o.out);
  }
  fail("scalify compare: no comparison '{}'; there are{}", o.name, known);
}

}  // namespace

void add_scalify_compare(CLI::App& scalify) {
  CLI::App* verb = scalify.add_subcommand(
      "compare", "What recipes do to a GPT's loss, checked: tables, curves and a folder for each run");
  auto o = std::make_shared<Options>();
  std::string list = "Comparisons:\n";
  for (const Comparison& c : comparisons()) list += fmt::format("  {:8} {}\n", c.name, c.about);
  verb->footer(list);
  verb->add_option("name", o->name, "One of the comparisons below")
      ->capture_default_str()
      ->check(not_empty());
  verb->add_option("text", o->text, "A text (default: tinyshakespeare.txt)")->check(not_empty());
  verb->add_option("--seeds", o->seeds, "Seeds, as 1,2,3")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(whole_of_64_bits());
  verb->add_option("--recipes", o->recipes, "Only these of it, as fp8,fp16")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("--steps", o->steps, "Steps of each run; then nothing is judged (0: its own)")
      ->check(whole(0, 1 << 30));
  verb->add_option("--threads", o->threads, "Threads (0: one a core)")->check(whole(0, 4096));
  verb->add_option("--out", o->out, "Folder; what is done there already is kept (default: out/scalify-NAME)")
      ->check(not_empty());
  verb->callback([o] { run(*o); });
}

}  // namespace kontor::tools
