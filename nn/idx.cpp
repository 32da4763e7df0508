// IDX reader. Nothing is allocated on the word of a header before the file's size has shown that it can be
// true.
#include "nn/idx.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

namespace kontor::inline v0 {
namespace {

constexpr uint64_t kDeflateRatio = 1032;  // no deflate stream grows by more (RFC 1951: 258 bytes from 2 bits)

/// Where IDX bytes come from: a file as it is, or unpacked piece by piece.
class Source {
 public:
  explicit Source(const std::string& path) : path_(path), file_(path), packed_(file_.text()) {
    gzip_ = packed_.substr(0, 2) == "\x1f\x8b";
    if (!gzip_) return;
    // 15 + 16: the largest window, and a gzip header with its checksum.
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) broken("{}: zlib cannot be initialised", path_);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed_.data()));
  }
  ~Source() {
    if (gzip_) inflateEnd(&stream_);
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  uint64_t offset() const { return offset_; }
  /// More bytes than this cannot follow.
  uint64_t limit() const {
    return gzip_ ? (uint64_t{packed_.size()} + 1) * kDeflateRatio : uint64_t{packed_.size()} - offset_;
  }
  uint64_t file_size() const { return packed_.size(); }
  bool gzip() const { return gzip_; }

  /// Up to `count` bytes; fewer only at the end.
  size_t read(uint8_t* out, size_t count) {
    const size_t got = gzip_ ? unpack(out, count) : copy(out, count);
    offset_ += got;
    return got;
  }

 private:
  size_t copy(uint8_t* out, size_t count) {
    const size_t got = std::min<size_t>(count, packed_.size() - offset_);
    if (got) std::memcpy(out, packed_.data() + offset_, got);
    return got;
  }

  size_t unpack(uint8_t* out, size_t count) {
    constexpr size_t kStep = size_t{1} << 30;  // zlib counts in unsigned int
    size_t got = 0;
    while (got < count && !ended_) {
      const size_t at = consumed();
      stream_.avail_in = static_cast<uInt>(std::min(kStep, packed_.size() - at));
      stream_.next_out = out + got;
      stream_.avail_out = static_cast<uInt>(std::min(kStep, count - got));
      const uInt wanted = stream_.avail_out;
      const int code = inflate(&stream_, Z_NO_FLUSH);
      got += wanted - stream_.avail_out;
      if (code == Z_STREAM_END) end_member();
      else if (code == Z_BUF_ERROR || (code == Z_OK && consumed() == packed_.size() && stream_.avail_out > 0))
        torn(got);
      else if (code != Z_OK) bad(code);
    }
    return got;
  }

  /// A gzip file may hold several members, one after another; anything else behind one is not ours.
  void end_member() {
    const size_t at = consumed();
    ended_ = at == packed_.size();
    if (ended_) return;
    if (packed_.substr(at, 2) != "\x1f\x8b")
      fail("{}: gzip: {} bytes at offset {} are not part of the stream", path_, packed_.size() - at, at);
    inflateReset(&stream_);
  }

  size_t consumed() const {
    return static_cast<size_t>(reinterpret_cast<const char*>(stream_.next_in) - packed_.data());
  }

  [[noreturn]] void torn(size_t got) {
    fail("{}: gzip: truncated: the file ends at offset {}, after {} unpacked bytes", path_, packed_.size(),
         offset_ + got);
  }
  [[noreturn]] void bad(int code) {
    fail("{}: gzip: corrupt near offset {}: {}", path_, consumed(), stream_.msg ? stream_.msg : zError(code));
  }

  const std::string& path_;
  MappedFile file_;
  std::string_view packed_;
  z_stream stream_{};
  uint64_t offset_ = 0;
  bool gzip_ = false, ended_ = false;
};

std::string_view type_name(uint8_t code) {
  switch (code) {
    case 0x08: return "u8";
    case 0x09: return "i8";
    case 0x0B: return "i16";
    case 0x0C: return "i32";
    case 0x0D: return "f32";
    case 0x0E: return "f64";
    default:   return "unknown";
  }
}

void check_magic(const std::string& path, const uint8_t (&magic)[4], int rank) {
  if (magic[0] != 0 || magic[1] != 0)
    fail("{}: not an IDX file: bytes {:02x} {:02x} {:02x} {:02x} at offset 0, expected 00 00 08 {:02x}", path,
         magic[0], magic[1], magic[2], magic[3], rank);
  if (magic[2] != 0x08)
    fail("{}: IDX: element type {:#04x} ({}) at offset 2, expected 0x08 (u8)", path, magic[2],
         type_name(magic[2]));
  if (magic[3] != rank) fail("{}: IDX: {} dimensions at offset 3, expected {}", path, magic[3], rank);
}

/// The number of elements of the sizes in the header; Error if the file cannot hold that many.
uint64_t element_count(const std::string& path, const Source& source, const std::vector<int64_t>& shape) {
  uint64_t count = 1;
  bool possible = true;
  for (int64_t size : shape)
    possible = !__builtin_mul_overflow(count, static_cast<uint64_t>(size), &count) && possible;
  if (possible && count <= source.limit()) return count;
  fail("{}: IDX: header at offset 4 says {} bytes, but the file has {} bytes{}", path,
       fmt::join(shape, " x "), source.file_size(), source.gzip() ? " of gzip" : "");
}

}  // namespace

struct IdxFile::Opened {
  Opened(const std::string& where, int rank) : path(where), source(path) {
    uint8_t magic[4];
    if (const size_t got = source.read(magic, 4); got < 4)
      fail("{}: IDX: truncated: {} bytes, the header needs {}", path, got, 4 + 4 * rank);
    check_magic(path, magic, rank);
    for (int axis = 0; axis < rank; ++axis) {
      uint8_t b[4];
      if (source.read(b, 4) < 4)
        fail("{}: IDX: truncated: {} bytes, the header needs {}", path, source.offset(), 4 + 4 * rank);
      shape.push_back(int64_t{b[0]} << 24 | b[1] << 16 | b[2] << 8 | b[3]);
    }
    count = element_count(path, source, shape);
  }

  const std::string path;  // the source refers to it
  Source source;
  std::vector<int64_t> shape;
  uint64_t count = 0;
};

IdxFile::IdxFile(const std::string& path, int rank) : opened_(std::make_unique<Opened>(path, rank)) {}
IdxFile::~IdxFile() = default;

const std::vector<int64_t>& IdxFile::shape() const { return opened_->shape; }

std::vector<uint8_t> IdxFile::read() {
  auto& [path, source, shape, count] = *opened_;
  require_memory(count, fmt::format("{}: IDX: {} elements", path, fmt::join(shape, " x ")));
  std::vector<uint8_t> data(count);
  const uint64_t begin = source.offset();
  if (const size_t got = source.read(data.data(), count); got < count)
    fail("{}: IDX: truncated: {} needs {} bytes from offset {}, only {} are there", path,
         fmt::join(shape, " x "), count, begin, got);
  uint8_t extra;
  if (source.read(&extra, 1) != 0)
    fail("{}: IDX: bytes follow offset {}, where {} elements end", path, begin + count,
         fmt::join(shape, " x "));
  return data;
}

IdxArray read_idx(const std::string& path, int rank) {
  IdxFile file(path, rank);
  std::vector<uint8_t> data = file.read();
  return {file.shape(), std::move(data)};
}

}  // namespace kontor::inline v0
