// decompose: what an elementwise op is made of where machines and languages have it not, or mean something else by it: floats
// narrower than f32, saturation, floor division, shifts beyond the width, maxima that let NaN through, arithmetic on bools.
// Formulas over nodes, once for all renderers; graph/scalar.h says the same in plain C++, and a test holds them together.
#pragma once
#include "codegen/target.h"
#include "graph/node.h"

namespace kontor {

/// The elementwise node `n` in terms of its sources, by ops that are nearer to a machine and may be decomposed in turn; null if
/// it is primitive, which is all that a renderer prints by itself:
///
///   Add Sub Mul                 of f32, f64 and integers, which wrap
///   Div Sqrt Floor Ceil Fma Abs of f32 and f64;   Neg of these and of integers;   Lt Le of all of them
///   Eq Ne                       and of bools;   And Or Xor Not of integers and bools;   Where of everything
///   IDiv Mod                    of integers from 0 on by integers from 1 on
///   Shl Shr                     by less than the width, or where nobody looks at the result
///   Cast                        from integers and bools to integers, f32 and f64; between f32 and f64; of what its dtype holds
///                               as it is (`held`, and any narrow float to f32)
///   Bitcast                     between integers, f32 and f64 of one width
///
/// A narrow float is held as the f32 that it is; its bits are asked for by a Bitcast.
Ref decompose(const Node& n, const Natives& natives);

/// A Cast of a number that `dtype` holds as it is, but for what is behind the point of one that becomes an integer.
Ref held(const Ref& x, DType dtype);
/// Whether a node is primitive by what is known of its sources, as `held` ones are.
bool is_primitive_here(const Node& n);

}  // namespace kontor
