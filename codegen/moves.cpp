// The moves. Each walks the statement tree and rebuilds what it changes.
#include "codegen/moves.h"

#include <algorithm>
#include <charconv>

#include <unordered_set>

#include "base/error.h"
#include "graph/index.h"

namespace kontor::inline v0 {

namespace {

using Body = std::vector<Ref>;

const std::string& loop_name(const Ref& loop) { return loop->src[0]->arg.text; }
bool is_loop(const Ref& s, const std::string& name) { return s->op == Op::Loop && loop_name(s) == name; }
Body body_of(const Ref& s) { return {tree::body(*s).begin(), tree::body(*s).end()}; }

Ref same_loop(const Ref& loop, Body body) {
  return tree::loop(tree::kind(*loop), loop->src[0], std::move(body), tree::width(*loop));
}

// Applies `change(statement, out)` to every statement, children first where it returns false.
template <class F>
Body map_body(std::span<const Ref> body, const F& change) {
  Body out;
  for (const Ref& s : body) {
    if (change(s, out)) continue;
    if (s->op == Op::Loop) {
      out.push_back(same_loop(s, map_body(tree::body(*s), change)));
    } else if (s->op == Op::If) {
      Body yes = map_body(tree::then_body(*s), change);  // in tree order, which arguments of a call are not
      out.push_back(tree::branch(s->src[0], yes, map_body(tree::else_body(*s), change)));
    } else {
      out.push_back(s);
    }
  }
  return out;
}

template <class F>
Ref map_kernel(const Ref& kernel, const F& change) {
  std::span<const Ref> params = tree::params(*kernel);
  return tree::kernel(kernel->arg.text, {params.begin(), params.end()},
                      map_body(tree::body(*kernel), change));
}

void need_loop(const Ref& kernel, const std::string& name) {
  std::string known;
  for (const Node* l : loops_in(kernel)) {
    if (l->src[0]->arg.text == name) return;
    known += " " + l->src[0]->arg.text;
  }
  fail("no loop '{}' in kernel {}; it has:{}", name, kernel->arg.text, known);
}

// One loop of extent e, cut; `inside` keeps the parts within one outer loop.
void split_loop(const Ref& loop, int64_t factor, bool inside, const std::string& inner_name, Body& out) {
  const Ref& range = loop->src[0];
  Ref e = range->src[0];
  Ref inner = ix::range(factor, inner_name);
  Ref count = ix::idiv(e, factor), rest = ix::mod(e, index(factor));
  bool exact = is_int(rest, 0);
  Ref outer = ix::range(inside && !exact ? ix::ceil_div(e, index(factor)) : count, range->arg.text);
  Ref at = ix::add(ix::mul(outer, factor), inner);
  Body main = {tree::loop(LoopKind::Loop, inner, replace(tree::body(*loop), {{range.get(), at}}))};
  if (exact) return out.push_back(same_loop(tree::loop(tree::kind(*loop), outer, {}), main));
  Ref tail = ix::range(rest, inner_name);
  Ref tail_at = ix::add(inside ? ix::mul(outer, factor) : ix::mul(count, factor), tail);
  Body end = {tree::loop(LoopKind::Loop, tail, replace(tree::body(*loop), {{range.get(), tail_at}}))};
  if (inside) {
    if (is_int(count, 0)) return out.push_back(tree::loop(tree::kind(*loop), outer, end));
    return out.push_back(
        tree::loop(tree::kind(*loop), outer, {tree::branch(ix::lt(outer, count), main, end)}));
  }
  if (!is_int(count, 0)) out.push_back(tree::loop(tree::kind(*loop), outer, main));
  out.insert(out.end(), end.begin(), end.end());
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Sinks a loop over `range` into `body`.
class Sink {
 public:
  Sink(const Ref& loop, const std::vector<std::string>& through)
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
    int fold = tree::has_fold(*place) ? static_cast<int>(tree::fold_of(*place)) : -1;
    Ref grown = tree::place(place->dtype, dims, place->arg.text, fold);
    grown_.emplace(place.get(), grown);
    return grown;
  }

  bool lanes() const { return tree::kind(*loop_) == LoopKind::Vector; }

  Ref regrown(const Ref& s) const {
    if (grown_.empty()) return s;
    Substitution done;
    for (const Node* n : topological(std::span(&s, 1))) {
      std::vector<Ref> sources;
      for (const Ref& x : n->src) sources.push_back(done.at(x.get()));
      bool access = !n->src.empty() && grown_.count(n->src[0].get()) && n->op != Op::Place;
      if (access) {
        if (n->op == Op::Merge)
          broken("reorder: loop {} holds a merge of place {}", range_->arg.text, n->src[0]->arg.text);
        sources[0] = grown_.at(n->src[0].get());
        ptrdiff_t rank = static_cast<ptrdiff_t>(n->src[0]->src.size());
        sources.insert(sources.begin() + 1 + (lanes() ? rank : 0), range_);
      }
      done.emplace(n, with_sources(*n, std::move(sources)));
    }
    return done.at(s.get());
  }
};

bool holds_merge_of_own_place(const Ref& loop) {
  for (const Node* n : topological(std::span(&loop, 1)))
    if (n->op == Op::Merge) return true;
  return false;
}

}  // namespace

std::vector<const Node*> loops_in(const Ref& kernel) {
  std::vector<const Node*> out;
  map_kernel(kernel, [&](const Ref& s, Body&) {
    if (s->op == Op::Loop) out.push_back(s.get());
    return false;
  });
  return out;
}

std::vector<Ref> replace(std::span<const Ref> roots, const Substitution& map) {
  Substitution done;
  for (const Node* n : topological(roots)) {
    if (auto it = map.find(n); it != map.end()) {
      done.emplace(n, it->second);
      continue;
    }
    std::vector<Ref> sources;
    bool same = true;
    for (const Ref& s : n->src) {
      sources.push_back(done.at(s.get()));
      same = same && sources.back().get() == s.get();
    }
    if (same) {
      done.emplace(n, Ref(n));
      continue;
    }
    const bool always = n->op == Op::Load && n->at(0) && is_int(sources.back(), 1);
    if (always) sources.pop_back();
    Ref made = always ? tree::load(sources[0], {sources.begin() + 1, sources.end()})
                      : with_sources(*n, std::move(sources));
    bool integer = is_elementwise(made->op) && (made->dtype == DType::I64 || made->dtype == DType::Bool) &&
                   made->src[0]->op != Op::Load && !is_float(made->src[0]->dtype);
    done.emplace(n, integer ? ix::simplify_node(made) : made);
  }
  std::vector<Ref> out;
  for (const Ref& r : roots) out.push_back(done.at(r.get()));
  return out;
}

Ref replace(const Ref& root, const Substitution& map) { return replace(std::span(&root, 1), map)[0]; }

Ref split(const Ref& kernel, const std::string& loop, int64_t factor, const std::string& inner) {
  need_loop(kernel, loop);
  if (factor == 0) fail("split {}: factor 0", loop);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, loop)) return false;
    if (tree::kind(*s) == LoopKind::Vector || tree::kind(*s) == LoopKind::Unroll)
      fail("split {}: it is a {} loop already", loop, name(tree::kind(*s)));
    split_loop(s, std::abs(factor), factor < 0, inner, out);
    return true;
  });
}

