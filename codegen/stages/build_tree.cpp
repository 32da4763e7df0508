// A group of stages becomes a loop tree: the outer loops that they share, each stage's own nest at its depth.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "codegen/stages/stage.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

using Body = std::vector<Ref>;

class Builder {
 public:
  Builder(const ProgramTree& program, const Group& group, std::vector<BufferRef>& buffers)
      : program_(program), group_(group), buffers_(buffers) {}

  Ref run(const std::string& name) {
    for (int i : group_.stages) declare(i);
    Body body = level(0);
    return tree::kernel(name, params_, body);
  }

 private:
  const ProgramTree& program_;
  const Group& group_;
  std::vector<BufferRef>& buffers_;
  std::vector<Ref> params_;
  NodeMap<Ref> memory_;   // logical place -> place in the tree
  NodeMap<Ref> inlined_;  // logical place -> value (a map inside all loops that index it)
  Substitution done_;     // physical form of each node met, by address:
  Body kept_;             // so what was met stays alive
  NodeSet own_;           // places of a given tree
  std::vector<std::pair<const Stage*, Ref>>
      states_;                    // folds whose state has parts that others may read, and where it is
  std::map<int, Body> deferred_;  // by depth: stores into inputs, after all that reads these

  const Stage& stage(int i) const { return program_.stages[static_cast<size_t>(i)]; }

  // ---- places

  bool is_root(int i) const { return i == group_.stages.back() || stage(i).level.leaves_kernel; }

  Ref param(BufferRef buffer, DType dtype, std::vector<Ref> dims, const std::string& name, int fold = -1) {
    for (size_t p = 0; p < buffers_.size(); p++)
      if (buffers_[p] == buffer) return params_[p];
    buffers_.push_back(buffer);
    params_.push_back(tree::param(dtype, std::move(dims), static_cast<int64_t>(params_.size()), name, fold));
    return params_.back();
  }

  bool in_place(int i) const {
    size_t output = static_cast<size_t>(stage(i).output);
    return stage(i).output >= 0 && output < program_.in_place.size() && program_.in_place[output] >= 0;
  }

  BufferRef buffer_of(int i) const {
    if (!in_place(i)) return {BufferRef::Value, i};
    return {BufferRef::Input, program_.in_place[static_cast<size_t>(stage(i).output)]};
  }

  bool fully_bound(const Stage& s) const {
    return std::all_of(s.level.outer.begin(), s.level.outer.end(), [](int b) { return b >= 0; });
  }

  void declare(int i) {
    const Stage& s = stage(i);
    if (is_root(i)) {
      int fold = s.scatter_at.empty() ? -1 : s.fold;
      memory_[s.place.get()] = param(buffer_of(i), s.place->dtype,
                                     in_memory_order(program_, s.place, tree::dims(*s.place)), s.name, fold);
      return;
    }
    if (fully_bound(s)) return;  // a fold's own place, or inlined
    std::vector<Ref> dims;
    for (int d : s.layout.order)
      if (s.level.outer[static_cast<size_t>(d)] < 0)
        dims.push_back(tree::dims(*s.place)[static_cast<size_t>(d)]);
    memory_[s.place.get()] = tree::place(s.place->dtype, dims, s.name);
  }

  // Where in its place a stage stores what its loops have come to.
  static std::vector<Ref> index_of(const Stage& s) {
    std::vector<Ref> at = s.loops;
    for (size_t d = 0; d < s.piece.begin.size(); d++)
      if (s.piece.begin[d]) at[d] = ix::add(s.piece.begin[d], at[d]);
    return at;
  }

  // The indexes of a stage's place in the tree: in memory order, without what outer loops stand for if it is local.
  std::vector<Ref> place_at(const Ref& logical, std::span<const Ref> at) {
    const Stage* s = stage_of(program_, logical);
    const Ref& place = memory_.at(logical.get());
    std::vector<Ref> out;
    for (int d : s->layout.order)
      if (tree::space(*place) == Space::Param || s->level.outer[static_cast<size_t>(d)] < 0)
        out.push_back(at[static_cast<size_t>(d)]);
    return out;
  }

