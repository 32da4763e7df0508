// kontor cache: the compiled kernels and finished schedules kept on disk: where they are, which, and a way to be rid of them.
#include <cstdio>
#include <ctime>
#include <memory>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "runtime/cache.h"
#include "tools/verbs.h"

namespace kontor::tools {

namespace {

struct Options {
  bool clear = false, list = false, json = false;
};

std::string when(int64_t seconds) {
  const std::time_t t = static_cast<std::time_t>(seconds);
  char text[32] = "";
  std::tm parts{};
  std::strftime(text, sizeof text, "%F %T", localtime_r(&t, &parts));
  return text;
}

void print_warnings(KernelCache& cache) {
  for (const std::string& warning : cache.take_warnings()) fmt::print(stderr, "kontor: {}\n", warning);
}

std::string plural(CachedKind kind) { return fmt::format("{}s", name(kind)); }

void print_json(const KernelCache& cache, const std::vector<KernelCache::Entry>& entries) {
  nlohmann::ordered_json out = {{"folder", cache.folder()}};
  for (const CachedKind kind : {CachedKind::Kernel, CachedKind::Schedule})
    out[plural(kind)] = nlohmann::ordered_json::array();
  for (const auto& e : entries)
    out[plural(e.kind)].push_back(
        {{"key", e.key}, {name(e.kind), e.name}, {"bytes", e.bytes}, {"used", e.used}});
  fmt::print("{}\n", out.dump(1));
}

void run(const Options& options) {
  KernelCache cache(KernelCache::options_from_environment());
  if (options.clear) {
    const int64_t removed = cache.clear();
    print_warnings(cache);
    fmt::print("removed {} kernels and schedules from {}\n", removed, cache.folder());
    return;
  }
  const std::vector<KernelCache::Entry> entries = cache.list();
  print_warnings(cache);
  if (options.json) return print_json(cache, entries);
  int64_t bytes = 0, schedules = 0;
  for (const auto& e : entries) {
    bytes += e.bytes;
    schedules += e.kind == CachedKind::Schedule;
    if (options.list)
      fmt::print("{}  {:>8}  {}  {:8}  {}\n", e.key, e.bytes, when(e.used), name(e.kind), e.name);
  }
  if (cache.folder().empty()) fmt::print("the disk cache is off (KONTOR_NO_CACHE)\n");
  else
    fmt::print("{}: {} kernels, {} schedules, {:.1f} MB\n", cache.folder(), std::ssize(entries) - schedules,
               schedules, static_cast<double>(bytes) / 1e6);
}

}  // namespace

void add_cache(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("cache", "The kernels and schedules kept on disk");
  auto options = std::make_shared<Options>();
  verb->add_flag("--list", options->list, "One line for each, latest use first");
  verb->add_flag("--clear", options->clear, "Remove them");
  verb->add_flag("--json", options->json, "As JSON");
  verb->callback([options] { run(*options); });
}

}  // namespace kontor::tools
