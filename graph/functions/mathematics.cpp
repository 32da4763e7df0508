// Elementary functions of several arguments. Their decompositions, and those of one argument, stand in exponentials.cpp,
// logarithms.cpp and trigonometry.cpp: one each into ops of the table, so that every back end yields the same bits. Accuracy
// is stated in docs/numerics.md and held by tests/test_mathematics.cpp.
#include "graph/functions/mathematics.h"

#include <cmath>

#include "base/error.h"
#include "graph/functions/float_format.h"
#include "graph/shape.h"

namespace kontor::fn {

/// A Call of a formula of two floats, computed as wide as sums are.
static Ref call_of_two(std::string_view name, std::span<const Input> operands, DType dtype,
                       Term (*formula)(const Term& a, const Term& b)) {
  const std::vector<Ref> both = align(name, operands, dtype);
  const Term y = formula(Term(in_accumulator(both[0])), Term(in_accumulator(both[1])));
  return call(name, y.as(dtype).node, both);
}

/// b^e by squaring; e is known.
static Ref power_of(const Ref& x, int64_t e) {
  Ref out, square = x;
  for (; e > 0; e >>= 1) {
    if (e & 1) out = out ? mul(out, square) : square;
    if (e > 1) square = mul(square, square);
  }
  return out ? out : fill(x->dtype, 1, x->shape);
}

/// Integers: six squarings reach every exponent below 64, from which on only 0, 1 and -1 have a power that fits.
static Ref integer_pow(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype("pow", operands);
  if (b.node == Ref() && b.number.i < 0)
    fail("pow: an integer to the power {}; cast to a float first", b.number.i);
  if (!b.node) return power_of(cast(a.node, dtype), b.number.i);
  Dims shape = broadcast_shape("pow", std::vector<Ref>{a.node ? a.node : b.node, b.node});
  Term square(broadcast(a.node ? cast(a.node, dtype) : number_constant("pow", a.number, dtype), shape));
  Term rest(broadcast(cast(b.node, dtype), shape)), out = square.constant(1);
  for (int i = 0; i < 6; i++) {
    out = where((rest & int64_t{1}) == 1.0, out * square, out);
    square = square * square;
    rest = rest >> 1;
  }
  return out.node;
}

/// An exponent known when recorded that needs no logarithm; null if it does.
static Ref known_power(const Ref& x, double e) {
  if (e == 0.5) return sqrt(x);
  if (e == -0.5) return unary("rsqrt", x);
  if (e == -1) return (1.0 / Term(x)).node;
  if (e >= 0 && e <= 4 && e == std::floor(e)) return power_of(x, static_cast<int64_t>(e));
  return {};
}

Ref pow(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  DType dtype = operand_dtype("pow", operands);
  if (!is_float(dtype)) return integer_pow(a, b);
  if (a.node && !b.node)
    if (Ref known = known_power(cast(a.node, dtype), b.number.f)) return known;
  return call_of_two("pow", operands, dtype, pow_of);
}

static DType float_dtype(std::string_view who, std::span<const Input> operands) {
  const DType dtype = operand_dtype(who, operands);
  return is_float(dtype) ? dtype : DType::F32;
}

Ref atan2(const Input& y, const Input& x) {
  const Input operands[] = {y, x};
  return call_of_two("atan2", operands, float_dtype("atan2", operands), atan2_of);
}

/// The sign chooses, so that a's gradient goes through.
Ref copysign(const Input& a, const Input& b) {
  const Input operands[] = {a, b};
  const DType dtype = float_dtype("copysign", operands);
  const std::vector<Ref> both = align("copysign", operands, dtype);
  const Term size = abs(Term(both[0]));
  return kontor::where(is_negative(Term(in_accumulator(both[1]))), -size, size).node;
}

Ref leaky_relu(const Ref& given, double slope) {
  const Ref x = as_float(given);
  const Term wide(in_accumulator(x));
  return kontor::where(wide > 0.0, wide, wide * slope).as(x->dtype).node;
}

}  // namespace kontor::fn
