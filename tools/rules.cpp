// kontor rules: the rewrite rules, as a page or as JSON.
#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "graph/rules/rules.h"
#include "tools/verbs.h"

namespace kontor::tools {

static void print_json() {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const RuleTable& table : rule_tables())
    for (const Rule& rule : table.rules)
      out.push_back({{"table", table.name},
                     {"name", rule.name},
                     {"left", print(rule.left)},
                     {"right", rule.function ? std::string(rule.says) : print(rule.right)}});
  fmt::print("{}\n", out.dump(1));
}

void add_rules(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("rules", "The rewrite rules that graphs are simplified by");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "As JSON");
  verb->callback([json] {
    if (*json) print_json();
    else fmt::print("{}", rules_markdown());
  });
}

}  // namespace kontor::tools
