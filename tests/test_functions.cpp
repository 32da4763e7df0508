// Functions: the op table on interp, expressions, error texts, random numbers.
#include <algorithm>
#include <set>
#include <string>

#include "backends/interp/evaluate_graph.h"
#include "graph/functions.h"
#include "graph/graph.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/op_table.h"

using namespace kontor;

static std::vector<Array> inputs_of(const OpCase& row, const Graph& g) {
  std::vector<Array> out;
  for (size_t i = 0; i < g.inputs.size(); i++) {
    Array a = Array::make(g.inputs[i]->dtype, static_shape(*g.inputs[i]));
    a.bytes = input_of(row, g, i);
    out.push_back(std::move(a));
  }
  return out;
}

static std::vector<int64_t> scalars_of(const Graph& g) {
  std::vector<int64_t> out;
  for (const Ref& s : g.scalars) out.push_back(s->op == Op::Scalar ? s->at(1) : s->at(2));
  return out;
}

TEST_CASE("[functions] every row of the op table evaluates") {
  for (const OpCase& row : op_table()) {
    INFO(row.name);
    Graph g = graph_of(row);
    Evaluation e = evaluate_graph(g, inputs_of(row, g), scalars_of(g));
    CHECK(e.error == "");
    CHECK(e.outputs[0].shape == static_shape(*g.outputs[0]));
  }
}

TEST_CASE("[functions] the op table has a row for every op of a graph and every function") {
  std::set<Op> ops;
  std::string text;
  for (const OpCase& row : op_table()) {
    Graph g = graph_of(row);
    for (const Node* n : topological(g.outputs)) ops.insert(n->op);
    text += std::string(row.expression) + "\n";
  }
  for (Op op : {Op::Variable, Op::Scatter, Op::Copy})
    ops.insert(op);  // by tests of symbols, gradients and devices
  ops.insert(Op::Not);
  for (int i = 0; i < op_count; i++) {
    Op op = static_cast<Op>(i);
    bool internal = is_statement(op) || row(op).group == OpClass::Value || op == Op::Range || op == Op::Slot;
    INFO(row(op).name);
    CHECK((internal || ops.count(op) == 1));
  }
  const std::string infix = "add sub mul div floor_div mod eq ne lt le gt ge bit_and bit_or bit_xor";
  for (const FunctionRow& f : functions()) {
    INFO(f.name);
    bool written = text.find(std::string(f.name) + "(") != std::string::npos;
    CHECK((written || (" " + infix + " ").find(" " + std::string(f.name) + " ") != std::string::npos));
  }
}
