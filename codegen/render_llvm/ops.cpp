// Elementwise ops as LLVM instructions. Nothing here may trap, call a library, or let LLVM regroup floats.
#include "codegen/render_llvm/ops.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "base/error.h"
#include "codegen/tree/decompose.h"
#include "codegen/tree/tree.h"
#include "graph/node_map.h"
#include "graph/scalar.h"

namespace kontor::ir {

Scalar in_register(DType dtype) {
  switch (kind(dtype)) {
    case Kind::Bool:  return Scalar::I1;
    case Kind::Float: return dtype == DType::F64 ? Scalar::Double : Scalar::Float;
    default:          break;
  }
  switch (row(dtype).bits) {
    case 8:  return Scalar::I8;
    case 16: return Scalar::I16;
    case 32: return Scalar::I32;
    default: return Scalar::I64;
  }
}

Scalar in_memory(DType dtype) {
  if (dtype == DType::Bool) return Scalar::I8;
  return in_register(is_narrow(dtype) ? unsigned_of(row(dtype).bits) : dtype);
}

namespace {

Type like(Builder& b, Val v, Scalar of) { return {of, b.lanes(v)}; }
Val binary(Builder& b, std::string_view op, Val x, Val y) {
  return b.emit(b.type(x), op, " ", typed(x), ", ", y);
}
Val convert(Builder& b, std::string_view op, Val v, Scalar to) {
  Type t = like(b, v, to);
  return t == b.type(v) ? v : b.emit(t, op, " ", typed(v), " to ", t);
}
int width(Builder& b, Val v) { return row(b.type(v).of).bits; }

}  // namespace

Val constant_value(Builder& b, const Node& n) {
  if (!is_float(n.dtype)) return b.int_const(in_register(n.dtype), const_int(n));
  return b.float_const(in_register(n.dtype), to_double(n.dtype, value_of(n)));
}

Facts Facts::of(const Node& n) {
  if (n.src.size() < 2 || is_float(n.src[0]->dtype) || n.src[0]->dtype == DType::U64) return {};
  return {n.src[0]->bounds, n.src[1]->bounds};
}

namespace {

using Values = std::span<const Val>;

/// What a primitive op (codegen/tree/decompose.h) is on floats, signed and unsigned integers, and bools: an instruction, or of
/// one that is called the name; empty: none.
struct OpText {
  Op op;
  std::string_view floating, signed_, unsigned_, boolean;
};
// clang-format off
constexpr OpText op_texts[] = {
    {Op::Add,  "fadd",     "add",      "add",      ""},
    {Op::Sub,  "fsub",     "sub",      "sub",      ""},
    {Op::Mul,  "fmul",     "mul",      "mul",      ""},
    {Op::Div,  "fdiv",     "",         "",         ""},
    {Op::IDiv, "",         "udiv",     "udiv",     ""},
    {Op::Mod,  "",         "urem",     "urem",     ""},
    {Op::And,  "",         "and",      "and",      "and"},
    {Op::Or,   "",         "or",       "or",       "or"},
    {Op::Xor,  "",         "xor",      "xor",      "xor"},
    {Op::Shl,  "",         "shl",      "shl",      ""},
    {Op::Shr,  "",         "ashr",     "lshr",     ""},
    {Op::Lt,   "fcmp olt", "icmp slt", "icmp ult", ""},
    {Op::Le,   "fcmp ole", "icmp sle", "icmp ule", ""},
    {Op::Eq,   "fcmp oeq", "icmp eq",  "icmp eq",  "icmp eq"},
    {Op::Ne,   "fcmp une", "icmp ne",  "icmp ne",  "icmp ne"},
    {Op::Abs,  "fabs",     "",         "",         ""},
    {Op::Sqrt, "sqrt",     "",         "",         ""},
    {Op::Floor, "floor",   "",         "",         ""},
    {Op::Ceil, "ceil",     "",         "",         ""},
    {Op::Fma,  "fma",      "",         "",         ""},
};
// clang-format on

std::string_view text_of(Op op, DType dtype) {
  for (const OpText& r : op_texts) {
    if (r.op != op) continue;
    if (is_float(dtype)) return r.floating;
    if (dtype == DType::Bool) return r.boolean;
    return kind(dtype) == Kind::Signed ? r.signed_ : r.unsigned_;
  }
  return {};
}

/// And, Or with a constant, and comparisons of constants: what guards become where loops are unrolled.
Val fold_logic(Builder& b, Op op, Val x, Val y) {
  int64_t p = 0, q = 0;
  bool known_x = b.constant(x, p), known_y = b.constant(y, q);
  if (b.type(x).of == Scalar::I1 && (op == Op::And || op == Op::Or) && (known_x || known_y)) {
    bool c = (known_x ? p : q) != 0;
    Val constant = known_x ? x : y, other = known_x ? y : x;
    return c == (op == Op::Or) ? constant : other;
  }
  if (b.type(x).of != Scalar::I64 || !known_x || !known_y || b.lanes(x)) return {};
  switch (op) {
    case Op::Lt: return b.boolean(p < q);
    case Op::Le: return b.boolean(p <= q);
    case Op::Eq: return b.boolean(p == q);
    case Op::Ne: return b.boolean(p != q);
    default:     return {};
  }
}

Val where(Builder& b, Values v) {
  int64_t bits = 0;
  if (b.constant(v[0], bits)) return bits ? v[1] : v[2];
  return b.emit(b.type(v[1]), "select ", typed(v[0]), ", ", typed(v[1]), ", ", typed(v[2]));
}

Val negated(Builder& b, DType dtype, Val x) {
  if (is_float(dtype)) return b.emit(b.type(x), "fneg ", typed(x));
  return binary(b, "sub", b.splat(b.int_const(b.type(x).of, 0), b.lanes(x)), x);
}

Val inverse(Builder& b, Val x) {
  int64_t bits = 0;
  const bool is_bool = b.type(x).of == Scalar::I1;
  if (is_bool && !b.lanes(x) && b.constant(x, bits)) return b.boolean(!bits);
  return binary(b, "xor", x, b.splat(b.int_const(b.type(x).of, is_bool ? 1 : -1), b.lanes(x)));
}

/// The greater or less of two floats.
bool is_choice(Op op, DType dtype) {
  return (op == Op::Max || op == Op::Min) && is_float(dtype) && !is_narrow(dtype);
}

/// The formula of decompose.cpp in two choices, of which the inner one is an instruction of many processors: the second of the two where
/// either is no number. LLVM would join them to one that is none; a fence stands between.
Val extreme(Builder& b, Op op, Values v) {
  const Type type = b.type(v[0]), condition = like(b, v[0], Scalar::I1);
  const std::string_view compare = op == Op::Max ? "fcmp ogt " : "fcmp olt ";
  const Val first = b.emit(condition, compare, typed(v[0]), ", ", v[1]);
  const Val numbers = where(b, std::vector{first, v[0], v[1]});
  const Val kept = b.call("arithmetic.fence", type, type, {numbers});
  return where(b, std::vector{b.emit(condition, "fcmp une ", typed(v[0]), ", ", v[0]), v[0], kept});
}

Val primitive(Builder& b, Op op, DType dtype, Values v) {
  if (op == Op::Where) return where(b, v);
  if (op == Op::Neg) return negated(b, dtype, v[0]);
  if (op == Op::Not) return inverse(b, v[0]);
  if (is_choice(op, dtype)) return extreme(b, op, v);
  const std::string_view text = text_of(op, dtype);
  if (text.empty()) broken("LLVM renderer: {} of {}", row(op).name, name(dtype));
  if (v.size() == 1) return b.call(text, b.type(v[0]), b.type(v[0]), {v[0]});
  if (v.size() == 3) return b.call(text, b.type(v[0]), b.type(v[0]), {v[0], v[1], v[2]});
  if (!is_float(dtype))
    if (Val known = fold_logic(b, op, v[0], v[1])) return known;
  if (!has(op, Comparison)) return binary(b, text, v[0], v[1]);
  return b.emit(like(b, v[0], Scalar::I1), text, " ", typed(v[0]), ", ", v[1]);
}

Val primitive_cast(Builder& b, DType to, DType from, Val v) {
  if (to == DType::F16) return b.widened(b.narrowed(v));
  const Scalar target = in_register(to);
  const bool is_signed = kind(from) == Kind::Signed;
  if (is_float(from) && is_float(to)) return convert(b, to == DType::F64 ? "fpext" : "fptrunc", v, target);
  if (is_float(from)) return convert(b, kind(to) == Kind::Signed ? "fptosi" : "fptoui", v, target);
  if (is_float(to)) return convert(b, is_signed ? "sitofp" : "uitofp", v, target);
  if (int64_t bits = 0; !b.lanes(v) && b.constant(v, bits))
    return b.int_const(target, constant(to, bits)->at(0));
  return convert(b, row(target).bits < width(b, v) ? "trunc" : is_signed ? "sext" : "zext", v, target);
}

Val primitive_bitcast(Builder& b, DType to, DType from, Val v) {
  if (from == DType::F16) return convert(b, "bitcast", b.narrowed(v), in_register(to));
  if (to == DType::F16) return b.widened(convert(b, "bitcast", v, Scalar::Half));
  return convert(b, "bitcast", v, in_register(to));
}

/// Of nodes whose sources are numbered Slots, the values given: primitives are emitted, others by their formulas.
class Evaluation {
 public:
  Evaluation(Builder& b, Values given) : b_(b), given_(given) {}

