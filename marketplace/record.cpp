// A step, whatever the plan: leader, the plan's losses and directions, update.
#include "marketplace/record.h"

#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

StepGraph record_step(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                      std::span<const nn::Parameter> parameters, const Options& options,
                      std::span<const std::vector<size_t>> members, const StepInputs& inputs) {
  const PlanRow& row = row_of(options.plan);
  const Step step{row, options, members, inputs, record_leader(objective, x, labels, parameters)};
  Outcome outcome = row.record(step);
  StepGraph out{.loss = outcome.loss ? outcome.loss : step.leader.loss,
                .accuracy = outcome.accuracy ? outcome.accuracy : step.leader.accuracy,
                .losses = {},
                .changed = {},
                .index = {}};
  record_update(step, outcome, out);
  out.losses = std::move(outcome.losses);
  return out;
}

}  // namespace kontor::inline v0::marketplace
