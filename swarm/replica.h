// A replica: weights, and the chain of records that made them.
#pragma once
#include <deque>

#include "swarm/messages.h"
#include "swarm/step.h"

namespace kontor::swarm {

/// The root over the deals of a fork: each is a leaf, so that their number is part of it.
Digest deals_root(std::span<const Digest> deals);

/// The chain without the weights: what every record must be, whatever is computed from it.
class Chain {
 public:
  /// `deals`: of a fork, the heads by which its origin's slots were dealt. Throws Error if they are not the manifest's.
  explicit Chain(const Manifest& manifest, std::vector<Digest> deals = {});
  const Manifest& manifest() const { return manifest_; }
  const Format& format() const { return format_; }
  uint32_t step() const { return step_; }               ///< of the next record
  const Digest& head() const { return heads_.back(); }  ///< the run's name before the first
  /// The record by which the slots of the next step are dealt: `lag` before the head, so that all who report know it.
  const Digest& dealing_head() const { return step_ < deals_.size() ? deals_[step_] : heads_.front(); }
  /// What is wrong with the next record, in a sentence that names values; "" if nothing is.
  std::string fault(View bytes, const Record& record) const;
  void append(View bytes);

 private:
  Manifest manifest_;
  Format format_;
  uint32_t step_ = 0;
  std::deque<Digest> heads_;
  std::vector<Digest> deals_;
};

class Replica {
 public:
  /// Checks that the task is the manifest's: weights, graph, data. Throws Error that names what differs.
  Replica(Task& task, const Manifest& manifest, std::vector<Digest> deals = {});
  const Chain& chain() const { return chain_; }
  /// Applies the next record. Throws Error "step 12: .." if it is not one, or if the state after it is not what it says: then the weights
  /// are not to be used, and the replica refuses all that follows.
  void apply(View bytes);
  /// The sequencer's half of apply: computes what the accepted reports make of the weights, and puts head and root into the record.
  void propose(Record& record);
  /// Takes the proposed record over once it is signed.
  void adopt(View bytes) { chain_.append(bytes); }

 private:
  Task& task_;
  Chain chain_;
  Steps steps_;
  uint64_t key_;
  bool broken_ = false;

  void update(const Record& record);
};

/// A manifest's fields that follow from its task.
void describe(Manifest& manifest, Task& task);
/// The coefficient of each slot of a step: 0 for those of workers that were not accepted.
std::vector<int32_t> slot_coefficients(const Record& record, const Digest& dealing_head,
                                       const Format& format);
/// Workers in the order of their slots, of those that `chosen` names.
std::vector<uint32_t> in_slot_order(const std::vector<bool>& chosen, std::span<const uint32_t> first_slots,
                                    const Format& format);

}  // namespace kontor::swarm
