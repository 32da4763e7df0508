// Manifests as JSON: one table of fields from which they are written, read and checked.
#include "swarm/manifest.h"

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace kontor::swarm {

namespace {

using Sorted = nlohmann::json;

struct Field {
  const char* name;
  std::function<Sorted(const Manifest&)> get;
  std::function<void(Manifest&, const Sorted&)> set;
};

[[noreturn]] void wrong(const char* name, const Sorted& value, const std::string& want) {
  fail("manifest: {} is {}, not {}", name, value.dump(-1, ' ', false, Sorted::error_handler_t::replace),
       want);
}

Field integer(const char* name, int64_t Manifest::* member, int64_t lo, int64_t hi) {
  return {name, [=](const Manifest& m) { return Sorted(m.*member); },
          [=](Manifest& m, const Sorted& v) {
            if (!v.is_number_integer() || v < lo || v > hi)
              wrong(name, v, fmt::format("an integer from {} to {}", lo, hi));
            m.*member = v.get<int64_t>();
          }};
}

Field number(const char* name, double Manifest::* member, double lo, double hi) {
  return {name, [=](const Manifest& m) { return Sorted(m.*member); },
          [=](Manifest& m, const Sorted& v) {
            if (!v.is_number_float() || !(v.get<double>() >= lo && v.get<double>() <= hi))
              wrong(name, v,
                    fmt::format("a number from {:?} to {:?}", std::to_string(lo), std::to_string(hi)));
            m.*member = v.get<double>();
          }};
}

Field word(const char* name, std::string Manifest::* member, std::vector<std::string> words) {
  return {name, [=](const Manifest& m) { return Sorted(m.*member); },
          [=](Manifest& m, const Sorted& v) {
            if (!v.is_string() || v.get_ref<const std::string&>().size() > 64) wrong(name, v, "a short text");
            const auto& text = v.get_ref<const std::string&>();
            if (!words.empty() && std::find(words.begin(), words.end(), text) == words.end())
              wrong(name, v, fmt::format("{}", fmt::join(words, " or ")));
            m.*member = text;
          }};
}

Digest digest_of(const char* name, const Sorted& v) {
  Digest out;
  if (!v.is_string()) wrong(name, v, "64 hexadecimal digits");
  from_hex(v.get_ref<const std::string&>(), out, std::string("manifest: ") + name);
  return out;
}

Field digest(const char* name, Digest Manifest::* member) {
  return {name, [=](const Manifest& m) { return Sorted(hex(m.*member)); },
          [=](Manifest& m, const Sorted& v) { m.*member = digest_of(name, v); }};
}

Field witness_keys() {
  return {"witnesses",
          [](const Manifest& m) {
            Sorted out = Sorted::array();
            for (const PublicKey& k : m.witnesses) out.push_back(hex(k));
            return out;
          },
          [](Manifest& m, const Sorted& v) {
            if (!v.is_array() || v.size() > 1000) wrong("witnesses", v, "a list of at most 1000 keys");
            for (const Sorted& k : v) m.witnesses.push_back(digest_of("witnesses", k));
          }};
}

Field origin() {
  return {
      "origin",
      [](const Manifest& m) {
        if (!m.origin) return Sorted();
        return Sorted{{"deals", hex(m.origin->deals)}, {"run", hex(m.origin->run)}, {"step", m.origin->step}};
      },
      [](Manifest& m, const Sorted& v) {
        if (v.is_null()) return;
        if (!v.is_object() || v.size() != 3 || !v.contains("deals") || !v.contains("run") ||
            !v.contains("step") || !v["step"].is_number_integer() || v["step"] < 0 || v["step"] > UINT32_MAX)
          wrong("origin", v, "null or a run, a step and deals");
        m.origin = Manifest::Origin{digest_of("origin", v["run"]), v["step"].get<int64_t>(),
                                    digest_of("origin", v["deals"])};
      }};
}

Field model_seed() {
  return {"seed", [](const Manifest& m) { return Sorted(m.seed); },
          [](Manifest& m, const Sorted& v) {
            if (!v.is_number_unsigned()) wrong("seed", v, "an integer from 0");
            m.seed = v.get<uint64_t>();
          }};
}

const std::vector<Field>& fields() {
  using M = Manifest;
  static const std::vector<Field> all{
      word("model", &M::model, {}),
      model_seed(),
      digest("weights", &M::weights),
      digest("graph", &M::graph),
      integer("profile", &M::profile, 1, 1),
      word("generator", &M::generator, {"threefry-2x32-20"}),
      word("plan", &M::plan, {"low-rank", "full"}),
      integer("workers", &M::workers, 1, most_workers),
      integer("slots", &M::slots, 1, 255),
      integer("samples", &M::samples, 1, 1 << 20),
      number("sigma", &M::sigma, 1e-9, 1e3),
      number("lr", &M::lr, 1e-12, 1e6),
      word("schedule", &M::schedule, {"constant", "linear"}),
      integer("steps", &M::steps, 1, UINT32_MAX),
      integer("deadline", &M::deadline, 1, 86'400'000),
      integer("quorum", &M::quorum, 1, most_values),
      integer("lag", &M::lag, 0, longest_lag),
      number("spot_rate", &M::spot_rate, 0, 1),
      integer("tolerance", &M::tolerance, 0, 1 << 24),
      integer("width", &M::width, 1, 24),
      number("flip", &M::flip, 0, 0.49),
      word("data", &M::data, {}),
      digest("sequencer", &M::sequencer),
      witness_keys(),
      digest("members", &M::members),
      origin(),
  };
  return all;
}

// What hangs on more than one field.
void check(const Manifest& m) {
  if (m.width != 1 && m.width != 8 && m.width != 24) fail("manifest: width is {}, not 1, 8 or 24", m.width);
  if (m.flip > 0 && m.width != 1) fail("manifest: flip is {}, which is for width 1, not {}", m.flip, m.width);
  if (m.data != "private" && m.data.size() != 64)
    fail("manifest: data is '{}', not \"private\" or 64 hexadecimal digits", m.data);
  if (m.data == "private" && m.spot_rate > 0)
    fail("manifest: spot_rate is {}, but private data cannot be evaluated again", m.spot_rate);
  if (m.quorum < m.slots)
    fail("manifest: quorum is {}, less than the {} slots of a worker: no report could be taken", m.quorum,
         m.slots);
  if (m.values() > (int64_t{1} << 24))
    fail("manifest: {} workers of {} slots are too many", m.workers, m.slots);
}

}  // namespace

double Manifest::lr_at(int64_t step) const {
  if (schedule == "constant") return lr;
  return lr * static_cast<double>(steps - step) / static_cast<double>(steps);
}

std::string to_text(const Manifest& manifest) {
  Sorted out = Sorted::object();
  for (const Field& f : fields()) out[f.name] = f.get(manifest);
  return out.dump();
}

Manifest parse_manifest(std::string_view text) {
  if (text.size() > 1 << 20) fail("manifest: {} bytes; 1048576 at most", text.size());
  const Sorted read = Sorted::parse(parse_json(text, "manifest").dump());
  if (!read.is_object()) fail("manifest: it is no JSON object");
  Manifest out;
  for (const Field& f : fields()) {
    if (!read.contains(f.name)) fail("manifest: it has no {}", f.name);
    f.set(out, read[f.name]);
  }
  for (const auto& item : read.items()) {
    const auto& name = item.key();
    const bool known = std::any_of(fields().begin(), fields().end(), [&](auto& f) { return name == f.name; });
    if (!known) fail("manifest: there is no field '{}'", name);
  }
  check(out);
  if (to_text(out) != text) fail("manifest: the text is not canonical: {} was meant", to_text(out));
  return out;
}

Digest run_of(const Manifest& manifest) { return sha256(view_of(to_text(manifest))); }

uint64_t noise_key(const Manifest& manifest) {
  return first_word(manifest.origin ? manifest.origin->run : run_of(manifest));
}

}  // namespace kontor::swarm
