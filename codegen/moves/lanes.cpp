// The move lane: a loop is spread over the threads of a warp.
#include "codegen/moves/moves.h"

#include <algorithm>

#include "base/error.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

namespace {

/// What the threads of a warp could not do apart: each has the elements of the places that its iterations of the lane
/// loops end, and no others.
class LaneRules {
 public:
  explicit LaneRules(const std::string& loop) : loop_(loop) {}

  std::string broken_in(const Node& kernel) {
    find_places(tree::body(kernel), nullptr);
    const Node* global = tree::parallel_loop(kernel);
    if (global && tree::kind(*global) != LoopKind::Global) return "threads of a CPU share the kernel out";
    return in_body(tree::body(kernel), nullptr);
  }

 private:
  bool is_lane(const Node& s) const {
    return s.op == Op::Loop && (tree::kind(s) == LoopKind::Lane || s.src[0]->arg.text == loop_);
  }

  void find_places(std::span<const Ref> body, const Node* lane) {
    for (const Ref& s : body) {
      const bool writes = s->op == Op::FoldStep || s->op == Op::Store;
      if (writes && lane && tree::space(*s->src[0]) == Space::Local) places_.insert(s->src[0].get());
      if (s->op == Op::FoldStep && lane && tree::space(*s->src[0]) == Space::Local)
        folds_.emplace_back(lane, s->src[0].get());
      if (s->op == Op::Store && lane) stores_.emplace_back(lane, s.get());
      if (s->op == Op::Loop) find_places(tree::body(*s), is_lane(*s) ? s->src[0].get() : lane);
      if (s->op == Op::If) find_places(std::span(s->src).subspan(1), lane);
    }
  }

  std::string in_body(std::span<const Ref> body, const Node* lane) const {
    for (const Ref& s : body)
      if (std::string why = in_statement(*s, lane); !why.empty()) return why;
    return "";
  }

  std::string in_statement(const Node& s, const Node* lane) const {
    const bool writes = s.op == Op::Store || s.op == Op::FoldStep;
    if (lane && (s.op == Op::Place || s.op == Op::Loop || s.op == Op::Check))
      return "more than folds stand in it";
    if (writes && !is_own(s, lane)) return fmt::format("'{}' is written otherwise too", s.src[0]->arg.text);
    if (s.op == Op::Loop && is_lane(s) && !s.src[0]->src[0]->is_const()) return "its extent varies";
    for (const Ref& e : expressions_of(s))
      if (std::string why = in_expression(e, lane); !why.empty()) return why;
    if (s.op == Op::Loop) return in_body(tree::body(s), is_lane(s) ? s.src[0].get() : lane);
    return s.op == Op::If ? in_body(std::span(s.src).subspan(1), lane) : "";
  }

  static std::span<const Ref> expressions_of(const Node& s) {
    if (s.op == Op::Check) return s.src;
    if (s.op == Op::If) return std::span(s.src).first(1);
    return s.op == Op::Store || s.op == Op::FoldStep ? std::span(s.src).subspan(1) : std::span<const Ref>();
  }

  // A merge that all threads make before the loop may be read in it.
  std::string in_expression(const Ref& root, const Node* lane) const {
    for (const Node* n : topological(std::span(&root, 1))) {
      if (n->op == Op::Merge && places_.contains(n->src[0].get()) &&
          !is_int(n->src[0]->src.back(), most_lanes))
        return fmt::format("a warp has {} lanes of '{}' to join", most_lanes, n->src[0]->arg.text);
      if (n->op == Op::Merge && lane && (is_folded(*n->src[0], lane) || ix::depends_on(Ref(n), Ref(lane))))
        return "lanes are merged inside it";
      if (n->op == Op::Load && !is_own(*n, lane))
        return fmt::format("'{}' is read otherwise too", n->src[0]->arg.text);
      if (n->op == Op::Load && reads_of_others(*n, lane))
        return fmt::format("it reads of '{}' what other lanes store", n->src[0]->arg.text);
    }
    return "";
  }

  bool is_folded(const Node& place, const Node* lane) const {
    return std::find(folds_.begin(), folds_.end(), std::pair(lane, &place)) != folds_.end();
  }

  bool reads_of_others(const Node& load, const Node* lane) const {
    return std::any_of(stores_.begin(), stores_.end(), [&](const auto& s) {
      const auto& [loop, store] = s;
      return loop == lane && store->src[0] == load.src[0] &&
             !std::ranges::equal(tree::at(*store), tree::at(load));
    });
  }

  // Whether an access is to an element that its thread has: of other places, one that all threads have or that is in memory.
  bool is_own(const Node& access, const Node* lane) const {
    const std::span<const Ref> at = tree::at(access);
    if (places_.contains(access.src[0].get())) return lane && !at.empty() && at.back().get() == lane;
    if (access.op == Op::Load || !lane) return true;
    return tree::space(*access.src[0]) == Space::Param && access.op == Op::Store &&
           std::ranges::any_of(at, [&](const Ref& i) {
             int64_t apart = 0;
             return ix::affine(i, Ref(lane), apart) && apart != 0;
           });
  }

  std::string loop_;
  NodeSet places_;
  std::vector<std::pair<const Node*, const Node*>> stores_;  // range of a lane loop, a store in it
  std::vector<std::pair<const Node*, const Node*>> folds_;   // the same, a place that it folds into
};

}  // namespace

std::string why_no_lanes(const Ref& kernel, const std::string& loop) {
  return LaneRules(loop).broken_in(*kernel);
}

Ref lanes(const Ref& kernel, const std::string& loop) {
  need_loop(kernel, loop);
  if (const std::string why = why_no_lanes(kernel, loop); !why.empty()) fail("lane {}: {}", loop, why);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, loop)) return false;
    out.push_back(tree::loop(LoopKind::Lane, s->src[0], body_of(s), tree::width(*s)));
    return true;
  });
}

}  // namespace kontor
