// Draws from a given key and counter (u64 nodes of rank 0) that are no functions of users.
#pragma once
#include "graph/functions/functions.h"

namespace kontor::fn {

/// -1 or +1 (a set bit): number e has bit e mod 32 of word e div 32 of random_words().
Ref rademacher_at(const Ref& key, const Ref& counter, const Dims& shape, DType dtype);
/// permutation() from 24 blocks.
Ref permutation_at(const Ref& key, const Ref& counter, const Ref& n, DType dtype);

}  // namespace kontor::fn
