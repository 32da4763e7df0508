// [swarm] manifests, messages and the ledger: bytes in, bytes out. Votes and trust: test_swarm_votes.cpp; training: test_swarm_training.cpp.
#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include <sqlite3.h>

#include "base/error.h"
#include "base/file.h"
#include "swarm/ledger.h"
#include "swarm/replica.h"
#include "swarm/sequencer.h"
#include "swarm/slots.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using namespace kontor::swarm;
using Catch::Matchers::Contains;

namespace {

SigningKey key(uint8_t n) {
  Fixed<32> secret{};
  secret[0] = n;
  return SigningKey(secret);
}

std::vector<PublicKey> keys(int64_t n) {
  std::vector<PublicKey> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(key(static_cast<uint8_t>(100 + i % 100)).public_key());
  return out;
}

Manifest manifest(int64_t workers, int64_t slots = 1, int64_t width = 1) {
  Manifest m{.workers = workers,
             .slots = slots,
             .steps = 1000,
             .lag = 2,
             .width = width,
             .data = std::string(64, '0')};
  m.sequencer = key(1).public_key();
  m.witnesses = {key(2).public_key(), key(3).public_key(), key(4).public_key()};
  m.members = members_root(keys(workers));
  return m;
}

Record record(const Manifest& m, uint32_t step, const Digest& before, uint32_t seed = 1) {
  std::mt19937 random(seed);
  Record r{.before = before, .step = step, .time = 1234567890123u + step};
  r.accepted.resize(static_cast<size_t>(m.workers));
  for (size_t w = 0; w < r.accepted.size(); ++w) r.accepted[w] = random() % 4 != 0;
  const auto values = std::count(r.accepted.begin(), r.accepted.end(), true) * m.slots;
  for (int64_t i = 0; i < values; ++i)
    r.codes.push_back(static_cast<uint32_t>(random()) & ((1u << m.width) - 1));
  r.state[5] = static_cast<uint8_t>(step);
  return r;
}

std::vector<Digest> deals(int64_t steps) {
  std::vector<Digest> out;
  for (int64_t t = 0; t < steps; ++t) out.push_back(sha256(Bytes(2, static_cast<uint8_t>(t))));
  return out;
}

// A ledger of `steps` records that nothing was computed for.
Ledger made(const std::string& path, const Manifest& m, int64_t steps) {
  Ledger out = Ledger::create(path, m, keys(m.workers), Ledger::Sync::Crash);
  const Format f(m);
  Digest head = f.run;
  for (int64_t t = 0; t < steps; ++t) {
    Record r = record(m, static_cast<uint32_t>(t), head, static_cast<uint32_t>(t));
    const Bytes bytes = sign(r, f, key(1));
    out.append(t, bytes);
    head = head_of(bytes);
    for (uint32_t w = 0; w < 3; ++w) {
      Cosignature c{.step = static_cast<uint32_t>(t), .witness = w, .head = head};
      out.add_evidence(t, "cosignature", sign(c, f, key(static_cast<uint8_t>(2 + w))));
    }
    Verdict verdict{.step = static_cast<uint32_t>(t), .worker = 1};
    out.add_evidence(t, "verdict", sign(verdict, f, key(1)));
    if (m.origin) out.add_evidence(t, "deal", deals(steps)[static_cast<size_t>(t)]);
  }
  return out;
}

}  // namespace

