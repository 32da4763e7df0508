// Index expressions: smart constructors over the rules of the index algebra.
#include "graph/index/index.h"

#include <algorithm>

#include "base/error.h"
#include "graph/index/algebra.h"

namespace kontor::ix {

Ref range(const Ref& extent, const std::string& name) {
  return make(Op::Range, {extent}, {.ints = {fresh_id()}, .text = name}, DType::I64);
}
Ref range(int64_t extent, const std::string& name) { return range(index(extent), name); }

Ref add(const Ref& a, const Ref& b) { return Algebra().add(a, b); }
Ref sub(const Ref& a, const Ref& b) { return Algebra().sub(a, b); }
Ref mul(const Ref& a, const Ref& b) { return Algebra().mul(a, b); }
Ref idiv(const Ref& a, const Ref& b) { return Algebra().idiv(a, b); }
Ref mod(const Ref& a, const Ref& b) { return Algebra().mod(a, b); }
Ref min(const Ref& a, const Ref& b) { return Algebra().extremum(Op::Min, a, b); }
Ref max(const Ref& a, const Ref& b) { return Algebra().extremum(Op::Max, a, b); }
Ref lt(const Ref& a, const Ref& b) { return Algebra().lt(a, b); }
Ref le(const Ref& a, const Ref& b) { return Algebra().le(a, b); }
Ref eq(const Ref& a, const Ref& b) { return Algebra().eq(a, b); }
Ref both(const Ref& a, const Ref& b) { return !a ? b : !b ? a : Algebra().both(a, b); }
Ref where(const Ref& c, const Ref& a, const Ref& b) { return Algebra().where(c, a, b); }
Ref ceil_div(const Ref& a, const Ref& b) { return idiv(add(a, sub(b, index(1))), b); }

Ref product(std::span<const Ref> dims) {
  Ref total = index(1);
  for (const Ref& d : dims) total = mul(total, d);
  return total;
}

Ref flatten(std::span<const Ref> at, std::span<const Ref> dims) {
  Ref position = index(0);
  for (size_t i = 0; i < dims.size(); i++) position = add(mul(position, dims[i]), at[i]);
  return position;
}

std::vector<Ref> unflatten(const Ref& position, std::span<const Ref> dims) {
  std::vector<Ref> at(dims.size());
  Ref rest = position;
  for (size_t i = dims.size(); i-- > 0;) {
    at[i] = i == 0 ? rest : mod(rest, dims[i]);
    rest = idiv(rest, dims[i]);
  }
  return at;
}

bool depends_on(const Ref& expression, const Ref& range) {
  for (const Node* n : topological(std::span(&expression, 1)))
    if (n == range.get()) return true;
  return false;
}

// An i64 wraps, as it does in a kernel: the text of one may say anything.
static int64_t wrap_add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
static int64_t wrap_mul(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

bool affine(const Ref& e, const Ref& range, int64_t& coefficient) {
  if (e == range) return coefficient = 1, true;
  if (!depends_on(e, range)) return coefficient = 0, true;
  int64_t a = 0, b = 0;
  if (e->op == Op::Add) {
    if (!affine(e->src[0], range, a) || !affine(e->src[1], range, b)) return false;
    return coefficient = wrap_add(a, b), true;
  }
  if (e->op == Op::Mul && e->src[1]->is_const()) {
    if (!affine(e->src[0], range, a)) return false;
    return coefficient = wrap_mul(a, const_int(*e->src[1])), true;
  }
  return false;
}

int64_t evaluate(const Ref& expression, const NodeMap<int64_t>& values) {
  NodeMap<int64_t> known = values;
  auto floor_div = [](int64_t a, int64_t b) {
    if (b == -1) return wrap_mul(a, -1);  // of INT64_MIN it is INT64_MIN
    return b == 0 ? 0 : a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
  };
  for (const Node* n : topological(std::span(&expression, 1))) {
    if (known.count(n)) continue;
    auto v = [&](size_t i) { return known.at(n->src[i].get()); };
    switch (n->op) {
      case Op::Const: known[n] = const_int(*n); break;
      case Op::Add:   known[n] = wrap_add(v(0), v(1)); break;
      case Op::Sub:   known[n] = wrap_add(v(0), wrap_mul(v(1), -1)); break;
      case Op::Neg:   known[n] = wrap_mul(v(0), -1); break;
      case Op::Mul:   known[n] = wrap_mul(v(0), v(1)); break;
      case Op::IDiv:  known[n] = floor_div(v(0), v(1)); break;
      case Op::Mod:
        known[n] = v(1) == 0 ? 0 : wrap_add(v(0), wrap_mul(wrap_mul(floor_div(v(0), v(1)), v(1)), -1));
        break;
      case Op::Min:   known[n] = std::min(v(0), v(1)); break;
      case Op::Max:   known[n] = std::max(v(0), v(1)); break;
      case Op::Lt:    known[n] = v(0) < v(1); break;
      case Op::Le:    known[n] = v(0) <= v(1); break;
      case Op::Eq:    known[n] = v(0) == v(1); break;
      case Op::Ne:    known[n] = v(0) != v(1); break;
      case Op::And:   known[n] = v(0) & v(1); break;
      case Op::Or:    known[n] = v(0) | v(1); break;
      case Op::Not:   known[n] = n->dtype == DType::Bool ? !v(0) : ~v(0); break;
      case Op::Where: known[n] = v(0) ? v(1) : v(2); break;
      case Op::Cast:  known[n] = v(0); break;
      default:        broken("evaluate: {} is not an index operation", row(n->op).name);
    }
  }
  return known.at(expression.get());
}

}  // namespace kontor::ix
