// Bytes of messages: written little-endian, and read back within bounds. What a reader is asked for beyond its end is an
// Error that names the message; nothing is allocated by a number that stands in one.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::swarm {

using Bytes = std::vector<uint8_t>;
using View = std::span<const uint8_t>;
template <size_t N>
using Fixed = std::array<uint8_t, N>;

inline View view_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class Writer {
 public:
  /// The low `count` bytes of a number, the lowest first.
  Writer& number(uint64_t value, size_t count) {
    for (size_t i = 0; i < count; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
    return *this;
  }
  Writer& add(View more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
    return *this;
  }
  Bytes bytes;
};

class Reader {
 public:
  /// `what` opens every message: "report".
  Reader(View bytes, std::string_view what) : rest_(bytes), what_(what) {}
  uint64_t number(size_t count);
  View take(size_t count);
  template <size_t N>
  Fixed<N> fixed() {
    Fixed<N> out;
    std::memcpy(out.data(), take(N).data(), N);
    return out;
  }
  /// Throws Error if something is left.
  void end() const;

 private:
  View rest_;
  std::string_view what_;
};

/// Lower-case hexadecimal digits; and back, of exactly `bytes.size()` bytes. Throws Error that names `what`.
std::string hex(View bytes);
void from_hex(std::string_view text, std::span<uint8_t> bytes, std::string_view what);

}  // namespace kontor::swarm
