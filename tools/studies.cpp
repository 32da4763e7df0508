// kontor study: the table of studies, and the verb that runs one.
#include <algorithm>
#include <cstdio>
#include <memory>

#include <kontor/kontor.h>

#include "backends/backend.h"
#include "base/error.h"
#include "tools/study.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct StudyRow {
  const char* name;
  const char* about;
  Study (*full)();
  Study (*brief)();  // seconds instead of hours: the same checks with figures of its own, on data/mnist-12k
};

constexpr int64_t kFull = 60000, kCut = 12000;  // training images of MNIST, and of data/mnist-12k

StudyRun run(const char* label, const char* preset, const char* arguments) {
  return {label, preset, split_arguments(arguments)};
}

Check near(const char* label, double steps, double expected, double tolerance) {
  return {.run = label, .at = steps, .expected = expected, .tolerance = tolerance};
}

Check at_least(const char* label, Check::Axis axis, double at, double expected,
               double Row::* column = &Row::test, const char* minus = "") {
  return {.run = label,
          .column = column,
          .axis = axis,
          .at = at,
          .bound = Check::Bound::AtLeast,
          .expected = expected,
          .minus = minus};
}

Study v2_curve() {
  return {
      .name = "v2-curve",
      .about = "Marketplace V2 as published, 8 vendors a spec, against the curve of the articles' algorithm",
      .runs = {run("v2", "v2", "--steps=1000 --test-every=50")},
      .seeds = {1, 2, 3},
      .checks = {near("v2", 50, 44.2, 5), near("v2", 100, 66.1, 5), near("v2", 200, 81.8, 5),
                 near("v2", 300, 87.0, 5), near("v2", 400, 89.5, 3), near("v2", 500, 90.6, 3),
                 near("v2", 600, 92.0, 3), near("v2", 800, 93.3, 3), near("v2", 1000, 94.0, 3)},
      .images = kFull};
}
Study v2_curve_brief() {
  return {.name = "v2-curve",
          .about = "The short form of the study of V2: 4 vendors a spec, batch 64",
          .runs = {run("v2", "v2-small", "--steps=40 --test-every=20")},
          .seeds = {1, 2},
          .checks = {near("v2", 40, 21, 8)},
          .images = kCut};
}

Study backprop() {
  return {.name = "backprop",
          .about = "Backprop of the same network, beside which every other study stands",
          .runs = {run("adam 512", "adam", "--batch=512 --steps=120 --test-every=20"),
                   run("adam 64", "adam", "--batch=64 --steps=300 --test-every=50"),
                   run("sgd 1e-3", "sgd", "--batch=512 --lr=1e-3 --steps=200 --test-every=50"),
                   run("sgd 1e-2", "sgd", "--batch=512 --lr=1e-2 --steps=200 --test-every=20")},
          .seeds = {1, 2, 3},
          .checks = {near("adam 512", 20, 93.3, 5), near("adam 512", 120, 97.9, 1),
                     near("adam 64", 50, 93.8, 3), near("adam 64", 100, 96.3, 1.5),
                     near("adam 64", 300, 97.4, 1), near("sgd 1e-3", 50, 72.2, 5),
                     near("sgd 1e-3", 200, 89.2, 3), near("sgd 1e-2", 20, 88.5, 5)},
          .images = kFull};
}
Study backprop_brief() {
  return {.name = "backprop",
          .about = "The short form of the study of backprop",
          .runs = {run("adam 64", "adam", "--batch=64 --steps=40 --test-every=20"),
                   run("sgd 1e-2", "sgd", "--batch=64 --steps=20 --test-every=20")},
          .seeds = {1},
          .checks = {near("adam 64", 40, 90, 6), at_least("sgd 1e-2", Check::Axis::Steps, 20, 50)},
          .images = kCut};
}

