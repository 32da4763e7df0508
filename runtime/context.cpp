// Context: the default one, the current one, and what it owns.
#include <atomic>
#include <chrono>

#include "base/env.h"
#include "base/error.h"
#include "base/lasting.h"
#include "graph/index/index.h"
#include "runtime/context_state.h"
#include "runtime/events.h"
#include "runtime/inspect.h"
#include "runtime/passes.h"
#include "runtime/repro.h"
#include "scalify/scalify.h"

namespace kontor {
namespace {

std::shared_ptr<Device> open_device(const ContextOptions& options) {
  const std::string name = options.device.empty() ? env_text(Env::Device) : options.device;
  if (!name.empty()) return std::make_shared<Device>(open_backend(name), options);
  with_options({}, options);  // what is wrong with these is no device's
  std::string reasons;
  for (const BackendKind* kind : backend_kinds()) {
    try {
      return std::make_shared<Device>(kind->open(), options);
    } catch (const Error& error) {
      reasons += fmt::format("\n  {}: {}", kind->name, error.what());
    }
  }
  fail("no device can be opened:{}", reasons);
}

std::mutex default_mutex;
std::atomic<Context*> default_context =
    nullptr;  // never destroyed: Tensors in static objects may outlive main
thread_local Context* current_context = nullptr;
thread_local RandomSource* chosen_random_source = nullptr;

ContextOptions& default_options() {
  static ContextOptions& options = lasting(ContextOptions());
  return options;
}

Context& make_default() {
  std::lock_guard lock(default_mutex);
  if (default_context == nullptr) default_context = new Context(default_options());
  return *default_context;
}

}  // namespace

void ContextMutex::lock() {
  if (holder_.load(std::memory_order_relaxed) == std::this_thread::get_id())
    fail(
        "only operations are recorded here: nothing can be read, realized or assigned, or asked of the Context");
  mutex_.lock();
  holder_.store(std::this_thread::get_id(), std::memory_order_relaxed);
}

void ContextMutex::unlock() {
  holder_.store({}, std::memory_order_relaxed);
  mutex_.unlock();
}

size_t GraphKeyHash::operator()(const std::vector<uint64_t>& key) const {
  uint64_t h = key.size();
  for (uint64_t word : key) h = (h ^ word) * 0x9e3779b97f4a7c15ull, h ^= h >> 29;
  return h;
}

std::shared_ptr<ScalarState> engine_scalar(uint64_t value) {
  auto state = std::make_shared<ScalarState>();
  state->id = fresh_id();
  state->dtype = DType::U64;
  state->bits = value;
  return state;
}

int64_t evaluate_variables(const Ref& expression) {
  if (expression->is_const()) return expression->at(0);
  NodeMap<int64_t> values;
  for (const Node* n : topological(std::span(&expression, 1))) {
    if (n->op == Op::Variable) values[n] = static_cast<int64_t>(scalar_state(*n).bits.load());
  }
  return ix::evaluate(expression, values);
}

ContextState::ContextState(const ContextOptions& options)
    : pool(options.threads),
      parallel(pool.parallel_for()),
      device(open_device(options)),
      kernels(*device),
      seed(engine_scalar(options.seed)) {
  inspect::device_opened(device->backend(), pool.threads());
}

Ref ContextState::key() { return scalar_leaf(seed); }

Ref ContextState::counter(const Ref& blocks) {
  return scalar_leaf(engine_scalar(draw(static_cast<uint64_t>(evaluate_variables(blocks)))));
}

uint64_t ContextState::draw(uint64_t blocks) {
  std::lock_guard lock(random_mutex);
  const uint64_t begin = random_counter;
  random_counter += blocks;
  return begin;
}

RandomSource& random_source() {
  return chosen_random_source != nullptr ? *chosen_random_source : Context::current().state();
}

RandomSource* set_random_source(RandomSource* source) { return std::exchange(chosen_random_source, source); }

static void keep_budget(ContextState& context, const CompiledSchedule& compiled) {
  const Target& target = context.device->target();
  if (target.budget_is_asked && compiled.arena_bytes() > target.memory_budget) {
    fail(
        "a memory budget of {} bytes: the temporaries of this graph need {} bytes even if it runs in the smallest pieces",
        target.memory_budget, compiled.arena_bytes());
  }
  uint64_t& most = context.counters.temporary_bytes;
  most = std::max(most, static_cast<uint64_t>(compiled.arena_bytes()));
}

static std::shared_ptr<CompiledSchedule> finish(ContextState& context, const Graph& graph, RunPlan plan,
                                                std::vector<std::shared_ptr<Kernel>> kernels) {
  auto compiled = std::make_shared<CompiledSchedule>(context.device, std::move(plan), std::move(kernels),
                                                     graph.inputs.size(), graph.outputs.size());
  keep_budget(context, *compiled);
  context.counters.schedules++;
  return compiled;
}

static std::shared_ptr<CompiledSchedule> compile(ContextState& context, const Graph& graph,
                                                 const inspect::PassLog& log, const Hash128* keep_as) {
  const auto start = std::chrono::steady_clock::now();
  Schedule made = schedule(graph, context.device->target(), inspect::decisions_for(graph));
  const auto end = std::chrono::steady_clock::now();
  context.counters.schedule_seconds += std::chrono::duration<double>(end - start).count();
  if (events::on())
    events::add("schedule", "schedule", start, end, {{"kernels", static_cast<int64_t>(made.kernels.size())}});
  inspect::schedule_made(graph, context.device->target(), made, log);
  const std::vector<BoundKernel> bound = context.kernels.get(made.kernels, context.parallel);
  RunPlan plan = plan_of(made, bound);
  if (keep_as) context.kernels.keep_schedule(*keep_as, plan.launches.size(), print(plan));
  std::vector<std::shared_ptr<Kernel>> kernels;
  for (const BoundKernel& k : bound) kernels.push_back(k.kernel);
  return finish(context, graph, std::move(plan), std::move(kernels));
}

// What a process before left on disk; null where it is not there, or not whole.
static std::shared_ptr<CompiledSchedule> read_back(ContextState& context, const Graph& graph,
                                                   const Hash128& key) {
  const auto start = std::chrono::steady_clock::now();
  const std::optional<std::string> text = context.kernels.kept_schedule(key);
  if (!text) return nullptr;
  try {
    RunPlan plan = parse_run_plan(*text);
    require_fits(plan, graph);
    std::vector<Hash128> keys;
    for (const RunPlan::Launch& l : plan.launches) keys.push_back(l.kernel);
    auto kernels = context.kernels.find(keys);
    if (kernels.size() != keys.size()) fail("a kernel of it is not in the cache any more");
    auto compiled = finish(context, graph, std::move(plan), std::move(kernels));
    context.counters.schedule_loads++;
    if (events::on()) events::add("load", "load schedule", start, std::chrono::steady_clock::now());
    return compiled;
  } catch (const Error& error) {
    inspect::note(fmt::format("the schedule {} in the cache is made anew: {}", key.hex(), error.what()));
    return nullptr;
  }
}

static std::shared_ptr<CompiledSchedule> read_or_compile(ContextState& context, const Graph& graph,
                                                         const inspect::PassLog& log) {
  if (!context.kernels.keeps_schedules()) return compile(context, graph, log, nullptr);
  const Hash128 key = context.kernels.key_of_schedule(graph);
  if (auto found = read_back(context, graph, key)) return found;
  return compile(context, graph, log, &key);
}

// The same for each list of passes: they are equal exactly if their names are, in order.
static std::vector<uint64_t> schedule_key(const ContextState& context, const Graph& graph) {
  std::vector<uint64_t> key = graph_key(graph);
  for (const GraphPass& pass : context.passes) key.push_back(hash128(pass.name).low);
  return key;
}

static void refuse_placeholders(const Graph& graph) {
  for (const Node* n : topological(graph.outputs))
    if (n->op == Op::Slot)
      fail("a placeholder that a fold's step was given has no value: the step can only compute with it");
}

/// Scalify, where the graph asks for it, then the program's own.
static std::vector<GraphPass> passes_for(const ContextState& context, const Graph& graph) {
  std::vector<GraphPass> passes;
  if (scalify::asked_for(graph)) passes.push_back({"scalify", scalify::pass});
  passes.insert(passes.end(), context.passes.begin(), context.passes.end());
  return passes;
}

std::shared_ptr<CompiledSchedule> compiled_for(ContextState& context, const Graph& graph) {
  std::vector<uint64_t> key = schedule_key(context, graph);
  if (const auto* found = context.schedules.find(key)) return *found;
  refuse_placeholders(graph);
  inspect::graph_made(graph);
  inspect::PassLog log(graph);
  const Graph last = run_passes(graph, passes_for(context, graph), log.watch());
  auto compiled = with_repro(last, [&] { return read_or_compile(context, last, log); });
  constexpr size_t bytes_a_kernel = 8192;
  const size_t bytes = 2 * sizeof(uint64_t) * key.size() + bytes_a_kernel * compiled->plan().launches.size();
  context.schedules.put(std::move(key), compiled, bytes);
  return compiled;
}

void throw_failure(ContextState& context) {
  if (!context.failure.empty()) throw Error(std::exchange(context.failure, {}));
}

Context::Context(const ContextOptions& options) : state_(std::make_unique<ContextState>(options)) {}
// In a forked child the pool's threads are gone, and a driver's handles are the parent's: nothing of it can be ended there.
Context::~Context() {
  if (state_->generation != process_generation()) keep_forever(state_.release());
  else if (events::on()) events::write();
}

Context& Context::current() {
  if (current_context != nullptr) return *current_context;
  Context* context = default_context;
  return context != nullptr ? *context : make_default();
}

void Context::set_default(const ContextOptions& options) {
  std::lock_guard lock(default_mutex);
  const bool same = options.device == default_options().device &&
                    options.threads == default_options().threads && options.seed == default_options().seed &&
                    options.memory_budget == default_options().memory_budget &&
                    options.numerics == default_options().numerics;
  if (default_context != nullptr && !same) {
    fail("set_default: the default Context was made already; call this before the first operation");
  }
  default_options() = options;
}

Context::Use::Use(Context& context) : before_(std::exchange(current_context, &context)) {}
Context::Use::~Use() { current_context = before_; }

std::string Context::device() const { return std::string(state_->device->name()); }
int Context::threads() const { return state_->pool.threads(); }
uint64_t Context::seed() const { return state_->seed->bits; }

void Context::seed(uint64_t seed) {
  std::lock_guard lock(state_->random_mutex);
  state_->seed->bits = seed;
  state_->random_counter = 0;
}

uint64_t Context::random_counter() const {
  std::lock_guard lock(state_->random_mutex);
  return state_->random_counter;
}

void Context::set_random_counter(uint64_t counter) {
  std::lock_guard lock(state_->random_mutex);
  state_->random_counter = counter;
}

void Context::add_pass(const std::string& name, Pass pass) {
  std::lock_guard lock(state_->mutex);
  if (name.empty()) fail("add_pass: a pass without a name");
  if (!pass) fail("add_pass: pass '{}' has no function", name);
  for (const std::vector<GraphPass>& list : {state_->passes, passes_of(state_->device->target())})
    for (const GraphPass& p : list)
      if (p.name == name) fail("add_pass: there is a pass '{}' already", name);
  state_->passes.push_back(pass_of(name, std::move(pass)));
}

Counters Context::counters() const {
  std::lock_guard lock(state_->mutex);
  Counters all = state_->counters;
  const KernelFigures& kernels = state_->kernels.figures();
  all.compiles = kernels.compiles;
  all.loads = kernels.loads;
  all.render_seconds = static_cast<double>(kernels.render_ns) * 1e-9;
  all.compile_seconds = static_cast<double>(kernels.compile_ns) * 1e-9;
  all.load_seconds = static_cast<double>(kernels.load_ns) * 1e-9;
  const MemoryFigures memory = state_->device->figures();
  all.live_bytes = memory.live;
  all.peak_bytes = memory.peak;
  return all;
}

std::vector<std::string> Context::take_warnings() {
  std::lock_guard lock(state_->mutex);
  return state_->kernels.take_warnings();
}

Context* Context::default_if_made() { return default_context; }

void Context::synchronise() {
  std::lock_guard lock(state_->mutex);
  {
    const auto use = state_->device->use();
    state_->device->backend().synchronise();
  }
  throw_failure(*state_);
}

}  // namespace kontor
