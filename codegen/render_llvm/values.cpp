// Expressions: the memo, index arithmetic as linear forms, elementwise ops on scalars and vectors.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_llvm/renderer.h"
#include "graph/shape.h"

namespace kontor::ir {

// ---- the memo

void Renderer::push_frame() { frames_.push_back(++serials_); }
void Renderer::pop_frame() { frames_.pop_back(); }

Renderer::Entry* Renderer::known(const Node* n) {
  auto it = memo_.find(n);
  if (it == memo_.end()) return nullptr;
  Entry& e = it->second;
  bool alive = e.frame <= top_frame() && frames_[static_cast<size_t>(e.frame)] == e.serial;
  return alive ? &e : nullptr;
}

/// The innermost frame on which n depends by itself; sources come in remember().
int Renderer::frame_of(const Node& n) {
  if (n.op == Op::Range) return bindings_.at(&n).frame;
  if (n.op == Op::Merge) return top_frame();
  if (n.op != Op::Load) return 0;
  const PlaceState& p = place_of(*n.src[0]);
  return p.written ? top_frame() : std::max(mask_frame_, scope_frames_[static_cast<size_t>(b_.safe_level())]);
}

Renderer::Entry& Renderer::remember(const Node& n) {
  if (Entry* e = known(&n)) return *e;
  int frame = frame_of(n);
  for (const Ref& s : n.src)
    if (Entry* e = known(s.get())) frame = std::max(frame, e->frame);
  return memo_[&n] = {{}, -1, frame, frames_[static_cast<size_t>(frame)], Ref(&n)};
}

static bool is_linear(const Node& n) {
  if (n.dtype != DType::I64) return false;
  if (n.op == Op::Mod) return n.src[1]->is_const() && const_int(*n.src[1]) > 0;
  return n.op == Op::Add || n.op == Op::Sub || n.op == Op::Mul || n.op == Op::Neg || n.op == Op::Range;
}

Val Renderer::value(const Ref& node) {
  if (Entry* e = known(node.get()); e && e->value) return e->value;
  Val v = is_linear(*node) ? materialise(linear(node)) : compute(*node);
  Entry& e = remember(*node);
  int made = scope_frames_[static_cast<size_t>(b_.level(v))];
  if (e.frame < made) e.frame = made, e.serial = frames_[static_cast<size_t>(made)];
  return e.value = v;
}

const Linear& Renderer::linear(const Ref& node) {
  if (Entry* e = known(node.get()); e && e->linear >= 0) return linears_[static_cast<size_t>(e->linear)];
  Linear l = compute_linear(*node);
  Entry& e = remember(*node);
  for (auto& [v, factor] : l.terms) {
    int made = scope_frames_[static_cast<size_t>(b_.level(v))];
    if (e.frame < made) e.frame = made, e.serial = frames_[static_cast<size_t>(made)];
  }
  e.linear = static_cast<int>(linears_.size());
  linears_.push_back(std::move(l));
  return linears_.back();
}

/// Very deep expressions are evaluated sources first, so that the recursion stays shallow.
void Renderer::prepare(const Ref& node) {
  constexpr uint32_t deep = 200;
  if (node->depth < deep) return;
  for (const Node* n : topological(std::span(&node, 1))) {
    if (is_statement(n->op)) continue;
    if (is_linear(*n)) linear(Ref(n));
    else value(Ref(n));
  }
}

// ---- linear forms

static int64_t wrap_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
static int64_t wrap_mul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

void add_term(Linear& e, Val v, int64_t factor) {
  if (factor == 0) return;
  auto at =
      std::lower_bound(e.terms.begin(), e.terms.end(), v.id, [](auto& t, int id) { return t.first.id < id; });
  if (at == e.terms.end() || at->first != v) {
    e.terms.insert(at, {v, factor});
  } else if ((at->second = wrap_add(at->second, factor)) == 0) {
    e.terms.erase(at);
  }
}

void add_scaled(Linear& to, const Linear& e, int64_t factor) {
  to.constant = wrap_add(to.constant, wrap_mul(e.constant, factor));
  to.lane = wrap_add(to.lane, wrap_mul(e.lane, factor));
  for (auto& [v, f] : e.terms) add_term(to, v, wrap_mul(f, factor));
}

static bool is_constant(const Linear& e) { return !e.lane && e.terms.empty(); }

bool Renderer::has_vector_terms(const Linear& e) const {
  return std::any_of(e.terms.begin(), e.terms.end(), [&](auto& t) { return b_.lanes(t.first) > 0; });
}

Linear Renderer::product(Linear a, Linear b) {
  Linear out;
  if (is_constant(a)) std::swap(a, b);
  if (is_constant(b)) return add_scaled(out, a, b.constant), out;
  bool simple = !b.lane && !b.constant && b.terms.size() == 1 && !a.lane && a.terms.size() <= 4;
  if (!simple || has_vector_terms(a) || has_vector_terms(b)) {
    Val x = materialise(a), y = materialise(b);
    int lanes = std::max(b_.lanes(x), b_.lanes(y));
    add_term(out, apply(b_, Op::Mul, DType::I64, {b_.splat(x, lanes), b_.splat(y, lanes)}), 1);
    return out;
  }
  auto [stride, factor] =
      b.terms[0];  // (c + f t + ..) * g s: each product stands where its factors are known
  for (auto& [v, f] : a.terms)
    add_term(out, apply(b_, Op::Mul, DType::I64, {v, stride}), wrap_mul(f, factor));
  add_term(out, stride, wrap_mul(a.constant, factor));
  return out;
}

/// Of a divisor above zero.
static int64_t floor_quotient(int64_t x, int64_t divisor) { return x / divisor - (x % divisor < 0); }

static bool is_multiple(const Linear& e, int64_t of) {
  return e.constant % of == 0 &&
         std::all_of(e.terms.begin(), e.terms.end(), [&](auto& t) { return t.second % of == 0; });
}

/// (x + lane) // c where lanes side by side have one quotient: all of them, or groups of c. Then one lane of a group is
/// computed, and what follows from it alone too: of a block of random numbers all words are used, each made once.
bool Renderer::grouped_quotient(Linear e, int64_t c, Linear& out) {
  int64_t w = vector_;
  if (!w || c <= 1 || e.lane != 1 || has_vector_terms(e)) return false;
  e.lane = 0;
  if (c % w == 0 && is_multiple(e, w)) {
    if (is_constant(e)) return out.constant = floor_quotient(e.constant, c), true;
    return add_term(out, apply(b_, Op::IDiv, DType::I64, {materialise(e), b_.i64(c)}), 1), true;
  }
  if (w % c != 0 || !is_multiple(e, c)) return false;
  out.constant = e.constant / c;
  for (auto& [v, factor] : e.terms) add_term(out, v, factor / c);
  return add_term(out, b_.lane_numbers(Scalar::I64, static_cast<int>(w / c), 1), 1), true;
}

/// e // c, of which only a constant, and what lanes share, is known further.
Linear Renderer::quotient(const Node& n) {
  int64_t c = is_constant(linear(n.src[1])) ? linear(n.src[1]).constant : 0;
  Linear grouped;
  if (grouped_quotient(linear(n.src[0]), c, grouped)) return grouped;
  if (c <= 0 || !is_constant(linear(n.src[0]))) return opaque(n);
  int64_t e = linear(n.src[0]).constant;
  return {.constant = floor_quotient(e, c)};
}

/// A value whose inside is not looked at.
Linear Renderer::opaque(const Node& n) {
  Linear out;
  Val v = value(Ref(&n));
  if (int64_t c = 0; !b_.lanes(v) && b_.constant(v, c)) return out.constant = c, out;
  return add_term(out, v, 1), out;
}

/// e % c as e - e // c * c, so that e // c * c + e % c, the position of an element in a reshaped array, becomes e again.
Linear Renderer::remainder(const Node& n) {
  Linear out = linear(n.src[0]);
  Ref q = made_.emplace_back(make(Op::IDiv, n.src));
  add_scaled(out, linear(q), wrap_mul(-1, const_int(*n.src[1])));
  return out;
}

Linear Renderer::compute_linear(const Node& n) {
  Linear out;
  if (n.dtype != DType::I64) broken("LLVM renderer: an index of dtype {}", name(n.dtype));
  switch (n.op) {
    case Op::Range: {
      const Binding& bound = bindings_.at(&n);
      if (!bound.value) return out.lane = 1, out;
      if (int64_t c = 0; b_.constant(bound.value, c)) return out.constant = c, out;
      return add_term(out, bound.value, 1), out;
    }
    case Op::Add:  return out = linear(n.src[0]), add_scaled(out, linear(n.src[1]), 1), out;
    case Op::Sub:  return out = linear(n.src[0]), add_scaled(out, linear(n.src[1]), -1), out;
    case Op::Neg:  return add_scaled(out, linear(n.src[0]), -1), out;
    case Op::IDiv: return quotient(n);
    case Op::Mod:  return is_linear(n) ? remainder(n) : opaque(n);
    case Op::Mul:  return product(linear(n.src[0]), linear(n.src[1]));
    default:       break;
  }
  Val v = value(Ref(&n));
  if (int64_t c = 0; !b_.lanes(v) && b_.constant(v, c)) return out.constant = c, out;
  return add_term(out, v, 1), out;
}

static Val plus(Builder& b, Val x, Val y, DType dtype) {
  return !x ? y : !y ? x : apply(b, Op::Add, dtype, {x, y});
}

static DType unsigned_dtype(Scalar of) { return unsigned_of(row(of).bits); }

/// The sum of the scalar terms, those of outer levels first, so that partial sums are computed outside.
Val Renderer::scalar_part(const Linear& e, Scalar of, bool with_constant) {
  DType dtype = unsigned_dtype(of);
  auto terms = e.terms;
  std::erase_if(terms, [&](auto& t) { return b_.lanes(t.first) > 0; });
  std::stable_sort(terms.begin(), terms.end(),
                   [&](auto& x, auto& y) { return b_.level(x.first) < b_.level(y.first); });
  Val sum;
  for (auto& [v, factor] : terms) {
    Val t = cast(b_, dtype, DType::I64, v);
    if (of == Scalar::I64) t = b_.scaled(t, factor);
    else if (factor != 1) t = apply(b_, Op::Mul, dtype, {t, cast(b_, dtype, DType::I64, b_.i64(factor))});
    sum = plus(b_, sum, t, dtype);
  }
  if (!with_constant || (sum && e.constant == 0)) return sum;
  return plus(b_, sum, cast(b_, dtype, DType::I64, b_.i64(e.constant)), dtype);
}

Val Renderer::materialise(const Linear& e, Scalar of) {
  Val sum = scalar_part(e, of, true);
  if (!e.lane && !has_vector_terms(e)) return sum;
  DType dtype = unsigned_dtype(of);
  int64_t c = 0;
  int lanes = e.lane ? vector_ : 0;
  for (auto& t : e.terms) lanes = std::max(lanes, b_.lanes(t.first));
  Val vector = e.lane ? b_.lane_numbers(of, lanes, e.lane) : Val{};
  for (auto& [v, factor] : e.terms) {
    if (!b_.lanes(v)) continue;
    Val t = b_.splat(cast(b_, dtype, DType::I64, v), lanes);
    if (factor != 1)
      t = apply(b_, Op::Mul, dtype, {t, b_.splat(cast(b_, dtype, DType::I64, b_.i64(factor)), lanes)});
    vector = plus(b_, vector, t, dtype);
  }
  if (b_.constant(sum, c) && c == 0) return vector;
  return plus(b_, vector, b_.splat(sum, lanes), dtype);
}

// ---- other values

void Renderer::guard_of(const Ref& condition, Guard& out) {
  if (condition->op == Op::And) {
    guard_of(condition->src[0], out);
    guard_of(condition->src[1], out);
    remember(*condition);  // no value, but the frame that those have that use it
    return;
  }
  Val v = value(condition);
  if (b_.is_int(v, 1)) return;
  Val& part = b_.lanes(v) ? out.lanes : out.uniform;
  part = both(part, b_.lanes(v) ? b_.splat(v, vector_) : v);
}

/// A field of the kernel's arguments, loaded where it is first needed.
Val Renderer::argument(int64_t offset, Scalar of) {
  Val p = b_.emit_at(0, {}, {Scalar::Ptr, 0}, "getelementptr i8, ptr %args, i64 ", offset);
  return b_.emit_at(0, {}, {of, 0}, "load ", Type{of, 0}, ", ", typed(p), ", align 8, !invariant.load !0");
}

Val Renderer::slot(const Node& n) {
  Type t{in_memory(n.dtype), 0};
  Val slots = argument(8, Scalar::Ptr);
  Val p = b_.emit_at(0, {}, {Scalar::Ptr, 0}, "getelementptr i64, ", typed(slots), ", i64 ", n.at(0));
  return from_memory(b_, n.dtype,
                     b_.emit_at(0, {}, t, "load ", t, ", ", typed(p), ", align 8, !invariant.load !0"));
}

Val Renderer::below(Val threshold) {
  Scalar of = Scalar::I8;  // at most 64 lanes
  Val t = b_.splat(cast(b_, DType::U8, DType::I64, threshold), vector_);
  return apply(b_, Op::Lt, DType::U8, {b_.lane_numbers(of, vector_, 1), t});
}

static bool small(Bounds b) { return b.lo > -(int64_t{1} << 60) && b.hi < (int64_t{1} << 60); }
static bool fits_i32(Bounds b) { return b.lo >= INT32_MIN && b.hi <= INT32_MAX; }

/// t // divisor + more, which lies between 0 and the number of lanes where it does not already.
Val Renderer::lane_threshold(const Linear& t, int64_t divisor, int64_t more) {
  if (is_constant(t))
    return b_.i64(std::clamp<int64_t>(floor_quotient(t.constant, divisor) + more, 0, vector_));
  Val v = materialise(t);
  if (divisor != 1) v = apply(b_, Op::IDiv, DType::I64, {v, b_.i64(divisor)});
  if (more) v = apply(b_, Op::Add, DType::I64, {v, b_.i64(more)});
  v = apply(b_, Op::Max, DType::I64, {v, b_.i64(0)});
  return apply(b_, Op::Min, DType::I64, {v, b_.i64(vector_)});
}

/// a < b or a <= b where the difference is c + s * lane: the numbers of the lanes against one scalar threshold.
Val Renderer::lane_compare(const Node& n) {
  bool ordered = n.op == Op::Lt || n.op == Op::Le;
  if (!ordered || n.src[0]->dtype != DType::I64 || !small(n.src[0]->bounds) || !small(n.src[1]->bounds))
    return {};
  Linear d = linear(n.src[0]);
  add_scaled(d, linear(n.src[1]), -1);
  if (has_vector_terms(d)) return {};
  d.constant -= n.op == Op::Le;
  int64_t stride = std::exchange(d.lane, 0);
  if (stride == 0) {
    if (!d.terms.empty()) return {};
    return b_.boolean(d.constant < 0);
  }
  Linear t;  // stride > 0: lane < ceil(-d / stride); else lane >= floor(d / -stride) + 1
  add_scaled(t, d, stride > 0 ? -1 : 1);
  if (stride > 0) t.constant += stride - 1;
  const Val threshold = lane_threshold(t, std::abs(stride), stride < 0);
  if (b_.is_int(threshold, 0)) return b_.boolean(stride < 0);
  if (b_.is_int(threshold, vector_)) return b_.boolean(stride > 0);
  Val lanes = below(b_.opaque(threshold));
  return stride > 0 ? lanes : apply(b_, Op::Not, DType::Bool, {lanes});
}

/// A cast of an index along the lanes: made in the narrow type from the start.
Val Renderer::narrow_cast(const Node& n) {
  if (n.src[0]->dtype != DType::I64 || n.dtype == DType::Bool || !is_linear(*n.src[0])) return {};
  const Linear e = linear(n.src[0]);
  if (!e.lane && !has_vector_terms(e)) return {};
  if (!is_float(n.dtype)) return materialise(e, in_register(n.dtype));
  if (!fits_i32(n.src[0]->bounds)) return {};
  return cast(b_, n.dtype, DType::I32, materialise(e, Scalar::I32));
}

/// Division of small non-negative indexes along the lanes: 32 bits are enough, and much faster.
Val Renderer::narrow_arithmetic(const Node& n) {
  if ((n.op != Op::IDiv && n.op != Op::Mod) || n.dtype != DType::I64) return {};
  if (!fits_i32(n.src[0]->bounds) || !fits_i32(n.src[1]->bounds)) return {};
  Val x = value(n.src[0]), y = value(n.src[1]);
  int lanes = std::max(b_.lanes(x), b_.lanes(y));
  if (!lanes) return {};
  Val v[] = {b_.splat(cast(b_, DType::I32, DType::I64, x), lanes),
             b_.splat(cast(b_, DType::I32, DType::I64, y), lanes)};
  return cast(b_, DType::I64, DType::I32, apply(b_, n.op, DType::I32, v, Facts::of(n)));
}

Val Renderer::elementwise(const Node& n) {
  if (Val v = lane_compare(n)) return v;
  if (n.op == Op::IDiv && n.dtype == DType::I64 && n.src[1]->is_const()) {
    Linear grouped;
    if (grouped_quotient(linear(n.src[0]), const_int(*n.src[1]), grouped)) return materialise(grouped);
  }
  if (n.op == Op::Cast)
    if (Val v = narrow_cast(n)) return v;
  if (Val v = narrow_arithmetic(n)) return v;
  Val v[3];
  int lanes = 0;
  size_t count = n.src.size();
  for (size_t i = 0; i < count; i++) lanes = std::max(lanes, b_.lanes(v[i] = value(n.src[i])));
  if (n.op == Op::Cast) return cast(b_, n.dtype, n.src[0]->dtype, v[0]);
  if (n.op == Op::Bitcast) return bitcast(b_, n.dtype, n.src[0]->dtype, v[0]);
  int64_t c = 0;
  if (n.op == Op::Where && b_.constant(v[0], c)) return v[c ? 1 : 2];
  for (size_t i = 0; i < count; i++)
    if (n.op != Op::Where || i > 0 || b_.lanes(v[i])) v[i] = b_.splat(v[i], lanes);
  DType dtype = n.src[n.op == Op::Where ? 1 : 0]->dtype;
  return apply(b_, n.op, dtype, std::span(v, count), Facts::of(n));
}

Val Renderer::compute(const Node& n) {
  switch (n.op) {
    case Op::Const: return constant_value(b_, n);
    case Op::Slot:  return slot(n);
    case Op::Load:  return load(n);
    case Op::Merge: return merge(n);
    default:        break;
  }
  if (!is_elementwise(n.op)) broken("LLVM renderer: {} in a loop tree", row(n.op).name);
  return elementwise(n);
}

}  // namespace kontor::ir
