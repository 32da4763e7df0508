// The debug ladder on stderr, dumps as files, timed kernels, and the stages of a graph as text.
#include "runtime/inspect.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <mutex>

#include "backends/gpu.h"
#include "base/env.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/lasting.h"
#include "base/private_folder.h"
#include "base/stages.h"
#include "codegen/program/memory_plan.h"
#include "codegen/tree/shape_accesses.h"
#include "codegen/tree/text.h"
#include "graph/graph.h"
#include "graph/index/index.h"
#include "graph/text/text.h"
#include "runtime/device.h"
#include "runtime/events.h"
#include "runtime/kernels.h"
#include "scalify/scalify.h"

namespace kontor::inspect {
namespace {

struct Settings {
  int64_t level = 0;
  std::vector<std::string> dumped;
  std::string folder = "kontor-dump", overrides;
};

std::mutex settings_mutex;
// What the environment said when the latest Context was made.
Settings& settings() {
  static Settings& latest = lasting(Settings());
  return latest;
}
std::atomic<bool> timed = false, sources = false;
std::atomic<int> graphs = 0;
std::atomic<int64_t> launches = 0;

void need_stage(std::string_view who, std::string_view stage) {
  if (std::ranges::count(dump_stages, stage) == 0)
    fail("{}stage '{}' is not one of {}", who, stage, fmt::join(dump_stages, ", "));
}

Settings read_environment() {
  Settings s;
  s.level = env_int(Env::Debug);
  s.overrides = env_text(Env::OverrideDir);
  std::string dump = env_text(Env::Dump);
  if (const size_t colon = dump.find(':'); colon != std::string::npos) {
    s.folder = dump.substr(colon + 1);
    if (s.folder.empty()) fail("KONTOR_DUMP: no folder after the colon of '{}'", dump);
    dump.resize(colon);
  }
  for (size_t begin = 0; begin < dump.size();) {
    const size_t end = std::min(dump.find(',', begin), dump.size());
    std::string stage = dump.substr(begin, end - begin);
    need_stage("KONTOR_DUMP: ", stage);
    s.dumped.push_back(std::move(stage));
    begin = end + 1;
  }
  return s;
}

void dump(const std::string& name, std::string_view ending, const std::string& text) {
  make_folders(settings().folder);
  replace_file(fmt::format("{}/{}.{}", settings().folder, name, ending), text);
}

void say(const std::string& text) { std::fputs(text.c_str(), stderr); }

// How many iterations an extent means: its mean over the one loop that it varies with (taps at a border, the last piece of
// a chain); its bound where it depends on more.
double iterations(const Ref& extent) {
  if (extent->is_const()) return static_cast<double>(extent->at(0));
  const Node* range = nullptr;
  for (const Node* n : topological(std::span(&extent, 1))) {
    if (n->op != Op::Range && n->op != Op::Slot) continue;
    const bool one = range == nullptr && n->op == Op::Range && n->src[0]->is_const();
    if (!one) return static_cast<double>(extent->bounds.hi);
    range = n;
  }
  const int64_t count = range != nullptr ? range->src[0]->at(0) : 0;
  if (count < 1 || count > 1 << 16) return static_cast<double>(extent->bounds.hi);
  double total = 0;
  for (int64_t i = 0; i < count; i++) total += static_cast<double>(ix::evaluate(extent, {{range, i}}));
  return total / static_cast<double>(count);
}

// Operations on floats that a statement's values need once.
double float_operations(std::span<const Ref> values) {
  double count = 0;
  for (const Node* n : topological(values)) {
    if (is_elementwise(n->op) && is_float(n->dtype) && n->op != Op::Where && n->op != Op::Cast &&
        n->op != Op::Bitcast)
      count += n->op == Op::Fma ? 2 : 1;
  }
  return count;
}

double float_operations(std::span<const Ref> body, double times) {
  double count = 0;
  for (const Ref& s : body) {
    if (s->op == Op::Loop) {
      count += float_operations(tree::body(*s), times * iterations(s->src[0]->src[0]));
    } else if (s->op == Op::If) {
      count += std::max(float_operations(tree::then_body(*s), times),
                        float_operations(tree::else_body(*s), times));
    } else if (s->op == Op::Store) {
      count += times * float_operations(tree::values(*s));
    } else if (s->op == Op::FoldStep && is_float(s->src[0]->dtype)) {
      const FoldState step = step_formulas(tree::fold_of(*s->src[0]), s->src[0]->dtype);
      count += times * (float_operations(tree::values(*s)) + float_operations(step));
    }
  }
  return count;
}

std::string print(const ScheduledKernel& kernel) {
  std::string text = tree::print(kernel.tree);
  if (!text.ends_with('\n')) text += '\n';
  if (!kernel.placed.empty()) text += fmt::format("  fusion: {}\n", kernel.placed);
  if (!kernel.moves.empty()) text += fmt::format("  moves: {}\n", kernel.moves);
  for (size_t i = 0; i < kernel.checks.size(); ++i)
    text += fmt::format("  check {}: {}\n", i + 1, kernel.checks[i]);
  return text;
}

std::string describe_buffer(const ScheduledBuffer& buffer) {
  constexpr std::string_view roles[] = {"input", "output", "temporary"};
  std::string dims;
  for (const Ref& d : buffer.dims) {
    dims += fmt::format("{}{}", dims.empty() ? "" : ", ",
                        d->is_const() ? fmt::format("{}", d->at(0)) : tree::print(d));
  }
  return fmt::format("{} {} {}[{}]{}", roles[buffer.role], buffer.number, kontor::name(buffer.dtype), dims,
                     buffer.in_place ? " in place" : "");
}

std::string describe_stream(const ScheduledStream& stream) {
  std::string slots;
  for (const ScheduledStream::Slot& s : stream.slots) {
    slots += fmt::format("; ${} is where a piece begins", s.number);
    if (s.divisor != 1) slots += fmt::format(", divided by {}", s.divisor);
  }
  return fmt::format("stream {} {} by {}: kernels {} to {}{}\n", stream.name, stream.extent, stream.chunk,
                     stream.first, stream.last, slots);
}

}  // namespace

std::string print(const Schedule& schedule) {
  std::string text;
  for (size_t i = 0; i < schedule.buffers.size(); ++i)
    text += fmt::format("buffer {}: {}\n", i, describe_buffer(schedule.buffers[i]));
  text += fmt::format("temporaries: {} bytes at most\n", plan_temporaries(schedule).bytes);
  for (size_t k = 0; k < schedule.kernels.size(); ++k) {
    for (const ScheduledStream& s : schedule.streams) {
      if (s.first == k) text += '\n' + describe_stream(s);
    }
    const ScheduledKernel& kernel = schedule.kernels[k];
    text += fmt::format("\n{}  buffers: {}\n", print(kernel), fmt::join(kernel.buffers, " "));
  }
  if (!schedule.notes.empty()) text += '\n' + schedule.notes;
  if (!text.ends_with('\n')) text += '\n';
  return text;
}

static std::string key_of(const Graph& graph) { return hash128(kontor::print(graph)).hex().substr(0, 16); }

static std::string decisions_text(const Graph& graph, const Schedule& made) {
  return fmt::format("graph {}\n{}", key_of(graph), kontor::print(made.decisions));
}

/// Of a line `graph KEY # comment`.
static std::string key_in(std::string_view line) {
  std::string key(line.substr(6, line.find('#') - 6));
  std::erase_if(key, [](char c) { return c == ' ' || c == '\t' || c == '\r'; });
  if (key.size() != 16 || key.find_first_not_of("0123456789abcdef") != key.npos)
    fail("KONTOR_DECISIONS: '{}': a graph's key is 16 digits, as `kontor dump --stage decisions` says it",
         line);
  return key;
}

Decisions decisions_for(const Graph& graph) {
  const std::string path = env_text(Env::Decisions);
  if (path.empty()) return {};
  const std::string file = read_file(path);
  std::string own, key = key_of(graph);
  bool ours = true;
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = std::min(file.find('\n', begin), file.size());
    std::string_view line = std::string_view(file).substr(begin, end - begin);
    begin = end + 1;
    if (line.starts_with("graph ")) ours = key_in(line) == key, line = {};
    own += ours ? line : "";
    own += '\n';  // lines keep their numbers
  }
  return parse_decisions(own);
}

