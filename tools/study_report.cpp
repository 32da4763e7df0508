// What a study says: tables, CSV and charts.
#include <algorithm>
#include <cmath>
#include <map>

#include <kontor/kontor.h>

#include "base/error.h"
#include "tools/study.h"

namespace kontor::tools {

namespace {

bool any(const std::vector<Outcome>& outcomes, double Row::* column) {
  for (const Outcome& o : outcomes)
    for (const std::vector<Row>& curve : o.curves)
      if (!std::isnan(curve.back().*column)) return true;
  return false;
}

template <class Values>
double mean(const Values& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

std::vector<double> last_of(const Outcome& outcome, double Row::* column) {
  std::vector<double> out;
  for (const std::vector<Row>& curve : outcome.curves) out.push_back(curve.back().*column);
  return out;
}

// Mean and, of several seeds, each: "94.1 (93.8, 94.4)".
std::string with_seeds(double mean_value, const std::vector<double>& values, double scale, int digits) {
  if (std::isnan(mean_value)) return "";
  std::string each;
  for (double v : values) each += fmt::format("{}{:.{}f}", each.empty() ? "" : ", ", scale * v, digits);
  return values.size() == 1 ? each : fmt::format("{:.{}f} ({})", scale * mean_value, digits, each);
}

std::string settings_text(const StudyRun& run) {
  std::string out = run.preset;
  for (const std::string& a : run.arguments) out += (out.empty() ? "" : " ") + a;
  for (size_t at = 0; (at = out.find('|', at)) != std::string::npos; at += 2) out.replace(at, 1, "\\|");
  return out;
}

std::string runs_table(const std::vector<Outcome>& outcomes, const Subject& subject) {
  std::string head = "| run | settings | steps | TFLOP | seconds |", rule = "|---|---|---|---|---|";
  for (const Figure& a : subject.figures()) {
    if (!any(outcomes, a.column)) continue;
    head += fmt::format(" {}{} |", a.name, a.scale == 100 ? " %" : ""), rule += "---|";
  }
  std::string out = head + "\n" + rule + "\n";
  for (const Outcome& o : outcomes) {
    out +=
        fmt::format("| {} | `{}` | {} | {:.3g} | {:.1f} |", o.run->label, settings_text(*o.run),
                    o.curves[0].back().step, mean(last_of(o, &Row::tflop)), mean(last_of(o, &Row::seconds)));
    for (const Figure& a : subject.figures()) {
      const std::vector<double> values = last_of(o, a.column);
      if (any(outcomes, a.column))
        out += fmt::format(" {} |", with_seeds(mean(values), values, a.scale, a.digits));
    }
    out += '\n';
  }
  return out;
}

const char* column_name(double Row::* column, const Subject& subject) {
  for (const Figure& a : subject.figures())
    if (a.column == column) return a.name;
  return "?";
}

std::string expectation(const Check& c) {
  switch (c.bound) {
    case Check::Bound::AtLeast: return fmt::format("\u2265 {:g}", c.expected);
    case Check::Bound::AtMost:  return fmt::format("\u2264 {:g}", c.expected);
    case Check::Bound::Near:    break;
  }
  return fmt::format("{:g} \u00b1 {:g}", c.expected, c.tolerance);
}

std::string checks_table(const std::vector<Verdict>& verdicts, const Subject& subject) {
  std::string out = "| run | where | what | expected | measured | |\n|---|---|---|---|---|---|\n";
  for (const Verdict& v : verdicts) {
    const Check& c = *v.check;
    const bool reached = !std::isnan(v.mean);
    out += fmt::format("| {} | {:g} {} | {} %{} | {} | {} | {} |\n", c.run, c.at,
                       c.axis == Check::Axis::Steps ? "steps" : "TFLOP", column_name(c.column, subject),
                       c.minus.empty() ? "" : (c.relative ? " above that of " : " less that of ") + c.minus,
                       expectation(c), reached ? with_seeds(v.mean, v.values, 1, 2) : "not reached",
                       v.judged ? (v.passed ? "passed" : "**failed**") : "not judged");
  }
  return out;
}

// At the steps at which every seed was tested.
Series mean_curve(const Outcome& outcome, double Row::* x, const Figure& y) {
  std::map<int64_t, std::vector<std::pair<double, double>>> at;
  for (const std::vector<Row>& curve : outcome.curves)
    for (const Row& row : curve)
      if (!std::isnan(row.*y.column))
        at[row.step].emplace_back(x ? row.*x : static_cast<double>(row.step), y.scale * row.*y.column);
  Series out{.name = outcome.run->label, .x = {}, .y = {}};
  for (const auto& [step, points] : at) {
    if (points.size() != outcome.curves.size()) continue;
    double sum_x = 0, sum_y = 0;
    for (const auto& [px, py] : points) sum_x += px, sum_y += py;
    out.x.push_back(sum_x / static_cast<double>(points.size()));
    out.y.push_back(sum_y / static_cast<double>(points.size()));
  }
  return out;
}

struct Axis {
  const char *name, *unit;
  double Row::* column;  // null: steps
};
constexpr Axis kSteps{"steps", "step", nullptr}, kWork{"work", "TFLOP", &Row::tflop},
    kTime{"time", "seconds", &Row::seconds};

// The mean of the seeds of each run, and pale behind it each seed.
Chart chart_of(const std::vector<Outcome>& outcomes, const Axis& axis, const Figure& y) {
  double Row::* x = axis.column;
  Chart out{fmt::format("{} over {}", y.name, axis.name), axis.unit, y.unit, {}};
  out.title[0] = static_cast<char>(std::toupper(out.title[0]));
  int colour = 0;
  double least = INFINITY, most = 0;
  for (const Outcome& o : outcomes) {
    out.series.push_back(mean_curve(o, x, y));
    out.series.back().colour = colour;
    if (!out.series.back().x.empty()) {
      least = std::min(least, out.series.back().x.back()), most = std::max(most, out.series.back().x.back());
    }
    for (const std::vector<Row>& curve : o.curves) {
      if (o.curves.size() < 2) continue;
      const Outcome alone{o.run, {curve}};
      out.series.push_back(mean_curve(alone, x, y));
      out.series.back().name.clear();
      out.series.back().faint = true, out.series.back().colour = colour;
    }
    ++colour;
  }
  out.log_x = x != nullptr && most > 20 * least;  // else the shortest run is a stroke at the edge
  return out;
}

}  // namespace

std::string report_of(const Study& study, const std::vector<Outcome>& outcomes,
                      const std::vector<Verdict>& verdicts, const Subject& subject) {
  std::string out =
      fmt::format("## {}\n\n{}. {}; device {}, {} threads; {} {}.\n\n", study.name, study.about,
                  subject.about(), Context::current().device(), Context::current().threads(),
                  study.seeds.size() > 1 ? "mean (each) of seeds" : "seed", fmt::join(study.seeds, ", "));
  out += runs_table(outcomes, subject);
  if (!verdicts.empty()) out += "\n" + checks_table(verdicts, subject);
  if (study.images != 0 && study.images != subject.samples() && !verdicts.empty())
    out +=
        fmt::format("\nThe expected figures are of {} training images, so that they are not judged here.\n",
                    study.images);
  return out;
}

std::string csv_of(const Study& study, const std::vector<Outcome>& outcomes, const Subject& subject) {
  std::string out = "run,seed,step,tflop,seconds";
  for (const Figure& f : subject.figures())
    for (const Column& c : subject.columns())
      if (c.value == f.column) out += fmt::format(",{}", c.name);
  out += '\n';
  for (const Outcome& o : outcomes) {
    for (size_t i = 0; i < o.curves.size(); ++i) {
      for (const Row& row : o.curves[i]) {
        if (std::isnan(row.*subject.figures()[0].column)) continue;
        out += fmt::format("\"{}\",{},{},{:.6g},{:.3f}", o.run->label, study.seeds[i], row.step, row.tflop,
                           row.seconds);
        for (const Figure& f : subject.figures())
          out += std::isnan(row.*f.column) ? "," : fmt::format(",{:.4f}", row.*f.column);
        out += '\n';
      }
    }
  }
  return out;
}

std::vector<Chart> charts_of(const std::vector<Outcome>& outcomes, const Subject& subject) {
  std::vector<Chart> out;
  for (const Figure& f : subject.figures()) {
    if (!any(outcomes, f.column)) continue;
    out.push_back(chart_of(outcomes, kSteps, f));
    if (f.column != subject.figures()[0].column) continue;
    out.push_back(chart_of(outcomes, kWork, f)), out.push_back(chart_of(outcomes, kTime, f));
  }
  return out;
}

}  // namespace kontor::tools
