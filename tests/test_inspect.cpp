// [inspect] stages of a graph as text; dumps; edited kernels in place of generated ones.
#include <kontor/kontor.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/stages.h"
#include "graph/graph.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "runtime/inspect.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/project_root.h"
#include "tests/temporary_folder.h"

using namespace kontor;

namespace {

/// A variable of the environment for the length of a test.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Setting() { unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

Graph example() {
  const Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2});
  return make_graph({node_of((x * 2.5).sum(1))});
}

}  // namespace

TEST_CASE("[inspect] each stage of a graph is text") {
  Context context({.device = "interp"});
  Context::Use use(context);
  const Graph graph = example();
  const auto text_of = [&](std::string_view stage, std::string_view device) {
    const auto pieces = inspect::stage(graph, stage, device);
    REQUIRE(pieces.size() == 1);
    return pieces[0].text;
  };
  CHECK(graph_key(parse_graph(text_of("graph", "llvm"))) == graph_key(graph));
  CHECK(contains(text_of("schedule", "llvm"), "buffer 0: input 0 f32[2, 2]"));
  CHECK(contains(text_of("schedule", "llvm"), "buffer 1: output 0 f32[2]"));
  CHECK(contains(text_of("kernel", "llvm"), "kernel "));
  CHECK(contains(text_of("kernel", "llvm"), "2.5"));
  CHECK(contains(text_of("source", "llvm"), "define void @"));
  CHECK(contains(text_of("source", "interp"), "kernel "));
  CHECK(
      error_of([&] { text_of("soup", "llvm"); }) ==
      "stage 'soup' is not one of graph, passes, stages, decisions, schedule, kernel, accesses, source, ir, asm");
  CHECK(contains(error_of([&] { text_of("kernel", "abacus"); }), "device 'abacus'"));
}

TEST_CASE(
    "[inspect] KONTOR_DUMP writes the stages as files; an edited source runs in place of the generated one") {
  const TemporaryFolder folder;
  const auto compute = [] {
    Context context({.device = "llvm"});
    Context::Use use(context);
    return (Tensor::from({1, 2, 3, 4}, {2, 2}) * 2.5).sum(1).to_vector<float>();
  };
  {
    const Setting dump("KONTOR_DUMP", "graph,schedule,kernel,source,ir,asm:" + folder / "dump");
    CHECK(compute() == std::vector<float>{7.5, 17.5});
  }
  std::string source;
  std::vector<std::string> endings;
  for (const auto& file : std::filesystem::directory_iterator(folder / "dump")) {
    endings.push_back(file.path().extension());
    if (file.path().extension() == ".ll") source = file.path();
  }
  std::sort(endings.begin(), endings.end());
  CHECK(endings == std::vector<std::string>{".graph", ".ir", ".kernel", ".ll", ".s", ".schedule"});
  std::string text = read_file(source);
  const std::string constant = "0x4004000000000000";  // 2.5
  REQUIRE(contains(text, constant));
  for (size_t at; (at = text.find(constant)) != std::string::npos;)
    text.replace(at, constant.size(), "0x4008000000000000");
  make_folders(folder / "edited");
  write_file(folder / "edited/" + std::filesystem::path(source).filename().string(), text);
  {
    const Setting edited("KONTOR_OVERRIDE_DIR", folder / "edited");
    CHECK(compute() == std::vector<float>{9, 21});
    std::filesystem::permissions(folder / "edited",
                                 std::filesystem::perms::all);  // what any user could have edited
    CHECK(contains(error_of(compute), "can be written by others"));
  }
  CHECK(compute() == std::vector<float>{7.5, 17.5});  // the edited one is kept nowhere
}

TEST_CASE("[inspect] docs/inspecting-kernels.md has each stage in its table") {
  if (project_root().empty()) KONTOR_SKIP("not run in the project");
  const std::string page = read_file(project_root() + "/docs/inspecting-kernels.md");
  for (std::string_view stage : dump_stages) {
    INFO(stage);
    const size_t at = page.find(fmt::format("`{}`", stage), page.find("| stage |"));
    REQUIRE(at < page.find("```sh test"));
    CHECK(page[page.rfind('\n', at) + 1] == '|');
  }
}

TEST_CASE("[inspect] an unknown stage in KONTOR_DUMP is an error that names it") {
  const Setting dump("KONTOR_DUMP", "kernel,soup");
  CHECK(
      error_of([] { Context context({.device = "interp"}); }) ==
      "KONTOR_DUMP: stage 'soup' is not one of graph, passes, stages, decisions, schedule, kernel, accesses, source, ir, asm");
}

TEST_CASE(
    "[inspect] KONTOR_DUMP without a folder writes to one of its own, never to the working folder or to /") {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder / "");
  {
    const Setting dump("KONTOR_DUMP", "graph,kernel");
    Context context({.device = "interp"});
    Context::Use use(context);
    (Tensor::from({1, 2}, {2}) + 1).realize();
  }
  std::filesystem::current_path(before);
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder / ""))
    names.push_back(file.path().filename());
  CHECK(names == std::vector<std::string>{"kontor-dump"});
  const Setting dump("KONTOR_DUMP", "kernel:");
  CHECK(error_of([] { Context context({.device = "interp"}); }) ==
        "KONTOR_DUMP: no folder after the colon of 'kernel:'");
}
