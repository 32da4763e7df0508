// What a graph became pass by pass: as a graph, then as what codegen made of it.
#include "base/error.h"
#include "codegen/tree/text.h"
#include "graph/text/text.h"
#include "runtime/inspect.h"

namespace kontor::inspect {
namespace {

void section(std::string& text, std::string_view pass, const std::string& body) {
  text +=
      fmt::format("{}== {}\n{}{}", text.empty() ? "" : "\n", pass, body, body.ends_with('\n') ? "" : "\n");
}

std::string trees(const Schedule& schedule) {
  std::string text;
  for (const ScheduledKernel& k : schedule.kernels) {
    text += tree::print(k.tree);
    if (!text.ends_with('\n')) text += '\n';
  }
  return text;
}

std::string lines(const Schedule& schedule, std::initializer_list<Verb> verbs) {
  std::string text;
  for (const Decision& d : schedule.decisions.all())
    if (std::find(verbs.begin(), verbs.end(), d.verb) != verbs.end()) text += d.text() + '\n';
  return text.empty() ? "nothing\n" : text;
}

/// The same decisions, but no moves.
Decisions unmoved(const Decisions& decided) {
  Decisions out;
  for (const Decision& d : decided.all())
    out.add(d.verb == Verb::Moves ? Decision{Verb::Moves, d.stage, {"none"}} : d);
  return out;
}

}  // namespace

PassLog::PassLog(const Graph& recorded) : PassLog(recorded, dumps("passes")) {}
PassLog::PassLog(const Graph& recorded, bool wanted) : wanted_(wanted) {
  if (wanted_) add("recorded", recorded);
}

void PassLog::add(std::string_view pass, const Graph& graph) {
  std::string now = kontor::print(graph);
  section(text_, pass, now == last_ ? "the same" : now);
  last_ = std::move(now);
}

PassWatch PassLog::watch() {
  if (!wanted_) return {};
  return [this](const GraphPass& pass, const Graph& graph) { add(pass.name, graph); };
}

std::string PassLog::with(const Graph& graph, const Target& target, const Schedule& made) const {
  PassLog all = *this;
  run_passes(graph, passes_of(target), all.watch());
  std::string& text = all.text_;
  section(text, "lower", trees(schedule(graph, target, unfused(made.decisions))));
  section(text, "layout", lines(made, {Verb::Layout}));
  section(text, "fuse", lines(made, {Verb::Store, Verb::At, Verb::Inline, Verb::Fuse}));
  section(text, "stream", lines(made, {Verb::Stream, Verb::Block}));
  section(text, "build", trees(schedule(graph, target, unmoved(made.decisions))));
  section(text, "moves", lines(made, {Verb::Moves}) + trees(made));
  return text;
}

}  // namespace kontor::inspect
