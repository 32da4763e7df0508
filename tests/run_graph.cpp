// See run_graph.h.
#include "tests/run_graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "backends/interp/evaluate_tree.h"
#include "base/error.h"
#include "base/threefry.h"
#include "codegen/program/launches.h"
#include "codegen/program/memory_plan.h"
#include "codegen/tree/text.h"
#include "codegen/tree/verify.h"
#include "graph/index/index.h"
#include "graph/verify.h"

namespace kontor {

namespace {

int64_t number(const Ref& expression, std::span<const int64_t> scalars) {
  NodeMap<int64_t> slots;
  for (const Node* n : topological(std::span(&expression, 1)))
    if (n->op == Op::Slot) slots[n] = scalars[static_cast<size_t>(n->at(0))];
  return ix::evaluate(expression, slots);
}

/// Memory of a schedule's buffers, wherever `allocate` puts it.
struct Memory {
  std::vector<Array> host;  // as it goes in and comes out
  std::vector<int> alias;   // of a buffer: itself, or the input whose memory it is
};

Memory plan(const Graph& graph, const Schedule& schedule, std::span<const Array> inputs,
            std::span<const int64_t> scalars) {
  Memory memory;
  for (const ScheduledBuffer& b : schedule.buffers) {
    std::vector<int64_t> shape;
    for (const Ref& d : b.dims) shape.push_back(number(d, scalars));
    Array a = Array::make(b.dtype, shape);
    std::fill(a.bytes.begin(), a.bytes.end(), static_cast<decltype(a.bytes)::value_type>(0xA5));
    if (b.role == ScheduledBuffer::Input) a = inputs[static_cast<size_t>(b.number)];
    memory.alias.push_back(static_cast<int>(memory.host.size()));
    memory.host.push_back(std::move(a));
  }
  for (size_t i = 0; i < schedule.buffers.size(); i++) {
    const ScheduledBuffer& b = schedule.buffers[i];
    if (!b.in_place) continue;
    int input = graph.target[static_cast<size_t>(b.number)];
    for (size_t k = 0; k < schedule.buffers.size(); k++)
      if (schedule.buffers[k].role == ScheduledBuffer::Input && schedule.buffers[k].number == input)
        memory.alias[i] = static_cast<int>(k);
  }
  return memory;
}

/// Where each buffer lies: temporaries in the arena, by the memory plan.
std::vector<std::byte*> addresses(const Schedule& schedule, Memory& memory, std::vector<std::byte>& arena) {
  const MemoryPlan plan = plan_temporaries(schedule);
  arena.assign(static_cast<size_t>(plan.bytes), std::byte{0xA5});
  std::vector<std::byte*> out;
  for (size_t b = 0; b < schedule.buffers.size(); b++)
    out.push_back(plan.offset[b] < 0 ? memory.host[static_cast<size_t>(memory.alias[b])].bytes.data()
                                     : arena.data() + plan.offset[b]);
  return out;
}

void take_outputs(const Graph& graph, Memory& memory, Run& run) {
  run.outputs.resize(graph.outputs.size());
  std::vector<bool> found(graph.outputs.size());
  for (size_t i = 0; i < run.schedule.buffers.size(); i++) {
    const ScheduledBuffer& b = run.schedule.buffers[i];
    if (b.role != ScheduledBuffer::Output) continue;
    found[static_cast<size_t>(b.number)] = true;
    run.outputs[static_cast<size_t>(b.number)] = memory.host[static_cast<size_t>(memory.alias[i])];
  }
  for (size_t o = 0; o < found.size(); o++)
    if (!found[o]) broken("the schedule has no buffer for output {}", o);
}

/// A "pool" that runs the shares one by one, the last one first.
void backwards(void*, int64_t count, ParallelFor::Task task, void* context) {
  for (int64_t i = count; i-- > 0;) task(context, i, i + 1);
}

/// Device memory with a margin behind each array that no kernel may write.
struct DeviceMemory {
  static constexpr size_t margin = 256;
  Backend& backend;
  std::vector<void*> address = {};

