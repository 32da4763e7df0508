// See op_jobs.h.
#include "tests/op_jobs.h"

#include <cstdlib>

#include "graph/functions/functions.h"
#include "graph/transforms/gradient.h"

namespace kontor {

static Job job_of(const OpCase& row, std::vector<Ref> outputs, const Graph& forward) {
  Job job{make_graph(std::move(outputs))};
  for (const Ref& leaf : job.graph.inputs) {
    size_t number = 0;
    while (forward.inputs.at(number) != leaf) number++;
    Array a = Array::make(leaf->dtype, static_shape(*leaf));
    a.bytes = input_of(row, forward, number);
    job.inputs.push_back(std::move(a));
  }
  for (const Ref& s : job.graph.scalars) job.scalars.push_back(s->op == Op::Scalar ? s->at(1) : s->at(2));
  return job;
}

Job value_job(const OpCase& row) {
  Graph forward = graph_of(row);
  return job_of(row, forward.outputs, forward);
}

Job gradient_job(const OpCase& row) {
  Graph forward = graph_of(row);
  Ref flat = fn::reshape(forward.outputs[0], {index(-1)});
  Ref weight = fn::unary("sin", fn::cast(fn::iota(flat->shape[0], DType::I64), flat->dtype));
  Ref loss = fn::sum(fn::mul(flat, fn::add(weight, 1.5)), {}, false);
  std::vector<Ref> leaves;
  for (const Ref& leaf : forward.inputs)
    if (is_float(leaf->dtype)) leaves.push_back(leaf);
  return job_of(row, gradient(loss, leaves), forward);
}

bool wanted_row(const OpCase& row) {
  const char* one = std::getenv("OP");
  return !one || row.name == one;
}

}  // namespace kontor
