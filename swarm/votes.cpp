// Losses, codes, ranks.
#include "swarm/votes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace kontor::swarm {

namespace {
constexpr int32_t most = (1 << 23) - 1;
constexpr uint32_t greatest_loss = (1u << 24) - 1;
}  // namespace

uint32_t integer_loss(float loss) {
  if (!std::isfinite(loss)) return greatest_loss;
  const double scaled = std::nearbyint(static_cast<double>(loss) * 65536.0);
  if (scaled <= 0) return 0;
  return scaled >= greatest_loss ? greatest_loss - 1 : static_cast<uint32_t>(scaled);
}

int32_t difference(float with, float against) {
  const auto d = static_cast<int32_t>(integer_loss(with)) - static_cast<int32_t>(integer_loss(against));
  return std::clamp(d, -most, most);
}

uint32_t code_of(int32_t d, int64_t width) {
  if (width == 1) return d < 0 ? 1 : 0;
  if (width == 24) return static_cast<uint32_t>(d + most + 1);
  const auto magnitude = static_cast<uint32_t>(std::abs(d));
  const auto length = static_cast<uint32_t>(std::bit_width(magnitude));
  const uint32_t next = length >= 3 ? magnitude >> (length - 3) & 3 : magnitude << (3 - length) & 3;
  const uint32_t size = magnitude == 0 ? 0 : 4 * length + next;
  return d < 0 ? 127 - size : 128 + size;
}

std::vector<int32_t> coefficients(std::span<const uint32_t> codes, int64_t width) {
  std::vector<int32_t> out(codes.size());
  if (width == 1) {
    for (size_t i = 0; i < codes.size(); ++i) out[i] = codes[i] != 0 ? 1 : -1;
    return out;
  }
  std::vector<uint32_t> order(codes.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return codes[a] < codes[b]; });
  const auto n = static_cast<int32_t>(codes.size());
  for (int32_t r = 0; r < n; ++r) out[order[static_cast<size_t>(r)]] = n - 1 - 2 * r;
  return out;
}

}  // namespace kontor::swarm
