// Makers and readers of loop trees.
#include "codegen/tree/tree.h"

#include <algorithm>

#include "base/error.h"
#include "codegen/tree/groups.h"
#include "graph/index/index.h"

namespace kontor {

std::string_view name(LoopKind kind) {
  static constexpr std::string_view names[] = {"loop",   "thread", "global", "local",
                                               "matrix", "lane",   "unroll", "vector"};
  return names[static_cast<int>(kind)];
}

namespace tree {

static std::vector<Ref> join(std::initializer_list<Ref> head, std::span<const Ref> middle,
                             std::span<const Ref> end = {}) {
  std::vector<Ref> out(head);
  out.insert(out.end(), middle.begin(), middle.end());
  out.insert(out.end(), end.begin(), end.end());
  return out;
}

static Ref make_place(DType dtype, std::vector<Ref> dims, Space space, int64_t number,
                      const std::string& name, int fold, std::initializer_list<int64_t> more = {}) {
  Arg arg{.ints = {fresh_id(), static_cast<int64_t>(space), fold, number}, .text = name};
  arg.ints.insert(arg.ints.end(), more);
  return make(Op::Place, std::move(dims), std::move(arg), dtype);
}

Ref param(DType dtype, std::vector<Ref> dims, int64_t number, const std::string& name, int fold) {
  return make_place(dtype, std::move(dims), Space::Param, number, name, fold);
}
Ref place(DType dtype, std::vector<Ref> dims, const std::string& name, int fold) {
  return make_place(dtype, std::move(dims), Space::Local, -1, name, fold);
}
Ref shared_place(DType dtype, std::vector<Ref> dims, const std::string& name, const SharedAs& how) {
  return make_place(dtype, std::move(dims), Space::Shared, -1, name, -1,
                    {how.pad ? how.row : 0, how.pad, how.ahead});
}
Ref loop(LoopKind kind, const Ref& range, std::vector<Ref> body, int64_t width) {
  return make(Op::Loop, join({range}, body), {.ints = {static_cast<int64_t>(kind), width}});
}
Ref branch(const Ref& condition, std::vector<Ref> then_body, std::vector<Ref> else_body) {
  int64_t n = static_cast<int64_t>(then_body.size());
  return make(Op::If, join({condition}, then_body, else_body), {.ints = {n}});
}
Ref store(const Ref& place, std::vector<Ref> at, const Ref& value) {
  return make(Op::Store, join({place}, at, std::span(&value, 1)));
}
Ref fold(const Ref& place, std::vector<Ref> at, std::vector<Ref> values) {
  return make(Op::FoldStep, join({place}, at, values));
}
Ref error_word(int64_t id, const Ref& value) {
  if (!value) return index(id);
  Ref cut = make(Op::Max, {make(Op::Min, {value, index(most_shown)}), index(-most_shown)});
  return make(Op::Or, {make(Op::Shl, {cut, index(check_id_bits)}), index(id)});
}

Ref shown_by(const Node& check) {
  if (check[1]->op != Op::Or) return {};
  Ref value = check[1]->src[0]->src[0];
  for (const auto& [op, end] : {std::pair{Op::Max, -most_shown}, std::pair{Op::Min, most_shown}})
    if (value->op == op && is_int(value->src[1], end)) value = Ref(value->src[0]);
  return value;
}

Ref check(const Ref& condition, int64_t id, const Ref& value) {
  return make(Op::Check, {condition, error_word(id, value)}, {.ints = {id}});
}
Ref load(const Ref& place, std::vector<Ref> at, const Ref& guard, size_t part) {
  const bool guarded = guard && !is_int(guard, 1);
  Arg arg{.ints = {guarded}};
  if (part) arg.ints.push_back(static_cast<int64_t>(part));
  return make(Op::Load, join({place}, at, std::span(&guard, guarded ? 1 : 0)), std::move(arg));
}
Ref merge(const Ref& place, std::vector<Ref> leading, size_t part) {
  Arg arg;
  if (part) arg.ints.push_back(static_cast<int64_t>(part));
  return make(Op::Merge, join({place}, leading), std::move(arg));
}
Ref kernel(const std::string& name, std::vector<Ref> params, std::vector<Ref> body) {
  int64_t n = static_cast<int64_t>(params.size());
  return make(Op::Kernel, join({}, params, body), {.ints = {n}, .text = name});
}
Ref slot(DType dtype, int64_t number, Bounds bounds) {
  std::vector<int64_t> ints = {number};
  if (bounds != Bounds{}) ints.insert(ints.end(), {bounds.lo, bounds.hi});
  return make(Op::Slot, {}, {.ints = std::move(ints)}, dtype);
}

LoopKind kind(const Node& loop) { return static_cast<LoopKind>(loop.at(0)); }
int64_t width(const Node& loop) { return loop.at(1); }
std::span<const Ref> body(const Node& n) {
  return std::span(n.src).subspan(n.op == Op::Kernel ? static_cast<size_t>(n.at(0)) : 1);
}
std::span<const Ref> then_body(const Node& n) {
  return std::span(n.src).subspan(1, static_cast<size_t>(n.at(0)));
}
std::span<const Ref> else_body(const Node& n) {
  return std::span(n.src).subspan(1 + static_cast<size_t>(n.at(0)));
}
std::span<const Ref> dims(const Node& place) { return place.src; }
Space space(const Node& place) { return static_cast<Space>(place.at(1)); }
bool has_fold(const Node& place) { return place.at(fold_int) >= 0; }
Fold fold_of(const Node& place) { return static_cast<Fold>(place.at(fold_int)); }
int64_t param_number(const Node& place) { return place.at(3); }
std::pair<const Node*, const Node*> halves(const Node& word) {
  const auto load_under = [](const Node* n) {
    while (n->op == Op::Cast || n->op == Op::Bitcast) n = n->src[0].get();
    return n->op == Op::Load && item_size(n->src[0]->dtype) == 2 ? n : nullptr;
  };
  if (word.op != Op::Or || word.dtype != DType::U32 || word.src[1]->op != Op::Shl ||
      !is_int(word.src[1]->src[1], kontor::row(DType::U16).bits))
    return {};
  const Node *low = load_under(word.src[0].get()), *high = load_under(word.src[1]->src[0].get());
  if (!low || !high || low->src[0] != high->src[0]) return {};
  return {low, high};
}
SharedAs shared_as(const Node& place) { return {place.at(4), place.at(5), place.at(6)}; }
Ref padded(const Node& place, const Ref& number) {
  const SharedAs how = shared_as(place);
  return how.pad == 0 ? number : ix::add(number, ix::mul(ix::idiv(number, how.row), how.pad));
}
int64_t shared_elements(const Node& place) {
  int64_t count = 1;
  for (const Ref& d : dims(place)) count *= d->bounds.hi;
  const SharedAs how = shared_as(place);
  return how.pad == 0 ? count : count + count / how.row * how.pad;
}
std::span<const Ref> params(const Node& kernel) {
  return std::span(kernel.src).first(static_cast<size_t>(kernel.at(0)));
}
std::span<const Ref> at(const Node& n) {
  size_t rank = n.src[0]->src.size() - (n.op == Op::Merge ? 1 : 0);
  return std::span(n.src).subspan(1, rank);
}
std::span<const Ref> values(const Node& n) { return std::span(n.src).subspan(1 + n.src[0]->src.size()); }
Ref guard(const Node& load) { return load.at(0) ? load.src.back() : Ref(); }
size_t part(const Node& n) { return part_of_access(n.op, n.arg); }
size_t parts(const Node& place) { return has_fold(place) ? kontor::parts(fold_of(place)) : 1; }
DType part_dtype(const Node& place, size_t part) {
  return part ? kontor::part_dtype(fold_of(place), place.dtype, part) : place.dtype;
}

std::vector<Ref> slots(const Ref& kernel) {
  std::vector<Ref> found;
  for (const Node* n : topological(std::span(&kernel, 1)))
    if (n->op == Op::Slot) found.push_back(Ref(n));
  std::sort(found.begin(), found.end(), [](const Ref& a, const Ref& b) { return a->at(0) < b->at(0); });
  return found;
}

static const Node* find_parallel(std::span<const Ref> body) {
  for (const Ref& s : body)
    if (s->op == Op::Loop && (kind(*s) == LoopKind::Thread || kind(*s) == LoopKind::Global)) return s.get();
  return nullptr;
}

const Node* parallel_loop(const Node& kernel) { return find_parallel(body(kernel)); }

bool has_lanes(const Node& kernel) {
  const Ref root(&kernel);
  const std::vector<const Node*> nodes = topological(std::span(&root, 1));
  return std::any_of(nodes.begin(), nodes.end(),
                     [](const Node* n) { return n->op == Op::Loop && kind(*n) == LoopKind::Lane; });
}

Ref work_items(const Node& kernel) {
  const Node* loop = parallel_loop(kernel);
  const Ref items = loop ? loop->src[0]->src[0] : index(1);
  return ix::mul(items, index(has_lanes(kernel) ? warp : group_threads(kernel)));
}

}  // namespace tree
}  // namespace kontor
