// What is asked of stages: which place is whose, how far apart values lie in memory, what a stage reads.
#include "codegen/stages/stage.h"

#include <algorithm>

#include "graph/index/index.h"

namespace kontor {

bool is_fold(const Stage& s) { return s.fold >= 0; }
bool is_dot(const Stage& s) { return s.fold >= 0 && row(static_cast<Fold>(s.fold)).is_dot; }

bool stands_alone(const Stage& s) { return !s.scatter_at.empty() || !s.given.empty(); }

// Of the statements of a given tree: what one iteration takes, times the loops around.
static double work_of(std::span<const Ref> statements, double times) {
  double work = 0;
  for (const Ref& s : statements) {
    const bool loop = s->op == Op::Loop, branch = s->op == Op::If;
    if (loop) work += work_of(tree::body(*s), times * cost::iterations(std::span(&s->src[0], 1)));
    else if (branch) work += work_of(std::span(s->src).subspan(1), times);
    else if (s->op != Op::Place) work += cost::work(times, tree::values(*s));
  }
  return work;
}

double work_of(const Stage& s) {
  if (!s.given.empty()) return work_of(s.given, 1);
  const double lanes = s.lane ? static_cast<double>(extent(s.lane->src[0])) : 1;
  std::vector<Ref> done = s.values;
  if (is_fold(s) && parts(static_cast<Fold>(s.fold)) > 1)
    for (const Ref& step : step_formulas(static_cast<Fold>(s.fold), s.values[0]->dtype)) done.push_back(step);
  return cost::work(lanes * cost::iterations(s.loops) * cost::iterations(s.folds), done);
}

// The table is made again when it turns out that stages were added or taken out.
int stage_number(const ProgramTree& program, const Ref& place) {
  if (tree::space(*place) == Space::Param) return -1;
  auto& numbers = program.numbers;
  const auto found = [&](auto it) {
    return it != numbers.end() && static_cast<size_t>(it->second) < program.stages.size() &&
           program.stages[static_cast<size_t>(it->second)].place == place;
  };
  if (auto it = numbers.find(place.get()); found(it)) return it->second;
  numbers.clear();
  for (size_t i = 0; i < program.stages.size(); i++)
    numbers.emplace(program.stages[i].place.get(), static_cast<int>(i));
  const auto it = numbers.find(place.get());
  return it == numbers.end() ? -1 : it->second;
}

const Stage* stage_of(const ProgramTree& program, const Ref& place) {
  int i = stage_number(program, place);
  return i < 0 ? nullptr : &program.stages[static_cast<size_t>(i)];
}

std::vector<Ref> in_memory_order(const ProgramTree& program, const Ref& place, std::span<const Ref> at) {
  const Stage* s = tree::space(*place) == Space::Param ? nullptr : stage_of(program, place);
  std::vector<Ref> out(at.begin(), at.end());
  if (s && !s->layout.order.empty())
    for (size_t i = 0; i < at.size(); i++) out[i] = at[static_cast<size_t>(s->layout.order[i])];
  return out;
}

int64_t stride(const ProgramTree& program, const Ref& load, const Ref& range) {
  std::vector<Ref> at = in_memory_order(program, load->src[0], tree::at(*load));
  std::vector<Ref> dims = in_memory_order(program, load->src[0], tree::dims(*load->src[0]));
  int64_t coefficient = 0, scale = 1;
  bool exact = true;
  for (size_t i = at.size(); i-- > 0;) {
    int64_t c = 0;
    if (!ix::affine(at[i], range, c) || (c != 0 && !exact)) return cost::irregular;
    coefficient += c * scale;
    if (dims[i]->is_const()) scale *= extent(dims[i]);
    else exact = false;
  }
  return coefficient;
}

std::vector<int> usual_order(const Stage& s) {
  std::vector<int> order;
  const bool move = s.output < 0 && s.layout.vector_dim >= 0 && !stands_alone(s);
  for (int d = 0; d < static_cast<int>(s.loops.size()); d++)
    if (!move || d != s.layout.vector_dim) order.push_back(d);
  if (move) order.push_back(s.layout.vector_dim);
  return order;
}

Decision layout_of(const Stage& s) {
  const auto called = [&](int dim) { return dim < 0 ? "-" : s.level.loops[static_cast<size_t>(dim)]; };
  Decision d{Verb::Layout, s.name, {called(s.layout.vector_dim)}};
  if (s.layout.unroll_dim >= 0 || s.layout.way != OperandWay::Any)
    d.words.push_back(called(s.layout.unroll_dim));
  if (s.layout.way != OperandWay::Any) d.words.emplace_back(name(s.layout.way));
  if (s.layout.order != usual_order(s)) {
    d.words.emplace_back("in");
    for (int dim : s.layout.order) d.words.push_back(called(dim));
  }
  return d;
}

Decision level_of(const Stage& s) {
  if (s.level.where.empty()) return {Verb::Store, s.name};
  const bool whole =
      std::all_of(s.level.outer.begin(), s.level.outer.end(), [](int loop) { return loop >= 0; });
  const Verb verb = s.level.leaves_kernel ? Verb::Fuse : whole && !is_fold(s) ? Verb::Inline : Verb::At;
  return {verb, s.name, {s.level.where}};
}

std::vector<Ref> loads_in(std::span<const Ref> expressions) {
  std::vector<Ref> out;
  for (const Node* n : topological(expressions))
    if (n->op == Op::Load) out.emplace_back(n);
  return out;
}

std::vector<Ref> loads_of(std::span<const Ref> expressions, const Ref& place) {
  std::vector<Ref> out = loads_in(expressions);
  std::erase_if(out, [&](const Ref& l) { return l->src[0] != place; });
  return out;
}

std::vector<Ref> expressions(const Stage& s) {
  std::vector<Ref> out = s.values;
  if (s.start) out.push_back(s.start);
  for (const StageCheck& c : s.checks) {
    out.push_back(c.condition);
    if (c.value) out.push_back(c.value);
  }
  out.insert(out.end(), s.scatter_at.begin(), s.scatter_at.end());
  if (s.scatter_guard) out.push_back(s.scatter_guard);
  return out;
}

}  // namespace kontor
