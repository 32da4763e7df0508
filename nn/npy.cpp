// .npy reader and writer.
#include "nn/npy.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "graph/shape.h"
#include "nn/array_types.h"

static_assert(std::endian::native == std::endian::little, "array files are little-endian");

namespace kontor::inline v0 {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

struct Header {
  std::string descr;
  bool fortran = false;
  std::vector<int64_t> shape;
};

/// Reads the dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }: a literal of Python, so
/// no JSON.
class DictionaryReader {
 public:
  DictionaryReader(std::string_view text, std::string_view source, size_t offset)
      : text_(text), source_(source), offset_(offset) {}

  Header read() {
    Header header;
    int seen = 0;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      seen |= value(key, header, seen);
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (!text_.empty()) bad("text after the dictionary");
    if (seen != 7) bad("one of descr, fortran_order, shape is missing");
    return header;
  }

 private:
  int value(const std::string& key, Header& header, int seen) {
    const int bit = key == "descr" ? 1 : key == "fortran_order" ? 2 : key == "shape" ? 4 : 0;
    if (bit == 0) bad(fmt::format("unknown key '{}'", key));
    if (seen & bit) bad(fmt::format("key '{}' stands twice", key));
    if (bit == 1) header.descr = descr();
    if (bit == 2) header.fortran = boolean();
    if (bit == 4) header.shape = tuple();
    return bit;
  }

  std::string descr() {
    skip();
    if (text_.starts_with('[')) bad("a structured type is not read");
    return string();
  }

  bool boolean() {
    skip();
    for (std::string_view word : {std::string_view("True"), std::string_view("False")})
      if (text_.starts_with(word)) return take(word.size()), word == "True";
    bad("True or False expected");
  }

  std::vector<int64_t> tuple() {
    std::vector<int64_t> shape;
    expect('(');
    while (!accept(')')) {
      if (shape.size() == most_axes) bad(fmt::format("more than {} dimensions", most_axes));
      shape.push_back(number());
      if (accept(',')) continue;
      expect(')');
      break;
    }
    return shape;
  }

  int64_t number() {
    skip();
    int64_t result = 0;
    const auto [end, code] = std::from_chars(text_.data(), text_.data() + text_.size(), result);
    if (code != std::errc() || result < 0) bad("a size from 0 to 2^63 - 1 expected");
    take(static_cast<size_t>(end - text_.data()));
    return result;
  }

  std::string string() {
    skip();
    const char quote = text_.empty() ? '\0' : text_[0];
    const size_t end = quote == '\'' || quote == '"' ? text_.find(quote, 1) : std::string_view::npos;
    if (end == std::string_view::npos) bad("a string expected");
    std::string result(text_.substr(1, end - 1));
    take(end + 1);
    return result;
  }

  void take(size_t count) {
    text_.remove_prefix(count);
    offset_ += count;
  }
  void skip() { take(std::min(text_.find_first_not_of(" \t\n"), text_.size())); }
  bool accept(char c) {
    skip();
    if (!text_.starts_with(c)) return false;
    take(1);
    return true;
  }
  void expect(char c) {
    if (!accept(c)) bad(fmt::format("'{}' expected", c));
  }
  [[noreturn]] void bad(std::string_view what) {
    fail("{}: npy: bad header at offset {}: {}", source_, offset_, what);
  }

  std::string_view text_, source_;
  size_t offset_;
};

/// The dictionary's text and, in `begin`, where it begins.
std::string_view header_text(std::string_view bytes, std::string_view source, size_t& begin) {
  if (!bytes.starts_with(kMagic)) fail("{}: not an npy file: the first 6 bytes are not \\x93NUMPY", source);
  if (bytes.size() < 10) fail("{}: npy: truncated: {} bytes", source, bytes.size());
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])); };
  const uint32_t major = byte(6), minor = byte(7);
  if (major < 1 || major > 3 || minor != 0)
    fail("{}: npy: version {}.{}, expected 1.0, 2.0 or 3.0", source, major, minor);
  begin = major == 1 ? 10 : 12;
  if (bytes.size() < begin) fail("{}: npy: truncated: {} bytes", source, bytes.size());
  const uint32_t size = byte(8) | byte(9) << 8 | (major == 1 ? 0 : byte(10) << 16 | byte(11) << 24);
  if (size > bytes.size() - begin)
    fail("{}: npy: truncated: header of {} bytes at offset {}, the file has {}", source, size, begin,
         bytes.size());
  return bytes.substr(begin, size);
}

