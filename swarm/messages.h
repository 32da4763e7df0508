// Messages, byte by byte (docs/decentralised.md, "Formats"): what a worker says, what the sequencer makes of all that was said, and
// what others say of that. Each parse is a pure function of bytes that throws Error; signatures are checked apart.
#pragma once
#include <optional>

#include "swarm/manifest.h"

namespace kontor::swarm {

/// What all messages of a run share.
struct Format {
  Digest run = {};
  int64_t workers = 0, slots = 1, width = 1;
  explicit Format(const Manifest& m) : run(run_of(m)), workers(m.workers), slots(m.slots), width(m.width) {}

  size_t bitmap_bytes() const { return static_cast<size_t>((workers + 7) / 8); }
  /// Of so many values.
  size_t payload_bytes(size_t values) const {
    return width == 1 ? (values + 7) / 8 : values * static_cast<size_t>(width / 8);
  }
};

/// Codes of `width` bits, one after another, the first in the lowest bits. `bytes` has payload_bytes(); bits behind the last
/// value of width 1 must be 0: of two texts of one list one is refused.
Bytes pack(std::span<const uint32_t> codes, int64_t width);
std::vector<uint32_t> unpack(View bytes, size_t count, int64_t width, std::string_view what);

/// A worker's values of a step: 87 bytes and the payload.
struct Report {
  uint32_t step = 0;
  uint8_t lag = 0;  ///< the values were made with the weights of `step - lag`
  uint32_t worker = 0, first_slot = 0;
  std::vector<uint32_t> codes = {};  ///< of the worker's slots, in order
  Signature signature = {};
};
Bytes to_bytes(const Report& report, const Format& format);
/// Throws Error that says what is wrong: another run, lengths, a number of slots that is not the run's.
Report parse_report(View bytes, const Format& format);
Bytes sign(Report& report, const Format& format, const SigningKey& key);
bool report_is_signed(View report, const Format& format, const PublicKey& key);

/// A step: 176 bytes, a bit a member, and the payload.
struct Record {
  Digest before = {};  ///< hash of the record before; the run's name before the first
  uint32_t step = 0;
  uint8_t lag = 0, profile = 1;      ///< the greatest lag of a report in it
  uint64_t time = 0;                 ///< ms since 1970, of the sequencer's clock
  std::vector<bool> accepted = {};   ///< of each member
  std::vector<uint32_t> codes = {};  ///< of the accepted, in the order of their slots
  Digest reports = {};               ///< Merkle root of the accepted reports, in that order
  Digest state = {};                 ///< root of the state after the step
  Signature signature = {};
};
Bytes to_bytes(const Record& record, const Format& format);
Record parse_record(View bytes, const Format& format);
Bytes sign(Record& record, const Format& format, const SigningKey& key);
bool record_is_signed(View record, const Format& format, const PublicKey& key);
inline Digest head_of(View record) { return sha256(record); }

/// A short message: numbers of four bytes, digests, a signature. What each kind has stands in the table of messages.cpp.
struct Receipt {  ///< the sequencer has this report: 104 bytes
  uint32_t step = 0, worker = 0;
  Digest report = {};
  Signature signature = {};
};
struct Cosignature {  ///< a witness has seen this record, and no other of its step: 104 bytes
  uint32_t step = 0, witness = 0;
  Digest head = {};
  Signature signature = {};
};
struct Verdict {  ///< a slot was computed again: 124 bytes
  uint32_t step = 0, worker = 0, slot = 0, checker = 0;
  Digest report = {};
  Signature signature = {};
  uint32_t said = 0, found = 0;  ///< codes
  uint32_t banned = 0;           ///< 1: the worker's reports are not taken any more
};
Bytes sign(Receipt& receipt, const Format& format, const SigningKey& key);
Bytes sign(Cosignature& cosignature, const Format& format, const SigningKey& key);
Bytes sign(Verdict& verdict, const Format& format, const SigningKey& key);
Receipt parse_receipt(View bytes);
Cosignature parse_cosignature(View bytes);
Verdict parse_verdict(View bytes);
bool is_signed(const Receipt& receipt, const Format& format, const PublicKey& key);
bool is_signed(const Cosignature& cosignature, const Format& format, const PublicKey& key);
bool is_signed(const Verdict& verdict, const Format& format, const PublicKey& key);

/// What is wrong with two records as a proof that the sequencer signed two heads of one step; "" if it is one.
std::string two_heads(View a, View b, const Format& format, const PublicKey& sequencer);
/// Whether the sequencer gave a receipt for a report in this step and left the worker out of its record.
bool proves_omission(const Receipt& receipt, View record, const Format& format, const PublicKey& sequencer);
/// How many witnesses make a record final.
inline size_t witness_quorum(size_t witnesses) { return witnesses == 0 ? 0 : 2 * witnesses / 3 + 1; }
/// Whether enough different witnesses have signed this head; never in a run that has none.
bool is_final(const Digest& head, std::span<const Cosignature> signed_by, const Manifest& manifest,
              const Format& format);

}  // namespace kontor::swarm
