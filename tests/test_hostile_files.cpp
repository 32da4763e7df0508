// [hostile] files that were made to hurt a reader: bombs, pipes, huge headers, sizes that are not there.
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>

#include <fmt/format.h>

#include "base/file.h"
#include "base/memory.h"
#include "nn/dataset.h"
#include "nn/idx.h"
#include "nn/npy.h"
#include "nn/safetensors.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"
#include "tests/thinned.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

std::string idx_header(const std::vector<uint32_t>& shape) {
  std::string bytes = {0, 0, 8, static_cast<char>(shape.size())};
  for (uint32_t size : shape)
    for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>(size >> shift);
  return bytes;
}

/// A member of a gzip file: the bytes, then zeros, which are never in memory together.
std::string gzip(std::string bytes, uint64_t zeros = 0) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out, piece(1 << 16, '\0');
  const auto feed = [&](std::string& input, size_t size, int flush) {
    stream.next_in = reinterpret_cast<Bytef*>(input.data());
    stream.avail_in = static_cast<uInt>(size);
    char packed[1 << 16];
    do {
      stream.next_out = reinterpret_cast<Bytef*>(packed);
      stream.avail_out = sizeof packed;
      deflate(&stream, flush);
      out.append(packed, sizeof packed - stream.avail_out);
    } while (stream.avail_out == 0);
  };
  feed(bytes, bytes.size(), Z_NO_FLUSH);
  for (; zeros > 0; zeros -= std::min<uint64_t>(zeros, piece.size()))
    feed(piece, std::min<uint64_t>(zeros, piece.size()), Z_NO_FLUSH);
  feed(piece, 0, Z_FINISH);
  deflateEnd(&stream);
  return out;
}

long peak_kib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

std::string safetensors(const std::string& header, const std::string& data = "") {
  const uint64_t size = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + data;
}

/// Of the processor: a machine that does other things too does not count.
double seconds(const std::function<void()>& action) {
  const std::clock_t start = std::clock();
  action();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

}  // namespace

TEST_CASE("[hostile] a gzip bomb is refused by the counts in the headers, before it is unpacked") {
  const TemporaryFolder folder;
  const std::string images = folder / "train-images-idx3-ubyte.gz",
                    labels = folder / "train-labels-idx1-ubyte.gz";
  constexpr uint32_t kBomb = 256 << 20, kSome = 1 << 20;
  const std::string bomb = gzip("", kBomb), some = gzip("", kSome);
  CHECK(bomb.size() < 2 << 20);
  write_file(images, gzip(idx_header({kSome, 1, 1})) + some);
  write_file(labels, gzip(idx_header({kBomb})) + bomb);
  const long before = peak_kib();
  CHECK_THAT(error_of([&] { load_mnist(folder.path(), Split::Train); }),
             Contains("holds 1048576 images, but") && Contains("holds 268435456 labels"));
  write_file(images, gzip(idx_header({kBomb, 1, 1})) + bomb);
  write_file(labels, gzip(idx_header({kSome})) + some);
  CHECK_THAT(error_of([&] { load_mnist(folder.path(), Split::Train); }), Contains("holds 268435456 images"));
  // The labels are looked at first, since they are the smaller part of a data set.
  write_file(images, gzip(idx_header({kSome, 1, 256})) + bomb);
  write_file(labels, gzip(idx_header({kSome}) + "\xff", kSome - 1));
  CHECK_THAT(error_of([&] { load_mnist(folder.path(), Split::Train); }), Contains("label 255 at offset 8"));
  CHECK(peak_kib() - before < 100 << 10);
}

TEST_CASE("[hostile] every reader refuses what is not a regular file, at once") {
  const TemporaryFolder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  struct Row {
    const char* name;
    std::function<void(const std::string&)> read;
  };
  const Row readers[] = {
      {"read_file", [](const std::string& path) { read_file(path); }},
      {"MappedFile", [](const std::string& path) { MappedFile file(path); }},
      {"read_idx", [](const std::string& path) { read_idx(path, 1); }},
      {"read_npy", [](const std::string& path) { read_npy(path); }},
      {"read_safetensors", [](const std::string& path) { read_safetensors(path); }},
  };
  for (const Row& reader : readers) {
    INFO(reader.name);
    const std::pair<std::string, const char*> files[] = {
        {folder / "pipe", "a pipe"}, {folder.path(), "a folder"}, {"/dev/zero", "a device"}};
    for (const auto& file : files) {
      CHECK(error_of([&] { reader.read(file.first); }) ==
            fmt::format("cannot read {}: it is {}, not a regular file", file.first, file.second));
    }
  }
  REQUIRE(::mkfifo((folder / "train-images-idx3-ubyte").c_str(), 0600) == 0);
  write_file(folder / "train-labels-idx1-ubyte", idx_header({0}));
  CHECK_THAT(error_of([&] { load_mnist(folder.path(), Split::Train); }), Contains("it is a pipe"));
}

