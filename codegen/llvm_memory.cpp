// Places: addresses, loads, stores, folds' merges, where local places live.
#include <algorithm>
#include <bit>

#include "base/error.h"
#include "codegen/llvm_renderer.h"
#include "codegen/moves.h"
#include "graph/index.h"

namespace kontor::inline v0::ir {

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
  if (!p.lanes) return {&p, std::move(position), place.dtype};
  Linear mine;  // of a place inside a vector loop each element is a vector, of which every lane has its own
  add_scaled(mine, position, p.lanes);
  mine.lane++;
  return {&p, std::move(mine), place.dtype};
}

/// The address of the first lane's element (`offset` elements further); vector terms are left out.
Val Renderer::address(const Access& a, int64_t offset) {
  Type element{in_memory(a.dtype), 0}, pointer{Scalar::Ptr, 0};
  int64_t constant = a.at.constant + offset;
  Val p = a.place->base;
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
  int lanes = std::max(b_.lanes(x), b_.lanes(y));
  return apply(b_, Op::And, DType::Bool, {b_.splat(x, lanes), b_.splat(y, lanes)});
}

Val Renderer::reverse(Val v) {
  Type t = b_.type(v);
  std::string text = "<";
  for (int i = t.lanes; i-- > 0;) text.append("i32 ").append(std::to_string(i)).append(i ? ", " : ">");
  return b_.emit(t, "shufflevector ", typed(v), ", ", t, " poison, ", Type{Scalar::I32, t.lanes}, " ", text);
}

// ---- loads

/// Loads `lanes` elements (0: one) at `pointer`; where the mask is off, 0. What nobody writes may be loaded further out.
Val Renderer::load_text(const Access& a, Val pointer, int lanes, Val mask, int64_t align) {
  const PlaceState& p = *a.place;
  Type t{in_memory(a.dtype), lanes};
  std::string salt = p.written ? "#" + std::to_string(p.version) : std::string();
  int level = std::max(b_.safe_level(), p.written ? p.write_level : 0);
  if (!mask) {
    std::string_view invariant = p.written ? "" : ", !invariant.load !0";
    Val v = b_.emit_at(level, salt, t, "load ", t, ", ", typed(pointer), ", align ", align, invariant);
    return from_memory(b_, a.dtype, v);
  }
  std::string suffix = "v" + std::to_string(lanes) + std::string(row(t.of).suffix);
  std::string type = "<" + std::to_string(lanes) + " x " + std::string(row(t.of).text) + ">";
  std::string bits = "<" + std::to_string(lanes) + " x i1>";
  bool gather = b_.lanes(pointer) > 0;
  std::string pointers = gather ? "<" + std::to_string(lanes) + " x ptr>" : "ptr";
  std::string name = gather ? "llvm.masked.gather." + suffix + ".v" + std::to_string(lanes) + "p0"
                            : "llvm.masked.load." + suffix + ".p0";
  b_.declare(name, type, pointers + ", i32, " + bits + ", " + type);
  Val v = b_.emit_at(level, salt, t, "call ", t, " @", name, "(", typed(pointer), ", i32 ", align, ", ",
                     typed(mask), ", ", t, " zeroinitializer)");
  return from_memory(b_, a.dtype, v);
}

/// `pointer` where the condition holds, else 512 bytes of zeros.
Val Renderer::or_zeros(Val condition, Val pointer) {
  if (!condition) return pointer;
  return b_.emit({Scalar::Ptr, 0}, "select ", typed(condition), ", ", typed(pointer), ", ptr @zeros");
}

Val Renderer::zero(DType dtype, int lanes) {
  return b_.splat(constant_value(b_, *constant(dtype, int64_t{0})), lanes);
}

Val Renderer::any(Val mask) { return b_.call("vector.reduce.or", b_.type(mask), {Scalar::I1, 0}, {mask}); }

Val Renderer::load_scalar(const Access& a, const Guard& guard) {
  Val condition = guard.lanes ? both(any(both(guard.lanes, mask_)), guard.uniform) : guard.uniform;
  Val v = load_text(a, or_zeros(condition, address(a)), 0, {}, alignment(a, 0));
  if (!guard.lanes) return v;
  return apply(b_, Op::Where, a.dtype, {guard.lanes, b_.splat(v, vector_), zero(a.dtype, vector_)});
}

