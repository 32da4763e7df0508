// Laying a plan out flat, and the loop that runs it.
#include "runtime/compiled.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "codegen/program/launches.h"
#include "codegen/program/memory_plan.h"
#include "graph/index/index.h"
#include "runtime/inspect.h"

namespace kontor {
namespace {

bool is_static(std::span<const Ref> dims) {
  return std::all_of(dims.begin(), dims.end(), [](const Ref& d) { return d->is_const(); });
}

}  // namespace

int64_t evaluate_slots(const Ref& expression, std::span<const int64_t> scalars) {
  if (expression->is_const()) return expression->at(0);
  NodeMap<int64_t> values;
  for (const Node* n : topological(std::span(&expression, 1))) {
    if (n->op == Op::Slot) values[n] = scalars[static_cast<size_t>(n->at(0))];
  }
  return ix::evaluate(expression, values);
}

int64_t bytes_of(DType dtype, std::span<const Ref> dims, std::span<const int64_t> scalars) {
  int64_t bytes = item_size(dtype);
  for (const Ref& d : dims)
    if (__builtin_mul_overflow(bytes, evaluate_slots(d, scalars), &bytes))
      fail("out of memory: a tensor whose size depends on a Variable is too large");
  return bytes;
}

CompiledSchedule::CompiledSchedule(std::shared_ptr<Device> device, RunPlan plan,
                                   std::vector<std::shared_ptr<Kernel>> kernels, size_t inputs,
                                   size_t outputs)
    : device_(std::move(device)), plan_(std::move(plan)), kernels_(std::move(kernels)), outputs_(outputs) {
  for (const auto& k : kernels_) {
    if (k->device != device_)
      broken("kernel {} is of the device {}, its schedule of {}", k->name, k->device->name(),
             device_->name());
  }
  for (const RunPlan::Buffer& b : plan_.buffers) {
    const size_t number = static_cast<size_t>(b.number);
    if (b.role == ScheduledBuffer::Input && number >= inputs)
      broken("schedule: input {} of {}", number, inputs);
    if (b.role != ScheduledBuffer::Output) continue;
    outputs_.at(number) = {is_static(b.dims) ? bytes_of(b.dtype, b.dims, {}) : -1, b.in_place, &b};
  }
  for (size_t i = 0; i < outputs; ++i) {
    if (outputs_[i].buffer == nullptr) broken("schedule: output {} is written by no kernel", i);
  }
  if (arena_bytes() / arena_unit > UINT32_MAX) fail("out of memory: temporaries of {} bytes", arena_bytes());
  plan_launches();
}

void CompiledSchedule::plan_launches() {
  for (size_t k = 0; k < plan_.launches.size(); ++k) {
    const RunPlan::Launch& launch = plan_.launches[k];
    launches_.push_back({.program = kernels_[k]->program.get(),
                         .first = static_cast<uint32_t>(sources_.size()),
                         .count = static_cast<uint32_t>(launch.buffers.size()),
                         .shares = launch.shares->is_const() ? launch.shares->at(0) : -1});
    plan_slots(launches_.back(), launch.slots);
    for (int b : launch.buffers) {
      const RunPlan::Buffer& buffer = plan_.buffers.at(static_cast<size_t>(b));
      if (buffer.role == ScheduledBuffer::Temporary) {
        sources_.push_back({2, static_cast<uint32_t>(buffer.number / arena_unit)});
      } else {
        sources_.push_back(
            {buffer.role == ScheduledBuffer::Output ? 1u : 0u, static_cast<uint32_t>(buffer.number)});
      }
    }
  }
  pointers_.resize(sources_.size());
  launched_ = count_launches(plan_.launches.size(), plan_.streams);
}

void CompiledSchedule::plan_slots(LaunchPlan& plan, std::span<const SlotSource> sources) {
  bool as_they_are = true;
  for (size_t i = 0; i < sources.size(); ++i)
    as_they_are = as_they_are && sources[i].scalar == static_cast<int64_t>(i);
  if (as_they_are) return;
  plan.first_slot = static_cast<uint32_t>(own_slots_.size());
  plan.slots = static_cast<uint32_t>(sources.size());
  for (const SlotSource& source : sources) {
    own_slots_.push_back(source.value);
    slot_scalars_.push_back(source.scalar);
  }
}

std::span<const int64_t> CompiledSchedule::slots_of(const LaunchPlan& plan,
                                                    std::span<const int64_t> scalars) {
  if (plan.slots == 0) return scalars;
  for (size_t i = plan.first_slot; i < plan.first_slot + plan.slots; ++i)
    if (slot_scalars_[i] >= 0) own_slots_[i] = scalars[static_cast<size_t>(slot_scalars_[i])];
  return std::span<const int64_t>(own_slots_).subspan(plan.first_slot, plan.slots);
}

int64_t CompiledSchedule::output_bytes(size_t output, std::span<const int64_t> scalars) const {
  const OutputPlan& plan = outputs_[output];
  return plan.bytes >= 0 ? plan.bytes : bytes_of(plan.buffer->dtype, plan.buffer->dims, scalars);
}

int64_t CompiledSchedule::shares(size_t launch, std::span<const int64_t> scalars) const {
  const int64_t known = launches_[launch].shares;
  return known >= 0 ? known : evaluate_slots(plan_.launches[launch].shares, scalars);
}

void CompiledSchedule::bind(const Binding& binding) {
  char* arena =
      arena_bytes() > 0 ? static_cast<char*>(device_->arena(static_cast<size_t>(arena_bytes()))) : nullptr;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const Source s = sources_[i];
    pointers_[i] = s.table == 0   ? binding.inputs[s.index]
                   : s.table == 1 ? binding.outputs[s.index]
                                  : arena + int64_t{s.index} * arena_unit;
  }
}

