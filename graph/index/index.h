// Index expressions: i64 (and bool) arithmetic over Range, Variable and Const, simplified as it is made.
#pragma once
#include "graph/node.h"

namespace kontor::ix {

Ref add(const Ref& a, const Ref& b);
Ref sub(const Ref& a, const Ref& b);
Ref mul(const Ref& a, const Ref& b);
Ref idiv(const Ref& a, const Ref& b);  ///< floor
Ref mod(const Ref& a, const Ref& b);   ///< of the divisor's sign
Ref min(const Ref& a, const Ref& b);
Ref max(const Ref& a, const Ref& b);
Ref lt(const Ref& a, const Ref& b);
Ref le(const Ref& a, const Ref& b);
Ref eq(const Ref& a, const Ref& b);
Ref both(const Ref& a, const Ref& b);  ///< and; a null Ref stands for true
Ref where(const Ref& c, const Ref& a, const Ref& b);
Ref ceil_div(const Ref& a, const Ref& b);

inline Ref add(const Ref& a, int64_t b) { return add(a, index(b)); }
inline Ref sub(const Ref& a, int64_t b) { return sub(a, index(b)); }
inline Ref mul(const Ref& a, int64_t b) { return mul(a, index(b)); }
inline Ref idiv(const Ref& a, int64_t b) { return idiv(a, index(b)); }
inline Ref mod(const Ref& a, int64_t b) { return mod(a, index(b)); }
inline Ref lt(const Ref& a, int64_t b) { return lt(a, index(b)); }

/// A loop variable that runs over 0..extent-1.
Ref range(const Ref& extent, const std::string& name);
Ref range(int64_t extent, const std::string& name);
/// Product of dimensions (1 for none).
Ref product(std::span<const Ref> dims);
/// Row-major position of `at` in an array of `dims`.
Ref flatten(std::span<const Ref> at, std::span<const Ref> dims);
/// Inverse of flatten.
std::vector<Ref> unflatten(const Ref& position, std::span<const Ref> dims);

/// One node whose sources are simplified already, simplified: the local step of the algebra.
Ref simplify_node(const Ref& node);
/// The whole expression, under the assumption that `given` (may be null) holds.
Ref simplify(const Ref& expression, const Ref& given = {});
/// Value with each Range/Variable/Slot looked up; the oracle that the algebra is fuzzed against.
int64_t evaluate(const Ref& expression, const NodeMap<int64_t>& values);

/// expression = coefficient * range + rest, where rest does not contain range; false if it is not affine in it.
bool affine(const Ref& expression, const Ref& range, int64_t& coefficient);
bool depends_on(const Ref& expression, const Ref& range);

}  // namespace kontor::ix
