// The moves prefetch and pipeline: what fills a panel in an iteration of a loop is read one iteration ahead, into registers, or
// copied some iterations ahead, into panels that take turns, while what a panel holds is used.
#include <algorithm>

#include "base/error.h"
#include "codegen/moves/moves.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

namespace {

bool is_raw(const Node& n) {
  return n.op == Op::Load && tree::space(*n.src[0]) == Space::Param && !tree::guard(n);
}

/// Two elements side by side as a word of memory has them.
bool is_word(const Node& n) {
  const auto [low, high] = tree::halves(n);
  if (!low || !is_raw(*low) || !is_raw(*high)) return false;
  const auto position = [](const Node& l) { return ix::flatten(tree::at(l), tree::dims(*l.src[0])); };
  return is_int(ix::sub(position(*high), position(*low)), 1);
}

/// What can be kept as it lies in memory, so that nothing waits for it yet: loads of parameters, their bits, words of two.
void raw_loads(const Ref& value, std::vector<Ref>& out) {
  const bool bits = value->op == Op::Bitcast && is_raw(*value->src[0]);
  if (bits || is_raw(*value) || is_word(*value)) {
    if (std::ranges::find(out, value) == out.end()) out.push_back(value);
    return;
  }
  for (const Ref& s : value->src)
    if (s->op != Op::Place && s->op != Op::Range) raw_loads(s, out);
}

/// A statement of nothing but loops around one store to the panel.
struct Fill {
  std::vector<Ref> loops;  // outer to inner
  Ref store;
};

bool is_fill(const Ref& statement, const std::string& panel, Fill& out) {
  const Node* s = statement.get();
  for (; s->op == Op::Loop && tree::body(*s).size() == 1; s = tree::body(*s)[0].get())
    out.loops.push_back(Ref(s));
  out.store = Ref(s);
  return s->op == Op::Store && s->src[0]->arg.text == panel;
}

Ref nest(const std::vector<Ref>& loops, Body body) {
  for (size_t k = loops.size(); k-- > 0;) body = {same_loop(loops[k], std::move(body))};
  return body[0];
}

Body ahead(const Ref& loop, const std::string& panel, bool& found) {
  const Ref& range = loop->src[0];
  if (range->src[0]->bounds.lo < 1) fail("prefetch {}: it may have no iteration", loop_name(loop));
  Body before, body;
  for (const Ref& s : tree::body(*loop)) {
    Fill fill;
    if (!is_fill(s, panel, fill)) {
      body.push_back(s);
      continue;
    }
    std::vector<Ref> raw, dims, at;
    raw_loads(tree::values(*fill.store)[0], raw);
    for (const Ref& l : fill.loops) {
      if (!l->src[0]->src[0]->is_const())
        fail("prefetch {}: the extent of loop {} varies", loop_name(loop), loop_name(l));
      dims.push_back(l->src[0]->src[0]), at.push_back(l->src[0]);
    }
    Body reads;
    Substitution kept;
    for (const Ref& r : raw) {
      const Ref place = tree::place(r->dtype, dims, fmt::format("{}_ahead", panel));
      before.push_back(place);
      reads.push_back(tree::store(place, at, r));
      kept.emplace(r.get(), tree::load(place, at));
    }
    if (raw.empty()) fail("prefetch {}: '{}' is filled with nothing that is read", loop_name(loop), panel);
    const Ref read = nest(fill.loops, std::move(reads));
    before.push_back(replace(read, {{range.get(), index(0)}}));
    body.push_back(nest(fill.loops, {replace(fill.store, kept)}));
    const Ref next = ix::add(range, 1);
    body.push_back(tree::branch(ix::lt(next, range->src[0]), {replace(read, {{range.get(), next}})}));
    found = true;
  }
  before.push_back(same_loop(loop, std::move(body)));
  return before;
}

}  // namespace

