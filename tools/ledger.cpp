// kontor ledger: checks the history of a training run, computes it again, shows it, and forks it.
#include <chrono>
#include <cstdio>

#include "base/error.h"
#include "swarm/fork.h"
#include "swarm/ledger.h"
#include "swarm/replica.h"
#include "tools/models.h"
#include "tools/validators.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

using swarm::Ledger;

void print_line(const char* name, const std::string& value) { fmt::print("  {:18} {}\n", name, value); }

std::string data_of(const std::string& model, const std::string& data) {
  return !data.empty() ? data : shipped_data(swarm::is_text(model) ? "tinyshakespeare.txt" : "mnist-12k");
}

void verify(const std::string& path, const std::string& head) {
  const Ledger ledger = Ledger::open(path);
  const swarm::Verified v = swarm::verify(ledger);
  if (!head.empty() && head != swarm::hex(v.head))
    fail("{}: its head is {}, not {}: records are missing or others", path, swarm::hex(v.head), head);
  print_line("run", swarm::hex(v.run));
  print_line("records", fmt::format("{} of {} steps, {} bytes, {} values", v.steps, ledger.manifest().steps,
                                    v.record_bytes, v.values));
  print_line("final", fmt::format("{} by {} of {} witnesses", v.final_steps,
                                  swarm::witness_quorum(ledger.manifest().witnesses.size()),
                                  ledger.manifest().witnesses.size()));
  print_line("verdicts", fmt::format("{}, {} bans", v.verdicts, v.bans));
  print_line("head", swarm::hex(v.head));
  print_line("state", swarm::hex(v.state) + " (says the ledger; `replay` computes it)");
}

struct ReplayOptions {
  std::string path, data, weights, device;
  int64_t until = UINT32_MAX;
};

void replay(const ReplayOptions& o) {
  Context::set_default({.device = o.device});
  const Ledger ledger = Ledger::open(o.path);
  const swarm::Manifest& m = ledger.manifest();
  const std::unique_ptr<swarm::Task> task = swarm::make_task(m.model, m.seed, data_of(m.model, o.data));
  swarm::Replica replica(*task, m, ledger.deals());
  const int64_t steps = std::min(o.until, ledger.steps());
  const auto begin = std::chrono::steady_clock::now();
  auto warm = begin;
  for (int64_t t = 0; t < steps; ++t) {
    try {
      replica.apply(ledger.record(t));
    } catch (const Error& error) {
      fail("{}: {}", o.path, error.what());
    }
    if (t == 0) warm = std::chrono::steady_clock::now();
  }
  const auto end = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(end - begin).count();
  const double rest = std::chrono::duration<double>(end - warm).count();
  if (!o.weights.empty()) nn::save_parameters(o.weights, task->parameters());
  const nn::Metrics metrics = task->test();
  print_line("steps", fmt::format("{} in {:.2f} s, {:.0f} a second after the first", steps, seconds,
                                  rest > 0 ? static_cast<double>(steps - 1) / rest : 0));
  print_line("device", Context::current().device());
  print_line("test loss", fmt::format("{:.4f}", metrics.loss));
  if (metrics.accuracy == metrics.accuracy)
    print_line("test accuracy", fmt::format("{:.2f} %", 100 * metrics.accuracy));
  print_line("head", swarm::hex(replica.chain().head()));
  print_line("state", swarm::hex(state_root(*task)));
}

struct ForkOptions {
  std::string path, out, data;
  int64_t step = 0;
  std::vector<uint32_t> without;
};

