// What workers do: evaluate their slots, sign what they found.
#include "swarm/host.h"

#include "base/threefry.h"
#include "swarm/slots.h"
#include "swarm/votes.h"

namespace kontor::swarm {

Host::Host(Task& task, const Manifest& manifest, std::map<uint32_t, SigningKey> keys,
           std::vector<Digest> deals)
    : task_(task),
      replica_(task, manifest, std::move(deals)),
      steps_(task, manifest),
      keys_(std::move(keys)) {}

namespace {
uint64_t flip_key(const SigningKey& key, const Digest& state) {
  return first_word(sha256({view_of("kontor flips 1"), key.secret(), state}));
}
}  // namespace

std::vector<Bytes> Host::reports() {
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
  const Digest state = m.flip > 0 ? state_root(task_) : Digest{};
  std::vector<Bytes> out;
  auto value = values.begin();
  auto seed = seeds.begin();
  for (Report& r : all) {
    const uint64_t flips = flip_key(keys_.at(r.worker), state);
    for (int64_t k = 0; k < m.slots; ++k, ++value, ++seed) {
      const uint64_t draw = random_bits64(flips, *seed);
      const bool flipped = static_cast<double>(draw >> 11) * 0x1p-53 < m.flip;
      r.codes.push_back(code_of(*value, f.width) ^ (flipped ? 1u : 0u));
    }
    out.push_back(sign(r, f, keys_.at(r.worker)));
  }
  return out;
}

}  // namespace kontor::swarm