TEST_CASE("[hostile] a safetensors header takes time in proportion to its length") {
  const auto header_of = [](int count, const std::function<std::string(int)>& member) {
    std::string header = "{";
    for (int i = 0; i < count; ++i) header += (i > 0 ? "," : "") + member(i);
    return header + "}";
  };
  constexpr int kMany = 300'000;
  constexpr double most = sanitized ? 100 : 20;
  const auto array = [](int i) {
    return fmt::format(R"("a{}":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}})", i, i, i + 1);
  };
  const std::string many = safetensors(header_of(kMany, array), std::string(kMany, 'x'));
  ArrayFile file;
  CHECK(seconds([&] { file = parse_safetensors(many, "f"); }) < most);  // over a minute before
  REQUIRE(file.arrays.size() == kMany);
  CHECK(file.arrays[299'999].name == "a299999");
  std::string again;
  CHECK(seconds([&] { again = format_safetensors(file); }) < most);
  CHECK(parse_safetensors(again, "f").arrays.size() == kMany);
  // Members of what is no array, and of the metadata.
  const auto pair = [](int i) { return fmt::format(R"("k{}":"v")", i); };
  const std::string pairs = header_of(kMany, pair);
  CHECK(seconds([&] {
          CHECK(parse_safetensors(safetensors("{\"__metadata__\":" + pairs + "}"), "f").metadata.size() ==
                kMany);
        }) < most);
  CHECK(seconds([&] {
          CHECK_THAT(error_of([&] { parse_safetensors(safetensors("{\"a\":" + pairs + "}"), "f"); }),
                     Contains("a: not an object of dtype"));
        }) < most);
  const auto object = [](int i) { return fmt::format(R"("k{}":{{}})", i); };
  for (const char* form : {"{{\"a\":{}}}", "{{\"a\":[{}]}}", "{{\"__metadata__\":{}}}"}) {
    CHECK(seconds([&] {
            const std::string text = fmt::format(fmt::runtime(form), header_of(kMany, object));
            CHECK_THAT(error_of([&] { parse_safetensors(safetensors(text), "f"); }), Contains("f: "));
          }) < most);
  }
}

TEST_CASE("[hostile] sizes in files are checked before anything is allocated on their word") {
  const TemporaryFolder folder;
  const std::string rank65(65 * 2, '1');
  std::string ones;
  for (int i = 0; i < 32'000; ++i) ones += "1,";
  const auto npy = [](const std::string& shape, const std::string& data) {
    const std::string text = "{'descr': '|u1', 'fortran_order': True, 'shape': (" + shape + "), }";
    std::string bytes("\x93NUMPY\2\0", 8);
    for (int shift : {0, 8, 16, 24}) bytes += static_cast<char>(text.size() >> shift);
    return bytes + text + data;
  };
  CHECK_THAT(error_of([&] { parse_npy(npy(ones, "x"), "f"); }), Contains("more than 64 dimensions"));
  CHECK(parse_npy(npy(ones.substr(0, 128), "x"), "f").shape.size() == 64);
  CHECK_THAT(error_of([&] { parse_npy(npy(ones.substr(0, 130), "x"), "f"); }), Contains("more than 64"));
  const auto entry = [&](size_t rank) {
    return safetensors(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[" + ones.substr(0, 2 * rank - 1) + "],\"data_offsets\":[0,1]}}",
        "x");
  };
  CHECK(parse_safetensors(entry(64), "f").arrays[0].shape.size() == 64);
  CHECK_THAT(error_of([&] { parse_safetensors(entry(65), "f"); }),
             Contains("shape has 65 numbers, more than 64"));

  // A sparse file is as long as it says, and no memory holds it.
  const std::string path = folder / "sparse";
  const auto sparse = [&](const std::string& head) {
    write_file(path, head);
    REQUIRE(::truncate(path.c_str(), off_t{1} << 42) == 0);
  };
  sparse("x");
  CHECK_THAT(error_of([&] { read_file(path); }), Contains("bytes of memory are needed"));
  sparse(idx_header({1u << 31, 1u << 11}));
  CHECK_FALSE(error_of([&] { read_idx(path, 2); }).empty());
  const uint64_t data = (uint64_t{1} << 42) - 128;
  std::string text =
      fmt::format("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[0,{}]}}}}", data, data);
  text.resize(120, ' ');
  sparse(safetensors(text));
  CHECK_THAT(error_of([&] { read_safetensors(path); }), Contains("bytes of memory are needed"));
}

TEST_CASE("[hostile] memory that is left is asked for in words, and known") {
  CHECK_NOTHROW(require_memory(1 << 20, "a"));
  CHECK_THAT(
      error_of([] { require_memory(uint64_t{1} << 50, "a table"); }),
      Contains("a table: 1125899906842624 bytes of memory are needed, ") && Contains("are left (limit of "));
  CHECK(memory_left().bytes > 1 << 20);
  CHECK(memory_left().bytes < uint64_t{1} << 50);
}
