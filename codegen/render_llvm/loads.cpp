// Loads: how each kind of access is written (codegen/tree/shape_accesses.h says which it is).
#include <algorithm>

#include "base/error.h"
#include "codegen/render_llvm/renderer.h"
#include "codegen/tree/substitute.h"
#include "graph/index/index.h"

namespace kontor::ir {

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

/// Elements side by side, in order or reversed.
Val Renderer::load_vector(const Access& a, const Guard& guard, AccessKind kind, const AccessMask& reasons) {
  const bool is_reversed = kind == AccessKind::Reversed;
  Val mask = reasons.any() ? both(guard.lanes, mask_) : Val{};
  int64_t offset = is_reversed ? 1 - vector_ : 0;
  Val pointer = or_zeros(guard.uniform, address(a, offset));
  if (mask && is_reversed) mask = reverse(mask);
  Val v = load_text(a, pointer, vector_, mask, mask ? item_size(a.dtype) : alignment(a, offset));
  return is_reversed ? reverse(v) : v;
}

/// Every second element: of w elements from the first on those at even places, of w elements up to the last the others.
Val Renderer::load_pairs(const Access& a, const Guard& guard) {
  int64_t w = vector_, size = item_size(a.dtype);
  Val low = load_text(a, or_zeros(guard.uniform, address(a)), vector_, {}, size);
  Val high = load_text(a, or_zeros(guard.uniform, address(a, w - 1)), vector_, {}, size);
  std::vector<int> order;
  for (int i = 0; i < vector_; i++) order.push_back(i < vector_ / 2 ? 2 * i : 2 * i + 1);
  return b_.shuffle(low, high, order);
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

/// Elements side by side of which each is that of a group of `run` lanes.
Val Renderer::load_groups(const Access& a, const Guard& guard, int64_t run) {
  return load_text(a, or_zeros(guard.uniform, address(a)), vector_ / static_cast<int>(run), {},
                   item_size(a.dtype));
}

/// Rows of a dimension that was merged with the one around it, each a whole number of runs: two or four loads instead of
/// a gather.
Val Renderer::load_runs(const Node& n, const Access& a, const Guard& guard, int64_t run) {
  std::vector<Val> parts;
  for (int64_t first = 0; first < vector_; first += run) {
    const Ref position = shapes_.position_of_run(n, *vector_loop_, first, run);
    const Access part{a.place, linear(position), a.dtype, a.part};
    parts.push_back(load_text(part, or_zeros(guard.uniform, address(part)), static_cast<int>(run), {},
                              alignment(part, 0)));
  }
  for (; parts.size() > 1; parts.resize(parts.size() / 2))
    for (size_t i = 0; i < parts.size() / 2; i++) parts[i] = b_.joined(parts[2 * i], parts[2 * i + 1]);
  return parts[0];
}

/// rows[i][k] = rows[k][i], by halves, quarters and so on down to single elements.
void Renderer::transpose(std::vector<Val>& rows) {
  const size_t n = rows.size();
  for (size_t block = n / 2; block > 0; block /= 2) {
    std::vector<int> low, high;
    for (size_t k = 0; k < n; k++) {
      const bool first = (k & block) == 0;
      low.push_back(static_cast<int>(first ? k : n + k - block));
      high.push_back(static_cast<int>(first ? k + block : n + k));
    }
    for (size_t i = 0; i < n; i++) {
      if (i & block) continue;
      const Val x = rows[i], y = rows[i + block];
      rows[i] = b_.shuffle(x, y, low);
      rows[i + block] = b_.shuffle(x, y, high);
    }
  }
}

/// The square block in memory of which the access has a column.
Renderer::Square Renderer::square_of(const Node& n, const Node& along, int64_t side) {
  size_t k = 0;
  while (copies_[k].range != &along) k++;
  const int64_t begin = copies_[k].at / side * side;
  std::vector<int64_t> copy = {begin};
  for (size_t inside = k + 1; inside < copies_.size(); inside++) copy.push_back(copies_[inside].at);
  return {along, begin, copies_[k].at - begin, blocks_[k][{&n, copy}]};
}

Access Renderer::row_of(const Node& n, const Access& a, const Square& square, int lane) {
  const Node* range = vector_loop_->src[0].get();
  const Ref row = replace(shapes_.position(n, *vector_loop_),
                          {{&square.along, index(square.begin)}, {range, index(lane)}});
  return {a.place, linear(row), a.dtype, a.part};
}

/// Asks for the lines that lie `ahead` bytes (0: nothing is asked) from those of so many elements; beyond the memory's end that does
/// nothing.
void Renderer::ask_ahead(const Access& a, int64_t elements, int64_t ahead) {
  const int64_t item = item_size(a.dtype), bytes = elements * item;
  if (ahead == 0) return;
  b_.declare("llvm.prefetch.p0", "void", "ptr, i32, i32, i32");
  for (int64_t at = ahead; at < ahead + bytes; at += line_bytes)  // to be read, by all caches, as data
    b_.effect("call void @llvm.prefetch.p0(", typed(address(a, at / item)), ", i32 0, i32 3, i32 1)");
}

/// As many words as there are lanes, each of some elements as they lie in memory.
Val Renderer::load_words(const Access& a, int64_t in_word) {
  if (in_word == 1) return load_text(a, address(a), vector_, {}, alignment(a, 0));
  const Access words{a.place, a.at, unsigned_of(static_cast<int>(8 * item_size(a.dtype) * in_word)), a.part};
  return load_text(words, address(a), vector_, {}, item_size(a.dtype));
}

/// A square block is loaded along memory, transposed in registers, and serves as many copies as there are elements in its rows.
Val Renderer::load_block(const Node& n, const Access& a, const AccessShape& shape) {
  const int64_t in_word = std::max<int64_t>(shape.run, 1), bits = 8 * item_size(a.dtype);
  const Square square = square_of(n, *shape.along, vector_ * in_word);
  std::vector<Val>& rows = square.rows;
  if (rows.empty()) {
    for (int lane = 0; lane < vector_; lane++) {
      const Access part = row_of(n, a, square, lane);
      rows.push_back(load_words(part, in_word));
      ask_ahead(part, vector_ * in_word, shape.ahead);
    }
    transpose(rows);
  }
  Val v = rows[static_cast<size_t>(square.column / in_word)];
  if (in_word == 1) return v;
  const Type word = b_.type(v), element{in_memory(a.dtype), vector_};
  if (const int64_t before = square.column % in_word * bits)
    v = b_.emit(word, "lshr ", typed(v), ", ", b_.splat(b_.int_const(word.of, before), vector_));
  return from_memory(b_, a.dtype, b_.emit(element, "trunc ", typed(v), " to ", element));
}

/// The other way: what the copies store is kept until the block is whole.
void Renderer::store_block(const Node& n, const Access& a, const AccessShape& shape, Val v) {
  const Square square = square_of(n, *shape.along, vector_);
  std::vector<Val>& rows = square.rows;
  rows.push_back(b_.splat(v, vector_));
  if (static_cast<int>(rows.size()) < vector_) return;
  transpose(rows);
  for (int lane = 0; lane < vector_; lane++) {
    const Access part = row_of(n, a, square, lane);
    const Val row = rows[static_cast<size_t>(lane)];
    if (shape.past_caches) store_past_caches(part, address(part), row);
    else store_text(part, address(part), row, alignment(part, 0));
  }
}

AccessShape Renderer::shape_of(const Node& n) {
  if (!vector_) return {};
  const auto straight = std::ranges::find(copy_depths_, b_.depth()) - copy_depths_.begin();
  return shapes_.of(n, {.vector = vector_loop_,
                        .branch = mask_ != extent_mask_,
                        .copies = copies_,
                        .straight = static_cast<size_t>(straight)});
}

/// The access of lane 0, with the stride that its shape has. What the renderer knows of a position may hide that: then it is
/// taken from the tree.
Access Renderer::first_lane(const Node& n, const Access& a, const AccessShape& shape) {
  if (!vector_) return a;
  Linear rest = a.at;
  if (shape.run) add_term(rest, b_.lane_numbers(Scalar::I64, vector_ / static_cast<int>(shape.run), 1), -1);
  if (!has_vector_terms(rest) && rest.lane == shape.stride) return a;
  const Ref first = replace(shapes_.position(n, *vector_loop_), {{vector_loop_->src[0].get(), index(0)}});
  Access out = a;
  out.at = linear(first);
  return out;
}

Val Renderer::load_as(const Node& n, const AccessShape& shape, const Access& a, const Guard& guard) {
  switch (shape.kind) {
    case AccessKind::Gather:  return load_gather(a, guard);
    case AccessKind::Runs:    return load_runs(n, a, guard, shape.run);
    case AccessKind::Block:   return load_block(n, a, shape);
    case AccessKind::Uniform: return load_scalar(first_lane(n, a, shape), guard);
    case AccessKind::Pairs:   return load_pairs(first_lane(n, a, shape), guard);
    case AccessKind::Groups:  return load_groups(first_lane(n, a, shape), guard, shape.run);
    default:                  break;
  }
  const Access first = first_lane(n, a, shape);
  ask_ahead(first, vector_, shape.ahead);
  return load_vector(first, guard, shape.kind, shape.mask);
}

Val Renderer::load(const Node& n) {
  Guard guard;
  if (Ref condition = tree::guard(n)) guard_of(condition, guard);
  if (guard.uniform && b_.is_int(guard.uniform, 0)) return zero(n.dtype, 0);
  const Access a = access(n);
  return load_as(n, shape_of(n), a, guard);
}

}  // namespace kontor::ir
