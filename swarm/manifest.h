// The manifest: all that a run is, as canonical JSON whose SHA-256 is the run's name.
#pragma once
#include <optional>
#include <string>

#include "swarm/crypto.h"

namespace kontor::swarm {

/// Reports and records are about at most so many values a step: a record counts them in two bytes.
inline constexpr int64_t most_values = 65535;
/// Members, whether they report or not.
inline constexpr int64_t most_workers = 1 << 20;
/// A step that a report is about may be so many steps after the weights it was made with.
inline constexpr int64_t longest_lag = 4;

struct Manifest {
  // What is trained, and with what bits.
  std::string model = "mnist-small";
  uint64_t seed = 1;    ///< of the initial weights
  Digest weights = {};  ///< root of the state before the first step
  Digest graph = {};    ///< SHA-256 of the update's graph as text
  int64_t profile = 1;  ///< of the arithmetic: docs/decentralised.md
  std::string generator = "threefry-2x32-20";
  // The plan of a step.
  std::string plan = "low-rank";    ///< or "full"
  int64_t workers = 16;             ///< members
  int64_t slots = 1;                ///< directions that each evaluates a step, 1 to 255
  int64_t samples = 8;              ///< of the data that a direction is tried on
  double sigma = 0.05, lr = 0.5;    ///< of a direction tried; of the first step's move
  std::string schedule = "linear";  ///< or "constant": lr falls along a line to 0 behind the last step
  int64_t steps = 100;
  // The protocol.
  int64_t deadline = 1000;  ///< ms of a step
  int64_t quorum = 65535;   ///< values that close a step before its deadline: a record has no more
  int64_t lag = 0;          ///< the most
  double spot_rate = 0;     ///< part of the reports that are computed again
  int64_t tolerance = 0;    ///< of a value computed again, in 2^-16
  int64_t width = 1;        ///< bits of a value: 1, 8 or 24
  double flip = 0;          ///< part of the bits that workers flip, for privacy; width 1
  std::string data = {};    ///< Merkle root (hexadecimal), or "private"
  PublicKey sequencer = {};
  std::vector<PublicKey> witnesses = {};
  Digest members = {};  ///< Merkle root of the members' keys, in the order of their numbers
  /// A run that is another one told otherwise: that run's name, its step from which on they differ, and the Merkle root (a leaf each) of the heads
  /// by which its slots were dealt, so that they are here as there.
  struct Origin {
    Digest run = {};
    int64_t step = 0;
    Digest deals = {};
  };
  std::optional<Origin> origin = {};

  int64_t values() const { return workers * slots; }
  /// Of the step with this number, from 0; the same double on every machine.
  double lr_at(int64_t step) const;
};

/// The one text of a manifest: keys sorted, no spaces, numbers as short as they can be.
std::string to_text(const Manifest& manifest);
/// Throws Error that names the field and its value: unknown, missing, out of range, or a text that is not canonical.
Manifest parse_manifest(std::string_view text);
Digest run_of(const Manifest& manifest);
/// From which the seeds of slots follow: of a forked run those of its origin.
uint64_t noise_key(const Manifest& manifest);

}  // namespace kontor::swarm
