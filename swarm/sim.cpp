// The simulation: workers as a seed has them, one evaluator for all, a sequencer, replicas and witnesses.
#include "swarm/sim.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>

#include "base/error.h"
#include "base/threefry.h"
#include "swarm/slots.h"
#include "swarm/votes.h"

namespace kontor::swarm {

namespace {

constexpr std::pair<Attack, const char*> attacks[] = {
    {Attack::Mirror, "mirror"}, {Attack::Random, "random"},
    {Attack::Zero, "zero"},     {Attack::Huge, "huge"},
    {Attack::Nan, "nan"},       {Attack::Collude, "collude"},
    {Attack::Replay, "replay"}, {Attack::BadSignature, "bad-signature"},
    {Attack::Mixed, "mixed"}};
constexpr int32_t greatest = (1 << 23) - 1;

using Clock = std::chrono::steady_clock;
double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// What is drawn of a worker in a step: 64 bits for each use.
enum class Use : uint64_t { Away = 1, Slow, Delay, Lie, Flip, Lag };

}  // namespace

SigningKey simulation_key(uint64_t seed, std::string_view role, uint64_t number) {
  Writer text;
  text.add(view_of("kontor simulation, no secret")).add(view_of(role)).number(seed, 8).number(number, 8);
  return SigningKey(sha256(text.bytes));
}

Attack attack_of(std::string_view name) {
  for (const auto& [attack, text] : attacks)
    if (name == text) return attack;
  fail("sim: no attack '{}'; there are: {}", name, fmt::join(attack_names(), ", "));
}

std::vector<std::string> attack_names() {
  std::vector<std::string> out;
  for (const auto& [attack, text] : attacks) out.emplace_back(text);
  return out;
}

void SimTransport::send(View bytes, uint64_t delay) {
  under_way_.push({now_ + delay, sent_++, Bytes(bytes.begin(), bytes.end())});
}

void SimTransport::publish(View record) { published_.emplace_back(record.begin(), record.end()); }

std::vector<Bytes> SimTransport::reports(uint64_t until) {
  std::vector<Bytes> out;
  for (; !under_way_.empty() && under_way_.top().at <= until; under_way_.pop())
    out.push_back(under_way_.top().bytes);
  now_ = std::max(now_, until);
  return out;
}

std::vector<Bytes> SimTransport::records(size_t follower, uint64_t) {
  size_t& had = read_[follower];
  std::vector<Bytes> out(published_.begin() + static_cast<std::ptrdiff_t>(had), published_.end());
  had = published_.size();
  return out;
}

Digest SimTransport::put(View blob) {
  const Digest digest = sha256(blob);
  blobs_[digest] = Bytes(blob.begin(), blob.end());
  return digest;
}

std::optional<Bytes> SimTransport::blob(const Digest& digest) {
  const auto it = blobs_.find(digest);
  return it == blobs_.end() ? std::nullopt : std::optional(it->second);
}

struct Simulation::State {
  SimOptions options;
  std::vector<SigningKey> workers = {}, witnesses = {};
  std::vector<PublicKey> members = {};
  std::vector<std::unique_ptr<Task>> tasks = {};  // the sequencer's, the replicas', the workers'
  std::vector<std::unique_ptr<Replica>> replicas = {};
  std::unique_ptr<Sequencer> sequencer = {};
  std::unique_ptr<Steps> evaluator = {};
  std::optional<Ledger> ledger = {};
  SimTransport transport = {};
  std::deque<std::vector<std::vector<float>>> history = {};  // weights, the newest last
  std::vector<Bytes> sent_before = {};                       // of replaying liars
  double forward_seconds = 0;

