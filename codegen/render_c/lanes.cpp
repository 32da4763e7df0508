// The pass that makes Lane loops what each thread of a warp does of them.
#include "codegen/render_c/lanes.h"

#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor::clike {

using namespace walk;

namespace {

constexpr int64_t side_by_side = 2;
constexpr int64_t at_once = warp * side_by_side;

int64_t rounds(int64_t lanes) { return (lanes + at_once - 1) / at_once; }

class Transform {
 public:
  explicit Transform(const Ref& kernel) : thread_(ix::range(warp, "lane")) {
    find(tree::body(*kernel), false);
    const Body body = in_body(tree::body(*kernel));
    out_ = {with_body(kernel, body), thread_, {}};
    for (const auto& [was, now] : places_) out_.spread.insert(now.get());
  }
  Turns out() { return std::move(out_); }

 private:
  Ref thread_;
  Substitution places_;
  Turns out_;

  // Places that lanes write, each with as many elements as a thread has of them.
  void find(std::span<const Ref> body, bool in_lanes) {
    for (const Ref& s : body) {
      const bool writes = s->op == Op::FoldStep || s->op == Op::Store;
      if (writes && in_lanes && tree::space(*s->src[0]) == Space::Local &&
          !places_.contains(s->src[0].get())) {
        const Node& p = *s->src[0];
        std::vector<Ref> dims(p.src.begin(), p.src.end());
        dims.back() = index(side_by_side * rounds(extent(dims.back())));
        places_.emplace(&p, with_dims(p, dims));
      }
      if (s->op == Op::Loop) find(tree::body(*s), in_lanes || tree::kind(*s) == LoopKind::Lane);
      if (s->op == Op::If) find(std::span(s->src).subspan(1), in_lanes);
    }
  }

  Body in_body(std::span<const Ref> body) {
    const Body inside = map_body(body, [&](const Ref& s, Body& out) {
      if (s->op != Op::Loop || tree::kind(*s) != LoopKind::Lane) return false;
      out.push_back(as_turns(*s));
      return true;
    });
    return replace(inside, places_);
  }

  Ref as_turns(const Node& loop) {
    const Ref &lane = loop.src[0],
              turn = ix::range(warp, "turn");  // stands for a thread's element until it is known
    const int64_t count = extent(lane->src[0]);
    const Ref k = ix::range(rounds(count), lane->arg.text + "k"),
              u = ix::range(side_by_side, lane->arg.text + "u");
    Substitution done;
    map_nodes(tree::body(loop), done, [&](const Node& n, std::vector<Ref> sources) {
      const bool access = n.op == Op::Load || n.op == Op::Store || n.op == Op::FoldStep;
      if (access && places_.contains(n.src[0].get())) sources[tree::at(n).size()] = turn;
      return with_sources(n, std::move(sources));
    });
    Body body;
    for (const Ref& s : tree::body(loop)) body.push_back(done.at(s.get()));
    const Ref number = ix::add(ix::add(ix::mul(k, at_once), ix::mul(thread_, side_by_side)), u);
    body = replace(body, {{lane.get(), number}, {turn.get(), ix::add(ix::mul(k, side_by_side), u)}});
    if (count % at_once != 0) body = {tree::branch(ix::lt(number, index(count)), std::move(body))};
    return tree::loop(LoopKind::Lane, k, {tree::loop(LoopKind::Unroll, u, std::move(body))});
  }
};

}  // namespace

Turns lanes_as_turns(const Ref& kernel) {
  return tree::has_lanes(*kernel) ? Transform(kernel).out() : Turns{kernel, {}, {}};
}

}  // namespace kontor::clike