TEST_CASE("swarm: hashes and signatures are those of the standards", "[swarm]") {
  CHECK(hex(sha256(View())) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex(sha256({view_of("a"), view_of("bc")})) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // RFC 6962's tree by its recursive definition.
  const std::function<Digest(std::span<const Digest>)> tree = [&](std::span<const Digest> leaves) -> Digest {
    if (leaves.size() == 1) return leaves[0];
    size_t left = 1;
    while (2 * left < leaves.size()) left *= 2;
    const Digest a = tree(leaves.first(left)), b = tree(leaves.subspan(left));
    const Fixed<1> mark{1};
    return sha256({mark, a, b});
  };
  std::vector<Digest> leaves;
  for (uint8_t n = 0; n < 40; ++n) {
    leaves.push_back(merkle_leaf(Bytes(n, n)));
    CHECK(merkle_root(leaves) == tree(leaves));
  }
  // RFC 8032, 7.1, test 2: its message is one byte, ours has a use before it, so the key alone is compared.
  Fixed<32> secret;
  from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", secret, "key");
  CHECK(hex(SigningKey(secret).public_key()) ==
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  const Signature s = key(1).sign("use", {view_of("text")});
  CHECK(verifies(key(1).public_key(), s, "use", {view_of("te"), view_of("xt")}));
  CHECK_FALSE(verifies(key(1).public_key(), s, "us", {view_of("etext")}));
  CHECK_FALSE(verifies(key(2).public_key(), s, "use", {view_of("text")}));
  CHECK(error_of([&] { from_hex("0g", std::span(secret).first(1), "key"); }) ==
        "key: 'g' is no lower-case hexadecimal digit");
}

TEST_CASE("swarm: manifests have one text, and say which field is wrong", "[swarm]") {
  Manifest m = manifest(10);
  m.origin = Manifest::Origin{sha256(View()), 7, {}};
  const std::string text = to_text(m);
  CHECK(to_text(parse_manifest(text)) == text);
  CHECK(run_of(parse_manifest(text)) == sha256(view_of(text)));
  CHECK(noise_key(m) == first_word(sha256(View())));
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string out = text;
    const size_t at = out.find(from);
    REQUIRE(at != std::string::npos);
    return error_of([&] { parse_manifest(out.replace(at, from.size(), to)); });
  };
  CHECK(changed("\"workers\":10", "\"workers\":0") ==
        "manifest: workers is 0, not an integer from 1 to 1048576");
  CHECK(changed("\"workers\":10", "\"workers\":10.0") ==
        "manifest: workers is 10.0, not an integer from 1 to 1048576");
  CHECK_THAT(changed("\"workers\":10", "\"workers\": 10"), Contains("not canonical"));
  CHECK_THAT(changed("\"lag\":2", "\"lag\":2,\"lag\":2"), Contains("lag"));
  CHECK(changed("\"plan\":\"low-rank\"", "\"plan\":\"rank\"") ==
        "manifest: plan is \"rank\", not low-rank or full");
  CHECK(changed("\"slots\"", "\"slot\"") == "manifest: it has no slots");
  CHECK(changed("\"steps\"", "\"more\":1,\"steps\"") == "manifest: there is no field 'more'");
  CHECK(changed("\"width\":1", "\"width\":2") == "manifest: width is 2, not 1, 8 or 24");
  CHECK(changed("\"quorum\":65535", "\"quorum\":1").empty());
  Manifest narrow = manifest(10, 8);
  narrow.quorum = 7;
  CHECK(error_of([&] { parse_manifest(to_text(narrow)); }) ==
        "manifest: quorum is 7, less than the 8 slots of a worker: no report could be taken");
  CHECK(changed("\"profile\":1", "\"profile\":2") == "manifest: profile is 2, not an integer from 1 to 1");
  CHECK_THAT(error_of([] { parse_manifest(std::string(2 << 20, ' ')); }), Contains("1048576 at most"));
  CHECK(m.lr_at(0) == m.lr);
  CHECK(m.lr_at(m.steps / 2) == m.lr / 2);
}

TEST_CASE("swarm: messages have the sizes of the protocol", "[swarm]") {
  for (const auto& [width, bytes] : {std::pair{1, 426}, {8, 1301}, {24, 3301}}) {
    const Manifest m = manifest(1000, 1, width);
    const Format f(m);
    Record r{.before = f.run};
    r.accepted.assign(1000, true), r.codes.assign(1000, 1);
    CHECK(sign(r, f, key(1)).size() == static_cast<size_t>(bytes));
  }
  const Format f(manifest(1000, 64));
  Report report{
      .step = 70000, .lag = 2, .worker = 999, .first_slot = 6400, .codes = std::vector<uint32_t>(64, 1)};
  const Bytes bytes = sign(report, f, key(1));
  CHECK(bytes.size() == 95);
  const Report again = parse_report(bytes, f);
  CHECK((again.step == 70000 && again.lag == 2 && again.worker == 999 && again.first_slot == 6400));
  CHECK(again.codes == report.codes);
  CHECK(report_is_signed(bytes, f, key(1).public_key()));
  CHECK_FALSE(report_is_signed(bytes, f, key(2).public_key()));
  CHECK_FALSE(report_is_signed(bytes, Format(manifest(1001, 64)), key(1).public_key()));  // of another run
  CHECK(error_of([&] { parse_report(bytes, Format(manifest(1001, 64))); }) == "report: it is of another run");
  Receipt receipt{.step = 1, .worker = 2};
  Cosignature cosignature{.step = 1, .witness = 2};
  Verdict verdict{.step = 1, .worker = 2};
  CHECK(sign(receipt, f, key(1)).size() == 104);
  CHECK(sign(cosignature, f, key(1)).size() == 104);
  CHECK(sign(verdict, f, key(1)).size() == 124);
}

TEST_CASE("swarm: no message that was changed is read as one that was signed", "[swarm]") {
  const Manifest m = manifest(50, 3, 8);
  const Format f(m);
  Record r = record(m, 9, sha256(View()));
  Report p{.step = 9, .lag = 1, .worker = 4, .first_slot = 12, .codes = {1, 2, 3}};
  Receipt receipt{.step = 1, .worker = 2};
  Cosignature cosignature{.step = 1, .witness = 2};
  Verdict verdict{.step = 1, .worker = 2};
  const std::string text = to_text(m);
  const PublicKey k = key(1).public_key();
  struct Row {
    const char* name;
    Bytes bytes;
    std::function<bool(View)> accepts;  // parses it, and finds it signed
  };
  const std::vector<Row> rows{
      {"record", sign(r, f, key(1)),
       [&](View b) { return parse_record(b, f).step < UINT32_MAX && record_is_signed(b, f, k); }},
      {"report", sign(p, f, key(1)),
       [&](View b) { return parse_report(b, f).step < UINT32_MAX && report_is_signed(b, f, k); }},
      {"receipt", sign(receipt, f, key(1)), [&](View b) { return is_signed(parse_receipt(b), f, k); }},
      {"cosignature", sign(cosignature, f, key(1)),
       [&](View b) { return is_signed(parse_cosignature(b), f, k); }},
      {"verdict", sign(verdict, f, key(1)), [&](View b) { return is_signed(parse_verdict(b), f, k); }},
      {"manifest", Bytes(text.begin(), text.end()), [&](View b) {
         const std::string_view t(reinterpret_cast<const char*>(b.data()), b.size());
         return run_of(parse_manifest(t)) == f.run;
       }}};
  std::mt19937 random(7);
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(row.accepts(row.bytes));
    size_t accepted = 0;
    for (int i = 0; i < 1500; ++i) {
      Bytes b = row.bytes;
      const auto at = [&] { return static_cast<size_t>(random() % b.size()); };
      switch (random() % 5) {
        case 0: b[at()] ^= static_cast<uint8_t>(1u << random() % 8); break;
        case 1: b.resize(at()); break;
        case 2:
          b.insert(b.begin() + static_cast<std::ptrdiff_t>(at()), static_cast<uint8_t>(random()));
          break;
        case 3: b.erase(b.begin() + static_cast<std::ptrdiff_t>(at())); break;
        default:
          for (size_t n = random() % 8 + 1; n > 0; --n) b[at()] = static_cast<uint8_t>(random());
      }
      if (b == row.bytes) continue;
      try {
        accepted += row.accepts(b);
      } catch (const Error&) {}
    }
    CHECK(accepted == 0);
  }
}