  Val value(const Ref& n) {
    if (n->is_const()) return constant_value(b_, *n);
    if (n->op == Op::Slot) return given_[static_cast<size_t>(n->at(0))];
    if (auto it = known_.find(n.get()); it != known_.end()) return it->second;
    const bool here = is_choice(n->op, n->dtype) && !(*n)[0]->is_const() && !(*n)[1]->is_const();
    const Ref formula = here ? Ref() : decompose(*n, b_.natives());
    const Val v = formula ? value(formula) : emitted(*n);
    formulas_.push_back(formula);  // the map knows its nodes by their address
    known_[n.get()] = v;
    if (formula && is_rounding(*n)) {
      const Ref code = make(Op::Bitcast, {n}, {}, unsigned_of(row(n->dtype).bits));
      b_.note_code(v, value(code));
      formulas_.push_back(code);
    }
    return v;
  }

 private:
  static bool is_rounding(const Node& n) {
    return n.op == Op::Cast && is_narrow(n.dtype) && n[0]->dtype == DType::F32 && !is_primitive_here(n);
  }

  Val emitted(const Node& n) {
    const DType from = n[n.op == Op::Where ? 1 : 0]->dtype;
    Val v[3];
    int lanes = 0;
    const size_t count = n.src.size();
    for (size_t i = 0; i < count; i++) lanes = std::max(lanes, b_.lanes(v[i] = value(n[i])));
    for (size_t i = 0; i < count; i++)
      if (n.op != Op::Where || i > 0 || b_.lanes(v[i])) v[i] = b_.splat(v[i], lanes);
    if (n.op == Op::Cast && (is_narrow(from) || (is_narrow(n.dtype) && is_primitive_here(n)))) return v[0];
    if (n.op == Op::Cast) return primitive_cast(b_, n.dtype, from, v[0]);
    if (n.op == Op::Bitcast) return primitive_bitcast(b_, n.dtype, from, v[0]);
    return primitive(b_, n.op, from, std::span(v, count));
  }

