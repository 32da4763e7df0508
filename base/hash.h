// A 128-bit hash of bytes, for keys of caches and checksums: MurmurHash3_x64_128 (Austin Appleby, public domain).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kontor {

/// Not for defence against someone who seeks collisions.
struct Hash128 {
  uint64_t low = 0, high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
  /// 32 hexadecimal digits.
  std::string hex() const;
};

/// Hash of `bytes` after `seed`: hash128(b, hash128(a)) is a hash of the pair (a, b), where ("ab", "c") and ("a", "bc")
/// differ. The same value on every machine.
Hash128 hash128(std::string_view bytes, Hash128 seed = {});

/// For unordered containers.
struct HashOfHash {
  size_t operator()(const Hash128& hash) const { return static_cast<size_t>(hash.low); }
};

}  // namespace kontor
