// A host: the workers of one machine, which share weights and forward passes.
#pragma once
#include <map>

#include "swarm/replica.h"

namespace kontor::swarm {

class Host {
 public:
  /// The keys of the workers whose slots it evaluates, by their numbers. Throws Error where the task is not the manifest's.
  Host(Task& task, const Manifest& manifest, std::map<uint32_t, SigningKey> keys,
       std::vector<Digest> deals = {});
  const Chain& chain() const { return replica_.chain(); }
  void apply(View record) { replica_.apply(record); }
  /// The signed reports of its workers about the next step, by the weights as they are. A report that is made again is the same: which bits
  /// are flipped follows from the worker's secret key, the weights and the slot's seed, so that nobody sees one bit with two flips.
  std::vector<Bytes> reports();

 private:
  Task& task_;
  Replica replica_;
  Steps steps_;
  std::map<uint32_t, SigningKey> keys_;
};

}  // namespace kontor::swarm