/// Elements side by side, in order or reversed. A local place has room for lanes that are switched off.
Val Renderer::load_vector(const Access& a, const Guard& guard) {
  bool reversed = a.at.lane == -1;
  Val mask = guard.lanes || !a.place->local || reversed ? both(guard.lanes, mask_) : Val{};
  int64_t offset = reversed ? 1 - vector_ : 0;
  Val pointer = or_zeros(guard.uniform, address(a, offset));
  if (mask && reversed) mask = reverse(mask);
  Val v = load_text(a, pointer, vector_, mask, mask ? item_size(a.dtype) : alignment(a, offset));
  return reversed ? reverse(v) : v;
}

/// Every second element: of w elements from the first on those at even places, of w elements up to the last the others.
Val Renderer::load_pairs(const Access& a, const Guard& guard) {
  int64_t w = vector_, size = item_size(a.dtype);
  Val low = load_text(a, or_zeros(guard.uniform, address(a)), vector_, {}, size);
  Val high = load_text(a, or_zeros(guard.uniform, address(a, w - 1)), vector_, {}, size);
  std::string order = "<";
  for (int64_t i = 0; i < w; i++)
    order.append(i ? ", i32 " : "i32 ").append(std::to_string(i < w / 2 ? 2 * i : 2 * i + 1));
  Type t = b_.type(low);
  return b_.emit(t, "shufflevector ", typed(low), ", ", typed(high), ", ", Type{Scalar::I32, t.lanes}, " ",
                 order, ">");
}

/// The address of each lane's element.
Val Renderer::lane_addresses(const Access& a) {
  Linear by_lane;
  by_lane.lane = a.at.lane;
  for (auto& [v, factor] : a.at.terms)
    if (b_.lanes(v)) add_term(by_lane, v, factor);
  Val index = b_.splat(materialise(by_lane), vector_);
  Type pointers{Scalar::Ptr, b_.lanes(index)};
  return b_.emit(pointers, "getelementptr ", Type{in_memory(a.dtype), 0}, ", ", typed(address(a)), ", ",
                 typed(index));
}

Val Renderer::load_gather(const Access& a, const Guard& guard) {
  Val pointers = lane_addresses(a), mask = both(guard.lanes, mask_);
  if (guard.uniform)
    pointers = b_.emit(b_.type(pointers), "select ", typed(guard.uniform), ", ", typed(pointers), ", ",
                       b_.type(pointers), " splat (ptr @zeros)");
  mask = b_.splat(mask ? mask : b_.boolean(true), vector_);
  return load_text(a, pointers, vector_, mask, item_size(a.dtype));
}

/// Elements side by side of which each is that of a group of lanes; none if it is another access.
Val Renderer::load_grouped(const Access& a, const Guard& guard) {
  if (a.at.lane || mask_ || guard.lanes) return {};
  int lanes = 0;
  for (auto& [v, factor] : a.at.terms) {
    if (!b_.lanes(v)) continue;
    if (lanes || factor != 1 || v != b_.lane_numbers(Scalar::I64, b_.lanes(v), 1)) return {};
    lanes = b_.lanes(v);
  }
  if (lanes >= vector_) return {};
  return load_text(a, or_zeros(guard.uniform, address(a)), lanes, {}, item_size(a.dtype));
}

Val Renderer::joined(Val low, Val high) {
  Type t = b_.type(low);
  std::string order = "<";
  for (int i = 0; i < 2 * t.lanes; i++) order.append(i ? ", i32 " : "i32 ").append(std::to_string(i));
  return b_.emit({t.of, 2 * t.lanes}, "shufflevector ", typed(low), ", ", typed(high), ", ",
                 Type{Scalar::I32, 2 * t.lanes}, " ", order, ">");
}

/// The position of the first of `run` lanes that lie side by side whatever the loops around are at; null if they do not.
Ref Renderer::position_of_run(const Node& n, const PlaceState& p, int first, int run) const {
  const Ref step = ix::range(run, "run");
  const Substitution lanes{{lanes_, ix::add(step, first)}}, start{{step.get(), index(0)}};
  std::vector<Ref> at(tree::at(n).begin(), tree::at(n).end());
  for (Ref& i : at) i = replace(i, lanes);
  const Ref position = ix::flatten(at, p.dims);
  int64_t apart = 0;
  return ix::affine(position, step, apart) && apart == 1 ? replace(position, start) : Ref();
}