void fork(const ForkOptions& o) {
  const Ledger ledger = Ledger::open(o.path);
  const swarm::Manifest& m = ledger.manifest();
  const std::unique_ptr<swarm::Task> task = swarm::make_task(m.model, m.seed, data_of(m.model, o.data));
  const swarm::Forked f = swarm::fork(ledger, *task, o.out, o.step, o.without);
  const nn::Metrics metrics = task->test();
  print_line("records", fmt::format("{}, the same up to step {}", f.steps, o.step));
  print_line("left out", fmt::format("{} reports of workers {}", f.left_out, fmt::join(o.without, ", ")));
  print_line("test loss", fmt::format("{:.4f}", metrics.loss));
  if (metrics.accuracy == metrics.accuracy)
    print_line("test accuracy", fmt::format("{:.2f} %", 100 * metrics.accuracy));
  print_line("head", swarm::hex(f.head));
  print_line("state", swarm::hex(state_root(*task)));
  print_line("files", o.out);
}

void show(const std::string& path, int64_t step) {
  const Ledger ledger = Ledger::open(path);
  const swarm::Format format(ledger.manifest());
  if (step < 0) {
    fmt::print("{}\n", to_text(ledger.manifest()));
    print_line("run", swarm::hex(format.run));
    print_line("records", std::to_string(ledger.steps()));
    return;
  }
  const swarm::Bytes bytes = ledger.record(step);
  const swarm::Record r = swarm::parse_record(bytes, format);
  print_line("step", fmt::format("{}, {} bytes", r.step, bytes.size()));
  print_line("hash", swarm::hex(swarm::head_of(bytes)));
  print_line("before", swarm::hex(r.before));
  print_line("time", fmt::format("{} ms since 1970", r.time));
  print_line("lag", std::to_string(r.lag));
  print_line("values", fmt::format("{} of {} bits, of {} members", r.codes.size(), format.width,
                                   std::count(r.accepted.begin(), r.accepted.end(), true)));
  print_line("reports", swarm::hex(r.reports));
  print_line("state", swarm::hex(r.state));
}

}  // namespace

void add_ledger(CLI::App& app) {
  CLI::App* ledger =
      app.add_subcommand("ledger", "The signed history of a decentralised run: check it, compute it again");
  ledger->require_subcommand(1);
  auto o = std::make_shared<ReplayOptions>();
  auto head = std::make_shared<std::string>();
  auto step = std::make_shared<int64_t>(-1);
  const auto add = [&](const char* name, const char* about) {
    CLI::App* verb = ledger->add_subcommand(name, about);
    verb->add_option("ledger", o->path, "The file, as out/swarm/ledger.kontor")
        ->required()
        ->check(not_empty());
    return verb;
  };
  CLI::App* check = add("verify", "Checks links, signatures and forms, without the model");
  check->add_option("--head", *head, "The hash that the last record must have")->check(not_empty());
  check->callback([o, head] { verify(o->path, *head); });
  CLI::App* again = add("replay", "Computes the training again and compares the state of each step");
  again->add_option("--data", o->data, "Data of the model (default: what comes with Kontor)");
  again->add_option("--until", o->until, "Only so many steps")->check(whole(0, UINT32_MAX));
  again->add_option("--weights", o->weights, "Writes the weights to this safetensors file")
      ->check(not_empty());
  again->add_option("--device", o->device, "Device that computes")->check(not_empty());
  again->callback([o] { replay(*o); });
  CLI::App* other = add("fork", "A new ledger: the same training without some workers from a step on");
  auto f = std::make_shared<ForkOptions>();
  other->add_option("out", f->out, "The new file")->required()->check(not_empty());
  other->add_option("--step", f->step, "The first step that differs")
      ->required()
      ->check(whole(0, UINT32_MAX));
  other->add_option("--without", f->without, "Workers whose reports are left out, as 3,5")
      ->delimiter(',')
      ->check(whole(0, swarm::most_workers));
  other->add_option("--data", f->data, "Data of the model (default: what comes with Kontor)");
  other->callback([o, f] {
    f->path = o->path;
    fork(*f);
  });
  CLI::App* look = add("show", "Prints the manifest, or one record");
  look->add_option("--step", *step, "The record of this step")->check(whole(0, UINT32_MAX));
  look->callback([o, step] { show(o->path, *step); });
}

}  // namespace kontor::tools
