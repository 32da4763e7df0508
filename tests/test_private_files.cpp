// [private] what others may have planted is neither read nor written through: the kernel cache, kept sources and dumps.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include <fmt/format.h>

#include "base/file.h"
#include "base/private_folder.h"
#include "runtime/cache.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

constexpr uid_t kSomebody = 65534;

CachedKernel sample(size_t bytes = 1000) { return {"softmax_12", 4096, std::string(bytes, 'x')}; }
Hash128 key_of(int number) { return kernel_cache_key(std::to_string(number), "machine"); }
const Hash128 kKey = key_of(0);

std::string file_of(const TemporaryFolder& folder, Hash128 key = kKey) {
  return folder / (key.hex() + ".kernel");
}

mode_t mode_of(const std::string& path) {
  struct stat status{};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

/// Whether a cache of the folder finds the kernel; `warnings` gets what it said.
bool found(const std::string& folder, std::vector<std::string>& warnings) {
  KernelCache cache({folder});
  const bool result = cache.get(kKey) != nullptr;
  CHECK(cache.get(kKey).operator bool() == result);
  warnings = cache.take_warnings();
  return result;
}

int64_t kernel_bytes(const std::string& folder) {
  int64_t total = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::error_code gone;
    const auto size = fs::file_size(entry.path(), gone);
    if (!gone && entry.path().filename() != "total") total += static_cast<int64_t>(size);
  }
  return total;
}

}  // namespace

TEST_CASE("[private] the cache's folder and files are for this user alone, whatever the umask") {
  const TemporaryFolder folder;
  const mode_t before = ::umask(0);
  KernelCache({folder / "a/b"}).put(kKey, sample());
  ::umask(before);
  CHECK(mode_of(folder / "a/b") == 0700);
  for (const auto& entry : fs::directory_iterator(folder / "a/b")) CHECK(mode_of(entry.path()) == 0600);
}

TEST_CASE("[private] a cache folder that others can write, own, or have linked is not used") {
  const TemporaryFolder folder;
  const std::string place = folder / "cache";
  std::vector<std::string> warnings;
  const auto refused = [&](const std::string& path, const std::string& why) {
    INFO(path << " " << why);
    CHECK_FALSE(found(path, warnings));
    REQUIRE(warnings.size() == 1);
    CHECK_THAT(warnings[0], Contains(why) && Contains(path.substr(0, path.find_last_not_of('/') + 1)));
    KernelCache cache({path});
    cache.put(kKey, sample());
    CHECK(cache.get(kKey));  // in memory
    CHECK(cache.list().empty());
    CHECK(cache.clear() == 0);
    CHECK(cache.take_warnings().size() == 1);
  };
  KernelCache({place}).put(kKey, sample());
  CHECK(found(place, warnings));
  CHECK(warnings.empty());
  for (const mode_t mode : {0777u, 0770u, 0702u, 01777u}) {
    REQUIRE(::chmod(place.c_str(), mode) == 0);
    refused(place, "can be written by others");
  }
  REQUIRE(::chmod(place.c_str(), 0755) == 0);
  CHECK(found(place, warnings));
  REQUIRE(::symlink("cache", (folder / "link").c_str()) == 0);
  refused(folder / "link", "is a link");
  refused(folder / "link/", "is a link");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  refused(folder / "pipe", "cannot open");
  if (::geteuid() != 0) KONTOR_SKIP("the rest changes owners, which root alone can");
  REQUIRE(::chown(place.c_str(), kSomebody, kSomebody) == 0);
  refused(place, "belongs to user 65534");
  CHECK(fs::exists(place + "/" + kKey.hex() + ".kernel"));
}

TEST_CASE("[private] a planted file in the cache is not run, with one warning, and is replaced") {
  const TemporaryFolder folder;
  KernelCache({folder.path()}).put(kKey, sample());
  const std::string file = file_of(folder), good = read_file(file);
  struct Row {
    const char* why;
    std::function<void()> plant;
  };
  const auto write_good = [&](const std::string& path, mode_t mode) {
    write_file(path, good);
    REQUIRE(::chmod(path.c_str(), mode) == 0);
  };
  std::vector<Row> rows = {
      {"can be written by others", [&] { write_good(file, 0660); }},
      {"can be written by others", [&] { write_good(file, 0602); }},
      {"is a link",
       [&] {
         write_good(folder / "elsewhere", 0600);
         REQUIRE(::symlink("elsewhere", file.c_str()) == 0);
       }},
      {"is a pipe", [&] { REQUIRE(::mkfifo(file.c_str(), 0600) == 0); }},
      {"more than the 67108864 it can have",
       [&] {
         write_good(file, 0600);
         REQUIRE(::truncate(file.c_str(), off_t{1} << 40) == 0);
       }},
  };
  if (::geteuid() == 0) {
    rows.push_back({"belongs to user 65534", [&] {
                      write_good(file, 0600);
                      REQUIRE(::chown(file.c_str(), kSomebody, kSomebody) == 0);
                    }});
    const auto make_device = [&] { return ::mknod(file.c_str(), S_IFCHR | 0600, makedev(1, 5)) == 0; };
    fs::remove(file);
    if (make_device())  // not in every container
      rows.push_back({"is a device", [make_device] { REQUIRE(make_device()); }});
  }
  for (const Row& row : rows) {
    INFO(row.why);
    fs::remove(file);
    row.plant();
    std::vector<std::string> warnings;
    CHECK_FALSE(found(folder.path(), warnings));
    REQUIRE(warnings.size() == 1);
    CHECK_THAT(warnings[0], Contains(row.why) && Contains(file));
    KernelCache cache({folder.path()});
    cache.put(kKey, sample());
    CHECK(cache.take_warnings().empty());
    CHECK(found(folder.path(), warnings));
    CHECK(warnings.empty());
    CHECK(fs::is_regular_file(fs::symlink_status(file)));
  }
  CHECK(read_file(folder / "elsewhere") == good);  // the link was replaced, not what it led to
}