Target target_of(std::string_view device) {
  const BackendKind& kind = backend_kind(device);
  try {
    return with_options(kind.open()->target());
  } catch (const Error&) {
    if (!kind.usual_target) throw;
  }
  return with_options(kind.usual_target());
}

std::vector<Piece> stage(const Graph& recorded, std::string_view stage, std::string_view device) {
  need_stage("", stage);
  if (stage == "graph") return {{"graph", kontor::print(recorded)}};
  const Graph graph = scalify::pass(recorded);
  const BackendKind& kind = backend_kind(device);
  const Target target = target_of(device);
  const Schedule chosen = schedule(graph, target, decisions_for(graph));
  if (stage == "passes") {
    PassLog log(recorded, true);
    if (scalify::asked_for(recorded)) log.watch()({"scalify", scalify::pass}, graph);
    return {{"passes", log.with(graph, target, chosen)}};
  }
  if (stage == "decisions") return {{"decisions", decisions_text(graph, chosen)}};
  const Schedule made = stage == "stages" ? schedule(graph, target, unfused(chosen.decisions)) : chosen;
  if (stage == "schedule") return {{"schedule", print(made)}};
  std::vector<Piece> pieces;
  std::unique_ptr<Backend> backend;
  for (const ScheduledKernel& k : made.kernels) {
    const std::string& name = k.tree->arg.text;
    if (stage == "kernel" || stage == "stages" || stage == "accesses") {
      pieces.push_back({name, stage == "accesses" ? print_accesses(k.tree) : print(k)});
      continue;
    }
    const KernelSource source = render_for(kind, k.tree, name, target);
    if (stage != "source" && !backend) backend = kind.open();
    pieces.push_back({name, stage == "source" ? source.text : backend->compiler_text(source, stage)});
  }
  return pieces;
}

