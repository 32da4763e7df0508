// What a row of the op table asks a device to compute: its value, and its gradients.
#pragma once
#include "backends/interp/evaluate_graph.h"
#include "tests/op_table.h"

namespace kontor {

struct Job {
  Graph graph;
  std::vector<Array> inputs = {};
  std::vector<int64_t> scalars = {};
};

Job value_job(const OpCase& row);
/// The gradients of sum(output * weights) with respect to every float input.
Job gradient_job(const OpCase& row);
/// Whether the row is to be run: all, or the one that the environment variable OP names.
bool wanted_row(const OpCase& row);

}  // namespace kontor
