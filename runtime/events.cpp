// The events of KONTOR_TRACE, kept as text until they are written.
#include "runtime/events.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/process.h"

namespace kontor::events {
namespace {

std::atomic<bool> wanted = false;

struct File {
  std::mutex mutex;
  std::string path, text;
  uint32_t generation = process_generation();  // a forked child leaves the file to its parent
  const Time start = std::chrono::steady_clock::now();
  std::map<std::thread::id, int> threads;  // numbers in the order in which threads were seen

  void line(const nlohmann::ordered_json& event) {
    text += text.empty() ? "" : ",\n";
    text += event.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }

  int thread() {
    const auto [entry, fresh] = threads.try_emplace(std::this_thread::get_id(), threads.size() + 1);
    if (fresh)
      line({{"name", "thread_name"},
            {"ph", "M"},
            {"pid", 1},
            {"tid", entry->second},
            {"args", {{"name", fmt::format("thread {}", entry->second)}}}});
    return entry->second;
  }

  void write() noexcept {
    const std::lock_guard lock(mutex);
    if (path.empty() || text.empty() || generation != process_generation()) return;
    try {
      write_file(path, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n" + text + "\n]}\n");
    } catch (const Error& error) {
      std::fputs(fmt::format("kontor: KONTOR_TRACE: {}\n", error.what()).c_str(), stderr);
    }
  }
};

// Never destroyed: a Context in a static object may end after everything here.
File& file() {
  static File* const only = [] {
    std::atexit(write);
    return new File;
  }();
  return *only;
}

}  // namespace

bool on() { return wanted.load(std::memory_order_relaxed); }

void open(const std::string& path) {
  const std::lock_guard lock(file().mutex);
  if (path != file().path) file().text.clear(), file().threads.clear();
  file().path = path;
  file().generation = process_generation();
  wanted = !path.empty();
}

void add(std::string_view category, std::string_view name, Time from, Time to,
         const std::vector<std::pair<std::string_view, int64_t>>& details) {
  using Micro = std::chrono::duration<double, std::micro>;
  nlohmann::ordered_json arguments = nlohmann::ordered_json::object();
  for (const auto& [key, value] : details) arguments[std::string(key)] = value;
  const std::lock_guard lock(file().mutex);
  const int thread = file().thread();
  file().line({{"name", name},
               {"cat", category},
               {"ph", "X"},
               {"pid", 1},
               {"tid", thread},
               {"ts", Micro(from - file().start).count()},
               {"dur", Micro(to - from).count()},
               {"args", std::move(arguments)}});
}

void write() { file().write(); }

}  // namespace kontor::events
