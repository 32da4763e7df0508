// MurmurHash3_x64_128, little-endian reading of 16-byte blocks; its two seeds are both halves of `seed`.
#include "base/hash.h"

#include <bit>
#include <cstring>

namespace kontor {
namespace {

constexpr uint64_t kFirst = 0x87c37b91114253d5, kSecond = 0x4cf5ad432745937f;

uint64_t read64(const char* from) {
  uint64_t value;
  std::memcpy(&value, from, 8);
  if constexpr (std::endian::native == std::endian::big) value = __builtin_bswap64(value);
  return value;
}

uint64_t stir_first(uint64_t k) { return std::rotl(k * kFirst, 31) * kSecond; }
uint64_t stir_second(uint64_t k) { return std::rotl(k * kSecond, 33) * kFirst; }

uint64_t finish(uint64_t k) {
  k = (k ^ (k >> 33)) * 0xff51afd7ed558ccd;
  k = (k ^ (k >> 33)) * 0xc4ceb9fe1a85ec53;
  return k ^ (k >> 33);
}

}  // namespace

Hash128 hash128(std::string_view bytes, Hash128 seed) {
  uint64_t a = seed.low, b = seed.high;
  const char* data = bytes.data();
  size_t left = bytes.size();
  for (; left >= 16; data += 16, left -= 16) {
    a = (std::rotl(a ^ stir_first(read64(data)), 27) + b) * 5 + 0x52dce729;
    b = (std::rotl(b ^ stir_second(read64(data + 8)), 31) + a) * 5 + 0x38495ab5;
  }
  char tail[16] = {};
  if (left > 0) std::memcpy(tail, data, left);
  b ^= stir_second(read64(tail + 8));  // zero bytes change nothing, as in the original
  a ^= stir_first(read64(tail));
  a ^= bytes.size();
  b ^= bytes.size();
  a += b;
  b += a;
  a = finish(a);
  b = finish(b);
  a += b;
  b += a;
  return {a, b};
}

std::string Hash128::hex() const {
  constexpr char digits[] = "0123456789abcdef";
  std::string text(32, '0');
  for (size_t i = 0; i < 32; ++i) text[i] = digits[((i < 16 ? high : low) >> (60 - 4 * (i % 16))) & 15];
  return text;
}

}  // namespace kontor
