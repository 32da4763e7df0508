// The table of plans: their names, what they need, how they record a step. Trainer, checkpoints and messages ask it.
#pragma once
#include <kontor/marketplace.h>

namespace kontor::inline v0::marketplace {

struct Step;
struct Outcome;

/// Options that not every plan has, or-ed together.
enum Takes : unsigned {
  Upstream = 1,
  MetaLr = 2,
  AdamUpdate = 4,
  Antithetic = 8,
  RademacherNoise = 16,
  Passes = 32,
  WholeUnit = 64
};

struct PlanRow {
  Plan plan;
  std::string_view name;
  bool leader;       ///< vendor 0 of each group is the leader: its delta is zero
  bool crossed;      ///< losses belong to paths through all groups, not to vendors of one group
  bool fixed_sigma;  ///< sigma is of the first lr; else it follows lr
  bool samples;      ///< losses belong to single samples
  bool moves;        ///< directions are moves themselves: added as they are
  bool channels;     ///< groups are perturbed one output channel at a time
  bool layers;       ///< a group is one layer, a weight and its bias; norms are not trained
  int64_t vendors;   ///< of a group, if nothing is said; without a leader: of the dearest group
  unsigned takes;    ///< Takes
  Outcome (*record)(const Step& step);
};

const PlanRow& row_of(Plan plan);

}  // namespace kontor::inline v0::marketplace
