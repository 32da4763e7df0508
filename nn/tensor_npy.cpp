// load_npy and save_npy: Tensors as NumPy's files.
#include <kontor/tensor.h>

#include <vector>

#include "nn/npy.h"

namespace kontor::inline v0 {

Tensor load_npy(const std::string& path) {
  const NpyArray array = read_npy(path);
  const Shape shape(array.shape.begin(), array.shape.end());
  return Tensor::from_memory(array.bytes.data(), array.dtype, shape);
}

void save_npy(const std::string& path, const Tensor& tensor) {
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.elements() * item_size(tensor.dtype())));
  tensor.read(bytes.data(), bytes.size());
  write_npy(path, tensor.dtype(), tensor.shape(), bytes);
}

}  // namespace kontor::inline v0
