// batch: each row of the op table with its inputs batched, against the row evaluated element by element.
#include <algorithm>
#include <cmath>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/transforms/batch.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/op_table.h"

using namespace kontor;

namespace {

constexpr int64_t vendors = 3;

Ref batched_buffer(const Ref& leaf) {
  Dims shape = leaf->shape;
  shape.insert(shape.begin(), index(vendors));
  return make(Op::Buffer, shape, {.ints = {fresh_id(), 0}}, leaf->dtype);
}

Array input(const OpCase& row, const Graph& g, size_t number) {
  Array a = Array::make(g.inputs[number]->dtype, static_shape(*g.inputs[number]));
  a.bytes = input_of(row, g, number);
  return a;
}

std::vector<int64_t> scalars_of(const Graph& g) {
  std::vector<int64_t> out;
  for (const Ref& s : g.scalars) out.push_back(s->at(1));
  return out;
}

bool close(const Array& whole, int64_t at, const Array& part, int64_t i) {
  double a = to_double(whole.dtype, whole.get(at)), b = to_double(part.dtype, part.get(i));
  return (std::isnan(a) && std::isnan(b)) || a == b || std::abs(a - b) <= 1e-5 * (1 + std::abs(b));
}

/// Batches the inputs whose bit is set in `which`; input values of vendor v are those of another row of random bits.
void check(const OpCase& row, unsigned which) {
  INFO(row.name << " inputs " << which);
  Graph g = graph_of(row);
  std::vector<BatchedLeaf> leaves;
  for (size_t i = 0; i < g.inputs.size(); i++)
    if (which >> i & 1) leaves.push_back({g.inputs[i], batched_buffer(g.inputs[i])});
  if (leaves.empty()) return;
  Graph wide = make_graph(batch(g.outputs, leaves));
  std::vector<std::vector<Array>> parts(vendors);
  std::vector<Array> inputs(wide.inputs.size());
  for (size_t i = 0; i < g.inputs.size(); i++) {
    Array shared = input(row, g, i);
    for (auto& p : parts) p.push_back(shared);
    for (const BatchedLeaf& l : leaves) {
      if (l.node != g.inputs[i]) continue;
      size_t at = static_cast<size_t>(std::find(wide.inputs.begin(), wide.inputs.end(), l.with) -
                                      wide.inputs.begin());
      REQUIRE(at < wide.inputs.size());
      inputs[at] = input(row, wide, at);
      for (size_t v = 0; v < vendors; v++) {
        size_t size = shared.bytes.size();
        auto from = inputs[at].bytes.begin() + static_cast<ptrdiff_t>(v * size);
        parts[v][i].bytes.assign(from, from + static_cast<ptrdiff_t>(size));
      }
    }
    for (size_t at = 0; at < wide.inputs.size(); at++)
      if (wide.inputs[at] == g.inputs[i]) inputs[at] = shared;
  }
  Array whole = evaluate_graph(wide, inputs, scalars_of(wide)).outputs[0];
  for (size_t v = 0; v < vendors; v++) {
    Array part = evaluate_graph(g, parts[v], scalars_of(g)).outputs[0];
    REQUIRE(whole.size() == vendors * part.size());
    for (int64_t i = 0; i < part.size(); i++)
      REQUIRE(close(whole, static_cast<int64_t>(v) * part.size() + i, part, i));
  }
}

}  // namespace

TEST_CASE("[batch] every row of the op table, with all inputs batched or one of them") {
  for (const OpCase& row : op_table_thinned()) {
    Graph g = graph_of(row);
    bool small = true;
    for (const Ref& leaf : g.inputs) small = small && ix::product(leaf->shape)->at(0) < 3000;
    if (!small || row.expression.find("u8[7]") != std::string_view::npos) continue;
    check(row, ~0u);
    for (unsigned i = 0; i < g.inputs.size() && g.inputs.size() > 1; i++) check(row, 1u << i);
  }
}

TEST_CASE("[batch] every op of a graph has a row") {
  for (int i = 0; i < op_count; i++) {
    Op op = static_cast<Op>(i);
    bool internal = is_statement(op) || row(op).group == OpClass::Value;
    INFO(row(op).name);
    CHECK(has_batch_row(op) != internal);
  }
}

TEST_CASE("[batch] what does not depend on a leaf is shared") {
  Ref x = make(Op::Buffer, {index(4), index(5)}, {.ints = {fresh_id(), 0}}, DType::F32);
  Ref w = make(Op::Buffer, {index(5), index(6)}, {.ints = {fresh_id(), 0}}, DType::F32);
  Ref shared = fn::unary("exp", x), out = fn::matmul(shared, w);
  std::vector<BatchedLeaf> leaves{{w, batched_buffer(w)}};
  std::vector<Ref> roots{out, shared};
  std::vector<Ref> b = batch(roots, leaves);
  REQUIRE(static_shape(*b[0]) == std::vector<int64_t>{vendors, 4, 6});
  REQUIRE(b[1] == shared);
  leaves[0].with = w;
  REQUIRE(error_of([&] { batch(roots, leaves); }) ==
          "batch: f32[5, 6] in place of f32[5, 6]: needs one more leading dimension");
}
