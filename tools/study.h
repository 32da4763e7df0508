// Studies: the same question asked of several settings and seeds, with the answers that are expected.
#pragma once
#include <string>
#include <vector>

#include "tools/subject.h"

namespace kontor::tools {

/// A run of a study: a preset with settings put over it. "{LABEL}" in an argument is the folder of the run with that
/// label and the same seed.
struct StudyRun {
  std::string label, preset;
  Arguments arguments;
};

/// What the mean over the seeds must come to at a place of the curve.
struct Check {
  enum class Axis : uint8_t { Steps, Tflop };
  enum class Bound : uint8_t { Near, AtLeast, AtMost };
  std::string run;
  double Row::* column = &Row::test;
  Axis axis = Axis::Steps;
  double at = 0;  ///< Steps: the test of that step; Tflop: the last test at no more work
  Bound bound = Bound::Near;
  double expected = 0, tolerance = 0;  ///< per cent; Near: expected +- tolerance
  std::string minus = {};              ///< of this run's last test, which is subtracted; "": nothing is
  bool relative = false;               ///< what is left is taken as a part of that
};

struct Study {
  std::string name, about;
  std::vector<StudyRun> runs = {};
  std::vector<uint64_t> seeds = {};
  std::vector<Check> checks = {};
  /// Training images of the data that the checks are about; with other data they are shown and not judged. 0: any.
  int64_t images = 0;
  bool judged = true;                  ///< false: settings were changed by hand
  std::vector<std::string> grid = {};  ///< "lr=0.1/0.2": every run once for each value
};

/// What became of a run of a study: its curve for each seed.
struct Outcome {
  const StudyRun* run;
  std::vector<std::vector<Row>> curves = {};
};
/// A check, what it found for each seed, and what that means. A seed whose curve does not reach the place has NaN.
struct Verdict {
  const Check* check;
  std::vector<double> values = {};
  double mean = Row::kNone;
  bool passed = false, judged = false;
};
std::vector<Verdict> verdicts_of(const Study& study, const std::vector<Outcome>& outcomes,
                                 const Subject& subject);

/// Tables in Markdown; the curves of all runs as rows of one CSV, and as charts.
std::string report_of(const Study& study, const std::vector<Outcome>& outcomes,
                      const std::vector<Verdict>& verdicts, const Subject& subject);
std::string csv_of(const Study& study, const std::vector<Outcome>& outcomes, const Subject& subject);
std::vector<Chart> charts_of(const std::vector<Outcome>& outcomes, const Subject& subject);

/// Does the runs that are not done yet, each in a folder of its own below `folder`, then prints tables and writes
/// study.md, study.csv, study.svg and study.png. Throws Exit 1 if a judged check fails, 130 after Ctrl-C, 143
/// after SIGTERM; Error if another process writes to the folder.
void run_study(const Study& study, const Subject& subject, const std::string& folder);

}  // namespace kontor::tools
