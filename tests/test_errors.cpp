// What leaves the library: Error and InternalError alone, each where it belongs; a caller's own exceptions as they are.
#include <kontor/kontor.h>

#include <filesystem>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/guard.h"
#include "graph/graph.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "runtime/repro.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"

using namespace kontor;

namespace {

template <class F>
std::string defect_of(F&& action) {
  try {
    action();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

template <class E>
void throws(const E& error) {
  guarded("reading", [&]() -> int { throw error; });
}

}  // namespace

TEST_CASE("[errors] other exceptions become one of ours") {
  CHECK(error_of([] { throws(std::bad_alloc()); }) == "reading: out of memory");
  CHECK(error_of([] {
          throws(std::system_error(std::make_error_code(std::errc::io_error), "disk"));
        }).find("reading: disk: ") == 0);
  CHECK(defect_of([] { throws(std::out_of_range("at")); }) == "reading: std::out_of_range: at");
  CHECK(defect_of([] { throws(std::length_error("much")); }) == "reading: std::length_error: much");
  CHECK(error_of([] { throws(Error("mine")); }) == "mine");
  CHECK(defect_of([] { throws(InternalError("ours")); }) == "ours");
  CHECK(guarded("reading", [] { return 5; }) == 5);
}

TEST_CASE("[errors] a defect on the way from a graph to its result leaves the graph behind") {
  const Graph graph = make_graph({node_of(Tensor::ones({2}) + 1)});
  const std::string text = defect_of([&] { with_repro(graph, [] { std::vector<int>().at(3); }); });
  CHECK(text.find("computing a graph: std::out_of_range: ") == 0);
  const size_t begin = text.find("the graph is in ");
  REQUIRE(begin != std::string::npos);
  const std::string path = text.substr(begin + 16, text.find(';', begin) - begin - 16);
  CHECK(print(parse_graph(read_file(path))) == print(graph));
  std::filesystem::remove(path);
  CHECK(error_of([&] { with_repro(graph, [] { throw Error("mine"); }); }) == "mine");
}

TEST_CASE("[errors] what a jit function throws is its caller's") {
  OnDevice on("interp");
  struct Mine {};
  auto f = jit([](const Tensor&) -> Tensor { throw Mine(); });
  CHECK_THROWS_AS(f(Tensor::ones({2}).realize()), Mine);
  auto g = jit([](const Tensor&) -> Tensor { throw std::out_of_range("mine"); });
  CHECK_THROWS_AS(g(Tensor::ones({2}).realize()), std::out_of_range);
}
