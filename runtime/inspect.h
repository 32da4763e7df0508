// Seeing inside: the KONTOR_DEBUG ladder, KONTOR_DUMP files, KONTOR_OVERRIDE_DIR, KONTOR_TRACE; and each stage as text.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "codegen/schedule.h"
#include "graph/graph.h"
#include "graph/transforms/passes.h"

namespace kontor::inspect {

/// A piece of a stage: a kernel's text under the kernel's name; the graph and the schedule have one piece, named so.
struct Piece {
  std::string name, text;
};
/// The stage (of base/stages.h) of a graph for a device. Graph to source need no such device on this machine. Throws Error
/// naming the stages or devices there are.
std::vector<Piece> stage(const Graph& graph, std::string_view stage, std::string_view device);
/// What KONTOR_DECISIONS says of a graph: the lines of its file before the first `graph KEY`, and those behind the graph's own
/// key (which the stage `decisions` begins with).
Decisions decisions_for(const Graph& graph);
/// What the scheduler is told of a device: what it is, or what a common GPU is where it cannot be opened.
Target target_of(std::string_view device);
/// What a graph became, pass by pass, each under its name: `== rules`.
class PassLog {
 public:
  /// Writes only if `wanted`, or by default if KONTOR_DUMP asks for it.
  explicit PassLog(const Graph& recorded);
  PassLog(const Graph& recorded, bool wanted);
  /// Notes each pass over the graph; empty where nothing is to be written.
  PassWatch watch();
  /// What was written, and the passes of schedule(), which made `schedule` of `graph`.
  std::string with(const Graph& graph, const Target& target, const Schedule& schedule) const;

 private:
  void add(std::string_view pass, const Graph& graph);

  bool wanted_;
  std::string text_, last_;
};
/// Kernels, their buffers and moves, and why they were not fused.
std::string print(const Schedule& schedule);

/// Writes a graph's text to a file of its own in this user's own folder under $TMPDIR; returns a line that says where, or why not.
std::string write_repro(const Graph& graph);

// What the runtime reports as it goes; each does nothing unless the environment asks for it.
using Time = std::chrono::steady_clock::time_point;
void device_opened(const Backend& backend, int threads);
void graph_made(const Graph& graph);
void schedule_made(const Graph& graph, const Target& target, const Schedule& schedule, const PassLog& log);
/// Whether what scheduling and rendering make is shown, edited or decided by hand, so that they must run.
bool sees_scheduling();
/// A line on stderr, where KONTOR_DEBUG is 1 or more.
void note(const std::string& text);
/// Whether KONTOR_DUMP names the stage.
bool dumps(std::string_view stage);
/// Whether a kernel's source is wanted even if a finished program is found.
bool wants_source();
void kernel_rendered(const ScheduledKernel& kernel, const KernelSource& source, Backend& backend);
/// The edited source of a kernel, or "".
std::string override_source(const std::string& kernel, const BackendKind& kind);
/// Whether kernels are timed one by one.
bool timing();
/// Operations on floats that a kernel needs.
int64_t operations_in(const Ref& kernel);
void kernel_ran(const std::string& name, int64_t operations, Time start, Time end, int64_t bytes);

}  // namespace kontor::inspect