  // An expression over logical places, with loads of what is there in the tree.
  Ref physical(const Ref& expression) {
    kept_.push_back(expression);
    map_nodes(std::span(&expression, 1), done_, [&](const Node& n, std::vector<Ref> sources) {
      if (n.op == Op::Range || n.op == Op::Place) return Ref(&n);
      return n.op == Op::Load ? physical_load(&n, sources) : with_sources(n, std::move(sources));
    });
    return done_.at(expression.get());
  }

  Ref physical_load(const Node* n, const std::vector<Ref>& sources) {
    const Ref& logical = n->src[0];
    if (own_.contains(logical.get())) return with_sources(*n, sources);
    std::vector<Ref> at(sources.begin() + 1,
                        sources.begin() + 1 + static_cast<ptrdiff_t>(tree::at(*n).size()));
    Ref guard = tree::guard(*n) ? sources.back() : Ref();
    if (tree::space(*logical) == Space::Param) {
      Ref p = param({BufferRef::Input, static_cast<int>(tree::param_number(*logical))}, logical->dtype,
                    {tree::dims(*logical).begin(), tree::dims(*logical).end()}, logical->arg.text);
      return tree::load(p, at, guard);
    }
    if (auto it = inlined_.find(logical.get()); it != inlined_.end()) return guarded(it->second, guard);
    int number = stage_number(program_, logical);
    if (!memory_.count(logical.get())) {
      const Stage& s = stage(number);
      memory_[logical.get()] = param(buffer_of(number), logical->dtype,
                                     in_memory_order(program_, logical, tree::dims(*logical)), s.name);
    }
    return tree::load(memory_.at(logical.get()), place_at(logical, at), guard);
  }

  // A load's guard belongs to the value: where it does not hold, the value is 0, whether it is in memory or at hand.
  static Ref guarded(const Ref& value, const Ref& guard) {
    return guard ? make(Op::Where, {guard, value, constant(value->dtype, int64_t{0})}) : value;
  }

  // ---- statements

  // A loop, or nothing where it would do nothing: empty work takes no time, however long the loops around it are.
  static Body around(const Ref& range, Body body, int64_t width = 0) {
    if (body.empty() || range->src[0]->bounds.hi <= 0) return {};
    return {tree::loop(LoopKind::Loop, range, std::move(body), width)};
  }

  Body level(int depth) {
    Body body;
    bool deeper = false;
    for (int i : group_.stages) {
      if (stage(i).level.depth == depth) nest(i, body);
      deeper = deeper || stage(i).level.depth > depth;
    }
    if (deeper) {
      Body loop = around(group_.outer_loops[static_cast<size_t>(depth)], level(depth + 1));
      body.insert(body.end(), loop.begin(), loop.end());
    }
    const Body& stores = deferred_[depth];
    body.insert(body.end(), stores.begin(), stores.end());
    return body;
  }

  void nest(int i, Body& body) {
    const Stage& s = stage(i);
    bool local = !is_root(i);
    if (!s.scatter_at.empty()) return scatter_nest(s, body);
    if (!s.given.empty()) return given_statements(s, s.given, body);
    if (s.scan >= 0) return scan_nest(s, body, local);
    if (local && fully_bound(s) && !is_fold(s)) {
      checks(s, body);
      inlined_[s.place.get()] = physical(s.values[0]);
      return;
    }
    if (local && !fully_bound(s)) body.push_back(memory_.at(s.place.get()));
    Body inner;
    if (in_place(i) && fully_bound(s) && !is_fold(s)) return nest_in_place(s, body);
    Ref value = is_fold(s) ? fold_nest(s, inner, local) : map_value(s, inner, i);
    if (!value) {
      body.insert(body.end(), inner.begin(), inner.end());
      return;
    }
    inner.push_back(stored(i, place_at(s.place, index_of(s)), value));
    for (size_t k = s.layout.order.size(); k-- > 0;) {
      size_t d = static_cast<size_t>(s.layout.order[k]);
      if (s.level.outer[d] < 0) inner = around(s.loops[d], std::move(inner));
    }
    body.insert(body.end(), inner.begin(), inner.end());
  }

