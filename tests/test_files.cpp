// Files, JSON, random numbers: what base/ promises about bytes on disk, also when the disk is full.
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <set>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "base/threefry.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

__extension__ using Wide = unsigned __int128;

/// While it lives, no file of this process may grow beyond `bytes`: a full disk, without one.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

}  // namespace

TEST_CASE("[file] written bytes are read back, whole and mapped") {
  TemporaryFolder folder;
  for (size_t size : {size_t{0}, size_t{1}, size_t{65536}, size_t{65537}, size_t{1000003}}) {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7);
    write_file(folder / "f", bytes);
    CHECK(read_file(folder / "f") == bytes);
    CHECK(MappedFile(folder / "f").text() == bytes);
  }
  const std::array<std::string_view, 3> parts = {"ab", "", "c"};
  write_file(folder / "f", parts, Durable::Yes);
  CHECK(read_file(folder / "f") == "abc");
  CHECK(folder.entries() == 1);
  CHECK(!read_file("/proc/self/status").empty());  // its size is said to be 0
}

TEST_CASE("[file] a mapped file outlives its replacement") {
  TemporaryFolder folder;
  write_file(folder / "f", "old");
  MappedFile first(folder / "f");
  write_file(folder / "f", "new!");
  MappedFile moved = std::move(first);
  CHECK(moved.text() == "old");
  CHECK(MappedFile(folder / "f").text() == "new!");
}

