// The table of plans.
#include "marketplace/plans.h"

#include "base/error.h"
#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

namespace {

constexpr unsigned usual = AdamUpdate | WholeUnit | Antithetic | RademacherNoise;

// clang-format off
constexpr PlanRow rows[] = {
    //                             leader crossed fixed_sigma samples moves channels layers vendors, takes
    {Plan::Full,      "full",       true,  true,  false,      false,  false, false,  false, 8, usual | Upstream | MetaLr | Passes, record_full},
    {Plan::Greedy,    "v1",         true,  true,  false,      false,  true,  false,  false, 8, RademacherNoise | Antithetic | Upstream | Passes, record_greedy},
    {Plan::Star,      "star",       false, false, true,       false,  false, false,  false, 4, usual | MetaLr | Passes, record_star},
    {Plan::BlockStar, "block-star", false, false, true,       false,  false, true,   false, 2, usual, record_block_star},
    {Plan::PerSample, "per-sample", true,  false, false,      true,   false, false,  false, 4, usual, record_per_sample},
    {Plan::Activity,  "activity",   false, false, true,       true,   false, false,  true,  1, AdamUpdate | WholeUnit | RademacherNoise, record_activity},
    {Plan::LowRank,   "low-rank",   false, false, true,       true,   false, false,  false, 1, AdamUpdate | WholeUnit | RademacherNoise, record_low_rank},
};
// clang-format on

}  // namespace

const PlanRow& row_of(Plan plan) {
  for (const PlanRow& r : rows)
    if (r.plan == plan) return r;
  fail("marketplace: no plan number {}", static_cast<int>(plan));
}

Plan plan_of(std::string_view name) {
  for (const PlanRow& r : rows)
    if (r.name == name) return r.plan;
  fail("marketplace: no plan '{}'; there are: {}", name, fmt::join(plan_names(), ", "));
}

std::string_view name(Plan plan) { return row_of(plan).name; }

std::vector<std::string_view> plan_names() {
  std::vector<std::string_view> out;
  for (const PlanRow& r : rows) out.push_back(r.name);
  return out;
}

}  // namespace kontor::inline v0::marketplace