Ref prefetch(const Ref& kernel, const std::string& loop, const std::string& panel) {
  need_loop(kernel, loop);
  bool found = false;
  const Ref out = map_kernel(kernel, [&](const Ref& s, Body& into) {
    if (!is_loop(s, loop)) return false;
    NodeSet written;
    for (const Node* n : topological(std::span(&s, 1)))
      if (n->op == Op::Store || n->op == Op::FoldStep) written.insert(n->src[0].get());
    for (const Ref& p : tree::params(*kernel))
      if (written.contains(p.get())) fail("prefetch {}: '{}' is written in it", loop, p->arg.text);
    for (Ref& r : ahead(s, panel, found)) into.push_back(std::move(r));
    return true;
  });
  if (!found) fail("prefetch {} {}: nothing in the loop fills {}", loop, panel, panel);
  return out;
}

static const Ref& place_named(const Ref& loop, const std::string& panel) {
  for (const Ref& s : tree::body(*loop))
    if (s->op == Op::Place && s->arg.text == panel && tree::space(*s) == Space::Shared) return s;
  fail("pipeline {}: it has no shared panel '{}'", loop_name(loop), panel);
}

/// The statement with the panel's loads from panel number `turn` of several.
static Ref read_from(const Ref& statement, const Ref& panel, const Ref& several, const Ref& turn) {
  Substitution map;
  for (const Node* n : topological(std::span(&statement, 1))) {
    if (n->op != Op::Load || n->src[0] != panel) continue;
    std::vector<Ref> at(tree::at(*n).begin(), tree::at(*n).end());
    at.insert(at.begin(), turn);
    map.emplace(n, tree::load(several, at));
  }
  return replace(statement, map);
}

static Body in_turns(const Ref& loop, int64_t ahead, const std::vector<std::string>& panels) {
  const Ref& range = loop->src[0];
  if (!range->src[0]->is_const() || extent(range->src[0]) < ahead || ahead < 1)
    fail("pipeline {}: it has no {} iterations", loop_name(loop), ahead);
  Body before, body(tree::body(*loop).begin(), tree::body(*loop).end()), begun, next;
  const Ref first = ix::range(ahead, range->arg.text + "a"), later = ix::add(range, ahead);
  for (const std::string& name : panels) {
    const Ref panel = place_named(loop, name);
    std::vector<Ref> dims(panel->src.begin(), panel->src.end());
    dims.insert(dims.begin(), index(ahead + 1));
    tree::SharedAs how = tree::shared_as(*panel);
    how.ahead = ahead;
    const Ref several = tree::shared_place(panel->dtype, dims, name, how);
    before.push_back(several);
    Body rest;
    for (const Ref& s : body) {
      Fill fill;
      if (s == panel) continue;
      if (!is_fill(s, name, fill)) {
        rest.push_back(read_from(s, panel, several, ix::mod(range, ahead + 1)));
        continue;
      }
      std::vector<Ref> at(tree::at(*fill.store).begin(), tree::at(*fill.store).end());
      at.insert(at.begin(), ix::mod(range, ahead + 1));
      const Ref copy = nest(fill.loops, {tree::store(several, at, tree::values(*fill.store)[0])});
      begun.push_back(replace(copy, {{range.get(), first}}));
      next.push_back(replace(copy, {{range.get(), later}}));
    }
    body = std::move(rest);
  }
  if (next.size() != panels.size()) fail("pipeline {}: a panel is not filled once", loop_name(loop));
  body.insert(body.begin(), tree::branch(ix::lt(later, range->src[0]), std::move(next)));
  before.push_back(tree::loop(LoopKind::Loop, first, std::move(begun)));
  before.push_back(same_loop(loop, std::move(body)));
  return before;
}

Ref pipeline(const Ref& kernel, const std::string& loop, int64_t ahead,
             const std::vector<std::string>& panels) {
  need_loop(kernel, loop);
  return map_kernel(kernel, [&](const Ref& s, Body& into) {
    if (!is_loop(s, loop)) return false;
    for (Ref& r : in_turns(s, ahead, panels)) into.push_back(std::move(r));
    return true;
  });
}

}  // namespace kontor
