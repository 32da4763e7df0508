// The kontor program: parses the command line, runs one verb. Exit codes: 0 done, 1 it failed, 2 the command line is wrong.
#include <csignal>
#include <cstdio>

#include <kontor/jit.h>

#include "base/env.h"
#include "base/error.h"
#include "tools/verbs.h"

namespace kontor::tools {
namespace {

using Adder = void (*)(CLI::App&);
constexpr Adder verbs[] = {add_train, add_generate, add_eval, add_study,   add_scalify, add_swarm, add_ledger,
                           add_dump,  add_rules,    add_env,  add_devices, add_cache,   add_bench};

/// "" if the first word of the command line is a verb or an option.
std::string unknown_verb(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return "";
  std::vector<std::string> known;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_name() == argv[1]) return "";
    known.push_back(verb->get_name());
  }
  return fmt::format("no verb '{}'; there are: {}", argv[1], fmt::join(known, " "));
}

int run(int argc, char** argv) {
  CLI::App app("Kontor: a lazy tensor compiler, and training without backprop.", "kontor");
  app.set_version_flag("--version",
                       "kontor " KONTOR_VERSION ", built by " KONTOR_COMPILER " with " KONTOR_LLVM_BUILT);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of all verbs");
  for (Adder add : verbs) add(app);
  if (const std::string wrong = unknown_verb(app, argc, argv); !wrong.empty()) {
    fmt::print(stderr, "kontor: {}\n", wrong);
    return 2;
  }
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const Exit& exit) {
    return exit.code;
  } catch (const Error& error) {
    fmt::print(stderr, "kontor: {}\n", error.what());
  } catch (const InternalError& error) {
    fmt::print(stderr, "kontor: a defect of Kontor, please report it: {}\n", error.what());
  } catch (const std::exception& error) {
    fmt::print(stderr, "kontor: {}\n", error.what());
  }
  return 1;
}

}  // namespace
}  // namespace kontor::tools

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a full disk is an Error, not a signal
  std::signal(SIGPIPE, SIG_DFL);
  for (const std::string& warning : kontor::env_warnings()) fmt::print(stderr, "kontor: {}\n", warning);
  const int code = kontor::tools::run(argc, argv);
  if (kontor::Context* context = kontor::Context::default_if_made()) {
    for (const std::string& warning : context->take_warnings()) fmt::print(stderr, "kontor: {}\n", warning);
  }
  return code;
}
