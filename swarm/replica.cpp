// How a record becomes weights.
#include "swarm/replica.h"

#include <algorithm>

#include "base/error.h"
#include "swarm/slots.h"
#include "swarm/votes.h"

namespace kontor::swarm {

Digest deals_root(std::span<const Digest> deals) {
  std::vector<Digest> leaves;
  for (const Digest& d : deals) leaves.push_back(merkle_leaf(d));
  return merkle_root(leaves);
}

Chain::Chain(const Manifest& manifest, std::vector<Digest> deals)
    : manifest_(manifest), format_(manifest), deals_(std::move(deals)) {
  heads_.push_back(format_.run);
  if (manifest.origin && deals_root(deals_) != manifest.origin->deals)
    fail("swarm: these {} deals are not those of the origin", deals_.size());
  if (!manifest.origin && !deals_.empty()) fail("swarm: {} deals of a run without an origin", deals_.size());
}

std::string Chain::fault(View bytes, const Record& r) const {
  if (r.step != step_) return fmt::format("the record says that it is of step {}", r.step);
  if (r.before != head())
    return fmt::format("the record before it has hash {}, it says {}", hex(head()), hex(r.before));
  if (r.lag > manifest_.lag) return fmt::format("a lag of {}; the manifest allows {}", r.lag, manifest_.lag);
  if (static_cast<int64_t>(r.codes.size()) > manifest_.quorum)
    return fmt::format("{} values; the manifest's quorum is {}", r.codes.size(), manifest_.quorum);
  if (step_ >= manifest_.steps) return fmt::format("the run has {} steps", manifest_.steps);
  if (!record_is_signed(bytes, format_, manifest_.sequencer))
    return fmt::format("the signature is not of the sequencer {}", hex(manifest_.sequencer));
  return "";
}

void Chain::append(View bytes) {
  heads_.push_back(head_of(bytes));
  while (heads_.size() > static_cast<size_t>(manifest_.lag) + 1) heads_.pop_front();
  ++step_;
}

std::vector<uint32_t> in_slot_order(const std::vector<bool>& chosen, std::span<const uint32_t> first_slots,
                                    const Format& format) {
  std::vector<int64_t> owner(static_cast<size_t>(format.workers), -1);
  for (size_t w = 0; w < chosen.size(); ++w)
    if (chosen[w]) owner[first_slots[w] / static_cast<size_t>(format.slots)] = static_cast<int64_t>(w);
  std::vector<uint32_t> out;
  for (const int64_t w : owner)
    if (w >= 0) out.push_back(static_cast<uint32_t>(w));
  return out;
}

std::vector<int32_t> slot_coefficients(const Record& record, const Digest& dealing_head, const Format& f) {
  const std::vector<uint32_t> slots = first_slots(dealing_head, record.step, f);
  const std::vector<int32_t> known = coefficients(record.codes, f.width);
  std::vector<int32_t> out(static_cast<size_t>(f.workers * f.slots));
  size_t at = 0;
  for (const uint32_t w : in_slot_order(record.accepted, slots, f))
    for (int64_t k = 0; k < f.slots; ++k) out[slots[w] + static_cast<size_t>(k)] = known[at++];
  return out;
}

void describe(Manifest& m, Task& task) {
  m.weights = state_root(task);
  m.graph = Steps(task, m).graph();
  if (m.data != "private") m.data = hex(task.data_root());
}

Replica::Replica(Task& task, const Manifest& manifest, std::vector<Digest> deals)
    : task_(task), chain_(manifest, std::move(deals)), steps_(task, manifest), key_(noise_key(manifest)) {
  const auto same = [&](const char* what, const std::string& here, const std::string& there) {
    if (here != there) fail("swarm: the {} here has hash {}, that of the run {}", what, here, there);
  };
  same("model's initial weights", hex(state_root(task)), hex(manifest.weights));
  same("update's graph", hex(steps_.graph()), hex(manifest.graph));
  if (manifest.data != "private") same("data", hex(task.data_root()), manifest.data);
}

void Replica::update(const Record& record) {
  const std::vector<int32_t> weights = slot_coefficients(record, chain_.dealing_head(), chain_.format());
  if (record.codes.empty()) return;
  steps_.update(slot_seeds(key_, record.step, weights.size()), weights,
                chain_.manifest().lr_at(static_cast<int64_t>(record.step)));
}

void Replica::apply(View bytes) {
  const uint32_t step = chain_.step();
  if (broken_) fail("step {}: the state before it is not that of the ledger; replay it", step);
  Record record;
  try {
    record = parse_record(bytes, chain_.format());
  } catch (const Error& error) {
    fail("step {}: {}", step, error.what());
  }
  if (const std::string wrong = chain_.fault(bytes, record); !wrong.empty()) fail("step {}: {}", step, wrong);
  update(record);
  const Digest root = state_root(task_);
  broken_ = root != record.state;
  if (broken_) fail("step {}: the state has root {}, the record says {}", step, hex(root), hex(record.state));
  chain_.append(bytes);
}

void Replica::propose(Record& record) {
  record.before = chain_.head();
  record.step = chain_.step();
  update(record);
  record.state = state_root(task_);
}

}  // namespace kontor::swarm
