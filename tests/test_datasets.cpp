// IDX files, datasets, samplers and the prefetch thread.
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/file.h"
#include "nn/dataset.h"
#include "nn/idx.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

std::string idx(const std::vector<uint32_t>& shape, const std::string& data, uint8_t type = 8) {
  std::string bytes = {0, 0, static_cast<char>(type), static_cast<char>(shape.size())};
  for (uint32_t size : shape)
    for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>(size >> shift);
  return bytes + data;
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string some_bytes(size_t count) {
  std::string bytes(count, '\0');
  uint32_t state = 1;
  for (char& c : bytes) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

/// A folder with a small MNIST of 4 training images, 2 x 3.
void write_small(const TemporaryFolder& folder) {
  write_file(folder / "train-images-idx3-ubyte.gz", gzip(idx({4, 2, 3}, "aaaaaabbbbbbccccccdddddd")));
  write_file(folder / "train-labels-idx1-ubyte", idx({4}, std::string("\0\1\2\3", 4)));
}

}  // namespace

TEST_CASE("[idx] plain, gzipped and in two gzip members") {
  TemporaryFolder folder;
  const std::string data = some_bytes(1000 * 28 * 28), file = idx({1000, 28, 28}, data);
  const size_t half = file.size() / 3;
  for (const std::string& bytes : {file, gzip(file), gzip(file.substr(0, half)) + gzip(file.substr(half))}) {
    write_file(folder / "f", bytes);
    const IdxArray array = read_idx(folder / "f", 3);
    CHECK(array.shape == std::vector<int64_t>{1000, 28, 28});
    CHECK(std::string(array.data.begin(), array.data.end()) == data);
  }
}

TEST_CASE("[idx] bad files are refused, and why") {
  TemporaryFolder folder;
  struct Row {
    std::string bytes;
    const char* part;
  };
  const std::string good = idx({2, 2, 3}, "abcdefghijkl");
  std::string packed = gzip(idx({64, 28, 28}, some_bytes(64 * 28 * 28)));
  std::string flipped = packed, bad_sum = packed;
  flipped[packed.size() / 2] = static_cast<char>(flipped[packed.size() / 2] ^ 0x55);
  bad_sum[packed.size() - 6] = static_cast<char>(bad_sum[packed.size() - 6] ^ 1);
  const Row rows[] = {
      {"", ": IDX: truncated: 0 bytes, the header needs 16"},
      {good.substr(0, 3), "truncated: 3 bytes, the header needs 16"},
      {good.substr(0, 11), "truncated: 11 bytes, the header needs 16"},
      {good.substr(0, 20), "header at offset 4 says 2 x 2 x 3 bytes, but the file has 20 bytes"},
      {good + "m", "bytes follow offset 28, where 2 x 2 x 3 elements end"},
      {"\x89PNG\r\n\x1a\n........", "not an IDX file: bytes 89 50 4e 47 at offset 0, expected 00 00 08 03"},
      {idx({2, 2, 3}, "abcdefghijkl", 0x0D), "element type 0x0d (f32) at offset 2, expected 0x08 (u8)"},
      {idx({2, 2, 3}, "abcdefghijkl", 0x77), "element type 0x77 (unknown) at offset 2"},
      {idx({12}, "abcdefghijkl"), "1 dimensions at offset 3, expected 3"},
      {idx({0xffffffff, 0xffffffff, 0xffffffff}, "ab"),
       "4294967295 x 4294967295 x 4294967295 bytes, but the file has 18 bytes"},
      {gzip(idx({0xffffffff, 28, 28}, "ab")), "says 4294967295 x 28 x 28 bytes, but the file has"},
      {gzip(idx({60, 28, 28}, std::string(59 * 784, 'x'))),
       "truncated: 60 x 28 x 28 needs 47040 bytes from offset 16, only 46256"},
      {gzip(good + "m"), "bytes follow offset 28"},
      {gzip(good) + "garbage", ": gzip: 7 bytes at offset"},
      {packed.substr(0, packed.size() / 2), "gzip: truncated: the file ends at offset"},
      {packed.substr(0, packed.size() - 1), "gzip: truncated: the file ends at offset"},
      {packed.substr(0, 5), "gzip: truncated: the file ends at offset 5, after 0 unpacked bytes"},
      {flipped, ": gzip: "},
      {bad_sum, "gzip: corrupt near offset"},
      {std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10) + std::string(100, '\xff'), "gzip: corrupt near offset"},
      {std::string("\x1f\x8b") + std::string(100, '\xff'), "gzip: corrupt near offset"},
      {gzip(""), "truncated: 0 bytes, the header needs 16"},
  };
  const std::string path = folder / "f";
  for (const Row& row : rows) {
    write_file(path, row.bytes);
    const std::string text = error_of([&] { read_idx(path, 3); });
    INFO(row.part);
    CHECK_THAT(text, Catch::Matchers::StartsWith(path + ": ") && Contains(row.part));
  }
  CHECK(error_of([&] { read_idx(folder / "none", 3); }) ==
        "cannot read " + (folder / "none") + ": No such file or directory");
}