TEST_CASE("swarm: nobody chooses slots, and checks come at their rate", "[swarm]") {
  const Manifest m = manifest(100, 5);
  const Format f(m);
  const std::vector<uint32_t> a = first_slots(f.run, 3, f), b = first_slots(f.run, 4, f);
  CHECK(a != b);
  CHECK(first_slot(f.run, 3, 17, f) == a[17]);
  std::set<uint32_t> all(a.begin(), a.end());
  CHECK((all.size() == 100 && *all.rbegin() == 495));
  const uint64_t noise = noise_key(m);
  std::set<uint64_t> seeds;
  for (uint32_t step = 0; step < 20; ++step)
    for (const uint64_t s : slot_seeds(noise, step, 500)) seeds.insert(s);
  CHECK(seeds.size() == 10000);
  int64_t checked = 0;
  for (uint8_t t = 0; t < 100; ++t) {
    const Digest head = sha256(Bytes(1, t));
    for (uint32_t w = 0; w < 1000; ++w) checked += is_checked(head, w, 0.02);
    CHECK(checked_slot(head, t, f) < 5);
  }
  CHECK(std::abs(checked - 2000) < 5 * 45);  // deviations of a count of 2000
}

TEST_CASE("swarm: two heads of a step and a report left out are proofs", "[swarm]") {
  const Manifest m = manifest(20);
  const Format f(m);
  Record a = record(m, 5, f.run), b = a, c = record(m, 6, f.run);
  b.time += 1;
  const Bytes first = sign(a, f, key(1)), second = sign(b, f, key(1)), later = sign(c, f, key(1)),
              foreign = sign(b, f, key(9));
  const PublicKey k = key(1).public_key();
  CHECK(two_heads(first, second, f, k).empty());
  CHECK(two_heads(first, first, f, k) == "they are the same");
  CHECK(two_heads(first, later, f, k) == "they are of steps 5 and 6");
  CHECK(two_heads(first, foreign, f, k) == "the sequencer did not sign both");
  const auto out =
      static_cast<uint32_t>(std::find(a.accepted.begin(), a.accepted.end(), false) - a.accepted.begin());
  const auto in =
      static_cast<uint32_t>(std::find(a.accepted.begin(), a.accepted.end(), true) - a.accepted.begin());
  Receipt left_out{.step = 5, .worker = out}, taken{.step = 5, .worker = in},
      forged{.step = 5, .worker = out};
  sign(left_out, f, key(1)), sign(taken, f, key(1)), sign(forged, f, key(9));
  CHECK(proves_omission(left_out, first, f, k));
  CHECK_FALSE(proves_omission(taken, first, f, k));
  CHECK_FALSE(proves_omission(forged, first, f, k));
  CHECK_FALSE(proves_omission(left_out, later, f, k));
}