Ref reorder(const Ref& kernel, const std::string& loop, const std::vector<std::string>& through) {
  need_loop(kernel, loop);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, loop)) return false;
    if (holds_merge_of_own_place(s)) fail("reorder {}: lanes are merged inside it", loop);
    for (const Ref& r : Sink(s, through).run()) out.push_back(r);
    return true;
  });
}

Ref merge(const Ref& kernel, const std::string& outer, const std::string& inner) {
  need_loop(kernel, outer);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, outer)) return false;
    Body body = body_of(s);
    if (body.size() != 1 || !is_loop(body[0], inner))
      fail("merge {} {}: the second is not alone within the first", outer, inner);
    const Ref &a = s->src[0], &b = body[0]->src[0];
    if (ix::depends_on(b->src[0], a))
      fail("merge {} {}: the extent of the second depends on the first", outer, inner);
    Ref both = ix::range(ix::mul(a->src[0], b->src[0]), outer);
    Substitution map{{a.get(), ix::idiv(both, b->src[0])}, {b.get(), ix::mod(both, b->src[0])}};
    out.push_back(tree::loop(tree::kind(*s), both, replace(tree::body(*body[0]), map)));
    return true;
  });
}

const Node* varying_along(const Ref& statement, const Ref& range) {
  for (const Node* n : topological(std::span(&statement, 1)))
    if (n->op == Op::Loop && ix::depends_on(n->src[0]->src[0], range)) return n;
  return nullptr;
}

