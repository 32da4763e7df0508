// kontor scalify: training in narrow formats.
#include "tools/verbs.h"

namespace kontor::tools {

void add_scalify(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("scalify", "Training in narrow formats");
  verb->require_subcommand(1);
  add_scalify_report(*verb);
  add_scalify_explain(*verb);
  add_scalify_recipes(*verb);
  add_scalify_export(*verb);
  add_scalify_compare(*verb);
}

}  // namespace kontor::tools
