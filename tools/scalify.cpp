// kontor scalify: what there is for training in narrow formats.
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "scalify/recipes.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

static void list_recipes() {
  for (const scalify::Recipe& r : scalify::recipes()) fmt::print("{:12} {}\n", r.name, r.about);
  fmt::print("\nkontor scalify recipes NAME prints one as text; such a text in a file is a recipe too.\n");
}

void add_scalify(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("scalify", "Training in narrow formats");
  verb->require_subcommand(1);
  CLI::App* recipes = verb->add_subcommand("recipes", "Which part of training is kept in which format");
  auto name = std::make_shared<std::string>();
  recipes->add_option("name", *name, "A recipe, or a file that has one, to print")->check(not_empty());
  recipes->callback([name] {
    if (name->empty()) list_recipes();
    else fmt::print("{}", scalify::print(scalify::find_recipe(*name)));
  });
}

}  // namespace kontor::tools