static int64_t power_of_two(int64_t n) {
  int64_t p = 1;
  while (p < n) p *= 2;
  return p;
}

Ref vectorise(const Ref& kernel, const std::string& loop, int64_t width) {
  need_loop(kernel, loop);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, loop)) return false;
    const Ref& e = s->src[0]->src[0];
    int64_t w = width;
    if (e->is_const() && (w == 0 || extent(e) < w)) w = power_of_two(extent(e));
    if (w == 0) fail("vectorise {}: its extent varies, so a width is needed", loop);
    if (w & (w - 1)) fail("vectorise {}: width {} is not a power of two", loop, w);
    if (e->bounds.hi > w) fail("vectorise {}: extent {} is above the width {}", loop, e->bounds.hi, w);
    if (const Node* inner = varying_along(s, s->src[0]))
      fail("vectorise {}: in its lanes loop {} runs for different times", loop, inner->src[0]->arg.text);
    out.push_back(tree::loop(LoopKind::Vector, s->src[0], body_of(s), w));
    return true;
  });
}

Ref unroll(const Ref& kernel, const std::string& loop) {
  need_loop(kernel, loop);
  return map_kernel(kernel, [&](const Ref& s, Body& out) {
    if (!is_loop(s, loop)) return false;
    if (!s->src[0]->src[0]->is_const()) fail("unroll {}: its extent varies", loop);
    out.push_back(tree::loop(LoopKind::Unroll, s->src[0], body_of(s)));
    return true;
  });
}

Ref parallel(const Ref& kernel, const std::string& loop, LoopKind kind) {
  Body body = {tree::body(*kernel).begin(), tree::body(*kernel).end()};
  if (body.size() != 1 || !is_loop(body[0], loop))
    fail("{} {}: it is not the one outermost loop of kernel {}", name(kind), loop, kernel->arg.text);
  body[0] = tree::loop(kind, body[0]->src[0], body_of(body[0]));
  std::span<const Ref> params = tree::params(*kernel);
  return tree::kernel(kernel->arg.text, {params.begin(), params.end()}, body);
}

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
      if (s->op == Op::FoldStep && lane && tree::space(*s->src[0]) == Space::Local) {
        places_.insert(s->src[0].get());
        folds_.emplace_back(lane, s->src[0].get());
      }
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
    return tree::space(*access.src[0]) == Space::Param && access.op == Op::Store && !at.empty() &&
           at.back().get() == lane;
  }

  std::string loop_;
  std::unordered_set<const Node*> places_;
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

