// Random graphs with inputs, made of the function table, and the shrinking of one that fails.
//
// Each graph holds a few pairs of functions, the one reading the other's value: pair k of all of them is made in turn,
// so that a run of seeds covers every cell of the matrix producer x consumer x link. A new row of graph/functions/functions.cpp takes part without being named; where arguments of its kind are seldom
// accepted, tests/random_arguments.cpp gets a row that says what fits.
#pragma once
#include <functional>
#include <set>
#include <string>
#include <tuple>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"

namespace kontor {

/// How a function reads another's value: within one graph, from a place it was stored to, or from an input that was
/// computed before.
enum class Link : uint8_t { Fused, Stored, Realized };

/// One call that was recorded.
struct Step {
  const FunctionRow* function;
  std::vector<Argument> arguments;
  Ref result;
};

/// Producer and consumer: rows of the function table, or their classes.
using Cell = std::tuple<std::string_view, std::string_view, Link>;

struct Case {
  Graph graph;
  std::vector<Array> inputs;
  std::vector<int64_t> scalars = {};
  std::vector<Step> steps = {};  ///< empty after shrinking
  std::set<Cell> links = {};     ///< names of functions, of which one reads the other's value
};

/// What functions were seen to make and to read, by class: cells whose consumer reads nothing that the producer makes
/// cannot be (one_hot takes no floats).
class Coverage {
 public:
  void add(const Case& c);
  /// Cells that could be and are not covered, by their place in all_cells().
  std::vector<size_t> missing() const;
  size_t covered() const { return cells_.size(); }

 private:
  std::set<Cell> cells_;
  std::set<std::tuple<std::string_view, Kind, size_t>> made_, read_;  // of which ranks
};

struct CaseOptions {
  bool smooth =
      false;  ///< floats are f64 and nothing cuts gradients off, so that finite differences can measure
  bool draws = false;      ///< random numbers may be drawn: the graph has Scalars
  bool gradients = false;  ///< one in three also returns gradients
};

/// The same for the same seed and options.
Case random_case(uint64_t seed, const CaseOptions& options = {});

/// A row's column in the matrix: its name, or its group where all of the group are lowered alike.
std::string_view class_of(const FunctionRow& row);
/// The matrix, by class. Seed s is made for cells 2 s and 2 s + 1, counted around.
std::vector<Cell> all_cells();
std::string describe(const Cell& cell);

/// Numbers for a graph's Scalars: those they were recorded with.
std::vector<int64_t> scalars_of(const Graph& graph);

/// Smaller cases that still fail, as long as there are any: outputs dropped, values in the middle made inputs or outputs,
/// extents and inputs made plain.
Case shrink(Case failing, const std::function<bool(const Case&)>& fails);
/// Inputs that need no printing: small numbers in a fixed order, by dtype and shape alone.
std::vector<Array> plain_inputs(const Graph& graph);
/// The graph's text, and the inputs unless they are the plain ones.
std::string describe(const Case& c);

}  // namespace kontor
