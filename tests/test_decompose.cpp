// [decompose] What ops are made of means what they mean, bit for bit, in every dtype, and ends at what a renderer may print: the
// operands of each primitive keep what codegen/tree/decompose.h promises of them.
#include <random>

#include "codegen/render.h"
#include "codegen/schedule.h"
#include "codegen/tree/decompose.h"
#include "codegen/tree/tree.h"
#include "graph/functions/functions.h"
#include "graph/node_map.h"
#include "graph/scalar.h"
#include "graph/shape.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

DType source_of(const Node& n) { return n[n.op == Op::Where ? 1 : 0]->dtype; }

/// The value of a node on Slots by its formula; a primitive by graph/scalar.h.
class Formula {
 public:
  Formula(const Natives& natives, std::span<const Value> slots) : natives_(natives), slots_(slots) {}

  Value value(const Ref& n) {
    if (n->is_const()) return value_of(*n);
    if (n->op == Op::Slot) return slots_[static_cast<size_t>(n->at(0))];
    if (auto it = known_.find(n.get()); it != known_.end()) return it->second;
    const Ref formula = decompose(*n, natives_);
    const Value v = formula ? value(formula) : primitive(*n);
    kept_.push_back(formula);
    return known_[n.get()] = v;
  }

  std::string mistake;  // the first primitive that was asked for what it does not promise

 private:
  Value primitive(const Node& n) {
    std::vector<Value> args;
    for (const Ref& s : n.src) args.push_back(value(s));
    const Value result = apply(n.op, n.dtype, source_of(n), args.data());
    const bool shifts = n.op == Op::Shl || n.op == Op::Shr;
    if (shifts && args[1].bits >= static_cast<uint64_t>(row(n.dtype).bits)) return {args[0].bits ^ 0x5a};
    if (!allowed(n, args, result) && mistake.empty())
      mistake = fmt::format("{} of {}: {} {}", row(n.op).name, name(source_of(n)), args[0].bits,
                            args.size() > 1 ? args[1].bits : 0);
    return result;
  }

  bool allowed(const Node& n, std::span<const Value> args, Value result) const {
    const DType of = source_of(n);
    const auto integer = [&](size_t i) { return to_int(of, args[i]); };
    const bool is_unsigned = kind(of) == Kind::Unsigned;
    switch (n.op) {
      case Op::Where: return true;
      case Op::Cast:  return allowed_cast(n, args[0], result);
      case Op::Bitcast:
        if (natives_.f16 && (of == DType::F16 || n.dtype == DType::F16)) return true;
        return !is_narrow(of) && !is_narrow(n.dtype) && of != DType::Bool && n.dtype != DType::Bool;
      case Op::IDiv:
      case Op::Mod:
        return is_integer(of) && (is_unsigned ? args[1].bits != 0 : integer(0) >= 0 && integer(1) > 0);
      case Op::Shl:
      case Op::Shr: return is_integer(of);
      case Op::And:
      case Op::Or:
      case Op::Xor:
      case Op::Not:
      case Op::Eq:
      case Op::Ne:  return !is_narrow(of);
      case Op::Max:
      case Op::Min: return false;
      case Op::Abs:
      case Op::Fma: return of == DType::F32 || of == DType::F64;
      default:      return !is_narrow(of) && of != DType::Bool;
    }
  }

  bool allowed_cast(const Node& n, Value x, Value result) const {
    const DType to = n.dtype, from = n[0]->dtype;
    if (is_narrow(from)) return to == DType::F32;
    if (to == DType::Bool) return false;
    if (is_primitive_here(n) && is_float(from) && is_integer(to)) {
      const double value = std::trunc(to_double(from, x));
      return value == to_double(to, result) || std::abs(value) >= 0x1p53;  // where to_double rounds
    }
    if (is_primitive_here(n))
      return to_double(from, x) == to_double(to, result) || std::isnan(to_double(from, x));
    if (natives_.f16 && to == DType::F16) return from == DType::F32;
    return !is_narrow(to) && !(is_float(from) && is_integer(to));
  }

  Natives natives_;
  std::span<const Value> slots_;
  NodeMap<Value> known_;
  std::vector<Ref> kept_;
};

bool same(DType dtype, Value a, Value b) {
  return a == b || (is_float(dtype) && std::isnan(to_double(dtype, a)) && std::isnan(to_double(dtype, b)));
}

