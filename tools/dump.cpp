// kontor dump: each stage of an expression, a named model or a graph file as text.
#include <cstdio>
#include <filesystem>
#include <memory>

#include <nlohmann/json.hpp>

#include "backends/backend.h"
#include "base/error.h"
#include "base/file.h"
#include "base/stages.h"
#include "graph/functions/functions.h"
#include "graph/text/text.h"
#include "runtime/inspect.h"
#include "tools/models.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  std::string what, stage = "kernel", device = "llvm";
  bool json = false;
};

Graph graph_of(const std::string& what) {
  if (std::optional<Graph> model = named_graph(what)) return *model;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(what, ignored)) return parse_graph(read_file(what));
  return make_graph({parse_expression(what)});
}

void run(const Options& options) {
  const std::vector<inspect::Piece> pieces =
      inspect::stage(graph_of(options.what), options.stage, options.device);
  if (options.json) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const auto& p : pieces)
      out.push_back(
          {{"name", p.name}, {"stage", options.stage}, {"device", options.device}, {"text", p.text}});
    return fmt::print("{}\n", out.dump(1));
  }
  for (const auto& p : pieces) fmt::print("{}{}", p.text, p.text.ends_with('\n') ? "" : "\n");
}

}  // namespace

void add_dump(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("dump", "Any stage of a computation as text");
  auto options = std::make_shared<Options>();
  verb->add_option("what", options->what,
                   "An expression, \"softmax(matmul(f32[64,512], f32[512,512]))\"; a model, " +
                       model_names() + "; or a file with a graph in text form")
      ->required();
  verb->add_option("--stage", options->stage, fmt::format("One of {}", fmt::join(dump_stages, ", ")))
      ->capture_default_str();
  verb->add_option("--device", options->device, device_names())->capture_default_str()->check(not_empty());
  verb->add_flag("--json", options->json, "As JSON");
  verb->callback([options] { run(*options); });
}

}  // namespace kontor::tools
