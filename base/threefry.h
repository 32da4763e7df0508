// Threefry-2x32-20, the counter generator behind every random number of Kontor, for use on the host.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); word order: docs/design.md,
// "Node".
#pragma once
#include <array>
#include <bit>
#include <cstdint>

namespace kontor {

using Threefry = std::array<uint32_t, 2>;

/// One block: 64 random bits that are a pure function of key and counter.
constexpr Threefry threefry2x32(Threefry key, Threefry counter) {
  constexpr int kRotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const uint32_t schedule[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDAu};
  uint32_t x0 = counter[0] + key[0], x1 = counter[1] + key[1];
  for (uint32_t group = 0; group < 5; ++group) {
    for (int rotation : kRotations[group % 2]) {
      x0 += x1;
      x1 = std::rotl(x1, rotation) ^ x0;
    }
    x0 += schedule[(group + 1) % 3];
    x1 += schedule[(group + 2) % 3] + group + 1;
  }
  return {x0, x1};
}

/// The block of a 64-bit key and a 64-bit counter; the low half of each is word 0.
constexpr Threefry threefry(uint64_t key, uint64_t counter) {
  return threefry2x32({static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)},
                      {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32)});
}

/// Both words of a block as one number.
constexpr uint64_t random_bits64(uint64_t key, uint64_t counter) {
  const Threefry words = threefry(key, counter);
  return words[0] | uint64_t{words[1]} << 32;
}

/// Word `element` of the draw that begins at `counter`: word e mod 2 of block counter + e div 2.
constexpr uint32_t random_word(uint64_t key, uint64_t counter, uint64_t element) {
  return threefry(key, counter + element / 2)[element % 2];
}

/// A float in [0, 1) with 23 random bits.
constexpr float unit_float(uint32_t word) { return std::bit_cast<float>(word >> 9 | 0x3F800000u) - 1.0f; }

/// A number in [0, bound), from 64 random bits by multiplication: no value is likelier than another by more
/// than 2^-64.
constexpr uint64_t random_below(uint64_t key, uint64_t counter, uint64_t bound) {
  const uint64_t bits = random_bits64(key, counter);
  const uint64_t low = (bits & 0xFFFFFFFFu) * (bound & 0xFFFFFFFFu);
  const uint64_t cross = (bits >> 32) * (bound & 0xFFFFFFFFu) + (low >> 32);
  const uint64_t middle = (bits & 0xFFFFFFFFu) * (bound >> 32) + (cross & 0xFFFFFFFFu);
  return (bits >> 32) * (bound >> 32) + (cross >> 32) + (middle >> 32);
}

/// An independent key for one use of a seed, so that two users of the same seed and counter draw different
/// numbers.
constexpr uint64_t subkey(uint64_t seed, uint64_t use) { return random_bits64(seed, use); }

/// Element `index` of the random order of [0, count) that `key` names: a Feistel network on the next even
/// power of two, walked until it falls below count (Black and Rogaway 2002). Needs no table, so any element
/// of it costs the same.
constexpr uint64_t permuted(uint64_t key, uint64_t count, uint64_t index) {
  constexpr uint64_t kRounds = 6;
  const int half = (static_cast<int>(std::bit_width(count - 1)) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = index >> half, right = index & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = left ^ (random_bits64(key ^ round, right) & mask);
      left = right;
      right = mixed;
    }
    index = left << half | right;
  } while (index >= count);
  return index;
}

}  // namespace kontor