/// "" or what is wrong of op on these values (the first of `dtype`).
std::string wrong(const Ref& n, const Natives& natives, std::span<const Value> args) {
  Formula formula(natives, args);
  const Value got = formula.value(n), want = apply(n->op, n->dtype, source_of(*n), args.data());
  if (!formula.mistake.empty()) return formula.mistake;
  if (same(n->dtype, got, want)) return "";
  // A NaN of a narrow float goes through f32, where it may lose its payload.
  const DType narrow = source_of(*n);
  if (n->op == Op::Bitcast && is_narrow(narrow) && same(narrow, got, want)) return "";
  std::string list;
  for (const Value& v : args) list += fmt::format(" {:#x}", v.bits);
  return fmt::format("{} of {} to {} on{}: {:#x} instead of {:#x}", row(n->op).name, name(source_of(*n)),
                     name(n->dtype), list, got.bits, want.bits);
}

Value cut(DType dtype, uint64_t bits) {
  if (dtype == DType::Bool) return {bits & 1};
  return {row(dtype).bits == 64 ? bits : bits & ((uint64_t{1} << row(dtype).bits) - 1)};
}

std::vector<Value> values_to_try(DType dtype) {
  std::vector<Value> out;
  const uint64_t codes = row(dtype).bits <= 16 ? uint64_t{1} << row(dtype).bits : 0;
  for (uint64_t bits = 0; bits < codes; bits += codes > 256 ? 5 * 23 / thinned(5) : 1)
    out.push_back(cut(dtype, bits));
  for (uint64_t bits : special_values(dtype)) out.push_back(cut(dtype, bits));
  std::mt19937_64 random(3);
  for (int i = 0; i < thinned(1500); i++) out.push_back(cut(dtype, random() >> (i % row(dtype).bits)));
  return out;
}

/// Bounds of an integer that hold the value, sometimes; where nothing is known none, as of a u64.
Bounds bounds_around(DType dtype, Value value, uint64_t random) {
  if (!is_integer(dtype) || dtype == DType::U64 || random % 2) return {};
  const int64_t x = to_int(dtype, value), far = static_cast<int64_t>(random >> 8 & 0xff);
  const Bounds all = dtype_bounds(dtype);
  return {x < all.lo + far ? all.lo : x - far, x > all.hi - far ? all.hi : x + far};
}

constexpr Natives ways[] = {{.f16 = false}, {.f16 = true}};

}  // namespace

TEST_CASE("[decompose] casts and bitcasts between all dtypes") {
  for (DType from : every_dtype) {
    const std::vector<Value> values = values_to_try(from);
    for (DType to : every_dtype) {
      std::vector<Ref> nodes;
      if (from != to) nodes.push_back(make(Op::Cast, {tree::slot(from, 0)}, {}, to));
      if (row(from).bits == row(to).bits && from != to)
        nodes.push_back(make(Op::Bitcast, {tree::slot(from, 0)}, {}, to));
      for (const Ref& n : nodes)
        for (const Natives& natives : ways)
          for (const Value& v : values)
            if (const std::string text = wrong(n, natives, std::span(&v, 1)); !text.empty()) FAIL(text);
    }
  }
}

TEST_CASE("[decompose] every elementwise op in every dtype, operands known or not") {
  std::mt19937_64 random(5);
  for (DType dtype : every_dtype) {
    const std::vector<uint64_t> special = special_values(dtype);
    const auto pick = [&] {
      return cut(dtype, random() % 4 ? special[random() % special.size()] : random() >> random() % 64);
    };
    for (int number = 0; number < op_count; number++) {
      const Op op = static_cast<Op>(number);
      if (!has_op(op, dtype)) continue;
      for (int i = 0; i < thinned(3000); i++) {
        Value args[3] = {pick(), pick(), pick()};
        std::vector<Ref> src;
        for (int k = 0; k < row(op).arity; k++)
          src.push_back(random() % 4 ? tree::slot(dtype, k, bounds_around(dtype, args[k], random()))
                                     : constant_of(dtype, args[k]));
        for (size_t k = 0; k < src.size(); k++)
          if (src[k]->is_const()) args[k] = value_of(*src[k]);
        REQUIRE(wrong(make(op, src), ways[i % 2], std::span(args, src.size())) == "");
      }
    }
  }
}

TEST_CASE("[decompose] what is divided by or shifted by is seen in the lanes of a vector") {
  const auto text_of = [](std::string_view expression) {
    std::string text;
    const Target target{.threads = 2};
    for (const ScheduledKernel& k : schedule(make_graph({parse_expression(expression)}), target).kernels) {
      int64_t scratch = 0;
      text += render_llvm(k.tree, "k", target, scratch);
    }
    return text;
  };
  const auto has = [](const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
  };
  const std::string quotient = text_of("floor_div(i32[64], 8)"), rest = text_of("mod(i32[64], 8)");
  CHECK((has(quotient, "= ashr <") && !has(quotient, "udiv")));
  CHECK((has(rest, "= and <") && !has(rest, "urem") && !has(rest, "udiv")));
  const std::string shifted = text_of("shift_right(u32[64], 3)");
  CHECK((has(shifted, "= lshr <") && !has(shifted, "select")));
}
