// What the lanes of a vector loop are to memory: first what is known of each place, then of each access.
#include "codegen/tree/shape_accesses.h"

#include <algorithm>
#include <cstdlib>

#include "codegen/tree/read_ahead.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"
#include "graph/index/sum.h"

namespace kontor {

namespace {

int lanes_of(const Node* vector) { return vector ? static_cast<int>(tree::width(*vector)) : 0; }
bool is_partial(const Node& vector) { return !is_int(vector[0]->src[0], tree::width(vector)); }
bool is_vector(const Node& s) {
  return s.op == Op::Loop && tree::kind(s) == LoopKind::Vector && tree::width(s) > 1;
}

/// The parts of a conjunction that are not always true.
void split_conjunction(const Ref& condition, std::vector<Ref>& parts) {
  if (condition->op == Op::And) {
    split_conjunction(condition->src[0], parts);
    split_conjunction(condition->src[1], parts);
  } else if (!is_int(condition, 1)) {
    parts.push_back(condition);
  }
}

}  // namespace

std::optional<Along> along(const Ref& position, const Ref& range) {
  int64_t apart = 0;
  if (!ix::affine(position, range, apart)) return std::nullopt;
  return Along{replace(position, {{range.get(), index(0)}}), apart};
}

bool is_multiple(const Ref& position, int64_t of) {
  const ix::Sum sum = ix::sum_of(position);
  return sum.c % of == 0 && std::ranges::all_of(sum.terms, [&](const ix::Term& t) { return t.k % of == 0; });
}

// ---- places

AccessShapes::AccessShapes(const Ref& kernel) : ahead_(read_ahead(kernel)) {
  for (const Ref& p : tree::params(*kernel)) places_[p.get()].dims = p->src;
  survey(tree::body(*kernel), nullptr);
  for (auto& [place, shape] : places_) lay_out(*place, shape);
}

/// Whether the access is of the lanes themselves, in a loop whose extent does not change while the place lives.
bool AccessShapes::one_extent(const PlaceShape& p, const Node& access, const Node* vector) const {
  if (!vector || access.op == Op::Merge || p.dims.empty()) return false;
  const Ref& range = (*vector)[0];
  std::span<const Ref> at = tree::at(access);
  if (at.back() != range || (p.extent && p.extent != range->src[0])) return false;
  for (const Ref& index : at.first(at.size() - 1))
    if (ix::depends_on(index, range)) return false;
  std::span around(open_.data(), p.declared_in);
  for (const Node* e : topological(range->src)) {
    auto declares = [&](const Node* s) { return s->op == Op::Loop && s->src[0].get() == e; };
    if (e->op == Op::Range && std::none_of(around.begin(), around.end(), declares)) return false;
  }
  return true;
}

/// Notes how local places are accessed: by vectors of which width, and whether by these alone.
void AccessShapes::survey_access(const Node& n, const Node* vector) {
  const Node& place = *n.src[0];
  if (tree::space(place) == Space::Param) return;
  PlaceShape& p = places_[&place];
  const bool one = one_extent(p, n, vector);
  if (one) p.extent = (*vector)[0]->src[0];
  if (!one) p.mixed = true;
  if (!vector || n.op == Op::Merge) return;
  const Ref& range = (*vector)[0];
  const int width = lanes_of(vector);
  for (const Ref& at : tree::at(n)) {
    if (!ix::depends_on(at, range)) continue;
    p.chunk = p.chunk ? std::min(p.chunk, width) : width;
    if (!is_partial(*vector)) continue;
    p.partial = std::max(p.partial, width);
    const Ref first = ix::simplify(substitute(at, {{range.get(), index(0)}}));
    if (!is_int(ix::mod(first, index(width)), 0)) p.unaligned = std::max(p.unaligned, width);
  }
}

void AccessShapes::survey_values(const Node& statement, const Node* vector) {
  const bool compound = statement.op == Op::Loop || statement.op == Op::If;
  const size_t first = statement.op == Op::Place ? statement.src.size() : 0;
  const size_t last = compound ? 1 : statement.src.size();
  for (const Node* n : topological(std::span(statement.src).subspan(first, last - first)))
    if (n->op == Op::Load || n->op == Op::Merge) {
      places_[n->src[0].get()].read = true;
      survey_access(*n, vector);
    }
}

void AccessShapes::survey_write(const Node& statement, const Node* vector) {
  const bool declares = statement.op == Op::Place;
  const Node& place = declares ? statement : *statement.src[0];
  PlaceShape& p = places_[&place];
  p.written = true;
  p.read = p.read || statement.op == Op::FoldStep;
  for (const Node* s : open_)
    if (s->op == Op::Loop) p.written_in.push_back(s->src[0].get());
  p.dims = place.src;
  if (!declares) return survey_access(statement, vector);
  p.declared_in = open_.size();
  if (tree::space(place) == Space::Local && vector) p.in.push_back(vector);
}

void AccessShapes::survey(std::span<const Ref> statements, const Node* vector) {
  for (const Ref& s : statements) {
    survey_values(*s, vector);
    if (s->op == Op::Place || s->op == Op::Store || s->op == Op::FoldStep) {
      survey_write(*s, vector);
    } else if (s->op == Op::Loop || s->op == Op::If) {
      open_.push_back(s.get());
      survey(std::span(s->src).subspan(1), is_vector(*s) ? s.get() : vector);
      open_.pop_back();
    }
  }
}

/// Rows of whole vectors, so that no two accesses overlap: then each stays in a register. Of the widest ones that have lanes
/// switched off, since what these leave behind a row must not be the next row.
void AccessShapes::lay_out(const Node& place, PlaceShape& p) const {
  if (tree::space(place) != Space::Local) return;
  constexpr int64_t most = int64_t{1} << 40;  // elements: who declares a larger place says that it cannot
  for (Ref& d : p.dims) d = index(std::min(d->bounds.hi, most));
  if (!p.partial || p.dims.empty()) return;
  const int64_t row = const_int(*p.dims.back());
  p.dims.back() = index((row + p.partial - 1) / p.partial * p.partial);
}

// ---- facts

bool AccessShapes::is_of_vectors(const Node& place, const Node& vector) const {
  return std::ranges::count(this->place(place).in, &vector) > 0;
}

bool AccessShapes::varies(const Ref& value, const Node& vector) const {
  for (const Node* n : topological(std::span(&value, 1))) {
    if (n == vector[0].get()) return true;
    if ((n->op == Op::Load || n->op == Op::Merge) && is_of_vectors(*n->src[0], vector)) return true;
  }
  return false;
}

Ref AccessShapes::position(const Node& access, const Node& vector) const {
  const Ref element = ix::flatten(tree::at(access), place(*access.src[0]).dims);
  if (!is_of_vectors(*access.src[0], vector)) return element;
  return ix::add(ix::mul(element, tree::width(vector)), vector[0]);
}

Ref AccessShapes::position_of_run(const Node& access, const Node& vector, int64_t first, int64_t run) const {
  const Ref step = ix::range(run, "run");
  const Substitution lanes{{vector[0].get(), ix::add(step, first)}};
  std::vector<Ref> at(tree::at(access).begin(), tree::at(access).end());
  for (Ref& i : at) i = replace(i, lanes);
  const std::optional<Along> found = along(ix::flatten(at, place(*access.src[0]).dims), step);
  return found && found->apart == 1 ? found->start : Ref();
}

/// The lanes that lie side by side wherever the loops around are at: half of them or a quarter, 0 if they do not.
int64_t AccessShapes::run_of(const Node& access, const Node& vector) const {
  constexpr int64_t shortest = 4;
  const int64_t width = tree::width(vector);
  for (int64_t run = width / 2; run >= std::max(shortest, width / 4); run /= 2) {
    int64_t first = 0;
    while (first < width && position_of_run(access, vector, first, run)) first += run;
    if (first >= width) return run;
  }
  return 0;
}

AccessShapes::Facts AccessShapes::facts_of(Ref position, std::vector<Ref> guards, const Node& vector) const {
  Facts f{.vector = &vector, .position = std::move(position)};
  std::vector<Ref> roots;
  int64_t width = tree::width(vector);
  for (const ix::Term& t : ix::sum_of(f.position).terms) {
    if (t.base == vector[0]) {
      f.stride = t.k;
    } else if (varies(t.base, vector)) {
      const bool shares =
          t.k == 1 && t.base->op == Op::IDiv && t.base->src[0] == vector[0] && t.base->src[1]->is_const();
      f.group = shares && f.is_even ? const_int(*t.base->src[1]) : 0;
      f.is_even = false;
      roots.push_back(t.base);
    }
  }
  if (f.stride || f.group <= 1 || width % f.group != 0) f.group = 0;
  for (const Ref& g : guards) {
    if (is_int(g, 1)) continue;
    f.by_lane = f.by_lane || varies(g, vector);
    roots.push_back(g);
    f.guards.push_back(g);
  }
  for (const Node* n : topological(roots))
    if (n->op == Op::Range && n != vector[0].get()) f.ranges.push_back(n);
  return f;
}

const AccessShapes::Facts& AccessShapes::facts(const Node& access, const Node& vector) {
  Facts& f = facts_[&access];
  if (f.vector == &vector) return f;
  std::vector<Ref> guards;
  if (access.op == Op::Load)
    if (const Ref condition = tree::guard(access)) split_conjunction(condition, guards);
  f = facts_of(position(access, vector), std::move(guards), vector);
  f.access = Ref(&access);
  if (access.op == Op::Load && !f.is_even && !is_of_vectors(*access.src[0], vector))
    f.run = run_of(access, vector);
  return f;
}

Ref in_copies(const Ref& value, const AccessScope& scope) {
  Substitution at;
  if (scope.vector)
    at.emplace((*scope.vector)[0].get(), (*scope.vector)[0]);  // as it is, if its extent varies too
  for (const UnrolledCopy& c : scope.copies) at.emplace(c.range, index(c.at));
  return replace(value, at);
}

/// What holds in the copies of unrolled loops that the access is in.
AccessShapes::Facts AccessShapes::in_copy(const Facts& f, const AccessScope& scope) const {
  std::vector<Ref> guards;
  for (const Ref& g : f.guards) guards.push_back(in_copies(g, scope));
  Facts own = facts_of(f.is_even ? f.position : in_copies(f.position, scope), std::move(guards), *f.vector);
  own.position = f.position;
  own.run = own.is_even ? 0 : f.run;
  return own;
}

// ---- shapes

/// Lanes far apart, while the copies of an unrolled loop lie side by side: that loop, if the access is in a whole block, as many
/// words wide as there are lanes.
const Node* AccessShapes::block_along(const AccessScope& scope, const Facts& f, int64_t in_word) const {
  constexpr int64_t least = 4, most = 16;  // lanes: of more, a block does not fit the registers
  const int64_t width = tree::width(*scope.vector), side = width * in_word;
  if (width < least || width > most) return nullptr;
  for (const UnrolledCopy& c : scope.copies.subspan(scope.straight)) {
    int64_t apart = 0;
    if (c.at / side * side + side <= c.count && ix::affine(f.position, Ref(c.range), apart) && apart == 1)
      return c.range;
  }
  return nullptr;
}

/// Lanes side by side. A local place has room for lanes that are beyond the vector loop's extent, but not for others that are
/// switched off, which may lie before it too.
AccessShape AccessShapes::in_order(const Node& n, const AccessScope& scope, const Facts& f,
                                   int64_t stride) const {
  const bool has_room = tree::space(*n.src[0]) == Space::Local && stride == 1 && !scope.branch && !f.by_lane;
  AccessShape out{.kind = stride == 1 ? AccessKind::Contiguous : AccessKind::Reversed, .stride = stride};
  if (!has_room) out.mask = {is_partial(*scope.vector), scope.branch, f.by_lane};
  return out;
}

AccessShape AccessShapes::load(const Node& n, const AccessScope& scope, const Facts& f) const {
  const PlaceShape& p = place(*n.src[0]);
  const AccessMask lanes{is_partial(*scope.vector), scope.branch, f.by_lane};
  AccessShape out{.kind = AccessKind::Gather, .stride = f.is_even ? f.stride : 0};
  const auto is = [&](AccessKind kind, const AccessMask& mask) {
    return out.kind = kind, out.mask = mask, out;
  };
  if (!f.is_even && !lanes.any() && f.run) return out.run = f.run, is(AccessKind::Runs, {});
  if (!f.is_even && !lanes.any() && f.group) return out.run = f.group, is(AccessKind::Groups, {});
  if (!f.is_even) return is(AccessKind::Gather, lanes);
  if (f.stride == 0) return is(AccessKind::Uniform, f.by_lane ? lanes : AccessMask{});
  if (std::abs(f.stride) == 1) return in_order(n, scope, f, f.stride);
  for (const int64_t in_word : {word_bytes / std::max<int64_t>(item_size(n.dtype), 1), int64_t{1}}) {
    if (lanes.extent || lanes.branch || !f.guards.empty() || in_word < 1) continue;
    const Node* loop = block_along(scope, f, in_word);
    if (!loop || std::ranges::count(p.written_in, loop)) continue;
    out.along = loop;
    return out.run = in_word > 1 ? in_word : 0, is(AccessKind::Block, {});
  }
  return f.stride == 2 && !lanes.any() ? is(AccessKind::Pairs, {}) : is(AccessKind::Gather, lanes);
}

/// Whether a store of lanes side by side, or of the rows of a block, writes whole lines of a large result that the kernel does
/// not read.
bool AccessShapes::goes_past_caches(const Node& n, const AccessScope& scope, const Facts& f,
                                    const Node* along) const {
  const Node& target = *n.src[0];
  const PlaceShape& p = place(target);
  if (tree::space(target) != Space::Param || p.read) return false;
  const int64_t item = item_size(target.dtype), in_line = line_bytes / std::max<int64_t>(item, 1);
  if (item == 0 || tree::width(*scope.vector) % in_line != 0) return false;
  int64_t elements = 1;
  for (const Ref& d : p.dims) elements *= d->is_const() ? const_int(*d) : 0;
  if (elements < past_caches_bytes / item || (along && f.stride % in_line != 0)) return false;
  Substitution first{{(*scope.vector)[0].get(), index(0)}};
  if (along) first.emplace(along, index(0));  // a block begins at a multiple of its width
  return is_multiple(replace(f.position, first), in_line);
}

AccessShape AccessShapes::store(const Node& n, const AccessScope& scope, const Facts& f) const {
  const PlaceShape& p = place(*n.src[0]);
  const bool local = tree::space(*n.src[0]) == Space::Local;
  const bool one_lane = (*scope.vector)[0]->bounds.hi == 0;  // of which the index algebra says that it is 0
  AccessShape out{.kind = AccessKind::Gather, .stride = f.is_even ? f.stride : 0};
  out.mask = {is_partial(*scope.vector), scope.branch, false};
  if (!f.is_even) return out;
  if (f.stride == 0 && one_lane) out.stride = 1;
  if (out.stride == 0) return out.kind = AccessKind::Uniform, out;
  if (std::abs(out.stride) > 1) {
    if (!out.mask.any() && !local && !p.read && (out.along = block_along(scope, f, 1)))
      out.kind = AccessKind::Block;
    out.past_caches = out.along && goes_past_caches(n, scope, f, out.along);
    return out;
  }
  out.kind = out.stride == 1 ? AccessKind::Contiguous : AccessKind::Reversed;
  out.past_caches = out.stride == 1 && !out.mask.any() && goes_past_caches(n, scope, f, nullptr);
  if (!local || scope.branch) return out;
  if (!p.mixed || is_of_vectors(*n.src[0], *scope.vector))
    return out.mask = {}, out;  // what lanes that are off leave there is read by none
  out.is_blend = out.mask.extent && out.stride == 1;
  return out;
}

AccessShape AccessShapes::fold(const Node& n, const AccessScope& scope, const Facts& f) const {
  AccessShape out = store(n, scope, f);
  if (out.kind != AccessKind::Contiguous && out.kind != AccessKind::Reversed)
    return {.kind = AccessKind::InTurn, .stride = out.stride, .mask = out.mask};
  // What is read before lies where it is written.
  out.read = in_order(n, scope, f, out.stride).mask;
  return out;
}

AccessShape AccessShapes::of(const Node& access, const AccessScope& scope) {
  if (!scope.vector) return {};
  const Facts* f = &facts(access, *scope.vector);
  const auto is_open = [&](const Node* range) {
    return std::ranges::any_of(scope.copies, [&](const UnrolledCopy& c) { return c.range == range; });
  };
  Facts own;
  if (std::ranges::any_of(f->ranges, is_open)) f = &(own = in_copy(*f, scope));
  if (access.op == Op::Load) {
    AccessShape out = load(access, scope, *f);
    const auto ahead = ahead_.find(&access);
    const bool whole = out.kind == AccessKind::Contiguous || out.kind == AccessKind::Block;
    if (ahead != ahead_.end() && whole && !out.mask.any()) out.ahead = ahead->second;
    return out;
  }
  return access.op == Op::Store ? store(access, scope, *f) : fold(access, scope, *f);
}

}  // namespace kontor
