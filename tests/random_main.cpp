// The program behind tests/random-graphs and tests/compare_numpy.py: one check over a range of seeds, a graph read from a file,
// or the calls of random cases with their values as JSON.
//
//   random_graphs CHECK FIRST COUNT [PROGRESS]   CHECK: lowered, gradients, or a device (llvm, interp, opencl, cuda)
//   random_graphs CHECK --crash SEED             one seed, in processes of their own
//   random_graphs CHECK --whole SEED             one seed, its graph as it was made
//   random_graphs CHECK --graph FILE             the graph on plain inputs
//   random_graphs export FIRST COUNT
//
// Prints one JSON object a failure and one at the end. PROGRESS is a file that holds the seed being tried, so that a
// crash can be laid to it.
#include <sys/time.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include <fmt/format.h>

#include "base/error.h"
#include "codegen/tree/text.h"
#include "graph/text/text.h"
#include "tests/random_checks.h"

using namespace kontor;

namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text)
    if (c == '"' || c == '\\') out += fmt::format("\\{}", c);
    else if (static_cast<unsigned char>(c) < 32) out += fmt::format("\\u{:04x}", static_cast<int>(c));
    else out += c;
  return out + "\"";
}

struct Mode {
  std::string name;
  CaseOptions options;
  Check check;
};

Backend& opened(const std::string& name) {
  std::string why;
  Backend* backend = device(name, &why);
  if (!backend) throw Error(why);
  return *backend;
}

/// The check as it is for that seed.
Mode mode_of(const std::string& name, uint64_t seed, bool* measured) {
  if (name == "lowered") return {name, {.draws = true, .gradients = true}, lowered(some_target(seed))};
  if (name == "decided") return {name, {.draws = true, .gradients = true}, decided(some_target(seed), seed)};
  if (name == "decided-llvm")
    return {name, {.draws = true, .gradients = true}, decided(opened("llvm"), seed)};
  if (name == "gradients")
    return {name, {.smooth = true, .draws = true}, [seed, measured](const Case& c) {
              return check_gradients(c, some_target(seed % 2 ? 6 : seed % 4 ? 4 : 0), measured);
            }};
  return {name, {.draws = true, .gradients = true}, on_device(opened(name))};
}

// Seconds of the processor. A graph that takes more of them hangs: SIGPROF ends the process, which counts as a crash.
constexpr time_t seconds_a_seed = 60;

void end_after(time_t seconds) {
  const itimerval timer{.it_interval = {}, .it_value = {.tv_sec = seconds, .tv_usec = 0}};
  ::setitimer(ITIMER_PROF, &timer, nullptr);
}

int run_seeds(const std::string& name, uint64_t first, uint64_t count, const char* progress) {
  std::map<std::string, int> shrunk;
  Coverage coverage;
  uint64_t failures = 0, measured = 0;
  FILE* at = progress ? std::fopen(progress, "w") : nullptr;
  for (uint64_t seed = first; seed < first + count; seed++) {
    if (at) std::rewind(at), fmt::print(at, "{:20}", seed), std::fflush(at);
    end_after(seconds_a_seed);
    bool slope = false;
    Mode mode = mode_of(name, seed, &slope);
    Trial trial = try_seed(seed, mode.options, mode.check, false, &coverage);
    measured += slope;
    if (trial.difference.empty()) continue;
    failures++;
    std::string kind = kind_of_failure(trial.difference);
    end_after(10 * seconds_a_seed);
    if (shrunk[kind]++ < 2) trial = try_seed(seed, mode.options, mode.check);
    fmt::print("{{\"seed\": {}, \"kind\": {}, \"report\": {}}}\n", seed, quoted(kind), quoted(trial.report));
    std::fflush(stdout);
  }
  fmt::print("{{\"done\": {}, \"failures\": {}, \"measured\": {}, \"cells\": {}, \"of\": {}}}\n", count,
             failures, measured, coverage.covered(), all_cells().size());
  if (at) std::fclose(at);
  return failures != 0;
}

int run_seed(const std::string& name, uint64_t seed, bool crashes) {
  bool measured = false;
  const Mode mode = mode_of(name, seed, &measured);
  const Trial trial = try_seed(seed, mode.options, crashes ? isolated(mode.check) : mode.check, crashes);
  fmt::print("{{\"seed\": {}, \"kind\": {}, \"report\": {}}}\n", seed,
             quoted(kind_of_failure(trial.difference)), quoted(trial.report));
  return !trial.difference.empty();
}

void show_kernels(const Graph& graph, const Target& target) {
  try {
    const Schedule made = schedule(graph, target);
    for (const ScheduledKernel& k : made.kernels) fmt::print("{}\n{}", k.moves, tree::print(k.tree));
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
  }
}

