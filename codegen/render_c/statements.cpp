// Statements and the loops of C.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/renderer.h"
#include "graph/index/index.h"

namespace kontor::clike {

/// The statements of a Loop or If in the frame that is open: what they write is marked as written in it.
void Renderer::scope(const Node& n, std::span<const Ref> list, bool loops) {
  std::vector<std::pair<PlaceState*, int>> saved;
  for (const Node* place : writes_[&n]) {
    PlaceState& p = places_[place];
    saved.emplace_back(&p, std::exchange(p.write_level, top()));
    if (loops) touch(p);  // what was read before the loop is not what its second iteration reads
  }
  body(list);
  for (auto it = saved.rbegin(); it != saved.rend(); ++it) it->first->write_level = it->second;
}

/// How often the body folds, if it does nothing else and that is known; else 0.
int64_t fold_steps(std::span<const Ref> body) {
  int64_t steps = 0;
  for (const Ref& s : body) {
    if (s->op == Op::FoldStep) {
      steps++;
      continue;
    }
    const bool known = s->op == Op::Loop && s->src[0]->src[0]->is_const();
    const int64_t inside = known ? fold_steps(tree::body(*s)) : 0;
    if (inside == 0) return 0;
    steps += tree::kind(*s) == LoopKind::Lane ? inside : inside * extent(s->src[0]->src[0]);
  }
  return steps;
}

/// The steps of a fold depend on each other, what they read does not: loads of so many steps are to be under way together.
/// With 32 of them 256 warps, which are what a sum cut in the promised pieces may come to, hide the latency of memory.
int64_t turns_together(std::span<const Ref> body) {
  constexpr int64_t under_way = 32;
  const int64_t steps = fold_steps(body);
  if (steps == 0 || steps > under_way) return 1;
  return static_cast<int64_t>(
      std::bit_floor(static_cast<uint64_t>(std::min<int64_t>(under_way / steps, 16))));
}

void Renderer::loop(const Node& n) {
  if (open_matrices(n)) {
    loop(n);
    return close_matrices();
  }
  if (tree::kind(n) == LoopKind::Lane) return lane_loop(n);
  if (tree::kind(n) == LoopKind::Local) return local_loop(n);
  if (tree::kind(n) == LoopKind::Matrix) return matrix_loops(n);
  plain_loop(n);
}

void Renderer::plain_loop(const Node& n) {
  const Ref& extent = n.src[0]->src[0];
  if (is_int(extent, 0)) return;
  if (is_int(extent, 1)) {
    ranges_[n.src[0].get()] = {{fmt::format("0{}", c_.dialect().i64_suffix)}, top()};
    memo_.erase(n.src[0].get());
    const bool copies = copies_ahead(n);
    copying_ += copies;
    body(tree::body(n));
    copying_ -= copies;
    if (copies) end_copies();
    return;
  }
  std::string end = extent->is_const() ? fmt::format("{}", const_int(*extent)) : in(value(extent), Shift);
  const PlacesUsed before = since_barrier_;
  const std::vector<const Node*> wide = open_wide(n);
  if (std::ranges::all_of(tree::body(n), [&](const Ref& s) { return copied_.contains(s.get()); }))
    return close_wide(wide);
  open(extent->bounds.lo < 1);
  std::string i = unique(n.src[0]->arg.text, top());
  ranges_[n.src[0].get()] = {{i}, top()};
  const bool copies = copies_ahead(n);
  copying_ += copies;
  scope(n, tree::body(n), true);
  copying_ -= copies;
  if (copies) end_copies();
  std::string head = fmt::format("for ({} {} = 0; {} < {}; {}++) {{", type_of(*n.src[0]), i, i, end, i);
  if (tree::kind(n) == LoopKind::Unroll && !c_.dialect().items) line(top() - 1, "#pragma unroll");
  const int64_t together = c_.dialect().gpu ? turns_together(tree::body(n)) : 1;
  if (tree::kind(n) != LoopKind::Unroll && together > 1)
    line(top() - 1, fmt::format("#pragma unroll {}", together));
  close(head);
  if (extent->bounds.lo < 1) since_barrier_.join(before);  // it may not have run
  close_wide(wide);
}

/// What each thread of a warp does for itself; in the last turn some may have nothing to do.
void Renderer::lane_loop(const Node& n) {
  const Ref root(&n);
  for (const Node* inside : topological(std::span(&root, 1)))
    if (inside->op == Op::Merge) value(Ref(inside));  // all threads join in it
  in_lanes_ = true;
  plain_loop(n);
  in_lanes_ = false;
  const auto& written = writes_[&n];
  const auto is_seen = [&](const Node* place) { return !places_[place].local && places_[place].read; };
  if (std::any_of(written.begin(), written.end(), is_seen)) line("__syncwarp();");
}

/// The iteration of the parallel loop that a thread is of.
std::string Renderer::item() const {
  const std::string_view id = c_.dialect().id;
  if (!thread_.empty()) return "blockIdx.x";
  return lane_.empty() ? std::string(id) : fmt::format("({}) / {}", id, warp);
}

void Renderer::parallel(const Node& n) {
  const std::string_view type = c_.variable_type(DType::I64);
  if (c_.dialect().items) {
    const std::string i = unique(n.src[0]->arg.text, top());
    open(true);
    ranges_[n.src[0].get()] = {{i}, top()};
    scope(n, tree::body(n), true);
    return close(fmt::format("for ({} {} = begin; {} < end; {}++) {{", type, i, i, i));
  }
  const Ref& extent = n.src[0]->src[0];
  std::string end = extent->is_const() ? fmt::format("{}", const_int(*extent)) : in(value(extent), Shift);
  std::string i = unique(n.src[0]->arg.text, top());
  line(fmt::format("const {} {} = {};", type_of(*n.src[0]), i, item()));
  open(true);
  ranges_[n.src[0].get()] = {{i}, top()};
  scope(n, tree::body(n), false);
  close(fmt::format("if ({} < {}) {{", i, end));
}

void Renderer::branch(const Node& n) {
  if (n.src[0]->is_const()) return body(const_int(*n.src[0]) ? tree::then_body(n) : tree::else_body(n));
  std::string condition = value(n.src[0]).text;
  open(true);
  const PlacesUsed before = since_barrier_;
  scope(n, tree::then_body(n), false);
  bool both = !tree::else_body(n).empty();
  const PlacesUsed after = std::exchange(since_barrier_, before);
  if (!both) {
    since_barrier_.join(after);  // it may not have run
    return close(fmt::format("if ({}) {{", condition));
  }
  close(fmt::format("if ({}) {{", condition), "} else {");
  open(true);
  scope(n, tree::else_body(n), false);
  since_barrier_.join(after);
  std::string code = std::move(frames_.back().code);
  frames_.pop_back();
  frames_.back().code += code;
  line("}");
}

/// Writes the fold's identity into all elements.
void Renderer::fill(const PlaceState& p, const Node& place, const Text& count) {
  for (size_t part = 0; part < tree::parts(place); part++) {
    Text identity = c_.literal(*kontor::identity(tree::fold_of(place), place.dtype, part));
    if (p.local && c_.dialect().gpu)
      line("#pragma unroll");  // else an array in registers becomes one in memory
    if (!p.local) identity = c_.to_memory(place.dtype, identity);
    line(fmt::format("for ({0} {1} = 0; {1} < {2}; {1}++) {3}[{1}] = {4};", c_.variable_type(DType::I64),
                     unique("at", top()), in(count, Shift), name_of(p, part), identity.text));
  }
}

void Renderer::declare(const Node& n) {
  if (tree::space(n) == Space::Param) {
    PlaceState& p = place_of(n);
    touch(p);
    roots_.push_back(ix::product(tree::dims(n)));  // the memo knows nodes by their address
    return fill(p, n, value(roots_.back()));
  }
  PlaceState& p = places_[&n];
  p.name = unique(n.arg.text, top());
  p.parts.clear();
  for (size_t part = 0; part < tree::parts(n) && tree::parts(n) > 1; part++)
    p.parts.push_back(unique(fmt::format("{}_{}", p.name, row(tree::fold_of(n)).part[part].name), top()));
  p.level = p.write_level = top();
  touch(p);
  int64_t count = 1;
  for (const Ref& d : p.dims) count *= const_int(*d);
  if (p.shared) count = tree::shared_elements(n);
  for (size_t part = 0; part < tree::parts(n); part++) {
    const DType dtype = tree::part_dtype(n, part);
    const std::string_view type = p.shared ? c_.memory_type(dtype) : c_.variable_type(dtype);
    const std::string& name = name_of(p, part);
    std::string start;
    if (p.dims.empty() && tree::has_fold(n))
      start = " = " + c_.literal(*kontor::identity(tree::fold_of(n), n.dtype, part)).text;
    if (p.dims.empty()) {
      line(fmt::format("{} {}{};", type, name, start));
      continue;
    }
    if (p.shared && is_shared_given()) {
      line(fmt::format("{0}* {1} = ({0}*)(shared + {2});", type, name, shared_at_));
      shared_at_ += shared_bytes(n);
      continue;
    }
    const bool is_own = p.own && !p.shared;  // perhaps of words as memory has them
    line(fmt::format("{}{} {}[{}];",
                     p.shared ? "__shared__ __align__(16) "
                     : is_own ? "__align__(16) "
                              : "",
                     type, name, std::max<int64_t>(count, 1)));
  }
  if (tree::has_fold(n) && !p.dims.empty()) fill(p, n, {fmt::format("{}", count)});
}

void Renderer::write(const Node& n) {
  if (copied_.contains(&n)) return;
  const Node& place = *n.src[0];
  PlaceState& p = place_of(place);
  std::vector<Text> v;
  value(place_within(n));
  for (const Ref& x : tree::values(n)) v.push_back(value(x));
  for (size_t i = 0; i < v.size() && tree::parts(place) > 1; i++) {  // each part's formula reads it
    if (v[i].text.size() <= 20) continue;
    const std::string name = fmt::format("v{}", values_++);
    line(fmt::format("const {} {} = {};", c_.variable_type(tree::values(n)[i]->dtype), name, v[i].text));
    v[i] = {name};
  }
  State to, out = {v[0]};
  for (size_t i = 0; i < tree::parts(place); i++) to.push_back(element(n, i));
  if (n.op == Op::FoldStep) {
    for (size_t i = 0; i < to.size(); i++)
      v.insert(v.begin() + static_cast<ptrdiff_t>(i),
               p.in_memory() ? c_.from_memory(tree::part_dtype(place, i), to[i]) : to[i]);
    out = applied(place, "step", step_formulas(tree::fold_of(place), place.dtype), v);
  }
  for (size_t i = 0; i < to.size() && p.in_memory(); i++)
    out[i] = c_.to_memory(tree::part_dtype(place, i), out[i]);
  for (const std::string& s : assigned(place, to, out)) write_line(p, s);
  touch(p);
}

/// What all threads of a warp or a group compute, one of them writes to memory, after all have read what was there.
void Renderer::write_line(const PlaceState& p, const std::string& text) {
  if (!thread_.empty() && !in_nest_ && p.in_memory()) {
    since_barrier_ = {};
    line("__syncthreads();");
    line(fmt::format("if ({} == 0) {}", thread_, text));
    return line("__syncthreads();");
  }
  if (lane_.empty() || p.local || in_lanes_) return line(text);
  line("__syncwarp();");
  line(fmt::format("if ({} == 0) {}", lane_, text));
  line("__syncwarp();");
}

void Renderer::statement(const Node& n) {
  const bool is_together = !thread_.empty() && !in_nest_;
  if (is_together) keep_order(n);
  one_statement(n);
  if (is_together && copying_ == 0 && !begun_.empty()) end_copies();
}

void Renderer::one_statement(const Node& n) {
  switch (n.op) {
    case Op::Place:    return declare(n);
    case Op::Loop:     return loop(n);
    case Op::If:       return branch(n);
    case Op::Store:
    case Op::FoldStep: return write(n);
    case Op::Check:    {
      if (is_int(n.src[0], 1)) return;
      Text ok = value(n.src[0]), word = value(n.src[1]);
      return line(fmt::format("if (!{}) *error = {};", in(ok, Primary), word.text));
    }
    default: broken("C renderer: {} is no statement", row(n.op).name);
  }
}

void Renderer::body(std::span<const Ref> list) {
  for (const Ref& s : list) statement(*s);
}

}  // namespace kontor::clike
