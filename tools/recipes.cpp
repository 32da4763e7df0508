// kontor scalify recipes: which part of training is kept in which format.
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

void add_scalify_recipes(CLI::App& scalify) {
  CLI::App* verb = scalify.add_subcommand("recipes", "Which part of training is kept in which format");
  auto name = std::make_shared<std::string>();
  verb->add_option("name", *name, "A recipe, or a file that has one, to print")->check(not_empty());
  verb->callback([name] {
    if (name->empty()) list_recipes();
    else fmt::print("{}", scalify::print(scalify::find_recipe(*name)));
  });
}

}  // namespace kontor::tools
