// Elementary functions of x in f32 or f64, made of operations of the table (docs/numerics.md has their accuracy). They go
// through bits: what is made of them for users is recorded as a Call that knows its gradient.
#pragma once
#include "graph/functions/formula.h"

namespace kontor {

Term exp_of(const Term& x);
Term exp_of(const Term& x, const Term& tail);  ///< of x + tail, which is small
Term exp2_of(const Term& x);
Term expm1_of(const Term& x);
Term sinh_of(const Term& x);
Term cosh_of(const Term& x);
Term tanh_of(const Term& x);
Term erf_of(const Term& x);

Term log_of(const Term& x);
Term log1p_of(const Term& x);
Term log2_of(const Term& x);
Term log10_of(const Term& x);
Term asinh_of(const Term& x);
Term acosh_of(const Term& x);
Term atanh_of(const Term& x);
Term pow_of(const Term& a, const Term& b);

Term sin_of(const Term& x);
Term cos_of(const Term& x);
Term tan_of(const Term& x);
Term asin_of(const Term& x);
Term acos_of(const Term& x);
Term atan_of(const Term& x);
Term atan2_of(const Term& y, const Term& x);
Term sin_turns_of(const Term& turns);  ///< sin(2 pi t) for t in [0, 4): exact reduction, for random numbers

}  // namespace kontor