Study v1_curve() {
  return {
      .name = "v1-curve",
      .about =
          "Marketplace V1 as published, 8 vendors a spec, batch 64, against the curve of the articles' algorithm",
      .runs = {run("v1", "v1", "--batch=64 --steps=400 --test-every=50")},
      .seeds = {1, 2, 3},
      .checks = {near("v1", 100, 23, 5), near("v1", 200, 39, 5), near("v1", 300, 49, 5),
                 near("v1", 400, 59, 3)},
      .images = kFull};
}
Study v1_curve_brief() {
  return {.name = "v1-curve",
          .about = "The short form of the study of V1: 4 vendors a spec, a longer stride",
          .runs = {run("v1", "v1", "--vendors=4,4,4 --batch=32 --lr=3e-3 --steps=100 --test-every=50")},
          .seeds = {1, 2},
          .checks = {near("v1", 100, 30, 10)},
          .images = kCut};
}

Study block_star() {
  constexpr auto work = Check::Axis::Tflop;
  return {.name = "block-star",
          .about = "Block-star within 3, 16.5 and 33 TFLOP",
          .runs = {run("3 TFLOP", "block-star-3", ""), run("16.5 TFLOP", "block-star-16", ""),
                   run("33 TFLOP", "block-star-33", "")},
          .seeds = {1, 2, 3},
          .checks = {at_least("3 TFLOP", work, 3, 93), at_least("16.5 TFLOP", work, 16.5, 96),
                     at_least("33 TFLOP", work, 33, 97.3)},
          .images = kFull};
}
Study block_star_brief() {
  return {.name = "block-star",
          .about = "The short form of the study of block-star: 0.3 TFLOP",
          .runs = {run("0.3 TFLOP", "block-star-3", "--tflop=0.3")},
          .seeds = {1, 2},
          .checks = {at_least("0.3 TFLOP", Check::Axis::Tflop, 0.3, 35)},
          .images = kCut};
}

Study activity() {
  constexpr auto work = Check::Axis::Tflop;
  return {.name = "activity",
          .about = "The activity plan within 3 and 16.5 TFLOP, beside block-star and Adam",
          .runs = {run("3 TFLOP", "activity-3", ""), run("16.5 TFLOP", "activity-16", ""),
                   run("block-star, 3 TFLOP", "block-star-3", ""),
                   run("adam, 3 TFLOP", "adam", "--tflop=3 --steps=4000 --lr-schedule=linear")},
          .seeds = {1, 2, 3},
          .checks = {at_least("3 TFLOP", work, 3, 97.2), at_least("16.5 TFLOP", work, 16.5, 98.2)},
          .images = kFull};
}
Study activity_brief() {
  return {.name = "activity",
          .about = "The short form of the study of the activity plan: 0.3 TFLOP",
          .runs = {run("0.3 TFLOP", "activity-3", "--tflop=0.3")},
          .seeds = {1, 2},
          .checks = {at_least("0.3 TFLOP", Check::Axis::Tflop, 0.3, 60)},
          .images = kCut};
}

// The base knows nine digits; the tenth is learned from the first 256 images.
std::vector<StudyRun> continual_runs(const char* base, const char* block_star, const char* published,
                                     const char* sgd) {
  std::vector<StudyRun> runs = {run("base", "adam", base),
                                run("block-star", "block-star-continual", block_star),
                                run("published", "continual", published), run("sgd", "sgd", sgd)};
  for (StudyRun& r : runs) {
    if (r.label == "base") r.arguments.emplace_back("--withhold=9");
    else
      for (const char* more : {"--new-label=9", "--pool=256", "--init={base}/model.safetensors"})
        r.arguments.emplace_back(more);
  }
  return runs;
}
Study continual() {
  return {.name = "continual",
          .about = "Digit 9 is learned by a network that was trained without it, from 256 images",
          .runs = continual_runs("--batch=512 --steps=60", "--test-every=5", "--test-every=200",
                                 "--batch=256 --lr=1e-2 --steps=40 --test-every=5"),
          .seeds = {1, 2, 3},
          .checks = {at_least("block-star", Check::Axis::Steps, 40, 75, &Row::fresh),
                     at_least("block-star", Check::Axis::Steps, 40, -1.5, &Row::old, "base")},
          .images = kFull};
}
Study continual_brief() {
  return {.name = "continual",
          .about = "The short form of the study of continual learning",
          .runs = continual_runs(
              "--batch=64 --steps=60", "--vendors=1,1,2,2,16 --batch=64 --steps=10 --test-every=5",
              "--steps=10 --test-every=5", "--batch=64 --lr=1e-2 --steps=20 --test-every=5"),
          .seeds = {1},
          .checks = {at_least("base", Check::Axis::Steps, 60, 80, &Row::old),
                     at_least("sgd", Check::Axis::Steps, 20, 20, &Row::fresh),
                     at_least("block-star", Check::Axis::Steps, 10, -20, &Row::old, "base")},
          .images = kCut};
}

