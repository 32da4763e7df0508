// Memory that is left, from /proc and /sys/fs/cgroup; where those are not mounted, no limit is known.
#include "base/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "base/descriptor.h"
#include "base/error.h"

namespace kontor {
namespace {

// A file of the kernel's, or "".
std::string text_of(const std::string& path) {
  const Descriptor file = open_at(AT_FDCWD, path, O_RDONLY);
  std::string text;
  return file.valid() && read_all(file.get(), text, 4096) == 0 ? text : "";
}

// The number after `key`, at the text's beginning or that of a line; `otherwise` where there is none.
uint64_t number_after(std::string_view text, std::string_view key, uint64_t otherwise) {
  size_t at = text.find(key);
  while (at != std::string_view::npos && at > 0 && text[at - 1] != '\n') at = text.find(key, at + 1);
  if (at == std::string_view::npos) return otherwise;
  text.remove_prefix(at + key.size());
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint64_t number = 0;
  return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc() ? number
                                                                                           : otherwise;
}

void keep_least(MemoryLeft& left, uint64_t limit, uint64_t used, std::string_view name) {
  const uint64_t bytes = limit > used ? limit - used : 0;
  if (bytes < left.bytes) left = {bytes, name};
}

// Pages of files count as used in a control group, though they are given back where memory is needed.
void ask_control_groups(MemoryLeft& left) {
  std::string groups = text_of("/proc/self/cgroup");
  const size_t own = groups.starts_with("0::/") ? 0 : groups.find("\n0::/");
  if (own == std::string::npos) return;
  const size_t begin = groups.find('/', own);
  std::string group = groups.substr(begin, groups.find('\n', begin) - begin);
  for (;;) {
    const std::string folder = "/sys/fs/cgroup" + group + "/";
    const uint64_t most = number_after(text_of(folder + "memory.max"), "", UINT64_MAX);
    if (most != UINT64_MAX) {
      const std::string detail = text_of(folder + "memory.stat");
      const uint64_t used = number_after(text_of(folder + "memory.current"), "", 0);
      const uint64_t files =
          number_after(detail, "inactive_file ", 0) + number_after(detail, "active_file ", 0);
      keep_least(left, most, used - std::min(used, files), "a control group");
    }
    if (group.empty()) return;
    group.resize(group.rfind('/'));
  }
}

void ask_own_limits(MemoryLeft& left) {
  // Pages: size resident shared text library data. https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html
  const std::string pages = text_of("/proc/self/statm");
  uint64_t counts[6] = {};
  const char* at = pages.data();
  const char* const end = at + pages.size();
  for (uint64_t& count : counts) {
    while (at != end && *at == ' ') ++at;
    at = std::from_chars(at, end, count).ptr;
  }
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    keep_least(left, limit.rlim_cur, counts[0] * page, "this process's RLIMIT_AS");
  if (::getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    keep_least(left, limit.rlim_cur, counts[5] * page, "this process's RLIMIT_DATA");
}

}  // namespace

MemoryLeft memory_left() {
  MemoryLeft left;
  const uint64_t free_kib = number_after(text_of("/proc/meminfo"), "MemAvailable:", UINT64_MAX >> 10);
  keep_least(left, free_kib << 10, 0, "the machine");
  ask_control_groups(left);
  ask_own_limits(left);
  return left;
}

void require_memory(uint64_t bytes, std::string_view what) {
  constexpr uint64_t kSmall = 16 << 20;  // what costs less than the question
  if (bytes < kSmall) return;
  const MemoryLeft left = memory_left();
  if (bytes > left.bytes)
    fail("{}: {} bytes of memory are needed, {} are left (limit of {})", what, bytes, left.bytes, left.limit);
}

}  // namespace kontor
