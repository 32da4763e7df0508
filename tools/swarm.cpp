// kontor swarm: decentralised training by seeds and losses. sim: in one process, with workers that come, go and lie.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/private_folder.h"
#include "swarm/host.h"
#include "swarm/local.h"
#include "swarm/sim.h"
#include "tools/models.h"
#include "tools/own_folder.h"
#include "tools/run.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

using swarm::Manifest;

struct SimSettings {
  std::string model = "mnist-small", plan = "low-rank", schedule = "linear", attack = "mixed", data;
  int64_t workers = 1000, slots = 1, samples = 16, steps = 300, width = 1, lag = 0, deadline = 1000,
          quorum = 65535;
  int64_t witnesses = 3, replicas = 1, test_every = 20;
  double sigma = 0.05, lr = 1, spot_rate = 0.02, flip = 0, churn = 0.3, liars = 0.2, slow = 0.02;
  uint64_t seed = 1;
};

TableOf<SimSettings> sim_table() {
  using S = SimSettings;
  static const std::vector<RowOf<S>> rows{
      {"model", &S::model, Of::Model, Later::Equal, not_empty(), "mnist-small, mnist-cnn or gpt"},
      {"data", &S::data, Of::Model, Later::Equal, CLI::Validator(),
       "Folder of MNIST or a text file (default: what comes with Kontor)"},
      {"plan", &S::plan, Of::All, Later::Equal, not_empty(),
       "Directions: low-rank (a outer b of each matrix) or full"},
      {"workers", &S::workers, Of::All, Later::Equal, whole(1, swarm::most_workers), "Members of the run"},
      {"slots", &S::slots, Of::All, Later::Equal, whole(1, 255), "Directions that each evaluates a step"},
      {"samples", &S::samples, Of::All, Later::Equal, whole(1, 1 << 20),
       "Samples that a direction is tried on"},
      {"steps", &S::steps, Of::All, Later::Equal, whole(1, UINT32_MAX), "Steps"},
      {"width", &S::width, Of::All, Later::Equal, whole(1, 24), "Bits of a value: 1, 8 or 24"},
      {"sigma", &S::sigma, Of::All, Later::Equal, number_above(0), "Size of a direction that is tried"},
      {"lr", &S::lr, Of::All, Later::Equal, number_above(0), "Length of the first step's move"},
      {"schedule", &S::schedule, Of::All, Later::Equal, not_empty(), "linear (lr falls to 0) or constant"},
      {"lag", &S::lag, Of::All, Later::Equal, whole(0, swarm::longest_lag),
       "Steps by which a report's weights may be old"},
      {"deadline", &S::deadline, Of::All, Later::Equal, whole(1, 86'400'000),
       "Milliseconds of a step, of virtual time"},
      {"quorum", &S::quorum, Of::All, Later::Equal, whole(1, swarm::most_values),
       "Values that a record holds at most"},
      {"spot-rate", &S::spot_rate, Of::All, Later::Equal, number(0, 1),
       "Part of the reports that is computed again"},
      {"flip", &S::flip, Of::All, Later::Equal, number(0, 0.49),
       "Part of the bits that workers flip, for privacy"},
      {"churn", &S::churn, Of::All, Later::Equal, number(0, 1), "Part of the workers that is away in a step"},
      {"slow", &S::slow, Of::All, Later::Equal, number(0, 1), "Part of the reports that comes too late"},
      {"liars", &S::liars, Of::All, Later::Equal, number(0, 1), "Part of the workers that always lies"},
      {"attack", &S::attack, Of::All, Later::Equal, not_empty(),
       "What liars do: mirror random zero huge nan collude replay bad-signature mixed"},
      {"witnesses", &S::witnesses, Of::All, Later::Equal, whole(0, 1000),
       "Witnesses that sign each record too"},
      {"replicas", &S::replicas, Of::All, Later::Equal, whole(0, 1000), "Replicas beside the sequencer's"},
      {"test-every", &S::test_every, Of::All, Later::Equal, whole(0, UINT32_MAX),
       "Steps between tests; 0: only at the end"},
      {"seed", &S::seed, Of::All, Later::Equal, whole_of_64_bits(),
       "Of initial weights, and of who comes and lies"},
  };
  return rows;
}

