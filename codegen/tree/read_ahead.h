// read_ahead: which loads ask for what will be read later, so that memory works while the processor computes. Hardware foresees
// one place after the next; it does not foresee these:
//
//   thread i 16384
//     loop r 64
//       vector l 64 width 64
//         s[l] <- x[i, r * 64 + l]                the first pass over a row brings it from memory
//     loop j 64
//       vector k 64 width 64
//         y[i, j * 64 + k] = exp(x[i, j * 64 + k])     the second finds it in a cache and asks for the next row (of short
//                                                     rows for one farther on): ahead 16384
//
// and rows in lanes, of which each is read a line at a time:
//
//   loop j 256
//     unroll u 16
//       vector i 16 width 16
//         s[i] <- x[i, j * 16 + u]                ahead 256: four lines of each row
#pragma once
#include <unordered_map>

#include "codegen/tree/tree.h"

namespace kontor {

/// Of loads of a kernel's parameters in its vector loops: how many bytes further on lies what they ask for.
std::unordered_map<const Node*, int64_t> read_ahead(const Ref& kernel);

}  // namespace kontor
