// How messages are written, read, signed and checked.
#include "swarm/messages.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace kontor::swarm {

namespace {

constexpr size_t signature_bytes = 64;
constexpr std::string_view report_use = "kontor report 1", record_use = "kontor record 1",
                           receipt_use = "kontor receipt 1", cosignature_use = "kontor cosignature 1",
                           verdict_use = "kontor verdict 1";

View unsigned_part(View bytes) { return bytes.first(bytes.size() - signature_bytes); }

bool is_signed_as(std::string_view use, View bytes, const Format& format, const PublicKey& key) {
  if (bytes.size() < signature_bytes) return false;
  Signature signature;
  std::copy(bytes.end() - signature_bytes, bytes.end(), signature.begin());
  return verifies(key, signature, use, {format.run, unsigned_part(bytes)});
}

template <class Message>
Bytes sign_as(std::string_view use, Message& message, Bytes bytes, const Format& format,
              const SigningKey& key) {
  message.signature = key.sign(use, {format.run, unsigned_part(bytes)});
  std::copy(message.signature.begin(), message.signature.end(), bytes.end() - signature_bytes);
  return bytes;
}

// Fields of the short messages in their order; `f` writes or reads each.
template <class F>
void fields(Receipt& m, F&& f) {
  f(m.step), f(m.worker), f(m.report), f(m.signature);
}
template <class F>
void fields(Cosignature& m, F&& f) {
  f(m.step), f(m.witness), f(m.head), f(m.signature);
}
template <class F>
void fields(Verdict& m, F&& f) {
  f(m.step), f(m.worker), f(m.slot), f(m.checker), f(m.said), f(m.found), f(m.banned), f(m.report),
      f(m.signature);
}

template <class Message>
Bytes write(Message message) {
  Writer out;
  fields(message, [&](const auto& field) {
    if constexpr (std::is_integral_v<std::decay_t<decltype(field)>>) out.number(field, 4);
    else out.add(field);
  });
  return std::move(out.bytes);
}

template <class Message>
Message read(View bytes, std::string_view what) {
  Message out;
  Reader in(bytes, what);
  fields(out, [&](auto& field) {
    if constexpr (std::is_integral_v<std::decay_t<decltype(field)>>)
      field = static_cast<uint32_t>(in.number(4));
    else field = in.fixed<sizeof(field)>();
  });
  in.end();
  return out;
}

}  // namespace

Bytes pack(std::span<const uint32_t> codes, int64_t width) {
  if (width == 1) {
    Bytes out((codes.size() + 7) / 8);
    for (size_t i = 0; i < codes.size(); ++i)
      out[i / 8] = static_cast<uint8_t>(out[i / 8] | (codes[i] & 1) << (i % 8));
    return out;
  }
  Writer out;
  for (const uint32_t c : codes) out.number(c, static_cast<size_t>(width / 8));
  return std::move(out.bytes);
}

std::vector<uint32_t> unpack(View bytes, size_t count, int64_t width, std::string_view what) {
  std::vector<uint32_t> out(count);
  if (width != 1) {
    Reader in(bytes, what);
    for (uint32_t& c : out) c = static_cast<uint32_t>(in.number(static_cast<size_t>(width / 8)));
    in.end();
    return out;
  }
  for (size_t i = 0; i < 8 * bytes.size(); ++i) {
    const uint32_t bit = bytes[i / 8] >> (i % 8) & 1;
    if (i < count) out[i] = bit;
    else if (bit) fail("{}: bit {} of {} values is set", what, i, count);
  }
  return out;
}

Bytes to_bytes(const Report& r, const Format& f) {
  Writer out;
  out.add(View(f.run).first(8)).number(r.step, 4).number(r.step - r.lag, 2).number(r.worker, 4);
  out.number(r.first_slot, 4).number(r.codes.size(), 1).add(pack(r.codes, f.width)).add(r.signature);
  return std::move(out.bytes);
}

Report parse_report(View bytes, const Format& f) {
  Reader in(bytes, "report");
  if (!std::ranges::equal(in.take(8), View(f.run).first(8))) fail("report: it is of another run");
  Report out;
  out.step = static_cast<uint32_t>(in.number(4));
  const auto lag = static_cast<uint16_t>(out.step - in.number(2));
  if (lag > longest_lag || lag > out.step)
    fail("report: of step {} with weights {} steps before", out.step, lag);
  out.lag = static_cast<uint8_t>(lag);
  out.worker = static_cast<uint32_t>(in.number(4));
  if (out.worker >= f.workers) fail("report: of worker {}; there are {}", out.worker, f.workers);
  out.first_slot = static_cast<uint32_t>(in.number(4));
  const size_t count = in.number(1);
  if (count != static_cast<size_t>(f.slots)) fail("report: of {} slots; a worker has {}", count, f.slots);
  out.codes = unpack(in.take(f.payload_bytes(count)), count, f.width, "report");
  out.signature = in.fixed<64>();
  in.end();
  return out;
}

