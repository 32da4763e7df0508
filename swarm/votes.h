// From losses to coefficients: integers on the way from a worker's forward pass to the update.
#pragma once
#include "swarm/messages.h"

namespace kontor::swarm {

/// A loss in nats as an integer of 24 bits, Q8.16, rounded to nearest: NaN, infinities and what is too large are the greatest,
/// negative losses 0.
uint32_t integer_loss(float loss);
/// What a direction did: the loss with it less that with its opposite, in +-(2^23 - 1). Below 0: the direction is good.
int32_t difference(float with, float against);

/// A difference as a code of `width` bits. 24: the difference plus 2^23. 8: its sign, and of its magnitude the position of the first
/// bit and the two bits behind it, so that greater ones never have lesser codes. 1: whether it is below 0.
uint32_t code_of(int32_t difference, int64_t width);

/// What each value weighs in the update. Width 1: 1 or -1. Else its centred rank, n - 1 for the least, 1 - n for the greatest, in
/// steps of 2; of equal ones the first is the lesser. A worker's influence is its rank, whatever it sends (OpenAI ES, 2017).
std::vector<int32_t> coefficients(std::span<const uint32_t> codes, int64_t width);

}  // namespace kontor::swarm