TEST_CASE("[dataset] MNIST by folder, plain or gzipped") {
  TemporaryFolder folder;
  write_small(folder);
  const Dataset data = load_mnist(folder.path(), Split::Train);
  CHECK(data.count == 4);
  CHECK(data.rows == 2);
  CHECK(data.cols == 3);
  const std::vector<int64_t> samples = {3, 0, 3};
  const Batch batch = gather(data, samples);
  CHECK(std::string(batch.images.begin(), batch.images.end()) == "ddddddaaaaaadddddd");
  CHECK(batch.labels == std::vector<uint8_t>{3, 0, 3});
  const std::vector<int64_t> outside = {4};
  CHECK(error_of([&] { gather(data, outside); }) == "sample 4 of a dataset of 4");
}

TEST_CASE("[dataset] a folder that holds no MNIST, or half of one") {
  TemporaryFolder folder;
  CHECK(error_of([&] { load_mnist(folder.path(), Split::Test); }) ==
        "no MNIST in " + folder.path() +
            ": neither t10k-images-idx3-ubyte nor t10k-images-idx3-ubyte.gz is there " +
            "(looked for {train,t10k}-images-idx3-ubyte[.gz] and {train,t10k}-labels-idx1-ubyte[.gz])");
  write_small(folder);
  CHECK_THAT(error_of([&] { load_mnist(folder.path(), Split::Test); }), Contains("neither t10k-images"));
  const std::string labels = folder / "train-labels-idx1-ubyte";
  write_file(labels, idx({3}, "\1\2\3"));
  CHECK(error_of([&] { load_mnist(folder.path(), Split::Train); }) ==
        (folder / "train-images-idx3-ubyte.gz") + " holds 4 images, but " + labels + " holds 3 labels");
  write_file(labels, idx({4}, "\1\2\12\3"));
  CHECK(error_of([&] { load_mnist(folder.path(), Split::Train); }) ==
        labels + ": label 10 at offset 10 is not below 10");
  write_file(labels, idx({0}, ""));
  write_file(folder / "train-images-idx3-ubyte", idx({0, 28, 28}, ""));
  CHECK_THAT(error_of([&] { load_mnist(folder.path(), Split::Train); }), Contains("no image: 0 x 28 x 28"));
}

TEST_CASE("[dataset] the real MNIST") {
  // Beside the repository or beside a worktree of it, from the root or from the build folder.
  std::string folder = "shared/data/mnist";
  for (int up = 0; up < 4 && !std::filesystem::exists(folder); ++up) folder = "../" + folder;
  if (!std::filesystem::exists(folder)) KONTOR_SKIP("no ../shared/data/mnist");
  const Dataset train = load_mnist(folder, Split::Train), test = load_mnist(folder, Split::Test);
  CHECK(train.count == 60000);
  CHECK(test.count == 10000);
  CHECK(std::vector<uint8_t>(train.labels.begin(), train.labels.begin() + 5) ==
        std::vector<uint8_t>{5, 0, 4, 1, 9});
  int64_t sum = 0;
  for (uint8_t pixel : test.images) sum += pixel;
  CHECK(sum == 264923200);
}

