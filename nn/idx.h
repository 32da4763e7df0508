// IDX, the file format of MNIST: big-endian header (type, rank, sizes), then the elements; often gzipped.
// Format: http://yann.lecun.com/exdb/mnist, "FILE FORMATS".
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kontor::inline v0 {

/// An array of bytes as an IDX file holds it, row-major.
struct IdxArray {
  std::vector<int64_t> shape;
  std::vector<uint8_t> data;
};

/// An IDX file whose header was read, and none of its elements: sizes are compared before a packed file grows to a thousand
/// times its length. Throws as read_idx.
class IdxFile {
 public:
  IdxFile(const std::string& path, int rank);
  ~IdxFile();

  const std::vector<int64_t>& shape() const;
  /// The elements, row-major. To be called once.
  std::vector<uint8_t> read();

 private:
  struct Opened;
  std::unique_ptr<Opened> opened_;
};

/// Reads an IDX file of unsigned bytes with `rank` dimensions; gzip is recognised by content, not by name.
/// Throws Error with file, offset and values when it is of another kind, truncated, corrupt or has bytes left
/// over.
IdxArray read_idx(const std::string& path, int rank);

}  // namespace kontor::inline v0
