// A ledger: manifest, members and records in one SQLite file. Records are appended whole or not at all.
#pragma once
#include <functional>
#include <memory>
#include <optional>

#include "swarm/messages.h"

namespace kontor::swarm {

class Ledger {
 public:
  enum class Sync : bool { Crash, PowerCut };  ///< what a record survives once it is appended
  /// A new file. Throws Error if there is one, and with what SQLite says.
  static Ledger create(const std::string& path, const Manifest& manifest, std::span<const PublicKey> members,
                       Sync sync = Sync::PowerCut);
  /// Throws Error if it is no ledger, of a later version, or has no manifest that can be read.
  static Ledger open(const std::string& path, bool writable = false, Sync sync = Sync::PowerCut);
  ~Ledger();
  Ledger(Ledger&&) noexcept;
  Ledger& operator=(Ledger&&) noexcept;

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  std::vector<PublicKey> members() const;  ///< throws Error if they are not the manifest's
  std::vector<Digest> deals()
      const;              ///< of a fork: what Chain wants; throws Error if they are not the manifest's
  int64_t steps() const;  ///< records
  /// Throws Error if there is none.
  Bytes record(int64_t step) const;
  /// The next step's record, or what belongs to a step ("cosignature", "verdict", "deal"). Throws Error if it cannot be written: then
  /// nothing was.
  void append(int64_t step, View record);
  void add_evidence(int64_t step, std::string_view kind, View bytes);
  /// Errors of `with` get the path and the step.
  void each_evidence(std::string_view kind, const std::function<void(int64_t step, View bytes)>& with) const;
  /// Several appends as one, while it lives.
  class Together {
   public:
    explicit Together(Ledger& ledger);
    ~Together();
    Together(const Together&) = delete;
    Together& operator=(const Together&) = delete;
    void commit();

   private:
    Ledger& ledger_;
    bool open_ = true;
  };

 private:
  struct Database;
  std::string path_;
  std::unique_ptr<Database> database_;
  Manifest manifest_;
  Ledger();
};

/// What a ledger's chain comes to, without the model.
struct Verified {
  Digest run = {}, head = {}, state = {};
  int64_t steps = 0, record_bytes = 0, values = 0, verdicts = 0, bans = 0, final_steps = 0;
};
/// Walks the whole chain: links, signatures, forms, cosignatures, verdicts. Throws Error "PATH: step 12: .." at the first that is wrong.
Verified verify(const Ledger& ledger);

}  // namespace kontor::swarm
