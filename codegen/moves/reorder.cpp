// The move reorder: a loop goes inside of others.
#include "codegen/moves/moves.h"

#include <algorithm>

#include "base/error.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Sinks a loop over `range` into `body`.
class Reordering {
 public:
  Reordering(const Ref& loop, const std::vector<std::string>& through)
      : loop_(loop), range_(loop->src[0]), through_(through) {}

  Body run() { return sink(tree::body(*loop_)); }

 private:
  Ref loop_, range_;
  const std::vector<std::string>& through_;
  Substitution grown_;  // places that got the loop as a dimension

  bool passes(const Ref& s) const {
    if (s->op == Op::If) return !ix::depends_on(s->src[0], range_);
    return s->op == Op::Loop && !ix::depends_on(s->src[0]->src[0], range_) &&
           (through_.empty() || contains(through_, loop_name(s)));
  }

  static bool declares(std::span<const Ref> body, const Node* place) {
    return std::any_of(body.begin(), body.end(), [&](const Ref& s) {
      if (s.get() == place) return true;
      if (s->op == Op::If)
        return declares(tree::then_body(*s), place) || declares(tree::else_body(*s), place);
      return s->op == Op::Loop && declares(tree::body(*s), place);
    });
  }

  // Whether an element is folded into in one order whichever of the two ranges is the outer: an index tells one of them
  // apart whatever the other is.
  bool keeps_order(const Node& step, const Ref& other) const {
    return std::any_of(tree::at(step).begin(), tree::at(step).end(), [&](const Ref& at) {
      int64_t a = 0, b = 0;
      if (!ix::affine(at, range_, a) || !ix::affine(at, other, b) || (a == 0 && b == 0)) return false;
      if (a == 0 || b == 0) return true;
      auto covers = [](int64_t x, int64_t y, const Ref& r) {
        return r->src[0]->is_const() && std::abs(x) >= std::abs(y) * extent(r->src[0]);
      };
      return covers(a, b, other) || covers(b, a, range_);
    });
  }

  // The order of arithmetic is part of the kernel (design, section 8).
  void refuse_other_order(const Ref& inner) const {
    for (const Node* n : topological(std::span(&inner, 1))) {
      if (n->op != Op::FoldStep || declares(tree::body(*loop_), n->src[0].get())) continue;
      if (!keeps_order(*n, inner->src[0]))
        fail("reorder {}: inside {} it would change the order in which '{}' is folded", range_->arg.text,
             loop_name(inner), n->src[0]->arg.text);
    }
  }

  Body sink(std::span<const Ref> body) {
    Body out, run;
    auto flush = [&] {
      if (!run.empty()) out.push_back(same_loop(loop_, std::move(run)));
      run.clear();
    };
    for (const Ref& s : body) {
      if (s->op == Op::Place) {
        flush();
        out.push_back(grow(s));
      } else if (passes(s)) {
        flush();
        if (s->op == Op::Loop) refuse_other_order(s);
        out.push_back(s->op == Op::Loop
                          ? same_loop(s, sink(tree::body(*s)))
                          : tree::branch(s->src[0], sink(tree::then_body(*s)), sink(tree::else_body(*s))));
      } else {
        run.push_back(regrown(s));
      }
    }
    flush();
    return out;
  }

  // A place declared in the loop becomes one with an element for each iteration: lanes last, others first.
  // The parts of a split loop share a place, each in its own scope: it grows once.
  Ref grow(const Ref& place) {
    if (auto it = grown_.find(place.get()); it != grown_.end()) return it->second;
    std::vector<Ref> dims(tree::dims(*place).begin(), tree::dims(*place).end());
    dims.insert(lanes() ? dims.end() : dims.begin(), lanes() ? index(tree::width(*loop_)) : range_->src[0]);
    Ref grown = with_dims(*place, dims);
    grown_.emplace(place.get(), grown);
    return grown;
  }

  bool lanes() const { return tree::kind(*loop_) == LoopKind::Vector; }

  Ref regrown(const Ref& s) const {
    if (grown_.empty()) return s;
    Substitution done;
    map_nodes(std::span(&s, 1), done, [&](const Node& n, std::vector<Ref> sources) {
      const bool access = !n.src.empty() && grown_.count(n.src[0].get()) && n.op != Op::Place;
      if (!access) return with_sources(n, std::move(sources));
      if (n.op == Op::Merge)
        broken("reorder: loop {} holds a merge of place {}", range_->arg.text, n.src[0]->arg.text);
      sources[0] = grown_.at(n.src[0].get());
      const ptrdiff_t rank = static_cast<ptrdiff_t>(n.src[0]->src.size());
      sources.insert(sources.begin() + 1 + (lanes() ? rank : 0), range_);
      return with_sources(n, std::move(sources));
    });
    return done.at(s.get());
  }
};

bool holds_merge_of_own_place(const Ref& loop) {
  for (const Node* n : topological(std::span(&loop, 1)))
    if (n->op == Op::Merge) return true;
  return false;
}

}  // namespace

Ref reorder(const Ref& kernel, const std::string& loop, const std::vector<std::string>& through) {
  need_loop(kernel, loop);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, loop)) return false;
    if (holds_merge_of_own_place(s)) fail("reorder {}: lanes are merged inside it", loop);
    if (const Node* place = running_in(s))
      fail("reorder {}: '{}' is read after each of its steps", loop, place->arg.text);
    for (const Ref& r : Reordering(s, through).run()) out.push_back(r);
    return true;
  });
}

}  // namespace kontor
