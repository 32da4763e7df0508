// Forks counted by pthread_atfork; trials in a child that reports by one byte through a pipe.
#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/lasting.h"

namespace kontor {
namespace {

std::atomic<uint32_t> generation{0};

// The host's handlers would report a crash that is none of its own.
void forget_handlers() {
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGTERM, SIGINT,
                           SIGALRM, SIGPIPE, SIGCHLD})
    std::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  (void)::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

void be_silent() {
  const rlimit no_core{0, 0};
  (void)::setrlimit(RLIMIT_CORE, &no_core);
  const int nowhere = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3 && nowhere >= 0; ++fd) (void)::dup2(nowhere, fd);
}

[[noreturn]] void be_child(const std::function<void()>& action, int report, pid_t parent) {
#if defined(__linux__)
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (::getppid() != parent) ::_exit(0);
  forget_handlers();
  be_silent();
  try {
    action();
  } catch (...) {  // an error is an answer: the parent meets it again
  }
  const ssize_t written = ::write(report, "", 1);
  ::_exit(written == 1 ? 0 : 1);
}

// Whether the child's byte or its end came in time.
enum class Report : uint8_t { Through, Ended, Late };
Report wait_for_report(int pipe, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Report::Late;
    pollfd wanted{pipe, POLLIN, 0};
    const int ready = ::poll(&wanted, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno != EINTR) return Report::Late;
    if (ready <= 0) continue;
    char byte = 1;
    const ssize_t got = ::read(pipe, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    return got == 1 ? Report::Through : Report::Ended;
  }
}

// The host may wait for any child, or ignore them: then nobody knows how this one ended.
std::string end_of(pid_t child) {
  int status = 0;
  pid_t waited;
  do waited = ::waitpid(child, &status, 0);
  while (waited < 0 && errno == EINTR);
  if (waited != child) return "it ended its process";
  if (WIFSIGNALED(status))
    return fmt::format("it ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  return fmt::format("it ended its process with exit code {}", WEXITSTATUS(status));
}

struct Link {
  const void* object;
  Link* next;
};
std::atomic<Link*> kept{nullptr};

}  // namespace

void keep_forever(const void* object) {
  Link* link = new Link{object, kept.load()};
  while (!kept.compare_exchange_weak(link->next, link)) {}
}

uint32_t process_generation() noexcept {
  static const int registered = ::pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1); });
  (void)registered;
  return generation.load(std::memory_order_relaxed);
}

std::string how_it_ends(const std::function<void()>& action, std::chrono::milliseconds limit) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "";
  const Descriptor from(ends[0]);
  Descriptor to(ends[1]);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) return "";
  if (child == 0) be_child(action, to.get(), parent);
  (void)to.close();
  const Report report = wait_for_report(from.get(), limit);
  if (report != Report::Ended) (void)::kill(child, SIGKILL);
  const std::string end = end_of(child);
  if (report == Report::Through) return "";
  return report == Report::Ended ? end : fmt::format("it gave no answer within {} ms", limit.count());
}

}  // namespace kontor
