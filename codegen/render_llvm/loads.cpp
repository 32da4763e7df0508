// Loads: which shape an access has (one element, side by side, every second one, runs, a square block, a gather).
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

/// Elements side by side, in order or reversed. A local place has room for lanes that are beyond the vector loop's extent,
/// but not for others that are switched off, which may lie before it too.
Val Renderer::load_vector(const Access& a, const Guard& guard) {
  bool reversed = a.at.lane == -1, roomy = a.place->local && !reversed && mask_ == extent_mask_;
  Val mask = guard.lanes || !roomy ? both(guard.lanes, mask_) : Val{};
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
      for (size_t i = 0; i < parts.size() / 2; i++) parts[i] = b_.joined(parts[2 * i], parts[2 * i + 1]);
    return parts[0];
  }
  return {};
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

/// Lanes far apart, while the copies of an unrolled loop around them lie side by side: a square block in memory, of which the
/// copy that the loop is at has a column. None if it is another access.
std::optional<Renderer::Square> Renderer::square_of(const Node& n, const PlaceState& p) {
  constexpr int most = 16;
  if (mask_ || vector_ < 4 || vector_ > most) return {};
  const Ref position = ix::flatten(tree::at(n), p.dims);
  for (size_t k = 0; k < unrolled_.size(); k++) {
    Unrolled& u = unrolled_[k];
    const int64_t begin = u.at / vector_ * vector_;
    int64_t apart = 0;
    if (u.depth != b_.depth() || begin + vector_ > u.count) continue;
    if (!ix::affine(position, Ref(u.range), apart) || apart != 1) continue;
    std::vector<int64_t> copy = {begin};
    for (size_t inside = k + 1; inside < unrolled_.size(); inside++) copy.push_back(unrolled_[inside].at);
    return Square{position, u.range, begin, u.at - begin, u.blocks[{&n, copy}]};
  }
  return {};
}

Access Renderer::row_of(const Square& square, const Access& a, int lane) {
  const Ref row = replace(square.position, {{square.range, index(square.begin)}, {lanes_, index(lane)}});
  return {a.place, linear(row), a.dtype};
}

/// A square block is loaded along memory, transposed in registers, and serves as many copies as there are lanes.
Val Renderer::load_transposed(const Node& n, const Access& a, const Guard& guard) {
  if (guard.uniform || guard.lanes || a.place->written) return {};
  const std::optional<Square> square = square_of(n, *a.place);
  if (!square) return {};
  std::vector<Val>& rows = square->rows;
  if (rows.empty()) {
    for (int lane = 0; lane < vector_; lane++) {
      const Access part = row_of(*square, a, lane);
      rows.push_back(load_text(part, address(part), vector_, {}, alignment(part, 0)));
    }
    transpose(rows);
  }
  return rows[static_cast<size_t>(square->column)];
}

/// The other way: what the copies store is kept until the block is whole. False if it is another access.
bool Renderer::store_transposed(const Node& n, const Access& a, Val v) {
  if (a.place->local || a.place->read) return false;
  const std::optional<Square> square = square_of(n, *a.place);
  if (!square) return false;
  std::vector<Val>& rows = square->rows;
  rows.push_back(b_.splat(v, vector_));
  if (static_cast<int>(rows.size()) < vector_) return true;
  transpose(rows);
  for (int lane = 0; lane < vector_; lane++) {
    const Access part = row_of(*square, a, lane);
    store_text(part, address(part), rows[static_cast<size_t>(lane)], alignment(part, 0));
  }
  return true;
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

}  // namespace kontor::ir