/// Rows of a dimension that was merged with the one around it, each a whole number of runs: two or four loads instead of
/// a gather. None if it is another access.
Val Renderer::load_runs(const Node& n, const Access& a, const Guard& guard) {
  constexpr int shortest = 4;
  if (mask_ || guard.lanes || a.place->lanes) return {};
  for (int run = vector_ / 2; run >= std::max(shortest, vector_ / 4); run /= 2) {
    std::vector<Ref> positions;
    for (int first = 0; first < vector_; first += run) {
      positions.push_back(position_of_run(n, *a.place, first, run));
      if (!positions.back()) break;
    }
    if (!positions.back()) continue;
    std::vector<Val> parts;
    for (const Ref& position : positions) {
      const Access part{a.place, linear(position), a.dtype};
      parts.push_back(load_text(part, or_zeros(guard.uniform, address(part)), run, {}, alignment(part, 0)));
    }
    for (; parts.size() > 1; parts.resize(parts.size() / 2))
      for (size_t i = 0; i < parts.size() / 2; i++) parts[i] = joined(parts[2 * i], parts[2 * i + 1]);
    return parts[0];
  }
  return {};
}

/// rows[i][k] = rows[k][i], by halves, quarters and so on down to single elements.
void Renderer::transpose(std::vector<Val>& rows) {
  const size_t n = rows.size();
  const Type t = b_.type(rows[0]);
  for (size_t block = n / 2; block > 0; block /= 2) {
    std::string low = "<", high = "<";
    for (size_t k = 0; k < n; k++) {
      const bool first = (k & block) == 0;
      const std::string between = k ? ", i32 " : "i32 ";
      low.append(between).append(std::to_string(first ? k : n + k - block));
      high.append(between).append(std::to_string(first ? k + block : n + k));
    }
    for (size_t i = 0; i < n; i++) {
      if (i & block) continue;
      const Val x = rows[i], y = rows[i + block];
      const Type order{Scalar::I32, t.lanes};
      rows[i] = b_.emit(t, "shufflevector ", typed(x), ", ", typed(y), ", ", order, " ", low, ">");
      rows[i + block] = b_.emit(t, "shufflevector ", typed(x), ", ", typed(y), ", ", order, " ", high, ">");
    }
  }
}

/// Lanes far apart, while the copies of an unrolled loop around them lie side by side: a square block, which is loaded along
/// memory, transposed in registers, and serves as many copies as there are lanes. None if it is another access.
Val Renderer::load_transposed(const Node& n, const Access& a, const Guard& guard) {
  constexpr int most = 16;
  if (mask_ || guard.uniform || guard.lanes || a.place->written || vector_ < 4 || vector_ > most) return {};
  const Ref position = ix::flatten(tree::at(n), a.place->dims);
  for (Unrolled& u : unrolled_) {
    const int64_t begin = u.at / vector_ * vector_;
    int64_t apart = 0;
    if (u.depth != b_.depth() || begin + vector_ > u.count) continue;
    if (!ix::affine(position, Ref(u.range), apart) || apart != 1) continue;
    std::vector<Val>& rows = u.blocks[{&n, begin}];
    if (rows.empty()) {
      for (int lane = 0; lane < vector_; lane++) {
        const Ref row = replace(position, {{u.range, index(begin)}, {lanes_, index(lane)}});
        const Access part{a.place, linear(row), a.dtype};
        rows.push_back(load_text(part, address(part), vector_, {}, alignment(part, 0)));
      }
      transpose(rows);
    }
    return rows[static_cast<size_t>(u.at - begin)];
  }
  return {};
}

Val Renderer::load_access(const Access& a, const Guard& guard) {
  if (has_vector_terms(a.at)) {
    Val grouped = load_grouped(a, guard);
    return grouped ? grouped : load_gather(a, guard);
  }
  if (a.at.lane == 0) return load_scalar(a, guard);
  if (a.at.lane == 1 || a.at.lane == -1) return load_vector(a, guard);
  if (a.at.lane == 2 && !mask_ && !guard.lanes) return load_pairs(a, guard);
  return load_gather(a, guard);
}

Val Renderer::load(const Node& n) {
  Guard guard;
  if (Ref condition = tree::guard(n)) guard_of(condition, guard);
  if (guard.uniform && b_.is_int(guard.uniform, 0)) return zero(n.dtype, 0);
  const Access a = access(n);
  if (has_vector_terms(a.at))
    if (Val runs = load_runs(n, a, guard)) return runs;
  if (!has_vector_terms(a.at) && std::abs(a.at.lane) > 1)
    if (Val block = load_transposed(n, a, guard)) return block;
  return load_access(a, guard);
}

