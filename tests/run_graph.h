// Runs a graph on a back end without the runtime: schedule, render, compile, load, launch. What tests of schedules, moves,
// renderers and devices compare with evaluate_graph.
#pragma once
#include <string>

#include "backends/backend.h"
#include "backends/interp/evaluate_graph.h"
#include "codegen/schedule.h"

namespace kontor {

struct Run {
  std::vector<Array> outputs = {};
  std::string error = {};  ///< what the first failed check says, or empty
  Schedule schedule = {};
};

/// The back end of this name, opened once in the process; null where it cannot be opened, with the reason in `why`.
Backend* device(std::string_view name, std::string* why = nullptr);

/// Runs on a back end, one share of a parallel loop after another in descending order, from memory filled with 0xA5.
Run run_graph(const Graph& graph, Backend& backend, std::span<const Array> inputs,
              std::span<const int64_t> scalars = {}, int64_t memory_budget = 0, const Decisions& given = {});
/// Runs the loop trees that schedule() makes for `target` on the interpreter, temporaries where the memory plan puts them.
Run run_trees(const Graph& graph, const Target& target, std::span<const Array> inputs,
              std::span<const int64_t> scalars = {}, const Decisions& given = {});
/// The text that a back end's compiler takes, of a kernel of that entry name.
KernelSource source_of(const Ref& tree, const std::string& entry, Backend& backend);

/// "" if both hold the same bits (any NaN equals any NaN), or the difference is at most `tolerance` x max(1, |wanted|);
/// else where they differ first.
std::string difference(const Array& got, const Array& wanted, double tolerance = 0);
/// The same for all outputs, and the errors: one of both is empty exactly if the other is.
std::string difference(const Run& got, const Evaluation& wanted, double tolerance = 0);

/// Values for the inputs of a graph from a seed: floats of several magnitudes, small integers, bools.
Array random_array(DType dtype, std::vector<int64_t> shape, uint64_t seed);

}  // namespace kontor
