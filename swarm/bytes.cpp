// Reading bytes within bounds, and hexadecimal text.
#include "swarm/bytes.h"

#include "base/error.h"

namespace kontor::swarm {

uint64_t Reader::number(size_t count) {
  uint64_t out = 0;
  const View bytes = take(count);
  for (size_t i = 0; i < count; ++i) out |= uint64_t{bytes[i]} << (8 * i);
  return out;
}

View Reader::take(size_t count) {
  if (count > rest_.size()) fail("{}: {} bytes are missing", what_, count - rest_.size());
  const View out = rest_.first(count);
  rest_ = rest_.subspan(count);
  return out;
}

void Reader::end() const {
  if (!rest_.empty()) fail("{}: {} bytes too many", what_, rest_.size());
}

std::string hex(View bytes) {
  std::string out;
  for (const uint8_t b : bytes) out += fmt::format("{:02x}", b);
  return out;
}

void from_hex(std::string_view text, std::span<uint8_t> bytes, std::string_view what) {
  const auto digit = [&](char c) -> uint8_t {
    if (c >= '0' && c <= '9') return static_cast<uint8_t>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<uint8_t>(c - 'a' + 10);
    fail("{}: '{}' is no lower-case hexadecimal digit", what, c);
  };
  if (text.size() != 2 * bytes.size()) fail("{}: {} digits, not {}", what, text.size(), 2 * bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
}

}  // namespace kontor::swarm
