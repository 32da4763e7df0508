// What carries messages. It promises nothing: they come late, twice, in any order, or never; all that is believed is signed.
#pragma once
#include <optional>

#include "swarm/crypto.h"

namespace kontor::swarm {

class Transport {
 public:
  virtual ~Transport() = default;
  /// A worker's report to the sequencer, and a record to everybody.
  virtual void report(uint32_t worker, View bytes) = 0;
  virtual void publish(View record) = 0;
  /// What came for the sequencer until then (ms of now()), in the order in which it came; waits no longer than that.
  virtual std::vector<Bytes> reports(uint64_t until) = 0;
  /// What was published since the last call, for one follower; waits until then at most.
  virtual std::vector<Bytes> records(size_t follower, uint64_t until) = 0;
  /// Bytes by their hash: pieces of snapshots, lists of members.
  virtual Digest put(View blob) = 0;
  virtual std::optional<Bytes> blob(const Digest& digest) = 0;
  virtual uint64_t now() const = 0;  ///< ms of a clock that nobody sets; not the time of day
};

}  // namespace kontor::swarm