TEST_CASE("[private] writing never follows a link, also not that of the lock or a temporary file") {
  const TemporaryFolder folder;
  write_file(folder / "precious", "precious");
  const std::string cache = folder / "cache";
  REQUIRE(::mkdir(cache.c_str(), 0700) == 0);
  for (const std::string& name : {kKey.hex() + ".kernel", std::string("total")})
    REQUIRE(::symlink((folder / "precious").c_str(), (cache + "/" + name).c_str()) == 0);
  for (int i = 0; i < 1000; ++i) {
    const std::string name = fmt::format("{}/{}.kernel.tmp-{}-{}", cache, kKey.hex(), ::getpid(), i);
    REQUIRE(::symlink((folder / "precious").c_str(), name.c_str()) == 0);
  }
  KernelCache first({cache});
  first.put(kKey, sample());
  CHECK(first.take_warnings().size() == 1);  // of the lock: without it nothing is written
  fs::remove(cache + "/total");
  KernelCache second({cache});
  second.put(kKey, sample());
  CHECK(second.take_warnings().empty());
  CHECK(read_file(folder / "precious") == "precious");
  replace_file(folder / "cache/" + kKey.hex() + ".kernel.tmp-" + std::to_string(::getpid()) + "-999", "dump");
  CHECK(read_file(folder / "precious") == "precious");
}

TEST_CASE("[private] the limit of the cache holds at every moment for all processes together") {
  const TemporaryFolder folder;
  constexpr int64_t kLimit = 100000;
  const auto write_many = [&](int process) {
    KernelCache cache({folder.path(), kLimit});
    int64_t most = 0;
    for (int k = 0; k < 60; ++k) {
      cache.put(key_of(process * 1000 + k), sample(3000));
      most = std::max(most, kernel_bytes(folder.path()));
    }
    return most <= kLimit && cache.take_warnings().empty();
  };
  constexpr int kProcesses = 24;
  for (int i = 1; i <= kProcesses; ++i) {
    if (::fork() == 0) ::_exit(write_many(i) ? 0 : 1);
  }
  for (int i = 0; i < kProcesses; ++i) {
    int status = 1;
    ::wait(&status);
    CHECK(status == 0);
  }
  CHECK(kernel_bytes(folder.path()) <= kLimit);
  CHECK(kernel_bytes(folder.path()) > kLimit / 2);
  KernelCache cache({folder.path(), kLimit});
  cache.put(key_of(1), sample(kLimit));  // alone too large
  CHECK(cache.list().size() > 10);
  for (const char* text :
       {"", "x", "-5\n", "1", "99999999999999999999\n"}) {  // a damaged number is counted anew
    write_file(folder / "total", text);
    REQUIRE(::chmod((folder / "total").c_str(), 0600) == 0);
    cache.put(key_of(2), sample(3000));
    CHECK(kernel_bytes(folder.path()) <= kLimit);
    CHECK(KernelCache({folder.path(), kLimit}).get(key_of(2)));
  }
  CHECK(cache.take_warnings().empty());
}

TEST_CASE("[private] a lock that nobody gives back costs cached files, not the answer") {
  const TemporaryFolder folder;
  KernelCache({folder.path()}).put(key_of(1), sample());
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const int file = ::open((folder / "total").c_str(), O_RDWR);
    if (::flock(file, LOCK_EX) != 0 || ::write(ready[1], "", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  KernelCache cache({folder.path()});
  cache.put(kKey, sample());
  CHECK(cache.get(kKey));
  CHECK_FALSE(fs::exists(file_of(folder)));
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);
  cache.put(kKey, sample());
  CHECK(fs::exists(file_of(folder)));
  CHECK(cache.take_warnings().empty());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE(
    "[private] texts are kept in a folder of one's own, or under a new name where another has taken it") {
  const TemporaryFolder folder;
  const char* before = std::getenv("TMPDIR");
  const std::string was = before != nullptr ? before : "";
  ::setenv("TMPDIR", folder.path().c_str(), 1);
  const std::string own = fmt::format("{}/kontor-{}", folder.path(), ::geteuid());
  const std::string first = keep_text("a-1.ll", "text");
  CHECK(first == own + "/a-1.ll");
  CHECK(mode_of(own) == 0700);
  CHECK(mode_of(first) == 0600);
  CHECK(read_file(first) == "text");
  CHECK(keep_text("../../x/y.ll", "t") == own + "/.._.._x_y.ll");
  write_file(folder / "precious", "precious");
  REQUIRE(::symlink((folder / "precious").c_str(), (own + "/b.ll").c_str()) == 0);
  CHECK(read_file(keep_text("b.ll", "text")) == "text");
  fs::remove_all(own);
  REQUIRE(::symlink(folder.path().c_str(), own.c_str()) == 0);  // planted
  const std::string second = keep_text("precious", "text"), third = keep_text("b.ll", "text");
  CHECK_THAT(second, Contains("/kontor-precious-"));
  CHECK_THAT(third, Contains("/kontor-b-") && Catch::Matchers::EndsWith(".ll"));
  CHECK(mode_of(third) == 0600);
  CHECK(read_file(third) == "text");
  CHECK(read_file(folder / "precious") == "precious");
  ::setenv("TMPDIR", (folder / "none").c_str(), 1);
  CHECK_THAT(error_of([] { keep_text("b.ll", "text"); }), Contains("cannot write"));
  was.empty() ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", was.c_str(), 1);
}
