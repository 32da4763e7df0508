// Array files: safetensors and .npy, written, read, and refused.
#include <cstring>
#include <vector>

#include "base/file.h"
#include "graph/dtype.h"
#include "nn/npy.h"
#include "nn/safetensors.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/temporary_folder.h"

using namespace kontor;
using Catch::Matchers::Contains;

namespace {

std::vector<std::byte> counting(size_t count) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

std::string sized(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + data;
}

std::string npy(const std::string& dictionary, const std::string& data, char major = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += {major, '\0', static_cast<char>(dictionary.size()), '\0'};
  if (major > 1) bytes += std::string(2, '\0');
  return bytes + dictionary + data;
}

std::string text_of(const NpyArray& array) {
  return {reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size()};
}

}  // namespace

TEST_CASE("[safetensors] what is written is read") {
  TemporaryFolder folder;
  ArrayFile file;
  file.metadata = {{"format", "kontor"}, {"note", "quotes \" and é\n"}};
  file.arrays = {{"b", DType::U8, {3}, counting(3)},
                 {"layers.0.weight", DType::F32, {2, 3}, counting(24)},
                 {"empty", DType::F64, {0, 4}, {}},
                 {"scalar", DType::I64, {}, counting(8)},
                 {"half", DType::BF16, {1}, counting(2)}};
  write_safetensors(folder / "m.safetensors", file);
  ArrayFile read = read_safetensors(folder / "m.safetensors");
  CHECK(read.metadata == file.metadata);
  REQUIRE(read.arrays.size() == file.arrays.size());
  for (const ArrayRecord& array : file.arrays) CHECK(read.at(array.name, "m") == array);
  CHECK(error_of([&] { read.at("bias", "m"); }) ==
        "m: no array bias; it holds empty, scalar, layers.0.weight, half, b");

  const std::string bytes = read_file(folder / "m.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  CHECK((8 + header) % 8 == 0);
  std::swap(file.arrays[0], file.arrays[4]);
  CHECK(format_safetensors(file) == bytes);
}

TEST_CASE("[safetensors] every dtype has a tag of its own") {
  ArrayFile file;
  for (int code = 1; code <= static_cast<int>(DType::F64); ++code) {
    const auto dtype = static_cast<DType>(code);
    file.arrays.push_back(
        {std::string(name(dtype)), dtype, {5}, counting(5 * static_cast<size_t>(item_size(dtype)))});
  }
  const ArrayFile read = parse_safetensors(format_safetensors(file), "x");
  for (const ArrayRecord& array : file.arrays) CHECK(read.at(array.name, "x") == array);
}

TEST_CASE("[safetensors] a file of the reference implementation") {
  // Bytes of safetensors.numpy.save({"a": arange(3) as i2, "b": 1.5 as f4}, {"k": "v"}), version 0.8.0.
  const std::string bytes =
      sized(R"({"__metadata__":{"k":"v"},"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
            R"("a":{"dtype":"I16","shape":[3],"data_offsets":[4,10]}}    )",
            std::string("\0\0\xc0\x3f\0\0\1\0\2\0", 10));
  const ArrayFile file = parse_safetensors(bytes, "x");
  float b = 0;
  std::memcpy(&b, file.at("b", "x").bytes.data(), 4);
  CHECK(b == 1.5f);
  CHECK(file.at("a", "x").shape == std::vector<int64_t>{3});
  CHECK(file.metadata.at("k") == "v");
}

TEST_CASE("[safetensors] bad files are refused, and why") {
  struct Row {
    std::string bytes;
    const char* part;
  };
  const std::string a4 = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const Row rows[] = {
      {"", "f: safetensors: 0 bytes, the header size alone takes 8"},
      {"\x10\0\0", "the header size alone takes 8"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10),
       "header of 18446744073709551615 bytes, more than"},
      {std::string("\x40\0\0\0\0\0\0\0{}", 10), "truncated: header of 64 bytes, but 2 bytes follow"},
      {sized("  {}", ""), "does not begin with {"},
      {sized("{", ""), "f: safetensors header: bad JSON at byte 2"},
      {sized("{" + a4 + "," + a4 + "}", "1234"), "key \"a\" stands twice"},
      {sized("{\"a\":3}", ""), "a: not an object of dtype, shape, data_offsets"},
      {sized(R"({"a":{"dtype":"U8","shape":[4],"offsets":[0,4]}})", "1234"), "a: no data_offsets"},
      {sized(R"({"a":{"dtype":"Q8","shape":[4],"data_offsets":[0,4]}})", "1234"),
       "a: dtype \"Q8\" is unknown"},
      {sized(R"({"a":{"dtype":8,"shape":[4],"data_offsets":[0,4]}})", "1234"), "a: dtype 8 is unknown"},
      {sized(R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", "1234"),
       "a: shape is [-4], not a list of sizes"},
      {sized(R"({"a":{"dtype":"U8","shape":4,"data_offsets":[0,4]}})", "1234"),
       "a: shape is 4, not a list of sizes"},
      {sized(R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,4]}})", "1234"), "a: shape is [1.5]"},
      {sized(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4]}})", "1234"),
       "data_offsets [4] is not [begin, end]"},
      {sized(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", "1234"),
       "data_offsets [4, 0] is not [begin, end]"},
      {sized("{" + a4 + "}", "123"), "a: data_offsets [0, 4] leave the 3 bytes of data (truncated?)"},
      {sized("{" + a4 + "}", "12345"), "bytes 4 to 5 of the data belong to no array"},
      {sized(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}})", "1234"),
       "a: f32[4] does not take the 4 bytes"},
      {sized(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", ""),
       "a: f32[4611686018427387904, 4] does not take the 0 bytes"},
      {sized("{" + a4 + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", "123456"),
       "b [2, 6] overlaps a [0, 4]"},
      {sized("{" + a4 + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})", "123456"),
       "bytes 4 to 5 of the data belong"},
      {sized(R"({"__metadata__":{"k":1}})", ""), "__metadata__: k is 1, not a string"},
      {sized(R"({"__metadata__":[]})", ""), "__metadata__ is not an object"},
  };
  for (const Row& row : rows) {
    const std::string text = error_of([&] { parse_safetensors(row.bytes, "f"); });
    INFO(row.part);
    CHECK_THAT(text, Catch::Matchers::StartsWith("f: ") && Contains(row.part));
  }
}