Study v2_grid(const char* name, const char* about, const char* arguments, std::vector<std::string> grid) {
  return {.name = name,
          .about = about,
          .runs = {run("v2", "v2-small", arguments)},
          .seeds = {1},
          .grid = std::move(grid)};
}
// A grid's short form: two places of it, of which the first must learn.
Study brief_grid(Study study, std::string axis) {
  study.about = "A short form: " + study.about;
  study.grid = {std::move(axis)};
  for (const char* setting : {"--steps=20", "--test-every=20"}) study.runs[0].arguments.emplace_back(setting);
  const std::string& first = study.grid[0];
  study.checks = {{.run = "v2 " + first.substr(0, first.find('/')),
                   .at = 20,
                   .bound = Check::Bound::AtLeast,
                   .expected = 12}};
  study.images = kCut;
  return study;
}

Study learning_rate() {
  return v2_grid("learning-rate", "V2 at learning rates and probe scales, 4 vendors a spec, batch 64",
                 "--steps=300 --test-every=50", {"lr=0.1/0.15/0.2/0.25/0.3", "probe-scale=0.01/0.1/0.3"});
}
Study learning_rate_brief() { return brief_grid(learning_rate(), "lr=0.1/0.3"); }
Study unit_vector() {
  return v2_grid("unit-vector", "V2 with a unit vector for each spec or for all, 4 vendors a spec, batch 64",
                 "--probe-scale=1e-3 --steps=300 --test-every=50",
                 {"unit=per-spec/whole", "lr=0.09/0.1/0.2/0.3"});
}
Study unit_vector_brief() { return brief_grid(unit_vector(), "unit=per-spec/whole"); }
Study vendor_count() {
  return v2_grid("vendor-count", "V2 with more vendors a spec, batch 64", "--steps=300 --test-every=50",
                 {"vendors=2,2,2/4,4,4/8,8,8"});
}
Study vendor_count_brief() { return brief_grid(vendor_count(), "vendors=2,2,2/3,3,3"); }

constexpr StudyRow kStudies[] = {
    {"v2-curve", "V2 as published against its curve: 3 seeds of 255 TFLOP", v2_curve, v2_curve_brief},
    {"v1-curve", "V1 as published against its curve", v1_curve, v1_curve_brief},
    {"block-star", "block-star within 3, 16.5 and 33 TFLOP", block_star, block_star_brief},
    {"activity", "the activity plan within 3 and 16.5 TFLOP", activity, activity_brief},
    {"continual", "a withheld digit is learned: block-star, as published, SGD", continual, continual_brief},
    {"learning-rate", "V2 over learning rates and probe scales", learning_rate, learning_rate_brief},
    {"unit-vector", "V2 with a unit vector for each spec or for all", unit_vector, unit_vector_brief},
    {"vendor-count", "V2 over numbers of vendors", vendor_count, vendor_count_brief},
    {"backprop", "Adam and SGD on the same network", backprop, backprop_brief},
};