  // What is written in place and keeps elements stores those that it does not, where whole rows do.
  Ref stored(int i, std::vector<Ref> at, const Ref& value) const {
    const Stage& s = stage(i);
    const Ref& place = memory_.at(s.place.get());
    const auto is_kept = [&](const Ref& x) {
      return x->op == Op::Load && x->src[0] == place && !tree::guard(*x) &&
             std::ranges::equal(tree::at(*x), at);
    };
    const bool keeps =
        in_place(i) && value->op == Op::Where && is_kept(value->src[2]) && !s.layout.order.empty();
    if (!keeps || ix::depends_on(value->src[0], s.loops[static_cast<size_t>(s.layout.order.back())]))
      return tree::store(place, std::move(at), value);
    return tree::branch(value->src[0], {tree::store(place, std::move(at), value->src[1])}, {});
  }

  // The new value waits in a register until all that reads the old one has been computed.
  void nest_in_place(const Stage& s, Body& body) {
    checks(s, body);
    Ref fresh = tree::place(s.place->dtype, {}, s.name + "_new");
    body.push_back(fresh);
    body.push_back(tree::store(fresh, {}, physical(s.values[0])));
    inlined_[s.place.get()] = tree::load(fresh, {});
    deferred_[s.level.depth].push_back(
        tree::store(memory_.at(s.place.get()), place_at(s.place, s.loops), tree::load(fresh, {})));
  }

  Ref check(StageCheck c, const Substitution& map) {
    c.each([&](Ref& r) { r = physical(map.empty() ? r : resolve(r, map)); });
    return tree::check(c.condition, c.id, c.value);
  }

  void checks(const Stage& s, Body& body) {
    for (const StageCheck& c : s.checks) body.push_back(check(c, {}));
  }

  // What a map stores. Readers inside the same loops take the value itself, not a load of it.
  Ref map_value(const Stage& s, Body& inner, int i) {
    checks(s, inner);
    Ref value = physical(s.values[0]);
    if (fully_bound(s) && is_root(i)) inlined_[s.place.get()] = value;
    return value;
  }

  // The folding loops; returns the result to be stored, or null if readers load the fold's own place.
  Ref fold_nest(const Stage& s, Body& inner, bool local) {
    const Ref known = state_of_another(s), sum = known ? known : run_fold(s, inner, local);
    Ref result = s.lane ? tree::merge(sum, {}, s.part) : tree::load(sum, {}, {}, s.part);
    if (fully_bound(s)) inlined_[s.place.get()] = result;
    return local && fully_bound(s) ? Ref() : result;
  }

  Ref run_fold(const Stage& s, Body& inner, bool local) {
    std::vector<Ref> dims;
    if (s.lane) dims.push_back(s.lane->src[0]);
    const Fold fold = static_cast<Fold>(s.fold);
    Ref sum = tree::place(state_dtype(fold, s.values[0]->dtype), dims,
                          s.name + (local && fully_bound(s) && !s.lane ? "" : "_sum"), s.fold);
    inner.push_back(sum);
    if (s.piece.accumulator.place) resume(s, sum, inner);
    if (s.lane) lane_loops(s, sum, inner);
    else fold_loops(s, sum, inner);
    if (s.piece.accumulator.place) keep(s, sum, inner);
    if (parts(fold) > 1 && fully_bound(s)) states_.emplace_back(&s, sum);
    return sum;
  }

  // The place of a fold that another stage runs in the same loops over the same values, for another part of its state.
  Ref state_of_another(const Stage& s) {
    if (!fully_bound(s)) return {};
    for (const auto& [other, state] : states_)
      if (is_same_fold(s, *other)) return state;
    return {};
  }