/// Those of a run without a simulation.
TableOf<SimSettings> run_table() {
  static const std::vector<RowOf<SimSettings>> rows = [] {
    constexpr std::string_view simulated[] = {"churn",    "slow",       "liars",     "attack", "witnesses",
                                              "replicas", "test-every", "spot-rate", "lag"};
    std::vector<RowOf<SimSettings>> out;
    for (const RowOf<SimSettings>& r : sim_table())
      if (std::find(std::begin(simulated), std::end(simulated), r.name) == std::end(simulated))
        out.push_back(r);
    return out;
  }();
  return rows;
}

std::string data_of(const std::string& model, const std::string& data) {
  if (!data.empty()) return data;
  return shipped_data(swarm::is_text(model) ? "tinyshakespeare.txt" : "mnist-12k");
}

swarm::SimOptions options_of(const SimSettings& s) {
  swarm::SimOptions out;
  out.data = data_of(s.model, s.data), out.attack = s.attack, out.seed = s.seed;
  out.churn = s.churn, out.liars = s.liars, out.slow = s.slow;
  out.witnesses = s.witnesses, out.replicas = s.replicas;
  Manifest& m = out.manifest;
  m.model = s.model, m.plan = s.plan, m.schedule = s.schedule, m.seed = s.seed;
  m.workers = s.workers, m.slots = s.slots, m.samples = s.samples, m.steps = s.steps, m.width = s.width;
  m.lag = s.lag, m.deadline = s.deadline, m.quorum = s.quorum, m.sigma = s.sigma, m.lr = s.lr;
  m.spot_rate = s.spot_rate, m.flip = s.flip;
  return out;
}

std::vector<Chart> charts_of(const std::vector<swarm::SimRow>& rows) {
  Series loss{"test loss", {}, {}}, accuracy{"test accuracy, %", {}, {}},
      accepted{"reports accepted", {}, {}}, refused{"refused", {}, {}}, banned{"workers banned", {}, {}};
  const auto add = [](Series& to, int64_t x, double y) {
    to.x.push_back(static_cast<double>(x)), to.y.push_back(y);
  };
  for (const swarm::SimRow& r : rows) {
    if (!std::isnan(r.loss)) add(loss, r.step + 1, r.loss);
    if (!std::isnan(r.accuracy)) add(accuracy, r.step + 1, 100 * r.accuracy);
    add(accepted, r.step + 1, static_cast<double>(r.accepted)),
        add(refused, r.step + 1, static_cast<double>(r.refused));
    add(banned, r.step + 1, static_cast<double>(r.banned));
  }
  std::vector<Chart> out{{.title = "Loss", .x_label = "step", .y_label = "nats", .series = {loss}}};
  if (!accuracy.x.empty())
    out.push_back({.title = "Accuracy", .x_label = "step", .y_label = "%", .series = {accuracy}});
  out.push_back(
      {.title = "Reports", .x_label = "step", .y_label = "", .series = {accepted, refused, banned}});
  return out;
}

std::string csv_of(const std::vector<swarm::SimRow>& rows) {
  std::string out =
      "step,accepted,refused,banned,record_bytes,report_bytes,value,seconds,forward_seconds,test_loss,test_accuracy\n";
  for (const swarm::SimRow& r : rows) {
    out += fmt::format("{},{},{},{},{},{},{:.6g},{:.4f},{:.4f},", r.step + 1, r.accepted, r.refused, r.banned,
                       r.record_bytes, r.report_bytes, r.value, r.seconds, r.forward_seconds);
    out += std::isnan(r.loss) ? "," : fmt::format("{:.6f},{:.4f}", r.loss, r.accuracy);
    out += '\n';
  }
  return out;
}

void print_line(const char* name, const std::string& value) { fmt::print("  {:18} {}\n", name, value); }

void print_step(const swarm::SimRow& r, int64_t steps) {
  fmt::print("step {:5}/{}  test loss {:.4f}", r.step + 1, steps, r.loss);
  if (!std::isnan(r.accuracy)) fmt::print("  accuracy {:5.2f} %", 100 * r.accuracy);
  fmt::print("  {} reports, {} refused, {} banned\n", r.accepted, r.refused, r.banned);
  std::fflush(stdout);
}