int run_graph_file(const std::string& name, const char* path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  Case c{parse_graph(text.str()), {}};
  c.inputs = plain_inputs(c.graph);
  c.scalars = scalars_of(c.graph);
  int failures = 0;
  for (uint64_t seed = 0; seed < 8; seed++) {
    std::string found = verdict(c, isolated(mode_of(name, seed, nullptr).check));
    fmt::print("{}: {}\n", name == "lowered" ? fmt::format("target {}", seed) : name,
               found.empty() ? "equal" : found);
    failures += !found.empty();
    if (name == "lowered" && !found.empty()) show_kernels(c.graph, some_target(seed));
    if (name != "lowered" && name != "gradients") break;
  }
  return failures != 0;
}

// ---- calls with their values, for other implementations to judge ------------------------------------------------------

std::string json(const Array& a) {
  std::string shape, hex;
  for (int64_t d : a.shape) shape += fmt::format("{}{}", shape.empty() ? "" : ", ", d);
  for (std::byte b : a.bytes) hex += fmt::format("{:02x}", static_cast<unsigned>(b));
  return fmt::format("{{\"dtype\": \"{}\", \"shape\": [{}], \"bytes\": \"{}\"}}", name(a.dtype), shape, hex);
}

std::string json(const Number& n) {
  if (n.kind == Number::Bool) return n.i ? "true" : "false";
  if (n.kind == Number::Int) return fmt::format("{}", n.i);
  const std::string text = fmt::format("{}", n.f);  // with a point, so that it reads as a float
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}

template <class List>
std::string json_list(const List& list) {
  std::string out;
  for (const auto& one : list) out += (out.empty() ? "" : ", ") + json(one);
  return "[" + out + "]";
}

std::string json(const Argument& a, const std::map<const Node*, Array>& values) {
  std::vector<Array> tensors;
  for (const Ref& t : a.tensors) tensors.push_back(values.at(t.get()));
  switch (a.kind) {
    case Argument::None:    return "null";
    case Argument::Tensor:  return json(tensors[0]);
    case Argument::Tensors: return json_list(tensors);
    case Argument::Number:  return json(a.numbers[0]);
    case Argument::Numbers: return json_list(a.numbers);
    case Argument::Dtype:   return quoted(name(a.dtype));
    case Argument::Text:    return quoted(a.text);
  }
  return "null";
}

void export_case(uint64_t seed) {
  const Case c = random_case(seed);
  std::vector<Ref> wanted;
  for (const Step& s : c.steps) {
    for (const Argument& a : s.arguments) wanted.insert(wanted.end(), a.tensors.begin(), a.tensors.end());
    wanted.push_back(s.result);
  }
  const Graph all = make_graph(wanted);
  std::vector<Array> inputs;
  for (const Ref& i : all.inputs)
    for (size_t k = 0; k < c.graph.inputs.size(); k++)
      if (c.graph.inputs[k] == i) inputs.push_back(c.inputs[k]);
  if (inputs.size() != all.inputs.size()) return;  // of a call that nothing reads
  const Evaluation found = evaluate_graph(all, inputs, scalars_of(all));
  if (!found.error.empty()) return;
  std::map<const Node*, Array> values;
  for (size_t i = 0; i < wanted.size(); i++) values[wanted[i].get()] = found.outputs[i];
  for (const Step& s : c.steps) {
    std::string arguments;
    const std::vector<Parameter> names = parameters(*s.function);
    for (size_t i = 0; i < s.arguments.size(); i++)
      if (s.arguments[i].kind != Argument::None)
        arguments += fmt::format("{}\"{}\": {}", arguments.empty() ? "" : ", ", names[i].name,
                                 json(s.arguments[i], values));
    fmt::print("{{\"seed\": {}, \"function\": \"{}\", \"arguments\": {{{}}}, \"result\": {}}}\n", seed,
               s.function->name, arguments, json(values.at(s.result.get())));
  }
}

int main_of(int count, char** arguments) {
  if (count < 4)
    throw Error("random_graphs CHECK FIRST COUNT [PROGRESS] | CHECK --graph FILE | export FIRST COUNT");
  const std::string what = arguments[1];
  if (std::strcmp(arguments[2], "--graph") == 0) return run_graph_file(what, arguments[3]);
  if (std::strcmp(arguments[2], "--crash") == 0) return run_seed(what, std::stoull(arguments[3]), true);
  if (std::strcmp(arguments[2], "--whole") == 0) return run_seed(what, std::stoull(arguments[3]), false);
  const uint64_t first = std::stoull(arguments[2]), seeds = std::stoull(arguments[3]);
  if (what != "export") return run_seeds(what, first, seeds, count > 4 ? arguments[4] : nullptr);
  for (const FunctionRow& f : functions())
    fmt::print("{{\"row\": \"{}\", \"parameters\": \"{}\"}}\n", f.name, f.parameters);
  for (uint64_t seed = first; seed < first + seeds; seed++) export_case(seed);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return main_of(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