  ~DeviceMemory() {
    for (void* a : address) backend.release(a);
  }
  void add(const Array& a) {
    std::vector<std::byte> bytes = a.bytes;
    bytes.resize(bytes.size() + margin, std::byte{0x5C});
    address.push_back(backend.allocate(bytes.size()));
    backend.copy_in(address.back(), bytes.data(), bytes.size());
  }
  bool take(size_t i, Array& a) {
    std::vector<std::byte> bytes(a.bytes.size() + margin);
    backend.copy_out(bytes.data(), address[i], bytes.size());
    std::copy(bytes.begin(), bytes.end() - margin, a.bytes.begin());
    return std::all_of(bytes.end() - margin, bytes.end(), [](std::byte b) { return b == std::byte{0x5C}; });
  }
};

}  // namespace

Backend* device(std::string_view name, std::string* why) {
  struct Opened {
    std::unique_ptr<Backend> backend;
    std::string why;
  };
  static std::map<std::string, Opened> opened;
  auto [it, fresh] = opened.try_emplace(std::string(name));
  if (fresh) {
    try {
      it->second.backend = open_backend(name);
    } catch (const Error& error) {
      it->second.why = error.what();
    }
  }
  if (why) *why = it->second.why;
  return it->second.backend.get();
}

KernelSource source_of(const Ref& tree, const std::string& entry, Backend& backend) {
  return backend.kind().render(tree, entry, backend.target());
}

/// Verified in release builds too, whose schedule() does not.
static Schedule sound_schedule(const Graph& graph, const Target& target, const Decisions& given) {
  require_sound(graph, "recording");
  Schedule made = schedule(graph, target, given);
  for (const ScheduledKernel& k : made.kernels) require_sound_tree(k.tree, k.moves);
  return made;
}

Run run_graph(const Graph& graph, Backend& backend, std::span<const Array> inputs,
              std::span<const int64_t> scalars, int64_t memory_budget, const Decisions& given) {
  Target target = backend.target();
  target.memory_budget = memory_budget;
  target.budget_is_asked = memory_budget > 0;
  Run run{.schedule = sound_schedule(graph, target, given)};
  std::vector<KernelSource> sources;
  for (size_t k = 0; k < run.schedule.kernels.size(); k++)
    sources.push_back(source_of(run.schedule.kernels[k].tree, fmt::format("kontor_test_{}", k), backend));
  std::vector<std::string> binaries = backend.compile(sources, {});
  Memory memory = plan(graph, run.schedule, inputs, scalars);
  DeviceMemory on_device{backend};
  for (const Array& a : memory.host) on_device.add(a);
  std::vector<int64_t> slots(scalars.begin(), scalars.end());
  for_each_launch(run.schedule.kernels.size(), run.schedule.streams, slots, [&](size_t k) {
    const ScheduledKernel& kernel = run.schedule.kernels[k];
    std::unique_ptr<Program> program = backend.load(sources[k], binaries[k]);
    std::vector<void*> buffers;
    for (int b : kernel.buffers)
      buffers.push_back(on_device.address[static_cast<size_t>(memory.alias[static_cast<size_t>(b)])]);
    int64_t shares = number(kernel.shares, scalars);
    backend.launch({.program = program.get(), .buffers = buffers, .scalars = slots, .shares = shares},
                   {backwards});
    const int64_t failed = backend.synchronise();
    if (failed && run.error.empty()) run.error = failed_check(kernel.checks, failed);
    for (size_t i = 0; i < memory.host.size(); i++)
      if (!on_device.take(i, memory.host[i]))
        broken("kernel {} writes beyond the end of buffer {}\n{}", k, i, tree::print(kernel.tree));
  });
  take_outputs(graph, memory, run);
  return run;
}

Run run_trees(const Graph& graph, const Target& target, std::span<const Array> inputs,
              std::span<const int64_t> scalars, const Decisions& given) {
  Run run{.schedule = sound_schedule(graph, target, given)};
  Memory memory = plan(graph, run.schedule, inputs, scalars);
  std::vector<std::byte> arena;
  const std::vector<std::byte*> address = addresses(run.schedule, memory, arena);
  std::vector<int64_t> slots(scalars.begin(), scalars.end());
  for_each_launch(run.schedule.kernels.size(), run.schedule.streams, slots, [&](size_t k) {
    const ScheduledKernel& kernel = run.schedule.kernels[k];
    std::vector<void*> buffers;
    for (int b : kernel.buffers) buffers.push_back(address[static_cast<size_t>(b)]);
    const int64_t failed = evaluate_tree(kernel.tree, buffers, slots);
    if (failed && run.error.empty()) run.error = failed_check(kernel.checks, failed);
  });
  take_outputs(graph, memory, run);
  return run;
}

// ---- comparing ----------------------------------------------------------------------------------------------------------

std::string difference(const Array& got, const Array& wanted, double tolerance) {
  if (got.dtype != wanted.dtype || got.size() != wanted.size())
    return fmt::format("{} of {} elements instead of {} of {}", name(got.dtype), got.size(),
                       name(wanted.dtype), wanted.size());
  for (int64_t i = 0; i < got.size(); i++) {
    Value a = got.get(i), b = wanted.get(i);
    if (a == b) continue;
    double x = to_double(got.dtype, a), y = to_double(got.dtype, b);
    if (is_float(got.dtype) && std::isnan(x) && std::isnan(y)) continue;
    if (tolerance > 0 && std::fabs(x - y) <= tolerance * std::max(1.0, std::fabs(y))) continue;
    return fmt::format("element {} is {} (0x{:x}) instead of {} (0x{:x})", i, x, a.bits, y, b.bits);
  }
  return "";
}

std::string difference(const Run& got, const Evaluation& wanted, double tolerance) {
  for (size_t o = 0; o < wanted.outputs.size(); o++)
    if (std::string d = difference(got.outputs[o], wanted.outputs[o], tolerance); !d.empty())
      return fmt::format("output {}: {}", o, d);
  if (got.error.empty() == wanted.error.empty()) return "";
  return fmt::format("error is \"{}\" instead of \"{}\"", got.error, wanted.error);
}

Array random_array(DType dtype, std::vector<int64_t> shape, uint64_t seed) {
  Array a = Array::make(dtype, std::move(shape));
  for (int64_t i = 0; i < a.size(); i++) {
    uint64_t word = random_bits64(seed, static_cast<uint64_t>(i));
    double unit = static_cast<double>(word >> 32) / 4294967296.0;
    int64_t small = static_cast<int64_t>(word % 23) - 11;
    Value value = is_float(dtype) ? from_double(dtype, (unit - 0.5) * (word % 8 == 0   ? 64
                                                                       : word % 8 == 1 ? 0.01
                                                                                       : 4))
                                  : from_int(dtype, kind(dtype) == Kind::Signed ? small : std::abs(small));
    if (dtype == DType::Bool) value.bits = word & 1;
    a.set(i, value);
  }
  return a;
}

}  // namespace kontor