void report(const swarm::Simulation& sim, const std::vector<swarm::SimRow>& rows, const SimSettings& s,
            const std::string& out) {
  const swarm::SimRow& last = rows.back();
  double seconds = 0, forward = 0;
  int64_t bytes = 0, empty = 0, accepted = 0;
  for (const swarm::SimRow& r : rows)
    seconds += r.seconds, forward += r.forward_seconds, bytes += r.record_bytes, empty += r.accepted == 0,
        accepted += r.accepted;
  const auto n = static_cast<int64_t>(rows.size());
  fmt::print("\n");
  print_line("steps", fmt::format("{} of {}, {} without a report; none lost", n, s.steps, empty));
  print_line("test loss", fmt::format("{:.4f}", last.loss));
  if (!std::isnan(last.accuracy)) print_line("test accuracy", fmt::format("{:.2f} %", 100 * last.accuracy));
  print_line("reports", fmt::format("{} a step of {} workers", accepted / n, s.workers));
  for (size_t a = 1; a < swarm::answers; ++a)
    if (sim.counts()[a] > 0)
      print_line("  refused", fmt::format("{} {}", sim.counts()[a], name(static_cast<swarm::Answer>(a))));
  print_line("banned",
             fmt::format("{} of {} liars, {} honest", sim.banned_liars(), sim.liars(), sim.banned_honest()));
  print_line("bytes", fmt::format("{} a record, {} up a worker and step", bytes / n, last.report_bytes));
  const swarm::Privacy p = swarm::privacy(s.flip, n * s.slots);
  print_line("privacy", s.flip > 0 ? fmt::format("epsilon {:.2f} a bit, {:.1f} after all steps (delta {:g})",
                                                 p.report, p.advanced, p.delta)
                                   : fmt::format("{} bits a worker at most", n * s.slots * s.width));
  print_line("time", fmt::format("{:.1f} s, {:.1f} of them forward passes ({:.3f} TFLOP)", seconds, forward,
                                 sim.operations() * 1e-12));
  print_line("peak memory", fmt::format("{:.0f} MB", peak_megabytes()));
  print_line("head", swarm::hex(sim.head()));
  print_line("state", swarm::hex(sim.state()));
  print_line("files", out + "/: ledger.kontor metrics.csv curve.svg curve.png");
}

void simulate(const SimSettings& s, const std::string& out) {
  catch_interruptions();
  const OwnFolder own(out);
  swarm::SimOptions options = options_of(s);
  options.ledger = out + "/ledger.kontor";
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(options.ledger + end);
  swarm::Simulation sim(options);
  fmt::print("run {}\n{} of {} workers with {} slots, {:g} % away, {:g} % liars ({}); device {}\n",
             swarm::hex(run_of(sim.manifest())), s.model, s.workers, s.slots, 100 * s.churn, 100 * s.liars,
             s.attack, Context::current().device());
  std::fflush(stdout);
  std::vector<swarm::SimRow> rows;
  while (static_cast<int64_t>(rows.size()) < s.steps && interrupted == 0) {
    rows.push_back(sim.step());
    const auto done = static_cast<int64_t>(rows.size());
    if (done == s.steps || interrupted != 0 || (s.test_every > 0 && done % s.test_every == 0)) {
      const nn::Metrics m = sim.test();
      rows.back().loss = m.loss, rows.back().accuracy = m.accuracy;
      print_step(rows.back(), s.steps);
    }
  }
  if (rows.empty()) throw Exit{128 + interrupted};  // nothing has happened that files could tell
  write_file(out + "/metrics.csv", csv_of(rows));
  write_charts(out + "/curve", charts_of(rows));
  report(sim, rows, s, out);
  if (interrupted != 0) throw Exit{128 + interrupted};
}

// --- Processes of one machine. ---------------------------------------------------------------------------------------

using swarm::SigningKey;

SigningKey read_key(const std::string& path) {
  swarm::Fixed<32> secret;
  std::string text = read_file(path);
  while (text.ends_with('\n')) text.pop_back();
  swarm::from_hex(text, secret, path);
  return SigningKey(secret);
}

// A key is written for this user alone.
SigningKey make_key(const PrivateFolder& folder, const std::string& name) {
  SigningKey key = SigningKey::random();
  const std::string text = swarm::hex(key.secret()) + "\n";
  const std::string_view parts[] = {text};
  folder.write(name, parts);
  return key;
}

