// The moves join and part.
// join: dimensions of a parameter that a merged loop runs along become one, so that its index is the loop's again, not
// the quotient and the rest of it.
// part: the one dimension of a place becomes two, the inner of a given extent, which lanes can have.
#include <algorithm>

#include "base/error.h"
#include "codegen/moves/moves.h"
#include "codegen/tree/substitute.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

using namespace walk;

namespace {

std::ptrdiff_t divisions(std::span<const Ref> indexes) {
  const std::vector<const Node*> nodes = topological(indexes);
  return std::ranges::count_if(nodes, [](const Node* n) { return n->op == Op::IDiv || n->op == Op::Mod; });
}

/// Index d and the one after it as one index.
Ref joined(const Node& access, size_t d) {
  const std::span<const Ref> at = tree::at(access);
  return ix::add(ix::mul(at[d], tree::dims(*access.src[0])[d + 1]), at[d + 1]);
}

/// Whether all accesses of the parameter have fewer divisions with dimensions d and d + 1 as one.
bool pays(std::span<const Node* const> accesses, size_t d) {
  return !accesses.empty() && std::ranges::all_of(accesses, [&](const Node* n) {
    const Ref one = joined(*n, d);
    return divisions(std::span(&one, 1)) < divisions(tree::at(*n).subspan(d, 2));
  });
}

bool is_access(const Node& n) {
  return n.op == Op::Load || n.op == Op::Store || n.op == Op::FoldStep || n.op == Op::Merge;
}

Ref join_at(const Ref& kernel, const Ref& param, size_t d) {
  std::vector<Ref> dims(param->src.begin(), param->src.end());
  dims[d] = ix::mul(dims[d], dims[d + 1]);
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(d) + 1);
  const Ref now = with_dims(*param, dims);
  Substitution done{{param.get(), now}};
  map_nodes(tree::body(*kernel), done, [&](const Node& n, std::vector<Ref> sources) {
    if (!is_access(n) || n.src[0] != param) return with_sources(n, std::move(sources));
    const auto at = sources.begin() + 1 + static_cast<std::ptrdiff_t>(d);
    *at = ix::add(ix::mul(*at, param->src[d + 1]), *(at + 1));
    sources.erase(at + 1);
    return with_sources(n, std::move(sources));
  });
  std::vector<Ref> params(tree::params(*kernel).begin(), tree::params(*kernel).end());
  std::ranges::replace(params, param, now);
  Body body;
  for (const Ref& s : tree::body(*kernel)) body.push_back(done.at(s.get()));
  return tree::kernel(kernel->arg.text, std::move(params), std::move(body));
}

}  // namespace

Ref join(const Ref& kernel, const std::string& param) {
  const auto named = [&](const Ref& k) {
    for (const Ref& p : tree::params(*k))
      if (p->arg.text == param) return p;
    fail("join {}: kernel {} has no such parameter", param, k->arg.text);
  };
  Ref out = kernel;
  for (size_t d = named(out)->src.size(); d-- > 1;) {
    const Ref p = named(out);
    if (d >= p->src.size()) continue;
    std::vector<const Node*> accesses;
    for (const Node* n : topological(std::span(&out, 1)))
      if (is_access(*n) && n->src[0] == p) accesses.push_back(n);
    if (std::ranges::any_of(accesses, [](const Node* n) { return n->op == Op::Merge; })) break;
    if (p->src[d]->is_const() && pays(accesses, d - 1)) out = join_at(out, p, d - 1);
  }
  if (out == kernel) fail("join {}: no index of it would be simpler", param);
  return out;
}

Ref part(const Ref& kernel, const std::string& place, int64_t inner) {
  if (inner < 1) fail("part {}: into parts of {}", place, inner);
  Substitution done;
  map_kernel(kernel, [&](const Ref& s, Body&) {
    if (s->op != Op::Place || s->arg.text != place || tree::space(*s) != Space::Local) return false;
    if (s->src.size() != 1 || !s->src[0]->is_const() || extent(s->src[0]) % inner != 0)
      fail("part {}: it is no row that {} divides", place, inner);
    done.emplace(s.get(), with_dims(*s, {ix::idiv(s->src[0], inner), index(inner)}));
    return false;
  });
  if (done.empty()) fail("part {}: there is no such place", place);
  const Substitution parted = done;
  map_nodes(tree::body(*kernel), done, [&](const Node& n, std::vector<Ref> sources) {
    if (!is_access(n) || !parted.contains(n.src[0].get())) return with_sources(n, std::move(sources));
    if (n.op == Op::Merge) fail("part {}: its elements are merged", place);
    const Ref at = sources[1];
    sources[1] = ix::idiv(at, inner);
    sources.insert(sources.begin() + 2, ix::mod(at, index(inner)));
    return with_sources(n, std::move(sources));
  });
  Body body;
  for (const Ref& s : tree::body(*kernel)) body.push_back(done.at(s.get()));
  return with_body(kernel, std::move(body));
}

}  // namespace kontor
