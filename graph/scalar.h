// Scalar semantics in one place: what an elementwise op computes for one element, bit for bit, in every dtype.
// Constant folding, the fuzz of the rules and the interpreter all use it.
#pragma once
#include <span>
#include <utility>
#include <vector>

#include "graph/node.h"

namespace kontor {

/// The raw bits of one element, zero-extended; a bool is 0 or 1.
struct Value {
  uint64_t bits = 0;
  friend bool operator==(Value, Value) = default;
};

/// One elementwise op. `dtype` is that of the result, `source` that of the first source (for Where: of the values).
///
/// Integers wrap at their width. f16, bf16 and fp8 are computed in f32 and rounded once to the nearest, ties to even
/// (Fma too: its one rounding is to the result). f8e4m3 has no infinity: what rounds beyond 448, and infinity itself,
/// becomes NaN; f8e5m2 overflows to infinity. A NaN that comes from an op may have any payload. Arithmetic on bool:
/// add is or, mul is and; the others are those of integers, then x != 0.
Value apply(Op op, DType dtype, DType source, const Value* args);

/// x in `dtype`: rounded once to a float; truncated, saturated and NaN to 0 for an integer; x != 0 for a bool.
Value from_double(DType dtype, double x);
/// x in `dtype`: wraps in an integer; rounded once to a float; x != 0 for a bool. For U64, x is its 64 bits.
Value from_int(DType dtype, int64_t x);
/// The value as a double (exact but for 64-bit integers beyond 2^53).
double to_double(DType dtype, Value x);
/// An integer's or bool's value (of U64: its 64 bits); a float's value cast to I64.
int64_t to_int(DType dtype, Value x);

/// A formula of elementwise ops over Slots, made ready to be computed for many elements.
class ScalarFormula {
 public:
  explicit ScalarFormula(const Ref& formula);
  /// Of the values of Slots 0, 1, ..
  Value operator()(std::span<const Value> slots);

 private:
  struct Step {
    Op op;
    DType dtype, source;
    int arity, from[3];
  };
  std::vector<std::pair<size_t, size_t>> slots_;  // place among the values, number
  std::vector<Value> values_;
  std::vector<std::pair<size_t, Step>> steps_;
};

/// A Const's bits, and the Const of given bits.
Value value_of(const Node& constant);
Ref constant_of(DType dtype, Value x);

/// The greatest finite number of a float dtype.
inline double greatest(DType dtype) {
  return to_double(dtype, {static_cast<uint64_t>(row(dtype).format.beyond() - 1)});
}

}  // namespace kontor
