// kontor swarm: decentralised training by seeds and losses. sim: in one process, with workers that come, go and lie.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
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

std::string data_of(const std::string& model, const std::string& data) {
  if (!data.empty()) return data;
  return shipped_data(swarm::is_text(model) ? "tinyshakespeare.txt" : "mnist-12k");
}

swarm::SimOptions options_of(const SimSettings& s) {
  swarm::SimOptions out{.data = data_of(s.model, s.data),
                        .churn = s.churn,
                        .liars = s.liars,
                        .slow = s.slow,
                        .attack = s.attack,
                        .seed = s.seed,
                        .witnesses = s.witnesses,
                        .replicas = s.replicas};
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
  write_file(out + "/metrics.csv", csv_of(rows));
  write_charts(out + "/curve", charts_of(rows));
  report(sim, rows, s, out);
  if (interrupted != 0) throw Exit{128 + interrupted};
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
}

}  // namespace kontor::tools
