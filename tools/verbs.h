// The verbs of the kontor program: each file adds one to the command line; its callback does the work.
#pragma once
#include <CLI/CLI.hpp>

namespace kontor::tools {

void add_train(CLI::App& app);
void add_train_gpt(CLI::App& train);  ///< a verb of the verb `train`
void add_generate(CLI::App& app);
void add_eval(CLI::App& app);
void add_scalify(CLI::App& app);
void add_scalify_recipes(CLI::App& scalify);  ///< a verb of the verb `scalify`
void add_scalify_export(CLI::App& scalify);
void add_scalify_compare(CLI::App& scalify);
void add_study(CLI::App& app);
void add_dump(CLI::App& app);
void add_rules(CLI::App& app);
void add_env(CLI::App& app);
void add_devices(CLI::App& app);
void add_cache(CLI::App& app);
void add_bench(CLI::App& app);
void add_swarm(CLI::App& app);
void add_ledger(CLI::App& app);
void add_scalify(CLI::App& app);
void add_scalify_report(CLI::App& scalify);  ///< verbs of the verb `scalify`
void add_scalify_explain(CLI::App& scalify);

/// What a verb's process exits with where it is neither 0 nor that of an error.
struct Exit {
  int code;
};

}  // namespace kontor::tools