TEST_CASE("[sampler] steps are functions of seed and step") {
  const Sampler drawn{100, 32, 7, Sampling::Replacement};
  CHECK(drawn.samples(5) == drawn.samples(5));
  CHECK(drawn.samples(5) != drawn.samples(6));
  CHECK(drawn.samples(5) != Sampler{100, 32, 8, Sampling::Replacement}.samples(5));
  // With replacement 20,000 draws of 100 hit each about 200 times (standard deviation 14), and some repeat in
  // a batch.
  std::vector<int> hits(100);
  for (int64_t step = 0; step < 625; ++step)
    for (int64_t sample : drawn.samples(step)) ++hits.at(static_cast<size_t>(sample));
  CHECK(*std::min_element(hits.begin(), hits.end()) > 140);
  CHECK(*std::max_element(hits.begin(), hits.end()) < 260);
  CHECK(error_of([] { Sampler{0, 4, 1, Sampling::Epochs}.samples(0); }) ==
        "sampler: step 0, batch 4 of 0 samples");
}

TEST_CASE("[sampler] an epoch holds every sample once, across batches that don't divide it") {
  const Sampler sampler{10, 4, 1, Sampling::Epochs};
  std::vector<int64_t> all;
  for (int64_t step = 0; step < 5; ++step)
    for (int64_t sample : sampler.samples(step)) all.push_back(sample);
  const std::vector<int64_t> first(all.begin(), all.begin() + 10), second(all.begin() + 10, all.end());
  CHECK(std::set<int64_t>(first.begin(), first.end()).size() == 10);
  CHECK(std::set<int64_t>(second.begin(), second.end()).size() == 10);
  CHECK(first != second);
}

TEST_CASE("[prefetch] the batches of the sampler, in order, from any step") {
  TemporaryFolder folder;
  write_small(folder);
  const Dataset data = load_mnist(folder.path(), Split::Train);
  const Sampler sampler{data.count, 3, 11, Sampling::Epochs};
  Prefetcher all(data, sampler), resumed(data, sampler, 20, 1);
  for (int64_t step = 0; step < 40; ++step) {
    const Batch batch = all.next(), direct = gather(data, sampler.samples(step));
    REQUIRE(batch.step == step);
    REQUIRE(batch.images == direct.images);
    REQUIRE(batch.labels == direct.labels);
    if (step >= 20) REQUIRE(resumed.next().images == direct.images);
  }
  CHECK(error_of([&] { Prefetcher p(data, {5, 3, 1, Sampling::Epochs}); }) ==
        "prefetch: batch 3 of 5 samples, from a dataset of 4");
}

TEST_CASE("[prefetch] is bounded, stops cleanly and passes exceptions on in their turn") {
  std::atomic<int> made{0};
  {
    Prefetcher prefetcher([&](int64_t) { return ++made, Batch{}; }, 0, 3);
    prefetcher.next();
    prefetcher.next();
    for (int i = 0; i < 1000 && made < 5; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(made == 5);  // two taken, three in store
  }
  Prefetcher failing(
      [](int64_t step) { return step == 2 ? throw std::runtime_error("disk gone") : Batch{}; });
  CHECK(failing.next().step == 0);
  CHECK(failing.next().step == 1);
  CHECK_THROWS_WITH(failing.next(), "disk gone");
  CHECK_THROWS_WITH(failing.next(), "disk gone");
  CHECK(error_of([] { Prefetcher p([](int64_t) { return Batch{}; }, 0, 0); }) == "prefetch: depth 0");
}
