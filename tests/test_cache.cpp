// [runtime] the kernel cache: what is on disk may be torn, foreign, shared or refused.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/cache.h"
#include "tests/catch.h"

using namespace kontor;
namespace fs = std::filesystem;

namespace {

struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "kontor-cache-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path); }
  std::string path;
};

const Hash128 kKey = kernel_cache_key("kernel text", "machine");

CachedKernel sample(size_t bytes = 1000, char fill = 'x') {
  return {"softmax_12", 4096, std::string(bytes, fill)};
}

// All but the number that processes share.
std::vector<fs::path> files_of(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename() != "total") files.push_back(entry.path());
  return files;
}

fs::path only_file(const std::string& folder) {
  const std::vector<fs::path> files = files_of(folder);
  REQUIRE(files.size() == 1);
  return files[0];
}

std::string content(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void overwrite(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

bool holds_sample(const std::string& folder, Hash128 key = kKey) {
  KernelCache cache({folder});
  const auto kernel = cache.get(key);
  return kernel && kernel->name == "softmax_12" && kernel->scratch_bytes == 4096 &&
         kernel->binary == sample().binary;
}

}  // namespace

TEST_CASE("[runtime] a kernel put into the cache is found by another process") {
  const Folder folder;
  KernelCache cache({folder.path + "/a/b"});
  CHECK(cache.get(kKey) == nullptr);
  cache.put(kKey, sample());
  CHECK(cache.get(kKey)->binary == sample().binary);
  CHECK(holds_sample(folder.path + "/a/b"));
  CHECK_FALSE(holds_sample(folder.path + "/a/b", kernel_cache_key("kernel text", "other machine")));
  CHECK(cache.stats().memory_hits == 1);
  CHECK(cache.stats().misses == 1);
  CHECK(cache.stats().written == 1);
  REQUIRE(cache.list().size() == 1);
  CHECK(cache.list()[0].name == "softmax_12");
  CHECK(cache.list()[0].key == kKey.hex());
  CHECK(cache.clear() == 1);
  CHECK(cache.get(kKey) == nullptr);
  CHECK(cache.take_warnings().empty());
}

TEST_CASE("[runtime] a torn, foreign or older file is ignored and rewritten") {
  const Folder folder;
  KernelCache({folder.path}).put(kKey, sample());
  const fs::path file = only_file(folder.path);
  const std::string good = content(file);
  std::vector<std::string> bad = {"",
                                  "short",
                                  good.substr(0, 64),
                                  good.substr(0, good.size() - 1),
                                  good + "x",
                                  std::string(5000, '\0'),
                                  "#!/bin/sh\nexit 1\n" + good};
  for (const size_t at :
       {0u, 8u, 12u, 16u, 24u, 32u, 48u, 64u, 80u, 500u}) {  // each field, the name, the binary
    bad.push_back(good);
    bad.back()[at] = static_cast<char>(bad.back()[at] ^ 1);
  }
  for (const std::string& bytes : bad) {
    overwrite(file, bytes);
    KernelCache cache({folder.path});
    CHECK(cache.get(kKey) == nullptr);
    CHECK(cache.stats().rejected == 1);
    cache.put(kKey, sample());
    CHECK(holds_sample(folder.path));
    CHECK(cache.take_warnings().empty());
  }
  fs::rename(file, folder.path + "/" + kernel_cache_key("other", "machine").hex() + ".kernel");
  CHECK_FALSE(holds_sample(folder.path, kernel_cache_key("other", "machine")));
}

TEST_CASE("[runtime] writers at the same time leave whole files") {
  const Folder folder;
  const auto hammer = [&] {
    KernelCache cache({folder.path});
    for (int round = 0; round < 50; ++round) {
      for (int k = 0; k < 4; ++k) cache.put(kernel_cache_key(std::to_string(k), ""), sample());
    }
    return cache.take_warnings().empty();
  };
  const pid_t child = ::fork();
  if (child == 0) ::_exit(hammer() ? 0 : 1);
  std::thread other(hammer);
  CHECK(hammer());
  other.join();
  int status = 1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  for (int k = 0; k < 4; ++k) CHECK(holds_sample(folder.path, kernel_cache_key(std::to_string(k), "")));
  CHECK(KernelCache({folder.path}).list().size() == 4);
  CHECK(files_of(folder.path).size() == 4);
}

TEST_CASE("[runtime] a folder that cannot be written gives one warning and the cache goes on in memory") {
  const Folder folder;
  std::ofstream(folder.path + "/file") << "not a folder";
  for (const std::string& place :
       std::vector<std::string>{folder.path + "/file/cache", "/proc/kontor-cache", "/dev/full"}) {
    KernelCache cache({place});
    CHECK(cache.get(kKey) == nullptr);
    cache.put(kKey, sample());
    cache.put(kernel_cache_key("2", ""), sample());
    REQUIRE(cache.get(kKey) != nullptr);
    const std::vector<std::string> warnings = cache.take_warnings();
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find(place) != std::string::npos);
    CHECK(cache.take_warnings().empty());
  }
}

TEST_CASE("[runtime] a kernel that does not fit on the disk leaves nothing behind") {
  const Folder folder;
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{500, before.rlim_max};
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);  // files end at 500 bytes, as on a full disk
  KernelCache cache({folder.path});
  cache.put(kKey, sample());
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  CHECK(cache.get(kKey) != nullptr);
  CHECK(cache.take_warnings().size() == 1);
  CHECK(files_of(folder.path).empty());
}

TEST_CASE("[runtime] without a folder the cache works in memory") {
  KernelCache cache({});
  cache.put(kKey, sample());
  CHECK(cache.get(kKey) != nullptr);
  CHECK(cache.list().empty());
  CHECK(cache.clear() == 0);
  CHECK(cache.get(kKey) == nullptr);
  CHECK(cache.take_warnings().empty());
}

TEST_CASE("[runtime] the least recently used kernels go when the limit is reached") {
  const Folder folder;
  KernelCache cache({folder.path, 100000});
  for (int k = 0; k < 40; ++k) {
    const Hash128 key = kernel_cache_key(std::to_string(k), "");
    cache.put(key, sample(5000));
    const utimbuf long_ago{std::time(nullptr) - 1000000 + k, std::time(nullptr) - 1000000 + k};
    ::utime((folder.path + "/" + key.hex() + ".kernel").c_str(), &long_ago);
    CHECK(KernelCache({folder.path}).get(kernel_cache_key("0", "")));  // used again and again: it stays
  }
  int64_t total = 0;
  for (const auto& entry : cache.list()) total += entry.bytes;
  CHECK(total <= 100000);
  CHECK(total > 50000);
  KernelCache fresh({folder.path});
  CHECK(fresh.get(kernel_cache_key("0", "")));
  CHECK(fresh.get(kernel_cache_key("39", "")));
  CHECK_FALSE(fresh.get(kernel_cache_key("1", "")));
}

TEST_CASE("[runtime] a foreign file in the folder is left alone") {
  const Folder folder;
  std::ofstream(folder.path + "/README") << "mine";
  std::ofstream(folder.path + "/" + std::string(32, 'a') + ".kernel.tmp-1-1") << "being written";
  KernelCache cache({folder.path, 1});
  cache.put(kKey, sample());
  cache.clear();
  CHECK(fs::exists(folder.path + "/README"));
  CHECK(fs::exists(folder.path + "/" + std::string(32, 'a') + ".kernel.tmp-1-1"));
  CHECK(cache.list().empty());
}