// ---- stores

void Renderer::touch(PlaceState& p) { p.version++; }

void Renderer::store_text(const Access& a, Val pointer, Val v, int64_t align) {
  b_.effect("store ", typed(to_memory(b_, a.dtype, v)), ", ", typed(pointer), ", align ", align);
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

/// Lanes side by side. In a local place lanes that are off are loaded and stored back, which LLVM keeps in registers.
void Renderer::store_lanes(const Access& a, Val v) {
  bool reversed = a.at.lane == -1;
  int64_t offset = reversed ? 1 - vector_ : 0;
  Val pointer = address(a, offset);
  bool unread = a.place->local && (a.place->lanes || !a.place->mixed) && mask_ == extent_mask_;
  Val mask = unread ? Val{} : mask_;  // what lanes that are off leave in such a place is read by none
  if (reversed) {
    v = reverse(v);
    if (mask) mask = reverse(mask);
  }
  if (!mask) return store_text(a, pointer, v, alignment(a, offset));
  if (!a.place->local || reversed) return store_masked(a, pointer, v, mask);
  Val old = load_text(a, pointer, b_.lanes(v), {}, alignment(a, 0));
  store_text(a, pointer, apply(b_, Op::Where, a.dtype, {mask, v, old}), alignment(a, 0));
}

void Renderer::store_access(const Access& a, Val v) {
  bool scatter = has_vector_terms(a.at);
  if (!scatter && a.at.lane == 0) {
    if (b_.lanes(v) || mask_) broken("LLVM renderer: all lanes write one element");
    return store_text(a, address(a), v, alignment(a, 0));
  }
  v = b_.splat(v, vector_);
  if (!scatter && (a.at.lane == 1 || a.at.lane == -1)) return store_lanes(a, v);
  store_masked(a, lane_addresses(a), v, b_.splat(mask_ ? mask_ : b_.boolean(true), vector_));
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
  p.version++;
  int64_t count = std::max(p.lanes, 1);
  p.dims = {place.src.begin(), place.src.end()};
  for (Ref& d : p.dims) {
    int64_t bound = upper_bound(d, place);
    // Rows of whole vectors, so that no two accesses overlap: then each stays in a register.
    if (p.partial && &d == &p.dims.back()) bound = (bound + p.chunk - 1) / p.chunk * p.chunk;
    count *= const_int(*(d = index(bound)));
  }
  if (p.partial) count += p.chunk;
  Type element{in_memory(place.dtype), 0};
  int64_t bytes = std::max<int64_t>(count, 1) * item_size(place.dtype);
  if (bytes <= stack_bytes) {
    if (!p.base) p.base = b_.alloca_array(element, std::max<int64_t>(count, 1));
  } else {
    Val scratch = argument(32, Scalar::Ptr);
    p.base =
        b_.emit_at(0, {}, {Scalar::Ptr, 0}, "getelementptr i8, ", typed(scratch), ", i64 ", scratch_top_);
    scratch_top_ += (bytes + 63) & ~int64_t{63};
    scratch_bytes_ = std::max(scratch_bytes_, scratch_top_);
  }
}

/// Stores `identity` into `count` elements from a.at on, in vectors of at most `chunk` lanes.
void Renderer::fill_range(Access a, Val identity, int64_t count, int64_t chunk) {
  for (int64_t done = 0; done < count; done += chunk, a.at.constant += chunk) {
    while (chunk > 1 && count - done < chunk) chunk /= 2;
    Val v = chunk > 1 ? b_.splat(identity, static_cast<int>(chunk)) : identity;
    store_text(a, address(a), v, alignment(a, 0));
  }
}

void Renderer::fill(const Node& place) {
  constexpr int64_t most_stores = 32, wide = 64;  // what lives in registers is not filled by a loop
  PlaceState& p = place_of(place);
  Val identity = constant_value(b_, *tree::identity(tree::fold_of(place), place.dtype));
  int64_t count = std::max(p.lanes, 1), chunk = std::max({p.lanes, p.chunk, 1});
  for (const Ref& d : p.dims) count *= const_int(*d);
  Access a{&p, {}, place.dtype};
  if (count / chunk > most_stores) {
    open_loop(b_.i64(0), b_.i64(count / wide));
    int level = std::exchange(p.write_level, b_.depth());
    Access here = a;
    add_term(here.at, b_.counter(), wide);
    fill_range(here, identity, wide, wide);
    p.write_level = level;
    close_loop();
    a.at.constant = count / wide * wide;
    chunk = wide;
  }
  fill_range(a, identity, count - a.at.constant, chunk);
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
  store_text(a, address(a), constant_value(b_, *tree::identity(tree::fold_of(place), place.dtype)),
             alignment(a, 0));
  close_loop();
  close_branch();
}

// ---- folds

Val Renderer::step(const Node& place, Val old, std::span<const Val> v) {
  Fold fold = tree::fold_of(place);
  if (fold == Fold::Dot) return apply(b_, Op::Fma, place.dtype, {v[0], v[1], old});
  return apply(b_, row(fold).step, place.dtype, {old, v[0]});
}

/// Many elements, each a vector: halved in loops, in memory of their own, until few are left.
Access Renderer::halve_in_loops(Access a, const Node& place, int64_t& count) {
  constexpr int64_t few = 8;
  int64_t own = a.place->lanes;
  PlaceState& rest = merging_.emplace_back();
  rest.local = rest.written = true;
  rest.base = b_.alloca_array({in_memory(place.dtype), 0}, count / 2 * own);
  for (; count > few; count /= 2) {
    open_loop(b_.i64(0), b_.i64(count / 2));
    rest.write_level = b_.depth();
    Access to{&rest, {}, a.dtype};
    add_term(to.at, b_.counter(), own);
    add_term(a.at, b_.counter(), own);
    Access other = a;
    other.at.constant += count / 2 * own;
    int lanes = static_cast<int>(own);
    Val x = load_text(a, address(a), lanes, {}, alignment(a, 0));
    Val y = load_text(other, address(other), lanes, {}, alignment(other, 0));
    Val sum = apply(b_, row(tree::fold_of(place)).merge, place.dtype, {x, y});
    store_text(to, address(to), sum, alignment(to, 0));
    close_loop();
    a = {&rest, {}, a.dtype};
  }
  rest.write_level = b_.depth();
  return a;
}

/// The elements to be joined, as vectors of the width with which the place was filled (so that registers stay whole).
std::vector<Val> Renderer::merge_parts(const Node& n) {
  Access a = access(n);
  int64_t count = upper_bound(n.src[0]->src.back(), *n.src[0]), own = a.place->lanes, chunk = own;
  if (own) a.at.lane--;
  if (a.at.lane || has_vector_terms(a.at)) broken("LLVM renderer: lanes choose what is merged");
  if (!own) chunk = std::clamp<int64_t>(a.place->chunk, 1, count);
  // Where the place is not written further in, a merge is used once; else it must be straight to be hoisted.
  if (own && count > 8 && b_.depth() == a.place->write_level) a = halve_in_loops(a, *n.src[0], count);
  std::vector<Val> parts;
  for (int64_t i = 0; i < count; i += own ? 1 : chunk, a.at.constant += chunk)
    parts.push_back(load_text(a, address(a), chunk > 1 ? static_cast<int>(chunk) : 0, {}, alignment(a, 0)));
  return parts;
}

Val Renderer::half(Val v, int from) {
  Type t = b_.type(v);
  int lanes = t.lanes / 2;
  if (lanes == 1) return b_.emit({t.of, 0}, "extractelement ", typed(v), ", i64 ", int64_t{from});
  std::string text = "<";
  for (int i = 0; i < lanes; i++) text.append(i ? ", i32 " : "i32 ").append(std::to_string(from + i));
  text += ">";
  return b_.emit({t.of, lanes}, "shufflevector ", typed(v), ", ", t, " poison, ", Type{Scalar::I32, lanes},
                 " ", text);
}

Val Renderer::merge(const Node& n) {
  const Node& place = *n.src[0];
  if (!tree::has_fold(place)) broken("LLVM renderer: merge of '{}', which has no fold", place.arg.text);
  Op op = row(tree::fold_of(place)).merge;
  std::vector<Val> parts = merge_parts(n);
  for (; parts.size() > 1; parts.resize(parts.size() / 2))
    for (size_t i = 0; i < parts.size() / 2; i++)
      parts[i] = apply(b_, op, place.dtype, {parts[i], parts[i + parts.size() / 2]});
  Val v = parts[0];
  if (place_of(place).lanes) return v;
  while (int lanes = b_.lanes(v)) v = apply(b_, op, place.dtype, {half(v, 0), half(v, lanes / 2)});
  return v;
}

}  // namespace kontor::inline v0::ir