// The manifest but for its keys. What its settings ask for is checked before a model or a key is made.
Manifest manifest_of(const SimSettings& s) {
  Manifest m = options_of(s).manifest;
  m.spot_rate = 0;
  Manifest settings = m;
  settings.data = "private";  // its hash comes from the task
  swarm::parse_manifest(to_text(settings));
  describe(m, *swarm::make_task(m.model, m.seed, data_of(m.model, s.data)));
  return m;
}

void init(const SimSettings& s, const std::string& out) {
  if (std::filesystem::exists(out + "/manifest.json")) fail("{}: there is a run already", out);
  Manifest m = manifest_of(s);
  make_folders(out);
  const std::optional<PrivateFolder> folder =
      PrivateFolder::open(out + "/keys", PrivateFolder::IfMissing::Make);
  m.sequencer = make_key(*folder, "sequencer").public_key();
  std::vector<swarm::PublicKey> members;
  for (int64_t w = 0; w < s.workers; ++w)
    members.push_back(make_key(*folder, fmt::format("worker-{}", w)).public_key());
  m.members = swarm::members_root(members);
  m = swarm::parse_manifest(to_text(m));  // as everybody else reads it
  swarm::Ledger::create(out + "/ledger.kontor", m, members);
  write_file(out + "/manifest.json", to_text(m));
  fmt::print("run {}\n{}/: manifest.json ledger.kontor keys/sequencer keys/worker-0 .. worker-{}\n",
             swarm::hex(run_of(m)), out, s.workers - 1);
}

constexpr uint64_t most_farewell = 10'000;  // ms that hosts have for the last records

struct NodeOptions {
  std::string run, data;
  std::vector<uint32_t> workers;
};

/// Of a record: ms since 1970.
uint64_t time_of_day() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

// Records of the step are taken until all members reported, the quorum is there or the deadline.
void collect(swarm::LocalHub& hub, swarm::Sequencer& sequencer, const Manifest& m) {
  uint64_t end = hub.now() + static_cast<uint64_t>(m.deadline);
  while (interrupted == 0 && !sequencer.is_full() && static_cast<int64_t>(sequencer.taken()) < m.workers) {
    sequencer.take(hub.reports(std::min(end, hub.now() + 1000)));  // Ctrl-C may have come before the wait
    if (hub.hosts() == 0) end = hub.now() + static_cast<uint64_t>(m.deadline);  // nobody to wait for yet
    else if (hub.now() >= end) return;
  }
}

void sequence(const NodeOptions& o) {
  catch_interruptions();
  const OwnFolder own(o.run);
  swarm::Ledger ledger = swarm::Ledger::open(o.run + "/ledger.kontor", true);
  const Manifest& m = ledger.manifest();
  const std::unique_ptr<swarm::Task> task = swarm::make_task(m.model, m.seed, data_of(m.model, o.data));
  swarm::Replica replica(*task, m, ledger.deals());
  swarm::LocalHub hub(o.run + "/socket");
  for (int64_t t = 0; t < ledger.steps(); ++t) {
    const swarm::Bytes record = ledger.record(t);
    replica.apply(record), hub.publish(record);
  }
  swarm::Sequencer sequencer(replica, read_key(o.run + "/keys/sequencer"), ledger.members());
  fmt::print("run {}, step {} of {}; hosts join with: kontor swarm join {} --workers 0,1,..\n",
             swarm::hex(run_of(m)), replica.chain().step(), m.steps, o.run);
  std::fflush(stdout);
  while (replica.chain().step() < m.steps) {
    collect(hub, sequencer, m);
    if (interrupted != 0) break;
    const size_t taken = sequencer.taken();
    const swarm::Bytes record = sequencer.close(time_of_day());
    const uint32_t done = replica.chain().step();
    ledger.append(done - 1, record);  // before anybody sees it
    hub.publish(record);
    if (done % 20 == 0 || done == m.steps)
      fmt::print("step {:5}/{}  {} reports, {} hosts\n", done, m.steps, taken, hub.hosts()),
          std::fflush(stdout);
  }
  hub.deliver(hub.now() + most_farewell);
  const nn::Metrics metrics = task->test();
  print_line("test loss", fmt::format("{:.4f}", metrics.loss));
  if (!std::isnan(metrics.accuracy))
    print_line("test accuracy", fmt::format("{:.2f} %", 100 * metrics.accuracy));
  print_line("head", swarm::hex(replica.chain().head()));
  print_line("state", swarm::hex(state_root(*task)));
  if (interrupted != 0) throw Exit{128 + interrupted};
}