Bytes sign(Report& r, const Format& f, const SigningKey& key) {
  return sign_as(report_use, r, to_bytes(r, f), f, key);
}
bool report_is_signed(View report, const Format& f, const PublicKey& key) {
  return is_signed_as(report_use, report, f, key);
}

Bytes to_bytes(const Record& r, const Format& f) {
  Bytes bitmap(f.bitmap_bytes());
  for (size_t w = 0; w < r.accepted.size(); ++w)
    if (r.accepted[w]) bitmap[w / 8] = static_cast<uint8_t>(bitmap[w / 8] | 1 << (w % 8));
  Writer out;
  out.add(r.before).number(r.step, 4).number(r.lag, 1).number(r.profile, 1).number(r.codes.size(), 2);
  out.number(r.time, 8).add(bitmap).add(pack(r.codes, f.width)).add(r.reports).add(r.state).add(r.signature);
  return std::move(out.bytes);
}

Record parse_record(View bytes, const Format& f) {
  Reader in(bytes, "record");
  Record out;
  out.before = in.fixed<32>();
  out.step = static_cast<uint32_t>(in.number(4));
  out.lag = static_cast<uint8_t>(in.number(1));
  out.profile = static_cast<uint8_t>(in.number(1));
  if (out.lag > longest_lag) fail("record: a lag of {}; {} at most", out.lag, longest_lag);
  if (out.profile != 1) fail("record: profile {} of the arithmetic; this Kontor has 1", out.profile);
  const size_t values = in.number(2);
  out.time = in.number(8);
  const std::vector<uint32_t> bits =
      unpack(in.take(f.bitmap_bytes()), static_cast<size_t>(f.workers), 1, "record's members");
  out.accepted.assign(bits.begin(), bits.end());
  const auto accepted = static_cast<size_t>(std::count(bits.begin(), bits.end(), 1u));
  if (accepted * static_cast<size_t>(f.slots) != values)
    fail("record: {} values of {} members with {} slots each", values, accepted, f.slots);
  out.codes = unpack(in.take(f.payload_bytes(values)), values, f.width, "record's values");
  out.reports = in.fixed<32>();
  out.state = in.fixed<32>();
  out.signature = in.fixed<64>();
  in.end();
  return out;
}

Bytes sign(Record& r, const Format& f, const SigningKey& key) {
  return sign_as(record_use, r, to_bytes(r, f), f, key);
}
bool record_is_signed(View record, const Format& f, const PublicKey& key) {
  return is_signed_as(record_use, record, f, key);
}

Bytes sign(Receipt& m, const Format& f, const SigningKey& key) {
  return sign_as(receipt_use, m, write(m), f, key);
}
Bytes sign(Cosignature& m, const Format& f, const SigningKey& key) {
  return sign_as(cosignature_use, m, write(m), f, key);
}
Bytes sign(Verdict& m, const Format& f, const SigningKey& key) {
  return sign_as(verdict_use, m, write(m), f, key);
}

Receipt parse_receipt(View bytes) { return read<Receipt>(bytes, "receipt"); }
Cosignature parse_cosignature(View bytes) { return read<Cosignature>(bytes, "cosignature"); }
Verdict parse_verdict(View bytes) { return read<Verdict>(bytes, "verdict"); }

bool is_signed(const Receipt& m, const Format& f, const PublicKey& key) {
  return is_signed_as(receipt_use, write(m), f, key);
}
bool is_signed(const Cosignature& m, const Format& f, const PublicKey& key) {
  return is_signed_as(cosignature_use, write(m), f, key);
}
bool is_signed(const Verdict& m, const Format& f, const PublicKey& key) {
  return is_signed_as(verdict_use, write(m), f, key);
}

std::string two_heads(View a, View b, const Format& format, const PublicKey& sequencer) {
  const Record first = parse_record(a, format), second = parse_record(b, format);
  if (first.step != second.step) return fmt::format("they are of steps {} and {}", first.step, second.step);
  if (std::ranges::equal(unsigned_part(a), unsigned_part(b))) return "they are the same";
  for (const View& bytes : {a, b})
    if (!record_is_signed(bytes, format, sequencer)) return "the sequencer did not sign both";
  return "";
}

bool proves_omission(const Receipt& receipt, View record, const Format& format, const PublicKey& sequencer) {
  if (!is_signed(receipt, format, sequencer) || !record_is_signed(record, format, sequencer)) return false;
  const Record r = parse_record(record, format);
  return r.step == receipt.step && receipt.worker < r.accepted.size() && !r.accepted[receipt.worker];
}

bool is_final(const Digest& head, std::span<const Cosignature> signed_by, const Manifest& manifest,
              const Format& format) {
  std::set<uint32_t> witnesses;
  for (const Cosignature& c : signed_by) {
    if (c.head != head || c.witness >= manifest.witnesses.size()) continue;
    if (is_signed(c, format, manifest.witnesses[c.witness])) witnesses.insert(c.witness);
  }
  return !manifest.witnesses.empty() && witnesses.size() >= witness_quorum(manifest.witnesses.size());
}

}  // namespace kontor::swarm
