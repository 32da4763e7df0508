// kontor env: the environment variables that mean something, and what they are set to.
#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "base/env.h"
#include "base/error.h"
#include "tools/verbs.h"

namespace kontor::tools {

void add_env(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("env", "Environment variables, their meaning and value");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "As JSON");
  verb->callback([json] {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const EnvRow& row : env_table()) {
      const std::string value = env_text(row.id);
      out.push_back({{"name", row.name},
                     {"type", name(row.type)},
                     {"value", value},
                     {"unset", row.meaning_of_unset},
                     {"doc", row.doc}});
      if (!*json)
        fmt::print("{:20} {:8} {}\n{:29} unset: {}{}\n", row.name, name(row.type), row.doc, "",
                   row.meaning_of_unset, value.empty() ? "" : fmt::format("; now: {}", value));
    }
    if (*json) fmt::print("{}\n", out.dump(1));
  });
}

}  // namespace kontor::tools
