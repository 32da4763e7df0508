// Elementary functions of x in f32 or f64, made of operations of the table (docs/numerics.md has their accuracy). They go
// through bits: what is made of them for users is recorded as a Call that knows its gradient.
#pragma once
#include "graph/functions/formula.h"

namespace kontor {

Term exp_of(const Term& x);
Term exp_of(const Term& x, const Term& tail);  ///< of x + tail, which is small
Term tanh_of(const Term& x);
Term erf_of(const Term& x);

Term log_of(const Term& x);
Term pow_of(const Term& a, const Term& b);

Term sin_of(const Term& x);
Term cos_of(const Term& x);
Term sin_turns_of(const Term& turns);  ///< sin(2 pi t) for t in [0, 4): exact reduction, for random numbers

}  // namespace kontor
