// [swarm] the transport `local`: a run over sockets is the run of the simulation, and what is no message ends a connection.
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <deque>
#include <random>
#include <thread>

#include "base/error.h"
#include "swarm/host.h"
#include "swarm/local.h"
#include "swarm/sim.h"
#include "swarm/slots.h"
#include "swarm/votes.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/project_root.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using namespace kontor::swarm;
using Catch::Matchers::Contains;

namespace {

std::string data() { return project_root() + "/data/mnist-12k"; }

/// A host in a thread of its own: joins, applies, reports. Returns the head that it came to, or what went wrong.
std::string take_part(const std::string& path, const Manifest& m, uint32_t first, uint32_t end) {
  try {
    const OnDevice on("llvm", 1);
    const std::unique_ptr<Task> task = make_task(m.model, m.seed, data());
    std::map<uint32_t, SigningKey> keys;
    for (uint32_t w = first; w < end; ++w) keys.emplace(w, simulation_key(m.seed, "worker", w));
    Host host(*task, m, std::move(keys));
    LocalLink link(path);
    while (host.chain().step() < m.steps) {
      for (const Bytes& report : host.reports()) link.report(0, report);
      const uint32_t before = host.chain().step();
      while (host.chain().step() == before)
        for (const Bytes& record : link.records(0, link.now() + 1000)) host.apply(record);
    }
    return hex(host.chain().head());
  } catch (const std::exception& error) {
    return error.what();
  }
}

Bytes framed(uint8_t kind, View bytes) {
  return Writer().number(bytes.size() + 1, 4).number(kind, 1).add(bytes).bytes;
}

/// A connection that says anything.
class Stranger {
 public:
  explicit Stranger(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    REQUIRE(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  void say(const Bytes& bytes) { (void)!::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL); }

 private:
  Descriptor fd_;
};

}  // namespace

// D14, for the transports that there are.
TEST_CASE("swarm: a run over sockets comes to the root of the simulation", "[swarm]") {
  const OnDevice on;
  const TemporaryFolder folder;
  SimOptions o;
  o.data = data(), o.churn = 0, o.liars = 0, o.slow = 0;
  o.manifest.workers = 6, o.manifest.slots = 9, o.manifest.steps = 6, o.manifest.width = 8;
  o.ledger = folder / "ledger";
  Simulation sim(o);
  for (int64_t t = 0; t < 6; ++t) CHECK(sim.step().accepted == 6);
  const Manifest& m = sim.manifest();

  LocalHub hub(folder / "socket");
  struct stat status{};
  REQUIRE(::stat((folder / "socket").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  CHECK_THAT(error_of([&] { LocalHub(folder / "socket"); }), Contains("another sequencer listens there"));
  std::string heads[2];
  std::thread first([&] { heads[0] = take_part(folder / "socket", m, 0, 4); });
  std::thread second([&] { heads[1] = take_part(folder / "socket", m, 4, 6); });
  const std::unique_ptr<Task> task = make_task(m.model, m.seed, data());
  Replica replica(*task, m);
  std::vector<PublicKey> members;
  for (uint32_t w = 0; w < 6; ++w) members.push_back(simulation_key(1, "worker", w).public_key());
  Sequencer sequencer(replica, simulation_key(1, "sequencer", 0), members);
  const Ledger ledger = Ledger::open(folder / "ledger");
  const uint64_t give_up = hub.now() + 120'000;
  for (int64_t t = 0; t < 6 && hub.now() < give_up; ++t) {
    while (sequencer.taken() < 6 && hub.now() < give_up) sequencer.take(hub.reports(hub.now() + 1000));
    const Bytes record = sequencer.close(simulation_epoch + static_cast<uint64_t>((t + 1) * m.deadline));
    CHECK(record == ledger.record(t));
    hub.publish(record);
  }
  hub.reports(hub.now() + 100);
  first.join(), second.join();
  CHECK(heads[0] == hex(sim.head()));
  CHECK(heads[1] == hex(sim.head()));
  // Who comes late has all records, and blobs by their hash.
  const Bytes text{1, 2, 3};
  const Digest digest = hub.put(text);
  std::thread serving([&] { hub.reports(hub.now() + 1500); });
  LocalLink late(folder / "socket", 2);
  std::vector<Bytes> had;
  while (had.size() < 4)
    for (Bytes& record : late.records(0, late.now() + 1000)) had.push_back(std::move(record));
  CHECK(had[0] == ledger.record(2));
  CHECK(late.blob(digest) == text);
  serving.join();
}

TEST_CASE("swarm: a report made again carries the same flips, another worker's key others", "[swarm]") {
  const OnDevice on;
  const std::unique_ptr<Task> task = make_task("mnist-small", 1, data());
  Manifest m{.workers = 2, .slots = 250, .samples = 1, .steps = 3, .flip = 0.2};
  describe(m, *task);
  const auto said = [&](uint64_t seed) {  // of both workers, in the order of their slots
    std::map<uint32_t, SigningKey> keys;
    for (uint32_t w = 0; w < 2; ++w) keys.emplace(w, simulation_key(seed, "worker", w));
    Host host(*task, m, std::move(keys));
    const std::vector<Bytes> reports = host.reports();
    CHECK(host.reports() == reports);
    std::vector<uint32_t> out(500);
    for (const Bytes& bytes : reports) {
      const Report r = parse_report(bytes, host.chain().format());
      std::copy(r.codes.begin(), r.codes.end(), out.begin() + r.first_slot);
    }
    return out;
  };
  const std::vector<uint32_t> a = said(1), b = said(2);
  CHECK(said(1) == a);  // a host that was started again
  const std::vector<int32_t> values = Steps(*task, m).evaluate(slot_seeds(noise_key(m), 0, 500));
  int flipped = 0, differ = 0;
  for (size_t i = 0; i < 500; ++i) flipped += a[i] != code_of(values[i], 1), differ += a[i] != b[i];
  CHECK(std::abs(flipped - 100) < 5 * 9);  // 500 bits with probability 0.2, deviation 9
  CHECK(std::abs(differ - 160) < 5 * 11);  // of two keys: 2 x 0.2 x 0.8
  task->set_weights(make_task("mnist-small", 2, data())->weights());
  m.weights = state_root(*task);
  CHECK(said(1) != a);
}

TEST_CASE("swarm: what was sent before a connection ended has come", "[swarm]") {
  const TemporaryFolder folder;
  const Bytes report(88, 7), record(1 << 10, 5);
  {  // a host that reports and goes
    LocalHub hub(folder / "a");
    Stranger(folder / "a").say(framed(1, report));
    CHECK(hub.reports(hub.now() + 5000) == std::vector<Bytes>{report});
    hub.reports(hub.now() + 5);
    CHECK(hub.hosts() == 0);
  }
  {  // a sequencer that publishes and goes, while a host still reports
    auto hub = std::make_unique<LocalHub>(folder / "b");
    for (int i = 0; i < 20; ++i) hub->publish(record);
    LocalLink link(folder / "b");
    CHECK(hub->deliver(hub->now() + 5000));
    hub.reset();
    for (int i = 0; i < 3; ++i) link.report(0, report);
    CHECK(link.records(0, link.now() + 5000) == std::vector<Bytes>(20, record));
    CHECK_THAT(error_of([&] { link.records(0, link.now() + 5000); }), Contains("the sequencer has gone"));
  }
  {  // a host that is slower than sockets are long, and a history that is longer than a queue may be
    auto hub = std::make_unique<LocalHub>(folder / "c");
    constexpr size_t many = 400;
    const Bytes long_record(1 << 16, 5);
    LocalLink link(folder / "c");
    for (size_t i = 0; i < many; ++i) hub->publish(long_record);
    CHECK_FALSE(hub->deliver(hub->now() + 20));
    size_t had = 0;
    std::string said;
    std::thread reading([&] {
      said = error_of([&] {
        for (;;) {
          had += link.records(0, link.now() + 5000).size();
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
      });
    });
    CHECK(hub->deliver(hub->now() + 60'000));
    hub.reset();
    reading.join();
    CHECK(had == many);
    CHECK_THAT(said, Contains("the sequencer has gone"));
  }
}

// Ctrl-C of a program that waits for a day's deadline.
TEST_CASE("swarm: a signal ends a wait", "[swarm]") {
  const TemporaryFolder folder;
  LocalHub hub(folder / "socket");
  LocalLink link(folder / "socket");
  hub.reports(hub.now() + 1);
  const auto before = std::signal(SIGUSR1, [](int) {});
  std::atomic<bool> over = false;
  std::thread bell([&over, here = ::pthread_self()] {
    for (; !over; std::this_thread::sleep_for(std::chrono::milliseconds(20))) ::pthread_kill(here, SIGUSR1);
  });
  const uint64_t begin = hub.now();
  CHECK(hub.reports(begin + 60'000).empty());
  CHECK(link.records(0, begin + 60'000).empty());
  const uint64_t end = hub.now();
  over = true;
  bell.join();
  std::signal(SIGUSR1, before);
  CHECK(end - begin < 30'000);
}

TEST_CASE("swarm: what is no message ends its connection, and no other", "[swarm]") {
  const TemporaryFolder folder;
  CHECK_THAT(error_of([&] { LocalLink(folder / "none"); }), Contains("nobody answers"));
  CHECK_THAT(error_of([&] { LocalHub(std::string(200, 'x')); }), Contains("107 letters at most"));
  LocalHub hub(folder / "socket");
  LocalLink good(folder / "socket");
  std::mt19937 random(3);
  std::deque<Stranger> strangers;  // who stay: it is the hub that ends a connection
  for (int i = 0; i < 50; ++i) {
    strangers.emplace_back(folder / "socket");
    Bytes bytes(4 + random() % 3000);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    bytes[3] |= 1;                                        // a frame that is too long, whatever was drawn
    if (i % 5 == 0) bytes = {0xFF, 0xFF, 0xFF, 0xFF, 1};  // a frame of 4 GiB
    if (i % 5 == 1) bytes = {0, 0, 0, 0};
    if (i % 5 == 2) bytes = {5, 0, 0, 0, 3, 1, 2, 3, 4};  // a record, which no host sends
    strangers.back().say(bytes);
    hub.reports(hub.now() + 2);
  }
  hub.reports(hub.now() + 20);
  CHECK(hub.hosts() == 1);
  const Bytes report(88, 7);
  good.report(0, report);
  CHECK(hub.reports(hub.now() + 5000) == std::vector<Bytes>{report});
}
