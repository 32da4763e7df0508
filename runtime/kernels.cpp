// Keys of trees, rendering for a device, and the way through the caches to a program.
#include "runtime/kernels.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <chrono>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "codegen/tree/tree.h"
#include "codegen/tree/verify.h"
#include "runtime/events.h"
#include "runtime/inspect.h"

namespace kontor {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t since(Clock::time_point start) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
}

void append(std::string& out, uint64_t word) {
  out.append(reinterpret_cast<const char*>(&word), sizeof(word));
}

// Which integers of a node's argument belong to its meaning: not the ids of ranges and places.
size_t first_int(const Node& node) { return node.op == Op::Range || node.op == Op::Place ? 1 : 0; }

// The numbers of a program's own folds are of this process alone.
bool is_fold_number(const Node& node, size_t i) {
  return node.op == Op::Place && i == tree::fold_int && tree::has_fold(node);
}

// Kontor changes what it renders from build to build: its own file's time and size tell builds apart.
std::string own_build() {
  Dl_info info{};
  struct stat file{};
  if (dladdr(reinterpret_cast<const void*>(&tree_key), &info) == 0 || stat(info.dli_fname, &file) != 0)
    return "";
  return fmt::format("{}.{:09}.{}", file.st_mtim.tv_sec, file.st_mtim.tv_nsec, file.st_size);
}

std::string fingerprint_of(const Device& device, std::string_view backend) {
  const Target& l = device.target();
  return fmt::format("{} | {} {} {} {} {} {} {} {} {} | {}", backend, l.vector_bytes, l.vector_registers,
                     l.l1, l.l2, l.place_bytes, l.gpu, l.lanes, l.natives.f16, l.natives.bf16_pairs,
                     own_build());
}

}  // namespace

std::string tree_key(const Ref& kernel) {
  std::string key;
  NodeMap<uint64_t> number;
  for (const Node* n : topological(std::span(&kernel, 1))) {
    const size_t first = std::min(first_int(*n), n->arg.ints.size());
    append(key, static_cast<uint64_t>(n->op) | static_cast<uint64_t>(n->dtype) << 8 |
                    uint64_t{n->src.size()} << 16 | uint64_t{n->arg.ints.size()} << 40);
    for (size_t i = first; i < n->arg.ints.size(); ++i)
      append(key, is_fold_number(*n, i) ? lasting_number(tree::fold_of(*n))
                                        : static_cast<uint64_t>(n->arg.ints[i]));
    for (const Ref& s : n->src) append(key, number.at(s.get()));
    number.emplace(n, number.size());
  }
  return key;
}

KernelSource render_for(const BackendKind& kind, const Ref& tree, const std::string& entry,
                        const Target& target) {
  require_sound_tree(tree, "its moves");  // in every build: nothing beside the time to compile it
  return kind.render(tree, entry, target);
}

KernelStore::KernelStore(Device& device)
    : device_(device),
      fingerprint_(fingerprint_of(device, device.backend().fingerprint())),
      cache_(device.backend().kind().keeps_binaries ? KernelCache::options_from_environment()
                                                    : KernelCache::Options{}) {}

Hash128 KernelStore::key_of(const Ref& tree) const { return kernel_cache_key(tree_key(tree), fingerprint_); }

// The tree's name without its number in the schedule ("k3_sum_64" is "sum_64" wherever it stands), and the key.
static std::string entry_for(const Ref& tree, const Hash128& key) {
  std::string_view name = tree->arg.text;
  const size_t end = name.find_first_not_of("0123456789", 1);
  if (name.starts_with('k') && end != std::string_view::npos && end > 1 && name[end] == '_')
    name.remove_prefix(end + 1);
  return fmt::format("{}_{}", name, key.hex().substr(0, 8));
}

