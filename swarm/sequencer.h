// The sequencer: collects reports, closes steps, signs records. A state machine of bytes; who carries them does not matter.
#pragma once
#include <array>
#include <optional>

#include "swarm/replica.h"
#include "swarm/trust.h"

namespace kontor::swarm {

/// What became of a report.
enum class Answer : uint8_t {
  Taken,
  Malformed,
  OtherStep,
  TooOld,
  OtherSlot,
  Banned,
  Twice,
  Full,
  BadSignature
};
inline constexpr size_t answers = 9;
const char* name(Answer answer);

class Sequencer {
 public:
  /// `members`: keys, in the order of their numbers. Throws Error if they or the key are not the manifest's.
  Sequencer(Replica& replica, SigningKey key, std::vector<PublicKey> members);
  /// Of each report in turn what became of it; signatures are checked side by side. A report that is not taken changes nothing.
  std::vector<Answer> take(std::span<const Bytes> reports);
  Answer take(const Bytes& report) { return take(std::span(&report, 1))[0]; }
  /// Proof that a report was taken, for the worker.
  Bytes receipt(View report) const;
  size_t taken() const { return taken_; }
  /// Whether the quorum is there.
  bool is_full() const;
  /// Ends the step, whatever is there: without a report the record is empty and the weights stay.
  Bytes close(uint64_t time);
  /// Reports of the step that was closed last, by worker; empty for the others.
  const std::vector<Bytes>& closed_reports() const { return closed_; }
  /// A worker's slot of the closed step was computed again. Returns the signed verdict.
  Bytes judge(uint32_t worker, uint32_t slot, uint32_t said, int32_t found);
  const Bans& bans() const { return bans_; }
  const std::array<int64_t, answers>& counts() const { return counts_; }

 private:
  Replica& replica_;
  SigningKey key_;
  std::vector<PublicKey> members_;
  std::vector<Bytes> reports_, closed_;
  std::vector<uint32_t> slots_;  // the first of each worker in this step
  size_t taken_ = 0;
  uint8_t lag_ = 0;
  Bans bans_;
  std::array<int64_t, answers> counts_ = {};

  Answer first_look(View bytes, uint32_t& worker, uint8_t& lag) const;
  void begin();
};

Digest members_root(std::span<const PublicKey> members);

}  // namespace kontor::swarm
