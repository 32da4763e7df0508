// Places: addresses, stores, folds' merges, where local places live.
#include <algorithm>
#include <bit>

#include "base/error.h"
#include "codegen/render_llvm/renderer.h"
#include "graph/index/index.h"

namespace kontor::ir {

PlaceState& Renderer::place_of(const Node& place) {
  auto it = places_.find(&place);
  if (it == places_.end()) broken("LLVM renderer: place '{}' is not declared", place.arg.text);
  return it->second;
}

Access Renderer::access(const Node& n) {
  const Node& place = *n.src[0];
  PlaceState& p = place_of(place);
  std::span<const Ref> at = tree::at(n);
  Linear position;
  for (size_t i = 0; i < p.dims.size(); i++) {
    if (i > 0) position = product(std::move(position), linear(p.dims[i]));
    if (i < at.size()) add_scaled(position, linear(at[i]), 1);
  }
  const size_t part = tree::part(n);
  const DType dtype = tree::part_dtype(place, part);
  if (!p.lanes) return {&p, std::move(position), dtype, part};
  Linear mine;  // of a place inside a vector loop each element is a vector, of which every lane has its own
  add_scaled(mine, position, p.lanes);
  mine.lane++;
  return {&p, std::move(mine), dtype, part};
}

/// The address of the first lane's element (`offset` elements further); vector terms are left out.
Val Renderer::address(const Access& a, int64_t offset) {
  Type element{in_memory(a.dtype), 0}, pointer{Scalar::Ptr, 0};
  int64_t constant = a.at.constant + offset;
  Val p = a.place->base[a.part];
  if (Val position = scalar_part(a.at, Scalar::I64, false))
    p = b_.emit_at(0, {}, pointer, "getelementptr ", element, ", ", typed(p), ", i64 ", position);
  if (constant == 0) return p;
  return b_.emit_at(0, {}, pointer, "getelementptr ", element, ", ", typed(p), ", i64 ", constant);
}

/// In bytes. Local places start at multiples of 64; of a caller's memory only the element's alignment is known.
int64_t Renderer::alignment(const Access& a, int64_t offset) {
  int64_t size = item_size(a.dtype);
  if (!a.place->local) return size;
  auto bits = static_cast<uint64_t>(a.at.constant + offset) | 64;
  for (auto& t : a.at.terms) bits |= static_cast<uint64_t>(t.second);
  uint64_t unit = static_cast<uint64_t>(size) * (bits & -bits);
  return static_cast<int64_t>(std::min<uint64_t>(unit & -unit, 64));
}

Val Renderer::both(Val x, Val y) {
  if (!x || !y) return x ? x : y;
  for (Val* v : {&x, &y})
    if (*v == extent_mask_) *v = below(b_.opaque(active_));
  int lanes = std::max(b_.lanes(x), b_.lanes(y));
  return apply(b_, Op::And, DType::Bool, {b_.splat(x, lanes), b_.splat(y, lanes)});
}

Val Renderer::reverse(Val v) {
  std::vector<int> order;
  for (int i = b_.lanes(v); i-- > 0;) order.push_back(i);
  return b_.shuffle(v, {}, order);
}

// ---- stores

void Renderer::touch(PlaceState& p) { p.version = ++versions_; }

void Renderer::store_text(const Access& a, Val pointer, Val v, int64_t align) {
  b_.effect("store ", typed(to_memory(b_, a.dtype, v)), ", ", typed(pointer), ", align ", align);
  touch(*a.place);
}

/// Memory is aligned to lines (backends/host_memory.cpp), and the position is a multiple of one.
void Renderer::store_past_caches(const Access& a, Val pointer, Val v) {
  b_.effect("store ", typed(to_memory(b_, a.dtype, v)), ", ", typed(pointer), ", align ", line_bytes,
            ", !nontemporal !1");
  b_.fence_at_end();
  touch(*a.place);
}

/// Stores where the mask holds, through llvm.masked.store or llvm.masked.scatter.
void Renderer::store_masked(const Access& a, Val pointer, Val v, Val mask) {
  Val memory = to_memory(b_, a.dtype, v);
  Type t = b_.type(memory);
  std::string lanes = std::to_string(t.lanes), suffix = "v" + lanes + std::string(row(t.of).suffix);
  std::string type = "<" + lanes + " x " + std::string(row(t.of).text) + ">";
  bool scatter = b_.lanes(pointer) > 0;
  std::string name =
      scatter ? "llvm.masked.scatter." + suffix + ".v" + lanes + "p0" : "llvm.masked.store." + suffix + ".p0";
  b_.declare(name, "void",
             type + (scatter ? ", <" + lanes + " x ptr>" : ", ptr") + ", i32, <" + lanes + " x i1>");
  b_.effect("call void @", name, "(", typed(memory), ", ", typed(pointer), ", i32 ", item_size(a.dtype), ", ",
            typed(mask), ")");
  touch(*a.place);
}

/// Lanes side by side. A blend loads lanes that are off and stores them back, which LLVM keeps in registers.
void Renderer::store_lanes(const AccessShape& shape, const Access& a, Val v) {
  const bool is_reversed = shape.kind == AccessKind::Reversed;
  const int64_t offset = is_reversed ? 1 - vector_ : 0;
  Val pointer = address(a, offset), mask = shape.mask.any() ? mask_ : Val{};
  if (is_reversed) {
    v = reverse(v);
    if (mask) mask = reverse(mask);
  }
  if (shape.past_caches) return store_past_caches(a, pointer, v);
  if (!mask) return store_text(a, pointer, v, alignment(a, offset));
  if (!shape.is_blend) return store_masked(a, pointer, v, mask);
  Val old = load_text(a, pointer, b_.lanes(v), {}, alignment(a, 0));
  store_text(a, pointer, apply(b_, Op::Where, a.dtype, {mask, v, old}), alignment(a, 0));
}

void Renderer::store_as(const AccessShape& shape, const Access& a, Val v) {
  if (shape.kind == AccessKind::Uniform) {
    if (b_.lanes(v) || mask_) broken("LLVM renderer: all lanes write one element");
    return store_text(a, address(a), v, alignment(a, 0));
  }
  v = b_.splat(v, vector_);
  if (shape.kind != AccessKind::Gather) return store_lanes(shape, a, v);
  store_masked(a, lane_addresses(a), v, b_.splat(mask_ ? mask_ : b_.boolean(true), vector_));
}

// ---- parts of a fold's state

Access Renderer::part_of(const Access& a, const Node& place, size_t part) {
  Access out = a;
  out.part = part;
  out.dtype = tree::part_dtype(place, part);
  return out;
}

// ---- local places

static int64_t upper_bound(const Ref& dim, const Node& place) {
  int64_t hi = dim->bounds.hi;
  if (hi < 0 || hi > (int64_t{1} << 40))
    broken("place '{}' has a dimension without a static bound", place.arg.text);
  return hi;
}

/// Small places become stack memory, of which LLVM makes registers; large ones lie in the share's scratch memory.
void Renderer::declare(const Node& place) {
  if (tree::space(place) == Space::Local) allocate(place);
  if (!tree::has_fold(place)) return;
  if (std::all_of(place.src.begin(), place.src.end(), [](const Ref& d) { return d->is_const(); }) ||
      place_of(place).local)
    return fill(place);
  fill_dynamic(place);
}

void Renderer::allocate(const Node& place) {
  constexpr int64_t stack_bytes = 4096;
  PlaceState& p = place_of(place);
  p.lanes = vector_;
  p.write_level = b_.depth();
  touch(p);
  int64_t count = std::max(p.lanes, 1);
  for (const Ref& d : place.src) upper_bound(d, place);
  for (const Ref& d : p.dims) count *= const_int(*d);
  count += p.unaligned;
  for (size_t part = 0; part < tree::parts(place); part++) {
    const DType dtype = tree::part_dtype(place, part);
    Val& base = p.base[part];
    int64_t bytes = std::max<int64_t>(count, 1) * item_size(dtype);
    if (bytes <= stack_bytes) {
      if (!base) base = b_.alloca_array({in_memory(dtype), 0}, std::max<int64_t>(count, 1));
    } else {
      Val scratch = argument(32, Scalar::Ptr);
      base =
          b_.emit_at(0, {}, {Scalar::Ptr, 0}, "getelementptr i8, ", typed(scratch), ", i64 ", scratch_top_);
      scratch_top_ += (bytes + 63) & ~int64_t{63};
      scratch_bytes_ = std::max(scratch_bytes_, scratch_top_);
    }
    regions_.push_back({b_.text(base), place.arg.text, bytes});
  }
}

Renderer::State Renderer::identity_of(const Node& place) {
  State out;
  for (size_t i = 0; i < tree::parts(place); i++)
    out.push_back(constant_value(b_, *kontor::identity(tree::fold_of(place), place.dtype, i)));
  return out;
}

/// Stores the fold's identity into `count` elements from a.at on, in vectors of at most `chunk` lanes.
void Renderer::fill_range(Access a, const Node& place, const State& identity, int64_t count, int64_t chunk) {
  for (int64_t done = 0; done < count; done += chunk, a.at.constant += chunk) {
    while (chunk > 1 && count - done < chunk) chunk /= 2;
    for_parts(a, place, identity, [&](const Access& part, Val v) {
      if (chunk > 1) v = b_.splat(v, static_cast<int>(chunk));
      store_text(part, address(part), v, alignment(part, 0));
    });
  }
}

void Renderer::fill(const Node& place) {
  constexpr int64_t most_stores = 32, wide = 64;  // what lives in registers is not filled by a loop
  PlaceState& p = place_of(place);
  const State identity = identity_of(place);
  int64_t count = std::max(p.lanes, 1), chunk = std::max({p.lanes, p.chunk, 1});
  for (const Ref& d : p.dims) count *= const_int(*d);
  Access a{&p, {}, place.dtype};
  if (count / chunk > most_stores) {
    open_loop(b_.i64(0), b_.i64(count / wide));
    int level = std::exchange(p.write_level, b_.depth());
    Access here = a;
    add_term(here.at, b_.counter(), wide);
    fill_range(here, place, identity, wide, wide);
    p.write_level = level;
    close_loop();
    a.at.constant = count / wide * wide;
    chunk = wide;
  }
  fill_range(a, place, identity, count - a.at.constant, chunk);
}

/// A parameter whose size is known only at the launch, element by element.
void Renderer::fill_dynamic(const Node& place) {
  PlaceState& p = place_of(place);
  Linear size;
  size.constant = 1;
  for (const Ref& d : p.dims) size = product(std::move(size), linear(d));
  Val count = materialise(size);
  open_branch(apply(b_, Op::Lt, DType::I64, {b_.i64(0), count}), false);
  open_loop(b_.i64(0), count);
  Access a{&p, {}, place.dtype};
  add_term(a.at, b_.counter(), 1);
  fill_range(a, place, identity_of(place), 1, 1);
  close_loop();
  close_branch();
}

// ---- folds

Renderer::State Renderer::step(const Node& place, const State& old, std::span<const Val> v) {
  if (Val next = native_step(b_, tree::fold_of(place), old[0], v)) return {next};
  std::vector<Val> slots = old;
  slots.insert(slots.end(), v.begin(), v.end());
  return evaluate(b_, step_formulas(tree::fold_of(place), place.dtype), slots);
}

/// Two partial results as one.
Renderer::State Renderer::merged(const Node& place, const State& x, const State& y) {
  std::vector<Val> slots = x;
  slots.insert(slots.end(), y.begin(), y.end());
  State both = evaluate(b_, merge_formulas(tree::fold_of(place), place.dtype), slots);
  for (Val& v : both) v = b_.splat(v, b_.lanes(x[0]));  // a part may be a constant now
  return both;
}

/// So many lanes from an element on; 0: one element, no vector.
Renderer::State Renderer::load_state(const Access& a, const Node& place, int64_t lanes) {
  return each_part(a, place, [&](const Access& part) {
    return load_text(part, address(part), static_cast<int>(lanes), {}, alignment(part, 0));
  });
}

/// Many elements, each a vector: halved in loops, in memory of their own, until few are left.
Access Renderer::halve_in_loops(Access a, const Node& place, int64_t& count) {
  constexpr int64_t few = 8;
  int64_t own = a.place->lanes;
  PlaceState& rest = merging_.emplace_back();
  rest.local = rest.written = true;
  for (size_t i = 0; i < tree::parts(place); i++)
    rest.base[i] = b_.alloca_array({in_memory(tree::part_dtype(place, i)), 0}, count / 2 * own);
  for (; count > few; count /= 2) {
    open_loop(b_.i64(0), b_.i64(count / 2));
    rest.write_level = b_.depth();
    Access to{&rest, {}, a.dtype};
    add_term(to.at, b_.counter(), own);
    add_term(a.at, b_.counter(), own);
    Access other = a;
    other.at.constant += count / 2 * own;
    const State x = load_state(a, place, own), y = load_state(other, place, own);
    for_parts(to, place, merged(place, x, y),
              [&](const Access& part, Val v) { store_text(part, address(part), v, alignment(part, 0)); });
    close_loop();
    a = {&rest, {}, a.dtype};
  }
  rest.write_level = b_.depth();
  return a;
}

/// The elements to be joined, as vectors of the width with which the place was filled (so that registers stay whole).
std::vector<Renderer::State> Renderer::elements(const Node& n) {
  Access a = access(n);
  int64_t count = upper_bound(n.src[0]->src.back(), *n.src[0]), own = a.place->lanes, chunk = own;
  if (own) a.at.lane--;
  if (a.at.lane || has_vector_terms(a.at)) broken("LLVM renderer: lanes choose what is merged");
  if (!own) chunk = std::clamp<int64_t>(a.place->chunk, 1, count);
  // Where the place is not written further in, a merge is used once; else it must be straight to be hoisted.
  if (own && count > 8 && b_.depth() == a.place->write_level) a = halve_in_loops(a, *n.src[0], count);
  std::vector<State> out;
  for (int64_t i = 0; i < count; i += own ? 1 : chunk, a.at.constant += chunk)
    out.push_back(load_state(a, *n.src[0], chunk > 1 ? chunk : 0));
  return out;
}

Val Renderer::half(Val v, int from) {
  const Type t = b_.type(v);
  if (t.lanes == 2) return b_.emit({t.of, 0}, "extractelement ", typed(v), ", i64 ", int64_t{from});
  std::vector<int> order;
  for (int i = 0; i < t.lanes / 2; i++) order.push_back(from + i);
  return b_.shuffle(v, {}, order);
}

Renderer::State Renderer::half(const State& v, int lanes, int from) {
  State out;
  for (Val part : v) out.push_back(half(b_.splat(part, lanes), from));
  return out;
}

Val Renderer::merge(const Node& n) {
  const Node& place = *n.src[0];
  if (!tree::has_fold(place)) broken("LLVM renderer: merge of '{}', which has no fold", place.arg.text);
  std::vector<State> rest = elements(n);
  for (; rest.size() > 1; rest.resize(rest.size() / 2))
    for (size_t i = 0; i < rest.size() / 2; i++) rest[i] = merged(place, rest[i], rest[i + rest.size() / 2]);
  State v = rest[0];
  if (place_of(place).lanes) return v[tree::part(n)];
  while (int lanes = b_.lanes(v[0])) v = merged(place, half(v, lanes, 0), half(v, lanes, lanes / 2));
  return v[tree::part(n)];
}

}  // namespace kontor::ir