TEST_CASE("[file] replacing keeps mode and link") {
  TemporaryFolder folder;
  write_file(folder / "f", "x");
  REQUIRE(::chmod((folder / "f").c_str(), 0640) == 0);
  REQUIRE(::symlink("f", (folder / "link").c_str()) == 0);
  write_file(folder / "link", "y");
  CHECK(read_file(folder / "f") == "y");
  struct stat status{};
  REQUIRE(::lstat((folder / "link").c_str(), &status) == 0);
  CHECK(S_ISLNK(status.st_mode));
  REQUIRE(::stat((folder / "f").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
}

TEST_CASE("[file] errors name path and reason") {
  TemporaryFolder folder;
  const std::string missing = folder / "none/f";
  CHECK(error_of([&] { read_file(missing); }) == "cannot read " + missing + ": No such file or directory");
  CHECK(error_of([&] { MappedFile m(missing); }) == "cannot read " + missing + ": No such file or directory");
  CHECK(error_of([&] { write_file(missing, "abc"); }) ==
        "cannot write " + missing + ": 3 bytes needed: No such file or directory");
  CHECK(error_of([&] { read_file(folder.path()); }) ==
        "cannot read " + folder.path() + ": it is a folder, not a regular file");
  CHECK(error_of([&] { write_file(folder.path(), ""); }) ==
        "cannot write " + folder.path() + ": 0 bytes needed: Is a directory");
  CHECK(error_of([&] { MappedFile m("/dev/null"); }) ==
        "cannot read /dev/null: it is a device, not a regular file");
  write_file(folder / "f", "");
  CHECK(error_of([&] { make_folders(folder / "f/g"); }) ==
        "cannot make folder " + (folder / "f") + ": Not a directory");
  CHECK_NOTHROW(make_folders(folder / "a/b//c/"));
  CHECK_NOTHROW(write_file(folder / "a/b/c/f", "x"));
}

TEST_CASE("[file] a full disk leaves the old file and nothing else") {
  TemporaryFolder folder;
  write_file(folder / "f", "old");
  std::string text;
  {
    SizeLimit limit(100000);
    text = error_of([&] { write_file(folder / "f", std::string(250000, 'x')); });
  }
  CHECK(text == "cannot write " + (folder / "f") + ": 250000 bytes needed: File too large");
  CHECK(read_file(folder / "f") == "old");
  CHECK(folder.entries() == 1);
  {
    SizeLimit limit(100000);
    CHECK(!error_of([&] { write_file(folder / "g", std::string(250000, 'x')); }).empty());
  }
  CHECK(folder.entries() == 1);
}

TEST_CASE("[file] a device is written in place, and its error is told") {
  CHECK(error_of([] { write_file("/dev/full", "abc"); }) ==
        "cannot write /dev/full: 3 bytes needed: No space left on device");
  CHECK_NOTHROW(write_file("/dev/null", "abc"));
  struct stat status{};
  REQUIRE(::stat("/dev/null", &status) == 0);
  CHECK(S_ISCHR(status.st_mode));
}

TEST_CASE("[file] a reader sees the old or the new, never half") {
  TemporaryFolder folder;
  const std::string a(300000, 'a'), b(400000, 'b');
  write_file(folder / "f", a);
  std::thread writer([&] {
    for (int i = 0; i < 100; ++i) write_file(folder / "f", i % 2 ? a : b);
  });
  int torn = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string seen = read_file(folder / "f");
    torn += seen != a && seen != b;
  }
  writer.join();
  CHECK(torn == 0);
}

TEST_CASE("[json] strict errors name source and byte") {
  struct Row {
    const char* text;
    const char* part;
  };
  const Row rows[] = {
      {"", "bad JSON at byte 1: syntax error"},
      {"{\"a\":1,}", "bad JSON at byte 8"},
      {"{\"a\":1} x", "bad JSON at byte 9"},
      {"[1,2", "bad JSON at byte 5"},
      {"{\"a\":1,\"a\":2}", "key \"a\" stands twice"},
      {"[{\"b\":{\"c\":1},\"c\":0,\"b\":2}]", "key \"b\" stands twice"},
      {"\"\x80\"", "ill-formed UTF-8"},
      {"// c\n1", "bad JSON at byte 1"},
      {"1e999", "number overflow"},
      {"NaN", "bad JSON at byte"},
  };
  for (const Row& row : rows) {
    const std::string text = error_of([&] { parse_json(row.text, "file.json"); });
    INFO(row.text);
    CHECK_THAT(text, Contains("file.json: ") && Contains(row.part));
  }
  const std::string deep(100000, '[');
  CHECK_THAT(error_of([&] { parse_json(deep, "deep"); }), Contains("deep: bad JSON"));
  const Json value = parse_json(R"({"z":18446744073709551615,"a":[1.5,true,null,"é\n"]})", "x");
  CHECK(value["z"].get<uint64_t>() == UINT64_MAX);
  CHECK(value.dump() == R"({"z":18446744073709551615,"a":[1.5,true,null,"é\n"]})");
}

TEST_CASE("[random] Threefry gives the published answers") {
  // Known answers of Random123's kat_vectors, threefry2x32 20.
  static_assert(threefry2x32({0, 0}, {0, 0}) == Threefry{0x6b200159, 0x99ba4efe});
  const uint32_t ones = 0xffffffff;
  CHECK(threefry2x32({ones, ones}, {ones, ones}) == Threefry{0x1cb996fc, 0xbb002be7});
  CHECK(threefry2x32({0x13198a2e, 0x03707344}, {0x243f6a88, 0x85a308d3}) == Threefry{0xc4923a9c, 0x483df7a0});
  // spec/marketplace.md, 1.7: block i of a tensor of 6 words there is (i, i + 3).
  const float expected[] = {0.5452135801f, 0.2810745239f, 0.4398590326f,
                            0.6165577173f, 0.0470095873f, 0.5229370594f};
  for (uint32_t i = 0; i < 3; ++i) {
    const Threefry block = threefry2x32({123456, 0}, {i, i + 3});
    CHECK(unit_float(block[0]) == expected[i]);
    CHECK(unit_float(block[1]) == expected[i + 3]);
  }
}

TEST_CASE("[random] words, bounds, keys and orders") {
  CHECK(random_word(5, 7, 0) == threefry2x32({5, 0}, {7, 0})[0]);
  CHECK(random_word(5, 7, 3) == threefry2x32({5, 0}, {8, 0})[1]);
  CHECK(random_word(uint64_t{5} << 32, uint64_t{7} << 32, 0) == threefry2x32({0, 5}, {0, 7})[0]);
  for (uint64_t bound : {uint64_t{1}, uint64_t{3}, uint64_t{60000}, uint64_t{1} << 63, UINT64_MAX})
    for (uint64_t i = 0; i < 200; ++i) {
      const auto wide = static_cast<Wide>(random_bits64(9, i)) * bound;
      REQUIRE(random_below(9, i, bound) == static_cast<uint64_t>(wide >> 64));
    }
  CHECK(subkey(1, 0) != subkey(1, 1));
  for (uint64_t count :
       {uint64_t{1}, uint64_t{2}, uint64_t{3}, uint64_t{17}, uint64_t{64}, uint64_t{12000}}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < count; ++i) seen.insert(permuted(3, count, i));
    CHECK(seen.size() == count);
    CHECK(*seen.rbegin() == count - 1);
  }
  // Every value is equally likely at every place: 6! orders of 6 would need 720 keys; 36 cells of 3000 keys
  // need fewer.
  int cells[6][6] = {};
  for (uint64_t key = 0; key < 3000; ++key)
    for (uint64_t i = 0; i < 6; ++i) ++cells[i][permuted(subkey(key, 1), 6, i)];
  double chi2 = 0;
  for (auto& row : cells)
    for (int cell : row) chi2 += (cell - 500.0) * (cell - 500.0) / 500.0;
  CHECK(chi2 < 60);  // 25 degrees of freedom: exceeded once in 10,000 by chance
}