TEST_CASE("swarm: a record is final by two thirds of the witnesses and one", "[swarm]") {
  const Manifest m = manifest(4);
  const Format f(m);
  CHECK((witness_quorum(0) == 0 && witness_quorum(1) == 1 && witness_quorum(3) == 3 &&
         witness_quorum(4) == 3 && witness_quorum(7) == 5));
  const Digest head = sha256(View());
  std::vector<Cosignature> by;
  for (uint32_t w = 0; w < 3; ++w) {
    by.push_back({.step = 0, .witness = w, .head = head});
    sign(by.back(), f, key(static_cast<uint8_t>(2 + w)));
  }
  CHECK(is_final(head, by, m, f));
  CHECK_FALSE(is_final(sha256(Bytes(1)), by, m, f));
  std::vector<Cosignature> twice{by[0], by[1], by[1]};
  CHECK_FALSE(is_final(head, twice, m, f));
  Manifest alone = m;
  alone.witnesses.clear();
  CHECK_FALSE(is_final(head, {}, alone, Format(alone)));
  CHECK_FALSE(is_final(head, by, alone, Format(alone)));
  by[2].signature[3] ^= 1;
  CHECK_FALSE(is_final(head, by, m, f));
}

TEST_CASE("swarm: a ledger keeps whole records, and any byte that is changed is found", "[swarm]") {
  const TemporaryFolder folder;
  Manifest m = manifest(40, 2, 8);
  m.origin = Manifest::Origin{sha256(View()), 7, deals_root(deals(30))};
  { made(folder / "a", m, 30); }
  const Verified v = verify(Ledger::open(folder / "a"));
  CHECK((v.steps == 30 && v.final_steps == 30));
  CHECK(hex(v.run) == hex(run_of(m)));
  // D11: places are drawn from all bytes of all records; the error names the step.
  sqlite3* raw = nullptr;
  REQUIRE(sqlite3_open((folder / "a").c_str(), &raw) == SQLITE_OK);
  const auto put_as = [&](const char* sql, int64_t step, const Bytes& bytes) {
    sqlite3_stmt* update = nullptr;
    REQUIRE(sqlite3_prepare_v2(raw, sql, -1, &update, nullptr) == SQLITE_OK);
    sqlite3_bind_blob(update, 1, bytes.data(), static_cast<int>(bytes.size()), SQLITE_TRANSIENT);
    sqlite3_bind_int64(update, 2, step);
    REQUIRE(sqlite3_step(update) == SQLITE_DONE);
    sqlite3_finalize(update);
  };
  const auto put = [&](int64_t step, const Bytes& bytes) {
    put_as("UPDATE records SET record = ? WHERE step = ?", step, bytes);
  };
  std::mt19937 random(5);
  const Ledger ledger = Ledger::open(folder / "a");
  for (int i = 0; i < 200; ++i) {
    const auto step = static_cast<int64_t>(random() % 30);
    const Bytes good = ledger.record(step);
    Bytes bad = good;
    bad[random() % bad.size()] ^= static_cast<uint8_t>(1u << random() % 8);
    put(step, bad);
    CHECK_THAT(error_of([&] { verify(ledger); }), Contains(fmt::format("step {}:", step)));
    put(step, good);
  }
  for (const std::string kind : {"cosignature", "verdict", "deal"}) {
    std::vector<std::pair<int64_t, Bytes>> all;  // by rowid
    ledger.each_evidence(kind,
                         [&](int64_t step, View b) { all.emplace_back(step, Bytes(b.begin(), b.end())); });
    const std::string sql =
        "UPDATE evidence SET bytes = ?1 WHERE rowid = (SELECT rowid FROM evidence WHERE kind = '" + kind +
        "' ORDER BY step, rowid LIMIT 1 OFFSET ?2)";
    for (int i = 0; i < 60; ++i) {
      const size_t at = random() % all.size();
      const auto& [step, good] = all[at];
      Bytes bad = good;
      const bool length = i % 3 != 0;
      if (i % 3 == 0) bad[random() % bad.size()] ^= static_cast<uint8_t>(1u << random() % 8);
      else bad.resize(i % 3 == 1 ? bad.size() + 1 : random() % bad.size());
      put_as(sql.c_str(), static_cast<int64_t>(at), bad);
      const std::string step_said = fmt::format("{}: step {}: ", folder / "a", step);
      const std::string none_said = fmt::format("{}: its 30 deals are not those of the origin", folder / "a");
      CHECK_THAT(error_of([&] { verify(ledger); }),
                 Contains(kind == "deal" && !length ? none_said : step_said));
      put_as(sql.c_str(), static_cast<int64_t>(at), good);
    }
  }
  CHECK(verify(ledger).head == v.head);
  CHECK_THAT(error_of([&] {
               const std::vector<Digest> leaves = deals(2);
               const Fixed<1> mark{1};
               Manifest other = m;  // two deals are not the one that is the node over them
               other.origin->deals = deals_root(leaves);
               Chain(other, {sha256({mark, leaves[0], leaves[1]})});
             }),
             Contains("these 1 deals"));
  sqlite3_exec(raw, "DELETE FROM records WHERE step = 7", nullptr, nullptr, nullptr);
  CHECK_THAT(error_of([&] { verify(ledger); }), Contains("step 7: there is no record"));
  sqlite3_close(raw);
}

