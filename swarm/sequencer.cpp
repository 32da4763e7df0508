// Collecting reports and closing steps.
#include "swarm/sequencer.h"

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "swarm/slots.h"
#include "swarm/votes.h"

namespace kontor::swarm {

namespace {
constexpr size_t fewest_side_by_side = 64;  // signatures; fewer are not worth a thread
constexpr const char* names[answers] = {"taken",   "malformed",       "of another step",
                                        "too old", "of another slot", "banned",
                                        "twice",   "too many",        "bad signature"};
}  // namespace

const char* name(Answer answer) { return names[static_cast<size_t>(answer)]; }

Digest members_root(std::span<const PublicKey> members) {
  std::vector<Digest> leaves;
  for (const PublicKey& k : members) leaves.push_back(merkle_leaf(k));
  return merkle_root(leaves);
}

Sequencer::Sequencer(Replica& replica, SigningKey key, std::vector<PublicKey> members)
    : replica_(replica),
      key_(std::move(key)),
      members_(std::move(members)),
      bans_(replica.chain().manifest().workers, replica.chain().manifest().flip) {
  const Manifest& m = replica.chain().manifest();
  if (key_.public_key() != m.sequencer)
    fail("swarm: this key is {}, the sequencer's is {}", hex(key_.public_key()), hex(m.sequencer));
  if (members_.size() != static_cast<size_t>(m.workers) || members_root(members_) != m.members)
    fail("swarm: these {} members are not the {} of the manifest", members_.size(), m.workers);
  begin();
}

void Sequencer::begin() {
  const Chain& chain = replica_.chain();
  reports_.assign(members_.size(), {});
  slots_ = first_slots(chain.dealing_head(), chain.step(), chain.format());
  taken_ = 0, lag_ = 0;
}

Answer Sequencer::first_look(View bytes, uint32_t& worker, uint8_t& lag) const {
  const Chain& chain = replica_.chain();
  Report r;
  try {
    r = parse_report(bytes, chain.format());
  } catch (const Error&) {
    return Answer::Malformed;
  }
  worker = r.worker, lag = r.lag;
  if (r.step != chain.step()) return Answer::OtherStep;
  if (r.lag > chain.manifest().lag) return Answer::TooOld;
  if (r.first_slot != slots_[r.worker]) return Answer::OtherSlot;
  if (bans_.is_banned(r.worker)) return Answer::Banned;
  return Answer::Taken;
}

std::vector<Answer> Sequencer::take(std::span<const Bytes> reports) {
  std::vector<Answer> out(reports.size());
  std::vector<uint32_t> worker(reports.size());
  std::vector<uint8_t> lag(reports.size());
  const auto look = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      out[i] = first_look(reports[i], worker[i], lag[i]);
      if (out[i] == Answer::Taken &&
          !report_is_signed(reports[i], replica_.chain().format(), members_[worker[i]]))
        out[i] = Answer::BadSignature;
    }
  };
  const size_t half = reports.size() >= fewest_side_by_side ? reports.size() / 2 : 0;
  std::thread other;
  if (half > 0) other = std::thread(look, 0, half);
  look(half, reports.size());
  if (half > 0) other.join();
  for (size_t i = 0; i < reports.size(); ++i) {
    if (out[i] == Answer::Taken && !reports_[worker[i]].empty()) out[i] = Answer::Twice;
    if (out[i] == Answer::Taken && is_full()) out[i] = Answer::Full;
    ++counts_[static_cast<size_t>(out[i])];
    if (out[i] != Answer::Taken) continue;
    reports_[worker[i]] = reports[i], ++taken_, lag_ = std::max(lag_, lag[i]);
  }
  return out;
}

bool Sequencer::is_full() const {
  const Manifest& m = replica_.chain().manifest();
  return static_cast<int64_t>(taken_ + 1) * m.slots > std::min(m.quorum, most_values);
}

Bytes Sequencer::receipt(View report) const {
  const Report r = parse_report(report, replica_.chain().format());
  Receipt out{.step = r.step, .worker = r.worker, .report = sha256(report)};
  return sign(out, replica_.chain().format(), key_);
}

Bytes Sequencer::close(uint64_t time) {
  const Format& f = replica_.chain().format();
  Record record{.lag = lag_, .time = time};
  record.accepted.resize(members_.size());
  for (size_t w = 0; w < reports_.size(); ++w) record.accepted[w] = !reports_[w].empty();
  std::vector<Digest> leaves;
  for (const uint32_t w : in_slot_order(record.accepted, slots_, f)) {
    const Report r = parse_report(reports_[w], f);
    record.codes.insert(record.codes.end(), r.codes.begin(), r.codes.end());
    leaves.push_back(merkle_leaf(reports_[w]));
  }
  record.reports = merkle_root(leaves);
  replica_.propose(record);
  const Bytes bytes = sign(record, f, key_);
  replica_.adopt(bytes);
  closed_ = std::move(reports_);
  begin();
  return bytes;
}

Bytes Sequencer::judge(uint32_t worker, uint32_t slot, uint32_t said, int32_t found) {
  const Manifest& m = replica_.chain().manifest();
  Verdict out{.step = replica_.chain().step() - 1, .worker = worker, .slot = slot, .checker = 0};
  out.report = sha256(closed_.at(worker));
  out.said = said, out.found = code_of(found, m.width);
  out.banned = bans_.add(worker, contradicts(said, found, m.width, m.tolerance)) ? 1 : 0;
  return sign(out, replica_.chain().format(), key_);
}

}  // namespace kontor::swarm