TEST_CASE("[safetensors] a torn file never passes") {
  ArrayFile file;
  file.arrays = {{"a", DType::F32, {5}, counting(20)}, {"b", DType::U8, {3}, counting(3)}};
  const std::string bytes = format_safetensors(file);
  for (size_t size = 0; size < bytes.size(); ++size)
    REQUIRE(!error_of([&] { parse_safetensors(std::string_view(bytes).substr(0, size), "f"); }).empty());
}

TEST_CASE("[safetensors] records that don't fit are not written") {
  TemporaryFolder folder;
  const auto error = [&](std::vector<ArrayRecord> arrays) {
    return error_of([&] { write_safetensors(folder / "f", {std::move(arrays), {}}); });
  };
  CHECK(error({{"a", DType::F32, {2}, counting(4)}}) == "safetensors: a: f32[2] does not take 4 bytes");
  CHECK(error({{"a", DType::U8, {1}, counting(1)}, {"a", DType::U8, {1}, counting(1)}}) ==
        "safetensors: name a stands twice");
  CHECK(error({{"__metadata__", DType::U8, {1}, counting(1)}}) ==
        "safetensors: an array cannot be named __metadata__");
  CHECK(error({{"\xff", DType::U8, {1}, counting(1)}}) == "safetensors: a name or metadata is not UTF-8");
  CHECK(folder.entries() == 0);
}