TEST_CASE("swarm: a record of more values than the quorum is refused", "[swarm]") {
  Manifest m = manifest(20, 4);
  const auto fault = [&] {
    Chain chain(m);
    Record r = record(m, 0, chain.head());
    const Bytes bytes = sign(r, chain.format(), key(1));
    return std::pair(chain.fault(bytes, r), static_cast<int64_t>(r.codes.size()));
  };
  const int64_t values = fault().second;
  m.quorum = values;
  CHECK(fault().first.empty());
  m.quorum = values - 1;
  CHECK(fault().first == fmt::format("{} values; the manifest's quorum is {}", values, values - 1));
}

TEST_CASE("swarm: what is no ledger is told from one", "[swarm]") {
  const TemporaryFolder folder;
  const Manifest m = manifest(4);
  { made(folder / "a", m, 2); }
  CHECK_THAT(error_of([&] { Ledger::open(folder / "none"); }),
             Contains("cannot open the ledger: No such file"));
  write_file(
      folder / "text",
      "no ledger at all, but long enough to have a header of a hundred bytes, which SQLite reads first....");
  CHECK_THAT(error_of([&] { Ledger::open(folder / "text"); }), Contains("cannot read the ledger"));
  CHECK_THAT(error_of([&] { made(folder / "a", m, 1); }), Contains("File exists"));
  Ledger ledger = Ledger::open(folder / "a", true);
  CHECK_THAT(error_of([&] { ledger.append(1, Bytes(3)); }), Contains("append the record of step 1"));
  {
    Ledger::Together together(ledger);
    ledger.append(2, Bytes(3));  // never committed: a kill in the middle
  }
  CHECK(ledger.steps() == 2);
  CHECK(ledger.members() == keys(4));
  sqlite3* raw = nullptr;
  REQUIRE(sqlite3_open((folder / "a").c_str(), &raw) == SQLITE_OK);
  const auto now = [&](const char* sql) {
    REQUIRE(sqlite3_exec(raw, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
    return error_of([&] { verify(Ledger::open(folder / "a")); });
  };
  CHECK_THAT(now("UPDATE about SET value = substr(value, 2) WHERE name = 'members'"),
             Contains("members are not"));
  CHECK_THAT(now("UPDATE about SET value = '{}' WHERE name = 'manifest'"), Contains("manifest: it has no"));
  CHECK_THAT(now("PRAGMA user_version = 2"), Contains("a ledger of version 2; this Kontor reads 1"));
  CHECK_THAT(now("PRAGMA application_id = 7"), Contains("this is no ledger of Kontor"));
  sqlite3_close(raw);
}

// Any byte of the file itself: the ledger says that something is wrong, or what it says of the run is unchanged (a free page, a counter).
TEST_CASE("swarm: a ledger's file with a byte changed is refused or says the same", "[swarm]") {
  const TemporaryFolder folder;
  { made(folder / "a", manifest(40, 2, 8), 30); }
  std::string bytes = read_file(folder / "a");
  const Digest head = verify(Ledger::open(folder / "a")).head;
  std::mt19937 random(11);
  int found = 0, same = 0;
  for (int i = 0; i < 150; ++i) {
    std::string bad = bytes;
    bad[random() % bad.size()] ^= static_cast<char>(1u << random() % 8);
    write_file(folder / "b", bad);
    const std::string error = error_of([&] {
      const Verified v = verify(Ledger::open(folder / "b"));
      same += v.head == head && v.steps == 30;
    });
    found += !error.empty();
  }
  CHECK(found + same == 150);
  for (int i = 0; i < 40; ++i) {  // a file that was cut off, perhaps where nothing stands
    write_file(folder / "b", bytes.substr(0, random() % bytes.size()));
    Verified v;
    if (error_of([&] { v = verify(Ledger::open(folder / "b")); }).empty()) CHECK(v.head == head);
  }
  CHECK(found > 40);
}
