// IDX, the file format of MNIST: big-endian header (type, rank, sizes), then the elements; often gzipped.
// Format: http://yann.lecun.com/exdb/mnist, "FILE FORMATS".
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace kontor::inline v0 {

/// An array of bytes as an IDX file holds it, row-major.
struct IdxArray {
  std::vector<int64_t> shape;
  std::vector<uint8_t> data;
};

/// Reads an IDX file of unsigned bytes with `rank` dimensions; gzip is recognised by content, not by name.
/// Throws Error with file, offset and values when it is of another kind, truncated, corrupt or has bytes left
/// over.
IdxArray read_idx(const std::string& path, int rank);

}  // namespace kontor::inline v0
