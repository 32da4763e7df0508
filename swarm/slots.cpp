// Seeds, shuffles and draws of slots.
#include "swarm/slots.h"

#include "base/threefry.h"

namespace kontor::swarm {

namespace {
constexpr int step_shift = 24;
constexpr uint64_t data_use = 0x44415441;  // "DATA": this use of a slot's seed

uint64_t head_word(std::string_view use, const Digest& head, uint32_t number) {
  Writer rest;
  rest.number(number, 4);
  return first_word(sha256({view_of(use), head, rest.bytes}));
}
}  // namespace

uint64_t slot_seed(uint64_t noise_key, uint32_t step, uint32_t slot) {
  return random_bits64(noise_key, (uint64_t{step} << step_shift) + slot);
}

std::vector<uint64_t> slot_seeds(uint64_t noise_key, uint32_t step, size_t count) {
  std::vector<uint64_t> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = slot_seed(noise_key, step, static_cast<uint32_t>(i));
  return out;
}

uint32_t first_slot(const Digest& head, uint32_t step, uint32_t worker, const Format& f) {
  const uint64_t key = head_word("kontor slots 1", head, step);
  const auto count = static_cast<uint64_t>(f.workers);
  return static_cast<uint32_t>(permuted(key, count, worker) * static_cast<uint64_t>(f.slots));
}

std::vector<uint32_t> first_slots(const Digest& head, uint32_t step, const Format& f) {
  const uint64_t key = head_word("kontor slots 1", head, step);
  const auto count = static_cast<uint64_t>(f.workers);
  std::vector<uint32_t> out(count);
  for (uint64_t w = 0; w < count; ++w)
    out[w] = static_cast<uint32_t>(permuted(key, count, w) * static_cast<uint64_t>(f.slots));
  return out;
}

bool is_checked(const Digest& head, uint32_t worker, double rate) {
  const uint64_t key = head_word("kontor check 1", head, 0);
  return static_cast<double>(random_bits64(key, worker) >> 11) < rate * 0x1p53;
}

uint32_t checked_slot(const Digest& head, uint32_t worker, const Format& f) {
  const uint64_t key = head_word("kontor check 1", head, 1);
  return static_cast<uint32_t>(random_below(key, worker, static_cast<uint64_t>(f.slots)));
}

uint64_t sample_of(uint64_t seed, uint64_t j, uint64_t count) {
  return random_below(subkey(seed, data_use), j, count);
}

}  // namespace kontor::swarm