  Manifest& manifest() { return options.manifest; }
  const Chain& chain() const { return replicas[0]->chain(); }
  Task& workers_task() { return *tasks.back(); }
  void make_keys();
  void make_replicas();
  double draw(Use use, uint32_t worker) const {
    return static_cast<double>(bits(use, worker) >> 11) * 0x1p-53;
  }
  uint64_t bits(Use use, uint32_t worker) const {
    const uint64_t key = subkey(subkey(options.seed, static_cast<uint64_t>(use)), chain().step());
    return random_bits64(key, worker);
  }
  bool lies(uint32_t worker) const;
  Attack attack(uint32_t worker) const;
  uint8_t lag(uint32_t worker) const;
  std::vector<std::vector<int32_t>> evaluate(std::span<const uint32_t> present,
                                             std::span<const uint32_t> slots);
  int32_t lie(uint32_t worker, int32_t honest, uint64_t seed) const;
  Bytes report(uint32_t worker, uint32_t first_slot, std::span<const int32_t> values);
  void send_all(std::span<const uint32_t> present, std::span<const uint32_t> slots, SimRow& row);
  void check(const Bytes& record_bytes, const std::vector<uint32_t>& slots, const std::vector<uint8_t>& lags);
  void follow(const Bytes& record);
};

void Simulation::State::make_keys() {
  Manifest& m = manifest();
  for (int64_t w = 0; w < m.workers; ++w) {
    workers.push_back(simulation_key(options.seed, "worker", static_cast<uint64_t>(w)));
    members.push_back(workers.back().public_key());
  }
  m.members = members_root(members);
  m.witnesses.clear();
  for (int64_t w = 0; w < options.witnesses; ++w) {
    witnesses.push_back(simulation_key(options.seed, "witness", static_cast<uint64_t>(w)));
    m.witnesses.push_back(witnesses.back().public_key());
  }
  m.sequencer = simulation_key(options.seed, "sequencer", 0).public_key();
}

void Simulation::State::make_replicas() {
  Manifest& m = manifest();
  for (int64_t r = 0; r < options.replicas + 2; ++r)
    tasks.push_back(make_task(m.model, m.seed, options.data));
  describe(m, *tasks[0]);
  m = parse_manifest(to_text(m));  // as everybody else reads it
  for (int64_t r = 0; r <= options.replicas; ++r)
    replicas.push_back(std::make_unique<Replica>(*tasks[static_cast<size_t>(r)], m));
  sequencer =
      std::make_unique<Sequencer>(*replicas[0], simulation_key(options.seed, "sequencer", 0), members);
  evaluator = std::make_unique<Steps>(workers_task(), m);
  history.push_back(tasks[0]->weights());
  sent_before.resize(workers.size());
  if (!options.ledger.empty()) ledger = Ledger::create(options.ledger, m, members, options.sync);
}

// The liars are the same in each step: those of the lowest numbers in a random order.
bool Simulation::State::lies(uint32_t worker) const {
  const auto count = static_cast<uint64_t>(workers.size());
  return static_cast<double>(permuted(subkey(options.seed, 0x4C494152), count, worker)) <
         options.liars * static_cast<double>(count) - 0.5;
}

Attack Simulation::State::attack(uint32_t worker) const {
  const Attack all = attack_of(options.attack);
  return all == Attack::Mixed ? attacks[worker % (std::size(attacks) - 1)].first : all;
}

uint8_t Simulation::State::lag(uint32_t worker) const {
  const auto most = static_cast<double>(std::min<int64_t>(options.manifest.lag, chain().step()));
  return static_cast<uint8_t>(std::floor(draw(Use::Lag, worker) * (most + 1)));
}

/// What honest workers would find, of each worker that is present its slots'.
std::vector<std::vector<int32_t>> Simulation::State::evaluate(std::span<const uint32_t> present,
                                                              std::span<const uint32_t> slots) {
  const auto begin = Clock::now();
  const uint64_t key = noise_key(manifest());
  std::vector<std::vector<int32_t>> out(present.size());
  for (uint8_t late = 0; late <= manifest().lag; ++late) {
    std::vector<uint64_t> seeds;
    std::vector<size_t> who;
    for (size_t i = 0; i < present.size(); ++i) {
      if (lag(present[i]) != late) continue;
      who.push_back(i);
      for (int64_t k = 0; k < manifest().slots; ++k)
        seeds.push_back(slot_seed(key, chain().step(), slots[present[i]] + static_cast<uint32_t>(k)));
    }
    if (who.empty()) continue;
    workers_task().set_weights(history[history.size() - 1 - late]);
    const std::vector<int32_t> found = evaluator->evaluate(seeds);
    for (size_t i = 0; i < who.size(); ++i) {
      const auto first = found.begin() + static_cast<std::ptrdiff_t>(i) * manifest().slots;
      out[who[i]].assign(first, first + manifest().slots);
    }
  }
  forward_seconds += since(begin);
  return out;
}

int32_t Simulation::State::lie(uint32_t worker, int32_t honest, uint64_t seed) const {
  switch (attack(worker)) {
    case Attack::Mirror: return -honest;
    case Attack::Random: return random_bits64(seed, bits(Use::Lie, worker)) % 2 ? greatest : -greatest;
    case Attack::Zero:   return 0;
    case Attack::Huge:   return greatest;
    case Attack::Nan:    return difference(std::numeric_limits<float>::quiet_NaN(), 1);
    // All want the first weight to grow: the sign of its direction.
    case Attack::Collude: return random_word(seed, 0, 0) & 1 ? -greatest : greatest;
    default:              return honest;
  }
}

Bytes Simulation::State::report(uint32_t worker, uint32_t first_slot, std::span<const int32_t> values) {
  const Format& f = chain().format();
  Report out{.step = chain().step(), .lag = lag(worker), .worker = worker, .first_slot = first_slot};
  const bool liar = lies(worker);
  const uint64_t key = noise_key(manifest());
  for (size_t k = 0; k < values.size(); ++k) {
    const uint64_t seed = slot_seed(key, out.step, first_slot + static_cast<uint32_t>(k));
    uint32_t code = code_of(liar ? lie(worker, values[k], seed) : values[k], f.width);
    const double chance = static_cast<double>(random_bits64(bits(Use::Flip, worker), k) >> 11) * 0x1p-53;
    if (!liar && chance < manifest().flip) code ^= 1;
    out.codes.push_back(code);
  }
  Bytes bytes = sign(out, f, workers[worker]);
  if (!liar) return bytes;
  if (attack(worker) == Attack::BadSignature) bytes.back() ^= 1;
  if (attack(worker) == Attack::Replay) std::swap(bytes, sent_before[worker]);
  return bytes;
}

void Simulation::State::send_all(std::span<const uint32_t> present, std::span<const uint32_t> slots,
                                 SimRow& row) {
  const std::vector<std::vector<int32_t>> values = evaluate(present, slots);
  double sum = 0;
  int64_t honest = 0;
  for (size_t i = 0; i < present.size(); ++i) {
    const uint32_t w = present[i];
    if (!lies(w)) {
      for (const int32_t v : values[i]) sum += std::abs(static_cast<double>(v)) / 65536, ++honest;
    }
    const Bytes bytes = report(w, slots[w], values[i]);
    if (bytes.empty()) continue;  // a liar that has nothing to say again yet
    row.report_bytes = static_cast<int64_t>(bytes.size());
    const auto deadline = static_cast<double>(manifest().deadline);
    const double part = draw(Use::Delay, w);
    transport.send(bytes, static_cast<uint64_t>(
                              deadline * (draw(Use::Slow, w) < options.slow ? 1.01 + part : 0.98 * part)));
  }
  row.value = honest > 0 ? sum / static_cast<double>(honest) : 0;
}

// The head of the record says whose reports are computed again.
void Simulation::State::check(const Bytes& bytes, const std::vector<uint32_t>& slots,
                              const std::vector<uint8_t>& lags) {
  const Format& f = chain().format();
  const Record record = parse_record(bytes, f);
  const Digest head = head_of(bytes);
  const uint64_t key = noise_key(manifest());
  for (uint8_t late = 0; late <= manifest().lag; ++late) {
    std::vector<uint32_t> who, which;
    std::vector<uint64_t> seeds;
    for (uint32_t w = 0; w < record.accepted.size(); ++w) {
      if (!record.accepted[w] || lags[w] != late || !is_checked(head, w, manifest().spot_rate)) continue;
      who.push_back(w), which.push_back(checked_slot(head, w, f));
      seeds.push_back(slot_seed(key, record.step, slots[w] + which.back()));
    }
    if (who.empty()) continue;
    const auto begin = Clock::now();
    workers_task().set_weights(history[history.size() - 1 - late]);
    const std::vector<int32_t> found = evaluator->evaluate(seeds);
    forward_seconds += since(begin);
    for (size_t i = 0; i < who.size(); ++i) {
      const Report said = parse_report(sequencer->closed_reports()[who[i]], f);
      const Bytes verdict =
          sequencer->judge(who[i], slots[who[i]] + which[i], said.codes[which[i]], found[i]);
      if (ledger) ledger->add_evidence(record.step, "verdict", verdict);
    }
  }
}

void Simulation::State::follow(const Bytes& record) {
  transport.publish(record);
  for (size_t r = 1; r < replicas.size(); ++r)
    for (const Bytes& bytes : transport.records(r, 0)) replicas[r]->apply(bytes);
  const uint32_t step = chain().step() - 1;
  if (ledger) ledger->append(step, record);
  for (uint32_t w = 0; w < witnesses.size(); ++w) {
    Cosignature c{.step = step, .witness = w, .head = chain().head()};
    const Bytes bytes = sign(c, chain().format(), witnesses[w]);
    if (ledger) ledger->add_evidence(step, "cosignature", bytes);
  }
}

Simulation::Simulation(const SimOptions& options)
    : state_(std::make_unique<State>(State{.options = options})) {
  attack_of(options.attack);
  for (const double part : {options.churn, options.liars, options.slow})
    if (!(part >= 0 && part <= 1)) fail("sim: a part of {}; from 0 to 1", part);
  state_->make_keys();
  state_->make_replicas();
}

Simulation::~Simulation() = default;

SimRow Simulation::step() {
  State& s = *state_;
  const auto begin = Clock::now();
  const double forward = s.forward_seconds;
  const Chain& chain = s.chain();
  SimRow row{.step = chain.step(), .loss = std::numeric_limits<double>::quiet_NaN()};
  row.accuracy = row.loss;
  const std::vector<uint32_t> slots = first_slots(chain.dealing_head(), chain.step(), chain.format());
  std::vector<uint32_t> present;
  std::vector<uint8_t> lags(s.workers.size());
  for (uint32_t w = 0; w < s.workers.size(); ++w) {
    lags[w] = s.lag(w);
    if (s.draw(Use::Away, w) >= s.options.churn && !s.sequencer->bans().is_banned(w)) present.push_back(w);
  }
  s.send_all(present, slots, row);
  const uint64_t end = s.transport.now() + static_cast<uint64_t>(s.manifest().deadline);
  for (const Answer a : s.sequencer->take(s.transport.reports(end))) row.refused += a != Answer::Taken;
  row.accepted = static_cast<int64_t>(s.sequencer->taken());
  std::optional<Ledger::Together> together;
  if (s.ledger) together.emplace(*s.ledger);
  const Bytes record = s.sequencer->close(simulation_epoch + end);
  row.record_bytes = static_cast<int64_t>(record.size());
  s.follow(record);
  s.check(record, slots, lags);
  if (together) together->commit();
  s.history.push_back(s.tasks[0]->weights());
  while (s.history.size() > static_cast<size_t>(s.manifest().lag) + 1) s.history.pop_front();
  row.banned = s.sequencer->bans().count();
  row.seconds = since(begin), row.forward_seconds = s.forward_seconds - forward;
  return row;
}

nn::Metrics Simulation::test() { return state_->tasks[0]->test(); }
const Manifest& Simulation::manifest() const { return state_->options.manifest; }
const Digest& Simulation::head() const { return state_->chain().head(); }
Digest Simulation::state() const { return state_root(*state_->tasks[0]); }
double Simulation::operations() const { return state_->evaluator->forward_operations(); }
const std::array<int64_t, answers>& Simulation::counts() const { return state_->sequencer->counts(); }

int64_t Simulation::liars() const {
  int64_t out = 0;
  for (uint32_t w = 0; w < state_->workers.size(); ++w) out += state_->lies(w);
  return out;
}
int64_t Simulation::banned_liars() const {
  int64_t out = 0;
  for (uint32_t w = 0; w < state_->workers.size(); ++w)
    out += state_->lies(w) && state_->sequencer->bans().is_banned(w);
  return out;
}
int64_t Simulation::banned_honest() const { return state_->sequencer->bans().count() - banned_liars(); }

}  // namespace kontor::swarm
