// What every kernel's moves have in common: loops by name, threads, and which of the parts below has a say.
#include <algorithm>

#include "codegen/cost.h"
#include "codegen/moves/planner.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

Moved Planner::run() {
  if (!root().given.empty()) given_tree();
  else if (target_.gpu) gpu();
  else if (target_.vector_bytes > 0) cpu();
  return {std::move(moves_), std::move(kernel_)};
}

void Planner::move(MoveKind kind, const std::string& loop, int64_t factor, const std::string& other,
                   std::vector<std::string> through) {
  Move m{kind, loop, factor, other, std::move(through)};
  kernel_ = apply(kernel_, m);
  moves_.push_back(std::move(m));
}

const Node* Planner::find(const std::string& loop) const {
  for (const Node* l : loops_in(kernel_))
    if (l->src[0]->arg.text == loop) return l;
  return nullptr;
}

// The largest extent of the loops of this name; 0: it varies.
int64_t Planner::size(const std::string& loop) const {
  int64_t largest = 0;
  for (const Node* l : loops_in(kernel_)) {
    if (l->src[0]->arg.text != loop) continue;
    if (!l->src[0]->src[0]->is_const()) return 0;
    largest = std::max(largest, extent(l->src[0]->src[0]));
  }
  return largest;
}

int64_t Planner::lanes(const Stage& s) const { return cost::lanes(s.place->dtype, target_); }

int Planner::least_depth() const {
  int least = INT32_MAX;
  for (int i : group_.stages) least = std::min(least, stage(i).level.depth);
  return least;
}

void Planner::cpu() {
  const Stage* dot = nullptr;
  for (int i : group_.stages)
    if (is_dot(stage(i))) dot = &stage(i);
  bool tiled = dot && dot->layout.vector_dim >= 0 && tile(*dot);
  if (!tiled && is_map()) return plan_map();
  if (!tiled && rows_step_together()) return share_out();
  if (!tiled) vectorise_rows();
  else vectorise_nests();
  chains_side_by_side();
  share_out();
}

// A tree that is given says itself what runs side by side: the iterations of its one outermost loop.
void Planner::given_tree() {
  if (outermost().empty()) return;
  if (target_.gpu) move(MoveKind::Global, outermost());
  else if (target_.vector_bytes > 0) share_out();
}

bool Planner::is_map() const {
  for (int i : group_.stages)
    if (is_fold(stage(i)) || stage(i).level.depth != static_cast<int>(group_.outer_loops.size()))
      return false;
  return true;
}

std::string Planner::outermost() const {
  std::span<const Ref> body = tree::body(*kernel_);
  return body.size() == 1 && body[0]->op == Op::Loop ? name_of(body[0]->src[0]) : "";
}

// What the kernel makes for itself before its last loop (the noise of one vendor), each share makes for itself.
void Planner::sink_before_last() {
  std::span<const Ref> body = tree::body(*kernel_);
  if (target_.threads < 2 || body.size() < 2 || body.back()->op != Op::Loop) return;
  if (tree::kind(*body.back()) != LoopKind::Loop) return;
  for (const Node* n : topological(body.first(body.size() - 1)))
    if ((n->op == Op::Store || n->op == Op::FoldStep) && tree::space(*n->src[0]) == Space::Param) return;
  const std::string last = name_of(body.back()->src[0]);
  const int64_t n = size(last), shares = cost::shares_with_own(target_);
  if (n < target_.threads) return;
  attempt([&] {
    if (n > shares) move(MoveKind::Split, last, -((n + shares - 1) / shares), last + "b");
    move(MoveKind::Sink, last);
  });
}

void Planner::share_out() {
  if (target_.threads == 0 || !cost::pays_threads(work_of(program_, group_))) return;
  if (outermost().empty()) sink_before_last();
  std::string first = outermost();
  if (first.empty()) return;
  const Node* l = find(first);
  while (size(first) > 0 && !cost::enough_shares(size(first), target_)) {
    std::span<const Ref> body = tree::body(*l);
    if (body.size() != 1 || body[0]->op != Op::Loop || tree::kind(*body[0]) != LoopKind::Loop ||
        tree::kind(*l) != LoopKind::Loop)
      break;
    if (ix::depends_on(body[0]->src[0]->src[0], l->src[0])) break;
    move(MoveKind::Merge, first, 0, name_of(body[0]->src[0]));
    l = find(first);
  }
  if (tree::kind(*l) == LoopKind::Loop && size(first) != 1) move(MoveKind::Thread, first);
}

double work_of(const ProgramTree& program, const Group& group) {
  double work = 0;
  for (int i : group.stages) work += work_of(program.stages[static_cast<size_t>(i)]);
  return work;
}

Moved choose_moves(const ProgramTree& program, const Group& group, const Ref& tree, const Target& target) {
  return Planner(program, group, tree, target).run();
}

}  // namespace kontor
