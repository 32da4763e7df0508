// A step, whatever the plan: leader, the plan's losses and directions, update.
#include "marketplace/record.h"

#include "marketplace/step.h"

namespace kontor::inline v0::marketplace {

StepGraph record_step(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                      std::span<const nn::Parameter> parameters, const Options& options,
                      std::span<const std::vector<size_t>> members, const StepInputs& inputs) {
  const PlanRow& row = row_of(options.plan);
  const int64_t parts = row.samples ? x.size(0) : options.forward_passes;
  const Step step{row,
                  options,
                  members,
                  inputs,
                  record_leader(objective, x, labels, parameters, parts),
                  vendor_seeds(options, inputs)};
  const Outcome outcome = row.record(step);
  StepGraph out;
  out.loss = outcome.loss ? outcome.loss : step.leader.loss;
  out.accuracy = outcome.accuracy ? outcome.accuracy : step.leader.accuracy;
  out.losses = outcome.losses;
  out.fine = finite(out.loss);
  Ref any;
  for (const Ref& losses : out.losses) {
    const Ref some = fn::any(finite(losses), {}, false);
    any = any ? fn::logical_or(any, some) : some;
  }
  out.fine = fn::logical_and(out.fine, any);
  record_update(step, outcome, out);
  return out;
}

}  // namespace kontor::inline v0::marketplace
