// What workers do: evaluate their slots, sign what they found.
#include "swarm/host.h"

#include "base/threefry.h"
#include "swarm/slots.h"
#include "swarm/votes.h"

namespace kontor::swarm {

Host::Host(Task& task, const Manifest& manifest, std::map<uint32_t, SigningKey> keys,
           std::vector<Digest> deals)
    : replica_(task, manifest, std::move(deals)), steps_(task, manifest), keys_(std::move(keys)) {}

std::vector<Bytes> Host::reports(uint64_t flips) {
  const Manifest& m = chain().manifest();
  const Format& f = chain().format();
  const uint64_t noise = noise_key(m);
  std::vector<Report> all;
  std::vector<uint64_t> seeds;
  for (const auto& [worker, key] : keys_) {
    all.push_back({.step = chain().step(), .worker = worker});
    all.back().first_slot = first_slot(chain().dealing_head(), chain().step(), worker, f);
    for (int64_t k = 0; k < m.slots; ++k)
      seeds.push_back(slot_seed(noise, chain().step(), all.back().first_slot + static_cast<uint32_t>(k)));
  }
  const std::vector<int32_t> values = steps_.evaluate(seeds);
  std::vector<Bytes> out;
  auto value = values.begin();
  for (Report& r : all) {
    for (int64_t k = 0; k < m.slots; ++k, ++value) {
      const uint64_t draw =
          random_bits64(subkey(flips, r.worker), (uint64_t{r.step} << 8) + static_cast<uint64_t>(k));
      const bool flipped = static_cast<double>(draw >> 11) * 0x1p-53 < m.flip;
      r.codes.push_back(code_of(*value, f.width) ^ (flipped ? 1u : 0u));
    }
    out.push_back(sign(r, f, keys_.at(r.worker)));
  }
  return out;
}

}  // namespace kontor::swarm