  bool is_same_fold(const Stage& s, const Stage& other) {
    const bool alike = s.fold == other.fold && s.level.depth == other.level.depth && s.checks.empty() &&
                       other.checks.empty() && s.folds.size() == other.folds.size() &&
                       !s.lane == !other.lane && s.lane_length == other.lane_length &&
                       !s.lane_begin == !other.lane_begin;
    if (!alike) return false;
    Substitution map;
    for (size_t f = 0; f < s.folds.size(); f++) map[s.folds[f].get()] = other.folds[f];
    if (s.lane) map[s.lane.get()] = other.lane;
    const auto same = [&](const Ref& x, const Ref& y) { return physical(resolve(x, map)) == physical(y); };
    for (size_t f = 0; f < s.folds.size(); f++)
      if (!same(s.folds[f]->src[0], other.folds[f]->src[0])) return false;
    if (s.lane_begin && !same(s.lane_begin, other.lane_begin)) return false;
    return std::equal(s.values.begin(), s.values.end(), other.values.begin(), other.values.end(), same);
  }

  // ---- a fold that goes on from piece to piece of a stream

  Ref accumulator(const Stage& s) {
    const int number = static_cast<int>(&s - program_.stages.data());
    const std::span<const Ref> dims = tree::dims(*s.piece.accumulator.place);
    return param({BufferRef::Accumulator, number}, s.place->dtype, {dims.begin(), dims.end()},
                 s.name + "_kept");
  }

  void resume(const Stage& s, const Ref& sum, Body& out) {
    on_lanes(s, out, [&](const std::vector<Ref>& lane, std::vector<Ref> at) {
      const Ref& resumes = s.piece.accumulator.resumes;
      const Fold fold = static_cast<Fold>(s.fold);
      Ref value = tree::load(accumulator(s), std::move(at), resumes);
      if (row(fold).part[0].identity != FoldIdentity::Zero)
        value = make(Op::Where, {resumes, value, identity(fold, s.place->dtype)});
      return tree::store(sum, lane, value);
    });
  }

  void keep(const Stage& s, const Ref& sum, Body& out) {
    on_lanes(s, out, [&](const std::vector<Ref>& lane, std::vector<Ref> at) {
      return tree::store(accumulator(s), std::move(at), tree::load(sum, lane));
    });
  }

  template <class F>
  static void on_lanes(const Stage& s, Body& out, const F& statement) {
    if (!s.lane) return out.push_back(statement(std::vector<Ref>{}, s.piece.accumulator.at));
    const Ref lane = ix::range(s.lane->src[0], s.lane->arg.text);
    std::vector<Ref> at = s.piece.accumulator.at;
    at.push_back(lane);
    out.push_back(tree::loop(LoopKind::Loop, lane, {statement(std::vector<Ref>{lane}, std::move(at))}));
  }

  Body step(const Stage& s, const Ref& sum, const std::vector<Ref>& at, const Substitution& map) {
    Body body;
    for (const StageCheck& c : s.checks) body.push_back(check(c, map));
    std::vector<Ref> values;
    for (const Ref& v : s.values) values.push_back(physical(resolve(v, map)));
    body.push_back(tree::fold(sum, at, values));
    return body;
  }

  static Ref resolve(const Ref& expression, const Substitution& map) {
    return map.empty() ? expression : substitute(expression, map);
  }

  void fold_loops(const Stage& s, const Ref& sum, Body& out) {
    Body body = step(s, sum, {}, {});
    for (size_t f = s.folds.size(); f-- > 0;) body = around(s.folds[f], std::move(body));
    out.insert(out.end(), body.begin(), body.end());
  }

