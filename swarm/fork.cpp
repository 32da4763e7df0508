// Taking records apart and signing them anew.
#include "swarm/fork.h"

#include <algorithm>

#include "base/error.h"
#include "swarm/replica.h"
#include "swarm/slots.h"

namespace kontor::swarm {

namespace {

/// The heads by which the slots of each record of a ledger were dealt; checks its chain on the way.
std::vector<Digest> deals_of(const Ledger& from) {
  verify(from);
  Chain chain(from.manifest(), from.deals());
  std::vector<Digest> out;
  for (int64_t t = 0; t < from.steps(); ++t) {
    out.push_back(chain.dealing_head());
    chain.append(from.record(t));
  }
  return out;
}

int64_t leave_out(Record& record, const Digest& deal, const Format& f, std::span<const uint32_t> without) {
  const std::vector<uint32_t> slots = first_slots(deal, record.step, f);
  std::vector<bool> accepted = record.accepted;
  int64_t out = 0;
  for (const uint32_t w : without) out += accepted[w], accepted[w] = false;
  std::vector<uint32_t> codes;
  auto code = record.codes.begin();
  for (const uint32_t w : in_slot_order(record.accepted, slots, f)) {
    if (accepted[w]) codes.insert(codes.end(), code, code + f.slots);
    code += f.slots;
  }
  record.accepted = std::move(accepted), record.codes = std::move(codes);
  return out;
}

}  // namespace

Forked fork(const Ledger& from, Task& task, const std::string& path, int64_t step,
            std::span<const uint32_t> without) {
  Manifest m = from.manifest();
  if (step >= from.steps()) fail("{}: it has {} records, none of step {}", from.path(), from.steps(), step);
  for (const uint32_t w : without)
    if (w >= m.workers) fail("{}: there is no worker {}; there are {}", from.path(), w, m.workers);
  const std::vector<Digest> deals = deals_of(from);
  const Format old(m);
  const SigningKey key = SigningKey::random();
  m.origin = Manifest::Origin{m.origin ? m.origin->run : old.run,
                              m.origin ? std::min(step, m.origin->step) : step, deals_root(deals)};
  m.sequencer = key.public_key(), m.witnesses.clear();
  Replica replica(task, m, deals);
  Ledger out = Ledger::create(path, m, from.members(), Ledger::Sync::Crash);
  Ledger::Together together(out);
  Forked done{.head = {}, .steps = from.steps()};
  for (int64_t t = 0; t < from.steps(); ++t) {
    const Digest& deal = deals[static_cast<size_t>(t)];
    Record record = parse_record(from.record(t), old);
    if (t >= step) done.left_out += leave_out(record, deal, old, without);
    const Digest said = record.state;
    replica.propose(record);
    if (t < step && record.state != said)
      fail("{}: step {}: the state has root {}, the record says {}", from.path(), t, hex(record.state),
           hex(said));
    const Bytes bytes = sign(record, replica.chain().format(), key);
    replica.adopt(bytes);
    out.append(t, bytes);
    out.add_evidence(t, "deal", deal);
  }
  together.commit();
  done.head = replica.chain().head();
  return done;
}

}  // namespace kontor::swarm
