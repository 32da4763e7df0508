// What folds begin with.
#include "graph/folds.h"

#include <limits>

#include "graph/scalar.h"

namespace kontor {

/// What no value of a float dtype is beyond: infinity, or the greatest number where that would be NaN.
static double extreme(DType dtype, bool high) {
  const bool infinite = row(dtype).format.specials == Specials::Ieee;
  const double most = infinite ? std::numeric_limits<double>::infinity() : greatest(dtype);
  return high ? most : -most;
}

Ref identity(Fold fold, DType dtype) {
  const FoldIdentity begin = row(fold).identity;
  if (begin == FoldIdentity::Zero || begin == FoldIdentity::One)
    return constant(dtype, int64_t{begin == FoldIdentity::One});
  const bool high = begin == FoldIdentity::Highest;
  if (is_float(dtype)) return constant(dtype, extreme(dtype, high));
  const int bits = row(dtype).bits;
  if (kind(dtype) == Kind::Bool) return constant(dtype, int64_t{high});
  if (kind(dtype) == Kind::Unsigned) return constant(dtype, high ? int64_t{-1} : int64_t{0});
  const int64_t top = bits == 64 ? INT64_MAX : (int64_t{1} << (bits - 1)) - 1;
  return constant(dtype, high ? top : -top - 1);
}

}  // namespace kontor
