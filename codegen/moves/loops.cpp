// Moves that change loops where they stand: split, merge, vectorise, unroll, thread and global, sink.
#include "codegen/moves/moves.h"

#include <algorithm>

#include "base/error.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

// One loop of extent e, cut; `inside` keeps the parts within one outer loop.
static void split_loop(const Ref& loop, int64_t factor, bool inside, const std::string& inner_name,
                       Body& out) {
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

const Node* running_in(const Ref& loop) {
  NodeSet stepped, declared;
  const std::vector<const Node*> nodes = topological(std::span(&loop, 1));
  for (const Node* n : nodes)
    if (n->op == Op::FoldStep) stepped.insert(n->src[0].get());
  map_body(tree::body(*loop), [&](const Ref& s, Body&) {
    if (s->op == Op::Place) declared.insert(s.get());
    return false;
  });
  for (const Node* n : nodes) {
    if (n->op != Op::Load || !stepped.contains(n->src[0].get()) || declared.contains(n->src[0].get()))
      continue;
    const std::span<const Ref> at = tree::at(*n);
    if (std::none_of(at.begin(), at.end(), [&](const Ref& i) { return ix::depends_on(i, loop->src[0]); }))
      return n->src[0].get();
  }
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
    if (w > most_lanes) fail("vectorise {}: {} lanes are more than {}", loop, w, most_lanes);
    if (e->bounds.hi > w) fail("vectorise {}: extent {} is above the width {}", loop, e->bounds.hi, w);
    if (const Node* inner = varying_along(s, s->src[0]))
      fail("vectorise {}: in its lanes loop {} runs for different times", loop, inner->src[0]->arg.text);
    if (const Node* place = running_in(s))
      fail("vectorise {}: '{}' is read after each of its steps", loop, place->arg.text);
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
  return with_body(kernel, std::move(body));
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
  for (const Node* n : topological(std::span(&last, 1)))
    if ((n->op == Op::Store || n->op == Op::FoldStep) &&
        std::find(body.begin(), body.end(), n->src[0]) != body.end())
      fail("sink {}: its iterations go on with '{}'", loop, n->src[0]->arg.text);
  body.insert(body.end(), tree::body(*last).begin(), tree::body(*last).end());
  return with_body(kernel, {same_loop(last, std::move(body))});
}

}  // namespace kontor