bool KernelStore::load_cached(const Hash128& key, Kernel& kernel) {
  const auto start = Clock::now();
  const std::shared_ptr<const CachedKernel> cached = cache_.get(key);
  if (!cached) return false;
  try {
    const auto use = device_.use();
    kernel.program = device_.backend().load(
        {.name = cached->name, .text = {}, .scratch_bytes = cached->scratch_bytes}, cached->binary);
  } catch (const Error&) {
    return false;  // a binary of another device or damaged: made again
  }
  kernel.name = cached->name;
  figures_.loads++;
  figures_.load_ns += since(start);
  if (events::on()) events::add("load", "load " + kernel.name, start, Clock::now());
  return true;
}

std::vector<std::shared_ptr<Kernel>> KernelStore::find(std::span<const Hash128> keys) {
  std::vector<std::shared_ptr<Kernel>> out;
  std::unordered_map<Hash128, std::shared_ptr<Kernel>, HashOfHash> made;
  bool all = true;
  for (const Hash128& key : keys) {
    std::shared_ptr<Kernel>* found = kernels_.find(key);
    if (found == nullptr && !made.contains(key)) {
      const auto kernel = std::make_shared<Kernel>();
      kernel->key = key;
      kernel->device = device_.shared_from_this();
      all = all && load_cached(key, *kernel);
      if (!all) break;
      made.emplace(key, kernel);
    }
    out.push_back(found != nullptr ? *found : made.at(key));
  }
  keep(made);
  if (!all) out.clear();
  return out;
}

bool KernelStore::keeps_schedules() const {
  return device_.backend().kind().keeps_binaries && !cache_.folder().empty() && !inspect::sees_scheduling();
}

// The kernels' fingerprint, and what else of a Target it hangs on.
Hash128 KernelStore::key_of_schedule(const Graph& graph) const {
  const Target& t = device_.target();
  const std::string told = fmt::format("{} | {} {} {} {} {}", fingerprint_, t.threads, t.memory_budget,
                                       t.budget_is_asked, t.natives.shared_matrices, t.fast);
  const std::vector<uint64_t> words = graph_key(graph);
  const std::string_view bytes(reinterpret_cast<const char*>(words.data()), words.size() * sizeof words[0]);
  return kernel_cache_key(bytes, told);
}

void KernelStore::keep_schedule(const Hash128& key, size_t launches, std::string text) {
  constexpr size_t most_of_a_process =
      512;  // one that makes a graph for each of many numbers fills no disk with them
  if (schedules_kept_ == most_of_a_process) return;
  ++schedules_kept_;
  cache_.put_schedule(key, fmt::format("{} kernels", launches), std::move(text));
}

void KernelStore::set_limit(size_t kernels) {
  kernels_.set_limit(kernels);
  forms_.set_limit(kernels);
}

// Which constants of the kernels `alike`, all of one form, become slots. A form that is new is compiled as it is, unless
// many kernels of it come at once.
void KernelStore::lift(std::span<const KernelForm> forms, std::span<const size_t> alike,
                       std::vector<std::vector<bool>>& lifted) {
  constexpr size_t many = 3;
  std::unordered_set<std::string_view> different;
  for (size_t i : alike) {
    const std::vector<int64_t>& c = forms[i].constants;
    different.insert({reinterpret_cast<const char*>(c.data()), c.size() * sizeof c[0]});
  }
  const std::vector<int64_t>& first = forms[alike[0]].constants;
  const Hash128 key = hash128(forms[alike[0]].key);
  Form* form = forms_.find(key);
  if (!form) {
    const bool few = different.size() < many;
    form = &forms_.put(key, {first, std::vector<bool>(first.size()), few});
    if (few) return;
  }
  for (size_t i : alike)
    for (size_t k = 0; k < first.size(); ++k)
      if (forms[i].constants[k] != form->first[k]) form->lifted[k] = true;
  for (size_t i : alike)
    if (!form->as_it_is || forms[i].constants != form->first) lifted[i] = form->lifted;
}

