// Simulation: one process, virtual time, as many workers as fit in memory; who comes, is late or lies follows from a seed.
#pragma once
#include <map>
#include <queue>

#include "swarm/ledger.h"
#include "swarm/sequencer.h"
#include "swarm/transport.h"

namespace kontor::swarm {

/// What a liar sends.
enum class Attack : uint8_t { Mirror, Random, Zero, Huge, Nan, Collude, Replay, BadSignature, Mixed };
Attack attack_of(std::string_view name);  ///< throws Error that lists the names
std::vector<std::string> attack_names();

struct SimOptions {
  Manifest manifest = {};  ///< keys, hashes and members are filled in
  std::string data = {};   ///< file or folder of the model's data
  double churn = 0.3;      ///< part of the workers that is away in a step, drawn anew
  double liars = 0.2;      ///< part of the workers that always lies
  double slow = 0.02;      ///< part of the reports that comes after the deadline
  std::string attack = "mixed";
  uint64_t seed = 1;                    ///< of who comes and what liars draw
  int64_t witnesses = 3, replicas = 1;  ///< replicas: beside the sequencer's own
  std::string ledger = {};              ///< path; "": none is kept
  Ledger::Sync sync = Ledger::Sync::Crash;
};

/// Messages in virtual time: each is under way for as long as the sender said.
class SimTransport final : public Transport {
 public:
  void report(uint32_t worker, View bytes) override { send(bytes, 0), (void)worker; }
  void send(View bytes, uint64_t delay);
  void publish(View record) override;
  std::vector<Bytes> reports(uint64_t until) override;
  std::vector<Bytes> records(size_t follower, uint64_t until) override;
  Digest put(View blob) override;
  std::optional<Bytes> blob(const Digest& digest) override;
  uint64_t now() const override { return now_; }

 private:
  struct Message {
    uint64_t at, number;
    Bytes bytes;
    bool operator<(const Message& other) const {  // the first to come is the greatest
      return at != other.at ? at > other.at : number > other.number;
    }
  };
  std::priority_queue<Message> under_way_;
  std::vector<Bytes> published_;
  std::map<size_t, size_t> read_;  // of each follower, how many it has had
  std::map<Digest, Bytes> blobs_;
  uint64_t now_ = 0, sent_ = 0;
};

/// A step as it went.
struct SimRow {
  int64_t step = 0, accepted = 0, refused = 0, banned = 0;
  int64_t record_bytes = 0, report_bytes = 0;  ///< of the record; of one host's report
  double value = 0;                            ///< mean magnitude of what honest workers measured, in nats
  double seconds = 0, forward_seconds = 0;     ///< of this machine
  double loss = 0, accuracy = 0;               ///< on the test data; NaN: not tested
};

/// The keys of a simulation, which are no secrets: "sequencer", "worker" or "witness", of a seed.
SigningKey simulation_key(uint64_t seed, std::string_view role, uint64_t number);
/// ms since 1970 at which virtual time begins.
inline constexpr uint64_t simulation_epoch = 1'767'225'600'000;

class Simulation {
 public:
  explicit Simulation(const SimOptions& options);
  ~Simulation();
  /// Throws Error if a replica's root differs.
  SimRow step();
  nn::Metrics test();
  const Manifest& manifest() const;
  const Digest& head() const;
  Digest state() const;
  double operations() const;  ///< of forward passes so far
  /// What became of all reports, and of whom the bans are.
  const std::array<int64_t, answers>& counts() const;
  int64_t banned_liars() const;
  int64_t banned_honest() const;
  int64_t liars() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kontor::swarm