/// '<f4' -> the type, and whether the bytes must be turned round.
DType element_type(const std::string& descr, std::string_view source, bool& swapped) {
  size_t bytes = 0;
  const char* end = descr.data() + descr.size();
  const bool numeric = descr.size() >= 3 && std::from_chars(descr.data() + 2, end, bytes).ptr == end;
  const auto dtype = numeric ? dtype_of_numpy(descr[1], bytes) : std::nullopt;
  if (!dtype || std::string_view("<>|=").find(descr[0]) == std::string_view::npos)
    fail("{}: npy: element type '{}' is not one of b1 u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8", source, descr);
  if (descr[0] == '|' && bytes > 1) fail("{}: npy: element type '{}' has no byte order", source, descr);
  swapped = descr[0] == '>' && bytes > 1;
  return *dtype;
}

void swap_bytes(std::vector<std::byte>& bytes, size_t size) {
  for (size_t at = 0; at < bytes.size(); at += size)
    std::reverse(bytes.begin() + static_cast<ptrdiff_t>(at),
                 bytes.begin() + static_cast<ptrdiff_t>(at + size));
}

/// Column-major to row-major: walks the result in order and keeps the source's index of each element.
std::vector<std::byte> row_major(const std::vector<std::byte>& in, std::span<const int64_t> shape,
                                 size_t size) {
  std::vector<std::byte> out(in.size());
  std::vector<int64_t> index(shape.size(), 0), stride(shape.size(), 1);
  for (size_t axis = 1; axis < shape.size(); ++axis) stride[axis] = stride[axis - 1] * shape[axis - 1];
  int64_t from = 0;
  for (size_t at = 0; at < out.size(); at += size) {
    std::memcpy(&out[at], &in[static_cast<size_t>(from) * size], size);
    for (size_t axis = shape.size(); axis-- > 0;) {
      from += stride[axis];
      if (++index[axis] < shape[axis]) break;
      from -= stride[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

std::string npy_head(DType dtype, std::span<const int64_t> shape, std::span<const std::byte> bytes) {
  const DTypeRow& type = row(dtype);
  if (type.numpy.empty()) fail("npy: NumPy has no type for {}; cast it first", type.name);
  const std::optional<uint64_t> needed = byte_count(dtype, shape);
  if (!needed || *needed != bytes.size())
    fail("npy: {}[{}] does not take {} bytes", type.name, fmt::join(shape, ", "), bytes.size());
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", type.numpy,
                                 fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  // Magic, version and size take 10 bytes; the elements begin at a multiple of 64, after a line's end.
  text.resize((10 + text.size() + 1 + 63) / 64 * 64 - 10, ' ');
  text.back() = '\n';
  if (text.size() > 0xFFFF) fail("npy: a header of {} bytes for {} dimensions", text.size(), shape.size());
  std::string head(kMagic);
  for (size_t value : {size_t{1}, size_t{0}, text.size() & 0xFF, text.size() >> 8})
    head += static_cast<char>(value);
  return head + text;
}

std::string_view view(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

NpyArray parse_npy(std::string_view bytes, std::string_view source) {
  size_t begin = 0;
  const std::string_view text = header_text(bytes, source, begin);
  Header header = DictionaryReader(text, source, begin).read();
  bool swapped = false;
  const DType dtype = element_type(header.descr, source, swapped);
  const std::string_view data = bytes.substr(begin + text.size());
  const std::optional<uint64_t> needed = byte_count(dtype, header.shape);
  if (!needed || *needed != data.size())
    fail("{}: npy: {}[{}] does not take the {} bytes from offset {}", source, name(dtype),
         fmt::join(header.shape, ", "), data.size(), begin + text.size());
  const auto size = static_cast<size_t>(item_size(dtype));
  require_memory(data.size(), source);
  NpyArray array{dtype, std::move(header.shape), {}};
  const auto* first = reinterpret_cast<const std::byte*>(data.data());
  array.bytes.assign(first, first + data.size());
  if (swapped) swap_bytes(array.bytes, size);
  if (header.fortran && array.shape.size() > 1) array.bytes = row_major(array.bytes, array.shape, size);
  return array;
}

std::string format_npy(DType dtype, std::span<const int64_t> shape, std::span<const std::byte> bytes) {
  return npy_head(dtype, shape, bytes) + std::string(view(bytes));
}

NpyArray read_npy(const std::string& path) { return parse_npy(MappedFile(path).text(), path); }

void write_npy(const std::string& path, DType dtype, std::span<const int64_t> shape,
               std::span<const std::byte> bytes) {
  const std::string head = npy_head(dtype, shape, bytes);
  const std::string_view parts[] = {head, view(bytes)};
  write_file(path, parts);
}

}  // namespace kontor::inline v0