std::string CompiledSchedule::run(const ParallelFor& parallel, const Binding& binding) {
  const auto use = device_->use();
  bind(binding);
  Run run{device_->backend(), parallel, binding.scalars, inspect::timing()};
  if (plan_.streams.empty()) {
    for (size_t k = 0; k < launches_.size(); ++k) launch(run, k);
    return std::move(run.failed);
  }
  slots_.assign(binding.scalars.begin(), binding.scalars.end());
  for_each_launch(plan_.launches.size(), plan_.streams, slots_, [&](size_t k) {
    run.scalars = slots_;
    launch(run, k);
  });
  return std::move(run.failed);
}

void CompiledSchedule::launch(Run& run, size_t k) {
  using Clock = std::chrono::steady_clock;
  const LaunchPlan& plan = launches_[k];
  const int64_t count = shares(k, run.scalars);
  if (count == 0) return;
  const Clock::time_point start = run.timed ? Clock::now() : Clock::time_point();
  run.backend.launch({.program = plan.program,
                      .buffers = std::span<void* const>(pointers_).subspan(plan.first, plan.count),
                      .scalars = slots_of(plan, run.scalars),
                      .shares = count,
                      .parallel = plan_.launches[k].threads},
                     run.parallel);
  if (!plan_.launches[k].checked && !run.timed) return;
  // Ids of checks are the kernel's own, so that equal kernels share a program: asked for before the next one starts.
  const int64_t error = run.backend.synchronise();
  if (run.timed) {
    inspect::kernel_ran(kernels_[k]->name, plan_.launches[k].operations, start, Clock::now(),
                        traffic(k, run.scalars));
  }
  if (error != 0 && run.failed.empty()) run.failed = failed_check(plan_.checks, error);
}

// Bytes that a kernel at least moves: each of its buffers once.
int64_t CompiledSchedule::traffic(size_t launch, std::span<const int64_t> scalars) const {
  int64_t bytes = 0;
  for (int b : plan_.launches[launch].buffers) {
    const RunPlan::Buffer& buffer = plan_.buffers[static_cast<size_t>(b)];
    bytes += bytes_of(buffer.dtype, buffer.dims, scalars);
  }
  return bytes;
}

}  // namespace kontor
