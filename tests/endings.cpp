// How programs end that use Kontor: `endings NAME` runs one such program; tests/e2e/test_endings.py runs them all. Exit code 0
// and no signal mean that it went well.
#include <kontor/kontor.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "nn/dataset.h"

using namespace kontor;

namespace {

constexpr int kOutOfTime = 60;  // seconds after which a program that hangs is ended by SIGALRM

/// What a host program does: a new size is a new kernel, compiled on the way.
bool compute(int64_t size) {
  const Tensor x = Tensor::arange(size).cast(DType::F32);
  return (x * 2.0f + 1.0f).sum().item<float>() == static_cast<float>(size * size);
}

// Constructed before the library has made anything of its own, so that it dies after all of that.
struct LateUser {
  std::optional<Tensor> kept;
  bool wanted = false;
  ~LateUser() {
    if (!wanted) return;
    const bool good = kept->sum().item<float>() == 3.0f && compute(41) && compute(10'001);
    kept.reset();
    if (!good) ::_exit(2);
    std::puts("late");
    std::fflush(stdout);
  }
} late_user;

int use_in_static_destructor() {
  late_user.kept = Tensor::from(std::vector<float>{1, 2}, {2}) + 0.0f;
  late_user.wanted = true;
  return compute(40) ? 0 : 1;
}

int leave_threads_computing() {
  static std::atomic<int> started{0};
  for (int t = 0; t < 3; ++t) {
    std::thread([t] {
      for (int64_t i = 0;; ++i) {
        compute(50 + 1000 * t + i % 40);
        ++started;
      }
    }).detach();
  }
  while (started < 6) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return 0;
}

int leave_threads_recording() {
  static std::atomic<int64_t> started{0};
  for (int t = 0; t < 3; ++t) {
    std::thread([] {
      for (;; ++started) {
        const Tensor x = Tensor::from(std::vector<float>(100, 0.5f), {100});
        gradient((x * x).softmax(0).sum(), {x});
      }
    }).detach();
  }
  while (started < 100) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return 0;
}

/// Runs `child` in a forked child; its exit code, or 100 and more for a signal.
int in_child(const std::function<bool()>& child) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(kOutOfTime / 2);
    std::exit(child() ? 0 : 3);
  }
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid) return 99;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/// Bytes, of /proc/self/statm.
uint64_t address_space() {
  unsigned long long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%llu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::unique_ptr<Context> used_context(const char* device) {
  auto context = std::make_unique<Context>(ContextOptions{.device = device, .threads = 4});
  const Context::Use use(*context);
  const Tensor x = Tensor::ones({512, 512}, DType::F32);
  if (x.matmul(x).sum().item<float>() != 512.0f * 512 * 512) std::exit(4);
  return context;
}

int destroy_context_in_child() {
  for (const char* device : {"", "interp"}) {
    std::unique_ptr<Context> context = used_context(device);
    std::optional<Tensor> tensor;
    {
      const Context::Use use(*context);
      tensor = Tensor::ones({1000}, DType::F32) + 1.0f;
      tensor->realize();
    }
    const int code = in_child([&] {
      context.reset();
      tensor.reset();
      return compute(60);  // with a context of the child's own
    });
    if (code != 0) return code;
    context.reset();  // the parent's is as it was
  }
  return 0;
}

int use_context_in_child() {
  std::unique_ptr<Context> context = used_context("");
  const bool before = compute(70);
  const int code = in_child([&] {
    bool good = compute(70) && compute(71);
    const Context::Use use(*context);
    const Tensor x = Tensor::ones({512, 512}, DType::F32);
    for (int i = 0; i < 20; ++i) good = good && (x.matmul(x) + float(i)).sum().item<float>() > 0;
    return good;
  });
  return before && compute(72) ? code : 5;
}

int fork_while_others_compute() {
  std::unique_ptr<Context> context = used_context("");
  std::atomic<bool> stop{false};
  std::thread other([&] {
    Context own({.threads = 2});
    const Context::Use use(own);
    for (int64_t i = 0; !stop; ++i) compute(100 + i % 50);
  });
  int code = 0;
  for (int i = 0; i < 20 && code == 0; ++i) {
    code = in_child([&] {
      context.reset();
      return true;
    });
  }
  stop = true;
  other.join();
  return code;
}

int destroy_prefetcher_in_child() {
  auto prefetcher = std::make_unique<Prefetcher>([](int64_t) { return Batch{}; });
  (void)prefetcher->next();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // until its thread waits
  return in_child([&] {
    prefetcher.reset();
    return true;
  });
}

// A tensor's kernels need memory to be compiled: all that is given from none to enough ends in an Error or in the answer.
int compile_with_little_memory() {
  std::unique_ptr<Context> context = used_context("");  // LLVM is open
  int answers = 0, errors = 0;
  for (uint64_t more = 0; more <= 512; more += 16) {
    const int code = in_child([&] {
      const rlimit limit{address_space() + (more << 20), RLIM_INFINITY};
      if (::setrlimit(RLIMIT_AS, &limit) != 0) return false;
      try {
        const Context::Use use(*context);
        const Tensor x = Tensor::ones({8, 3, 32, 32}, DType::F32);
        Tensor w = Tensor::ones({16, 3, 3, 3}, DType::F32);
        w.realize();
        const Tensor loss = (x.conv2d(w).square() * 0.5f).sum();
        gradient(loss, {w})[0].realize();
        ::_exit(10);
      } catch (const Error& error) {
        if (std::strstr(error.what(), "memory") == nullptr) std::fprintf(stderr, "%s\n", error.what());
        ::_exit(std::strstr(error.what(), "memory") != nullptr ? 11 : 12);
      }
    });
    answers += code == 10;
    errors += code == 11;
    if (code != 10 && code != 11) std::fprintf(stderr, "with %d MB more: %d\n", int(more), code);
    if (code != 10 && code != 11) return 6;
  }
  std::fprintf(stderr, "%d answers, %d errors\n", answers, errors);
  return answers > 0 && errors > 0 ? 0 : 7;
}

struct Program {
  const char* name;
  int (*run)();
};
constexpr Program kPrograms[] = {
    {"use_in_static_destructor", use_in_static_destructor},
    {"leave_threads_computing", leave_threads_computing},
    {"leave_threads_recording", leave_threads_recording},
    {"destroy_context_in_child", destroy_context_in_child},
    {"use_context_in_child", use_context_in_child},
    {"fork_while_others_compute", fork_while_others_compute},
    {"compile_with_little_memory", compile_with_little_memory},
    {"destroy_prefetcher_in_child", destroy_prefetcher_in_child},
};

}  // namespace

int main(int count, char** arguments) {
  ::alarm(kOutOfTime);
  for (const Program& program : kPrograms) {
    if (count < 2) std::puts(program.name);
    else if (std::strcmp(program.name, arguments[1]) == 0) return program.run();
  }
  return count < 2 ? 0 : 1;
}