namespace {

// The ranges of loops inside `body` on which `e` depends, outer to inner.
void inner_ranges(std::span<const Ref> body, const Ref& e, std::vector<Ref>& out) {
  for (const Ref& s : body) {
    if (s->op == Op::If) inner_ranges(std::span(s->src).subspan(1), e, out);
    if (s->op != Op::Loop) continue;
    if (ix::depends_on(e, s->src[0]) && std::find(out.begin(), out.end(), s->src[0]) == out.end())
      out.push_back(s->src[0]);
    inner_ranges(tree::body(*s), e, out);
  }
}

struct Panel {
  Ref place, element;  // what is copied, over `ranges`
  std::vector<Ref> ranges;
};

// What `stage` is to copy: loads of the parameter of that name, or, as "place.n", the n-th value folded into a place.
class Staged {
 public:
  explicit Staged(const std::string& what) : what_(what) {
    size_t dot = what.rfind('.');
    if (dot == std::string::npos) return;
    fold_ = what.substr(0, dot);
    value_ = what[dot + 1] == '1' ? 1 : 0;
  }

  Ref wanted(const Node& n) const {
    if (fold_.empty() && n.op == Op::Load && n.src[0]->arg.text == what_ &&
        tree::space(*n.src[0]) == Space::Param)
      return Ref(&n);
    if (fold_.empty() || n.op != Op::FoldStep || n.src[0]->arg.text != fold_) return {};
    std::span<const Ref> values = tree::values(n);
    return value_ < values.size() ? values[value_] : Ref();
  }

  std::string panel_name() const { return "p_" + (fold_.empty() ? what_ : fold_); }

 private:
  std::string what_, fold_ = {};
  size_t value_ = 0;
};

// A panel is filled ahead, for all iterations: with nothing that the kernel itself makes, and under no condition.
void refuse_to_stage(const Ref& loop, std::span<const Ref> body, const Ref& value) {
  std::unordered_set<const Node*> written;
  for (const Node* n : topological(body))
    if (n->op == Op::Store || n->op == Op::FoldStep) written.insert(n->src[0].get());
  for (const Node* n : topological(std::span(&value, 1))) {
    if (n->op != Op::Load && n->op != Op::Merge) continue;
    const std::string& name = n->src[0]->arg.text;
    if (tree::space(*n->src[0]) != Space::Param)
      fail("stage {}: it reads '{}', a place of the kernel", loop_name(loop), name);
    if (written.contains(n->src[0].get()))
      fail("stage {}: it reads '{}', which is written in the loop", loop_name(loop), name);
  }
  for (const Node* n : topological(body)) {
    if (n->op != Op::If) continue;
    for (const Node* inner : topological(std::span(n->src).subspan(1)))
      if (inner == value.get()) fail("stage {}: it is read under a condition", loop_name(loop));
  }
}

// The panel for one value, made unless an equal one is there: parts of a split loop read alike.
const Panel& panel_for(const Ref& loop, const Ref& value, const std::string& name,
                       const std::vector<Ref>& ranges, std::vector<Panel>& panels) {
  std::vector<Ref> dims;
  for (const Ref& r : ranges) {
    if (!r->src[0]->is_const()) fail("stage {}: loop {} has a varying extent", loop_name(loop), r->arg.text);
    dims.push_back(r->src[0]);
  }
  auto element = [&](const std::vector<Ref>& fresh) {
    Substitution own;
    for (size_t i = 0; i < ranges.size(); i++) own.emplace(ranges[i].get(), fresh[i]);
    return replace(value, own);
  };
  for (const Panel& p : panels)
    if (p.ranges.size() == ranges.size() && std::equal(dims.begin(), dims.end(), p.place->src.begin()) &&
        element(p.ranges) == p.element)
      return p;
  Panel p{tree::place(value->dtype, dims, name), {}, {}};
  for (const Ref& r : ranges) p.ranges.push_back(ix::range(r->src[0], "f" + r->arg.text));
  p.element = element(p.ranges);
  return panels.emplace_back(std::move(p));
}

// The parts of a split loop each fill their own panel: a panel is never filled with elements that its part does not have.
Body stage_body(const Ref& loop, std::span<const Ref> body, const Staged& what) {
  if (body.size() == 1 && body[0]->op == Op::If)
    return {tree::branch(body[0]->src[0], stage_body(loop, tree::then_body(*body[0]), what),
                         stage_body(loop, tree::else_body(*body[0]), what))};
  Substitution map;
  std::vector<Panel> panels;
  for (const Node* n : topological(body)) {
    Ref value = what.wanted(*n);
    if (!value || map.count(value.get())) continue;
    refuse_to_stage(loop, body, value);
    std::vector<Ref> ranges;
    inner_ranges(body, value, ranges);
    map.emplace(value.get(),
                tree::load(panel_for(loop, value, what.panel_name(), ranges, panels).place, ranges));
  }
  Body fills;
  for (const Panel& p : panels) {
    Body fill = {tree::store(p.place, p.ranges, p.element)};
    for (size_t i = p.ranges.size(); i-- > 0;) fill = {tree::loop(LoopKind::Loop, p.ranges[i], fill)};
    fills.push_back(p.place);
    fills.insert(fills.end(), fill.begin(), fill.end());
  }
  Body rest = replace(body, map);
  fills.insert(fills.end(), rest.begin(), rest.end());
  return fills;
}

}  // namespace

