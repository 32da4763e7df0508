// Renders a loop tree as LLVM IR: statements, loops and branches.
#include <algorithm>

#include "base/error.h"
#include "codegen/render.h"
#include "codegen/render_llvm/renderer.h"
#include "codegen/tree/text.h"
#include "graph/index/index.h"

namespace kontor::ir {

Renderer::Renderer(const Ref& kernel, const Natives& natives)
    : kernel_(kernel), b_(natives), shapes_(kernel) {
  Val buffers = argument(0, Scalar::Ptr);
  for (const auto& [place, shape] : shapes_.places())
    places_[place] = {.dims = shape.dims,
                      .chunk = shape.chunk,
                      .unaligned = shape.unaligned,
                      .written = shape.written,
                      .local = shape.written && tree::space(*place) == Space::Local};
  for (const Ref& p : tree::params(*kernel)) {
    PlaceState& state = places_[p.get()];
    Val at =
        b_.emit({Scalar::Ptr, 0}, "getelementptr ptr, ", typed(buffers), ", i64 ", tree::param_number(*p));
    state.base[0] = b_.emit({Scalar::Ptr, 0}, "load ptr, ", typed(at), ", align 8, !invariant.load !0");
    const Ref size = ix::product(p->src);
    if (size->is_const())
      regions_.push_back({b_.text(state.base[0]), p->arg.text, extent(size) * item_size(p->dtype)});
  }
  survey_writes(tree::body(*kernel));
}

std::string Renderer::render(const std::string& entry) {
  body(tree::body(*kernel_));
  return b_.finish(entry);
}

void Renderer::require_within_places(const std::string& text) const {
  const std::vector<std::string> mistakes = verify_llvm(text, regions_, facts_);
  if (mistakes.empty()) return;
  std::string list;
  for (const std::string& m : mistakes) list += "\n  " + m;
  broken("the LLVM text of kernel {} reaches beyond its places:{}\n{}", kernel_->arg.text, list,
         tree::print(kernel_));
}

/// Which loops and branches write which places.
void Renderer::survey_writes(std::span<const Ref> statements) {
  for (const Ref& s : statements) {
    if (s->op == Op::Place || s->op == Op::Store || s->op == Op::FoldStep) {
      const Node* place = s->op == Op::Place ? s.get() : s->src[0].get();
      for (const Node* open : open_statements_) writes_[open].push_back(place);
    } else if (s->op == Op::Loop || s->op == Op::If) {
      open_statements_.push_back(s.get());
      survey_writes(std::span(s->src).subspan(1));
      open_statements_.pop_back();
    }
  }
}

// ---- scopes: the builder's, and with each a frame of the memo

void Renderer::open_loop(Val begin, Val end) {
  b_.open_loop(begin, end);
  push_frame();
  scope_frames_.push_back(top_frame());
}
void Renderer::close_loop() {
  scope_frames_.pop_back();
  pop_frame();
  b_.close_loop();
}
void Renderer::open_branch(Val condition, bool pins) {
  b_.open_branch(condition, pins);
  push_frame();
  scope_frames_.push_back(top_frame());
}
void Renderer::close_branch() {
  scope_frames_.pop_back();
  pop_frame();
  b_.close_branch();
}

Renderer::Levels Renderer::enter(const Node& scope) {
  Levels saved;
  for (const Node* place : writes_[&scope]) {
    PlaceState& p = places_[place];
    saved.emplace_back(&p, std::exchange(p.write_level, b_.depth()));
  }
  return saved;
}

void Renderer::leave(const Levels& saved) {
  for (auto it = saved.rbegin(); it != saved.rend(); ++it) it->first->write_level = it->second;
}

// ---- loops

void Renderer::counted_loop(const Node& n, Val begin, Val end, bool may_be_empty) {
  if (b_.lanes(end)) broken("LLVM renderer: lanes run a loop for different times");
  if (may_be_empty) open_branch(apply(b_, Op::Lt, DType::I64, {begin, end}), false);
  open_loop(begin, end);
  bindings_[n.src[0].get()] = {b_.counter(), top_frame()};
  Levels saved = enter(n);
  body(tree::body(n));
  leave(saved);
  close_loop();
  if (may_be_empty) close_branch();
}

/// A parallel loop: the iterations of one share.
void Renderer::shared_loop(const Node& n) {
  const Val end = argument(24, Scalar::I64), begin = argument(16, Scalar::I64);
  const Ref& extent = n.src[0]->src[0];
  if (extent->is_const())
    facts_.insert(facts_.end(), {{b_.text(begin), 0}, {b_.text(end), kontor::extent(extent)}});
  counted_loop(n, begin, end, true);
}

void Renderer::unrolled(const Node& n, int64_t count) {
  copies_.push_back({n.src[0].get(), count, 0});
  copy_depths_.push_back(b_.depth());
  blocks_.emplace_back();
  for (int64_t i = 0; i < count; i++) {
    push_frame();
    copies_.back().at = i;
    bindings_[n.src[0].get()] = {b_.i64(i), top_frame()};
    body(tree::body(n));
    pop_frame();
  }
  copies_.pop_back(), copy_depths_.pop_back(), blocks_.pop_back();
}

void Renderer::vector_loop(const Node& n) {
  const Ref& extent = n.src[0]->src[0];
  int width = static_cast<int>(tree::width(n));
  bool power = width > 0 && (width & (width - 1)) == 0;
  if (!power || width > 64 || extent->bounds.hi > width)
    broken("LLVM renderer: a vector loop of width {}", width);
  if (vector_) broken("LLVM renderer: a vector loop inside another");
  push_frame();
  bindings_[n.src[0].get()] = {{}, top_frame()};
  int outer = std::exchange(mask_frame_, top_frame());
  vector_ = width;
  vector_loop_ = &n;
  if (!is_int(extent, width)) {
    active_ = value(extent);
    if (extent->bounds.lo < 0) active_ = apply(b_, Op::Max, DType::I64, {active_, b_.i64(0)});
    mask_ = extent_mask_ = below(active_);
  }
  body(tree::body(n));
  mask_ = extent_mask_ = {};
  vector_ = 0;
  mask_frame_ = outer;
  pop_frame();
}

void Renderer::loop(const Node& n) {
  const Ref& extent = n.src[0]->src[0];
  LoopKind kind = tree::kind(n);
  if (kind == LoopKind::Vector && tree::width(n) > 1) return vector_loop(n);
  if (kind == LoopKind::Thread || kind == LoopKind::Global)
    if (b_.depth() == 0) return shared_loop(n);
  if (kind == LoopKind::Unroll || is_int(extent, 1) || is_int(extent, 0))
    return unrolled(n, kontor::extent(extent));
  counted_loop(n, b_.i64(0), value(extent), extent->bounds.lo < 1);
}

// ---- branches

/// The statements in those lanes that are switched on and for which `lanes` holds.
void Renderer::masked_body(std::span<const Ref> statements, Val lanes) {
  Val outer = mask_;
  int outer_frame = mask_frame_;
  push_frame();
  mask_frame_ = top_frame();
  mask_ = both(lanes, outer);
  body(statements);
  pop_frame();
  mask_ = outer;
  mask_frame_ = outer_frame;
}

/// Lanes take both ways, each with its mask; what all lanes share is a branch around that.
void Renderer::masked_branch(const Node& n, const Guard& condition) {
  if (condition.uniform) open_branch(condition.uniform, true);
  Levels saved = condition.uniform ? enter(n) : Levels{};
  masked_body(tree::then_body(n), condition.lanes);
  bool other = !tree::else_body(n).empty();
  if (other) masked_body(tree::else_body(n), apply(b_, Op::Not, DType::Bool, {condition.lanes}));
  leave(saved);
  if (condition.uniform) close_branch();
  if (other && condition.uniform)
    branch_body(n, apply(b_, Op::Not, DType::Bool, {condition.uniform}), tree::else_body(n));
}

void Renderer::branch_body(const Node& n, Val condition, std::span<const Ref> statements) {
  open_branch(condition, true);
  Levels saved = enter(n);
  body(statements);
  leave(saved);
  close_branch();
}

void Renderer::branch(const Node& n) {
  Guard condition;
  guard_of(n.src[0], condition);
  Val uniform = condition.uniform ? condition.uniform : b_.boolean(true);
  int64_t known = 0;
  bool decided = b_.constant(uniform, known);
  if (decided && !known) return body(tree::else_body(n));
  if (decided) condition.uniform = {};
  if (condition.lanes) return masked_branch(n, condition);
  if (decided) return body(tree::then_body(n));
  Val otherwise = tree::else_body(n).empty() ? Val{} : apply(b_, Op::Not, DType::Bool, {uniform});
  branch_body(n, uniform, tree::then_body(n));
  if (otherwise) branch_body(n, otherwise, tree::else_body(n));
}

void Renderer::check(const Node& n) {
  Val bad = apply(b_, Op::Not, DType::Bool, {value(n.src[0])});
  if (int64_t known = 0; b_.constant(bad, known) && !known) return;
  Val word = value(n.src[1]);
  if (int lanes = std::max(b_.lanes(bad), b_.lanes(word))) {  // the greatest word of those that failed
    bad = both(b_.splat(bad, lanes), mask_);
    lanes = b_.lanes(bad);  // a lane of an index may stand for several of the mask's
    if (b_.lanes(word)) {
      const Val other =
          apply(b_, Op::Where, DType::I64, {bad, b_.splat(word, lanes), b_.splat(b_.i64(INT64_MIN), lanes)});
      word = b_.call("vector.reduce.smax", b_.type(other), {Scalar::I64, 0}, {other});
    }
    bad = any(bad);
  }
  Val error = argument(40, Scalar::Ptr);
  open_branch(bad, true);
  b_.effect("store atomic ", typed(word), ", ", typed(error), " monotonic, align 8");
  close_branch();
}

// ---- folds

/// One lane's step: read, step, write.
void Renderer::fold_at_lane(const Access& a, const Node& place, std::span<const Val> v, Val index, Val lane) {
  auto pick = [&](Val x) {
    return b_.lanes(x) ? b_.emit({b_.type(x).of, 0}, "extractelement ", typed(x), ", ", typed(lane)) : x;
  };
  Access one{a.place, {}, a.dtype};
  add_term(one.at, pick(index), 1);
  std::vector<Val> values;
  for (Val x : v) values.push_back(pick(x));
  a.place->write_level = b_.depth();
  for_parts(one, place, step(place, load_state(one, place, 0), values),
            [&](const Access& part, Val next) { store_text(part, address(part), next, alignment(part, 0)); });
}

/// Lanes that may meet in one element take their steps one after the other.
void Renderer::fold_by_lane(const Access& a, const Node& place, std::span<const Val> v) {
  Val index = b_.splat(materialise(a.at), vector_), mask = std::exchange(mask_, {});
  int level = a.place->write_level;
  open_loop(b_.i64(0), b_.i64(std::exchange(vector_, 0)));
  Val lane = b_.counter();
  if (mask) open_branch(b_.emit({Scalar::I1, 0}, "extractelement ", typed(mask), ", ", typed(lane)), true);
  fold_at_lane(a, place, v, index, lane);
  if (mask) close_branch();
  close_loop();
  a.place->write_level = level;
  mask_ = mask;
}

void Renderer::fold(const Node& n) {
  const Node& place = *n.src[0];
  const AccessShape shape = shape_of(n);
  Access a = access(n);
  std::vector<Val> v;
  for (const Ref& x : tree::values(n)) v.push_back(value(x));
  if (shape.kind == AccessKind::InTurn) {
    int lanes = vector_;
    for (Val& x : v) x = b_.lanes(x) ? b_.splat(x, lanes) : x;
    fold_by_lane(a, place, v);
    vector_ = lanes;
    return;
  }
  a = first_lane(n, a, shape);
  const State old = each_part(a, place, [&](const Access& part) {
    return shape.kind == AccessKind::Uniform ? load_scalar(part, {})
                                             : load_vector(part, {}, shape.kind, shape.read);
  });
  for (Val& x : v) x = b_.splat(x, b_.lanes(old[0]));
  for_parts(a, place, step(place, old, v),
            [&](const Access& part, Val next) { store_as(shape, part, next); });
}

// ---- statements

void Renderer::store(const Node& n) {
  const Access a = access(n);
  const AccessShape shape = shape_of(n);
  const Val v = value(tree::values(n)[0]);
  if (shape.kind == AccessKind::Block) return store_block(n, a, shape, v);
  store_as(shape, shape.kind == AccessKind::Gather ? a : first_lane(n, a, shape), v);
}

void Renderer::statement(const Node& n) {
  switch (n.op) {
    case Op::Place:    return declare(n);
    case Op::Store:    return store(n);
    case Op::FoldStep: return fold(n);
    case Op::Check:    return check(n);
    default:           broken("LLVM renderer: {} is no statement", row(n.op).name);
  }
}

void Renderer::body(std::span<const Ref> statements) {
  int64_t scratch = scratch_top_;
  for (const Ref& s : statements) {
    if (s->op == Op::Loop) {
      loop(*s);
    } else if (s->op == Op::If) {
      branch(*s);
    } else {
      push_frame();
      for (const Ref& x : s->src) prepare(x);
      statement(*s);
      pop_frame();
    }
  }
  scratch_top_ = scratch;
}

}  // namespace kontor::ir

namespace kontor {

std::string render_llvm(const Ref& kernel, const std::string& entry, const Target& target,
                        int64_t& scratch_bytes) {
  ir::Renderer renderer(kernel, target.natives);
  std::string text = renderer.render(entry);
  renderer.require_within_places(text);
  scratch_bytes = renderer.scratch_bytes();
  return text;
}

}  // namespace kontor
