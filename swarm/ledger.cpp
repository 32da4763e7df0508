// The ledger's file, by SQLite.
#include "swarm/ledger.h"

#include <fcntl.h>
#include <sqlite3.h>

#include "base/descriptor.h"
#include "base/error.h"
#include "swarm/replica.h"
#include "swarm/sequencer.h"

namespace kontor::swarm {

namespace {

constexpr int application = 0x4B4E5452;  // "KNTR"
constexpr int version = 1;
constexpr const char* schema =
    "CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE records (step INTEGER PRIMARY KEY, record BLOB NOT NULL);"
    "CREATE TABLE evidence (step INTEGER NOT NULL, kind TEXT NOT NULL, bytes BLOB NOT NULL);";

}  // namespace

struct Ledger::Database {
  sqlite3* handle = nullptr;
  std::string path;

  ~Database() { sqlite3_close_v2(handle); }
  [[noreturn]] void failed(const char* what) const {
    fail("{}: cannot {}: {}", path, what, handle ? sqlite3_errmsg(handle) : "no memory");
  }
  void run(const std::string& sql, const char* what) const {
    if (sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) failed(what);
  }
};

namespace {

/// A prepared statement, whose parameters are bound in order.
class Statement {
 public:
  Statement(sqlite3* handle, const char* sql) {
    if (sqlite3_prepare_v2(handle, sql, -1, &statement_, nullptr) != SQLITE_OK) statement_ = nullptr;
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  Statement& bind(int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  Statement& bind(std::string_view text) {
    sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
    return *this;
  }
  Statement& bind(View bytes) {
    sqlite3_bind_blob64(statement_, ++bound_, bytes.empty() ? "" : static_cast<const void*>(bytes.data()),
                        bytes.size(), SQLITE_STATIC);
    return *this;
  }
  int step() { return statement_ ? sqlite3_step(statement_) : SQLITE_ERROR; }
  int64_t integer(int column) { return sqlite3_column_int64(statement_, column); }
  View bytes(int column) {
    const auto* data = static_cast<const uint8_t*>(sqlite3_column_blob(statement_, column));
    return {data, data ? static_cast<size_t>(sqlite3_column_bytes(statement_, column)) : 0};
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

}  // namespace

Ledger::Ledger() : database_(std::make_unique<Database>()) {}
Ledger::~Ledger() = default;
Ledger::Ledger(Ledger&&) noexcept = default;
Ledger& Ledger::operator=(Ledger&&) noexcept = default;

static void settle(sqlite3* handle, Ledger::Sync sync) {
  sqlite3_busy_timeout(handle, 5000);
  sqlite3_extended_result_codes(handle, 1);
  const char* mode = sync == Ledger::Sync::PowerCut ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL";
  sqlite3_exec(handle, mode, nullptr, nullptr, nullptr);
}

Ledger Ledger::create(const std::string& path, const Manifest& manifest, std::span<const PublicKey> members,
                      Sync sync) {
  Descriptor made = open_at(AT_FDCWD, path, O_CREAT | O_EXCL | O_RDWR, 0644);
  if (!made.valid()) fail("{}: cannot make the ledger: {}", path, reason(errno));
  made.close();
  Ledger out;
  out.path_ = path, out.manifest_ = manifest;
  Database& db = *out.database_;
  db.path = path;
  if (sqlite3_open_v2(path.c_str(), &db.handle, SQLITE_OPEN_READWRITE, nullptr) != SQLITE_OK)
    db.failed("open the ledger");
  settle(db.handle, sync);
  db.run("PRAGMA journal_mode=WAL", "begin a log");
  db.run(fmt::format("BEGIN; PRAGMA application_id={}; PRAGMA user_version={}; {} COMMIT", application,
                     version, schema),
         "make its tables");
  const std::string text = to_text(manifest);
  Bytes keys;
  for (const PublicKey& k : members) keys.insert(keys.end(), k.begin(), k.end());
  const auto put = [&](std::string_view name, View bytes) {
    Statement insert(db.handle, "INSERT INTO about VALUES (?, ?)");
    if (insert.bind(name).bind(bytes).step() != SQLITE_DONE) db.failed("write the manifest");
  };
  put("manifest", view_of(text)), put("members", keys);
  return out;
}

Ledger Ledger::open(const std::string& path, bool writable, Sync sync) {
  // SQLite would make the file, or read one of another program's as an empty one.
  if (!open_at(AT_FDCWD, path, O_RDONLY).valid()) fail("{}: cannot open the ledger: {}", path, reason(errno));
  Ledger out;
  out.path_ = path;
  Database& db = *out.database_;
  db.path = path;
  const int flags = writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
  if (sqlite3_open_v2(path.c_str(), &db.handle, flags, nullptr) != SQLITE_OK) db.failed("open the ledger");
  settle(db.handle, sync);
  const auto pragma = [&](const char* sql) {
    Statement s(db.handle, sql);
    if (s.step() != SQLITE_ROW) db.failed("read the ledger");
    return s.integer(0);
  };
  if (pragma("PRAGMA application_id") != application) fail("{}: this is no ledger of Kontor", path);
  if (const int64_t v = pragma("PRAGMA user_version"); v != version)
    fail("{}: a ledger of version {}; this Kontor reads {}", path, v, version);
  Statement about(db.handle, "SELECT value FROM about WHERE name = 'manifest'");
  if (about.step() != SQLITE_ROW) db.failed("read the manifest");
  const View text = about.bytes(0);
  try {
    out.manifest_ = parse_manifest({reinterpret_cast<const char*>(text.data()), text.size()});
  } catch (const Error& error) {
    fail("{}: {}", path, error.what());
  }
  return out;
}

std::vector<PublicKey> Ledger::members() const {
  Statement about(database_->handle, "SELECT value FROM about WHERE name = 'members'");
  if (about.step() != SQLITE_ROW) database_->failed("read the members");
  const View bytes = about.bytes(0);
  std::vector<PublicKey> out(bytes.size() / sizeof(PublicKey));
  for (size_t i = 0; i < out.size(); ++i)
    std::memcpy(out[i].data(), bytes.data() + i * sizeof(PublicKey), sizeof(PublicKey));
  if (bytes.size() % sizeof(PublicKey) != 0 || out.size() != static_cast<size_t>(manifest_.workers) ||
      members_root(out) != manifest_.members)
    fail("{}: its {} members are not the {} of the manifest", path_, out.size(), manifest_.workers);
  return out;
}

std::vector<Digest> Ledger::deals() const {
  std::vector<Digest> out;
  each_evidence("deal", [&](int64_t step, View bytes) {
    Reader in(bytes, "deal");
    out.push_back(in.fixed<32>());
    in.end();
    if (step + 1 != static_cast<int64_t>(out.size()))
      fail("deal: it is the one with number {}", out.size() - 1);
  });
  if (manifest_.origin && deals_root(out) != manifest_.origin->deals)
    fail("{}: its {} deals are not those of the origin", path_, out.size());
  return out;
}

int64_t Ledger::steps() const {
  Statement count(database_->handle, "SELECT count(*) FROM records");
  if (count.step() != SQLITE_ROW) database_->failed("count its records");
  return count.integer(0);
}

Bytes Ledger::record(int64_t step) const {
  Statement select(database_->handle, "SELECT record FROM records WHERE step = ?");
  const int code = select.bind(step).step();
  if (code == SQLITE_DONE) fail("{}: step {}: there is no record", path_, step);
  if (code != SQLITE_ROW) database_->failed("read a record");
  const View bytes = select.bytes(0);
  return Bytes(bytes.begin(), bytes.end());
}

void Ledger::append(int64_t step, View record) {
  Statement insert(database_->handle, "INSERT INTO records VALUES (?, ?)");
  if (insert.bind(step).bind(record).step() != SQLITE_DONE)
    database_->failed(fmt::format("append the record of step {}", step).c_str());
}

void Ledger::add_evidence(int64_t step, std::string_view kind, View bytes) {
  Statement insert(database_->handle, "INSERT INTO evidence VALUES (?, ?, ?)");
  if (insert.bind(step).bind(kind).bind(bytes).step() != SQLITE_DONE) database_->failed("add evidence");
}

void Ledger::each_evidence(std::string_view kind, const std::function<void(int64_t, View)>& with) const {
  Statement select(database_->handle, "SELECT step, bytes FROM evidence WHERE kind = ? ORDER BY step, rowid");
  select.bind(kind);
  int code = 0;
  while ((code = select.step()) == SQLITE_ROW) {
    const int64_t step = select.integer(0);
    try {
      with(step, select.bytes(1));
    } catch (const Error& error) {
      fail("{}: step {}: {}", path_, step, error.what());
    }
  }
  if (code != SQLITE_DONE) database_->failed("read evidence");
}

Ledger::Together::Together(Ledger& ledger) : ledger_(ledger) { ledger_.database_->run("BEGIN", "begin"); }
Ledger::Together::~Together() {
  if (open_) sqlite3_exec(ledger_.database_->handle, "ROLLBACK", nullptr, nullptr, nullptr);
}
void Ledger::Together::commit() {
  ledger_.database_->run("COMMIT", "commit");
  open_ = false;
}

namespace {

void verify_evidence(const Ledger& ledger, const std::vector<Digest>& heads, Verified& out) {
  const Manifest& m = ledger.manifest();
  const Format format(m);
  std::vector<std::vector<Cosignature>> of(heads.size());
  ledger.each_evidence("cosignature", [&](int64_t step, View bytes) {
    const Cosignature c = parse_cosignature(bytes);
    const bool known = step >= 0 && step < static_cast<int64_t>(heads.size()) && c.step == step &&
                       c.witness < m.witnesses.size();
    if (!known || c.head != heads[static_cast<size_t>(step)] || !is_signed(c, format, m.witnesses[c.witness]))
      fail("a cosignature that is none of this record by a witness of the run");
    of[static_cast<size_t>(step)].push_back(c);
  });
  for (size_t t = 0; t < heads.size(); ++t)
    if (is_final(heads[t], of[t], m, format)) ++out.final_steps;
  ledger.each_evidence("verdict", [&](int64_t step, View bytes) {
    const Verdict v = parse_verdict(bytes);
    if (v.step != step || !is_signed(v, format, m.sequencer))
      fail("a verdict that the sequencer did not sign");
    ++out.verdicts, out.bans += v.banned;
  });
}

}  // namespace

Verified verify(const Ledger& ledger) {
  Chain chain(ledger.manifest(), ledger.deals());
  Verified out{.run = chain.format().run, .state = ledger.manifest().weights};
  ledger.members();
  out.steps = ledger.steps();
  std::vector<Digest> heads;
  for (int64_t t = 0; t < out.steps; ++t) {
    const Bytes bytes = ledger.record(t);
    std::string fault;
    try {
      const Record record = parse_record(bytes, chain.format());
      fault = chain.fault(bytes, record);
      out.values += static_cast<int64_t>(record.codes.size()), out.state = record.state;
    } catch (const Error& error) {
      fault = error.what();
    }
    if (!fault.empty()) fail("{}: step {}: {}", ledger.path(), t, fault);
    chain.append(bytes);
    heads.push_back(chain.head());
    out.record_bytes += static_cast<int64_t>(bytes.size());
  }
  out.head = chain.head();
  verify_evidence(ledger, heads, out);
  return out;
}

}  // namespace kontor::swarm
