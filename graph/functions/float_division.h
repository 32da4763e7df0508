// Exact quotients and remainders of floats, in operations of the table. Operands have one float dtype and one shape.
#pragma once
#include "graph/node.h"

namespace kontor {

/// The greatest whole number not above the exact quotient, rounded once to the dtype.
Ref floored_quotient(const Ref& x, const Ref& y);
/// x - y * floor(x / y) of the exact quotient, rounded once to the dtype; of y's sign, as Python's %.
Ref exact_remainder(const Ref& x, const Ref& y);

}  // namespace kontor