Ref stage(const Ref& kernel, const std::string& place, const std::string& loop) {
  need_loop(kernel, loop);
  const Staged what(place);
  bool found = false;
  Ref out = map_kernel(kernel, [&](const Ref& s, Body& into) {
    if (!is_loop(s, loop)) return false;
    into.push_back(same_loop(s, stage_body(s, tree::body(*s), what)));
    found = found || into.back() != s;
    return true;
  });
  if (!found) fail("stage {} {}: nothing reads {} inside {}", loop, place, place, loop);
  return out;
}

Ref normalise(const Ref& kernel) {
  struct Walk {
    static Body body(std::span<const Ref> statements, const Substitution& map) {
      Body out;
      for (const Ref& s : statements) {
        if (s->op == Op::Loop && s->src[0]->src[0]->is_const() && extent(s->src[0]->src[0]) <= 1 &&
            tree::kind(*s) != LoopKind::Lane) {
          if (extent(s->src[0]->src[0]) == 0) continue;
          const Body inner = body(tree::body(*s), map);
          for (Ref& r : replace(inner, {{s->src[0].get(), index(0)}})) out.push_back(std::move(r));
        } else if (s->op == Op::Loop) {
          out.push_back(same_loop(s, body(tree::body(*s), map)));
        } else if (s->op == Op::If) {
          out.push_back(
              tree::branch(s->src[0], body(tree::then_body(*s), map), body(tree::else_body(*s), map)));
        } else {
          out.push_back(s);
        }
      }
      return out;
    }
  };
  std::span<const Ref> params = tree::params(*kernel);
  return tree::kernel(kernel->arg.text, {params.begin(), params.end()}, Walk::body(tree::body(*kernel), {}));
}

static bool writes_parameter(const Ref& statement) {
  const std::vector<const Node*> nodes = topological(std::span(&statement, 1));
  return std::any_of(nodes.begin(), nodes.end(), [](const Node* n) {
    return (n->op == Op::Store || n->op == Op::FoldStep) && tree::space(*n->src[0]) == Space::Param;
  });
}

Ref sink(const Ref& kernel, const std::string& loop) {
  Body body = {tree::body(*kernel).begin(), tree::body(*kernel).end()};
  if (body.empty() || !is_loop(body.back(), loop))
    fail("sink {}: it is not the last statement of kernel {}", loop, kernel->arg.text);
  const Ref last = body.back();
  if (tree::kind(*last) != LoopKind::Loop)
    fail("sink {}: it is a {} loop already", loop, name(tree::kind(*last)));
  body.pop_back();
  for (const Ref& s : body)
    if (writes_parameter(s)) fail("sink {}: a result is stored before it", loop);
  body.insert(body.end(), tree::body(*last).begin(), tree::body(*last).end());
  std::span<const Ref> params = tree::params(*kernel);
  return tree::kernel(kernel->arg.text, {params.begin(), params.end()}, {same_loop(last, std::move(body))});
}

