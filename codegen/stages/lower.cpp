// Lowering, the driver: a stage for each stored value.

#include "base/error.h"
#include "codegen/stages/lowering.h"
#include "graph/index/index.h"

namespace kontor {

ProgramTree Lowering::run() {
  for (size_t i = 0; i < graph_.inputs.size(); i++) {
    const Node& b = *graph_.inputs[i];
    std::vector<Ref> dims;
    for (const Ref& d : b.shape) dims.push_back(dimension(d));
    program_.inputs.push_back(tree::param(b.dtype, dims, static_cast<int64_t>(i), fmt::format("in{}", i)));
    places_[&b] = program_.inputs.back();
  }
  const std::vector<const Node*> order = topological(graph_.outputs);
  random_ = random_values(order, stored_);
  checked_ = checked_values(order, stored_);
  for (const Node* n : order)
    if (n == see_through(n) && stored_.count(n) && n->op != Op::Buffer) add_stage(n);
  add_outputs();
  return std::move(program_);
}

Stage& Lowering::begin_stage(const Node* n, const std::string& name) {
  Stage& s = program_.stages.emplace_back();
  s.name = fmt::format("{}{}", name, program_.stages.size() - 1);
  std::vector<Ref> dims;
  for (const Ref& d : n->shape) dims.push_back(dimension(d));
  for (size_t i = 0; i < dims.size(); i++)
    s.loops.push_back(ix::range(dims[i], fmt::format("{}{}", loop_letter(i), program_.stages.size() - 1)));
  s.place = tree::place(n->dtype, dims, s.name);
  s.random = random_.count(n) != 0;
  current_ = &s;
  top_ = n;
  memo_.clear();
  checks_.begin();
  return s;
}

std::string Lowering::loop_letter(size_t i) {
  return i < 6 ? std::string(1, "ijklmn"[i]) : fmt::format("d{}_", i);
}

void Lowering::settle_checks() {
  memo_.clear();
  checks_.settle(*current_, program_.checks);
}

void Lowering::end_stage(const Node* n) {
  settle_checks();
  places_[n] = program_.stages.back().place;
  stage_of_[n] = static_cast<int>(program_.stages.size()) - 1;
  top_ = nullptr;
  current_ = nullptr;
}

void Lowering::add_stage(const Node* n) {
  if (n->op == Op::Reduce) return add_reduce(n);
  if (n->op == Op::Scan) return add_scan(n);
  if (n->op == Op::Sort) return add_sort(n);
  Stage& s = begin_stage(n, n->op == Op::Scatter ? "scatter" : "v");
  if (n->op == Op::Scatter) add_scatter(n, s);
  else s.values.push_back(lower(n, s.loops, {}));
  end_stage(n);
}

void Lowering::add_scatter(const Node* n, Stage& s) {
  const Node& first = *n->src[2];
  s.fold = static_cast<int>(n->at(0));
  s.values.push_back(lower(n->src[0], s.loops, {}));  // what is there before
  Tuple head, at(n->rank());
  for (size_t i = 0; i < first.rank(); i++)
    head.push_back(
        ix::range(dimension(first.shape[i]), fmt::format("s{}_{}", i, program_.stages.size() - 1)));
  s.folds = head;
  for (size_t i = 1; i < n->arg.ints.size(); i++) {
    size_t axis = static_cast<size_t>(n->at(i));
    at[axis] = checked_index(n, n->src[1 + i], head, axis, dimension(n->shape[axis]), s.scatter_guard, {});
  }
  Tuple value_at = head;
  for (Ref& r : at) {
    if (r) continue;
    r = ix::range(dimension(n->shape[static_cast<size_t>(&r - at.data())]),
                  fmt::format("t{}_{}", value_at.size(), program_.stages.size() - 1));
    s.folds.push_back(r);
    value_at.push_back(r);
  }
  s.scatter_at = at;
  s.values.push_back(lower(n->src[1], value_at, s.scatter_guard));
}

// Each output has a stage of its own, whose memory may be that of its shape before it was reshaped; a value that is wanted
// twice, or is an input, is copied.
void Lowering::add_outputs() {
  for (size_t i = 0; i < graph_.outputs.size(); i++) {
    auto it = stage_of_.find(stored_for(graph_.outputs[i].get()));
    if (it != stage_of_.end() && program_.stages[static_cast<size_t>(it->second)].output < 0) {
      program_.stages[static_cast<size_t>(it->second)].output = static_cast<int>(i);
      continue;
    }
    const Node* n = see_through(graph_.outputs[i].get());
    Stage& s = begin_stage(n, "copy");
    top_ = nullptr;
    s.values.push_back(lower(n, s.loops, {}));
    s.output = static_cast<int>(i);
    current_ = nullptr;
  }
}

ProgramTree lower(const Graph& graph, const Target&) { return Lowering(graph).run(); }

}  // namespace kontor
