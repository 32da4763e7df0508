// kontor bench: measures cases and prints what each came to. bench/run.py holds these against limits and peers.
#include <cstdio>
#include <iostream>
#include <memory>

#include <nlohmann/json.hpp>

#include <kontor/jit.h>

#include "base/error.h"
#include "tools/bench_cases.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  std::vector<std::string> names;
  int threads = 0;
  double seconds = 2;
  bool json = false;
};

std::string known_names() {
  std::string known;
  for (const BenchCase& c : bench_cases()) known += " " + c.name;
  return known;
}

const BenchCase* find(const std::string& name) {
  for (const BenchCase& c : bench_cases())
    if (c.name == name) return &c;
  return nullptr;
}

nlohmann::json run_case(const std::string& name, const BenchCase& found, const Options& options) {
  const int threads = Context::current().threads();
  const Measured m = found.measure({.threads = threads, .seconds = options.seconds});
  return {{"case", name},   {"threads", threads}, {"value", m.value},
          {"best", m.best}, {"mean", m.mean},     {"runs", m.runs}};
}

void print(const nlohmann::json& figures, bool json) {
  const auto name = figures["case"].get<std::string>();
  const bool bytes = name.starts_with("plan_") || name.starts_with("rss_");
  if (json) fmt::print("{}\n", figures.dump());
  else
    fmt::print("{:16} {} threads  {:.6f} {}\n", name, figures["threads"].get<int>(),
               figures["value"].get<double>() * (bytes ? 1e-6 : 1e3), bytes ? "MB" : "ms");
  std::fflush(stdout);
}

// One case a line of standard input, so that one process serves a whole run of bench/run.py. A case that fails is told
// in its place.
void serve(const Options& options) {
  for (std::string name; std::getline(std::cin, name);) {
    nlohmann::json figures = {{"case", name}, {"value", nullptr}};
    try {
      if (const BenchCase* found = find(name)) figures = run_case(name, *found, options);
    } catch (const std::exception& error) {
      figures["error"] = error.what();
    }
    print(figures, true);
  }
}

void run_cases(const Options& options) {
  if (options.names.empty()) return fmt::print("cases:{}\n", known_names());
  Context::set_default({.device = {}, .threads = options.threads, .seed = 1});
  if (options.names.front() == "-") return serve(options);
  for (const std::string& name : options.names) {
    const BenchCase* found = find(name);
    if (found == nullptr) {
      fmt::print(stderr, "kontor: no case '{}'; there are:{}\n", name, known_names());
      throw Exit{2};
    }
    print(run_case(name, *found, options), options.json);
  }
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("bench", "Times one or more cases; without one, names them");
  auto options = std::make_shared<Options>();
  verb->add_option("case", options->names, "Names of cases; '-': names from standard input, one a line");
  verb->add_option("--threads", options->threads, "Threads (0: one a core)")->check(whole(0, 4096));
  verb->add_option("--seconds", options->seconds, "How long to repeat each")
      ->check(number(0, 3600))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "One JSON object a line");
  verb->callback([options] { run_cases(*options); });
}

}  // namespace kontor::tools
