// Which directions are whose: pure functions of the run and the heads of its ledger, so that nobody chooses.
#pragma once
#include "swarm/messages.h"

namespace kontor::swarm {

/// The seed of slot i of a step: block step * 2^24 + i of Threefry under the run's noise key.
uint64_t slot_seed(uint64_t noise_key, uint32_t step, uint32_t slot);
/// The seeds of the slots below `count`.
std::vector<uint64_t> slot_seeds(uint64_t noise_key, uint32_t step, size_t count);

/// The first slot of each worker in a step: a random order that follows from `head`, the record `lag + 1` steps before it.
std::vector<uint32_t> first_slots(const Digest& head, uint32_t step, const Format& format);
uint32_t first_slot(const Digest& head, uint32_t step, uint32_t worker, const Format& format);

/// Whether a worker's report in the record with this head is to be computed again: the head is known only when the report is in.
bool is_checked(const Digest& head, uint32_t worker, double rate);
/// Which of the worker's slots then.
uint32_t checked_slot(const Digest& head, uint32_t worker, const Format& format);

/// Sample j that a slot is tried on, of `count`.
uint64_t sample_of(uint64_t seed, uint64_t j, uint64_t count);

}  // namespace kontor::swarm
