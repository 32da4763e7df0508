// Studies: runs that are kept, and checks of their curves.
#include "tools/study.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <kontor/kontor.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace fs = std::filesystem;

namespace {

// A label as the name of a folder.
std::string folder_name(std::string label) {
  for (char& c : label)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 &&
        std::string_view("+-._").find(c) == std::string_view::npos)
      c = '-';
  return label;
}

// Each run in its folder, with a note of what it is: what was done under the same note is kept.
class Runner {
 public:
  Runner(const Study& study, const Subject& subject, std::string folder)
      : study_(study), subject_(subject), folder_(std::move(folder)) {}

  std::vector<Outcome> all() {
    std::vector<Outcome> outcomes;
    for (const StudyRun& run : study_.runs) outcomes.push_back({&run});
    for (uint64_t seed : study_.seeds)
      for (Outcome& outcome : outcomes) outcome.curves.push_back(one(*outcome.run, seed));
    return outcomes;
  }

 private:
  const Study& study_;
  const Subject& subject_;
  std::string folder_;

  std::string folder_of(const std::string& label, uint64_t seed) const {
    const std::string folder = folder_ + "/" + folder_name(label);
    return study_.seeds.size() > 1 ? fmt::format("{}/seed-{}", folder, seed) : folder;
  }

  // With the folders of other runs put in their places.
  Arguments arguments(const StudyRun& run, uint64_t seed) const {
    Arguments out = run.arguments;
    for (std::string& argument : out) {
      for (const StudyRun& other : study_.runs) {
        const std::string place = "{" + other.label + "}";
        if (const size_t at = argument.find(place); at != std::string::npos)
          argument.replace(at, place.size(), folder_of(other.label, seed));
      }
    }
    out.push_back(fmt::format("--seed={}", seed));
    return out;
  }

  Json note(const Arguments& settings, bool finished) const {
    return {{"settings", settings}, {"data", subject_.source()}, {"finished", finished}};
  }

  // What an earlier call left: nothing, a part, or all.
  enum class Left { Nothing, Part, All };
  Left left(const std::string& folder, const Arguments& settings) const {
    const std::string path = folder + "/run.json";
    if (!fs::exists(path)) return Left::Nothing;
    if (!fs::is_regular_file(path)) fail("{}: not a regular file", path);
    const Json found = parse_json(read_file(path), path);
    if (found == note(settings, true)) return Left::All;
    const bool begun = found == note(settings, false) && fs::exists(folder + "/checkpoint.safetensors");
    return begun ? Left::Part : Left::Nothing;
  }

  std::vector<Row> one(const StudyRun& run, uint64_t seed) const {
    const std::string folder = folder_of(run.label, seed);
    const Training training{run.preset, arguments(run, seed), folder,
                            fmt::format("{} seed {}: ", run.label, seed)};
    const Arguments wanted = subject_.settings(training);
    const Left before = left(folder, wanted);
    if (before == Left::All) return read_rows(folder + "/metrics.csv", subject_.columns());
    make_folders(folder);
    if (before == Left::Nothing) write_file(folder + "/run.json", note(wanted, false).dump(1) + "\n");
    std::vector<Row> rows =
        subject_.train(training, before == Left::Part ? folder + "/checkpoint.safetensors" : "");
    if (interrupted != 0) {
      fmt::print("stopped; the same command goes on from {}\n", folder);
      throw Exit{128 + interrupted};
    }
    write_file(folder + "/run.json", note(wanted, true).dump(1) + "\n");
    return rows;
  }
};

const Outcome& outcome_of(const std::vector<Outcome>& outcomes, const std::string& label) {
  for (const Outcome& o : outcomes)
    if (o.run->label == label) return o;
  broken("study: a check is of run '{}', which there is not", label);
}

double last_value(const std::vector<Row>& rows, double Row::* column) {
  double value = Row::kNone;
  for (const Row& row : rows)
    if (!std::isnan(row.*column)) value = row.*column;
  return value;
}

double value_at(const std::vector<Row>& rows, const Check& check) {
  double value = Row::kNone;
  for (const Row& row : rows) {
    const bool here =
        check.axis == Check::Axis::Steps ? static_cast<double>(row.step) == check.at : row.tflop <= check.at;
    if (here && !std::isnan(row.*check.column)) value = row.*check.column;
  }
  return 100 * value;
}

Verdict verdict_of(const Check& check, const std::vector<Outcome>& outcomes) {
  Verdict out{&check};
  const Outcome& outcome = outcome_of(outcomes, check.run);
  double sum = 0;
  for (size_t i = 0; i < outcome.curves.size(); ++i) {
    double value = value_at(outcome.curves[i], check);
    if (!check.minus.empty()) {
      const double base = last_value(outcome_of(outcomes, check.minus).curves[i], check.column);
      value = (value - 100 * base) / (check.relative ? base : 1);
    }
    out.values.push_back(value);
    sum += value;
  }
  out.mean = sum / static_cast<double>(out.values.size());
  switch (check.bound) {
    case Check::Bound::AtLeast: out.passed = out.mean >= check.expected; break;
    case Check::Bound::AtMost:  out.passed = out.mean <= check.expected; break;
    case Check::Bound::Near:    out.passed = std::abs(out.mean - check.expected) <= check.tolerance; break;
  }
  return out;
}

}  // namespace

std::vector<Verdict> verdicts_of(const Study& study, const std::vector<Outcome>& outcomes,
                                 const Subject& subject) {
  std::vector<Verdict> out;
  for (const Check& check : study.checks) {
    out.push_back(verdict_of(check, outcomes));
    out.back().judged = study.judged && (study.images == 0 || study.images == subject.samples());
  }
  return out;
}

void run_study(const Study& study, const Subject& subject, const std::string& folder) {
  const OwnFolder own(folder);
  const std::vector<Outcome> outcomes = Runner(study, subject, folder).all();
  const std::vector<Verdict> verdicts = verdicts_of(study, outcomes, subject);
  const std::string report = report_of(study, outcomes, verdicts, subject), stem = folder + "/" + study.name;
  write_file(stem + ".md", report);
  write_file(stem + ".csv", csv_of(study, outcomes, subject));
  write_charts(stem, charts_of(outcomes, subject));
  fmt::print("\n{}\nfiles: {}.md .csv .svg .png, and a folder for each run\n", report, stem);
  const auto fails = [](const Verdict& v) { return v.judged && !v.passed; };
  if (std::any_of(verdicts.begin(), verdicts.end(), fails)) throw Exit{1};
}

}  // namespace kontor::tools