// Whether the library has the plans of all its presets.
bool can_run(const StudyRow& row) {
  const Study study = row.full();
  return std::all_of(study.runs.begin(), study.runs.end(), [](const StudyRun& run) {
    return std::any_of(presets().begin(), presets().end(), [&](auto& p) { return run.preset == p.name; });
  });
}

struct Options {
  std::string name, data, out, device;
  std::vector<uint64_t> seeds;
  std::vector<std::string> set, grid;
  int threads = 0;
  bool brief = false;
};

// Every run once for each value of "name=value/value".
void spread(Study& study, const std::string& axis) {
  const size_t equals = axis.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == axis.size())
    fail("study: --grid {} is not NAME=VALUE/VALUE", axis);
  std::vector<StudyRun> out;
  for (const StudyRun& run : study.runs) {
    for (size_t begin = equals + 1; begin <= axis.size();) {
      const size_t end = std::min(axis.find('/', begin), axis.size());
      StudyRun one = run;
      const std::string setting = axis.substr(0, equals + 1) + axis.substr(begin, end - begin);
      one.label += " " + setting;
      one.arguments.push_back("--" + setting);
      out.push_back(std::move(one));
      begin = end + 1;
    }
  }
  study.runs = std::move(out);
}

Study study_of(const Options& o) {
  std::string known;
  for (const StudyRow& row : kStudies) {
    if (!can_run(row)) continue;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
    if (o.name != row.name) continue;
    Study study = o.brief ? row.brief() : row.full();
    for (const std::string& axis : o.grid.empty() ? study.grid : o.grid) spread(study, axis);
    for (StudyRun& run : study.runs)
      for (const std::string& setting : o.set) run.arguments.push_back("--" + setting);
    if (!o.grid.empty()) study.checks.clear();
    study.judged = o.set.empty();
    if (!o.seeds.empty()) study.seeds = o.seeds;
    return study;
  }
  fail("study: no study '{}'; there are {}", o.name, known);
}

void run(const Options& o) {
  const Study study = study_of(o);
  for (const StudyRun& r : study.runs)
    settings_of(r.preset, r.arguments);  // a mistake is said before hours of work
  catch_interruptions();
  Context::set_default({.device = o.device, .threads = o.threads, .seed = 0});
  const std::string out =
      o.out.empty() ? fmt::format("out/{}{}", study.name, o.brief ? "-short" : "") : o.out;
  const Data data = load_data(o.data);
  run_study(study, ImageSubject(data), out);
}

std::string study_list() {
  std::string out = "Studies:\n";
  for (const StudyRow& row : kStudies)
    if (can_run(row)) out += fmt::format("  {:15} {}\n", row.name, row.about);
  return out;
}

}  // namespace

void add_study(CLI::App& app) {
  CLI::App* verb =
      app.add_subcommand("study", "Train in several ways and check the curves against expected ones");
  auto o = std::make_shared<Options>();
  verb->add_option("name", o->name, "One of the studies below")->required();
  verb->add_flag("--short", o->brief, "A form of seconds, with expected figures of its own");
  verb->add_option("--seeds", o->seeds, "Seeds, as 1,2,3")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(whole_of_64_bits());
  verb->add_option("--grid", o->grid,
                   "Every run once for each of the values: lr=0.1/0.2; several span a grid")
      ->allow_extra_args(false);
  verb->add_option("--set", o->set, "A setting of all runs, as steps=100; then nothing is judged")
      ->allow_extra_args(false);
  verb->add_option("--threads", o->threads, "Threads (0: one a core)")->check(whole(0, 4096));
  verb->add_option("--device", o->device, device_names())->check(not_empty());
  verb->add_option("--data", o->data,
                   "Folder with the four IDX files of MNIST (default: mnist-12k, which comes with Kontor)")
      ->check(not_empty());
  verb->add_option("--out", o->out,
                   "Folder for tables, plots and runs; what is done there already is kept "
                   "(default: out/NAME)")
      ->check(not_empty());
  verb->footer(study_list());
  verb->callback([o] { run(*o); });
}

}  // namespace kontor::tools