// A sequencer that is away is waited for: it goes on at its last whole record, and so does the host.
std::unique_ptr<swarm::LocalLink> link_to(const std::string& path, uint32_t step) {
  constexpr int tries = 600;
  for (int i = 0; interrupted == 0; ++i) {
    try {
      return std::make_unique<swarm::LocalLink>(path, step);
    } catch (const Error&) {
      if (i == tries) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  throw Exit{128 + interrupted};
}

void take_part(swarm::LocalLink& link, swarm::Host& host) {
  const int64_t steps = host.chain().manifest().steps;
  int64_t said = -1;
  while (interrupted == 0 && host.chain().step() < steps) {
    if (said < static_cast<int64_t>(host.chain().step())) {
      said = host.chain().step();
      for (const swarm::Bytes& report : host.reports()) link.report(0, report);
    }
    for (const swarm::Bytes& record : link.records(0, link.now() + 1000)) host.apply(record);
  }
}

void join(const NodeOptions& o) {
  catch_interruptions();
  const Manifest m = swarm::parse_manifest(read_file(o.run + "/manifest.json"));
  const std::unique_ptr<swarm::Task> task = swarm::make_task(m.model, m.seed, data_of(m.model, o.data));
  std::map<uint32_t, SigningKey> keys;
  for (const uint32_t w : o.workers) keys.emplace(w, read_key(fmt::format("{}/keys/worker-{}", o.run, w)));
  swarm::Host host(*task, m, std::move(keys));
  while (interrupted == 0 && host.chain().step() < m.steps) {
    const auto link = link_to(o.run + "/socket", host.chain().step());
    try {
      for (const swarm::Bytes& record : link->records(0, link->now() + 300))
        host.apply(record);  // those that were missed
      take_part(*link, host);
    } catch (const Error& error) {
      if (std::string_view(error.what()).find("has gone") == std::string_view::npos) throw;
      fmt::print("step {}: {}; waiting for it\n", host.chain().step(), error.what()), std::fflush(stdout);
    }
  }
  print_line("steps", std::to_string(host.chain().step()));
  print_line("head", swarm::hex(host.chain().head()));
  print_line("state", swarm::hex(state_root(*task)));
  if (interrupted != 0) throw Exit{128 + interrupted};
}

void add_node(CLI::App& swarm, const char* name, const char* about, void (*run)(const NodeOptions&),
              bool host) {
  CLI::App* verb = swarm.add_subcommand(name, about);
  auto o = std::make_shared<NodeOptions>();
  verb->add_option("run", o->run, "The folder that `kontor swarm init` made")->required()->check(not_empty());
  verb->add_option("--data", o->data, "Data of the model (default: what comes with Kontor)");
  if (host)
    verb->add_option("--workers", o->workers, "The workers of this process, as 0,1,2")
        ->required()
        ->delimiter(',')
        ->check(whole(0, swarm::most_workers));
  verb->callback([o, run] { run(*o); });
}

}  // namespace

void add_swarm(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("swarm", "Decentralised training: seeds and losses, a signed ledger");
  verb->require_subcommand(1);
  CLI::App* sim =
      verb->add_subcommand("sim", "Workers that come, go and lie, in one process and virtual time");
  auto settings = std::make_shared<SimSettings>();
  auto out = std::make_shared<std::string>("out/swarm");
  add_rows(sim_table(), *sim, *settings);
  sim->add_option("--out", *out, "Folder for ledger, metrics and curve")
      ->capture_default_str()
      ->check(not_empty());
  sim->callback([settings, out] { simulate(*settings, *out); });
  CLI::App* begin =
      verb->add_subcommand("init", "A run for processes of this machine: manifest, ledger and keys");
  auto given = std::make_shared<SimSettings>();
  auto folder = std::make_shared<std::string>("out/run");
  given->workers = 8, given->slots = 64;
  add_rows(run_table(), *begin, *given);
  begin->add_option("--out", *folder, "The run's folder")->capture_default_str()->check(not_empty());
  begin->callback([given, folder] { init(*given, *folder); });
  add_node(*verb, "run", "The sequencer of a run: collects reports, signs records", sequence, false);
  add_node(*verb, "join", "A host of a run: evaluates the slots of its workers", join, true);
}

}  // namespace kontor::tools