// ---- moves as data

namespace {

struct MoveRow {
  MoveKind kind;
  std::string_view name;
  Ref (*run)(const Ref&, const Move&);
};

const MoveRow move_rows[] = {
    {MoveKind::Split, "split",
     [](const Ref& k, const Move& m) { return split(k, m.loop, m.factor, m.other); }},
    {MoveKind::Reorder, "reorder", [](const Ref& k, const Move& m) { return reorder(k, m.loop, m.through); }},
    {MoveKind::Merge, "merge", [](const Ref& k, const Move& m) { return merge(k, m.loop, m.other); }},
    {MoveKind::Vectorise, "vectorise",
     [](const Ref& k, const Move& m) { return vectorise(k, m.loop, m.factor); }},
    {MoveKind::Unroll, "unroll", [](const Ref& k, const Move& m) { return unroll(k, m.loop); }},
    {MoveKind::Thread, "thread",
     [](const Ref& k, const Move& m) { return parallel(k, m.loop, LoopKind::Thread); }},
    {MoveKind::Global, "global",
     [](const Ref& k, const Move& m) { return parallel(k, m.loop, LoopKind::Global); }},
    {MoveKind::Lane, "lane", [](const Ref& k, const Move& m) { return lanes(k, m.loop); }},
    {MoveKind::Stage, "stage", [](const Ref& k, const Move& m) { return stage(k, m.other, m.loop); }},
    {MoveKind::Sink, "sink", [](const Ref& k, const Move& m) { return sink(k, m.loop); }},
};

}  // namespace

std::string to_string(std::span<const Move> moves) {
  std::string out;
  for (const Move& m : moves) {
    if (!out.empty()) out += "; ";
    out += fmt::format("{} {}", move_rows[static_cast<int>(m.kind)].name, m.loop);
    if (m.factor != 0) out += fmt::format(" {}", m.factor);
    if (!m.other.empty()) out += " " + m.other;
    for (const std::string& t : m.through) out += " " + t;
  }
  return out;
}

static std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  for (char c : text) {
    if (c != ' ' && c != '\n') word += c;
    else if (!word.empty()) out.push_back(std::exchange(word, ""));
  }
  if (!word.empty()) out.push_back(word);
  return out;
}

static Move parse_move(std::string_view text) {
  std::vector<std::string> w = words(text);
  for (const MoveRow& r : move_rows) {
    if (w.empty() || w[0] != r.name || w.size() < 2) continue;
    Move m{.kind = r.kind, .loop = w[1], .factor = 0, .other = {}, .through = {}};
    size_t i = 2;
    if (i < w.size() && (std::isdigit(static_cast<unsigned char>(w[i][0])) || w[i][0] == '-')) {
      const char* end = w[i].data() + w[i].size();
      const auto [read, wrong] = std::from_chars(w[i].data(), end, m.factor);
      if (read != end || wrong != std::errc()) break;
      i++;
    }
    if (r.kind == MoveKind::Reorder) m.through.assign(w.begin() + static_cast<ptrdiff_t>(i), w.end());
    else if (i < w.size()) m.other = w[i];
    return m;
  }
  fail("not a move: '{}'", text);
}

std::vector<Move> parse_moves(std::string_view text) {
  std::vector<Move> out;
  while (!text.empty()) {
    size_t end = std::min(text.find(';'), text.size());
    if (!words(text.substr(0, end)).empty()) out.push_back(parse_move(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

Ref apply(const Ref& kernel, const Move& move) {
  return move_rows[static_cast<int>(move.kind)].run(kernel, move);
}

Ref apply_moves(const Ref& kernel, std::span<const Move> moves) {
  Ref k = kernel;
  for (const Move& m : moves) k = apply(k, m);
  return k;
}

}  // namespace kontor::inline v0