std::string write_repro(const Graph& graph) {
  try {
    const std::string text = kontor::print(graph);
    const std::string path = keep_text(fmt::format("repro-{}.graph", hash128(text).hex().substr(0, 8)), text);
    return fmt::format("the graph is in {}; please report it with that file", path);
  } catch (const std::exception& error) {
    return fmt::format("the graph could not be written: {}", error.what());
  }
}

void device_opened(const Backend& backend, int threads) {
  Settings now = read_environment();
  std::lock_guard lock(settings_mutex);
  settings() = std::move(now);
  events::open(env_text(Env::Trace));
  timed = settings().level >= 2 || events::on();
  sources = settings().level >= 4 || dumps("kernel") || dumps("accesses") || dumps("source") || dumps("ir") ||
            dumps("asm");
  if (settings().level < 1) return;
  say(fmt::format("kontor: device {}: {}; {} threads\n", backend.name(), backend.description(), threads));
  for (const std::string& warning : env_warnings()) say(fmt::format("kontor: {}\n", warning));
}

void graph_made(const Graph& graph) {
  if (settings().level < 5 && !dumps("graph")) return;
  const std::string text = kontor::print(graph);
  if (settings().level >= 5) say(text);
  if (dumps("graph")) dump(fmt::format("{:04}", graphs.load()), "graph", text);
}

void schedule_made(const Graph& graph, const Target& target, const Schedule& schedule, const PassLog& log) {
  const int number = graphs++;
  if (settings().level >= 3) {
    for (const ScheduledKernel& k : schedule.kernels) {
      say(fmt::format("kontor: kernel {}: {}\n", k.tree->arg.text, k.moves.empty() ? "no moves" : k.moves));
    }
    say(schedule.notes);
  }
  if (dumps("schedule")) dump(fmt::format("{:04}", number), "schedule", print(schedule));
  if (dumps("stages"))
    dump(fmt::format("{:04}", number), "stages",
         print(kontor::schedule(graph, target, unfused(schedule.decisions))));
  if (dumps("passes")) dump(fmt::format("{:04}", number), "passes", log.with(graph, target, schedule));
  if (dumps("decisions")) dump(fmt::format("{:04}", number), "decisions", decisions_text(graph, schedule));
}

bool sees_scheduling() {
  const Settings& s = settings();
  return s.level >= 3 || !s.dumped.empty() || !s.overrides.empty() || !env_text(Env::Decisions).empty() ||
         !env_list(Env::RuleOff).empty();
}

void note(const std::string& text) {
  if (settings().level >= 1) say(fmt::format("kontor: {}\n", text));
}

bool dumps(std::string_view stage) {
  return std::find(settings().dumped.begin(), settings().dumped.end(), stage) != settings().dumped.end();
}

bool wants_source() { return sources; }

void kernel_rendered(const ScheduledKernel& kernel, const KernelSource& source, Backend& backend) {
  if (settings().level >= 4) say(fmt::format("{}\n{}\n", print(kernel), source.text));
  if (dumps("kernel")) dump(source.name, "kernel", print(kernel));
  if (dumps("accesses")) dump(source.name, "accesses", print_accesses(kernel.tree));
  if (dumps("source")) dump(source.name, backend.kind().source_ending, source.text);
  if (dumps("ir")) dump(source.name, "ir", backend.compiler_text(source, "ir"));
  if (dumps("asm")) dump(source.name, "s", backend.compiler_text(source, "asm"));
}

std::string override_source(const std::string& kernel, const BackendKind& kind) {
  constexpr uint64_t most = 64 << 20;  // bytes: what is beyond is no kernel
  if (settings().overrides.empty()) return "";
  const auto folder = PrivateFolder::open(settings().overrides, PrivateFolder::IfMissing::Leave);
  if (!folder) return "";
  return folder->read(fmt::format("{}.{}", kernel, kind.source_ending), most).value_or("");
}

bool timing() { return timed; }

int64_t operations_in(const Ref& kernel) {
  constexpr double most = 1e18;
  return static_cast<int64_t>(std::min(float_operations(tree::body(*kernel), 1), most));
}

void kernel_ran(const std::string& name, int64_t operations, Time start, Time end, int64_t bytes) {
  if (events::on()) events::add("kernel", name, start, end, {{"launch", launches++}, {"bytes", bytes}});
  if (settings().level < 2) return;
  const double nanoseconds =
      static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count());
  say(fmt::format("kontor: {:40} {:10.1f} us {:8.2f} GFLOP/s {:8.2f} GB/s\n", name, nanoseconds / 1e3,
                  static_cast<double>(operations) / std::max(nanoseconds, 1.0),
                  static_cast<double>(bytes) / std::max(nanoseconds, 1.0)));
}

}  // namespace kontor::inspect
