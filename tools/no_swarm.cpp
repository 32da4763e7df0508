// kontor swarm and kontor ledger where their libraries are missing: say which.
#include "base/error.h"
#include "tools/verbs.h"

namespace kontor::tools {

static void add_missing(CLI::App& app, const char* name) {
  CLI::App* verb =
      app.add_subcommand(name, "Decentralised training (not built: OpenSSL 3 or SQLite was missing)");
  verb->allow_extras();
  verb->callback([name] {
    fail(
        "{}: this Kontor was built without OpenSSL 3 or SQLite; install libssl-dev and libsqlite3-dev, and build again",
        name);
  });
}

void add_swarm(CLI::App& app) { add_missing(app, "swarm"); }
void add_ledger(CLI::App& app) { add_missing(app, "ledger"); }

}  // namespace kontor::tools
