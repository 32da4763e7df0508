// What must be known before a line is written: places written in each scope, uses of each value.

#include "base/error.h"

#include <unordered_map>
#include "codegen/render_c/renderer.h"
#include "graph/index/index.h"

namespace kontor::clike {

static int64_t upper_bound(const Ref& dim, const Node& place) {
  int64_t hi = dim->bounds.hi;
  if (hi < 0 || hi > (int64_t{1} << 40))
    broken("C renderer: place '{}' has a dimension without a static bound", place.arg.text);
  return hi;
}

void Renderer::survey_roots(const Node& s) {
  switch (s.op) {
    case Op::Place: break;
    case Op::Loop:  roots_.push_back(s.src[0]->src[0]); break;
    case Op::If:    roots_.push_back(s.src[0]); break;
    case Op::Check: roots_.insert(roots_.end(), s.src.begin(), s.src.end()); break;
    default:
      roots_.push_back(position(s));
      for (const Ref& v : tree::values(s)) roots_.push_back(v);
  }
}

/// Of a place's dimensions, or indexes, those that are not the thread's number.
static std::vector<Ref> of_thread(const PlaceState& p, std::span<const Ref> all) {
  std::vector<Ref> out;
  for (size_t d = 0; d < all.size(); d++) {
    const int i = static_cast<int>(d);
    if (!p.own || (!p.own->thread[d] && i != p.own->row && i != p.own->column)) out.push_back(all[d]);
  }
  return out;
}

void Renderer::survey_places(std::span<const Ref> list) {
  for (const Ref& s : list) {
    if (s->op == Op::Place && tree::space(*s) != Space::Param) {
      PlaceState& p = places_[s.get()];
      p.local = p.written = true;
      p.dims.clear();  // a statement may stand in several places
      p.shared = tree::space(*s) == Space::Shared;
      for (const Ref& d : of_thread(p, s->src)) p.dims.push_back(index(upper_bound(d, *s)));
      if (p.own && p.own->row >= 0) p.dims.push_back(index(matrix_row(*s, *p.own).elements()));
    }
    const Node* written = s->op == Op::Store || s->op == Op::FoldStep ? s->src[0].get()
                          : s->op == Op::Place                        ? s.get()
                                                                      : nullptr;
    if (written) {
      places_[written].written = true;
      for (const Node* open : open_statements_) writes_[open].push_back(written);
    }
    survey_roots(*s);
    if (s->op != Op::Loop && s->op != Op::If) continue;
    open_statements_.push_back(s.get());
    survey_places(std::span(s->src).subspan(1));
    open_statements_.pop_back();
  }
}

const Ref& Renderer::position(const Node& access) {
  Ref& found = positions_[&access];
  if (found) return found;
  const Node& place = *access.src[0];
  auto it = places_.find(&place);
  std::span<const Ref> dims = it != places_.end() && it->second.local ? it->second.dims : tree::dims(place);
  if (access.op == Op::Merge) dims = dims.first(dims.size() - 1);
  std::vector<Ref> at(tree::at(access).begin(), tree::at(access).end());
  if (it != places_.end() && it->second.own) {
    at = of_thread(it->second, at);
    if (it->second.own->row >= 0) at.push_back(element_);
  }
  if (dims.empty()) return found = index(0);
  found = ix::flatten(at, dims);
  if (it != places_.end() && it->second.shared) found = tree::padded(place, found);
  return found;
}

/// Where an access goes: in its place, or in the array that holds what it reads or stores side by side.
const Ref& Renderer::place_within(const Node& access) {
  const auto wide = wide_.find(&access);
  return wide == wide_.end() ? position(access) : wide->second.element;
}

void Renderer::operands(const Node& n, std::vector<const Node*>& out) {
  if (n.op == Op::Range || n.op == Op::Place) return;
  if (n.op != Op::Load && n.op != Op::Merge) {
    for (const Ref& s : n.src) out.push_back(s.get());
    return;
  }
  out.push_back(place_within(n).get());
  if (n.op == Op::Load && tree::guard(n)) out.push_back(n.src.back().get());
}

void Renderer::count_uses() {
  for (const Node* n : topological(std::span(&kernel_, 1)))
    if (n->op == Op::Load || n->op == Op::Merge) places_[n->src[0].get()].read = true;
  std::vector<const Node*> stack, next;
  std::unordered_map<const Node*, bool> seen;
  for (const Ref& r : roots_) uses_[r.get()]++, stack.push_back(r.get());
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    if (std::exchange(seen[n], true)) continue;
    next.clear();
    operands(*n, next);
    for (const Node* o : next) uses_[o]++, stack.push_back(o);
  }
}

}  // namespace kontor::clike
