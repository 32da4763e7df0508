// kontor devices: which devices open on this machine, and why the others do not.
#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "backends/backend.h"
#include "base/error.h"
#include "tools/verbs.h"

namespace kontor::tools {

static nlohmann::ordered_json probe(const BackendKind& kind) {
  nlohmann::ordered_json row = {{"device", kind.name}};
  try {
    std::unique_ptr<Backend> device = kind.open();
    row["opens"] = true;
    row["description"] = device->description();
    row["fingerprint"] = device->fingerprint();
  } catch (const Error& error) {
    row["opens"] = false;
    row["description"] = error.what();
  }
  return row;
}

void add_devices(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("devices", "The devices of this machine, the default one first");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "As JSON");
  verb->callback([json] {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const BackendKind* kind : backend_kinds()) out.push_back(probe(*kind));
    if (*json) return fmt::print("{}\n", out.dump(1));
    for (const auto& row : out)
      fmt::print("{:8} {}\n", row["device"].get<std::string>(),
                 (row["opens"].get<bool>() ? "" : "not here: ") + row["description"].get<std::string>());
  });
}

}  // namespace kontor::tools
