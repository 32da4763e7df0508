// The op table on every device: each row's value and each row's gradient, scheduled, rendered, compiled and run, against
// evaluate_graph, bit for bit. OP=name runs one row; a device that cannot be opened is skipped with the reason.
#include <cstdio>
#include <string>

#include "codegen/tree/text.h"
#include "graph/text/text.h"
#include "tests/catch.h"
#include "tests/op_jobs.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

/// "" if the device gives what evaluate_graph gives.
std::string verdict(const Job& job, Backend& backend) {
  try {
    Run run = run_graph(job.graph, backend, job.inputs, job.scalars);
    std::string found = difference(run, evaluate_graph(job.graph, job.inputs, job.scalars));
    if (found.empty()) return "";
    found += "\n" + print(job.graph);
    for (const ScheduledKernel& k : run.schedule.kernels) found += tree::print(k.tree);
    return found;
  } catch (const std::exception& thrown) {
    return std::string("throws: ") + thrown.what() + "\n" + print(job.graph);
  }
}

void run_table(Backend& backend, Job (*make_job)(const OpCase&), bool gradients) {
  int rows = 0, equal = 0;
  for (const OpCase& row : op_table_thinned()) {
    if (!wanted_row(row) || (gradients && !row.gradient)) continue;
    std::string found = verdict(make_job(row), backend);
    INFO(row.name << ": " << row.expression);
    if (!found.empty()) FAIL_CHECK(found);
    else SUCCEED();
    rows++;
    equal += found.empty();
  }
  std::printf("op table, %s on %s: %d of %d rows have the interpreter's bits\n",
              gradients ? "gradients" : "values", std::string(backend.name()).c_str(), equal, rows);
}

}  // namespace

#define KONTOR_OP_TABLE_ON(name)                              \
  TEST_CASE("[ops] the op table on " name) {                  \
    std::string why;                                          \
    Backend* backend = device(name, &why);                    \
    if (!backend) KONTOR_SKIP(why);                           \
    run_table(*backend, value_job, false);                    \
  }                                                           \
  TEST_CASE("[ops] the gradients of the op table on " name) { \
    std::string why;                                          \
    Backend* backend = device(name, &why);                    \
    if (!backend) KONTOR_SKIP(why);                           \
    run_table(*backend, gradient_job, true);                  \
  }

KONTOR_OP_TABLE_ON("interp")
KONTOR_OP_TABLE_ON("llvm")
KONTOR_OP_TABLE_ON("opencl")
KONTOR_OP_TABLE_ON("cuda")
KONTOR_OP_TABLE_ON("c")