std::vector<KernelStore::Tree> KernelStore::trees_of(std::span<const ScheduledKernel> wanted) {
  std::vector<KernelForm> forms;
  std::unordered_map<std::string_view, std::vector<size_t>> alike;
  forms.reserve(wanted.size());
  for (const ScheduledKernel& k : wanted) {
    forms.push_back(form_of(k.tree));
    if (!forms.back().constants.empty()) alike[forms.back().key].push_back(forms.size() - 1);
  }
  std::vector<std::vector<bool>> lifted(wanted.size());
  for (const auto& [key, kernels] : alike) lift(forms, kernels, lifted);
  std::vector<Tree> trees;
  for (size_t i = 0; i < wanted.size(); ++i) {
    trees.push_back({with_own_slots(wanted[i].tree, forms[i], lifted[i]), slots_of(forms[i], lifted[i])});
  }
  return trees;
}

std::vector<BoundKernel> KernelStore::get(std::span<const ScheduledKernel> wanted,
                                          const ParallelFor& parallel) {
  std::vector<Tree> trees = trees_of(wanted);
  std::vector<BoundKernel> out(wanted.size());
  std::unordered_map<Hash128, std::shared_ptr<Kernel>, HashOfHash> made;
  std::vector<Missing> missing;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const Ref& tree = trees[i].tree;
    out[i].slots = std::move(trees[i].slots);
    const Hash128 key = key_of(tree);
    if (const auto* found = kernels_.find(key)) {
      out[i].kernel = *found;
      figures_.shared++;
      continue;
    }
    auto& kernel = made[key];
    if (kernel) {
      out[i].kernel = kernel;
      continue;
    }
    kernel = out[i].kernel = std::make_shared<Kernel>();
    kernel->key = key;
    kernel->name = entry_for(tree, key);
    kernel->device = device_.shared_from_this();
    const std::string edited = inspect::override_source(kernel->name, device_.backend().kind());
    const bool show = inspect::wants_source();
    if (edited.empty() && !show && load_cached(key, *kernel)) continue;
    const auto start = Clock::now();
    KernelSource source = render_for(device_.backend().kind(), tree, kernel->name, device_.target());
    figures_.render_ns += since(start);
    if (events::on()) events::add("render", "render " + kernel->name, start, Clock::now());
    if (!edited.empty()) source.text = edited;
    inspect::kernel_rendered(wanted[i], source, device_.backend());
    if (edited.empty() && show && load_cached(key, *kernel)) continue;
    missing.push_back({i, key, std::move(source), !edited.empty()});
  }
  compile(missing, out, parallel);
  keep(made);
  return out;
}

// A GPU may still run a kernel that is dropped.
void KernelStore::keep(const std::unordered_map<Hash128, std::shared_ptr<Kernel>, HashOfHash>& made) {
  Backend& backend = device_.backend();
  if (!backend.host_visible() && kernels_.size() + made.size() > kernels_.limit()) {
    const auto use = device_.use();
    backend.synchronise();
  }
  for (const auto& [key, kernel] : made) kernels_.put(key, kernel);
}

void KernelStore::compile(std::vector<Missing>& missing, std::span<const BoundKernel> kernels,
                          const ParallelFor& parallel) {
  if (missing.empty()) return;
  const auto start = Clock::now();
  std::vector<KernelSource> sources;
  std::vector<std::string_view> names;
  for (const Missing& m : missing) sources.push_back(m.source), names.push_back(m.source.name);
  const auto use = device_.use();
  std::vector<std::string> binaries = device_.backend().compile(sources, parallel);
  for (size_t i = 0; i < missing.size(); ++i) {
    const Missing& m = missing[i];
    kernels[m.index].kernel->program = device_.backend().load(m.source, binaries[i]);
    if (!m.overridden) {
      cache_.put(
          m.key,
          {.name = m.source.name, .scratch_bytes = m.source.scratch_bytes, .binary = std::move(binaries[i])});
    }
  }
  if (events::on())
    events::add("compile", fmt::format("compile {}", fmt::join(names, ", ")), start, Clock::now(),
                {{"kernels", static_cast<int64_t>(missing.size())}});
  figures_.compiles += missing.size();
  figures_.compile_ns += since(start);
}

}  // namespace kontor