TEST_CASE("[npy] what is written is read") {
  TemporaryFolder folder;
  for (int code = 1; code <= static_cast<int>(DType::F64); ++code) {
    const DTypeRow& type = row(static_cast<DType>(code));
    const auto bytes = counting(6 * static_cast<size_t>(item_size(type.dtype)));
    const std::vector<int64_t> shape = {2, 3};
    if (type.numpy.empty()) {
      CHECK_THAT(error_of([&] { write_npy(folder / "f", type.dtype, shape, bytes); }),
                 Contains("NumPy has no type for"));
      continue;
    }
    write_npy(folder / "f", type.dtype, shape, bytes);
    const NpyArray read = read_npy(folder / "f");
    CHECK(read.dtype == type.dtype);
    CHECK(read.shape == shape);
    CHECK(read.bytes == bytes);
    CHECK(read_file(folder / "f").size() == 128 + bytes.size());
  }
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {1}, {1, 1, 1}})
    CHECK(parse_npy(format_npy(DType::F32, shape, counting(4)), "x").shape == shape);
  CHECK(parse_npy(format_npy(DType::F32, std::vector<int64_t>{0, 7}, {}), "x").bytes.empty());
  CHECK(error_of([&] { format_npy(DType::F32, std::vector<int64_t>{2}, counting(4)); }) ==
        "npy: f32[2] does not take 4 bytes");
}

TEST_CASE("[npy] the bytes NumPy writes") {
  // np.save of np.array([1.5], "<f4"), NumPy 2.4.
  std::string head = npy("", "");
  head[8] = 118;
  std::string text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
  text.resize(117, ' ');
  const std::string expected = head + text + "\n" + std::string("\0\0\xc0\x3f", 4);
  const float value = 1.5f;
  CHECK(format_npy(DType::F32, std::vector<int64_t>{1}, std::as_bytes(std::span(&value, 1))) == expected);
}

TEST_CASE("[npy] byte order, Fortran order and versions") {
  CHECK(text_of(parse_npy(npy("{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }", "abcd"), "x")) ==
        "badc");
  CHECK(text_of(parse_npy(npy("{'descr': '>u1', 'fortran_order': False, 'shape': (2,)}", "ab", 2), "x")) ==
        "ab");
  CHECK(text_of(parse_npy(npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", "adbecf", 3),
                          "x")) == "abcdef");
  CHECK(text_of(parse_npy(npy("{\"shape\":(2,1,2,),'fortran_order':True,'descr':'|i1'}\n", "acbd"), "x")) ==
        "abcd");
  CHECK(text_of(parse_npy(npy("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2)}", "badcfehg"),
                          "x")) == "abefcdgh");
}

TEST_CASE("[npy] bad files are refused, and why") {
  struct Row {
    std::string bytes;
    const char* part;
  };
  const auto with = [](const char* dictionary, const char* data = "abcd") { return npy(dictionary, data); };
  const Row rows[] = {
      {"", "not an npy file"},
      {"PK\3\4............", "not an npy file: the first 6 bytes are not"},
      {"\x93NUMPY\1", "npy: truncated: 7 bytes"},
      {npy("{}", "", 9), "version 9.0, expected 1.0, 2.0 or 3.0"},
      {npy("{}", "").substr(0, 11), "truncated: header of 2 bytes at offset 10, the file has 11"},
      {with("{}"), "one of descr, fortran_order, shape is missing"},
      {with("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"),
       "f32[2] does not take the 4 bytes from offset 67"},
      {with("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "abc"),
       "f32[] does not take the 3 bytes"},
      {with("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"),
       "does not take the 4 bytes"},
      {with("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"),
       "a size from 0 to 2^63 - 1 expected"},
      {with("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "at offset 61: a size from 0"},
      {with("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }"), "element type '<c8' is not one of"},
      {with("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "element type '|O' is not one of"},
      {with("{'descr': '|f4', 'fortran_order': False, 'shape': (1,), }"),
       "element type '|f4' has no byte order"},
      {with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }"),
       "a structured type is not read"},
      {with("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }"), "True or False expected"},
      {with("{'descr': '<f4', 'descr': '<f4', 'shape': (1,), }"), "key 'descr' stands twice"},
      {with("{'descr': '<f4', 'order': False, 'shape': (1,), }"), "unknown key 'order'"},
      {with("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x"), "text after the dictionary"},
      {with("{'descr': '<f4"), "a string expected"},
  };
  for (const Row& row : rows) {
    const std::string text = error_of([&] { parse_npy(row.bytes, "f"); });
    INFO(row.part);
    CHECK_THAT(text, Catch::Matchers::StartsWith("f: ") && Contains(row.part));
  }
}