  // Full steps of all lanes, then the step in which only the first lanes have an element. In a cut chain only the last
  // piece has that step.
  void lane_loops(const Stage& s, const Ref& sum, Body& out) {
    int64_t lanes = extent(s.lane->src[0]), full = s.lane_length / lanes, rest = s.lane_length % lanes;
    const Ref& last = s.folds.back();
    Ref begin = s.lane_begin ? s.lane_begin : index(0);
    Ref count =
        s.lane_begin ? ix::max(index(0), ix::min(last->src[0], ix::sub(index(full), begin))) : index(full);
    Ref main = ix::range(count, last->arg.text);
    Body body = around(s.lane, step(s, sum, {s.lane}, {{last.get(), main}}));
    body = around(main, std::move(body));
    if (rest) {
      Ref lane = ix::range(rest, s.lane->arg.text);
      Substitution map{{last.get(), ix::sub(index(full), begin)}, {s.lane.get(), lane}};
      Body tail = around(lane, step(s, sum, {lane}, map), lanes);
      if (s.lane_begin) tail = {tree::branch(ix::lt(ix::sub(index(full), begin), last->src[0]), tail)};
      body.insert(body.end(), tail.begin(), tail.end());
    }
    for (size_t f = s.folds.size() - 1; f-- > 0;) body = around(s.folds[f], std::move(body));
    out.insert(out.end(), body.begin(), body.end());
  }

  // What the fold has come to is stored after each step. The steps are the innermost loop.
  void scan_nest(const Stage& s, Body& body, bool local) {
    if (local) body.push_back(memory_.at(s.place.get()));
    const Ref running = tree::place(s.place->dtype, {}, s.name + "_so_far", s.fold);
    Body nest = {running, tree::store(running, {}, physical(s.start))};
    Body steps = step(s, running, {}, {});
    steps.push_back(
        tree::store(memory_.at(s.place.get()), place_at(s.place, index_of(s)), tree::load(running, {})));
    for (const Ref& loop : around(s.loops[static_cast<size_t>(s.scan)], std::move(steps)))
      nest.push_back(loop);
    for (size_t k = s.layout.order.size(); k-- > 0;) {
      const int d = s.layout.order[k];
      if (d != s.scan && s.level.outer[static_cast<size_t>(d)] < 0)
        nest = around(s.loops[static_cast<size_t>(d)], std::move(nest));
    }
    body.insert(body.end(), nest.begin(), nest.end());
  }

  // The statements of a tree that is given, over places in memory.
  void given_statements(const Stage& s, std::span<const Ref> statements, Body& body) {
    const auto all = [&](std::span<const Ref> list) {
      std::vector<Ref> out;
      for (const Ref& r : list) out.push_back(physical(r));
      return out;
    };
    for (const Ref& g : statements) {
      if (g->op == Op::Place) {
        own_.insert(g.get());
        body.push_back(g);
      } else if (g->op == Op::Loop) {
        Body inner;
        given_statements(s, tree::body(*g), inner);
        for (Ref& loop : around(g->src[0], std::move(inner))) body.push_back(std::move(loop));
      } else if (g->op == Op::FoldStep) {
        body.push_back(tree::fold(g->src[0], all(tree::at(*g)), all(tree::values(*g))));
      } else if (g->op == Op::Store && g->src[0] == s.place) {
        body.push_back(tree::store(memory_.at(s.place.get()), place_at(s.place, all(tree::at(*g))),
                                   physical(tree::values(*g)[0])));
      } else {
        broken("a given tree stores its result alone, and has no {}", row(g->op).name);
      }
    }
  }

  void scatter_nest(const Stage& s, Body& body) {
    const Ref place = memory_.at(s.place.get());
    Body before = {tree::store(place, place_at(s.place, s.loops), physical(s.values[0]))};
    for (size_t d = s.loops.size(); d-- > 0;) before = around(s.loops[d], std::move(before));
    std::vector<Ref> at;
    for (const Ref& r : s.scatter_at) at.push_back(physical(r));
    Body inner;
    checks(s, inner);
    Ref step = tree::fold(place, at, {physical(s.values[1])});
    inner.push_back(s.scatter_guard ? tree::branch(physical(s.scatter_guard), {step}) : step);
    for (size_t f = s.folds.size(); f-- > 0;) inner = around(s.folds[f], std::move(inner));
    body.insert(body.end(), before.begin(), before.end());
    body.insert(body.end(), inner.begin(), inner.end());
  }
};

}  // namespace

Ref build_tree(const ProgramTree& program, const Group& group, const std::string& name,
               std::vector<BufferRef>& buffers) {
  return Builder(program, group, buffers).run(name);
}

}  // namespace kontor