  Builder& b_;
  Values given_;
  NodeMap<Val> known_;
  std::vector<Ref> formulas_;
};

/// A constant as such, so that formulas see it; else a Slot.
Ref operand(Builder& b, DType dtype, Val v, int64_t number, Bounds bounds) {
  int64_t bits = 0;
  if (!b.constant(v, bits)) return tree::slot(dtype, number, bounds);
  return is_float(dtype) ? constant(dtype, std::bit_cast<double>(bits)) : constant(dtype, bits);
}

/// Whether primitive whatever its operands are.
bool is_plain(Op op, DType dtype) {
  if (op == Op::Where) return true;
  if (op == Op::IDiv || op == Op::Mod || op == Op::Shl || op == Op::Shr || is_narrow(dtype)) return false;
  return op == Op::Not || (op == Op::Neg && dtype != DType::Bool) || !text_of(op, dtype).empty();
}

}  // namespace

Val apply(Builder& b, Op op, DType dtype, std::span<const Val> v, const Facts& facts) {
  if (is_plain(op, dtype)) return primitive(b, op, dtype, v);
  std::vector<Val> given(v.begin(), v.end());
  const Bounds bounds[] = {facts.left, facts.right, {}};
  const int lanes = b.lanes(v[0]);
  // In lanes that are switched off anything may stand: a divisor is not trusted to keep its bounds there.
  const bool divides = op == Op::IDiv || op == Op::Mod;
  if (int64_t bits = 0; divides && lanes && facts.right.lo > 0 && !b.constant(v[1], bits))
    given[1] = apply(b, Op::Max, dtype, {v[1], b.splat(b.int_const(b.type(v[1]).of, 1), lanes)});
  std::vector<Ref> src;
  for (size_t i = 0; i < v.size(); i++)
    src.push_back(operand(b, dtype, given[i], static_cast<int64_t>(i), bounds[i]));
  return b.splat(Evaluation(b, given).value(make(op, src)), lanes);
}

namespace {

/// `count` lanes of v from the one of that number on, with anything in those beyond its own; a scalar is a vector of one.
Val lanes_from(Builder& b, Val v, int first, int count) {
  const Type from = b.type(v), to{from.of, count};
  if (!from.lanes) return b.emit(to, "insertelement ", to, " zeroinitializer, ", typed(v), ", i64 0");
  std::vector<int> order;
  for (int i = 0; i < count; i++) order.push_back(std::min(first + i, from.lanes - 1));
  return b.shuffle(v, {}, order);
}

/// A step of pairs in 4, 8 or 16 lanes.
Val pair_step(Builder& b, Val so_far, std::span<const Val> v) {
  const Type state = b.type(so_far), pairs{Scalar::BFloat, 2 * state.lanes};
  Val factors[2];
  for (size_t i = 0; i < 2; i++) factors[i] = b.emit(pairs, "bitcast ", typed(v[i]), " to ", pairs);
  const std::string lanes = std::to_string(state.lanes), more = std::to_string(2 * state.lanes);
  const std::string type = "<" + lanes + " x float>", pair = "<" + more + " x bfloat>";
  const std::string name = "llvm.x86.avx512bf16.dpbf16ps." + std::to_string(32 * state.lanes);
  b.declare(name, type, type + ", " + pair + ", " + pair);
  return b.emit(state, "call ", state, " @", name, "(", typed(so_far), ", ", typed(factors[0]), ", ",
                typed(factors[1]), ")");
}

}  // namespace

/// In any number of lanes it is the instruction, which has denormals as 0: else results would hang on the tile.
Val native_step(Builder& b, Fold fold, Val so_far, std::span<const Val> v) {
  if (fold != Fold::PairDot || !b.natives().bf16_pairs) return {};
  const int lanes = b.lanes(so_far), wide = std::clamp(lanes, 4, 16);
  if (wide == lanes) return pair_step(b, so_far, v);
  std::vector<Val> parts;
  for (int first = 0; first < std::max(lanes, 1); first += wide) {
    const Val factors[] = {lanes_from(b, v[0], first, wide), lanes_from(b, v[1], first, wide)};
    parts.push_back(pair_step(b, lanes_from(b, so_far, first, wide), factors));
  }
  if (lanes == 0) return b.emit({Scalar::Float, 0}, "extractelement ", typed(parts[0]), ", i64 0");
  if (lanes < wide) return lanes_from(b, parts[0], 0, lanes);
  for (; parts.size() > 1; parts.resize(parts.size() / 2))
    for (size_t i = 0; i < parts.size() / 2; i++) parts[i] = b.joined(parts[2 * i], parts[2 * i + 1]);
  return parts[0];
}

std::vector<Val> evaluate(Builder& b, std::span<const Ref> formulas, std::span<const Val> slots) {
  Evaluation evaluation(b, slots);
  std::vector<Val> out;
  for (const Ref& f : formulas) out.push_back(evaluation.value(f));
  return out;
}

Val cast(Builder& b, DType to, DType from, Val v) {
  if (to == from) return v;
  const bool widths = is_integer(to) && !is_float(from);
  if (widths) return primitive_cast(b, to, from, v);
  const Ref x = operand(b, from, v, 0, {});
  return b.splat(Evaluation(b, std::span(&v, 1)).value(make(Op::Cast, {x}, {}, to)), b.lanes(v));
}

Val bitcast(Builder& b, DType to, DType from, Val v) {
  if (is_narrow(from) && to == unsigned_of(row(from).bits))
    if (const Val code = b.code(v)) return code;
  const Ref x = operand(b, from, v, 0, {});
  return b.splat(Evaluation(b, std::span(&v, 1)).value(make(Op::Bitcast, {x}, {}, to)), b.lanes(v));
}

Val from_memory(Builder& b, DType dtype, Val v) {
  if (dtype == DType::Bool) return cast(b, DType::Bool, DType::U8, v);
  if (!is_narrow(dtype)) return v;
  return bitcast(b, dtype, unsigned_of(row(dtype).bits), v);
}

Val to_memory(Builder& b, DType dtype, Val v) {
  if (dtype == DType::Bool) return cast(b, DType::U8, DType::Bool, v);
  if (!is_narrow(dtype)) return v;
  return bitcast(b, unsigned_of(row(dtype).bits), dtype, v);
}

}  // namespace kontor::ir
