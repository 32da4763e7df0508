// The dtype table: one row a dtype, with its spelling wherever one is needed.
#pragma once
#include <span>

#include <kontor/types.h>

namespace kontor {

enum class Kind : uint8_t { None, Bool, Unsigned, Signed, Float };

/// What the codes of a float mean beyond numbers.
enum class Specials : uint8_t {
  None,         // it is no float
  Ieee,         // the highest exponent holds infinities and NaNs
  Finite,       // no infinities; all ones are NaN
  NoMinusZero,  // no infinities; what would be -0 is NaN
};

/// Sign, exponent and mantissa, from the top. Codes of exponent 0 are multiples of the least number.
struct FloatFormat {
  int exponent_bits = 0, mantissa_bits = 0, bias = 0;
  Specials specials = Specials::None;

  /// Bits of the mantissa with the leading one.
  constexpr int digits() const { return mantissa_bits + 1; }
  /// Powers of two of the least number above 0 and of the greatest.
  constexpr int least() const { return 1 - bias - mantissa_bits; }
  constexpr int greatest() const { return (1 << exponent_bits) - 1 - bias - (specials == Specials::Ieee); }
  /// Codes without the sign, but for a NaN that is a sign alone: the first that is no number, and NaN.
  constexpr int64_t infinity() const { return ((int64_t{1} << exponent_bits) - 1) << mantissa_bits; }
  constexpr int64_t all_ones() const { return (int64_t{1} << (exponent_bits + mantissa_bits)) - 1; }
  constexpr int64_t beyond() const {
    return specials == Specials::Ieee ? infinity() : all_ones() + (specials == Specials::NoMinusZero);
  }
  constexpr int64_t nan() const {
    return specials == Specials::Ieee ? infinity() | int64_t{1} << (mantissa_bits - 1) : beyond();
  }
  constexpr bool has_minus_zero() const { return specials != Specials::NoMinusZero; }
};

struct DTypeRow {
  DType dtype;
  std::string_view name;
  int bits;
  Kind kind;
  std::string_view opencl, c, llvm;  // spelling in each target language, empty where it has none
  int dlpack;                        // DLPack type code
  std::string_view safetensors,
      numpy;  // tag in a weights file; descr of a .npy file, empty where NumPy has none
  FloatFormat format = {};
};

const DTypeRow& row(DType dtype);
inline Kind kind(DType dtype) { return row(dtype).kind; }
inline bool is_float(DType d) { return kind(d) == Kind::Float; }
/// A float of fewer bits than f32: computed in f32 and rounded once to it.
inline bool is_narrow(DType d) { return is_float(d) && row(d).bits < 32; }
inline bool is_integer(DType d) { return kind(d) == Kind::Signed || kind(d) == Kind::Unsigned; }
/// All of them but void.
std::span<const DTypeRow> dtypes();
/// The unsigned dtype of `bits` bits.
DType unsigned_of(int bits);
/// The dtype that arithmetic on a and b yields: PyTorch's table (a float beside an integer stays what it is); u64 with a
/// signed integer, which it does not have, gives f64.
DType promote(DType a, DType b);

}  // namespace kontor
